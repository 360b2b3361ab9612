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

// A lane that is behind says so in one line: which job has waited longest, how many are behind it, and why.

const (
	// behindAfter is how long the first due job has waited where the lane is behind.
	behindAfter = 5 * time.Second
	// behindInterval is how often the lane looks at its first due job.
	behindInterval = time.Second
	// behindSaidAgain is how often the log has a line about it.
	behindSaidAgain = 10 * time.Second
	// mostBehind is how many jobs are counted behind the first one.
	mostBehind = 10_000
)

// behind is what the lane knows of how late it is.
type behind struct {
	next    time.Time // when it looks again
	since   time.Time // when it was found to be behind; zero: it is not
	said    time.Time // when the log last said so
	settled int       // jobs since then, or since the last look that found it up to date
	blind   time.Time // since when the first job can't be read; zero: it can
}

// head is the first due job of the lane, whether it can be claimed or not.
type head struct {
	place
	row       string // where it stands in the table: no statistics keep the planner from that
	kind, key string
	waited    time.Duration
	paused    bool // the queue is
}

const (
	// firstJobSQL reads nothing that a client may have spoilt; the time is bounded because a client may have set it.
	firstJobSQL = `
	SELECT j.priority, j.scheduled_at, j.id, j.ctid::text, j.kind,
	       CASE WHEN isfinite(greatest(j.scheduled_at, j.created_at))
	            THEN least(extract(epoch FROM now() - greatest(j.scheduled_at, j.created_at)), 1e9) ELSE 0 END::float8,
	       EXISTS (SELECT FROM lastseat.river_queue q WHERE q.name = @queue AND q.paused_at IS NOT NULL)
	FROM lastseat.river_job j
	WHERE j.state = 'available' AND j.queue = @queue AND j.scheduled_at <= now()`
	firstJobOrderSQL = `
	ORDER BY j.priority, j.scheduled_at, j.id LIMIT 1`

	firstJobKeySQL = `
	SELECT coalesce(j.args ->> 'key', '') FROM lastseat.river_job j WHERE j.ctid = $1::text::tid AND j.id = $2`

	// countBehindSQL counts the lane's jobs among the next ones of the queue.
	countBehindSQL = `
	SELECT count(*) FROM (
		SELECT j.id, j.kind, j.args FROM lastseat.river_job j
		WHERE j.state = 'available' AND j.queue = @queue AND j.scheduled_at <= now()
		  AND (j.priority, j.scheduled_at, j.id) > (@priority::smallint, @at::timestamptz, @id::bigint)
		ORDER BY j.priority, j.scheduled_at, j.id LIMIT @limit
	) j WHERE true`

	// tableLocksSQL finds the sessions that keep others from writing to a table of ours.
	tableLocksSQL = `
	SELECT c.relname, a.pid, coalesce(a.usename, ''), coalesce(a.application_name, ''), coalesce(a.state, ''),
	       coalesce(a.query, ''), pg_has_role('pg_read_all_stats', 'USAGE') OR a.usename = current_user
	FROM pg_class c JOIN pg_locks k ON k.relation = c.oid JOIN pg_stat_activity a ON a.pid = k.pid
	WHERE c.relnamespace = 'lastseat'::regnamespace AND c.relkind = 'r' AND k.locktype = 'relation' AND k.granted
	  AND k.mode IN ('ShareLock', 'ShareRowExclusiveLock', 'ExclusiveLock', 'AccessExclusiveLock')
	  AND k.database = (SELECT oid FROM pg_database WHERE datname = current_database()) AND k.pid <> pg_backend_pid()
	ORDER BY a.pid, c.relname LIMIT 100`
)

// sayBehind says that the lane is behind, or that it has caught up, if it is time to look. An error that leaves the
// connection alive holds nobody up.
func (l *lane) sayBehind(ctx context.Context) error {
	b := &l.behind
	if time.Now().Before(b.next) {
		return nil
	}
	began := time.Now()
	first, err := l.head(ctx)
	switch {
	case err != nil && (l.lost() || ctx.Err() != nil):
		return fmt.Errorf("look at the first job: %w", err)
	case retry.SQLState(err) == stateLockTimeout:
		l.sayLockedOut(ctx)
	case err != nil:
		l.log.DebugContext(ctx, "can't look at the first job", slog.String("error", err.Error()))
	case first == nil || first.waited < behindAfter:
		l.caughtUp(ctx)
	default:
		b.blind = time.Time{}
		l.lagging(ctx, first)
	}
	b.next = time.Now().Add(max(behindInterval, 10*time.Since(began)))
	return nil
}

// head is the first due job of the lane; nil: none is due.
func (l *lane) head(ctx context.Context) (*head, error) {
	first, seconds := &head{}, 0.0
	err := l.conn.QueryRow(ctx, firstJobSQL+l.filterSQL()+firstJobOrderSQL, l.args(1)).Scan(
		&first.priority, &first.at, &first.id, &first.row, &first.kind, &seconds, &first.paused)
	if errors.Is(err, pgx.ErrNoRows) {
		return nil, nil
	}
	first.waited = time.Duration(seconds * float64(time.Second))
	return first, err
}

