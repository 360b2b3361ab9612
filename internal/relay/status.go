package relay

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/lastseat/lastseat/outbox"
)

// Status is what a relay's row says. Times are UTC.
type Status struct {
	Name            string     `json:"name"`
	Running         bool       `json:"running"` // a process serves it
	Cursor          string     `json:"cursor"`
	Delivered       int64      `json:"delivered"` // outcomes that the target has acknowledged, repeats included
	DeliveredAt     *time.Time `json:"delivered_at"`
	Lag             Lag        `json:"lag"`
	Failures        int        `json:"failures"` // in a row
	FailingSince    *time.Time `json:"failing_since"`
	RetryAt         *time.Time `json:"retry_at"`
	LastError       string     `json:"last_error"`
	FailedAt        *time.Time `json:"failed_at"`
	DisabledAt      *time.Time `json:"disabled_at"`
	DisabledBecause string     `json:"disabled_because"`
}

// Lag is what is settled and was not delivered yet.
type Lag struct {
	Outcomes int64   `json:"outcomes"`
	Seconds  float64 `json:"seconds"` // since the first of them was settled
}

// String is a line for people.
func (s Status) String() string {
	state := "stopped"
	switch {
	case s.DisabledAt != nil:
		state = "disabled"
	case s.Running && s.Failures > 0:
		state = "failing"
	case s.Running:
		state = "running"
	}
	text := fmt.Sprintf("%-8s  %s  %d delivered, %d to go", state, printable(s.Name), s.Delivered, s.Lag.Outcomes)
	if s.Lag.Outcomes > 0 {
		text += fmt.Sprintf(", the oldest settled %.1f s ago", s.Lag.Seconds)
	}
	if s.Failures > 0 {
		text += fmt.Sprintf("; failed %d times in a row", s.Failures)
	}
	if s.LastError != "" && s.FailedAt != nil {
		text += fmt.Sprintf("; last error at %s: %s", s.FailedAt.Format(time.RFC3339), printable(s.LastError))
	}
	return text
}

// printable quotes a text that might take a line of its own, or move a terminal's cursor.
func printable(text string) string {
	if quoted := strconv.Quote(text); quoted != `"`+text+`"` {
		return quoted
	}
	return text
}

const statusSQL = `
	SELECT r.name, r.cursor, r.delivered, r.delivered_at, r.failures, r.failing_since, r.retry_at,
	       coalesce(r.last_error, ''), r.failed_at, r.disabled_at, coalesce(r.disabled_because, ''),
	       r.holder IS NOT NULL AND r.seen_at >= clock_timestamp() - @lease::interval
	         AND EXISTS (SELECT FROM pg_stat_activity a WHERE a.application_name = @prefix || r.holder)
	FROM lastseat.relays r ORDER BY r.name`

// List returns the relays of a database, by their names. The right to read the tables is enough.
func List(ctx context.Context, db DB) ([]Status, error) {
	rows, err := db.Query(ctx, statusSQL, pgx.NamedArgs{"lease": Lease, "prefix": SessionPrefix})
	if err != nil {
		return nil, fmt.Errorf("read the relays: %w", err)
	}
	all, err := pgx.CollectRows(rows, func(row pgx.CollectableRow) (s Status, err error) {
		err = row.Scan(&s.Name, &s.Cursor, &s.Delivered, &s.DeliveredAt, &s.Failures, &s.FailingSince, &s.RetryAt,
			&s.LastError, &s.FailedAt, &s.DisabledAt, &s.DisabledBecause, &s.Running)
		for _, at := range []*time.Time{s.DeliveredAt, s.FailingSince, s.RetryAt, s.FailedAt, s.DisabledAt} {
			if at != nil {
				*at = at.UTC()
			}
		}
		return s, err
	})
	if err != nil {
		return nil, fmt.Errorf("read the relays: %w", err)
	}
	for i := range all {
		if all[i].Lag, err = lagBehind(ctx, db, all[i].Cursor); err != nil {
			return nil, err
		}
	}
	return all, nil
}

