package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/spf13/cobra"

	"github.com/lastseat/lastseat/internal/cli"
	"github.com/lastseat/lastseat/internal/importfile"
	"github.com/lastseat/lastseat/jobs"
	"github.com/lastseat/lastseat/outbox"
)

func (p *program) importCommand() *cobra.Command {
	var openAccounts bool
	var chunk int
	cmd := &cobra.Command{
		Use:   "import FILE|-",
		Short: "Ask for everything in a file",
		Long: `Ask for everything in a file, in its order.

The file is JSON Lines of any kind, {"kind","key","args"}, with amounts in minor units, or a CSV of transfers (key,
from_account,to_account,amount,currency,description), accounts (account,currency,overdraft) or resources
(resource,capacity,overbook; overbook may be left out), told apart by the header. A chunk is one transaction: a bad line is
named by its number and stops the import before anything of its chunk is written. Running it again is safe: what was asked
for before is a duplicate. A resource that is there gets the file's capacity.`,
		Example: "  enqueue import transfers.csv --open-accounts\n  enqueue import resources.csv && enqueue import requests.jsonl",
		Args:    cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			if chunk < 1 || chunk > 10_000 {
				return cli.Usage("--chunk is %d: 1 to 10000 lines", chunk)
			}
			file, size, err := p.open(args[0])
			if err != nil {
				return err
			}
			defer func() { _ = file.Close() }()
			pool, err := p.connect(cmd.Context())
			if err != nil {
				return err
			}
			defer pool.Close()
			progress := cli.NewProgress(p.streams.Err, size)
			imported := &importer{pool: pool, openAccounts: openAccounts, opened: make(map[string]bool)}
			err = imported.all(cmd.Context(), progress.Reader(file), chunk)
			progress.Finish()
			if err != nil && imported.counts.Lines > 0 {
				err = fmt.Errorf("%w (everything up to line %d is in; running the import again is safe)", err, imported.counts.Lines)
			}
			return errors.Join(err, p.output.Print(p.streams.Out, imported.counts, imported.counts.String()))
		},
	}
	cmd.Flags().BoolVar(&openAccounts, "open-accounts", false, "open the accounts of transfers, authorizations and bookings that are missing, with unlimited overdraft")
	cmd.Flags().IntVar(&chunk, "chunk", 1000, "lines in a transaction")
	return cmd
}

// open returns the file and its size in bytes, -1 where that is not known.
func (p *program) open(name string) (io.ReadCloser, int64, error) {
	if name == "-" {
		return io.NopCloser(p.streams.In), -1, nil
	}
	file, err := os.Open(name)
	if err != nil {
		return nil, 0, cli.BadData("%w", err)
	}
	info, err := file.Stat()
	if err != nil || info.IsDir() {
		_ = file.Close()
		return nil, 0, cli.BadData("%s is not a file", name)
	}
	return file, info.Size(), nil
}

// counts of an import; what an error took back is not in it.
type counts struct {
	Lines      int `json:"lines"` // the number of the last line that is in
	Requests   int `json:"requests"`
	Duplicates int `json:"duplicates"`
	Accounts   int `json:"accounts_opened"`
	Resources  int `json:"resources_defined"` // new ones, and those whose capacity has changed
}

func (c counts) String() string {
	return fmt.Sprintf("%d requests: %d new, %d duplicates; %d accounts opened, %d resources defined",
		c.Requests, c.Requests-c.Duplicates, c.Duplicates, c.Accounts, c.Resources)
}

type importer struct {
	pool         *pgxpool.Pool
	openAccounts bool
	opened       map[string]bool // accounts that are known to be open
	counts       counts
}

func (im *importer) all(ctx context.Context, file io.Reader, chunk int) error {
	reader, err := importfile.NewReader(file)
	if err != nil {
		return err
	}
	for {
		records := make([]importfile.Record, 0, chunk)
		for len(records) < chunk {
			record, err := reader.Next()
			if errors.Is(err, io.EOF) {
				return im.write(ctx, records)
			}
			if err != nil {
				return err
			}
			records = append(records, record)
		}
		if err := im.write(ctx, records); err != nil {
			return err
		}
	}
}

