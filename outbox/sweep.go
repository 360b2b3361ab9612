package outbox

import (
	"context"
	"fmt"
	"log/slog"
	"time"

	"github.com/jackc/pgx/v5"
)

const (
	// sweepInterval is the pause between two sweeps, so that what has run out is taken care of within two seconds.
	sweepInterval = 500 * time.Millisecond
	// sweepLimit is how much one transaction sweeps. With more to do, batches and sweeps take turns.
	sweepLimit = 5000
)

// reachedSQL is the time to which the lane has settled what was asked of it: that of the first job that waits, or now. A
// job that somebody else has locked is passed by, as by the claim; of a queue that is paused it is the first one, too.
const (
	reachedSQL = `
	SELECT now(), coalesce((
		SELECT CASE WHEN isfinite(j.scheduled_at) THEN j.scheduled_at END FROM lastseat.river_job j
		WHERE j.state = 'available' AND j.queue = @queue AND j.scheduled_at <= now()`
	reachedOrderSQL = `
		ORDER BY j.priority, j.scheduled_at, j.id
		LIMIT 1
		FOR UPDATE SKIP LOCKED
	), now())`
)

// sweep has the sweepers take care of what has run out, if it is time to. An error of theirs is logged and holds nobody up.
func (l *lane) sweep(ctx, stop context.Context) error {
	if len(l.kinds.sweepers) == 0 || time.Now().Before(l.nextSweep) {
		return nil
	}
	more, err := l.sweepOnce(ctx)
	for try := 0; conflict(err) && try < l.settings.TxRetries && stop.Err() == nil; try++ {
		l.stats.conflicts.Add(1)
		sleep(stop, jitter(shortestBackoff<<try))
		more, err = l.sweepOnce(ctx)
	}
	l.nextSweep = time.Now()
	if !more {
		l.nextSweep = l.nextSweep.Add(sweepInterval)
	}
	switch {
	case err == nil:
		return nil
	case l.conn.IsClosed() || ctx.Err() != nil || sqlState(err) == stateReadOnly:
		return err
	}
	l.log.ErrorContext(ctx, "what has run out could not be swept", slog.String("error", err.Error()))
	return nil
}

// swept tells whether a lane that is drained has swept once more since.
func (l *lane) swept() bool {
	if len(l.kinds.sweepers) == 0 {
		return true
	}
	if !l.lastSweep {
		l.lastSweep, l.nextSweep = true, time.Time{}
		return false
	}
	return time.Now().Before(l.nextSweep)
}

// sweepOnce sweeps once, in a transaction of its own. more: there may be more to do.
func (l *lane) sweepOnce(ctx context.Context) (more bool, err error) {
	tx, err := l.begin(ctx)
	if err != nil {
		return false, err
	}
	defer func() { _ = tx.Rollback(context.WithoutCancel(ctx)) }()
	sweep := Sweep{Limit: sweepLimit, Lane: l.number, Lanes: l.settings.Lanes, Write: &pgx.Batch{}}
	sql := reachedSQL + reachedOrderSQL
	if l.settings.Lanes > 1 {
		sql = reachedSQL + laneFilterSQL + reachedOrderSQL
	}
	if err := tx.QueryRow(ctx, sql, l.claimArgs(1)).Scan(&sweep.Now, &sweep.Until); err != nil {
		return false, fmt.Errorf("look how far the lane is: %w", err)
	}
	swept := 0
	for _, sweeper := range l.kinds.sweepers {
		n, err := callSweeper(ctx, sweeper, tx, sweep)
		if err != nil {
			return false, fmt.Errorf("sweep: %w", err)
		}
		swept += n
		more = more || n >= sweep.Limit
	}
	if swept == 0 {
		return false, nil
	}
	sweep.Write.Queue("SELECT pg_notify($1, $2)", outcomeChannel, l.settings.Queue)
	if err := tx.SendBatch(ctx, sweep.Write).Close(); err != nil {
		return false, fmt.Errorf("sweep: %w", err)
	}
	if err := Commit(ctx, tx); err != nil {
		return false, fmt.Errorf("commit a sweep: %w", err)
	}
	l.stats.swept.Add(int64(swept))
	return more, nil
}

func callSweeper(ctx context.Context, sweeper Sweeper, tx pgx.Tx, sweep Sweep) (n int, err error) {
	defer recovered(&err)
	return sweeper.Sweep(ctx, tx, sweep)
}
