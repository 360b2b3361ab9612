package txn

import (
	"context"
	"errors"
	"fmt"

	"github.com/jackc/pgx/v5"
)

// ErrStale says that a row is no longer the version that the caller has read, or is gone. The caller should read it
// and ask the user again rather than retry: what was decided on the old row may be wrong on the new one.
var ErrStale = errors.New("stale: the row has changed since it was read, or is gone")

// ExpectOne runs a statement that has to hit exactly one row, named by its key and the version that was read:
//
//	UPDATE accounts SET name = $1, version = version + 1 WHERE id = $2 AND version = $3
//
// DELETE works the same, and so does SELECT ... FOR SHARE, to make sure of a row that is not changed. If no row was
// hit, the error is an [ErrStale] and the transaction can go on. If several were hit, the condition does not
// identify a row, and the caller has to roll back.
//
// In a REPEATABLE READ or SERIALIZABLE transaction that read the row itself, a change in between is not stale but a
// conflict (40001), which [Run] repeats with the new row.
func ExpectOne(ctx context.Context, tx pgx.Tx, sql string, args ...any) error {
	tag, err := tx.Exec(ctx, sql, args...)
	switch {
	case err != nil:
		return err
	case tag.RowsAffected() == 0:
		return ErrStale
	case tag.RowsAffected() > 1:
		return fmt.Errorf("%s: one row was meant", tag)
	}
	return nil
}
