package outbox

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/lastseat/lastseat/internal/faultpoint"
	"github.com/lastseat/lastseat/internal/retry"
)

const (
	// standbyInterval is the pause between two tries to take a lane that another worker holds.
	standbyInterval = 100 * time.Millisecond
	// sayInterval is how often the lane repeats what it waits for.
	sayInterval = time.Minute
)

// acquire waits for the lane. held is false if the worker is stopped, or if there is nothing left to drain.
func (l *lane) acquire(ctx, stop context.Context, drain bool) (held bool, err error) {
	for lingered := false; stop.Err() == nil; {
		held, err := l.take(ctx)
		if err != nil || held {
			return held, err
		}
		l.admitted = true
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

// take takes the lane if no other worker is to have it.
func (l *lane) take(ctx context.Context) (held bool, err error) {
	free, err := l.prefer(ctx)
	if err != nil || !free {
		return false, err
	}
	agreed, err := l.agree(ctx)
	if err != nil || !agreed {
		return false, err
	}
	held, err = l.takeRow(ctx)
	if held {
		l.waits, l.admitted, l.taken = 0, true, time.Now()
		l.lacking.forget()
		l.log.InfoContext(ctx, "lane taken")
	}
	return held, err
}

const (
	preferSQL   = `SELECT pg_try_advisory_lock(lastseat.lane_lock($1, $2, $3))`
	unpreferSQL = `SELECT pg_advisory_unlock(lastseat.lane_lock($1, $2, $3))`
)

// prefer says whether this session may try to take the lane. The lane's advisory lock is a preference: one session
// holds it and the others stand by, until Postgres frees it with the session. Any login can take an advisory lock, so
// it decides nothing: a session that is not a worker's is passed by.
func (l *lane) prefer(ctx context.Context) (free bool, err error) {
	if l.preferred || faultpoint.Sabotaged(faultpoint.NoLane) {
		return true, nil
	}
	err = l.conn.QueryRow(ctx, preferSQL, l.settings.Queue, l.number, l.settings.Lanes).Scan(&l.preferred)
	if err != nil {
		return false, fmt.Errorf("take the lane: %w", err)
	}
	if l.preferred || l.waits%10 != 0 {
		return l.preferred, nil
	}
	return l.passBy(ctx)
}

const (
	// keepersSQL finds the sessions that hold the lane's advisory lock. A prepared transaction has no session.
	keepersSQL = `
	SELECT coalesce(a.pid, 0), coalesce(a.usename, ''), coalesce(a.application_name, ''),
	       coalesce(a.application_name = '` + laneName + `' AND
	                pg_catalog.pg_has_role(a.usesysid, 'lastseat_worker', 'MEMBER'), false)
	FROM pg_locks k LEFT JOIN pg_stat_activity a ON a.pid = k.pid
	WHERE k.locktype = 'advisory' AND k.granted AND k.objsubid = 1
	  AND k.database = (SELECT oid FROM pg_database WHERE datname = current_database())
	  AND (k.classid::bigint << 32 | k.objid::bigint) = lastseat.lane_lock($1, $2, $3)`

	holderLivesSQL = `
	SELECT EXISTS (SELECT FROM lastseat.lanes l JOIN pg_stat_activity a ON a.pid = l.pid
	               WHERE l.queue = $1 AND l.lane = $2 AND a.pid <> pg_backend_pid() AND l.holder IS NOT NULL
	                 AND a.datname = current_database() AND a.application_name = '` + laneName + `'
	                 AND pg_catalog.pg_has_role(a.usesysid, 'lastseat_worker', 'MEMBER'))`
)

type keeper struct {
	pid               int
	role, application string
	worker            bool
}

// passBy looks who holds the lane's advisory lock. If no worker does, the lane may be taken without it, once the
// session of its last holder has ended.
func (l *lane) passBy(ctx context.Context) (free bool, err error) {
	rows, err := l.conn.Query(ctx, keepersSQL, l.settings.Queue, l.number, l.settings.Lanes)
	if err != nil {
		return false, fmt.Errorf("look for the holder of the lane: %w", err)
	}
	keepers, err := pgx.CollectRows(rows, func(row pgx.CollectableRow) (k keeper, err error) {
		return k, row.Scan(&k.pid, &k.role, &k.application, &k.worker)
	})
	if err != nil {
		return false, fmt.Errorf("look for the holder of the lane: %w", err)
	}
	free = len(keepers) > 0
	for _, k := range keepers {
		if !k.worker && l.mayRepeat("stranger") {
			l.log.WarnContext(ctx, "the lane's lock is held by a session that is no worker",
				slog.Int("pid", k.pid), slog.String("role", k.role), slog.String("application", k.application))
		}
		free = free && !k.worker
	}
	if !free {
		return false, nil
	}
	var lives bool
	if err := l.conn.QueryRow(ctx, holderLivesSQL, l.settings.Queue, l.number).Scan(&lives); err != nil {
		return false, fmt.Errorf("look for the holder of the lane: %w", err)
	}
	return !lives, nil
}

// mayRepeat tells whether something may be logged again.
func (l *lane) mayRepeat(what string) bool {
	if time.Since(l.said[what]) < sayInterval {
		return false
	}
	if l.said == nil {
		l.said = make(map[string]time.Time)
	}
	l.said[what] = time.Now()
	return true
}

// otherSplitSQL returns the number of lanes in the lane's row if it is another one, and whether a worker with that
// number lives.
const otherSplitSQL = `
	SELECT l.lanes, EXISTS (
		SELECT FROM pg_locks k JOIN pg_stat_activity a ON a.pid = k.pid
		JOIN generate_series(0, l.lanes - 1) lane
		  ON lastseat.lane_lock($1, lane, l.lanes) = (k.classid::bigint << 32 | k.objid::bigint)
		WHERE k.locktype = 'advisory' AND k.granted AND k.objsubid = 1
		  AND k.database = (SELECT oid FROM pg_database WHERE datname = current_database())
		  AND pg_catalog.pg_has_role(a.usesysid, 'lastseat_worker', 'MEMBER'))
	FROM lastseat.lanes l WHERE l.queue = $1 AND l.lanes <> $2 LIMIT 1`

// agree is false while another worker splits the queue into another number of lanes: both would settle the same jobs,
// and the order would be lost. This one waits until the other's sessions have ended.
func (l *lane) agree(ctx context.Context) (agreed bool, err error) {
	var others int
	var live bool
	err = l.conn.QueryRow(ctx, otherSplitSQL, l.settings.Queue, l.settings.Lanes).Scan(&others, &live)
	switch {
	case errors.Is(err, pgx.ErrNoRows):
		return true, nil
	case err != nil:
		return false, fmt.Errorf("look for other lanes: %w", err)
	case live && l.mayRepeat("split"):
		l.log.WarnContext(ctx, "waiting: another worker splits the queue into another number of lanes",
			slog.Int("lanes", l.settings.Lanes), slog.Int("others", others))
	}
	return !live, nil
}

// standby waits for another worker's lane, and is done when that worker has drained it. It asks again and again: a
// session that waits for a lock would hold a snapshot, and Postgres could remove no dead row of the database
// meanwhile.
func (l *lane) standby(ctx, stop context.Context, drain bool) (done bool, err error) {
	if drain {
		due, err := l.due(ctx, l.conn, newBound())
		if err != nil || !due {
			return !due, err
		}
	}
	l.waits++
	// At random, so that two workers that gave way to each other don't meet again.
	_ = retry.Sleep(stop, standbyInterval*3/4+retry.Jitter(standbyInterval/4))
	return false, nil
}
