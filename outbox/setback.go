package outbox

import (
	"context"
	"fmt"
	"log/slog"

	"github.com/jackc/pgx/v5/pgtype"
)

// aheadSQL moves available jobs to now whose time is still to come though they were asked for now: since then somebody
// has set the server's clock back, and they would wait until it has come so far again. Their order among each other
// stays, by their ids. River makes scheduled jobs available up to 5 s ahead of their time, so a smaller step back is
// waited for. A job that is scheduled for a time keeps that time: it was asked for in the past, and was neither tried
// nor has it called anybody yet. The clock may step in the middle of a transaction, after created_at was taken.
const aheadSQL = `
	WITH ahead AS MATERIALIZED (
		SELECT a.row FROM generate_series(1, 4) AS p(priority), LATERAL (
			SELECT j.ctid AS row FROM lastseat.river_job j
			WHERE j.state = 'available' AND j.queue = @queue AND j.priority = p.priority
			  AND j.scheduled_at > now() + interval '10 s'
			  AND (j.created_at > now() + interval '10 s' OR j.attempted_at IS NOT NULL
			    OR EXISTS (SELECT FROM lastseat.requests r WHERE r.key = j.args ->> 'key' AND r.job_id = j.id
			               AND r.requested_at > now() + interval '10 s' OFFSET 0)
			    OR EXISTS (SELECT FROM lastseat.calls c WHERE c.key = j.args ->> 'key' OFFSET 0))
			  AND j.id <> ALL (@apart::bigint[])
			ORDER BY j.scheduled_at, j.id LIMIT @limit FOR UPDATE SKIP LOCKED) a
	), moved AS (
		UPDATE lastseat.river_job j SET scheduled_at = now() FROM ahead WHERE j.ctid = ahead.row RETURNING j.scheduled_at
	)
	SELECT count(*), min(scheduled_at) FROM moved`

// takeBack looks for jobs that wait for a clock that was set back. An error that leaves the connection alive is logged
// and holds nobody up.
func (l *lane) takeBack(ctx context.Context) error {
	args := l.args(scheduleLimit)
	args["apart"] = l.keptApart()
	var n int64
	var first pgtype.Timestamptz
	switch err := l.conn.QueryRow(ctx, aheadSQL, args).Scan(&n, &first); {
	case err != nil && (l.lost() || ctx.Err() != nil):
		return fmt.Errorf("look for jobs from before the clock was set back: %w", err)
	case err != nil:
		if l.mayRepeat("set back") {
			l.log.WarnContext(ctx, "jobs from before the server's clock was set back wait for it",
				slog.String("error", err.Error()))
		}
		return nil
	}
	for i := range l.bound.since {
		l.bound.lower(i, first)
	}
	if n > 0 && l.mayRepeat("set back") {
		l.log.WarnContext(ctx, "the server's clock was set back: jobs from before that are settled now",
			slog.Int64("jobs", n))
	}
	return nil
}
