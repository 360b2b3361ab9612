package e2e

import (
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/lastseat/lastseat/internal/clitest"
	"github.com/lastseat/lastseat/internal/localpg"
	"github.com/lastseat/lastseat/internal/testdb"
	"github.com/lastseat/lastseat/schema"
)

// ownDir is a directory that the server's user may enter; t.TempDir is not.
func ownDir(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "lastseat-e2e-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	if err := os.Chmod(dir, 0o711); err != nil {
		t.Fatal(err)
	}
	return dir
}

// privateServer starts a server that may be stopped and started again on the same directory.
func privateServer(t *testing.T, dir string) *localpg.Server {
	t.Helper()
	server, err := localpg.Start(t.Context(), localpg.Options{Dir: dir, Settings: map[string]string{"fsync": "off"}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = server.Stop() })
	return server
}

// `worker run` outlives a restart of Postgres; `run --drain` in the middle of a batch says that the database is gone.
func TestPostgresRestarts(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(ownDir(t), "pg")
	server := privateServer(t, dir)
	if _, err := schema.Up(t.Context(), server.URL(), false); err != nil {
		t.Fatal(err)
	}
	pool := testdb.Pool(t, server.URL())
	open(t, pool)
	cable := newProxy(t)
	url := cable.to(t, server.URL())
	run := start(t, on(url), "worker", "run", "-o", "json")
	enqueue(t, url, "transfer", "--key", "before", "--from", "bank", "--to", "ada", "--amount", "1", "--currency", "EUR",
		"--wait", "45s").exits(t, 0)

	// Both have a transaction open when the server goes: the standby's drain waits for the lane.
	release := holdBatch(t, pool)
	give(t, pool, "in the middle")
	held(t, pool)
	drain := start(t, on(url), "worker", "run", "--drain")
	clitest.Eventually(t, "the drain to connect", func() bool {
		return testdb.Scalar[int](t, pool, `SELECT count(*)::int FROM pg_stat_activity
			WHERE application_name = 'lastseat lane'`) == 2
	})
	pool.Reset()
	if err := server.Stop(); err != nil {
		t.Fatal(err)
	}
	release()
	drain.exits(t, 69, 75)
	down := enqueue(t, url, "transfer", "--key", "down", "--from", "bank", "--to", "ada", "--amount", "1", "--currency",
		"EUR")
	down.exits(t, 69)
	if !run.running() {
		t.Fatalf("worker run has ended with its database: %s", run.errs.String())
	}

	server = privateServer(t, dir)
	cable.to(t, server.URL())
	enqueue(t, url, "wait", "in the middle", "--timeout", "45s").exits(t, 0)
	enqueue(t, url, "transfer", "--key", "after", "--from", "bank", "--to", "ada", "--amount", "1", "--currency", "EUR",
		"--wait", "45s").exits(t, 0)
	pool = testdb.Pool(t, server.URL())
	if got := balance(t, pool, "ada"); got != 201 {
		t.Errorf("ada has %d, want 201: each once", got)
	}
	start(t, on(url), "worker", "doctor").exits(t, 0)
	run.signal(t, syscall.SIGTERM)
	run.exits(t, 0)
}

// holdBatch keeps a batch that writes entries from going on, until release is called. No lock does that: the lane
// passes by what somebody has locked.
func holdBatch(t *testing.T, pool *pgxpool.Pool) (release func()) {
	t.Helper()
	conn, err := pgx.ConnectConfig(t.Context(), pool.Config().ConnConfig)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close(t.Context()) })
	if _, err := conn.Exec(t.Context(), `
		SELECT pg_advisory_lock(42);
		CREATE FUNCTION public.held() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
			WHILE NOT pg_try_advisory_xact_lock_shared(42) LOOP PERFORM pg_sleep(0.01); END LOOP;
			RETURN NULL;
		END $$;
		CREATE TRIGGER held BEFORE INSERT ON lastseat.entries FOR EACH STATEMENT EXECUTE FUNCTION public.held()`); err != nil {
		t.Fatal(err)
	}
	return func() { // the server may be gone, and the lock with it
		_, _ = conn.Exec(t.Context(), `SELECT pg_advisory_unlock(42)`)
		_, _ = conn.Exec(t.Context(), `DROP TRIGGER held ON lastseat.entries`)
	}
}

