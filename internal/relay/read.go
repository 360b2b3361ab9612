package relay

import (
	"context"
	"encoding/json"
	"fmt"
	"regexp"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/lastseat/lastseat/internal/quote"
	"github.com/lastseat/lastseat/outbox"
)

// DB is what a pool and a connection have in common. A relay never has a transaction open.
type DB interface {
	Exec(ctx context.Context, sql string, args ...any) (pgconn.CommandTag, error)
	Query(ctx context.Context, sql string, args ...any) (pgx.Rows, error)
	QueryRow(ctx context.Context, sql string, args ...any) pgx.Row
}

const readSQL = `
	SELECT current_database()::text, cursor, key, kind, status, coalesce(code, ''), detail::text, attempts, job_id,
	       requested_at, settled_at,
	       (SELECT r.ordering FROM lastseat.requests r WHERE r.key = o.key)
	FROM lastseat.outcomes_since($1, $2) o`

// read returns the events behind a cursor, at most so many, in the order in which they were settled.
func read(ctx context.Context, db DB, cursor string, most int) ([]Event, error) {
	rows, err := db.Query(ctx, readSQL, cursor, most)
	if err != nil {
		return nil, fmt.Errorf("read outcomes: %w", outbox.ContractError(err))
	}
	events, err := pgx.CollectRows(rows, func(row pgx.CollectableRow) (Event, error) {
		var database, cursor string
		var detail, ordering *string
		var o outbox.Outcome
		err := row.Scan(&database, &cursor, &o.Key, &o.Kind, &o.Status, &o.Code, &detail, &o.Attempts, &o.JobID,
			&o.RequestedAt, &o.SettledAt, &ordering)
		if err != nil {
			return Event{}, err
		}
		if detail != nil {
			o.Detail = json.RawMessage(*detail)
		}
		o.RequestedAt = o.RequestedAt.UTC()
		*o.SettledAt = o.SettledAt.UTC()
		event, err := newEvent(database, cursor, o)
		if event.Ordering = o.Key; ordering != nil {
			event.Ordering = *ordering
		}
		return event, err
	})
	if err != nil {
		return nil, fmt.Errorf("read outcomes: %w", outbox.ContractError(err))
	}
	return events, nil
}

var hintedCursor = regexp.MustCompile(`outcomes_since\('([^']*)'\)`)

// replayCommand is what to type when the database refuses the cursor: the hint of outcomes_since has the last one that
// the relay and the database have in common.
func replayCommand(name string, refused error) string {
	from := "beginning"
	if hint := hintedCursor.FindStringSubmatch(refused.Error()); hint != nil && hint[1] != "" {
		from = hint[1]
	}
	return fmt.Sprintf("worker relay replay %s --from %s", quote.Word(name), from)
}
