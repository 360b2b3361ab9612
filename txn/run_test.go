package txn_test

import (
	"context"
	"errors"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"golang.org/x/sync/errgroup"

	"github.com/lastseat/lastseat/internal/testdb"
	"github.com/lastseat/lastseat/outbox"
	"github.com/lastseat/lastseat/txn"
)

var errBusiness = errors.New("business")

func TestRunCommitsOrRollsBack(t *testing.T) {
	t.Parallel()
	pool := accounts(t)
	run := func(result error) error {
		return txn.Run(t.Context(), pool, txn.Options{}, func(ctx context.Context, tx pgx.Tx) error {
			return errors.Join(add(ctx, tx, 1, 10), result)
		})
	}
	if err := run(nil); err != nil || balance(t, pool, 1) != 110 {
		t.Errorf("%v, balance %d", err, balance(t, pool, 1))
	}
	if err := run(errBusiness); !errors.Is(err, errBusiness) || balance(t, pool, 1) != 110 {
		t.Errorf("%v, balance %d", err, balance(t, pool, 1))
	}
}

func TestRunOnAConnection(t *testing.T) {
	t.Parallel()
	pool := accounts(t)
	conn, err := pool.Acquire(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Release()
	for _, db := range []txn.Beginner{conn, conn.Conn()} {
		err := txn.Run(t.Context(), db, txn.Options{}, func(ctx context.Context, tx pgx.Tx) error {
			return add(ctx, tx, 1,
				10)
		})
		if err != nil {
			t.Error(err)
		}
	}
	if got := balance(t, pool, 1); got != 120 {
		t.Errorf("balance %d", got)
	}
}

func TestIsolationAndReadOnly(t *testing.T) {
	t.Parallel()
	pool := accounts(t)
	for isolation, want := range map[pgx.TxIsoLevel]string{
		"": "read committed", pgx.RepeatableRead: "repeatable read", pgx.Serializable: "serializable",
	} {
		err := txn.Run(t.Context(), pool, txn.Options{Isolation: isolation, ReadOnly: true}, func(ctx context.Context,
			tx pgx.Tx) error {
			var got string
			if err := tx.QueryRow(ctx, `SHOW transaction_isolation`).Scan(&got); err != nil || got != want {
				t.Errorf("isolation is %s (%v), want %s", got, err, want)
			}
			return add(ctx, tx, 1, 1)
		})
		wantState(t, err, "25006")
	}
}

// A lost update under REPEATABLE READ: the rival commits between the read and the write of the first try.
func TestSerializationFailureIsRetried(t *testing.T) {
	t.Parallel()
	pool := accounts(t)
	options, seen := recorder(txn.Options{Isolation: pgx.RepeatableRead})
	tries := 0
	err := txn.Run(t.Context(), pool, options, func(ctx context.Context, tx pgx.Tx) error {
		tries++
		var read int
		if err := tx.QueryRow(ctx, `SELECT balance FROM accounts WHERE id = 1`).Scan(&read); err != nil {
			return err
		}
		if tries == 1 {
			testdb.Exec(t, pool, `UPDATE accounts SET balance = 1000 WHERE id = 1`)
		}
		_, err := tx.Exec(ctx, `UPDATE accounts SET balance = $1 WHERE id = 1`, read+1)
		return err
	})
	if err != nil || tries != 2 || balance(t, pool, 1) != 1001 {
		t.Errorf("%v after %d tries, balance %d", err, tries, balance(t, pool, 1))
	}
	wantRetries(t, *seen, "40001")
}

// Write skew under SERIALIZABLE: the rival commits first, and only our COMMIT finds out.
func TestSerializationFailureAtCommitIsRetried(t *testing.T) {
	t.Parallel()
	pool := accounts(t)
	options, seen := recorder(txn.Options{Isolation: pgx.Serializable})
	sum := func(ctx context.Context, tx pgx.Tx) (n int, err error) {
		err = tx.QueryRow(ctx, `SELECT sum(balance) FROM accounts`).Scan(&n)
		return n, err
	}
	ended := 0
	err := txn.Run(t.Context(), pool, options, func(ctx context.Context, tx pgx.Tx) error {
		if n, err := sum(ctx, tx); err != nil || n < 300 {
			return err
		}
		if err := add(ctx, tx, 1, -100); err != nil {
			return err
		}
		if ended == 0 {
			rival := begin(t, pool, pgx.TxOptions{IsoLevel: pgx.Serializable})
			if n, err := sum(t.Context(), rival); err != nil || n != 300 {
				t.Errorf("the rival reads %d, %v", n, err)
			}
			txExec(t, rival, `UPDATE accounts SET balance = balance - 100 WHERE id = 2`)
			if err := rival.Commit(t.Context()); err != nil {
				t.Error(err)
			}
		}
		ended++
		return nil
	})
	if err != nil || ended != 1 || balance(t, pool, 1) != 100 || balance(t, pool, 2) != 0 {
		t.Errorf("%v, fn wrote and ended %d times, balances %d %d", err, ended, balance(t, pool, 1), balance(t, pool, 2))
	}
	wantRetries(t, *seen, "40001")
}

// Two of ours lock two rows in opposite order. Either may be the victim; it waits until the other is through, since it
// could be quick enough to take its first lock again and run into the same deadlock.
func TestDeadlockIsRetried(t *testing.T) {
	t.Parallel()
	pool := accounts(t)
	var mu sync.Mutex
	var seen []txn.Retry
	options := txn.Options{OnRetry: func(r txn.Retry) { mu.Lock(); seen = append(seen, r); mu.Unlock() }}
	var both sync.WaitGroup // have their first lock
	both.Add(2)
	done := [2]chan struct{}{make(chan struct{}), make(chan struct{})}
	var group errgroup.Group
	for i, order := range [][2]int{{1, 2}, {2, 1}} {
		group.Go(func() error {
			defer close(done[i])
			tries := 0
			return txn.Run(t.Context(), pool, options, func(ctx context.Context, tx pgx.Tx) error {
				if tries++; tries > 1 {
					<-done[1-i]
				}
				if err := add(ctx, tx, order[0], 1); err != nil {
					return err
				}
				if tries == 1 {
					both.Done()
					both.Wait()
				}
				return add(ctx, tx, order[1], 1)
			})
		})
	}
	if err := group.Wait(); err != nil || balance(t, pool, 1) != 102 || balance(t, pool, 2) != 102 {
		t.Errorf("%v, balances %d %d", err, balance(t, pool, 1), balance(t, pool, 2))
	}
	wantRetries(t, seen, "40P01")
}

// endless conflicts: a rival changes the row in every try.
func endless(t *testing.T, pool *pgxpool.Pool, tries *int) func(context.Context, pgx.Tx) error {
	return func(ctx context.Context, tx pgx.Tx) error {
		*tries++
		if _, err := tx.Exec(ctx, `SELECT FROM accounts`); err != nil {
			return err
		}
		testdb.Exec(t, pool, `UPDATE accounts SET version = version + 1 WHERE id = 1`)
		return add(ctx, tx, 1, 1)
	}
}

func TestRetriesAreBounded(t *testing.T) {
	t.Parallel()
	pool := accounts(t)
	for retries, want := range map[int]int{0: 6, 2: 3, -1: 1} {
		options, seen := recorder(txn.Options{Isolation: pgx.RepeatableRead, Retries: retries})
		tries := 0
		err := txn.Run(t.Context(), pool, options, endless(t, pool, &tries))
		wantErr(t, err, txn.ErrConflict)
		wantState(t, err, "40001")
		if tries != want || len(*seen) != want-1 {
			t.Errorf("Retries %d: %d tries, the hook saw %d", retries, tries, len(*seen))
		}
	}
	if got := balance(t, pool, 1); got != 100 {
		t.Errorf("balance %d", got)
	}
}

// What an inner transaction of its own has given up, the outer one does not multiply.
func TestExhaustedRetriesAreNotRetriedOutside(t *testing.T) {
	t.Parallel()
	pool := accounts(t)
	options, seen := recorder(txn.Options{})
	tries := 0
	err := txn.Run(t.Context(), pool, options, func(ctx context.Context, _ pgx.Tx) error {
		return txn.Run(ctx, pool, txn.Options{Isolation: pgx.RepeatableRead, Retries: 2}, endless(t, pool, &tries))
	})
	wantErr(t, err, txn.ErrConflict)
	wantRetries(t, *seen)
	if tries != 3 {
		t.Errorf("%d tries", tries)
	}
}

func TestOtherErrorsAreNotRetried(t *testing.T) {
	t.Parallel()
	pool := accounts(t)
	options, seen := recorder(txn.Options{})
	err := txn.Run(t.Context(), pool, options, func(ctx context.Context, tx pgx.Tx) error {
		_, err := tx.Exec(ctx, `INSERT INTO accounts (id, balance) VALUES (1, 1)`)
		return err
	})
	wantState(t, err, "23505")
	wantRetries(t, *seen)
}

func TestDeadlineEndsAWait(t *testing.T) {
	t.Parallel()
	pool := accounts(t)
	holder := begin(t, pool, pgx.TxOptions{})
	txExec(t, holder, `SELECT FROM accounts WHERE id = 1 FOR UPDATE`)
	err := txn.Run(t.Context(), pool, txn.Options{Timeout: 50 * time.Millisecond}, func(ctx context.Context,
		tx pgx.Tx) error {
		return errors.Join(add(ctx, tx, 2, 1), add(ctx, tx, 1, 1))
	})
	wantErr(t, err, context.DeadlineExceeded)
	if err := holder.Rollback(t.Context()); err != nil {
		t.Fatal(err)
	}
	if got := balance(t, pool, 2); got != 100 {
		t.Errorf("balance %d", got)
	}
}

// fn is done, but too late: that is known not to be committed, and the connection can be used again.
func TestDeadlineBeforeCommit(t *testing.T) {
	t.Parallel()
	pool := accounts(t)
	conn, err := pool.Acquire(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Release()
	ctx, cancel := context.WithCancel(t.Context())
	err = txn.Run(ctx, conn, txn.Options{}, func(_ context.Context, tx pgx.Tx) error {
		defer cancel()
		return add(t.Context(), tx, 1, 1)
	})
	wantErr(t, err, context.Canceled)
	if errors.Is(err, outbox.ErrCommitUnknown) {
		t.Errorf("%v: but no COMMIT was sent", err)
	}
	if status := conn.Conn().PgConn().TxStatus(); conn.Conn().IsClosed() || status != 'I' {
		t.Errorf("the connection is closed, or has the status %c", status)
	}
	if got := balance(t, pool, 1); got != 100 {
		t.Errorf("balance %d", got)
	}
}

func TestPanicRollsBackAndGoesOn(t *testing.T) {
	t.Parallel()
	pool := accounts(t)
	func() {
		defer func() {
			if r := recover(); r != "at the disco" {
				t.Errorf("recovered %v", r)
			}
		}()
		_ = txn.Run(t.Context(), pool, txn.Options{}, func(ctx context.Context, tx pgx.Tx) error {
			if err := add(ctx, tx, 1, 1); err != nil {
				t.Error(err)
			}
			panic("at the disco")
		})
	}()
	if n := pool.Stat().AcquiredConns(); n != 0 {
		t.Errorf("%d connections were not given back", n)
	}
	if got := balance(t, pool, 1); got != 100 {
		t.Errorf("balance %d", got)
	}
}

func TestSwallowedErrorIsNoCommit(t *testing.T) {
	t.Parallel()
	pool := accounts(t)
	err := txn.Run(t.Context(), pool, txn.Options{}, func(ctx context.Context, tx pgx.Tx) error {
		if err := add(ctx, tx, 1, 1); err != nil {
			return err
		}
		_, _ = tx.Exec(ctx, `SELECT 1/0`)
		return nil
	})
	wantErr(t, err, pgx.ErrTxCommitRollback)
	if got := balance(t, pool, 1); got != 100 {
		t.Errorf("balance %d", got)
	}
}

// Who was handed a transaction can't end it: neither a commit that a retry would repeat, nor a rollback that is
// reported as success.
func TestFnCantEndTheTransaction(t *testing.T) {
	t.Parallel()
	pool := accounts(t)
	ends := map[string]func(context.Context, pgx.Tx) error{
		"commit":   func(ctx context.Context, tx pgx.Tx) error { return tx.Commit(ctx) },
		"rollback": func(ctx context.Context, tx pgx.Tx) error { return tx.Rollback(ctx) },
	}
	for name, end := range ends {
		err := txn.Run(t.Context(), pool, txn.Options{}, func(ctx context.Context, tx pgx.Tx) error {
			err := txn.Nested(ctx, tx, func(ctx context.Context, tx pgx.Tx) error {
				return errors.Join(add(ctx, tx, 1, 1),
					end(ctx, tx))
			})
			if err == nil {
				t.Errorf("%s of a nested transaction succeeded", name)
			}
			if err := errors.Join(add(ctx, tx, 1, 1), end(ctx, tx)); err != nil {
				return err
			}
			return nil
		})
		if err == nil || balance(t, pool, 1) != 100 {
			t.Errorf("%s: %v, balance %d", name, err, balance(t, pool, 1))
		}
	}
}

// By its type a transaction is nothing that Run could begin in; the way around, its connection, is refused.
func TestRunRefusesSomebodyElsesTransaction(t *testing.T) {
	t.Parallel()
	pool := accounts(t)
	conn, err := pool.Acquire(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Release()
	err = txn.Run(t.Context(), conn, txn.Options{}, func(ctx context.Context, tx pgx.Tx) error {
		if _, ok := tx.(txn.Beginner); ok {
			t.Error("Run would accept a transaction")
		}
		for _, db := range []txn.Beginner{conn, tx.Conn()} {
			err := txn.Run(ctx, db, txn.Options{}, func(context.Context, pgx.Tx) error { t.Error("fn was called"); return nil })
			if err == nil {
				t.Error("Run began inside a transaction")
			}
		}
		return errors.Join(add(ctx, tx, 1, 1), errBusiness)
	})
	wantErr(t, err, errBusiness)
	if got := balance(t, pool, 1); got != 100 {
		t.Errorf("balance %d: the inner Run has committed", got)
	}
}
