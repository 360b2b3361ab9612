package outbox

import (
	"context"
	"fmt"
	"log/slog"
	"time"

	"github.com/jackc/pgx/v5/pgtype"
)

// scheduleInterval is how often a lane looks for scheduled jobs and retries that have come due.
const scheduleInterval = time.Second

// scheduleLimit is how many jobs of one state and priority a look makes available; the next look takes more.
const scheduleLimit = 5000

// scheduleSQL makes the due jobs of the queue available, as River's scheduler does. The lane does it itself, because
// River's scheduler reads whole rows: one row with a NULL inside of an array stops it for every queue of the schema.
// This reads no column that a client could have spoilt. It finds the jobs by the whole of River's fetching index. A
// job with a unique key is left to River, which knows what to do if the key is taken meanwhile.
const scheduleSQL = `
	WITH due AS MATERIALIZED (
		SELECT d.row
		FROM unnest('{scheduled,retryable}'::lastseat.river_job_state[]) AS s(state), generate_series(1, 4) AS p(priority),
		     LATERAL (SELECT j.ctid AS row FROM lastseat.river_job j
		              WHERE j.state = s.state AND j.queue = @queue AND j.priority = p.priority AND j.scheduled_at <= now()
		                AND j.unique_key IS NULL
		              ORDER BY j.scheduled_at, j.id LIMIT @limit FOR UPDATE SKIP LOCKED) d
	), made AS (
		UPDATE lastseat.river_job j SET state = 'available' FROM due WHERE j.ctid = due.row RETURNING j.scheduled_at
	)
	SELECT count(*), min(scheduled_at) FROM made`

// schedule makes due jobs available, if it is time to look. made: there were some. An error that leaves the
// connection alive is logged and holds nobody up.
func (l *lane) schedule(ctx context.Context) (made bool, err error) {
	if time.Now().Before(l.nextSchedule) {
		return false, nil
	}
	l.nextSchedule = time.Now().Add(scheduleInterval)
	var n int
	var first pgtype.Timestamptz
	err = l.conn.QueryRow(ctx, scheduleSQL, l.args(scheduleLimit)).Scan(&n, &first)
	if err == nil { // claims may have begun at a later time
		for i := range l.bound.since {
			l.bound.lower(i, first)
		}
		return n > 0, nil
	}
	if l.lost() || ctx.Err() != nil {
		return false, fmt.Errorf("schedule: %w", err)
	}
	l.log.WarnContext(ctx, "scheduled jobs that are due could not be made available",
		slog.Duration("pause", scheduleInterval), slog.String("error", err.Error()))
	return false, nil
}
