package main

import (
	"context"
	"log/slog"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/lastseat/lastseat/jobs"
	"github.com/lastseat/lastseat/outbox"
)

// laneWorker is ours, as cmd/worker runs it.
func laneWorker(isolation pgx.TxIsoLevel, batch int) func(context.Context, *pgxpool.Pool, int) (tally, error) {
	return func(ctx context.Context, pool *pgxpool.Pool, _ int) (tally, error) {
		kinds := &outbox.Kinds{}
		jobs.Register(kinds)
		worker := outbox.NewWorker(pool, kinds, outbox.Settings{
			Isolation: isolation, Batch: batch, Logger: slog.New(slog.DiscardHandler),
		})
		began := time.Now()
		err := worker.Drain(ctx)
		return tally{elapsed: time.Since(began), retries: worker.Stats().Conflicts}, err
	}
}
