package txn_test

import (
	"context"
	"errors"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/lastseat/lastseat/internal/testdb"
	"github.com/lastseat/lastseat/txn"
)

// Whatever way fn fails, what it did is undone, and the outer transaction goes on and commits.
func TestNestedFailsAlone(t *testing.T) {
	t.Parallel()
	pool := accounts(t)
	for name, fail := range map[string]func(context.Context, pgx.Tx) error{
		"error":            func(context.Context, pgx.Tx) error { return errBusiness },
		"SQL error":        func(ctx context.Context, tx pgx.Tx) error { _, err := tx.Exec(ctx, `SELECT 1/0`); return err },
		"swallowed":        func(ctx context.Context, tx pgx.Tx) error { _, _ = tx.Exec(ctx, `SELECT 1/0`); return nil },
		"panic":            func(context.Context, pgx.Tx) error { panic(errBusiness) },
		"foreign conflict": func(context.Context, pgx.Tx) error { return errForeign },
		"two levels down": func(ctx context.Context, tx pgx.Tx) error {
			return txn.Nested(ctx, tx, func(context.Context, pgx.Tx) error { return errBusiness })
		},
		"two levels, inner": func(ctx context.Context, tx pgx.Tx) error {
			return errors.Join(txn.Nested(ctx, tx, addOne), errBusiness)
		},
	} {
		t.Run(name, func(t *testing.T) {
			before, other := balance(t, pool, 1), balance(t, pool, 2)
			err := txn.Run(t.Context(), pool, txn.Options{}, func(ctx context.Context, tx pgx.Tx) error {
				if err := add(ctx, tx, 2, 1); err != nil {
					return err
				}
				if nestedErr := recovered(func() error {
					return txn.Nested(ctx, tx, func(ctx context.Context, tx pgx.Tx) error {
						return errors.Join(add(ctx, tx, 1, 1),
							fail(ctx, tx))
					})
				}); nestedErr == nil {
					t.Error("Nested succeeded")
				}
				return add(ctx, tx, 2, 1)
			})
			if err != nil || balance(t, pool, 1) != before || balance(t, pool, 2) != other+2 {
				t.Errorf("%v, balances %d %d", err, balance(t, pool, 1), balance(t, pool, 2))
			}
		})
	}
}

// errForeign is a conflict of another transaction, on another connection, that this one may survive.
var errForeign = &pgconn.PgError{Code: "40001"}

func addOne(ctx context.Context, tx pgx.Tx) error { return add(ctx, tx, 1, 1) }

func recovered(fn func() error) (err error) {
	defer func() {
		if r := recover(); r != nil {
			err = r.(error)
		}
	}()
	return fn()
}

func TestNestedIsPartOfTheOuter(t *testing.T) {
	t.Parallel()
	pool := accounts(t)
	for _, result := range []error{nil, errBusiness} {
		err := txn.Run(t.Context(), pool, txn.Options{}, func(ctx context.Context, tx pgx.Tx) error {
			return errors.Join(txn.Nested(ctx, tx, addOne), result)
		})
		if !errors.Is(err, result) || balance(t, pool, 1) != 101 {
			t.Errorf("%v, balance %d", err, balance(t, pool, 1))
		}
	}
}

func TestNestedLeavesNoSavepoint(t *testing.T) {
	t.Parallel()
	pool := accounts(t)
	for _, result := range []error{nil, errBusiness} {
		tx := begin(t, pool, pgx.TxOptions{})
		wantErr(t, txn.Nested(t.Context(), tx, func(context.Context, pgx.Tx) error { return result }), result)
		_, err := tx.Exec(t.Context(), `RELEASE SAVEPOINT txn_nested`)
		wantState(t, err, "3B001")
	}
}

// The context of the nested part is over, the outer one's is not, and it commits: without the half that was done.
func TestNestedDeadlineUndoes(t *testing.T) {
	t.Parallel()
	pool := accounts(t)
	err := txn.Run(t.Context(), pool, txn.Options{}, func(outer context.Context, tx pgx.Tx) error {
		ctx, cancel := context.WithCancel(outer)
		err := txn.Nested(ctx, tx, func(ctx context.Context, tx pgx.Tx) error {
			defer cancel()
			return add(ctx, tx, 1, 1)
		})
		wantErr(t, err, context.Canceled)
		return add(outer, tx, 2, 1)
	})
	if err != nil || balance(t, pool, 1) != 100 || balance(t, pool, 2) != 101 {
		t.Errorf("%v, balances %d %d", err, balance(t, pool, 1), balance(t, pool, 2))
	}
}

// If the way back is lost, the whole transaction is: the connection is still reading when the savepoint should be
// undone.
func TestNestedThatCantBeUndoneIsNotCommitted(t *testing.T) {
	t.Parallel()
	pool := accounts(t)
	err := txn.Run(t.Context(), pool, txn.Options{}, func(ctx context.Context, tx pgx.Tx) error {
		err := txn.Nested(ctx, tx, func(ctx context.Context, tx pgx.Tx) error {
			if err := add(ctx, tx, 1, 1); err != nil {
				return err
			}
			rows, err := tx.Query(ctx, `SELECT FROM generate_series(1, 3)`)
			t.Cleanup(rows.Close) // too late
			return errors.Join(err, rows.Err(), errBusiness)
		})
		wantErr(t, err, errBusiness)
		if !tx.Conn().IsClosed() {
			t.Error("the connection can still commit")
		}
		return nil
	})
	if err == nil || balance(t, pool, 1) != 100 {
		t.Errorf("%v, balance %d", err, balance(t, pool, 1))
	}
}

func TestConflictInNestedIsTheOutermosts(t *testing.T) {
	t.Parallel()
	pool := accounts(t)
	options, seen := recorder(txn.Options{Isolation: pgx.RepeatableRead})
	outer, inner := 0, 0
	err := txn.Run(t.Context(), pool, options, func(ctx context.Context, tx pgx.Tx) error {
		outer++
		if err := add(ctx, tx, 2, 1); err != nil {
			return err
		}
		return txn.Nested(ctx, tx, func(ctx context.Context, tx pgx.Tx) error {
			if inner++; inner == 1 {
				testdb.Exec(t, pool, `UPDATE accounts SET balance = balance + 1000 WHERE id = 1`)
			}
			return add(ctx, tx, 1, 1)
		})
	})
	if err != nil || outer != 2 || inner != 2 || balance(t, pool, 1) != 1101 || balance(t, pool, 2) != 101 {
		t.Errorf("%v, tries %d %d, balances %d %d", err, outer, inner, balance(t, pool, 1), balance(t, pool, 2))
	}
	wantRetries(t, *seen, "40001")
}

// Repeating only the nested part, or going on without it, is refused: the transaction is aborted.
func TestConflictInNestedCantBeSwallowed(t *testing.T) {
	t.Parallel()
	pool := accounts(t)
	err := txn.Run(t.Context(), pool, txn.Options{Isolation: pgx.RepeatableRead}, func(ctx context.Context,
		tx pgx.Tx) error {
		if err := add(ctx, tx, 2, 1); err != nil {
			return err
		}
		testdb.Exec(t, pool, `UPDATE accounts SET balance = balance + 1000 WHERE id = 1`)
		wantState(t, txn.Nested(ctx, tx, addOne), "40001")
		wantState(t, txn.Nested(ctx, tx, addOne), "25P02")
		return nil
	})
	wantErr(t, err, pgx.ErrTxCommitRollback)
	if balance(t, pool, 1) != 1100 || balance(t, pool, 2) != 100 {
		t.Errorf("balances %d %d", balance(t, pool, 1), balance(t, pool, 2))
	}
}
