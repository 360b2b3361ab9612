package doctor_test

import (
	"context"
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/lastseat/lastseat/internal/clitest"
	"github.com/lastseat/lastseat/internal/doctor"
	"github.com/lastseat/lastseat/internal/testdb"
	"github.com/lastseat/lastseat/jobs"
	"github.com/lastseat/lastseat/outbox"
)

func TestMain(m *testing.M) { os.Exit(testdb.MainMigrated(m)) }

// patient is a doctor who waits no longer than a test should.
var patient = doctor.Options{Patience: 500 * time.Millisecond, Open: time.Hour}

// calm is for where nothing is wrong: on a busy machine half a second is soon over.
var calm = doctor.Options{Patience: time.Minute, Open: time.Hour}

// shop is a database with two accounts.
type shop struct {
	t    *testing.T
	url  string
	pool *pgxpool.Pool
}

func newShop(t *testing.T) *shop {
	t.Helper()
	url := testdb.New(t)
	return openShop(t, url)
}

func openShop(t *testing.T, url string) *shop {
	t.Helper()
	s := &shop{t: t, url: url, pool: testdb.Pool(t, url)}
	s.exec(`SELECT lastseat.open_account('bank', 'EUR', NULL), lastseat.open_account('ada', 'EUR')`)
	return s
}

func (s *shop) exec(sql string, args ...any) {
	s.t.Helper()
	testdb.Exec(s.t, s.pool, sql, args...)
}

// ask asks for n transfers.
func (s *shop) ask(name string, n int) {
	s.t.Helper()
	s.exec(`SELECT lastseat.transfer($1 || n, 'bank', 'ada', 1, 'EUR') FROM generate_series(1, $2::int) n`, name, n)
}

// work runs a worker in this process until the test ends, or stop is called.
func (s *shop) work(settings outbox.Settings) (stop func()) {
	s.t.Helper()
	return s.workOn(s.url, settings)
}

func (s *shop) workOn(url string, settings outbox.Settings) (stop func()) {
	s.t.Helper()
	kinds := &outbox.Kinds{}
	jobs.Register(kinds)
	pool, err := pgxpool.New(s.t.Context(), url)
	if err != nil {
		s.t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.WithoutCancel(s.t.Context()))
	done := make(chan error, 1)
	go func() { done <- outbox.NewWorker(pool, kinds, settings).Run(ctx) }()
	stopped := false
	stop = func() {
		if stopped {
			return
		}
		stopped = true
		cancel()
		if err := <-done; err != nil {
			s.t.Error(err)
		}
		pool.Close()
	}
	s.t.Cleanup(stop)
	lanes := max(1, settings.Lanes)
	clitest.Eventually(s.t, "the lanes to be taken", func() bool {
		return testdb.Scalar[int](s.t, s.pool, `SELECT count(*)::int FROM lastseat.lanes
			WHERE holder IS NOT NULL AND lanes = $1`, lanes) == lanes
	})
	return stop
}

// session is a session of somebody's that ends with the test.
func (s *shop) session(url string, statements ...string) (conn *pgx.Conn, pid uint32) {
	s.t.Helper()
	conn, err := pgx.Connect(s.t.Context(), url)
	if err != nil {
		s.t.Fatal(err)
	}
	s.t.Cleanup(func() { _ = conn.Close(context.WithoutCancel(s.t.Context())) })
	for _, sql := range statements {
		if _, err := conn.Exec(s.t.Context(), sql); err != nil {
			s.t.Fatal(err)
		}
	}
	return conn, conn.PgConn().PID()
}

func examine(t *testing.T, url string, options doctor.Options) []doctor.Finding {
	t.Helper()
	config, err := pgxpool.ParseConfig(url)
	if err != nil {
		t.Fatal(err)
	}
	config.ConnConfig.DefaultQueryExecMode = pgx.QueryExecModeExec
	pool, err := pgxpool.NewWithConfig(t.Context(), config)
	if err != nil {
		t.Fatal(err)
	}
	defer pool.Close()
	findings, err := doctor.Examine(t.Context(), pool, options)
	if err != nil {
		t.Fatal(err)
	}
	return findings
}

// well demands that nothing is wrong, nor worth a warning.
func well(t *testing.T, findings []doctor.Finding) {
	t.Helper()
	for _, f := range findings {
		if f.Severity == doctor.Wrong || f.Severity == doctor.Warning || !f.OK {
			t.Errorf("%s: %s: %s", f.Check, f.Severity, f.Told)
		}
	}
}

// sound demands that nothing is wrong: a busy lane may be behind.
func sound(t *testing.T, findings []doctor.Finding) {
	t.Helper()
	for _, f := range findings {
		lacks(t, findings, f.Check)
	}
}

// has demands a finding with all the words, and returns it.
func has(t *testing.T, findings []doctor.Finding, check string, severity doctor.Severity, words ...any) doctor.Finding {
	t.Helper()
	for _, f := range findings {
		told := f.Check == check && f.Severity == severity
		for _, word := range words {
			told = told && strings.Contains(f.Told, fmt.Sprint(word))
		}
		if told {
			return f
		}
	}
	t.Errorf("nothing is said of %s, %s, with %v: %+v", check, severity, words, findings)
	return doctor.Finding{}
}

