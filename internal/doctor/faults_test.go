package doctor_test

import (
	"context"
	"fmt"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/lastseat/lastseat/internal/clitest"
	"github.com/lastseat/lastseat/internal/doctor"
	"github.com/lastseat/lastseat/internal/localpg"
	"github.com/lastseat/lastseat/internal/testdb"
	"github.com/lastseat/lastseat/outbox"
	"github.com/lastseat/lastseat/schema"
)

// Somebody has an account's row locked and idles: the doctor names the request, the row, and who, as far as the role
// sees it.
func TestLockedAccount(t *testing.T) {
	t.Parallel()
	s := newShop(t)
	s.work(outbox.Settings{})
	service := testdb.As(t, s.pool, "lastseat_owner")
	_, pid := s.session(service, `BEGIN`, `SELECT id FROM lastseat.accounts WHERE id = 'ada' FOR UPDATE`)
	s.ask("k", 2)
	row := "lastseat.accounts (id)=(ada)"
	clitest.Eventually(t, "the first request to be due for a second", func() bool {
		return testdb.Scalar[bool](t, s.pool, `SELECT min(scheduled_at) < now() - interval '1.1 s' FROM lastseat.river_job
			WHERE queue = 'lastseat'`)
	})
	findings := examine(t, s.url, patient)
	f := has(t, findings, "locks", doctor.Wrong, `"k1"`, row, fmt.Sprintf("pid %d", pid), "idle in transaction",
		"FOR UPDATE")
	if f.Do != fmt.Sprintf("end that transaction: SELECT pg_terminate_backend(%d)", pid) {
		t.Errorf("to type: %q", f.Do)
	}
	has(t, examine(t, testdb.As(t, s.pool, "lastseat_viewer"), patient), "locks", doctor.Wrong, row,
		fmt.Sprintf("pid %d", pid), "GRANT pg_read_all_stats TO")
	has(t, examine(t, s.url, doctor.Options{Patience: time.Hour}), "locks", doctor.Warning, row)
}

// Nothing is scheduled while no worker runs, and River's scheduler can't read one row.
func TestOverdue(t *testing.T) {
	t.Parallel()
	s := newShop(t)
	s.exec(`SELECT lastseat.enqueue('payment.transfer', 'late', '{"from": "bank", "to": "ada", "amount": 1,
		"currency": "EUR"}', now() + interval '1 hour')`)
	s.exec(`UPDATE lastseat.river_job SET scheduled_at = now() - interval '1 minute'`)
	has(t, examine(t, s.url, patient), "scheduled", doctor.Wrong, "no lane makes them available")
	s.work(outbox.Settings{})
	clitest.Eventually(t, "the request to be settled", func() bool {
		return testdb.Scalar[bool](t, s.pool, `SELECT EXISTS (SELECT FROM lastseat.requests WHERE status = 'applied')`)
	})
	well(t, examine(t, s.url, calm))

	odd := testdb.Scalar[int64](t, s.pool, `INSERT INTO lastseat.river_job (kind, queue, args, state, scheduled_at, tags,
		max_attempts) VALUES ('odd', 'others', '{}', 'scheduled', now() - interval '1 minute', '{NULL}', 1) RETURNING id`)
	has(t, examine(t, s.url, patient), "scheduled", doctor.Wrong, "others", fmt.Sprintf("job %d (its tags)", odd))
}

// A request that somebody with a worker's login has put off for good is named, and what to type brings it back.
func TestPostponed(t *testing.T) {
	t.Parallel()
	s := newShop(t)
	s.exec(`SELECT lastseat.enqueue('payment.transfer', 'next month', '{"from": "bank", "to": "ada", "amount": 1,
		"currency": "EUR"}', now() + interval '1 month')`)
	s.work(outbox.Settings{})
	has(t, examine(t, s.url, patient), "postponed", doctor.OK, "nothing is scheduled for more than a year")
	s.exec(`UPDATE lastseat.river_job SET scheduled_at = '9999-01-01T00:00:00Z'
		WHERE kind = 'payment.transfer'`)
	f := has(t, examine(t, s.url, patient), "postponed", doctor.Warning, `1 requests of the queue lastseat`,
		`"next month" for 9999-01-01`)
	s.exec(strings.TrimPrefix(f.Do, "if nobody asked for that: "))
	clitest.Eventually(t, "the request to be settled", func() bool {
		return testdb.Scalar[bool](t, s.pool, `SELECT EXISTS (SELECT FROM lastseat.requests WHERE status = 'applied')`)
	})
}

