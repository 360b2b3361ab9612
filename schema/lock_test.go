package schema_test

import (
	"fmt"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/lastseat/lastseat/internal/testdb"
	"github.com/lastseat/lastseat/schema"
)

// reported waits for a report that has all of these words.
func reported(t *testing.T, reports <-chan string, words ...string) string {
	t.Helper()
	for {
		select {
		case line := <-reports:
			if !slices.ContainsFunc(words, func(word string) bool { return !strings.Contains(line, word) }) {
				return line
			}
			t.Logf("reported: %s", line)
		case <-t.Context().Done():
			t.Fatalf("no report had %q", words)
		}
	}
}

// A transaction that stays open keeps a migration from a table. The migration names it, and does not keep producers
// waiting behind itself: one gets through while the transaction is still open.
func TestMigrationLetsProducersPass(t *testing.T) {
	t.Parallel()
	url := testdb.New(t)
	pool := testdb.Pool(t, url)
	config := pool.Config().ConnConfig
	config.RuntimeParams["application_name"] = "slowshop"
	blocker, err := pgx.ConnectConfig(t.Context(), config)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = blocker.Close(t.Context()) }()
	open, err := blocker.Begin(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if _, err := open.Exec(t.Context(), `SELECT lastseat.enqueue('toy', 'slow', '{}')`); err != nil {
		t.Fatal(err)
	}

	reports, done := make(chan string, 1000), make(chan error, 1)
	release := newer(t)
	go func() {
		_, err := schema.UpTo(t.Context(), url, release, 2, schema.LockTimeout(time.Second),
			schema.Report(func(line string) { reports <- line }))
		done <- err
	}()
	until(t, pool, `SELECT EXISTS (SELECT FROM pg_locks WHERE NOT granted AND relation = 'lastseat.requests'::regclass
		AND mode = 'AccessExclusiveLock')`)
	exec(t, pool, `SELECT lastseat.enqueue('toy', 'behind', '{}')`)
	line := reported(t, reports, fmt.Sprintf("process %d ", blocker.PgConn().PID()), "slowshop", "idle in transaction",
		"lastseat.enqueue(", "lastseat.requests")
	if strings.Contains(line, "\n") {
		t.Errorf("the report %q is more than a line", line)
	}
	select {
	case err := <-done:
		t.Fatalf("the migration went past an open transaction: %v", err)
	default:
	}
	if err := open.Commit(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := <-done; err != nil {
		t.Errorf("up: %v", err)
	}
	if got := testdb.Scalar[int](t, pool, `SELECT count(*)::int FROM lastseat.requests WHERE note IS NULL`); got != 2 {
		t.Errorf("%d requests are left of 2", got)
	}
}

// until waits until a query is true.
func until(t *testing.T, pool *pgxpool.Pool, sql string) {
	t.Helper()
	for !testdb.Scalar[bool](t, pool, sql) {
		time.Sleep(10 * time.Millisecond)
	}
}

// One that waits for another migration names it, and goes on when it is done; at its limit it gives up.
func TestMigrationWaitsForAnother(t *testing.T) {
	t.Parallel()
	url := testdb.Empty(t)
	other, err := pgx.Connect(t.Context(), url)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = other.Close(t.Context()) }()
	if _, err := other.Exec(t.Context(), `SELECT pg_advisory_lock($1)`, schema.LockMigrations); err != nil {
		t.Fatal(err)
	}
	soon := schema.LockTimeout(time.Millisecond)
	for what, run := range map[string]func() error{
		"up":      func() error { _, err := schema.Up(t.Context(), url, false, soon, schema.WaitLimit(0)); return err },
		"dry run": func() error { _, err := schema.Up(t.Context(), url, true, soon, schema.WaitLimit(0)); return err },
		"down":    func() error { _, err := schema.Down(t.Context(), url, false, soon, schema.WaitLimit(0)); return err },
		"status":  func() error { _, err := schema.Status(t.Context(), url, soon, schema.WaitLimit(0)); return err },
		"script":  func() error { _, err := schema.Script(t.Context(), url, soon, schema.WaitLimit(0)); return err },
	} {
		if err := run(); pgError(t, err).Code != "55P03" || !strings.Contains(err.Error(), "no lock within") {
			t.Errorf("%s beside a migration: %v, want that it gives up", what, err)
		}
	}
	reports, done := make(chan string, 1000), make(chan error, 1)
	go func() {
		_, err := schema.Up(t.Context(), url, false, schema.LockTimeout(time.Second),
			schema.Report(func(line string) { reports <- line }))
		done <- err
	}()
	reported(t, reports, fmt.Sprintf("process %d ", other.PgConn().PID()), "one runs at a time")
	if _, err := other.Exec(t.Context(), `SELECT pg_advisory_unlock($1)`, schema.LockMigrations); err != nil {
		t.Fatal(err)
	}
	if err := <-done; err != nil {
		t.Errorf("up: %v", err)
	}
}

var announced = regexp.MustCompile(`(?m)^-- Locks (lastseat\.\w+):`)

// A migration that keeps producers or workers from a table says so in a line "-- Locks lastseat.TABLE: ...", and so
// does one that no longer does. The functions lock no table.
func TestMigrationsSayWhatTheyLock(t *testing.T) {
	t.Parallel()
	url := testdb.Empty(t)
	pool := testdb.Pool(t, url)
	script, err := schema.Script(t.Context(), url)
	if err != nil {
		t.Fatal(err)
	}
	river, _, found := strings.Cut(script, "\nBEGIN;\n\n-- the session")
	if !found {
		t.Fatal("River's part of the script has no end")
	}
	exec(t, connect(t, pool, ""), river+"\nRESET ROLE")
	for _, part := range schema.Parts() {
		text := part.SQL
		var want []string
		for _, match := range announced.FindAllStringSubmatch(text, -1) {
			want = append(want, match[1])
		}
		var got []string
		tx, err := pool.Begin(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if _, err := tx.Exec(t.Context(), `CREATE TEMPORARY TABLE before ON COMMIT DROP AS SELECT oid FROM pg_class
			WHERE relnamespace = to_regnamespace('lastseat') AND relkind = 'r'; SET LOCAL ROLE lastseat_owner`); err != nil {
			t.Fatal(err)
		}
		if _, err := tx.Exec(t.Context(), text); err != nil {
			t.Fatalf("%s: %v", part.About, err)
		}
		if _, err := tx.Exec(t.Context(), `RESET ROLE`); err != nil {
			t.Fatal(err)
		}
		rows, err := tx.Query(t.Context(), `SELECT DISTINCT 'lastseat.' || relname FROM pg_catalog.pg_locks k
			JOIN pg_catalog.pg_class c ON c.oid = k.relation
			WHERE k.pid = pg_catalog.pg_backend_pid() AND k.relation IN (SELECT oid FROM pg_temp.before)
			  AND k.mode IN ('ShareLock', 'ShareRowExclusiveLock', 'ExclusiveLock', 'AccessExclusiveLock') ORDER BY 1`)
		if err == nil {
			got, err = pgx.CollectRows(rows, pgx.RowTo[string])
		}
		if err == nil {
			err = tx.Commit(t.Context())
		}
		if err != nil {
			t.Fatal(err)
		}
		slices.Sort(want)
		if !slices.Equal(got, want) {
			t.Errorf("%s locks %v, and says %v", part.About, got, want)
		}
	}
	if err := schema.Check(t.Context(), pool); err != nil {
		t.Error(err)
	}
}
