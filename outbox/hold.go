package outbox

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/lastseat/lastseat/internal/retry"
)

// standbyInterval is the pause between two tries to take a lane that another worker holds.
const standbyInterval = 100 * time.Millisecond

// acquire waits for the lane. held is false if the worker is stopped, or if there is nothing left to drain.
func (l *lane) acquire(ctx, stop context.Context, drain bool) (held bool, err error) {
	for lingered := false; stop.Err() == nil; {
		held, err := l.take(ctx, stop)
		if err != nil || held {
			return held, err
		}
		done, err := l.standby(ctx, stop, drain)
		if err != nil {
			return false, err
		}
		if !done {
			continue
		}
		// The holder of the lane sweeps it; unless that session is just about to end.
		if lingered || len(l.sweeps) == 0 {
			return false, nil
		}
		lingered = true
		_ = retry.Sleep(stop, standbyInterval)
	}
	return false, nil
}

const (
	takeLaneSQL  = `SELECT pg_try_advisory_lock(lastseat.lane_lock($1, $2, $3))`
	leaveLaneSQL = `SELECT pg_advisory_unlock(lastseat.lane_lock($1, $2, $3))`
)

// take takes the lane's lock if it is free. It is a session lock, taken before any transaction begins: so the
// snapshot of every transaction is younger than the lock, and shows all that the last holder did.
func (l *lane) take(ctx, stop context.Context) (held bool, err error) {
	err = l.conn.QueryRow(ctx, takeLaneSQL, l.settings.Queue, l.number, l.settings.Lanes).Scan(&held)
	if err != nil {
		return false, fmt.Errorf("take the lane: %w", err)
	}
	if held {
		held, err = l.agree(ctx, stop)
	}
	if held {
		l.log.InfoContext(ctx, "lane taken")
	}
	return held, err
}

// otherLanesSQL finds a lane that is held by a worker with another number of lanes, 64 at most.
const otherLanesSQL = `
	SELECT coalesce((
		SELECT lanes FROM pg_locks k
		JOIN generate_series(1, 64) lanes ON lanes <> $2
		JOIN LATERAL generate_series(0, lanes - 1) lane
		  ON lastseat.lane_lock($1, lane, lanes) = (k.classid::bigint << 32 | k.objid::bigint)
		WHERE k.locktype = 'advisory' AND k.granted AND k.objsubid = 1
		  AND k.database = (SELECT oid FROM pg_database WHERE datname = current_database()) LIMIT 1), 0)`

// agree gives the lane back if another worker splits the queue into another number of lanes: both would settle the
// same jobs, and the order would be lost. The second worker waits until the lanes of the first are free.
func (l *lane) agree(ctx, stop context.Context) (held bool, err error) {
	var others int
	if err := l.conn.QueryRow(ctx, otherLanesSQL, l.settings.Queue, l.settings.Lanes).Scan(&others); err != nil {
		return false, fmt.Errorf("look for other lanes: %w", err)
	}
	if others == 0 {
		return true, nil
	}
	l.log.WarnContext(ctx, "waiting: another worker splits the queue into another number of lanes",
		slog.Int("lanes", l.settings.Lanes), slog.Int("others", others))
	if _, err := l.conn.Exec(ctx, leaveLaneSQL, l.settings.Queue, l.number, l.settings.Lanes); err != nil {
		return false, fmt.Errorf("leave the lane: %w", err)
	}
	// At random, so that two workers that gave way to each other don't meet again.
	_ = retry.Sleep(stop, retry.Jitter(standbyInterval))
	return false, nil
}

// standby waits for another worker's lane, and is done when that worker has drained it. It asks again and again: a
// session that waits for a lock would hold a snapshot, and Postgres could remove no dead row of the database
// meanwhile.
func (l *lane) standby(ctx, stop context.Context, drain bool) (done bool, err error) {
	if drain {
		due, err := l.due(ctx, l.conn)
		if err != nil || !due {
			return !due, err
		}
	}
	if l.waits++; l.waits%50 == 0 {
		if err := l.warnOfStranger(ctx); err != nil {
			return false, err
		}
	}
	_ = retry.Sleep(stop, standbyInterval)
	return false, nil
}

const strangerSQL = `
	SELECT a.pid, coalesce(a.usename, ''), coalesce(a.application_name, '')
	FROM pg_locks k JOIN pg_stat_activity a ON a.pid = k.pid
	WHERE k.locktype = 'advisory' AND k.granted AND k.objsubid = 1
	  AND k.database = (SELECT oid FROM pg_database WHERE datname = current_database())
	  AND (k.classid::bigint << 32 | k.objid::bigint) = lastseat.lane_lock($1, $2, $3)
	  AND a.application_name <> 'lastseat lane'`

// warnOfStranger logs which session holds the lane's lock if that is no worker. Any session may take an advisory lock,
// and with this one it stops all work.
func (l *lane) warnOfStranger(ctx context.Context) error {
	var pid int
	var role, application string
	err := l.conn.QueryRow(ctx, strangerSQL, l.settings.Queue, l.number, l.settings.Lanes).Scan(&pid, &role, &application)
	if errors.Is(err, pgx.ErrNoRows) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("look for the holder of the lane: %w", err)
	}
	l.log.WarnContext(ctx, "the lane's lock is held by a session that is no worker",
		slog.Int("pid", pid), slog.String("role", role), slog.String("application", application))
	return nil
}
