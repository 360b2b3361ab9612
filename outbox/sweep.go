package outbox

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/jackc/pgx/v5"
)

const (
	// sweepInterval is the pause between two sweeps, so that what has run out is taken care of within two seconds.
	sweepInterval = 500 * time.Millisecond
	// sweepLimit is how much one transaction sweeps. With more to do, there are more of them before the next batch.
	sweepLimit = 5000
)

// sweeping is one of the lane's sweepers. Each has transactions and pauses of its own: one that is broken keeps the others from
// nothing, and each sees what the others have written.
type sweeping struct {
	sweeper  Sweeper
	next     time.Time // when it is called again; zero: at once
	failures int       // in a row; every success takes one off
	done     bool      // it has been called since the last batch, and nothing was left
}

func newSweeps(kinds *Kinds) []*sweeping {
	sweeps := make([]*sweeping, len(kinds.sweepers))
	for i, sweeper := range kinds.sweepers {
		sweeps[i] = &sweeping{sweeper: sweeper}
	}
	return sweeps
}

// limit is halved by every failure: who has conflicts, or takes too long, has fewer rows to do next time.
func (s *sweeping) limit() int { return max(1, sweepLimit>>min(s.failures, 30)) }

// over reckons what is to become of the sweeper after it was called.
func (s *sweeping) over(more bool, err error) {
	pause := sweepInterval
	switch {
	case err != nil:
		s.failures++
		pause <<= min(s.failures, 3)
	case more:
		pause = 0
	}
	if err == nil && s.failures > 0 {
		s.failures--
	}
	s.next = time.Now().Add(pause)
	s.done = !more && !errors.Is(err, ErrCommitUnknown)
}

// sweep has the sweepers take care of what has run out, each if it is time to. An error of theirs is logged and holds nobody up;
// one that needs another connection is returned, and then a batch comes first: a sweeper that loses the connection again and
// again must not keep the lane from its jobs.
func (l *lane) sweep(ctx, stop context.Context) error {
	for _, s := range l.sweeps {
		if time.Now().Before(s.next) {
			continue
		}
		more, err := l.trySweep(ctx, stop, s)
		s.over(more, err)
		for more && err == nil && stop.Err() == nil { // before any job that comes after what has run out
			more, err = l.trySweep(ctx, stop, s)
			s.over(more, err)
		}
		switch {
		case err == nil:
		case l.conn.IsClosed() || ctx.Err() != nil || sqlState(err) == stateReadOnly:
			l.batchFirst = true
			return fmt.Errorf("sweep: %w", err)
		default:
			level := slog.LevelError
			if conflict(err) {
				level = slog.LevelWarn
			}
			l.log.Log(ctx, level, "what has run out could not be swept", slog.Int("batch", s.limit()),
				slog.Duration("pause", time.Until(s.next)), slog.String("error", err.Error()))
		}
	}
	return nil
}

// trySweep sweeps, and again after a conflict. Not after a lock that could not be had: the jobs would wait with it.
func (l *lane) trySweep(ctx, stop context.Context, s *sweeping) (more bool, err error) {
	for try := 0; ; try++ {
		more, err = l.sweepOnce(ctx, s)
		switch {
		case l.crowd(ctx, err):
		case conflict(err):
			l.stats.conflicts.Add(1)
			if sqlState(err) == stateLockTimeout || try >= l.settings.TxRetries || stop.Err() != nil {
				return more, err
			}
			sleep(stop, jitter(shortestBackoff<<try))
		default:
			return more, err
		}
	}
}

// reachedSQL is the time to which the lane has settled what was asked of it: that of the first job that waits, or now. A
// job that somebody else has locked is passed by, as by the claim; of a queue that is paused it is the first one, too. A sweep
// doesn't wait for a lock as long as a batch may: there may be batches that need not wait for it at all.
const (
	reachedSQL = `
	SELECT set_config('lock_timeout', '500ms', true), now(), coalesce((
		SELECT j.scheduled_at FROM lastseat.river_job j
		WHERE j.state = 'available' AND j.queue = @queue AND j.scheduled_at <= now() AND isfinite(j.scheduled_at)`
	reachedOrderSQL = `
		ORDER BY j.priority, j.scheduled_at, j.id
		LIMIT 1
		FOR UPDATE SKIP LOCKED
	), now())`
)

// sweepOnce sweeps once, in a transaction of its own. more: there may be more to do.
func (l *lane) sweepOnce(ctx context.Context, s *sweeping) (more bool, err error) {
	tx, err := l.begin(ctx)
	if err != nil {
		return false, err
	}
	defer func() { _ = tx.Rollback(context.WithoutCancel(ctx)) }()
	sweep := Sweep{Limit: s.limit(), Lane: l.number, Lanes: l.settings.Lanes, Write: &pgx.Batch{}}
	sql := reachedSQL + reachedOrderSQL
	if l.settings.Lanes > 1 {
		sql = reachedSQL + laneFilterSQL + reachedOrderSQL
	}
	if err := tx.QueryRow(ctx, sql, l.claimArgs(1)).Scan(nil, &sweep.Now, &sweep.Until); err != nil {
		return false, fmt.Errorf("look how far the lane is: %w", err)
	}
	swept, more, err := callSweeper(ctx, s.sweeper, tx, sweep)
	if err != nil || swept == 0 {
		return false, err
	}
	sweep.Write.Queue("SELECT pg_notify($1, $2)", outcomeChannel, l.settings.Queue)
	if err := tx.SendBatch(ctx, sweep.Write).Close(); err != nil {
		return false, err
	}
	if err := Commit(ctx, tx); err != nil {
		return false, fmt.Errorf("commit: %w", err)
	}
	l.stats.swept.Add(int64(swept))
	return more, nil
}

func callSweeper(ctx context.Context, sweeper Sweeper, tx pgx.Tx, sweep Sweep) (swept int, more bool, err error) {
	defer recovered(&err)
	return sweeper.Sweep(ctx, tx, sweep)
}

// swept tells whether every sweeper has been called since the last batch. If not, it is due now.
func (l *lane) swept() bool {
	all := true
	for _, s := range l.sweeps {
		if !s.done {
			s.next, all = time.Time{}, false
		}
	}
	return all
}

// unswept: a batch was settled, so there may be more that has run out by the time that the lane has reached.
func (l *lane) unswept() {
	for _, s := range l.sweeps {
		s.done = false
	}
}

// nextSweep is the time of the next sweep, end at the latest.
func (l *lane) nextSweep(end time.Time) time.Time {
	for _, s := range l.sweeps {
		if s.next.Before(end) {
			end = s.next
		}
	}
	return end
}