// A request of a kind that no worker has, a queue that no worker works, and one that is paused.
func TestNobodysRequests(t *testing.T) {
	t.Parallel()
	s := newShop(t)
	s.work(outbox.Settings{})
	s.exec(`SELECT lastseat.enqueue('loyalty.stamp', 'stamp', '{}')`)
	s.exec(`SELECT lastseat.enqueue('loyalty.stamp', 'elsewhere', '{}', queue => 'loyalty')`)
	s.exec(`UPDATE lastseat.river_job SET created_at = now() - interval '1 minute',
		scheduled_at = now() - interval '1 minute' WHERE queue = 'loyalty'`)
	findings := examine(t, s.url, doctor.Options{Patience: 5 * time.Second})
	has(t, findings, "kinds", doctor.Warning, "loyalty.stamp", "queue lastseat")
	has(t, findings, "queues", doctor.Wrong, "no worker works the queue loyalty: 1 due, the oldest for 1m")
	clitest.Eventually(t, "the doctor to lose patience", func() bool {
		for _, f := range examine(t, s.url, patient) {
			if f.Check == "kinds" && f.Severity == doctor.Wrong {
				return true
			}
		}
		return false
	})
	s.exec(`INSERT INTO lastseat.river_queue (name, paused_at) VALUES ('lastseat', now())
		ON CONFLICT (name) DO UPDATE SET paused_at = now()`)
	f := has(t, examine(t, s.url, patient), "queues", doctor.Wrong, "lastseat is paused")
	if f.Do != "worker resume" {
		t.Errorf("it says to type %q", f.Do)
	}
	s.exec(`UPDATE lastseat.river_queue SET paused_at = NULL`)
	for _, f := range examine(t, s.url, patient) {
		if f.Check == "queues" && f.Told == "the queue lastseat is paused" {
			t.Errorf("after what it says to type: %s", f.Told)
		}
	}
}

// Requests of very many kinds that no worker has are told of in a few lines, and no worker is accused of them: it has
// nothing to settle.
func TestKindsThatNobodyHas(t *testing.T) {
	t.Parallel()
	s := newShop(t)
	s.work(outbox.Settings{})
	s.ask("k", 1)
	clitest.Eventually(t, "the request to be settled", func() bool {
		return testdb.Scalar[bool](t, s.pool, `SELECT EXISTS (SELECT FROM lastseat.requests WHERE status = 'applied')`)
	})
	s.exec(`SELECT lastseat.enqueue('kind.' || n, 'of kind ' || n, '{}') FROM generate_series(1, 50) n`)
	s.exec(`UPDATE lastseat.river_job SET created_at = now() - interval '1 hour', scheduled_at = now() - interval '1 hour'
		WHERE kind LIKE 'kind.%'`)
	s.exec(`UPDATE lastseat.lanes SET settled_at = now() - interval '1 hour', taken_at = now() - interval '2 hours'`)
	findings := examine(t, s.url, patient)
	lacks(t, findings, "queues")
	has(t, findings, "kinds", doctor.Wrong, "has the kind kind.1:")
	has(t, findings, "kinds", doctor.Wrong, "and 40 more")
	has(t, findings, "queues", doctor.OK, "0 due")
	if len(findings) > 40 {
		t.Errorf("%d findings", len(findings))
	}
}

