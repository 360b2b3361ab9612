package schema_test

import (
	"errors"
	"testing"

	"github.com/jackc/pgx/v5/pgconn"

	"github.com/lastseat/lastseat/internal/testdb"
)

// A wrong argument of a function that only reads, or takes in an event, is named with its value. The hint
// says what to give.
func TestErrorsNameTheValue(t *testing.T) {
	t.Parallel()
	pool := testdb.Pool(t, testdb.New(t))
	for sql, want := range map[string]struct{ column, message string }{
		`SELECT lastseat.take_event('stripe', NULL)`:                   {"id", "the event's id is null"},
		`SELECT lastseat.take_event('stripe', '')`:                     {"id", `the event's id is ""`},
		`SELECT lastseat.take_event(NULL, NULL)`:                       {"source", "the event's source is null"},
		`SELECT lastseat.take_event(repeat('s', 201), '')`:             {"source", `the event's source is "ssssssssssssssssssssssssssssssssssssssssssssssssss"`},
		`SELECT * FROM lastseat.availability('hall/', max_rows => -1)`: {"max_rows", `"max_rows" is -1`},
	} {
		_, err := pool.Exec(t.Context(), sql)
		refused := (*pgconn.PgError)(nil)
		if !errors.As(err, &refused) || refused.Code != "LS002" {
			t.Errorf("%s: %v, want LS002", sql, err)
			continue
		}
		if refused.Message != want.message || refused.ColumnName != want.column || refused.Hint == "" {
			t.Errorf("%s: %q, column %q, hint %q", sql, refused.Message, refused.ColumnName, refused.Hint)
		}
	}
}
