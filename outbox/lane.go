package outbox

import (
	"context"
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
		l.unswept()
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
