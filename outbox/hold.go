package outbox

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/jackc/pgx/v5"
)

// take takes the lane, or stands by for a while. done: there is nothing left to drain.
func (l *lane) take(ctx, stop context.Context, drain bool) (held, done bool, err error) {
	if held, err = l.hold(ctx); err != nil {
		return false, false, err
	}
	if held {
		l.log.InfoContext(ctx, "lane taken")
		return true, false, l.recordOverdue(ctx)
	}
	done, err = l.standby(ctx, stop, drain)
	return false, done, err
}

// hold takes the lane's lock if it is free. A session lock, taken before any transaction begins: a transaction's
// snapshot is then younger than the lock, and sees all that the last holder did.
func (l *lane) hold(ctx context.Context) (bool, error) {
	var held bool
	err := l.conn.QueryRow(ctx, `SELECT pg_try_advisory_lock(lastseat.lane_lock($1, $2, $3))`,
		l.settings.Queue, l.number, l.settings.Lanes).Scan(&held)
	if err != nil {
		return false, fmt.Errorf("take the lane: %w", err)
	}
	if !held {
		return false, nil
	}
	return l.agree(ctx)
}

// otherLanesSQL finds a lane that is held by a worker with another number of lanes, 64 at most.
const otherLanesSQL = `
	SELECT coalesce((SELECT lanes FROM pg_locks k
	                 JOIN generate_series(1, 64) lanes ON lanes <> $2
	                 JOIN LATERAL generate_series(0, lanes - 1) lane ON lastseat.lane_lock($1, lane, lanes) = (k.classid::bigint << 32 | k.objid::bigint)
	                 WHERE k.locktype = 'advisory' AND k.granted AND k.objsubid = 1
	                   AND k.database = (SELECT oid FROM pg_database WHERE datname = current_database()) LIMIT 1), 0)`

// agree gives the lane back if another worker splits the queue into another number of lanes: the two would settle the
// same jobs, and the order would be gone. Who comes second waits; when the lanes of the first are free, it goes on.
func (l *lane) agree(ctx context.Context) (held bool, err error) {
	var others int
	if err := l.conn.QueryRow(ctx, otherLanesSQL, l.settings.Queue, l.settings.Lanes).Scan(&others); err != nil {
		return false, fmt.Errorf("look for other lanes: %w", err)
	}
	if others == 0 {
		return true, nil
	}
	l.log.WarnContext(ctx, "waiting: another worker splits the queue into another number of lanes", slog.Int("lanes", l.settings.Lanes), slog.Int("others", others))
	_, err = l.conn.Exec(ctx, `SELECT pg_advisory_unlock(lastseat.lane_lock($1, $2, $3))`, l.settings.Queue, l.number, l.settings.Lanes)
	// not in step with the other one, which may have given way too
	time.Sleep(jitter(standbyInterval))
	return false, err
}

// standby waits for another worker's lane, and is done when that worker has drained it. It asks again and again, for a
// session that waits for a lock keeps a snapshot, and with it every dead row of the database.
func (l *lane) standby(ctx, stop context.Context, drain bool) (done bool, err error) {
	if drain {
		due, err := l.due(ctx)
		if err != nil || !due {
			return !due, err
		}
	}
	if l.waits++; l.waits%50 == 0 {
		if err := l.warnOfStranger(ctx); err != nil {
			return false, err
		}
	}
	sleep(stop, standbyInterval)
	return false, nil
}

const strangerSQL = `
	SELECT a.pid, coalesce(a.usename, ''), coalesce(a.application_name, '') FROM pg_locks k JOIN pg_stat_activity a ON a.pid = k.pid
	WHERE k.locktype = 'advisory' AND k.granted AND k.objsubid = 1 AND k.database = (SELECT oid FROM pg_database WHERE datname = current_database())
	  AND (k.classid::bigint << 32 | k.objid::bigint) = lastseat.lane_lock($1, $2, $3) AND a.application_name <> 'lastseat lane'`

// warnOfStranger: any session may take an advisory lock. One that has the lane's and is no worker stops all work.
func (l *lane) warnOfStranger(ctx context.Context) error {
	var pid int
	var role, application string
	err := l.conn.QueryRow(ctx, strangerSQL, l.settings.Queue, l.number, l.settings.Lanes).Scan(&pid, &role, &application)
	if errors.Is(err, pgx.ErrNoRows) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("look who holds the lane: %w", err)
	}
	l.log.WarnContext(ctx, "the lane's lock is held by a session that is no worker", slog.Int("pid", pid), slog.String("role", role), slog.String("application", application))
	return nil
}