func (l *lane) caughtUp(ctx context.Context) {
	b := &l.behind
	if b.said.After(b.since) && !b.since.IsZero() {
		l.log.InfoContext(ctx, "the lane has caught up", slog.Int("settled", b.settled),
			slog.Duration("duration", time.Since(b.since).Round(time.Millisecond)))
	}
	*b = behind{said: b.said}
}

// lagging says what waits at the head of the lane, and why, from the second look on: by then the lane has met what
// holds it up.
func (l *lane) lagging(ctx context.Context, first *head) {
	b := &l.behind
	if b.since.IsZero() {
		b.since = time.Now()
		return
	}
	if time.Since(b.said) < behindSaidAgain {
		return
	}
	args := l.args(mostBehind)
	args["priority"], args["at"], args["id"] = first.priority, first.at, first.id
	var after int
	if err := l.conn.QueryRow(ctx, countBehindSQL+l.filterSQL(), args).Scan(&after); err != nil {
		l.log.DebugContext(ctx, "can't count the jobs that wait", slog.String("error", err.Error()))
	}
	err := l.conn.QueryRow(ctx, firstJobKeySQL, first.row, first.id).Scan(&first.key)
	if err != nil { // it is settled by now, or damaged
		first.key = fmt.Sprintf("river_job:%d", first.id)
	}
	reason, more := l.reason(ctx, first)
	l.log.LogAttrs(ctx, slog.LevelWarn, "the lane is behind", append([]slog.Attr{
		slog.Int64("job_id", first.id), slog.String("kind", first.kind), slog.String("key", first.key),
		slog.Duration("duration", first.waited.Round(time.Millisecond)), slog.Int("behind", after),
		slog.Int("settled", b.settled), slog.String("reason", reason),
	}, more...)...)
	b.said, b.settled = time.Now(), 0
}

// reason is why the first job of the lane waits, and who makes it wait.
func (l *lane) reason(ctx context.Context, first *head) (reason string, more []slog.Attr) {
	if first.paused {
		return "the queue is paused", nil
	}
	if row := l.waiting.rowOf(first.id); row != nil {
		return "another session has locked a row that the job needs", l.lockedBy(ctx, *row)
	}
	job := Row{Table: "lastseat.river_job", Columns: []string{"id"}, Values: []string{fmt.Sprint(first.id)},
		place: first.row}
	if who, err := l.holders(ctx, job); err == nil && len(who) > 0 {
		return "another session has locked the job", attributes(who)
	}
	if table, who := l.tableLocks(ctx); len(who) > 0 {
		return "another session has locked a table", append([]slog.Attr{slog.String("table", table)}, attributes(who)...)
	}
	switch {
	case l.suspicion.culprit != nil || l.suspicion.among > 0:
		return "the lane looks for a job that fails", []slog.Attr{slog.Int("among", max(1, l.suspicion.among))}
	case l.caution.left > 0:
		return "the last worker ended without leaving the lane: small batches first", nil
	case l.pace.tries > 0:
		return "conflicts with other sessions", nil
	}
	return "more is due than could be settled so far", nil
}

// lockedBy are the attributes of a locked row and of who has it locked.
func (l *lane) lockedBy(ctx context.Context, row Row) []slog.Attr {
	who, err := l.holders(ctx, row)
	if err != nil {
		l.log.DebugContext(ctx, "can't find out who has a row locked", slog.String("error", err.Error()))
	}
	return append([]slog.Attr{slog.String("row", row.String())}, attributes(who)...)
}

// tableLocks are the sessions that keep the lane from writing to a table, and the first of these tables.
func (l *lane) tableLocks(ctx context.Context) (table string, who []holder) {
	rows, err := l.conn.Query(ctx, tableLocksSQL)
	if err == nil {
		var name string
		var h holder
		_, err = pgx.ForEachRow(rows, []any{
			&name, &h.pid, &h.role, &h.application, &h.state, &h.statement, &h.visible,
		}, func() error {
			if len(who) == 0 {
				table = "lastseat." + name
			}
			if len(who) == 0 || who[len(who)-1].pid != h.pid {
				who = append(who, h)
			}
			return nil
		})
	}
	if err != nil {
		l.log.DebugContext(ctx, "can't find out who has a table locked", slog.String("error", err.Error()))
	}
	return table, who
}

// sayLockedOut says who keeps the lane from reading its jobs, once that has gone on for a while.
func (l *lane) sayLockedOut(ctx context.Context) {
	b := &l.behind
	if b.blind.IsZero() {
		b.blind = time.Now()
	}
	waited := time.Since(b.blind)
	if waited < behindAfter || time.Since(b.said) < behindSaidAgain {
		return
	}
	table, who := l.tableLocks(ctx)
	if b.since.IsZero() {
		b.since = b.blind
	}
	b.said = time.Now()
	l.log.LogAttrs(ctx, slog.LevelWarn, "the lane is behind", append([]slog.Attr{
		slog.Duration("duration", waited.Round(time.Millisecond)),
		slog.String("reason", "another session has locked a table"), slog.String("table", table),
	}, attributes(who)...)...)
}
