package main

import (
	"context"
	"errors"
	"fmt"

	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/spf13/cobra"

	"github.com/lastseat/lastseat/outbox"
	"github.com/lastseat/lastseat/schema"
)

func (p *program) runCommand() *cobra.Command {
	var drain bool
	cmd := &cobra.Command{
		Use:   "run [--drain]",
		Short: "Settle requests as they come",
		Long: `Settle requests as they come, until SIGTERM or SIGINT. The worker finishes its current batch before it stops.

You may run any number of workers. One of them holds the lane, and another takes over when it stops. A running worker
reconnects when the database has been away. It relays to LASTSEAT_RELAY, and takes in a card processor's webhooks at
LASTSEAT_WEBHOOK_ADDR, if these are set.`,
		Example: "  DATABASE_URL=postgres://lastseat_worker@localhost/shop worker run",
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			err := p.settle(cmd.Context(), drain)
			if !drain && cmd.Context().Err() != nil && errors.Is(err, context.Canceled) {
				// It was told to stop before it had begun: that is no failure.
				return p.printStats(cmd.Context(), nil, outbox.Snapshot{}, drain)
			}
			return err
		},
	}
	cmd.Flags().BoolVar(&drain, "drain", false, "settle all requests that are due, then exit")
	return cmd
}

// settle is worker run. It returns when the worker has stopped.
func (p *program) settle(ctx context.Context, drain bool) error {
	loaded, pool, err := p.openOwn(ctx)
	if err != nil {
		return err
	}
	defer pool.Close()
	if err := schema.Check(ctx, pool); err != nil {
		return err
	}
	if err := checkRights(ctx, pool); err != nil {
		return err
	}
	auditor, err := p.audited(ctx, pool, loaded, !drain)
	if err != nil {
		return err
	}
	tracer, flush, err := p.tracer(ctx, loaded)
	if err != nil {
		return err
	}
	defer flush()
	worker, metrics, stop, err := p.watchedWorker(ctx, pool, loaded, auditor, tracer)
	if err != nil {
		return err
	}
	defer stop()
	work := worker.Run
	if drain {
		work = worker.Drain
	}
	if auditor != nil {
		settle := work
		work = func(ctx context.Context) error { return auditor.beside(ctx, settle) }
	}
	err = p.withRetention(ctx, loaded, !drain, func(ctx context.Context) error {
		return p.withRelays(ctx, loaded, !drain, func(ctx context.Context) error {
			return p.withWebhooks(ctx, pool, loaded, metrics, !drain, work)
		})
	})
	if err != nil {
		return err
	}
	return p.printStats(ctx, pool, worker.Stats(), drain)
}

const waitingSQL = `
	SELECT count(*) FROM lastseat.river_job WHERE queue = $1
	  AND state IN ('available', 'retryable', 'scheduled', 'pending')`

// printStats prints what was done and, after a drain, how many jobs are left.
func (p *program) printStats(ctx context.Context, pool *pgxpool.Pool, s outbox.Snapshot, drained bool) error {
	text := fmt.Sprintf("%d applied, %d rejected, %d duplicates, %d failed attempts; %d batches, %d conflicts retried",
		s.Applied, s.Rejected, s.Duplicates, s.Failures, s.Batches, s.Conflicts)
	if !drained {
		return p.output.Print(p.streams.Out, s, text)
	}
	value := struct {
		outbox.Snapshot
		Waiting int `json:"waiting"`
	}{Snapshot: s}
	if err := pool.QueryRow(context.WithoutCancel(ctx), waitingSQL, outbox.Queue).Scan(&value.Waiting); err != nil {
		return err
	}
	if value.Waiting > 0 {
		text += fmt.Sprintf("; %d wait for a later time, another attempt, or a worker that has their kind", value.Waiting)
	}
	return p.output.Print(p.streams.Out, value, text)
}
