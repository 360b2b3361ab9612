package outbox

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"

	"github.com/lastseat/lastseat/internal/retry"
)

// batchError is an error of a batch that had claimed jobs, or of its claim.
type batchError struct {
	jobs     []*claimed
	claiming int      // how many jobs the batch asked for, if its claim failed
	charged  *culprit // nil, or what the batch was to charge its only job with
	err      error
}

func (e *batchError) Error() string { return e.err.Error() }
func (e *batchError) Unwrap() error { return e.err }

// evidence gathers what there is to judge an error by.
func (l *lane) evidence(ctx context.Context, failed *batchError) evidence {
	return evidence{
		connected:  !l.lost(),
		stopping:   ctx.Err() != nil,
		jobs:       len(failed.jobs),
		claiming:   failed.claiming > 0,
		again:      l.suspicion.again(failed.jobs),
		noRoom:     l.suspicion.noRoom,
		muted:      l.bell.muted(),
		charging:   failed.charged != nil,
		discarding: failed.charged != nil && failed.charged.unwritable != nil,
	}
}

// lost tells whether the connection can't be used any more: it is closed, or a handler that did not come back has it.
func (l *lane) lost() bool { return l.conn == nil || l.conn.IsClosed() }

// mend does what an error of a batch asks for. It returns the error if the lane needs another connection.
func (l *lane) mend(ctx, stop context.Context, err error) error {
	failed := &batchError{}
	errors.As(err, &failed)
	e := l.evidence(ctx, failed)
	v := judge(err, e)
	l.observeRepeated(v, err)
	switch v {
	case othersLane, connectionGone, commitUnknown, handlersDoing:
		l.leaveConnection(ctx, v, failed, err)
		return err
	case unclaimable:
		if err := l.chargeUnclaimable(ctx, failed.claiming, err); err != nil {
			return l.mend(ctx, stop, err)
		}
	case nobodysFault:
		l.retryLater(ctx, stop, err)
	case noRoom:
		l.goWithoutPredicateLocks(ctx, err)
	case notificationsFull:
		l.mute(ctx, err)
	case databaseCondition:
		if l.stall(ctx, stop, err) {
			return err
		}
	default:
		l.suspect(ctx, v, failed, e)
	}
	if l.lost() {
		return err
	}
	return nil
}

// leaveConnection does what is to be done before the lane continues on another connection, or stands by.
func (l *lane) leaveConnection(ctx context.Context, v verdict, failed *batchError, err error) {
	switch v {
	case connectionGone:
		if failed.claiming > 0 || len(failed.jobs) > 0 {
			l.pace.lost()
		}
	case commitUnknown:
		l.log.WarnContext(ctx, "the reply to COMMIT was lost: the next claim shows what was committed",
			slog.String("error", err.Error()))
	case handlersDoing:
		l.suspicion.accuse(stuckJob(failed), err)
	}
}

// suspect looks for the job that failed a batch, or accuses it.
func (l *lane) suspect(ctx context.Context, v verdict, failed *batchError, e evidence) {
	switch v {
	case cutOff:
		l.pace.forgetConflicts()
		l.suspicion.cutOff(failed.jobs)
	case oneOfThem:
		l.log.DebugContext(ctx, "batch failed: looking for the job",
			slog.Int("batch", len(failed.jobs)), slog.String("error", failed.Error()))
		l.pace.forgetConflicts()
		l.suspicion.search(len(failed.jobs))
	case itsDoing:
		l.pace.found()
		l.suspicion.search(1)
		l.suspicion.accuse(failed.jobs[0], l.explain(failed, e))
	case unwritable:
		l.suspicion.culprit.unwritable = failed
	case leftAlone:
		l.leaveOut(ctx, failed)
	}
}

// leaveOut has the lane go on without a job for as long as the worker runs.
func (l *lane) leaveOut(ctx context.Context, failed *batchError) {
	c := failed.jobs[0]
	l.leftOut = append(l.leftOut, c.ID)
	l.suspicion.culprit, l.suspicion.among = nil, max(0, l.suspicion.among-1)
	l.log.ErrorContext(ctx, "job left out: its row can be neither settled nor discarded; the worker leaves it alone "+
		"until it is started again", slog.Int64("job_id", c.ID), slog.String("kind", c.Kind), slog.String("key", c.Key),
		slog.String("cause", failed.charged.err.Error()), slog.String("error", failed.Error()))
}

// stuckJob is the job whose handler left the connection or the transaction unusable.
func stuckJob(failed *batchError) *claimed {
	stuck := (*stuckError)(nil)
	errors.As(failed.err, &stuck)
	return failed.jobs[slices.IndexFunc(failed.jobs, func(c *claimed) bool { return c.ID == stuck.job })]
}

// explain adds to an error why it counts as the job's doing although it came from outside.
func (l *lane) explain(err error, e evidence) error {
	if !fromOutside(err, e.connected) {
		return err
	}
	return fmt.Errorf("cut off twice: the job exceeded a time limit of its own, "+
		"ran no statement for more than %v, or lost the connection: %w", l.settings.HoldLimit, err)
}

// retryLater waits before the same batch runs again.
func (l *lane) retryLater(ctx, stop context.Context, err error) {
	l.stats.conflicts.Add(1)
	pause, exhausted := l.pace.conflict(l.settings.TxRetries)
	level := slog.LevelDebug
	if exhausted || retry.SQLState(err) == stateLockTimeout {
		level = slog.LevelWarn
	}
	l.log.Log(ctx, level, "conflict with another session", slog.Int("batch", l.pace.limit),
		slog.Duration("pause", pause), slog.String("error", err.Error()))
	_ = retry.Sleep(stop, pause)
}

// goWithoutPredicateLocks has the next transactions run at REPEATABLE READ, until one has settled something.
func (l *lane) goWithoutPredicateLocks(ctx context.Context, err error) {
	l.suspicion.noRoom = true
	l.log.WarnContext(ctx, "no room for locks: is a SERIALIZABLE session idle in a transaction, or does a session "+
		"hold thousands (pg_locks)? The next batch is REPEATABLE READ, which needs no predicate locks",
		slog.String("error", err.Error()))
}

// mostStalls is how many errors in a row a connection may have that no job explains. Something may be wrong with the
// session itself.
const mostStalls = 3

// stall pauses. spent: the lane needs another connection.
func (l *lane) stall(ctx, stop context.Context, err error) (spent bool) {
	l.log.ErrorContext(ctx, "lane stalled", slog.Duration("pause", longestPause), slog.String("error", err.Error()))
	_ = retry.Sleep(stop, longestPause)
	l.stalls++
	return l.stalls >= mostStalls
}
