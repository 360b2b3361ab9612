package audit_test

import (
	"context"
	"log/slog"
	"os"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/lastseat/lastseat/internal/audit"
	"github.com/lastseat/lastseat/internal/testdb"
	"github.com/lastseat/lastseat/jobs"
	"github.com/lastseat/lastseat/outbox"
)

func TestMain(m *testing.M) {
	os.Exit(testdb.MainMigrated(m))
}

func exec(t *testing.T, pool *pgxpool.Pool, sql string, args ...any) {
	t.Helper()
	if _, err := pool.Exec(t.Context(), sql, args...); err != nil {
		t.Fatalf("%s: %v", sql, err)
	}
}

func worker(pool *pgxpool.Pool, settings outbox.Settings) *outbox.Worker {
	kinds := &outbox.Kinds{}
	jobs.Register(kinds)
	settings.Logger = slog.New(slog.DiscardHandler)
	return outbox.NewWorker(pool, kinds, settings)
}

// filled is a database with everything that the built-in kinds leave behind: applied, rejected, failed and pending
// requests, payments of every status, accounts of two currencies and of all sorts of limits.
func filled(t *testing.T) *pgxpool.Pool {
	t.Helper()
	pool := testdb.Pool(t, testdb.New(t))
	exec(t, pool, `SELECT lastseat.open_account('bank', 'EUR', NULL), lastseat.open_account('ada', 'EUR'), lastseat.open_account('ben', 'EUR', 100),
		lastseat.open_account('mint', 'USD', NULL), lastseat.open_account('tom', 'USD'), lastseat.open_account('idle', 'JPY'),
		lastseat.open_account('card', 'EUR', NULL), lastseat.open_account('shop', 'EUR'), lastseat.open_account('purse', 'EUR', NULL), lastseat.open_account('till', 'EUR')`)
	call(t, pool, `transfer('cancelled', 'bank', 'ada', 7, 'EUR')`, `authorize('ask-cancelled', 'given-up', 'card', 'shop', 10, 'EUR')`)
	exec(t, pool, `UPDATE lastseat.river_job SET state = 'cancelled', finalized_at = now()`)
	call(t, pool,
		`transfer('t1', 'bank', 'ada', 500, 'EUR')`, `transfer('t2', 'ada', 'ben', 200, 'EUR')`, `transfer('t3', 'ben', 'bank', 300, 'EUR')`,
		`transfer('t4', 'mint', 'tom', 900, 'USD', 'wages', '{"month": 3}')`, `transfer('refused', 'ada', 'ben', 301, 'EUR')`, `transfer('mixed', 'ada', 'tom', 1, 'EUR')`,
		`transfer('t5', 'card', 'shop', 60, 'EUR')`, `reverse('undo', 't5')`, `reverse('undo-again', 't5')`, `transfer('t6', 'card', 'shop', 60, 'EUR')`,
		`authorize('ask-held', 'held', 'purse', 'till', 100, 'EUR')`,
		`authorize('ask-paid', 'paid', 'card', 'shop', 1000, 'EUR')`, `capture('capture', 'paid', 800)`, `refund('refund', 'paid', 100)`, `refund('refund-more', 'paid', 50)`, `refund('refund-all', 'paid', 651)`,
		`authorize('ask-whole', 'whole', 'card', 'shop', 20, 'EUR')`, `capture('capture-whole', 'whole')`, `refund('refund-whole', 'whole')`,
		`authorize('ask-voided', 'voided', 'card', 'shop', 30, 'EUR')`, `void('void', 'voided')`, `void('void-again', 'voided')`,
		`authorize('ask-declined', 'declined', 'ada', 'shop', 100000, 'EUR')`, `authorize('ask-mixed', 'mixed', 'ada', 'tom', 1, 'EUR')`)
	// It was asked for, and ran out, before now: by another way, for time can't be turned back by the functions.
	exec(t, pool, `INSERT INTO lastseat.river_job (kind, queue, max_attempts, scheduled_at, args) SELECT 'payment.authorize', 'lastseat', 25, now() - interval '2 hours',
		jsonb_build_object('key', 'ask-expired', 'payment', 'expired', 'from', 'card', 'to', 'shop', 'amount', 40, 'currency', 'EUR', 'expires_at',
		                   to_char((now() - interval '1 hour') AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS"Z"'))`)
	if err := worker(pool, outbox.Settings{}).Drain(t.Context()); err != nil {
		t.Fatal(err)
	}
	call(t, pool, `transfer('waiting', 'bank', 'ada', 5, 'EUR')`, `enqueue('toy', 'later', '{}', now() + interval '1 hour')`,
		`authorize('ask-open', 'open', 'card', 'shop', 70, 'EUR')`, `authorize('ask-odd', 'odd', 'tom', 'shop', 1, 'EUR')`)
	return pool
}

// call calls functions of lastseat.
func call(t *testing.T, pool *pgxpool.Pool, calls ...string) {
	t.Helper()
	for _, call := range calls {
		exec(t, pool, "SELECT lastseat."+call)
	}
}

// run returns the findings by the name of their check.
func run(t *testing.T, db audit.Beginner) (bool, map[string]audit.Finding) {
	t.Helper()
	findings := make(map[string]audit.Finding)
	ok, err := audit.Run(t.Context(), db, func(f audit.Finding) { findings[f.Check] = f })
	if err != nil {
		t.Fatal(err)
	}
	return ok, findings
}

// wantClean fails the test for every rule that is broken.
func wantClean(t *testing.T, db audit.Beginner) {
	t.Helper()
	ok, findings := run(t, db)
	if !ok || len(findings) != len(audit.Checks) {
		t.Errorf("ok is %t, %d of %d checks were made", ok, len(findings), len(audit.Checks))
	}
	for _, f := range findings {
		if !f.OK || len(f.Violations) != 0 {
			t.Errorf("%s: %v", f.Check, f.Violations)
		}
	}
}

// as is a connection with the rights of a role.
func as(t *testing.T, pool *pgxpool.Pool, role string) *pgx.Conn {
	t.Helper()
	conn, err := pgx.Connect(t.Context(), pool.Config().ConnString())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close(context.WithoutCancel(t.Context())) })
	if _, err := conn.Exec(t.Context(), "SET SESSION AUTHORIZATION "+role); err != nil {
		t.Fatal(err)
	}
	return conn
}
