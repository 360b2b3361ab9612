package outbox

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"slices"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
)

const (
	standbyInterval = 100 * time.Millisecond // between two tries to get a lane that another worker holds
	shortestBackoff = 5 * time.Millisecond
	longestPause    = time.Second
)

// lane settles the jobs of one lane of a queue while it holds the lane's advisory lock, on a connection of its own. The
// lock makes the order; that nothing happens twice rests on the transactions alone.
type lane struct {
	settings Settings
	kinds    *Kinds
	number   int // from 0
	log      *slog.Logger
	stats    *Stats
	conn     *pgx.Conn

	pace    pace
	overdue *batchError // a job that lost the connection, alone and again: to be recorded on the next one
	culprit *batchError // a job that is known to have cost the connection, to be recorded when its turn comes
	alone   int64       // the job that was alone when a batch was cut off from outside
	waits   int         // for a lane that another session holds
	crowded bool        // Postgres has run out of room for predicate locks

	sweeps     []*sweeping
	batchFirst bool // a sweep has lost the connection
}

const (
	stateHeldTooLong = "25P03" // idle_in_transaction_session_timeout
	stateLockTimeout = "55P03"
	stateCanceled    = "57014"
	stateReadOnly    = "25006" // default_transaction_read_only, when the connection was made
	stateOutOfMemory = "53200"
)

// sessionSQL prepares a connection for the lane. Every access of the lane is by key or along one index, whatever the
// statistics say: a plan that was cached while a table was empty would scan it when it is full. The idle timeouts free the
// lane from a worker that is frozen, the keepalives from one whose machine is gone. Who waits for a lock for long says so.
const sessionSQL = `
	SELECT set_config(name, value, false) FROM (VALUES
		('application_name', 'lastseat lane'), ('lastseat.lane', 'on'),
		('enable_seqscan', 'off'), ('enable_hashjoin', 'off'), ('enable_mergejoin', 'off'), ('enable_bitmapscan', 'off'),
		('jit', 'off'), ('plan_cache_mode', 'force_generic_plan'), ('lock_timeout', '5s'), ('statement_timeout', '0'),
		('idle_in_transaction_session_timeout', $1), ('idle_session_timeout', $2),
		('tcp_keepalives_idle', '5'), ('tcp_keepalives_interval', '5'), ('tcp_keepalives_count', '3')
	) AS setting(name, value)`

func (l *lane) prepareSession(ctx context.Context) error {
	milliseconds := func(d time.Duration) string { return fmt.Sprintf("%dms", d.Milliseconds()) }
	if _, err := l.conn.Exec(ctx, sessionSQL, milliseconds(l.settings.HoldLimit), milliseconds(max(time.Minute, 2*l.settings.Poll))); err != nil {
		return fmt.Errorf("prepare the lane's session: %w", err)
	}
	if _, err := l.conn.Exec(ctx, `LISTEN "lastseat.river_insert"`); err != nil {
		return fmt.Errorf("listen for jobs: %w", err)
	}
	return nil
}

// work settles jobs on l.conn until stop is done, or until an error that needs another connection. With drain it
// returns when no job is due, also when another worker has settled the last of them. ctx outlives stop, for the batch
// in hand.
func (l *lane) work(ctx, stop context.Context, drain bool) error {
	if err := l.prepareSession(ctx); err != nil {
		return err
	}
	if l.sweeps == nil {
		l.sweeps = newSweeps(l.kinds)
	}
	for held, lingered := false, false; stop.Err() == nil; {
		if !held {
			var done bool
			var err error
			if held, done, err = l.take(ctx, stop, drain); err != nil {
				return err
			}
			if done && (lingered || len(l.sweeps) == 0) {
				return nil
			}
			if done { // who holds the lane sweeps it; unless it is a session that is just about to end
				lingered = true
				sleep(stop, standbyInterval)
			}
			continue
		}
		if !l.batchFirst {
			if err := l.sweep(ctx, stop); err != nil {
				return err
			}
		}
		l.batchFirst = false
		n, err := l.settleBatch(ctx, l.pace.next(l.settings.Batch))
		switch {
		case err != nil:
			if err := l.mend(ctx, stop, err); err != nil {
				return err
			}
		case n > 0:
			l.pace.settled(n)
			l.crowded = false
			l.unswept()
		default:
			due, err := l.due(ctx)
			if err != nil {
				return err
			}
			if drain && !due {
				if l.swept() {
					return nil
				}
				continue
			}
			if err := l.idle(ctx, stop, due); err != nil {
				return err
			}
		}
	}
	return nil
}

