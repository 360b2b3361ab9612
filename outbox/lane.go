package outbox

import (
	"context"
	"errors"
	"fmt"
	"log/slog"

	"github.com/jackc/pgx/v5"
)

// lane takes turns at settling jobs and sweeping while it holds the advisory lock of its share of a queue, on a
// connection of its own. The lock makes the order; that nothing happens twice rests on the transactions alone.
type lane struct {
	*share
	log   *slog.Logger
	stats *Stats
	conn  *pgx.Conn // nil: left to a handler that did not come back

	pace      pace
	suspicion suspicion
	sweeps    []*sweeping
	waits     int // for a lane that another session holds
}

func newLane(settings Settings, kinds *Kinds, number int, stats *Stats) *lane {
	return &lane{
		share:  &share{settings: settings, kinds: kinds, number: number},
		log:    settings.Logger.With(slog.String("queue", settings.Queue), slog.Int("lane", number)),
		stats:  stats,
		sweeps: newSweeps(kinds),
	}
}

// work settles jobs on l.conn until stop is done, or until an error that needs another connection. With drain it
// also returns when no job is due, even if another worker has settled the last of them. ctx outlives stop, so that
// the batch in hand can be finished.
func (l *lane) work(ctx, stop context.Context, drain bool) error {
	if err := l.prepareSession(ctx); err != nil {
		return err
	}
	held, err := l.acquire(ctx, stop, drain)
	if err != nil || !held {
		return err
	}
	for stop.Err() == nil {
		drained, err := l.turn(ctx, stop, drain)
		if err != nil || drained {
			return err
		}
	}
	return nil
}

// turn is a sweep, if one is due, and a batch; if there is no job to settle, the lane rests. drained: it is to be
// drained and nothing is left.
func (l *lane) turn(ctx, stop context.Context, drain bool) (drained bool, err error) {
	if !l.suspicion.sweeper {
		if err := l.sweep(ctx, stop); err != nil {
			return false, err
		}
	}
	l.suspicion.sweeper = false
	settled, err := l.settle(ctx)
	switch {
	case err != nil:
		return false, l.mend(ctx, stop, err)
	case settled:
		return false, nil
	}
	due, err := l.due(ctx, l.conn)
	switch {
	case err != nil:
		return false, err
	case drain && !due:
		l.sweepNow()
		return l.swept(), nil
	}
	return false, l.idle(ctx, stop, due)
}

// settle settles a batch in one transaction. settled is false if no job was waiting. After an error nothing has
// changed, unless the error is an ErrCommitUnknown.
func (l *lane) settle(ctx context.Context) (settled bool, err error) {
	tx, err := l.begin(ctx)
	if err != nil {
		return false, err
	}
	defer func() {
		if l.conn != nil {
			_ = tx.Rollback(context.WithoutCancel(ctx))
		}
	}()
	b := &batch{share: l.share, tx: tx, write: &pgx.Batch{}}
	if err := b.claim(ctx, l.pace.next(l.settings.Batch, l.suspicion.among)); err != nil || len(b.jobs) == 0 {
		return false, err
	}
	if err := b.admit(ctx); err != nil {
		return false, err
	}
	b.cut(&l.suspicion)
	err = b.settle(ctx)
	if errors.As(err, new(*abandonedError)) {
		l.conn = nil
	}
	if b.charged == nil {
		l.pace.fitted(len(b.jobs), b.full)
	}
	if err != nil {
		return false, &batchError{jobs: b.jobs, charged: b.charged, err: err}
	}
	return l.settled(ctx, b) > 0, nil
}

// begin begins a transaction. While Postgres has no room for predicate locks it is REPEATABLE READ, which takes
// none: the lane must not stand still because of another session that idles in a SERIALIZABLE transaction.
func (l *lane) begin(ctx context.Context) (pgx.Tx, error) {
	level := l.settings.Isolation
	if l.suspicion.noRoom {
		level = pgx.RepeatableRead
	}
	tx, err := l.conn.BeginTx(ctx, pgx.TxOptions{IsoLevel: level, AccessMode: pgx.ReadWrite})
	if err != nil {
		return nil, fmt.Errorf("begin: %w", err)
	}
	return tx, nil
}

// settled does what a committed batch asks for, and returns how many of its jobs were dealt with.
func (l *lane) settled(ctx context.Context, b *batch) int {
	for i, c := range b.jobs {
		switch err := b.results[i].err; {
		case b.charged != nil && b.charged.unwritable != nil:
			l.log.ErrorContext(ctx, "job discarded: its failed attempt can't be written", slog.Int64("job_id", c.ID),
				slog.String("kind", c.Kind), slog.String("key", c.Key), slog.String("error", b.charged.unwritable.Error()))
		case b.charged != nil:
			l.logFailure(ctx, c, b.charged.err)
		case err != nil:
			l.logFailure(ctx, c, err)
		}
	}
	n := l.stats.count(b)
	if n > 0 {
		l.pace.settled()
		l.suspicion.settled(b, n)
		l.unswept()
	}
	return n
}

func (l *lane) logFailure(ctx context.Context, c *claimed, err error) {
	l.log.WarnContext(ctx, "job failed", slog.Int64("job_id", c.ID), slog.String("kind", c.Kind),
		slog.String("key", c.Key), slog.Int("attempt", c.Attempt), slog.Bool("discarded", c.last()),
		slog.String("error", err.Error()))
}
