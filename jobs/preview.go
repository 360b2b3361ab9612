package jobs

import (
	"context"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/lastseat/lastseat/internal/history"
	"github.com/lastseat/lastseat/outbox"
)

// Preview tells what would become of a job of a built-in kind if it were settled now, before all that waits: it settles
// the job in tx, as a lane would, and writes all that the lane would write, so that every constraint has its say. The
// caller has to roll back. It takes the rights of lastseat_worker, and keeps the rows that the job needs locked until
// then: a lane passes them by.
//
// A result that is waiting ([outbox.Result].IsWaiting) says that another session has one of these rows locked.
func Preview(ctx context.Context, tx pgx.Tx, job outbox.Job) (outbox.Result, error) {
	if decoders[job.Kind] == nil {
		return outbox.Result{}, fmt.Errorf("%w: there is no kind %q", outbox.ErrInvalid, job.Kind)
	}
	var now time.Time
	if err := tx.QueryRow(ctx, `SELECT now()`).Scan(&now); err != nil {
		return outbox.Result{}, fmt.Errorf("ask for the time: %w", err)
	}
	if job.At.After(now) {
		job.At = now
	}
	batch := outbox.Batch{
		Jobs: []outbox.Job{job}, Now: now, Limit: 1, Lanes: 1, Write: &pgx.Batch{}, History: &history.Log{},
	}
	results, err := settler{&cursors{at: make(map[string]cursor)}}.Settle(ctx, tx, batch)
	if err != nil {
		return outbox.Result{}, err
	}
	if batch.Write.Len() > 0 {
		if err := tx.SendBatch(ctx, batch.Write).Close(); err != nil {
			return outbox.Result{}, fmt.Errorf("write: %w", err)
		}
	}
	return results[0], nil
}
