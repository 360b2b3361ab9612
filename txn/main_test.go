package txn_test

import (
	"context"
	"errors"
	"os"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/lastseat/lastseat/internal/testdb"
	"github.com/lastseat/lastseat/txn"
)

func TestMain(m *testing.M) { os.Exit(testdb.MainMigrated(m)) }

// accounts has the rows 1 to 3, with 100 each, lying on disk in the opposite order.
const accountsSQL = `
	CREATE TABLE accounts (id int PRIMARY KEY, balance int NOT NULL, version int NOT NULL DEFAULT 1);
	INSERT INTO accounts (id, balance) VALUES (3, 100), (2, 100), (1, 100)`

func accounts(t *testing.T) *pgxpool.Pool {
	t.Helper()
	pool, _ := accountsURL(t)
	return pool
}

func accountsURL(t *testing.T) (*pgxpool.Pool, string) {
	t.Helper()
	url := testdb.Empty(t)
	pool := testdb.Pool(t, url)
	testdb.Exec(t, pool, accountsSQL)
	return pool, url
}

func balance(t *testing.T, pool *pgxpool.Pool, id int) int {
	t.Helper()
	return testdb.Scalar[int](t, pool, `SELECT balance FROM accounts WHERE id = $1`, id)
}

func add(ctx context.Context, tx pgx.Tx, id, amount int) error {
	_, err := tx.Exec(ctx, `UPDATE accounts SET balance = balance + $2, version = version + 1 WHERE id = $1`, id, amount)
	return err
}

// begin is another session's transaction, rolled back when the test ends.
func begin(t *testing.T, pool *pgxpool.Pool, mode pgx.TxOptions) pgx.Tx {
	t.Helper()
	tx, err := pool.BeginTx(t.Context(), mode)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = tx.Rollback(context.WithoutCancel(t.Context())) })
	return tx
}

func txExec(t *testing.T, tx pgx.Tx, sql string, args ...any) {
	t.Helper()
	if _, err := tx.Exec(t.Context(), sql, args...); err != nil {
		t.Fatal(err)
	}
}

// awaitBlocked waits until n sessions of the database wait for a lock.
func awaitBlocked(t *testing.T, pool *pgxpool.Pool, n int) {
	t.Helper()
	const sql = `SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'`
	for deadline := time.Now().Add(2 * time.Minute); testdb.Scalar[int](t, pool,
		sql) != n; time.Sleep(2 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("not %d sessions wait for a lock within 20 s", n)
		}
	}
}

func wantState(t *testing.T, err error, code string) {
	t.Helper()
	pgErr := (*pgconn.PgError)(nil)
	if !errors.As(err, &pgErr) || pgErr.Code != code {
		t.Errorf("error is %v, want SQLSTATE %s", err, code)
	}
}

func wantErr(t *testing.T, err error, want ...error) {
	t.Helper()
	for _, want := range want {
		if !errors.Is(err, want) {
			t.Errorf("error is %v, want %v", err, want)
		}
	}
}

// recorder keeps what the hook sees.
func recorder(options txn.Options) (txn.Options, *[]txn.Retry) {
	seen := &[]txn.Retry{}
	options.OnRetry = func(r txn.Retry) { *seen = append(*seen, r) }
	return options, seen
}

func wantRetries(t *testing.T, seen []txn.Retry, codes ...string) {
	t.Helper()
	if len(seen) != len(codes) {
		t.Fatalf("the hook saw %+v, want %v", seen, codes)
	}
	for i, retry := range seen {
		wantState(t, retry.Err, codes[i])
		if retry.Attempt != i+1 || retry.Pause < 0 || retry.Pause > 5*time.Millisecond<<i {
			t.Errorf("retry %+v", retry)
		}
	}
}
