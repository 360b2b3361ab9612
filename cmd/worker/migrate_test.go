package main

import (
	"strconv"
	"strings"
	"sync"
	"testing"

	"github.com/lastseat/lastseat/internal/clitest"
	"github.com/lastseat/lastseat/internal/testdb"
)

type step struct{ Migration, State string }

func states(t *testing.T, r clitest.Result) map[string]int {
	t.Helper()
	count := make(map[string]int)
	for _, s := range clitest.Lines[step](t, r) {
		count[s.State]++
	}
	return count
}

func TestMigrate(t *testing.T) {
	t.Parallel()
	url := testdb.Empty(t)
	pool := testdb.Pool(t, url)
	migrate := func(args ...string) clitest.Result {
		t.Helper()
		got := runWith(t, url, append([]string{"migrate", "-o", "json"}, args...)...)
		got.Succeeds(t)
		return got
	}
	there := func() bool { return testdb.Scalar[bool](t, pool, `SELECT to_regnamespace('lastseat') IS NOT NULL`) }

	all := states(t, migrate("status"))["missing"]
	if all < 5 {
		t.Fatalf("%d migrations of an empty database are missing", all)
	}
	if got := states(t, migrate("up", "--dry-run")); got["would apply"] != all || there() {
		t.Errorf("dry run of up: %v, and the schema is there: %t", got, there())
	}
	if got := migrate("down", "--dry-run"); got.Out != "" {
		t.Errorf("dry run of down on nothing: %q", got.Out)
	}
	if got := states(t, migrate("up")); got["applied"] != all {
		t.Errorf("up: %v, want %d applied", got, all)
	}
	if got := migrate("up"); got.Out != "" {
		t.Errorf("up once more: %q", got.Out)
	}
	if got := runWith(t, url, "migrate", "up"); got.Out != "nothing to do\n" {
		t.Errorf("up once more says %q", got.Out)
	}
	dry := clitest.Lines[step](t, migrate("down", "--dry-run"))
	if len(dry) != 1 || dry[0].State != "would take back" {
		t.Fatalf("dry run of down: %v", dry)
	}
	if got := states(t, migrate("status")); got["applied"] != all || got["missing"] != 0 {
		t.Errorf("after the dry run: %v, want all applied", got)
	}
	down := clitest.Lines[step](t, migrate("down"))
	if len(down) != 1 || down[0].Migration != dry[0].Migration || down[0].State != "taken back" {
		t.Errorf("down: %v, want %s taken back", down, dry[0].Migration)
	}
	if got := states(t, migrate("status")); got["missing"] != 1 {
		t.Errorf("after down: %v, want one missing", got)
	}
	if got := states(t, migrate("up")); got["applied"] != 1 {
		t.Errorf("up again: %v, want one applied", got)
	}
	runWith(t, url, "run", "--drain").Succeeds(t)
}

// A ledger with rows in it is not taken away, and nothing else is said.
func TestMigrateDownRefuses(t *testing.T) {
	t.Parallel()
	url := testdb.New(t)
	pool := open(t, url)
	give(t, pool, "k", 1)
	for range 10 {
		before := states(t, runWith(t, url, "migrate", "status", "-o", "json"))
		got := runWith(t, url, "migrate", "down", "-o", "json")
		if got.Code != 0 {
			if got.Fails(t, got.Code, "not empty"); got.Out != "" {
				t.Errorf("it prints %q, and took nothing back", got.Out)
			}
			if after := states(t, runWith(t, url, "migrate", "status", "-o", "json")); after["applied"] != before["applied"] {
				t.Errorf("%d migrations are left of %d", after["applied"], before["applied"])
			}
			if testdb.Scalar[int](t, pool, `SELECT count(*)::int FROM lastseat.requests`) != 1 {
				t.Error("the request is gone")
			}
			return
		}
	}
	t.Error("everything was taken back, the request with it")
}

