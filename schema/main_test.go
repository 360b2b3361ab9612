package schema_test

import (
	"context"
	"errors"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/lastseat/lastseat/internal/testdb"
)

// The newest migration, and how many steps of ours there are: the migrations and the set of functions.
const (
	newest     = 4
	newestName = "0004_reservations"
	ours       = newest + 1
)

func TestMain(m *testing.M) {
	os.Exit(testdb.MainMigrated(m))
}

// querier is what a pool, a connection and a transaction have in common.
type querier interface {
	Exec(ctx context.Context, sql string, args ...any) (pgconn.CommandTag, error)
	Query(ctx context.Context, sql string, args ...any) (pgx.Rows, error)
	QueryRow(ctx context.Context, sql string, args ...any) pgx.Row
}

// migrated is a pool to a fresh migrated database, as its superuser.
func migrated(t *testing.T) *pgxpool.Pool {
	t.Helper()
	return testdb.Pool(t, testdb.New(t))
}

func exec(t *testing.T, db querier, sql string, args ...any) {
	t.Helper()
	if _, err := db.Exec(t.Context(), sql, args...); err != nil {
		t.Fatalf("%s: %v", sql, err)
	}
}

func scalar[T any](t *testing.T, db querier, sql string, args ...any) T {
	t.Helper()
	var value T
	if err := db.QueryRow(t.Context(), sql, args...).Scan(&value); err != nil {
		t.Fatalf("%s: %v", sql, err)
	}
	return value
}

func column[T any](t *testing.T, db querier, sql string, args ...any) []T {
	t.Helper()
	rows, err := db.Query(t.Context(), sql, args...)
	if err != nil {
		t.Fatalf("%s: %v", sql, err)
	}
	values, err := pgx.CollectRows(rows, pgx.RowTo[T])
	if err != nil {
		t.Fatalf("%s: %v", sql, err)
	}
	return values
}

// trial runs do in a transaction that is rolled back.
func trial(t *testing.T, pool *pgxpool.Pool, do func(tx pgx.Tx)) {
	t.Helper()
	tx, err := pool.Begin(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = tx.Rollback(context.WithoutCancel(t.Context())) }()
	do(tx)
}

// connect is a session of its own, with its own role if one is named.
func connect(t *testing.T, pool *pgxpool.Pool, role string) *pgx.Conn {
	t.Helper()
	conn, err := pgx.Connect(t.Context(), pool.Config().ConnString())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close(context.WithoutCancel(t.Context())) })
	if role != "" {
		exec(t, conn, "SET ROLE "+pgx.Identifier{role}.Sanitize())
	}
	return conn
}

// pgError is err as Postgres gave it; without one the test has failed.
func pgError(t *testing.T, err error) *pgconn.PgError {
	t.Helper()
	refused := (*pgconn.PgError)(nil)
	if !errors.As(err, &refused) {
		t.Fatalf("the error is %v, want one of Postgres", err)
	}
	return refused
}

// wantRefusal holds err against a SQLSTATE and, if they are given, parts of its message.
func wantRefusal(t *testing.T, err error, code string, says ...string) {
	t.Helper()
	if err == nil {
		t.Fatalf("no error, want %s", code)
	}
	refused := pgError(t, err)
	if refused.Code != code {
		t.Fatalf("the error is %v, want %s", err, code)
	}
	for _, part := range says {
		if !strings.Contains(refused.Message, part) {
			t.Errorf("the message is %q, without %q", refused.Message, part)
		}
	}
}

// wantContract also wants what every error of class LS has: one line with the value, and a HINT.
func wantContract(t *testing.T, err error, code string, says ...string) {
	t.Helper()
	wantRefusal(t, err, code, says...)
	refused := pgError(t, err)
	if refused.Hint == "" {
		t.Errorf("%s has no HINT: %s", code, refused.Message)
	}
	if strings.Contains(refused.Message, "\n") || strings.Contains(refused.Message, "<NULL>") {
		t.Errorf("the message of %s is not one clear line: %q", code, refused.Message)
	}
}

type receipt struct {
	Key, Kind, Status string
	Duplicate         bool
}

// ask calls one of the functions that return a receipt.
func ask(t *testing.T, db querier, call string, args ...any) (receipt, error) {
	t.Helper()
	var r receipt
	err := db.QueryRow(t.Context(), "SELECT r.key, r.kind, r.status, r.duplicate FROM lastseat."+call+" r", args...).
		Scan(&r.Key, &r.Kind, &r.Status, &r.Duplicate)
	return r, err
}

func mustAsk(t *testing.T, db querier, call string, args ...any) receipt {
	t.Helper()
	r, err := ask(t, db, call, args...)
	if err != nil {
		t.Fatalf("%s: %v", call, err)
	}
	return r
}

// openAccounts opens bank (unlimited), ada and ben in EUR, and tom in USD.
func openAccounts(t *testing.T, db querier) {
	t.Helper()
	exec(t, db, `SELECT lastseat.open_account('bank', 'EUR', NULL), lastseat.open_account('ada', 'EUR'),
		lastseat.open_account('ben', 'EUR', 100), lastseat.open_account('tom', 'USD', NULL)`)
}

// within fails the test if done does not come soon: a lock that nobody gives back would hang it.
func within(t *testing.T, what string, done <-chan struct{}) {
	t.Helper()
	select {
	case <-done:
	case <-time.After(30 * time.Second):
		t.Fatalf("not within 30 s: %s", what)
	}
}
