package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/spf13/cobra"

	"github.com/lastseat/lastseat/internal/cli"
	"github.com/lastseat/lastseat/internal/jsonsafe"
	"github.com/lastseat/lastseat/jobs"
	"github.com/lastseat/lastseat/outbox"
	"github.com/lastseat/lastseat/txn"
)

const (
	// previewTries is how often a dry run looks whether a row that it needs is free, and previewPause the pause between.
	previewTries = 20
	previewPause = 100 * time.Millisecond
	// mostAhead is how many requests are counted that come first.
	mostAhead = 10_000
)

// preview is what a dry run says.
type preview struct {
	Key       string          `json:"key"`
	Kind      string          `json:"kind"`
	Status    outbox.Status   `json:"status"`
	Code      *string         `json:"code"`
	Detail    json.RawMessage `json:"detail"`
	Duplicate bool            `json:"duplicate"`
	Ahead     int             `json:"ahead"`           // requests that are due, and would be settled first
	Calls     bool            `json:"calls,omitempty"` // a processor would be asked: what it says is not known
	DryRun    bool            `json:"dry_run"`
}

func (v preview) String() string {
	text := fmt.Sprintf("%s  %s  would be %s", cli.Word(v.Key), v.Kind, v.Status)
	switch {
	case v.Duplicate:
		text = fmt.Sprintf("%s  %s  %s", cli.Word(v.Key), v.Kind, v.Status)
	case v.Calls:
		text = fmt.Sprintf("%s  %s  would ask its processor", cli.Word(v.Key), v.Kind)
	case v.Status == outbox.Pending:
		text = fmt.Sprintf("%s  %s  would wait: another session has a row locked that it needs", cli.Word(v.Key), v.Kind)
	}
	if v.Code != nil {
		text += "  " + *v.Code
	}
	if v.Detail != nil {
		text += "  " + string(v.Detail)
	}
	if v.Duplicate {
		text += "  (duplicate)"
	}
	if v.Ahead > 0 {
		text += fmt.Sprintf("  (%s requests wait before it)", cli.Thousands(v.Ahead))
	}
	return text + "  (dry run: nothing is written)"
}

// errDry rolls a dry run back.
var errDry = errors.New("dry run")

// dryRun asks for the request and settles it in one transaction, says what came of it, and takes all of it back.
func (p *program) dryRun(cmd *cobra.Command, asking asking, argsOf argsOf) error {
	ctx := cmd.Context()
	pool, err := p.connect(ctx, describing)
	if err != nil {
		return err
	}
	defer closePool(pool)
	var seen preview
	for range previewTries {
		err = txn.Run(ctx, pool, txn.Options{}, func(ctx context.Context, tx pgx.Tx) error {
			args, err := argsOf(tx)
			if err != nil {
				return err
			}
			if seen, err = dry(ctx, tx, asking.key, args); err != nil {
				return inFlags(cmd, err)
			}
			return errDry
		})
		if !errors.Is(err, errDry) {
			return dryRight(err)
		}
		if seen.Status != outbox.Pending || seen.Duplicate || seen.Calls {
			break
		}
		time.Sleep(previewPause)
	}
	if err := p.output.Print(p.streams.Out, seen, seen.String()); err != nil {
		return err
	}
	if seen.Status == outbox.Rejected || seen.Status == outbox.Failed {
		return &cli.Error{Code: cli.ExitRefused}
	}
	return nil
}

// describing has statements described by the server: a settler's parameters have types that only the server knows. None
// is prepared by name, so it works behind a pooler in transaction mode as well.
func describing(config *pgxpool.Config) {
	if config.ConnConfig.DefaultQueryExecMode == pgx.QueryExecModeCacheStatement {
		config.ConnConfig.DefaultQueryExecMode = pgx.QueryExecModeDescribeExec
	}
}

// dryRight says which right a dry run takes.
func dryRight(err error) error {
	if cli.ExitCode(err) != cli.ExitNoRight {
		return err
	}
	return &cli.Error{Code: cli.ExitNoRight, Err: errors.New("a dry run settles the request and takes all of it back, " +
		"which this role may not: connect as lastseat_worker")}
}

const (
	askedSQL = `
	SELECT j.id, j.args, j.max_attempts, j.scheduled_at
	FROM lastseat.requests r JOIN lastseat.river_job j ON j.id = r.job_id WHERE r.key = $1`
	aheadSQL = `
	SELECT count(*) FROM (
		SELECT FROM lastseat.river_job j
		WHERE j.state = 'available' AND j.queue = 'lastseat' AND j.scheduled_at <= now() AND j.id <> $1 LIMIT $2) ahead`
)

// dry asks for the request and settles it in tx.
func dry(ctx context.Context, tx pgx.Tx, key string, args outbox.Args) (preview, error) {
	receipt, err := outbox.Enqueue(ctx, tx, key, args)
	if err != nil {
		return preview{}, err
	}
	if receipt.Duplicate {
		outcomes, err := outbox.Outcomes(ctx, tx, key)
		if err != nil {
			return preview{}, err
		}
		o := outcomes[0]
		seen := preview{Key: key, Kind: o.Kind, Status: o.Status, Detail: o.Detail, Duplicate: true, DryRun: true}
		if o.Code != "" {
			seen.Code = &o.Code
		}
		return seen, nil
	}
	job := outbox.Job{Kind: receipt.Kind, Key: key, Attempt: 1}
	err = tx.QueryRow(ctx, askedSQL, key).Scan(&job.ID, (*[]byte)(&job.Args), &job.MaxAttempts, &job.At)
	if err != nil {
		return preview{}, fmt.Errorf("read the request: %w", err)
	}
	seen := preview{Key: key, Kind: receipt.Kind, Status: outbox.Pending, DryRun: true}
	if err := tx.QueryRow(ctx, aheadSQL, job.ID, mostAhead).Scan(&seen.Ahead); err != nil {
		return preview{}, fmt.Errorf("count what waits: %w", err)
	}
	result, err := jobs.Preview(ctx, tx, job)
	if seen.Calls = result.IsCalling(); err != nil || result.IsWaiting() || seen.Calls {
		return seen, err
	}
	seen.Status, seen.Code = result.Status, &result.Code
	if result.Detail != nil {
		seen.Detail, err = jsonsafe.Marshal(result.Detail)
	}
	return seen, err
}