// write makes one transaction of the records, or nothing.
func (im *importer) write(ctx context.Context, records []importfile.Record) error {
	if len(records) == 0 {
		return nil
	}
	done := im.counts
	err := inTx(ctx, im.pool, func(tx pgx.Tx) error {
		var requests []outbox.Request
		var lines []int
		for _, record := range records {
			switch {
			case record.Resource != nil:
				if err := im.define(ctx, tx, jobs.Resource{ID: record.Resource.ID, Capacity: record.Resource.Capacity, Overbook: record.Resource.Overbook}, &done); err != nil {
					return atLine(record.Line, err)
				}
			case record.Account != nil:
				if err := im.openAccount(ctx, tx, jobs.Account{ID: record.Account.ID, Currency: record.Account.Currency, OverdraftLimit: record.Account.OverdraftLimit}, &done); err != nil {
					return atLine(record.Line, err)
				}
			default:
				if err := im.openMissing(ctx, tx, record.Request, &done); err != nil {
					return atLine(record.Line, err)
				}
				requests = append(requests, outbox.Request{Key: record.Request.Key, Args: outbox.RawArgs{Of: record.Request.Kind, JSON: record.Request.Args}})
				lines = append(lines, record.Line)
			}
		}
		receipts, err := outbox.EnqueueMany(ctx, tx, requests)
		if refused := (*outbox.RequestError)(nil); errors.As(err, &refused) {
			for i, earlier := range requests[:refused.Index] {
				if earlier.Key == refused.Key && errors.Is(err, outbox.ErrKeyReused) {
					return &importfile.Error{Line: lines[refused.Index], Msg: fmt.Sprintf("the key %q is that of line %d, which asks for something else", refused.Key, lines[i])}
				}
			}
			return atLine(lines[refused.Index], refused.Err)
		}
		for _, receipt := range receipts {
			done.Requests++
			if receipt.Duplicate {
				done.Duplicates++
			}
		}
		return err
	})
	if err == nil {
		done.Lines = records[len(records)-1].Line
		im.counts = done
	}
	return err
}

func atLine(line int, err error) error { return fmt.Errorf("line %d: %w", line, err) }

func (im *importer) openAccount(ctx context.Context, tx pgx.Tx, account jobs.Account, done *counts) error {
	receipt, err := jobs.OpenAccount(ctx, tx, account)
	if err == nil && !receipt.Duplicate {
		done.Accounts++
	}
	return err
}

func (im *importer) define(ctx context.Context, tx pgx.Tx, resource jobs.Resource, done *counts) error {
	receipt, err := jobs.DefineResource(ctx, tx, resource)
	if err == nil && !receipt.Duplicate {
		done.Resources++
	}
	return err
}

// openMissing opens the accounts of a request that names two and their currency, each once in an import.
func (im *importer) openMissing(ctx context.Context, tx pgx.Tx, request *importfile.Request, done *counts) error {
	namesAccounts := func(kind jobs.Kind) bool { return kind.Name == request.Kind && kind.Has("from", "to", "currency") }
	if !im.openAccounts || !slices.ContainsFunc(jobs.Kinds(), namesAccounts) {
		return nil
	}
	var args struct {
		From     string `json:"from"`
		To       string `json:"to"`
		Currency string `json:"currency"`
	}
	if err := json.Unmarshal(request.Args, &args); err != nil {
		return nil //nolint:nilerr // lastseat.enqueue says what is wrong with the arguments
	}
	for _, id := range []string{args.From, args.To} {
		if im.opened[id] {
			continue
		}
		if err := im.openAccount(ctx, tx, jobs.Account{ID: id, Currency: args.Currency, IfMissing: true}, done); err != nil {
			return err
		}
		im.opened[id] = true
	}
	return nil
}