const dueSQL = `
	SELECT EXISTS (SELECT FROM lastseat.river_job j WHERE j.state = 'available' AND j.queue = $1 AND j.scheduled_at <= now())
	   AND NOT EXISTS (SELECT FROM lastseat.river_queue q WHERE q.name = $1 AND q.paused_at IS NOT NULL)`

// due tells whether a job of the queue waits, one that somebody has locked included.
func (l *lane) due(ctx context.Context) (bool, error) {
	var due bool
	if err := l.conn.QueryRow(ctx, dueSQL, l.settings.Queue).Scan(&due); err != nil {
		return false, fmt.Errorf("look for jobs: %w", err)
	}
	return due, nil
}

// idle sleeps until there may be something to do. If jobs are due that could not be claimed (another session holds
// them, or they belong to another lane), it only takes a breath. Else it holds the doorbell, so that producers ring:
// see lastseat.ring. While a producer holds it, a commit may come without a ring, and the lane looks often.
func (l *lane) idle(ctx, stop context.Context, due bool) error {
	if due {
		// Shortly at first: mostly it was committed just after the claim looked.
		sleep(stop, l.pace.glance())
		return nil
	}
	var rung bool
	err := l.conn.QueryRow(ctx, `SELECT pg_try_advisory_lock(lastseat.doorbell($1))`, l.settings.Queue).Scan(&rung)
	if err != nil {
		return fmt.Errorf("take the doorbell: %w", err)
	}
	if !rung {
		sleep(stop, l.pace.glance())
		return nil
	}
	// Once more, for what was committed without a ring just before the doorbell was taken.
	if due, err = l.due(ctx); err == nil && !due {
		err = l.nap(ctx, stop)
	}
	if err != nil {
		return fmt.Errorf("wait for jobs: %w", err)
	}
	if _, err := l.conn.Exec(ctx, `SELECT pg_advisory_unlock(lastseat.doorbell($1))`, l.settings.Queue); err != nil {
		return fmt.Errorf("leave the doorbell: %w", err)
	}
	return nil
}

// nap sleeps until somebody rings, or for as long as LASTSEAT_POLL. It sweeps meanwhile, with the doorbell in its hand: who comes
// during a sweep rings, and is heard after it.
func (l *lane) nap(ctx, stop context.Context) error {
	for end := time.Now().Add(l.settings.Poll); ; {
		wait, cancel := context.WithDeadline(stop, l.nextSweep(end))
		err := l.awaitRing(wait)
		over := wait.Err() != nil
		cancel()
		switch {
		case err == nil || stop.Err() != nil:
			return nil
		case !over:
			return err
		case !time.Now().Before(end):
			return nil
		}
		if err := l.sweep(ctx, stop); err != nil {
			return err
		}
	}
}

// awaitRing waits for a notification of a job in this lane's queue; River sends them for others too.
func (l *lane) awaitRing(ctx context.Context) error {
	for {
		notification, err := l.conn.WaitForNotification(ctx)
		if err != nil {
			return err
		}
		var ring struct {
			Queue string `json:"queue"`
		}
		if err := json.Unmarshal([]byte(notification.Payload), &ring); err != nil || ring.Queue == l.settings.Queue {
			return nil
		}
	}
}