// Several that start at once: one works, the others find it done.
func TestMigrateAtOnce(t *testing.T) {
	t.Parallel()
	url := testdb.Empty(t)
	all := states(t, runWith(t, url, "migrate", "status", "-o", "json"))["missing"]
	var wg sync.WaitGroup
	results := make([]clitest.Result, 4)
	for i := range results {
		wg.Go(func() { results[i] = runWith(t, url, "migrate", "up", "-o", "json") })
	}
	wg.Wait()
	applied := 0
	for _, got := range results {
		for line := range strings.Lines(got.Err) {
			if !strings.HasPrefix(line, "worker: the migration needs a lock: ") { // of one of the others
				t.Errorf("stderr: %s", line)
			}
		}
		if got.Code != 0 {
			t.Errorf("exit code %d, want 0", got.Code)
		}
		applied += states(t, got)["applied"]
	}
	if applied != all {
		t.Errorf("%d migrations were applied, want each once: %d", applied, all)
	}
}

func TestMigrateWithoutRight(t *testing.T) {
	t.Parallel()
	url := testdb.Empty(t)
	stranger := testdb.As(t, testdb.Pool(t, url), "")
	runWith(t, stranger, "migrate", "up").Fails(t, 77)
	runWith(t, stranger, "migrate", "status").Succeeds(t)
}

// Beside another migration it waits as long as --lock-timeout and --wait say, names who holds the lock, and ends with
// 75: nothing has changed, and the next run may succeed.
func TestMigrateGivesUpAtALock(t *testing.T) {
	t.Parallel()
	url := testdb.Empty(t)
	pool := testdb.Pool(t, url)
	conn, err := pool.Acquire(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Release()
	const another = `SELECT pg_advisory_lock(x'6c61737473656174'::bigint)` // a migration's lock: "lastseat"
	if _, err := conn.Exec(t.Context(), another); err != nil {
		t.Fatal(err)
	}
	holder := strconv.FormatUint(uint64(conn.Conn().PgConn().PID()), 10)
	for _, args := range [][]string{
		{"up"}, {"up", "--dry-run"}, {"down"}, {"status"},
	} {
		args = append(append([]string{"migrate"}, args...), "--lock-timeout", "400ms", "--wait", "0")
		got := runWith(t, url, args...)
		if got.Fails(t, 75, "no lock within 400ms", "process "+holder); got.Out != "" {
			t.Errorf("%v: it prints %q", args, got.Out)
		}
	}
	// with a limit it tries again, and says for whom it waits
	got := runWith(t, url, "migrate", "up", "--lock-timeout", "400ms", "--wait", "1s")
	if got.Code != 75 || strings.Count(got.Err, "process "+holder) < 2 {
		t.Errorf("exit code %d, stderr %q: it does not say for whom it waits", got.Code, got.Err)
	}
	for _, args := range [][]string{{"--lock-timeout", "soon"}, {"--wait", "5"}} {
		got := runWith(t, url, append([]string{"migrate", "up"}, args...)...)
		if got.Code != 64 || !strings.Contains(got.Err, args[0]+" is \""+args[1]) {
			t.Errorf("%v: exit code %d, stderr %q", args, got.Code, got.Err)
		}
	}
	if _, err := conn.Exec(t.Context(), `SELECT pg_advisory_unlock_all()`); err != nil {
		t.Fatal(err)
	}
	runWith(t, url, "migrate", "up", "--wait", "0").Succeeds(t)
}

// A dry run prints SQL that a DBA can run by hand: afterwards there is nothing left to do, and a worker runs.
func TestMigrateDryRunPrintsSQL(t *testing.T) {
	t.Parallel()
	url := testdb.Empty(t)
	printed := runWith(t, url, "migrate", "up", "--dry-run")
	printed.Succeeds(t)
	testdb.Exec(t, testdb.Pool(t, url), printed.Out)
	if got := runWith(t, url, "migrate", "up"); got.Out != "nothing to do\n" {
		t.Errorf("up after the printed SQL: %q, %q", got.Out, got.Err)
	}
	if got := runWith(t, url, "migrate", "up", "--dry-run"); got.Out != "-- nothing to do\n" {
		t.Errorf("another dry run prints %q", got.Out)
	}
	status := runWith(t, url, "migrate", "status")
	if status.Succeeds(t); !strings.Contains(status.Out, "functions 1 (") || strings.Contains(status.Out, "missing") {
		t.Errorf("the status is %q", status.Out)
	}
	runWith(t, url, "run", "--drain").Succeeds(t)
}
