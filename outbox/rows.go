package outbox

import (
	"fmt"

	"github.com/jackc/pgx/v5/pgconn"
)

// ExpectRows is the callback of a queued statement that has to change exactly n rows: any other number is an error,
// and the transaction is rolled back.
func ExpectRows(n int) func(pgconn.CommandTag) error {
	return func(tag pgconn.CommandTag) error {
		if tag.RowsAffected() != int64(n) {
			return fmt.Errorf("%s: %d rows expected", tag, n)
		}
		return nil
	}
}