// A charge whose processor nobody has keeps its money until somebody has it declined: what the doctor says to type does
// that.
func TestCallsThatNobodyMakes(t *testing.T) {
	t.Parallel()
	s := newShop(t)
	s.work(outbox.Settings{})
	s.exec(`SELECT lastseat.charge('typo', 'p1', 'bank', 'ada', 100, 'EUR', 'strpie', 'pm_card')`)
	clitest.Eventually(t, "the call to be written", func() bool {
		return testdb.Scalar[bool](t, s.pool, `SELECT EXISTS (SELECT FROM lastseat.calls)`)
	})
	s.exec(`BEGIN; SET LOCAL session_replication_role = replica;
		UPDATE lastseat.calls SET created_at = now() - interval '1 hour'; COMMIT`)
	f := has(t, examine(t, s.url, patient), "calls", doctor.Warning, "1 calls of strpie")
	_, statement, _ := strings.Cut(f.Do, "as lastseat_worker: ")
	testdb.Exec(t, testdb.Pool(t, testdb.As(t, s.pool, "lastseat_worker")), statement)
	clitest.Eventually(t, "the charge to be declined", func() bool {
		return testdb.Scalar[bool](t, s.pool, `SELECT EXISTS (SELECT FROM lastseat.outcome('typo') WHERE code = 'declined')`)
	})
	if left := testdb.Scalar[int64](t, s.pool, `SELECT sum(balance) FROM lastseat.clearing()`); left != 0 {
		t.Errorf("%d are left on the clearing account", left)
	}
}

// Requests that are given up on are named, and no reason to end a worker.
func TestFailed(t *testing.T) {
	t.Parallel()
	s := newShop(t)
	s.work(outbox.Settings{})
	s.exec(`INSERT INTO lastseat.river_job (kind, queue, args, max_attempts, attempt, state, finalized_at)
		VALUES ('loyalty.stamp', 'lastseat', '{"key": "stamp"}', 1, 1, 'discarded', now())`)
	findings := examine(t, s.url, patient)
	has(t, findings, "failed", doctor.Warning, "1 requests were given up on", "loyalty.stamp")
	lacks(t, findings, "failed")
}

// Settings of a database that keep triggers from firing, or services from asking.
func TestSettings(t *testing.T) {
	t.Parallel()
	s := newShop(t)
	s.work(outbox.Settings{})
	name := testdb.Scalar[string](t, s.pool, `SELECT quote_ident(current_database())`)
	for setting, severity := range map[string]doctor.Severity{
		"session_replication_role = replica": doctor.Wrong, "default_transaction_read_only = on": doctor.Warning,
	} {
		s.exec(`ALTER DATABASE ` + name + ` SET ` + setting)
		findings := examine(t, s.url, patient)
		has(t, findings, "server", severity, setting[:len("default_transaction_read")])
		s.exec(`ALTER DATABASE ` + name + ` RESET ALL`)
	}
	well(t, examine(t, s.url, calm))
}

// own is a shop on a server of its own, which a test may spoil.
func own(t *testing.T, settings map[string]string) *shop {
	t.Helper()
	settings["fsync"], settings["shared_buffers"] = "off", "16MB"
	server, err := localpg.Start(t.Context(), localpg.Options{Settings: settings})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = server.Stop() })
	if _, err := schema.Up(t.Context(), server.URL(), false); err != nil {
		t.Fatal(err)
	}
	return openShop(t, server.URL())
}

// What holds back the horizon is named: a prepared transaction, a session, a slot. So is a synchronous standby that is
// missing, for which every commit waits: the lane's too, and the doctor's not.
func TestHorizonAndStandby(t *testing.T) {
	t.Parallel()
	s := own(t, map[string]string{"max_prepared_transactions": "2", "wal_level": "replica"})
	s.work(outbox.Settings{})
	well(t, examine(t, s.url, calm))
	s.session(s.url, `BEGIN`, `SELECT pg_current_xact_id()`, `PREPARE TRANSACTION 'forgotten'`)
	_, pid := s.session(s.url, `BEGIN ISOLATION LEVEL REPEATABLE READ`, `SELECT 1`)
	findings := examine(t, s.url, doctor.Options{Patience: patient.Patience, Open: time.Millisecond})
	f := has(t, findings, "horizon", doctor.Warning, `"forgotten"`, "outcomes_since")
	if want := "in the database postgres: ROLLBACK PREPARED 'forgotten', or COMMIT PREPARED"; f.Do != want {
		t.Errorf("to type: %q", f.Do)
	}
	has(t, findings, "horizon", doctor.Warning, fmt.Sprintf("pid %d", pid), "dead rows")
	well(t, examine(t, s.url, calm))
	s.exec(`ROLLBACK PREPARED 'forgotten'`)

	s.exec(`ALTER SYSTEM SET synchronous_standby_names = 'elsewhere'`)
	s.exec(`SELECT pg_reload_conf()`)
	clitest.Eventually(t, "the setting", func() bool {
		return testdb.Scalar[string](t, s.pool, `SHOW synchronous_standby_names`) == "elsewhere"
	})
	clitest.Eventually(t, "the lane's session to hear of it, too", func() bool {
		findings = examine(t, s.url, patient)
		return slices.ContainsFunc(findings, func(f doctor.Finding) bool { return f.Check == "probe" && !f.OK })
	})
	has(t, findings, "standbys", doctor.Wrong, "elsewhere", "0 of 1 are there")
	// The lane waits for the standby itself, or for the lock of whoever notifies and waits for the standby.
	if f := has(t, findings, "probe", doctor.Wrong); !strings.Contains(f.Told, "waits for SyncRep") &&
		!strings.Contains(f.Told, "waits for object") {
		t.Errorf("the probe says %s", f.Told)
	}
	s.exec(`ALTER SYSTEM RESET synchronous_standby_names`)
	s.exec(`SELECT pg_reload_conf()`)
	clitest.Eventually(t, "the lane to go on", func() bool {
		for _, f := range examine(t, s.url, patient) {
			if !f.OK {
				return false
			}
		}
		return true
	})
}