// held waits until a batch is in hand that can't go on.
func held(t *testing.T, pool *pgxpool.Pool) {
	t.Helper()
	clitest.Eventually(t, "a batch to be held", func() bool {
		return testdb.Scalar[bool](t, pool, `SELECT EXISTS (SELECT FROM pg_stat_activity
			WHERE datname = current_database() AND application_name = 'lastseat lane' AND wait_event = 'PgSleep')`)
	})
}

// A drain whose connection is cut in the middle of a batch exits with 69 or 75. Nothing of the batch is done, and the
// next drain does it.
func TestDrainIsCutOff(t *testing.T) {
	t.Parallel()
	direct := testdb.New(t)
	pool := testdb.Pool(t, direct)
	open(t, pool)
	give(t, pool, "k1", "k2", "k3")
	cable := newProxy(t)
	release := holdBatch(t, pool)
	drain := start(t, on(cable.to(t, direct)), "worker", "run", "--drain")
	held(t, pool)
	cable.cut()
	release()
	if code := drain.wait(t); code != 69 && code != 75 {
		t.Errorf("exit code %d, want 69 or 75; stderr %q", code, drain.errs.String())
	}
	drain.quiet(t)
	start(t, on(direct), "worker", "run", "--drain").exits(t, 0)
	if got := balance(t, pool, "ada"); got != 3 {
		t.Errorf("ada has %d, want 3: each once", got)
	}
}

// The reply to a COMMIT is lost: the drain looks again and does nothing twice.
func TestDrainLosesReply(t *testing.T) {
	t.Parallel()
	direct := testdb.New(t)
	pool := testdb.Pool(t, direct)
	open(t, pool)
	var keys []string
	for n := range 50 {
		keys = append(keys, fmt.Sprintf("k%d", n))
	}
	give(t, pool, keys...)
	cable := newProxy(t)
	url := cable.to(t, direct)
	cable.loseReply(3)
	drain := start(t, on(url, "LASTSEAT_BATCH=5"), "worker", "run", "--drain")
	drain.exits(t, 0)
	if !strings.Contains(drain.errs.String(), "the reply to COMMIT was lost") {
		t.Errorf("no reply was lost, or it is not said: %q", drain.errs.String())
	}
	if got := balance(t, pool, "ada"); got != 50 {
		t.Errorf("ada has %d, want 50: each once", got)
	}
	start(t, on(direct), "worker", "audit").exits(t, 0)
}

// enqueue whose COMMIT is not answered exits with 75, and the same command tells what became of it.
func TestEnqueueLosesReply(t *testing.T) {
	t.Parallel()
	direct := testdb.New(t)
	pool := testdb.Pool(t, direct)
	open(t, pool)
	cable := newProxy(t)
	url := cable.to(t, direct)
	args := []string{"transfer", "--key", "k", "--from", "bank", "--to", "ada", "--amount", "1", "--currency", "EUR",
		"-o", "json"}
	cable.loseReply(1)
	lost := enqueue(t, url, args...)
	if code := lost.wait(t); code != 75 || strings.Count(lost.errs.String(), "\n") != 1 || lost.out.String() != "" {
		t.Errorf("exit code %d, stdout %q, stderr %q; want 75 and a line", code, lost.out.String(), lost.errs.String())
	}
	again := enqueue(t, url, args...)
	again.exits(t, 0)
	if !strings.Contains(again.out.String(), `"duplicate":true`) {
		t.Errorf("asked again it prints %q, want a duplicate: the server had the COMMIT", again.out.String())
	}
	if got := testdb.Scalar[int](t, pool, `SELECT count(*)::int FROM lastseat.river_job`); got != 1 {
		t.Errorf("%d jobs, want 1", got)
	}
}

