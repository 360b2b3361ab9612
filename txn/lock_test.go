package txn_test

import (
	"context"
	"errors"
	"slices"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/lastseat/lastseat/internal/testdb"
	"github.com/lastseat/lastseat/txn"
)

var table = pgx.Identifier{"accounts"}

// free tells whether nobody holds a lock on a row.
func free(t *testing.T, pool *pgxpool.Pool, id int) bool {
	t.Helper()
	tx := begin(t, pool, pgx.TxOptions{})
	_, err := txn.Lock(t.Context(), tx, table, []int{id}, txn.Mode{Wait: txn.NoWait})
	if err := tx.Rollback(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err != nil {
		wantErr(t, err, txn.ErrLocked)
	}
	return err == nil
}

// The rows are asked for, and lie on disk, in the opposite order. While the second is held by somebody else, the first
// is locked and the third is not.
func TestLocksInTheOrderOfTheKey(t *testing.T) {
	t.Parallel()
	pool := accounts(t)
	holder := begin(t, pool, pgx.TxOptions{})
	txExec(t, holder, `SELECT FROM accounts WHERE id = 2 FOR UPDATE`)
	tx := begin(t, pool, pgx.TxOptions{})
	type result struct {
		ids []int
		err error
	}
	done := make(chan result)
	go func() {
		ids, err := txn.Lock(t.Context(), tx, table, []int{3, 99, 1, 2, 3}, txn.Mode{})
		done <- result{ids, err}
	}()
	awaitBlocked(t, pool, 1)
	if free(t, pool, 1) || !free(t, pool, 3) {
		t.Errorf("row 1 is free: %v, row 3 is free: %v", free(t, pool, 1), free(t, pool, 3))
	}
	if err := holder.Rollback(t.Context()); err != nil {
		t.Fatal(err)
	}
	if got := <-done; got.err != nil || !slices.Equal(got.ids, []int{1, 2, 3}) {
		t.Errorf("locked %v, %v", got.ids, got.err)
	}
	for id := 1; id <= 3; id++ {
		if free(t, pool, id) {
			t.Errorf("row %d is not locked", id)
		}
	}
}

func TestNoWaitAndSkipLocked(t *testing.T) {
	t.Parallel()
	pool := accounts(t)
	txExec(t, begin(t, pool, pgx.TxOptions{}), `SELECT FROM accounts WHERE id = 2 FOR UPDATE`)
	err := txn.Run(t.Context(), pool, txn.Options{}, func(ctx context.Context, tx pgx.Tx) error {
		// Under a savepoint, the transaction survives.
		err := txn.Nested(ctx, tx, func(ctx context.Context, tx pgx.Tx) error {
			_, err := txn.Lock(ctx, tx, table, []int{1, 2, 3}, txn.Mode{Wait: txn.NoWait})
			return err
		})
		wantErr(t, err, txn.ErrLocked)
		wantState(t, err, "55P03")
		if !free(t, pool, 1) {
			t.Error("row 1 is still locked")
		}
		ids, err := txn.Lock(ctx, tx, table, []int{3, 2, 1}, txn.Mode{Wait: txn.SkipLocked})
		if !slices.Equal(ids, []int{1, 3}) {
			t.Errorf("locked %v", ids)
		}
		return err
	})
	if err != nil {
		t.Error(err)
	}
}

func TestLockedIsNotRetried(t *testing.T) {
	t.Parallel()
	pool := accounts(t)
	txExec(t, begin(t, pool, pgx.TxOptions{}), `SELECT FROM accounts WHERE id = 2 FOR UPDATE`)
	options, seen := recorder(txn.Options{})
	err := txn.Run(t.Context(), pool, options, func(ctx context.Context, tx pgx.Tx) error {
		_, err := txn.Lock(ctx, tx, table, []int{2}, txn.Mode{Wait: txn.NoWait})
		return err
	})
	wantErr(t, err, txn.ErrLocked)
	wantRetries(t, *seen)
}

// The time limit is that of one call: after it, whether it succeeds or fails, the transaction's own holds, and
// after the transaction the session's.
func TestLockTimeout(t *testing.T) {
	t.Parallel()
	pool := accounts(t)
	txExec(t, begin(t, pool, pgx.TxOptions{}), `SELECT FROM accounts WHERE id = 2 FOR UPDATE`)
	conn, err := pool.Acquire(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Release()
	tx, err := conn.Begin(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	wantTimeout := func(want string) {
		t.Helper()
		var timeout string
		if err := conn.QueryRow(t.Context(), `SHOW lock_timeout`).Scan(&timeout); err != nil || timeout != want {
			t.Errorf("lock_timeout is %s, want %s, %v", timeout, want, err)
		}
	}
	txExec(t, tx, `SET LOCAL lock_timeout = '1234s'`)
	for _, wait := range []txn.Wait{1, txn.Wait(20 * time.Millisecond)} { // 1 ns is not 0, which would be for ever
		for _, id := range []int{1, 2} {
			err := txn.Nested(t.Context(), tx, func(ctx context.Context, tx pgx.Tx) error {
				_, err := txn.Lock(ctx, tx, table, []int{id}, txn.Mode{Wait: wait})
				return err
			})
			if want := id == 2; errors.Is(err, txn.ErrLocked) != want || (err != nil) != want {
				t.Errorf("row %d, %d ns: %v", id, wait, err)
			}
			wantTimeout("1234s")
		}
	}
	if err := tx.Commit(t.Context()); err != nil {
		t.Error(err)
	}
	wantTimeout("0")
}

// The table of https://www.postgresql.org/docs/current/explicit-locking.html#LOCKING-ROWS: who holds, who asks.
func TestStrengths(t *testing.T) {
	t.Parallel()
	pool := accounts(t)
	for held, refused := range map[txn.Strength][]txn.Strength{
		txn.ForKeyShare:    {txn.ForUpdate},
		txn.ForShare:       {txn.ForUpdate, txn.ForNoKeyUpdate},
		txn.ForNoKeyUpdate: {txn.ForUpdate, txn.ForNoKeyUpdate, txn.ForShare},
		txn.ForUpdate:      {txn.ForUpdate, txn.ForNoKeyUpdate, txn.ForShare, txn.ForKeyShare},
	} {
		holder := begin(t, pool, pgx.TxOptions{})
		if _, err := txn.Lock(t.Context(), holder, table, []int{1}, txn.Mode{Strength: held}); err != nil {
			t.Fatal(err)
		}
		for asked := txn.ForUpdate; asked <= txn.ForKeyShare; asked++ {
			tx := begin(t, pool, pgx.TxOptions{})
			_, err := txn.Lock(t.Context(), tx, table, []int{1}, txn.Mode{Strength: asked, Wait: txn.NoWait})
			if errors.Is(err, txn.ErrLocked) != slices.Contains(refused, asked) {
				t.Errorf("%d is held, %d is asked for: %v", held, asked, err)
			}
			_ = tx.Rollback(t.Context())
		}
		_ = holder.Rollback(t.Context())
	}
}

// Two who lock the same rows in opposite order: the second waits for the first, and neither for ever.
func TestOrderedLocksDontDeadlock(t *testing.T) {
	t.Parallel()
	pool := accounts(t)
	first := begin(t, pool, pgx.TxOptions{})
	if _, err := txn.Lock(t.Context(), first, table, []int{1}, txn.Mode{}); err != nil {
		t.Fatal(err)
	}
	second := begin(t, pool, pgx.TxOptions{})
	done := make(chan error)
	go func() {
		_, err := txn.Lock(t.Context(), second, table, []int{2, 1}, txn.Mode{})
		done <- err
	}()
	awaitBlocked(t, pool, 1)
	if _, err := txn.Lock(t.Context(), first, table, []int{1, 2}, txn.Mode{Wait: txn.NoWait}); err != nil {
		t.Error(err)
	}
	if err := first.Commit(t.Context()); err != nil {
		t.Error(err)
	}
	if err := <-done; err != nil {
		t.Error(err)
	}
}

func TestLockNamesAndKeys(t *testing.T) {
	t.Parallel()
	pool := accounts(t)
	testdb.Exec(t, pool, `CREATE SCHEMA "a b"; CREATE TABLE "a b"."x""; DROP TABLE accounts; --" ("No." text PRIMARY KEY);
		INSERT INTO "a b"."x""; DROP TABLE accounts; --" VALUES ('b'), ('a'), ('c')`)
	tx := begin(t, pool, pgx.TxOptions{})
	odd := pgx.Identifier{"a b", `x"; DROP TABLE accounts; --`}
	ids, err := txn.Lock(t.Context(), tx, odd, []string{"c", "a", `d"'`}, txn.Mode{Key: "No."})
	if err != nil || !slices.Equal(ids, []string{"a", "c"}) {
		t.Errorf("locked %v, %v", ids, err)
	}
	if ids, err := txn.Lock(t.Context(), tx, odd, []string{}, txn.Mode{Key: "No."}); err != nil || len(ids) != 0 {
		t.Errorf("locked %v, %v", ids, err)
	}
	for _, mode := range []txn.Mode{{Wait: -3}, {Strength: 4}, {Strength: -1}} {
		if _, err := txn.Lock(t.Context(), tx, table, []int{1}, mode); err == nil {
			t.Errorf("%+v is accepted", mode)
		}
	}
	if _, err := txn.Lock(t.Context(), tx, pgx.Identifier{"nowhere"}, []int{1}, txn.Mode{}); err == nil {
		t.Error("a table that does not exist is locked")
	}
}
