package outbox

import (
	"context"
	"fmt"

	"github.com/jackc/pgx/v5"

	"github.com/lastseat/lastseat/internal/history"
)

// chargeUnclaimable finds the job whose row fails the claim of n jobs, and charges it with a failed attempt. It does so
// in one transaction: the claim of so many jobs works, the claim of one more doesn't, and nothing comes in between.
func (l *lane) chargeUnclaimable(ctx context.Context, n int, cause error) error {
	tx, err := l.begin(ctx, l.strict)
	if err != nil {
		return err
	}
	defer func() { _ = tx.Rollback(context.WithoutCancel(ctx)) }()
	if err := l.tryClaim(ctx, tx, n); err == nil || l.lost() || !unreadable(err) {
		return err
	}
	works, fails := 0, n
	for fails-works > 1 {
		half := (works + fails) / 2
		err := l.tryClaim(ctx, tx, half)
		switch {
		case err == nil:
			works = half
		case l.lost() || !unreadable(err):
			return err
		default:
			fails, cause = half, err
		}
	}
	b := &batch{share: l.share, tx: tx, bell: &l.bell, write: &pgx.Batch{}, history: &history.Log{}, limit: 1, asked: 1}
	c, err := b.claimBlind(ctx, works)
	if err != nil || c == nil {
		return err
	}
	if !l.suspicion.accuses(c) {
		l.suspicion.accuse(c, cause)
	}
	b.jobs = []*claimed{c}
	b.charged = l.suspicion.culprit
	l.remember(b)
	if err := b.settle(ctx); err != nil {
		return &batchError{jobs: b.jobs, charged: b.charged, err: err}
	}
	l.settled(ctx, b)
	return nil
}

// tryClaim claims n jobs under a savepoint.
func (l *lane) tryClaim(ctx context.Context, tx pgx.Tx, n int) error {
	return pgx.BeginFunc(ctx, tx, func(savepoint pgx.Tx) error {
		b := &batch{share: l.share, tx: savepoint}
		return b.claim(ctx, n)
	})
}

// blindSQL claims one job after skipping the first of the lane, and reads nothing that a client has written.
const (
	blindSQL = `
	SELECT j.ctid::text, j.id, j.kind, j.attempt, j.max_attempts, coalesce(cardinality(j.errors), 0), now()
	FROM lastseat.river_job j
	WHERE j.state = 'available' AND j.queue = @queue AND j.scheduled_at <= now()`
	blindOrderSQL = `
	ORDER BY j.priority, j.scheduled_at, j.id
	OFFSET @skip LIMIT 1
	FOR UPDATE OF j SKIP LOCKED`

	keyOfSQL = `
	SELECT q.key FROM lastseat.requests q
	WHERE q.key = (SELECT j.args ->> 'key' FROM lastseat.river_job j WHERE j.ctid = $1::tid) AND q.job_id = $2`
)

// claimBlind locks the job after the first n of the lane. Its key is the request's, if its arguments can be read so
// far.
func (b *batch) claimBlind(ctx context.Context, n int) (*claimed, error) {
	args := b.args(1)
	args["skip"] = n
	rows, err := b.tx.Query(ctx, blindSQL+b.filterSQL()+blindOrderSQL, args)
	if err != nil {
		return nil, fmt.Errorf("claim a job without its arguments: %w", err)
	}
	found, err := pgx.CollectRows(rows, func(row pgx.CollectableRow) (*claimed, error) {
		c := &claimed{fate: charge}
		err := row.Scan(&c.row, &c.ID, &c.Kind, &c.Attempt, &c.MaxAttempts, &c.errorCount, &c.now)
		c.Attempt++
		return c, err
	})
	if err != nil || len(found) == 0 {
		return nil, err
	}
	c := found[0]
	err = pgx.BeginFunc(ctx, b.tx, func(savepoint pgx.Tx) error {
		return savepoint.QueryRow(ctx, keyOfSQL, c.row, c.ID).Scan(&c.Key)
	})
	if err != nil { // no request, or arguments that can't be read
		c.Key = fmt.Sprintf("river_job:%d", c.ID)
	}
	return c, nil
}
