package txn_test

import (
	"context"
	"testing"

	"github.com/jackc/pgx/v5"

	"github.com/lastseat/lastseat/internal/testdb"
	"github.com/lastseat/lastseat/txn"
)

const renewSQL = `UPDATE accounts SET balance = $1, version = version + 1 WHERE id = $2 AND version = $3`

// Two users have read version 1. The second to save is told, and overwrites nothing.
func TestStaleUpdate(t *testing.T) {
	t.Parallel()
	pool := accounts(t)
	save := func(amount int) error {
		return txn.Run(t.Context(), pool, txn.Options{}, func(ctx context.Context, tx pgx.Tx) error {
			return txn.ExpectOne(ctx, tx, renewSQL, amount, 1, 1)
		})
	}
	if err := save(10); err != nil {
		t.Error(err)
	}
	wantErr(t, save(20), txn.ErrStale)
	if got := balance(t, pool, 1); got != 10 {
		t.Errorf("balance %d", got)
	}
}

func TestExpectOne(t *testing.T) {
	t.Parallel()
	pool := accounts(t)
	for _, test := range []struct {
		sql  string
		want error
	}{
		{`UPDATE accounts SET balance = 0 WHERE id = 1 AND version = 1`, nil},
		{`UPDATE accounts SET balance = 0 WHERE id = 1 AND version = 2`, txn.ErrStale},
		{`UPDATE accounts SET balance = 0 WHERE id = 99 AND version = 1`, txn.ErrStale}, // gone
		{`DELETE FROM accounts WHERE id = 1 AND version = 1`, nil},
		{`DELETE FROM accounts WHERE id = 1 AND version = 2`, txn.ErrStale},
		{`SELECT FROM accounts WHERE id = 1 AND version = 1 FOR SHARE`, nil},
		{`SELECT FROM accounts WHERE id = 1 AND version = 2 FOR SHARE`, txn.ErrStale},
	} {
		tx := begin(t, pool, pgx.TxOptions{})
		if err := txn.ExpectOne(t.Context(), tx, test.sql); err != test.want { //nolint:errorlint // callers may compare, too
			t.Errorf("%s: %v, want %v", test.sql, err, test.want)
		}
		txExec(t, tx, `SELECT 1`) // the transaction can go on
		if err := tx.Rollback(t.Context()); err != nil {
			t.Error(err)
		}
	}
	tx := begin(t, pool, pgx.TxOptions{})
	if err := txn.ExpectOne(t.Context(), tx, `UPDATE accounts SET balance = 0`); err == nil {
		t.Error("three rows pass for one")
	}
	_, err := tx.Exec(t.Context(), `SELECT 1/0`)
	wantState(t, err, "22012")
	wantState(t, txn.ExpectOne(t.Context(), tx, renewSQL, 1, 1, 1), "25P02")
}

// Read and written in one REPEATABLE READ transaction, a change in between is a conflict, which Run repeats.
func TestStaleInsideASnapshotIsAConflict(t *testing.T) {
	t.Parallel()
	pool := accounts(t)
	options, seen := recorder(txn.Options{Isolation: pgx.RepeatableRead})
	tries := 0
	err := txn.Run(t.Context(), pool, options, func(ctx context.Context, tx pgx.Tx) error {
		var amount, version int
		if err := tx.QueryRow(ctx, `SELECT balance, version FROM accounts WHERE id = 1`).Scan(&amount, &version); err != nil {
			return err
		}
		if tries++; tries == 1 {
			testdb.Exec(t, pool, renewSQL, 1000, 1, 1)
		}
		return txn.ExpectOne(ctx, tx, renewSQL, amount+1, 1, version)
	})
	if err != nil || balance(t, pool, 1) != 1001 {
		t.Errorf("%v, balance %d", err, balance(t, pool, 1))
	}
	wantRetries(t, *seen, "40001")
}
