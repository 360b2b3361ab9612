package e2e

import (
	"strings"
	"syscall"
	"testing"

	"github.com/lastseat/lastseat/internal/clitest"
	"github.com/lastseat/lastseat/internal/testdb"
)

// examined is a run of the doctor: its exit code, and all that it says.
func examined(t *testing.T, url string, args ...string) (code int, told string) {
	t.Helper()
	p := start(t, on(url), "worker", append([]string{"doctor", "--patience", "1s"}, args...)...)
	return p.wait(t), p.out.String()
}

// A worker that is frozen holds its lane. The doctor says so with and without a probe, whether requests are due or not,
// and what it says to type lets another worker take over.
func TestDoctorFindsAFrozenWorker(t *testing.T) {
	t.Parallel()
	url := testdb.New(t)
	pool := testdb.Pool(t, url)
	open(t, pool)
	p := start(t, on(url), "worker", "run")
	clitest.Eventually(t, "a worker", func() bool { code, _ := examined(t, url); return code == 0 })
	p.signal(t, syscall.SIGSTOP)
	if code, told := examined(t, url); code != 1 || !strings.Contains(told, "has settled no probe within 1s (pid ") {
		t.Fatalf("exit code %d: %s", code, told)
	}
	if code, told := examined(t, url, "--probe=false"); code != 0 {
		t.Fatalf("nothing is due: exit code %d: %s", code, told)
	}
	give(t, pool, "k1", "k2")
	viewer := testdb.As(t, pool, "lastseat_viewer")
	for _, as := range []string{url, viewer} {
		clitest.Eventually(t, "the doctor to see that nothing is settled", func() bool {
			code, told := examined(t, as, "--probe=false")
			return code == 1 && strings.Contains(told, "is frozen, cut off or held up: 2 due, the oldest for ")
		})
	}
	_, told := examined(t, url, "--probe=false")
	_, sql, _ := strings.Cut(told, "or its session: ")
	sql, _, _ = strings.Cut(sql, ";")
	start(t, on(url), "worker", "run")
	testdb.Exec(t, pool, sql)
	clitest.Eventually(t, "the other worker", func() bool { code, _ := examined(t, url); return code == 0 })
	p.signal(t, syscall.SIGCONT)
	if got := balance(t, pool, "ada"); got != 2 {
		t.Errorf("ada has %d, want 2", got)
	}
}

// Workers that end one after the other, each in the same batch: between two of them, and while one is at it.
func TestDoctorFindsACrashLoop(t *testing.T) {
	t.Parallel()
	url := testdb.New(t)
	pool := testdb.Pool(t, url)
	open(t, pool)
	give(t, pool, "k1", "k2", "k3")
	release := holdBatch(t, pool)
	for range 3 {
		p := start(t, on(url), "worker", "run")
		held(t, pool)
		p.killed(t)
		clitest.Eventually(t, "its session to end", func() bool { // Postgres would notice only after the statement
			testdb.Exec(t, pool, `SELECT pg_terminate_backend(pid) FROM pg_stat_activity
				WHERE datname = current_database() AND application_name = 'lastseat lane'`)
			return testdb.Scalar[int](t, pool, `SELECT count(*)::int FROM pg_stat_activity
				WHERE datname = current_database() AND application_name = 'lastseat lane'`) == 0
		})
	}
	code, told := examined(t, url)
	for _, words := range []string{"has ended without leaving it", "2 workers in a row ended without settling anything"} {
		if code != 1 || !strings.Contains(told, words) {
			t.Errorf("exit code %d, %q is missing: %s", code, words, told)
		}
	}
	start(t, on(url), "worker", "run")
	held(t, pool)
	if code, told := examined(t, url); code != 1 || !strings.Contains(told, "3 workers in a row") {
		t.Errorf("exit code %d: %s", code, told)
	}
	release()
	clitest.Eventually(t, "all to be well again", func() bool { code, _ := examined(t, url); return code == 0 })
}

// A worker refuses to start behind a pooler that pools by transaction, and starts behind one that pools by session.
func TestWorkerBehindPoolers(t *testing.T) {
	t.Parallel()
	url := testdb.New(t)
	pool := testdb.Pool(t, url)
	open(t, pool)
	for _, args := range [][]string{{"run"}, {"run", "--drain"}} {
		p := start(t, on(clitest.PgBouncer(t, url, "transaction")), "worker", args...)
		p.exits(t, 78)
		if !strings.Contains(p.errs.String(), "a connection pooler changes the session between transactions") {
			t.Errorf("stderr: %s", p.errs.String())
		}
	}
	if code, told := examined(t, clitest.PgBouncer(t, url, "transaction")); code != 78 {
		t.Errorf("exit code %d: %s", code, told)
	}
	through := clitest.PgBouncer(t, url, "session")
	start(t, on(through), "worker", "run")
	clitest.Eventually(t, "a worker", func() bool { code, _ := examined(t, through); return code == 0 })
}
