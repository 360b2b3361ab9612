package outbox

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync/atomic"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/lastseat/lastseat/internal/retry"
)

// lane takes turns at settling jobs and sweeping while its share of a queue is its own, on a connection of its own.
// The lane's row makes the order (fence.go); that nothing happens twice rests on the transactions alone.
type lane struct {
	*share
	log   *slog.Logger
	stats *Stats
	conn  *pgx.Conn // nil: left to a handler that did not come back

	borrowed bool    // conn was made for River's part of the worker, and hears no notifications
	backend  backend // the session of conn, or the last one

	pace      pace
	suspicion suspicion
	caution   caution
	heard     accusation // what the lane's row said last of a job
	sweeps    []*sweeping
	bell      bell
	rung      atomic.Bool // a notification has come since the lane last looked
	doorbell  bool        // the session holds it
	few       bool        // the last batch had few jobs
	busy      time.Time   // when one that had more was committed

	name      string // of this lane of this process: no other has it
	sessions  int    // how many it has had
	preferred bool   // the session has the lane's advisory lock
	admitted  bool   // the database has let it take the lane, or stand by
	stalls    int    // in a row
	waits     int    // for a lane that another session holds
	said      map[string]time.Time
	waiting   waiting
	strict    bool // batches are SERIALIZABLE if the settings say so: the last one had a kind that needs it

	taken   time.Time // when it took the lane
	lacking lacking
	refused refusals
	behind  behind

	nextSchedule time.Time           // when the lane looks again for scheduled jobs that have come due
	refusedJobs  map[int64]time.Time // due jobs whose rows refuse to be made available, and until when they are left
	bound        bound
	patrolled    atomic.Pointer[patrol] // the last one
}

func newLane(settings Settings, kinds *Kinds, number int, stats *Stats, pool *pgxpool.Pool) *lane {
	return &lane{
		share: &share{
			settings: settings, kinds: kinds, number: number, chain: newChain(settings, number), pool: pool,
		},
		log:    settings.Logger.With(slog.String("queue", settings.Queue), slog.Int("lane", number)),
		stats:  stats,
		sweeps: newSweeps(kinds),
		name:   settings.ID + " " + rand.Text(),
		strict: kinds.allStrict(),
		bound:  newBound(),
	}
}

// newHolder gives the lane's session a name. Nothing that an earlier session of the lane still does is done in it.
func (l *lane) newHolder() {
	l.sessions++
	l.holder = fmt.Sprintf("%s %d", l.name, l.sessions)
	l.preferred, l.doorbell, l.stalls = false, false, 0
}

// wasHolder tells whether the holder was an earlier session of this lane.
func (l *lane) wasHolder(holder string) bool { return strings.HasPrefix(holder, l.name+" ") }

// work settles jobs on l.conn until stop is done, or until an error that needs another connection. With drain it
// also returns when no job is due, even if another worker has settled the last of them. ctx outlives stop, so that
// the batch in hand can be finished.
func (l *lane) work(ctx, stop context.Context, drain bool) error {
	if err := l.prepareSession(ctx); err != nil {
		return err
	}
	if err := l.tellAccusation(ctx); err != nil {
		return err
	}
	for stop.Err() == nil {
		held, err := l.acquire(ctx, stop, drain)
		if err != nil || !held {
			return err
		}
		l.observeHolds(true)
		err = l.turns(ctx, stop, drain)
		l.observeHolds(false)
		switch {
		case err == nil:
			l.leave(ctx)
			return nil
		case errors.Is(err, errGaveWay):
			_ = retry.Sleep(stop, 3*standbyInterval) // until others have tried to take it
		case errors.Is(err, errFenced):
			l.log.WarnContext(ctx, "another worker has the lane: standing by")
			_ = retry.Sleep(stop, standbyInterval)
		default:
			return err
		}
	}
	l.leave(ctx) // its row may still name this session: a fence fails at any lock on the row
	return nil
}

// turns settles jobs while the lane is this session's.
func (l *lane) turns(ctx, stop context.Context, drain bool) error {
	defer l.keepPatrolling(ctx)()
	defer func() {
		if l.conn != nil {
			_ = l.leaveDoorbell(ctx) // a connection that is gone has left it
		}
	}()
	for stop.Err() == nil {
		drained, err := l.turn(ctx, stop, drain)
		if err != nil || drained {
			return err
		}
	}
	return nil
}

// turn is a look at what was scheduled, a sweep, if one is due, and a batch; if there is no job to settle, the lane
// rests. drained: it is to be drained and nothing is left.
func (l *lane) turn(ctx, stop context.Context, drain bool) (drained bool, err error) {
	if err := l.prepare(ctx, stop); err != nil {
		return false, err
	}
	settled, err := l.settle(ctx)
	switch {
	case err != nil:
		return false, l.mend(ctx, stop, err)
	case settled:
		l.unswept()
		l.sayWho(ctx)
		if err := l.others(ctx, drain, false); err != nil || !l.doorbell || !l.few {
			return false, errors.Join(err, l.leaveDoorbell(ctx))
		}
		if rung, err := l.listen(ctx, stop); err != nil || rung {
			return false, err
		}
	default:
		l.sayWho(ctx)
		if err := l.others(ctx, drain, true); err != nil {
			return false, err
		}
	}
	due, err := l.due(ctx, l.conn, l.bound)
	switch {
	case err != nil:
		return false, err
	case drain && !due:
		return l.drained(ctx)
	}
	return false, l.idle(ctx, stop, due)
}

// prepare does what comes before a batch.
func (l *lane) prepare(ctx, stop context.Context) error {
	if err := l.sayBehind(ctx); err != nil {
		return err
	}
	if _, err := l.schedule(ctx); err != nil {
		return err
	}
	if err := l.look(ctx); err != nil {
		return err
	}
	skip := l.suspicion.sweeper
	l.suspicion.sweeper = false
	if skip {
		return nil
	}
	return l.sweep(ctx, stop)
}

// others looks after jobs of kinds that this worker lacks. rests: it has none of its own to settle.
func (l *lane) others(ctx context.Context, drain, rests bool) error {
	l.sayRefused(ctx)
	if err := l.lookAround(ctx); err != nil || drain {
		return err
	}
	return l.giveWay(ctx, rests)
}

// drained tells whether nothing is left that is due: no job before those that the lane claims, no scheduled one, and
// nothing to sweep.
func (l *lane) drained(ctx context.Context) (bool, error) {
	l.nextSchedule = time.Time{}
	if made, err := l.schedule(ctx); err != nil || made {
		return false, err
	}
	if l.bound.xid != "" {
		l.bound = newBound()
		if due, err := l.due(ctx, l.conn, l.bound); err != nil || due {
			return false, err
		}
	}
	l.sweepNow()
	return l.swept(), nil
}