// lacks demands that a check has nothing wrong.
func lacks(t *testing.T, findings []doctor.Finding, check string) {
	t.Helper()
	for _, f := range findings {
		if f.Check == check && f.Severity == doctor.Wrong {
			t.Errorf("%s: %s", check, f.Told)
		}
	}
}

// All is well: a fresh database with a worker, an idle one, a busy one, several lanes, for each role that may look.
func TestWell(t *testing.T) {
	t.Parallel()
	s := newShop(t)
	stop := s.work(outbox.Settings{})
	viewer, worker := testdb.As(t, s.pool, "lastseat_viewer"), testdb.As(t, s.pool, "lastseat_worker")
	for _, url := range []string{s.url, worker} {
		findings := examine(t, url, patient)
		well(t, findings)
		has(t, findings, "probe", doctor.OK, "settled a probe")
	}
	findings := examine(t, viewer, patient)
	well(t, findings)
	has(t, findings, "role", doctor.Note, "no probe is sent")
	s.ask("k", 3000)
	sound(t, examine(t, s.url, doctor.Options{}))
	sound(t, examine(t, viewer, doctor.Options{}))
	stop()

	s.work(outbox.Settings{Lanes: 3})
	s.ask("m", 300)
	findings = examine(t, worker, doctor.Options{})
	sound(t, findings)
	for lane := range 3 {
		has(t, findings, "probe", doctor.OK, fmt.Sprintf("lane %d of 3 settled a probe", lane))
	}
	if left := testdb.Scalar[int](t, s.pool, `SELECT count(*)::int FROM lastseat.river_job
		WHERE kind = 'lastseat.probe'`); left != 0 {
		t.Errorf("%d probes are left", left)
	}
}

// A probe is a job without effect: it makes no request and no history, and a request of its kind is refused.
func TestProbeLeavesNothing(t *testing.T) {
	t.Parallel()
	s := newShop(t)
	s.work(outbox.Settings{KeepCompleted: time.Hour})
	counts := func() string {
		return testdb.Scalar[string](t, s.pool, `SELECT concat_ws(' ', (SELECT count(*) FROM lastseat.requests),
			(SELECT count(*) FROM lastseat.outcome_log), (SELECT count(*) FROM lastseat.river_job WHERE queue = 'lastseat'))`)
	}
	before := counts()
	has(t, examine(t, s.url, patient), "probe", doctor.OK, "settled")
	if after := counts(); after != before {
		t.Errorf("requests, outcomes and jobs are %s, were %s", after, before)
	}
	s.exec(`SELECT lastseat.enqueue('lastseat.probe', 'mine', '{}')`)
	clitest.Eventually(t, "a request of the probes' kind to be refused", func() bool {
		return testdb.Scalar[bool](t, s.pool, `SELECT EXISTS (SELECT FROM lastseat.requests WHERE key = 'mine'
			AND status = 'rejected' AND code = 'invalid_args')`)
	})
}

// Nobody works, and a stranger has the lane's lock: the doctor used to take the stranger for a worker.
func TestStrangerAndNoWorker(t *testing.T) {
	t.Parallel()
	s := newShop(t)
	stranger := testdb.As(t, s.pool, "")
	key := testdb.Scalar[int64](t, s.pool, `SELECT lastseat.lane_lock('lastseat', 0, 1)`)
	_, pid := s.session(stranger, fmt.Sprintf(`SELECT pg_advisory_lock(%d)`, key))
	for _, url := range []string{s.url, testdb.As(t, s.pool, "lastseat_viewer")} {
		findings := examine(t, url, patient)
		has(t, findings, "lanes", doctor.Wrong, "no worker holds lane 0")
		has(t, findings, "strangers", doctor.Warning, "pid "+fmt.Sprint(pid))
	}
	s.work(outbox.Settings{})
	findings := examine(t, s.url, patient)
	lacks(t, findings, "lanes")
	has(t, findings, "strangers", doctor.Warning, "pid "+fmt.Sprint(pid))
}

// A session that a pooler in transaction mode has kept: it has the lane's lock and its name, and nobody uses it.
func TestPoolersLeftover(t *testing.T) {
	t.Parallel()
	s := newShop(t)
	worker := testdb.As(t, s.pool, "lastseat_worker")
	key := testdb.Scalar[int64](t, s.pool, `SELECT lastseat.lane_lock('lastseat', 0, 1)`)
	_, pid := s.session(worker, `SET application_name = 'lastseat lane'`, fmt.Sprintf(`SELECT pg_advisory_lock(%d)`, key))
	f := has(t, examine(t, s.url, patient), "strangers", doctor.Wrong, "pooler", fmt.Sprint(pid))
	if f.Do != fmt.Sprintf("SELECT pg_terminate_backend(%d)", pid) {
		t.Errorf("to type: %q", f.Do)
	}
}
