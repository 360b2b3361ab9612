package outbox

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/lastseat/lastseat/internal/faultpoint"
	"github.com/lastseat/lastseat/internal/history"
	"github.com/lastseat/lastseat/internal/retry"
)

const (
	// sweepInterval is the pause between two sweeps: what has run out is taken care of within two seconds.
	sweepInterval = 500 * time.Millisecond
	// sweepLimit is how many rows one transaction sweeps. If there are more, more transactions follow before the next
	// batch.
	sweepLimit = 5000
	// mostSweepFailures is as many as make a difference: sweepLimit halved so often is one row. A sweeper that has failed
	// all night is back at its full limit after as many successes.
	mostSweepFailures = 12
)

// sweeping is one of the lane's sweepers. Each has its own transactions and pauses: a broken sweeper holds up no
// other, and each sees what the others have written.
type sweeping struct {
	sweeper  registeredSweeper
	next     time.Time // when it is called again; zero: at once
	failures int       // in a row, at most mostSweepFailures; every success takes one off
	done     bool      // it has been called since the last batch, and nothing was left
}

func newSweeps(kinds *Kinds) []*sweeping {
	sweeps := make([]*sweeping, 0, len(kinds.sweepers)+1)
	for _, sweeper := range kinds.sweepers {
		sweeps = append(sweeps, &sweeping{sweeper: sweeper})
	}
	return append(sweeps, &sweeping{sweeper: registeredSweeper{Sweeper: adopter{}}})
}

// limit is halved by every failure: a sweep that has conflicts, or takes too long, gets fewer rows the next time.
func (s *sweeping) limit() int { return max(1, sweepLimit>>s.failures) }