// Two servers of the connection string accept writes.
func TestTwoPrimaries(t *testing.T) {
	t.Parallel()
	first := own(t, map[string]string{})
	second := own(t, map[string]string{})
	at, other := parse(t, first.url), parse(t, second.url)
	password, _ := at.User.Password()
	second.exec(fmt.Sprintf(`ALTER ROLE %s PASSWORD '%s'`, pgx.Identifier{at.User.Username()}.Sanitize(), password))
	first.work(outbox.Settings{})
	at.Host += "," + other.Host
	f := has(t, examine(t, at.String(), patient), "primaries", doctor.Wrong, "2 servers accept writes",
		parse(t, first.url).Host, other.Host, "1 lanes held", "0 lanes held")
	if f.Cause != doctor.Setup {
		t.Errorf("the cause is %v", f.Cause)
	}
	at.Host = parse(t, first.url).Host + ",localhost:" + parse(t, first.url).Port()
	well(t, examine(t, at.String(), calm))
}

func parse(t *testing.T, text string) *url.URL {
	t.Helper()
	at, err := url.Parse(text)
	if err != nil {
		t.Fatal(err)
	}
	return at
}

// Behind a pooler that pools by session all is well, although it says another process id than Postgres. One that pools
// by transaction, or by statement, is found out, whatever it hands out first.
func TestPoolers(t *testing.T) {
	t.Parallel()
	s := newShop(t)
	through := clitest.PgBouncer(t, s.url, "session", "default_pool_size = 20")
	s.workOn(through, outbox.Settings{})
	for range 3 {
		well(t, examine(t, through, calm))
	}
	for _, mode := range []string{"transaction", "statement"} {
		for _, robin := range []string{"0", "1"} {
			url := clitest.PgBouncer(t, s.url, mode, "default_pool_size = 10", "server_round_robin = "+robin)
			crowd(t, url)
			for range 5 {
				f := session(t, url)
				if f.Severity != doctor.Wrong || f.Cause != doctor.Setup {
					t.Errorf("%s, round robin %s: %+v", mode, robin, f)
				}
			}
		}
	}
}

// crowd has a pooler open several sessions, so that it has a choice.
func crowd(t *testing.T, url string) {
	t.Helper()
	done := make(chan struct{})
	for range 6 {
		go func() {
			defer func() { done <- struct{}{} }()
			config, err := pgx.ParseConfig(url)
			if err != nil {
				return
			}
			config.DefaultQueryExecMode = pgx.QueryExecModeSimpleProtocol
			conn, err := pgx.ConnectConfig(t.Context(), config)
			if err != nil {
				return
			}
			_, _ = conn.Exec(t.Context(), `SELECT pg_sleep(0.3)`)
			_ = conn.Close(context.WithoutCancel(t.Context()))
		}()
	}
	for range 6 {
		<-done
	}
}

func session(t *testing.T, url string) doctor.Finding {
	t.Helper()
	for _, f := range examine(t, url, patient) {
		if f.Check == "session" {
			return f
		}
	}
	t.Fatal("nothing is said of sessions")
	return doctor.Finding{}
}
