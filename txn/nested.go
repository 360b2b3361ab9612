package txn

import (
	"context"
	"errors"
	"fmt"

	"github.com/jackc/pgx/v5"
)

// Savepoints may have the same name: Postgres takes the innermost.
const (
	savepointSQL = `SAVEPOINT txn_nested`
	releaseSQL   = `RELEASE SAVEPOINT txn_nested`
	undoSQL      = `ROLLBACK TO SAVEPOINT txn_nested; RELEASE SAVEPOINT txn_nested`
)

// Nested runs fn inside the caller's transaction, under a savepoint. If fn returns an error or panics, Nested
// undoes what fn did and frees the row locks that fn took, and the caller's transaction can go on. To join a
// transaction without a savepoint, pass the pgx.Tx on.
//
// Nested never retries a conflict (40001, 40P01): fn would meet it again, since the snapshot and the other locks
// are those of the whole transaction. Nor does it undo one: the transaction stays aborted, so the caller can only
// return the error, and the outermost [Run] repeats everything.
//
// Don't use it in long loops: an open transaction with more than 64 savepoints that wrote slows down every session.
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

// undo goes back to the savepoint and releases it. (pgx's nested transactions don't release it, so every failure would
// nest one deeper.) If that fails, it closes the connection, so that the caller can't commit half of fn.
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
