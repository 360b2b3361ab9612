package txn

import (
	"context"
	"errors"
	"fmt"

	"github.com/jackc/pgx/v5"
)

// Names of savepoints nest like braces: the innermost is meant.
const (
	savepointSQL = `SAVEPOINT txn_nested`
	releaseSQL   = `RELEASE SAVEPOINT txn_nested`
	undoSQL      = `ROLLBACK TO SAVEPOINT txn_nested; RELEASE SAVEPOINT txn_nested`
)

// Nested runs fn inside the caller's transaction, under a savepoint. If fn returns an error or panics, what fn did is
// undone, the row locks it took are free, and the caller's transaction can go on. To join a transaction without a
// savepoint, pass the pgx.Tx on.
//
// A conflict (40001, 40P01) is never retried here: a part would meet it again, since the snapshot and the other locks are
// those of the whole. Nor is it undone: the transaction stays aborted, so that the caller can only return the error, and
// the outermost [Run] repeats everything.
//
// Not for loops of many rounds: with more than 64 savepoints that wrote, one open transaction slows down every session.
func Nested(ctx context.Context, tx pgx.Tx, fn func(ctx context.Context, tx pgx.Tx) error) (err error) {
	if _, err := tx.Exec(ctx, savepointSQL); err != nil {
		return fmt.Errorf("set a savepoint: %w", err)
	}
	released := false
	defer func() {
		if !released {
			undo(ctx, tx, err)
		}
	}()
	if err := fn(ctx, lent{tx}); err != nil {
		return err
	}
	if _, err := tx.Exec(ctx, releaseSQL); err != nil {
		return fmt.Errorf("release the savepoint: %w", err)
	}
	released = true
	return nil
}

// undo goes back to the savepoint and releases it: pgx's nested transactions leave it, one deeper for every failure. If
// that can't be done, the connection is closed, lest the caller commits half of fn.
func undo(ctx context.Context, tx pgx.Tx, cause error) {
	if conflict(cause) && tx.Conn().PgConn().TxStatus() == 'E' { // this transaction's own, not one of another connection
		return
	}
	ctx, cancel := cleanup(ctx)
	defer cancel()
	if _, err := tx.Exec(ctx, undoSQL); err != nil && !errors.Is(err, pgx.ErrTxClosed) {
		_ = tx.Conn().Close(ctx)
	}
}
