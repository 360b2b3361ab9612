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
	tx, err := l.begin(ctx, l.strict, nil)
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
	b := &batch{
		share: l.share, bound: &l.bound, tx: tx, bell: &l.bell, write: &pgx.Batch{}, history: &history.Log{},
		limit: 1, asked: 1,
	}
	row, err := b.unsortable(ctx, n)
	if err != nil {
		return err
	}
	c, err := b.claimBlind(ctx, works, row)
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
		b := &batch{share: l.share, bound: &l.bound, tx: savepoint}
		return b.claim(ctx, n)
	})
}

// blindSQL claims one job, and reads nothing that a client has written: one after skipping the first of the lane, or
// the one at a place.
const (
	blindRowSQL = `
	SELECT j.ctid::text, j.id, j.kind, j.attempt, j.max_attempts, now()
	FROM lastseat.river_job j
	WHERE j.state = 'available' AND j.queue = @queue AND j.scheduled_at <= now() AND j.ctid = @row::text::tid
	FOR UPDATE OF j SKIP LOCKED`

	blindSQL = `
	SELECT j.row::text, j.id, j.kind, j.attempt, j.max_attempts, now()
	FROM ` + rangesSQL + `, LATERAL (
		SELECT j.ctid AS row, j.* FROM lastseat.river_job j WHERE ` + waitingSQL
	blindOrderSQL = `
		ORDER BY j.scheduled_at, j.id LIMIT @limit FOR UPDATE SKIP LOCKED) j
	OFFSET @skip LIMIT 1`

	keyOfSQL = `
	SELECT q.key FROM lastseat.requests q
	WHERE q.key = (SELECT j.args ->> 'key' FROM lastseat.river_job j WHERE j.ctid = $1::tid) AND q.job_id = $2`
)

// claimBlind locks the job at a place or, if that is empty, after the first n of the lane. Its key is the request's, if
// its arguments can be read so far.
func (b *batch) claimBlind(ctx context.Context, n int, row string) (*claimed, error) {
	args, sql := b.bound.args(b.args(n+1)), blindRowSQL
	args["row"], args["skip"] = row, n
	if row == "" {
		sql = blindSQL + b.filterSQL() + blindOrderSQL
	}
	rows, err := b.tx.Query(ctx, sql, args)
	if err != nil {
		return nil, fmt.Errorf("claim a job without its arguments: %w", err)
	}
	found, err := pgx.CollectRows(rows, func(row pgx.CollectableRow) (*claimed, error) {
		c := &claimed{fate: charge}
		err := row.Scan(&c.row, &c.ID, &c.Kind, &c.Attempt, &c.MaxAttempts, &c.now)
		c.errorCount = c.Attempt // River has an error for each attempt
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

// mostSorted is how many jobs of the queue are looked through for one whose lane can't be told.
const mostSorted = 200_000

const (
	queuedSQL = `
	SELECT j.ctid::text FROM lastseat.river_job j
	WHERE j.state = 'available' AND j.queue = @queue AND j.scheduled_at <= now()`
	queuedOrderSQL = `
	ORDER BY j.priority, j.scheduled_at, j.id LIMIT @limit`

	sortSQL = `SELECT count(*) FROM lastseat.river_job j WHERE j.ctid = ANY (@rows::text[]::tid[])` + laneFilterSQL
)

// unsortable finds the place of the job whose arguments can't be read so far as to tell its lane. It is empty if there
// is none, as where the queue has one lane. Such a job fails the claim of each lane, wherever it belongs.
func (b *batch) unsortable(ctx context.Context, n int) (row string, err error) {
	if b.settings.Lanes == 1 {
		return "", nil
	}
	for n *= b.settings.Lanes; ; n *= 8 {
		rows, err := b.tx.Query(ctx, queuedSQL+b.kindsSQL()+queuedOrderSQL, b.args(n))
		if err != nil {
			return "", fmt.Errorf("look through the queue: %w", err)
		}
		places, err := pgx.CollectRows(rows, pgx.RowTo[string])
		if err != nil {
			return "", fmt.Errorf("look through the queue: %w", err)
		}
		if err := b.sort(ctx, places); err != nil {
			return b.findUnsortable(ctx, places)
		}
		if len(places) < n || n > mostSorted {
			return "", nil
		}
	}
}

func (b *batch) findUnsortable(ctx context.Context, places []string) (string, error) {
	for len(places) > 1 {
		half := places[:len(places)/2]
		switch err := b.sort(ctx, half); {
		case err == nil:
			places = places[len(half):]
		case !unreadable(err) || b.tx.Conn().IsClosed():
			return "", err
		default:
			places = half
		}
	}
	return places[0], nil
}

// sort picks the lane's jobs from some of the queue.
func (b *batch) sort(ctx context.Context, places []string) error {
	args := b.args(0)
	args["rows"] = places
	return pgx.BeginFunc(ctx, b.tx, func(savepoint pgx.Tx) error {
		var n int
		return savepoint.QueryRow(ctx, sortSQL, args).Scan(&n)
	})
}
