package outbox

import (
	"context"
	"errors"
	"fmt"

	"github.com/jackc/pgx/v5"
)

// ErrCommitUnknown says that the reply to COMMIT was lost: the transaction is committed or not, and only the database
// knows. Asking again with the same keys is safe and tells.
var ErrCommitUnknown = errors.New("the reply to COMMIT was lost")

// Commit commits tx. If the server did not answer, the error is an [ErrCommitUnknown]; after any other error nothing is
// committed. pgx calls a lost reply safe to retry (5.9 and later); with money it is not.
func Commit(ctx context.Context, tx pgx.Tx) error {
	err := tx.Commit(ctx)
	if err != nil && sqlState(err) == "" && !errors.Is(err, pgx.ErrTxCommitRollback) && !errors.Is(err, pgx.ErrTxClosed) {
		return fmt.Errorf("%w: %w", ErrCommitUnknown, err)
	}
	return err
}
