package outbox

import (
	"context"
	"errors"
	"fmt"

	"github.com/jackc/pgx/v5"

	"github.com/lastseat/lastseat/internal/faultpoint"
	"github.com/lastseat/lastseat/internal/retry"
)

// ErrCommitUnknown says that the reply to COMMIT was lost. The transaction is committed or not; only the database
// knows. Asking again with the same keys is safe and tells.
var ErrCommitUnknown = errors.New("the reply to COMMIT was lost")

// Commit commits tx. If the server did not answer, the error is an [ErrCommitUnknown]; after any other error
// nothing is committed. pgx (5.9 and later) calls a lost reply safe to retry; with money it is not.
func Commit(ctx context.Context, tx pgx.Tx) error {
	err := tx.Commit(ctx)
	answered := retry.SQLState(err) != "" || errors.Is(err, pgx.ErrTxCommitRollback) || errors.Is(err, pgx.ErrTxClosed)
	if err != nil && !answered && !faultpoint.Sabotaged(faultpoint.LostIsRefused) {
		return fmt.Errorf("%w: %w", ErrCommitUnknown, err)
	}
	return err
}

// commitError is an error of COMMIT in a transaction of the lane.
type commitError struct{ err error }

func (e *commitError) Error() string { return "commit: " + e.err.Error() }
func (e *commitError) Unwrap() error { return e.err }