// lagSQL counts what the log has behind a cursor. That of a timeline that is unknown here is behind all.
const lagSQL = `
	WITH at AS (
		SELECT coalesce((SELECT t.number FROM lastseat.timelines t WHERE t.token = split_part($1, '.', 1)), 0) AS timeline,
		       coalesce(nullif(split_part($1, '.', 2), ''), '0')::xid8 AS xid,
		       coalesce(nullif(split_part($1, '.', 3), ''), '0')::bigint AS number,
		       coalesce(nullif(split_part($1, '.', 4), ''), '0')::bigint AS place)
	SELECT coalesce(sum(behind.n), 0)::bigint,
	       coalesce(extract(epoch FROM clock_timestamp() - min(behind.settled_at)), 0)::float8
	FROM at, LATERAL (
		SELECT l.settled_at, cardinality(l.keys) - CASE WHEN (l.timeline, l.xid, l.number)
		         = (at.timeline, at.xid, at.number) THEN least(at.place, cardinality(l.keys)) ELSE 0 END AS n
		FROM lastseat.outcome_log l WHERE (l.timeline, l.xid, l.number) >= (at.timeline, at.xid, at.number)) behind
	WHERE behind.n > 0`

func lagBehind(ctx context.Context, db DB, cursor string) (lag Lag, err error) {
	if err = db.QueryRow(ctx, lagSQL, cursor).Scan(&lag.Outcomes, &lag.Seconds); err != nil {
		return Lag{}, fmt.Errorf("read the relay's lag: %w", err)
	}
	lag.Seconds = max(lag.Seconds, 0) // the clock was set back
	return lag, nil
}

// ErrUnknownRelay says that the database has no relay of this name.
var ErrUnknownRelay = errors.New("there is no relay of this name")

const (
	resumeSQL = `
	UPDATE lastseat.relays
	SET epoch = epoch + 1, holder = NULL, disabled_at = NULL, disabled_because = NULL, failures = 0,
	    failing_since = NULL, retry_at = NULL
	WHERE name = $1`

	replaySQL = `
	UPDATE lastseat.relays
	SET epoch = epoch + 1, holder = NULL, disabled_at = NULL, disabled_because = NULL, failures = 0,
	    failing_since = NULL, retry_at = NULL, cursor = $2
	WHERE name = $1`

	cursorSinceSQL = `
	SELECT concat_ws('.', t.token, l.xid, l.number, 0)
	FROM lastseat.outcome_log l JOIN lastseat.timelines t ON t.number = l.timeline
	WHERE l.settled_at >= $1 ORDER BY l.timeline, l.xid, l.number LIMIT 1`
)

// Resume enables a target again, at its cursor.
func Resume(ctx context.Context, db DB, name string) error { return change(ctx, db, resumeSQL, name) }

// Replay sets the cursor of a relay, and enables its target again. Whoever serves it begins there anew. A cursor that
// outcomes_since refuses is an [outbox.ErrInvalid].
func Replay(ctx context.Context, db DB, name, cursor string) error {
	if _, err := read(ctx, db, cursor, 1); err != nil {
		return err
	}
	return change(ctx, db, replaySQL, name, cursor)
}

// CursorSince is the cursor before the first outcome that was settled at a time or later; without one, that of now.
func CursorSince(ctx context.Context, db DB, since time.Time) (cursor string, err error) {
	err = db.QueryRow(ctx, cursorSinceSQL, since).Scan(&cursor)
	if errors.Is(err, pgx.ErrNoRows) {
		return CursorNow(ctx, db)
	}
	return cursor, err
}

// CursorNow is the cursor for what is settled from now on.
func CursorNow(ctx context.Context, db DB) (cursor string, err error) {
	err = db.QueryRow(ctx, `SELECT lastseat.outcomes_cursor()`).Scan(&cursor)
	return cursor, err
}

func change(ctx context.Context, db DB, sql string, args ...any) error {
	tag, err := db.Exec(ctx, sql, args...)
	switch {
	case err != nil:
		return fmt.Errorf("change the relay: %w", outbox.ContractError(err))
	case tag.RowsAffected() == 0:
		return fmt.Errorf("%w: %q", ErrUnknownRelay, args[0])
	}
	return nil
}

// lastError is what the row says of the last failure.
func (r *Relay) lastError(ctx context.Context) error {
	var last string
	err := r.db.QueryRow(ctx, `SELECT coalesce(last_error, '') FROM lastseat.relays WHERE name = $1`,
		r.target.Name).Scan(&last)
	if err != nil {
		return err
	}
	return errors.New(last)
}