// called notes how a call ended, and when the next one is due.
func (s *sweeping) called(more bool, err error) {
	pause := sweepInterval
	switch {
	case err != nil:
		s.failures = min(s.failures+1, mostSweepFailures)
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

// sweep calls the sweepers that are due. Their errors are logged and hold nobody up. An error that needs another
// connection is returned, and a batch comes before the next sweep: a sweeper that loses the connection again and
// again must not keep the lane from its jobs.
func (l *lane) sweep(ctx, stop context.Context) error {
	for _, s := range l.sweeps {
		if time.Now().Before(s.next) {
			continue
		}
		err := l.sweepAll(ctx, stop, s)
		if err == nil {
			continue
		}
		level := slog.LevelError
		switch l.judgeSweep(ctx, err) {
		case othersLane:
			return err
		case connectionGone, commitUnknown:
			l.suspicion.sweeper = true
			return fmt.Errorf("sweep: %w", err)
		case nobodysFault:
			level = slog.LevelWarn
		}
		l.log.Log(ctx, level, "sweep failed: what has run out stays for now", slog.Int("batch", s.limit()),
			slog.Duration("pause", time.Until(s.next)), slog.String("error", err.Error()))
	}
	return nil
}

// judgeSweep judges an error of a sweep, which is the doing of no job.
func (l *lane) judgeSweep(ctx context.Context, err error) verdict {
	return judge(err, l.evidence(ctx, &batchError{}))
}

// sweepAll calls a sweeper until nothing is left, so that no job overtakes what has run out before it.
func (l *lane) sweepAll(ctx, stop context.Context, s *sweeping) error {
	for {
		more, err := l.trySweep(ctx, stop, s)
		s.called(more, err)
		if err != nil || !more || stop.Err() != nil {
			return err
		}
	}
}

// trySweep sweeps once, and again after a conflict; but not after waiting for a lock in vain, for the jobs wait
// meanwhile.
func (l *lane) trySweep(ctx, stop context.Context, s *sweeping) (more bool, err error) {
	for try := 0; ; try++ {
		more, err = l.sweepOnce(ctx, s)
		if err == nil {
			return more, nil
		}
		switch l.judgeSweep(ctx, err) {
		case noRoom:
			l.goWithoutPredicateLocks(ctx, err)
		case notificationsFull:
			l.mute(ctx, err)
		case nobodysFault:
			l.stats.conflicts.Add(1)
			if retry.SQLState(err) == stateLockTimeout || try >= l.settings.TxRetries || stop.Err() != nil {
				return more, err
			}
			_ = retry.Sleep(stop, retry.Jitter(shortestBackoff<<try))
		default:
			return more, err
		}
	}
}

// reachedSQL asks up to which time the lane has settled what was asked of it: the time of the first job that waits,
// or now. Like the claim it passes by a job that another session has locked; in a paused queue, too, it is the
// first job's time. A sweep waits for a lock for a shorter time than a batch does, because the next batch may not
// need that lock at all.
const (
	reachedSQL = `
	SELECT set_config('lock_timeout', '500ms', true), now(), coalesce((
		SELECT j.scheduled_at FROM ` + rangesSQL + `, LATERAL (
			SELECT j.scheduled_at FROM lastseat.river_job j
			WHERE isfinite(j.scheduled_at) AND ` + waitingSQL
	// reachedBesidesSQL passes by jobs that wait for a row: the sweeper gets them, and leaves alone what they need.
	reachedBesidesSQL = `
		  AND j.id NOT IN (SELECT unnest(@waiting::bigint[]))`
	reachedOrderSQL = `
			ORDER BY j.scheduled_at, j.id LIMIT 1 FOR UPDATE SKIP LOCKED) j
		WHERE ` + oursSQL + `
		LIMIT 1
	), now())`
)

// sweepOnce calls a sweeper in a transaction of its own.
func (l *lane) sweepOnce(ctx context.Context, s *sweeping) (more bool, err error) {
	if err := l.chain.read(ctx, l.conn); err != nil {
		return false, err
	}
	sweep := Sweep{Limit: s.limit(), Lane: l.number, Lanes: l.settings.Lanes, Write: &pgx.Batch{},
		History: &history.Log{}}
	sql, args := reachedSQL+l.filterSQL(), l.bound.args(l.args(1))
	if sweep.Waiting = l.waiting.of(s.sweeper.settler, l.kinds); len(sweep.Waiting) > 0 {
		sql += reachedBesidesSQL
		args["waiting"] = l.waiting.ids()
	}
	tx, err := l.begin(ctx, s.sweeper.strict, func(opening *pgx.Batch) {
		opening.Queue(sql+reachedOrderSQL, args).QueryRow(func(row pgx.Row) error {
			if err := row.Scan(nil, &sweep.Now, &sweep.Until); err != nil {
				return fmt.Errorf("look up how far the lane is: %w", err)
			}
			return nil
		})
	})
	if err != nil {
		return false, err
	}
	defer func() { _ = tx.Rollback(context.WithoutCancel(ctx)) }()
	if faultpoint.Sabotaged(faultpoint.SweepByClock) {
		sweep.Until = sweep.Now
	}
	swept, more, err := callSweeper(ctx, s.sweeper, tx, sweep)
	if err != nil || swept == 0 {
		return false, err
	}
	l.bell.queue(sweep.Write, l.settings.Queue)
	if err := tx.SendBatch(ctx, sweep.Write).Close(); err != nil {
		return false, err
	}
	if err := l.chain.write(ctx, tx, sweep.History, sweep.Now); err != nil {
		return false, err
	}
	faultpoint.Reached(faultpoint.InSweep)
	if err := Commit(ctx, tx); err != nil {
		return false, &commitError{err}
	}
	l.chain.committed()
	if _, adopts := s.sweeper.Sweeper.(adopter); !adopts {
		l.stats.swept.Add(int64(swept))
	}
	return more, nil
}

func callSweeper(ctx context.Context, sweeper Sweeper, tx pgx.Tx, sweep Sweep) (swept int, more bool, err error) {
	defer recovered(&err)
	return sweeper.Sweep(ctx, tx, sweep)
}

// swept tells whether every sweeper has been called since the last batch and has left nothing.
func (l *lane) swept() bool {
	return !slices.ContainsFunc(l.sweeps, func(s *sweeping) bool { return !s.done })
}

// sweepNow makes the sweepers due that have something left.
func (l *lane) sweepNow() {
	for _, s := range l.sweeps {
		if !s.done {
			s.next = time.Time{}
		}
	}
}

// unswept: a batch was settled, so the lane has reached a later time, and more may have run out by then.
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