// mend does what an error of a batch asks for. It returns the errors that a new connection may mend.
func (l *lane) mend(ctx, stop context.Context, err error) error {
	var failed *batchError
	var stuck *stuckError
	switch {
	case l.culprit != nil && errors.Is(err, l.culprit):
		recorded, err := l.fail(ctx, l.culprit)
		if err != nil {
			return l.mendFailure(ctx, stop, l.culprit, err)
		}
		if recorded {
			l.culprit = nil
		}
		return nil
	case errors.As(err, &failed) && errors.As(err, &stuck):
		i := slices.IndexFunc(failed.jobs, func(c *claimed) bool { return c.ID == stuck.job })
		l.culprit = &batchError{jobs: failed.jobs[i : i+1], err: err}
		return err
	case errors.Is(err, ErrCommitUnknown):
		// The next claim looks: what was committed is gone from the queue, what was not is still there.
		l.log.WarnContext(ctx, "the reply to COMMIT was lost: looking at the jobs again", slog.String("error", err.Error()))
		return err
	case errors.As(err, &failed) && l.cutOff(err) && ctx.Err() == nil:
		if l.blame(failed) {
			l.overdue = failed
		}
		if l.lost() {
			return err
		}
		return l.recordOverdue(ctx)
	case l.lost() || ctx.Err() != nil || sqlState(err) == stateReadOnly:
		return err
	case l.crowd(ctx, err):
		return nil
	case conflict(err):
		l.stats.conflicts.Add(1)
		pause, exhausted := l.pace.conflict(l.settings.TxRetries)
		level := slog.LevelDebug
		if exhausted || sqlState(err) == stateLockTimeout {
			level = slog.LevelWarn
		}
		l.log.Log(ctx, level, "conflict with another session", slog.Int("batch", l.pace.limit), slog.Duration("pause", pause), slog.String("error", err.Error()))
		sleep(stop, pause)
		return nil
	case errors.As(err, &failed) && !unavailable(err):
		if len(failed.jobs) > 1 {
			l.log.DebugContext(ctx, "batch failed: looking for the job", slog.Int("batch", len(failed.jobs)), slog.String("error", err.Error()))
			l.pace.suspect(len(failed.jobs))
			return nil
		}
		l.pace.found()
		if _, err := l.fail(ctx, failed); err != nil {
			return l.mendFailure(ctx, stop, failed, err)
		}
		return nil
	default:
		l.stall(ctx, stop, err)
		return nil
	}
}

// crowd tells whether err says that there is no more room for predicate locks, which the next transaction then does without.
func (l *lane) crowd(ctx context.Context, err error) bool {
	if sqlState(err) != stateOutOfMemory || l.crowded {
		return false
	}
	l.crowded = true
	l.log.WarnContext(ctx, "no room for predicate locks: is a SERIALIZABLE session idle in a transaction? The next batch is REPEATABLE READ", slog.String("error", err.Error()))
	return true
}

// lost tells whether the connection is: closed, or left to a handler that did not come back.
func (l *lane) lost() bool { return l.conn == nil || l.conn.IsClosed() }

// cutOff tells whether a batch ended from outside: the connection is lost, the transaction was held for too long, the
// statement was cancelled. That may be the doing of a job (a deadline of its own, a crash) or of nobody.
func (l *lane) cutOff(err error) bool {
	return l.lost() && !unavailable(err) || slices.Contains([]string{stateHeldTooLong, stateCanceled}, sqlState(err))
}

// blame looks for the job among those of a batch that was cut off. Alone it is blamed when it happens again.
func (l *lane) blame(failed *batchError) bool {
	l.pace.suspect(len(failed.jobs))
	job := failed.jobs[0].ID
	again := len(failed.jobs) == 1 && l.alone == job
	l.alone = 0
	if len(failed.jobs) == 1 {
		l.alone = job
	}
	if again {
		failed.err = fmt.Errorf("cut off twice, by its own time limit, after more than %v without a statement, or with the connection: %w", l.settings.HoldLimit, failed.err)
	}
	return again
}

// recordOverdue gives a job that was cut off its failed attempt.
func (l *lane) recordOverdue(ctx context.Context) error {
	if l.overdue == nil {
		return nil
	}
	_, err := l.fail(ctx, l.overdue)
	if err == nil {
		l.overdue = nil
		l.pace.found()
	}
	return err
}

// mendFailure: the failure itself could not be recorded. The job will fail again, and so be recorded later.
func (l *lane) mendFailure(ctx, stop context.Context, failed *batchError, err error) error {
	if l.lost() || ctx.Err() != nil {
		return err
	}
	if code := sqlState(err); strings.HasPrefix(code, "22") || strings.HasPrefix(code, "23") {
		// The row itself is such that no attempt can be written to it. Without this the lane would stand still for ever.
		return l.giveUp(ctx, failed, err)
	}
	l.stall(ctx, stop, err)
	return nil
}

func (l *lane) stall(ctx, stop context.Context, err error) {
	l.log.ErrorContext(ctx, "lane stalled", slog.Duration("pause", longestPause), slog.String("error", err.Error()))
	sleep(stop, longestPause)
}

// jitter is full jitter: anything from 0 to d.
func jitter(d time.Duration) time.Duration { return rand.N(d + 1) }

func sleep(stop context.Context, d time.Duration) {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-stop.Done():
	case <-timer.C:
	}
}
