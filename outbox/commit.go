package outbox

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/lastseat/lastseat/internal/faultpoint"
)

// ErrCommitUnknown says that the reply to COMMIT was lost, or came from a pooler or from a session that ended. The
// transaction is committed or not; only the database knows. Asking again with the same keys is safe and tells.
var ErrCommitUnknown = errors.New("the reply to COMMIT was lost")

// Commit commits tx. If the server did not answer, the error is an [ErrCommitUnknown]; after any other error
// nothing is committed. pgx (5.9 and later) calls a lost reply safe to retry; with money it is not.
func Commit(ctx context.Context, tx pgx.Tx) error {
	err := tx.Commit(ctx)
	if err != nil && !notCommitted(err) && !faultpoint.Sabotaged(faultpoint.LostIsRefused) {
		return fmt.Errorf("%w: %w", ErrCommitUnknown, err)
	}
	return err
}

// notCommitted tells whether an error of COMMIT says that nothing is committed. An ERROR does. A FATAL or a PANIC says
// that a session ended, and that may be after its commit: PgBouncer answers for a server that it has lost ("server conn
// crashed?", 08P01), and Postgres for a session that is ended on its way out of COMMIT.
func notCommitted(err error) bool {
	if answer := (*pgconn.PgError)(nil); errors.As(err, &answer) {
		return answer.SeverityUnlocalized == "ERROR" && !strings.HasPrefix(answer.Code, "08")
	}
	return errors.Is(err, pgx.ErrTxCommitRollback) || errors.Is(err, pgx.ErrTxClosed)
}

// commitError is an error of COMMIT in a transaction of the lane.
type commitError struct{ err error }

func (e *commitError) Error() string { return "commit: " + e.err.Error() }
func (e *commitError) Unwrap() error { return e.err }