// enqueue whose connection is cut in the middle of a statement has done nothing: exit code 69.
func TestEnqueueIsCutOff(t *testing.T) {
	t.Parallel()
	direct := testdb.New(t)
	pool := testdb.Pool(t, direct)
	open(t, pool)
	tx, err := pool.Begin(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = tx.Rollback(t.Context()) }()
	const ask = `SELECT lastseat.transfer('k', 'bank', 'ada', 1, 'EUR')`
	if _, err := tx.Exec(t.Context(), ask); err != nil { // another session asks with the same key: ours waits for it
		t.Fatal(err)
	}
	cable := newProxy(t)
	p := start(t, on(cable.to(t, direct)), "enqueue", "transfer", "--key", "k", "--from", "bank", "--to", "ada",
		"--amount", "0.01", "--currency", "EUR")
	clitest.Eventually(t, "enqueue to wait for the key", func() bool {
		return testdb.Scalar[bool](t, pool, `SELECT EXISTS (SELECT FROM pg_stat_activity
			WHERE datname = current_database() AND application_name = 'lastseat enqueue' AND wait_event_type = 'Lock')`)
	})
	cable.cut()
	if code := p.wait(t); code != 69 || strings.Count(p.errs.String(), "\n") != 1 {
		t.Errorf("exit code %d, stderr %q; want 69 and a line", code, p.errs.String())
	}
	if err := tx.Rollback(t.Context()); err != nil {
		t.Fatal(err)
	}
	nobodyLeft(t, pool)
	if got := testdb.Scalar[int](t, pool, `SELECT count(*)::int FROM lastseat.requests`); got != 0 {
		t.Errorf("%d requests are in", got)
	}
}

// The database goes away in the middle of an import: what was committed is in, it says so, and the import can be run
// again.
func TestImportIsCutOff(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		code int
		away func(cable *proxy)
	}{
		"between chunks": {69, (*proxy).cut},
		"at the COMMIT":  {75, func(cable *proxy) { cable.loseReply(1) }},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			direct := testdb.New(t)
			pool := testdb.Pool(t, direct)
			open(t, pool)
			cable := newProxy(t)
			file, pour := slowly(t)
			p := startWith(t, file, on(cable.to(t, direct)), "enqueue", "import", "-", "--chunk", "2")
			row := func(n int) string { return fmt.Sprintf("k%d,bank,ada,1,EUR\n", n) }
			const header = "key,from_account,to_account,amount,currency\n"
			write(t, pour, header+row(1)+row(2))
			clitest.Eventually(t, "the first chunk to be in", func() bool {
				return testdb.Scalar[int](t, pool, `SELECT count(*)::int FROM lastseat.requests`) == 2
			})
			c.away(cable)
			write(t, pour, row(3)+row(4))
			_ = pour.Close()
			if code := p.wait(t); code != c.code || !strings.Contains(p.errs.String(), "up to line 3 is in") ||
				strings.Count(p.errs.String(), "\n") != 1 {
				t.Errorf("exit code %d, stderr %q; want %d and a line that says what is in", code, p.errs.String(), c.code)
			}
			again := startWith(t, strings.NewReader(header+row(1)+row(2)+row(3)+row(4)), on(direct), "enqueue", "import", "-",
				"--chunk", "2")
			again.exits(t, 0)
			if got := testdb.Scalar[int](t, pool, `SELECT count(*)::int FROM lastseat.river_job`); got != 4 {
				t.Errorf("%d jobs, want 4", got)
			}
		})
	}
}

func write(t *testing.T, w io.Writer, text string) {
	t.Helper()
	if _, err := io.WriteString(w, text); err != nil {
		t.Fatal(err)
	}
}
