package outbox

import (
	"context"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgtype"
)

// scheduleInterval is how often a lane looks for scheduled jobs and retries that have come due.
const scheduleInterval = time.Second

// scheduleLimit is how many jobs of one state and priority a look makes available; the next look takes more.
const scheduleLimit = 5000

const (
	// mostRefused is how many jobs whose rows refuse to be made available a lane keeps apart, and for how long.
	mostRefused   = 100
	refusedJobFor = time.Minute
)

const (
	// scheduleSQL makes the due jobs of the queue available, as River's scheduler does. The lane does it itself, because
	// River's scheduler reads whole rows: one row with a NULL inside of an array stops it for every queue of the schema.
	// This reads no column that a client could have spoilt. It finds the jobs by the whole of River's fetching index. A
	// job with a unique key is left to River, which knows what to do if the key is taken meanwhile.
	scheduleSQL = `
	WITH due AS MATERIALIZED (` + comeDueSQL + ` FOR UPDATE SKIP LOCKED) d
	), made AS (
		UPDATE lastseat.river_job j SET state = 'available' FROM due WHERE j.ctid = due.row RETURNING j.scheduled_at
	)
	SELECT count(*), min(scheduled_at) FROM made`

	comeDueSQL = `
		SELECT d.id, d.row
		FROM unnest('{scheduled,retryable}'::lastseat.river_job_state[]) AS s(state), generate_series(1, 4) AS p(priority),
		     LATERAL (SELECT j.id, j.ctid AS row FROM lastseat.river_job j
		              WHERE j.state = s.state AND j.queue = @queue AND j.priority = p.priority AND j.scheduled_at <= now()
		                AND j.unique_key IS NULL AND j.id <> ALL (@apart::bigint[])
		              ORDER BY j.scheduled_at, j.id LIMIT @limit`

	// scheduleRowsSQL does so with the rows at these places, if they are still due.
	scheduleRowsSQL = `
	WITH due AS MATERIALIZED (
		SELECT j.ctid AS row FROM lastseat.river_job j
		WHERE j.ctid = ANY ($2::text[]::tid[]) AND j.state IN ('scheduled', 'retryable') AND j.queue = $1
		  AND j.scheduled_at <= now() AND j.unique_key IS NULL
		FOR UPDATE SKIP LOCKED
	)
	UPDATE lastseat.river_job j SET state = 'available' FROM due WHERE j.ctid = due.row`
)

// schedule makes due jobs available, if it is time to look. made: there were some. An error that leaves the
// connection alive is logged and holds nobody up.
func (l *lane) schedule(ctx context.Context) (made bool, err error) {
	if time.Now().Before(l.nextSchedule) {
		return false, nil
	}
	l.nextSchedule = time.Now().Add(scheduleInterval)
	maps.DeleteFunc(l.refusedJobs, func(_ int64, until time.Time) bool { return time.Now().After(until) })
	if err := l.takeBack(ctx); err != nil {
		return false, err
	}
	args := l.args(scheduleLimit)
	args["apart"] = l.keptApart()
	var n int64
	var first pgtype.Timestamptz
	err = l.conn.QueryRow(ctx, scheduleSQL, args).Scan(&n, &first)
	if err == nil { // claims may have begun at a later time
		for i := range l.bound.since {
			l.bound.lower(i, first)
		}
		return n > 0, nil
	}
	if !l.lost() && refused(err) && len(l.refusedJobs) < mostRefused {
		if n, err = l.scheduleOthers(ctx, args); n > 0 {
			l.bound = newBound()
		}
	}
	switch {
	case err == nil:
	case l.lost() || ctx.Err() != nil:
		return false, fmt.Errorf("schedule: %w", err)
	default:
		l.log.WarnContext(ctx, "scheduled jobs that are due could not be made available",
			slog.Duration("pause", scheduleInterval), slog.String("error", err.Error()))
	}
	return n > 0, nil
}

// keptApart are the jobs that the lane does not try to make available for now.
func (l *lane) keptApart() []int64 {
	return slices.AppendSeq(make([]int64, 0, len(l.refusedJobs)), maps.Keys(l.refusedJobs))
}

// comeDue is a job that has come due: its id, and its place in the table.
type comeDue struct {
	id  int64
	row string
}

// scheduleOthers makes available what can be, where a row refuses it, and names those that do. It counts jobs.
func (l *lane) scheduleOthers(ctx context.Context, args pgx.NamedArgs) (made int64, err error) {
	rows, err := l.conn.Query(ctx, `SELECT c.id, c.row::text FROM (`+comeDueSQL+`) d) c`, args)
	if err != nil {
		return 0, err
	}
	due, err := pgx.CollectRows(rows, func(row pgx.CollectableRow) (d comeDue, err error) {
		return d, row.Scan(&d.id, &d.row)
	})
	if err != nil {
		return 0, err
	}
	return l.scheduleHalves(ctx, due)
}

// scheduleHalves makes jobs available; if a row refuses that, first one half and then the other.
func (l *lane) scheduleHalves(ctx context.Context, due []comeDue) (made int64, err error) {
	if len(due) == 0 || len(l.refusedJobs) >= mostRefused {
		return 0, nil
	}
	places := make([]string, len(due))
	for i, d := range due {
		places[i] = d.row
	}
	tag, err := l.conn.Exec(ctx, scheduleRowsSQL, l.settings.Queue, places)
	switch {
	case err == nil:
		return tag.RowsAffected(), nil
	case l.lost() || ctx.Err() != nil || !refused(err):
		return 0, err
	case len(due) == 1:
		l.refuseJob(ctx, due[0].id, err)
		return 0, nil
	}
	half := len(due) / 2
	made, err = l.scheduleHalves(ctx, due[:half])
	if err != nil {
		return made, err
	}
	more, err := l.scheduleHalves(ctx, due[half:])
	return made + more, err
}

// refuseJob has the lane leave a job as it is for a while.
func (l *lane) refuseJob(ctx context.Context, id int64, err error) {
	if l.refusedJobs == nil {
		l.refusedJobs = make(map[int64]time.Time)
	}
	l.refusedJobs[id] = time.Now().Add(refusedJobFor)
	l.log.ErrorContext(ctx, "a job that has come due can't be made available: its row refuses it",
		slog.Int64("job_id", id), slog.Duration("pause", refusedJobFor), slog.String("error", err.Error()))
}
