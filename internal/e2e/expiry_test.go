package e2e

import (
	"fmt"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/lastseat/lastseat/internal/clitest"
	"github.com/lastseat/lastseat/internal/testdb"
)

// runOut asks for n authorizations of one cent that run out one after the other, the first after a while.
func runOut(t *testing.T, pool *pgxpool.Pool, prefix string, n int, first, apart time.Duration) {
	t.Helper()
	testdb.Exec(t, pool, `SELECT lastseat.authorize($1 || 'a' || n, $1 || 'p' || n, 'bank', 'ada', 1, 'EUR',
		clock_timestamp() + $3::text::interval + n * $4::text::interval)
		FROM generate_series(1, $2) n`, prefix, n, first.String(), apart.String())
}

func expired(t *testing.T, pool *pgxpool.Pool) int {
	t.Helper()
	return testdb.Scalar[int](t, pool, `SELECT count(*)::int FROM lastseat.payments WHERE status = 'expired'`)
}

// provesExpiries demands that n authorizations have expired, each once and none before its time, and that nothing is
// held. It returns how late they were: the promise is two seconds, and what a busy machine makes of it is told, not
// demanded.
func provesExpiries(t *testing.T, url string, pool *pgxpool.Pool, n int) {
	t.Helper()
	got := testdb.Scalar[string](t, pool, `
		SELECT format('%s expired, %s recorded, %s too soon, %s held', count(*), count(r.key),
		  count(*) FILTER (WHERE r.settled_at < p.expires_at),
		              (SELECT sum(held) FROM lastseat.accounts))
		FROM lastseat.payments p
		LEFT JOIN lastseat.requests r ON r.key = 'lastseat:payment.expire:' || p.id AND r.kind = 'payment.expire'
		  AND r.status = 'applied' AND r.code = 'expired'
		WHERE p.status = 'expired'`)
	if want := fmt.Sprintf("%d expired, %d recorded, 0 too soon, 0 held", n, n); got != want {
		t.Errorf("%s, want %s", got, want)
	}
	late := testdb.Scalar[string](t, pool, `
		SELECT format('%s ms late at most, %s ms on average', (1000 * extract(epoch FROM max(late)))::int,
		  (1000 * extract(epoch FROM avg(late)))::int)
		FROM (SELECT r.settled_at - p.expires_at AS late FROM lastseat.payments p JOIN lastseat.requests r
		  ON r.key = 'lastseat:payment.expire:' || p.id) l`)
	t.Logf("%d expiries, %s", n, late)
	audit := start(t, on(url), "worker", "audit")
	if audit.wait(t) != 0 {
		t.Errorf("audit: exit code %d\n%s%s", audit.wait(t), audit.out.String(), audit.errs.String())
	}
}

// Authorizations run out on a worker that has nothing else to do, and on one that has its hands full.
func TestAuthorizationsExpire(t *testing.T) {
	t.Parallel()
	for name, transfers := range map[string]int{"idle": 0, "20,000 transfers": 20_000} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			url := testdb.New(t)
			pool := testdb.Pool(t, url)
			open(t, pool)
			run := start(t, on(url, "LASTSEAT_POLL=1h"), "worker", "run")
			const payments = 20
			runOut(t, pool, "", payments, time.Second, 100*time.Millisecond)
			const chunk = 1000
			for done := 0; done < transfers; done += chunk {
				testdb.Exec(t, pool, `SELECT lastseat.transfer('t' || $1::int + n, 'bank', 'ada', 1, 'EUR')
					FROM generate_series(1, $2::int) n`, done, chunk)
			}
			clitest.Eventually(t, "all to expire", func() bool { return expired(t, pool) == payments })
			clitest.Eventually(t, "all to be settled", func() bool { return settled(t, pool) == transfers+2*payments })
			run.signal(t, syscall.SIGTERM)
			run.exits(t, 0)
			if strings.Contains(run.errs.String(), "swept") {
				t.Errorf("a sweep has failed: %s", run.errs.String())
			}
			provesExpiries(t, url, pool, payments)
		})
	}
}

// Workers are killed with SIGKILL while authorizations run out: each expires once.
func TestWorkerIsKilledWhileAuthorizationsExpire(t *testing.T) {
	t.Parallel()
	url := testdb.New(t)
	pool := testdb.Pool(t, url)
	open(t, pool)
	const each = 150
	rounds := testdb.Soak(3, 30)
	run := start(t, on(url), "worker", "run")
	for round := range rounds {
		runOut(t, pool, fmt.Sprintf("%d-", round), each, 500*time.Millisecond, 10*time.Millisecond)
		give(t, pool, fmt.Sprint("t", round))
		clitest.Eventually(t, "some to expire", func() bool { return expired(t, pool) > round*each })
		run.killed(t)
		run = start(t, on(url), "worker", "run")
		clitest.Eventually(t, "the others to expire", func() bool { return expired(t, pool) == (round+1)*each })
	}
	connected(t, pool, 1)
	run.signal(t, syscall.SIGTERM)
	run.exits(t, 0)
	provesExpiries(t, url, pool, rounds*each)
}

// No worker was there when authorizations ran out. What was asked for in time is done, what came too late is not.
func TestWorkerWasDownOverTheExpiry(t *testing.T) {
	t.Parallel()
	for name, environ := range map[string][]string{
		"serializable":   nil,
		"read committed": {"LASTSEAT_ISOLATION=read committed"},
		"one by one":     {"LASTSEAT_BATCH=1"},
		"lanes":          {"LASTSEAT_LANES=3"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			url := testdb.New(t)
			pool := testdb.Pool(t, url)
			open(t, pool)
			// Seconds, so that asking in time is in time on a slow machine too.
			runOut(t, pool, "", 6, 5*time.Second, 0)
			start(t, on(url, environ...), "worker", "run", "--drain").exits(t, 0)
			testdb.Exec(t, pool, `SELECT lastseat.capture('in time', 'p1'), lastseat.void('void in time', 'p2')`)
			give(t, pool, "another")
			clitest.Eventually(t, "all to have run out", func() bool {
				return testdb.Scalar[bool](t, pool, `SELECT max(expires_at) < clock_timestamp() FROM lastseat.payments`)
			})
			testdb.Exec(t, pool, `SELECT lastseat.capture('too late', 'p3'), lastseat.void('void too late', 'p4'),
				lastseat.capture('in time and too late', 'p1')`)
			if n := expired(t, pool); n != 0 {
				t.Fatalf("%d have expired without a worker", n)
			}
			start(t, on(url, environ...), "worker", "run", "--drain").exits(t, 0)
			for key, want := range map[string]string{
				"in time": "captured", "void in time": "voided", "too late": "authorization_expired",
				"void too late":        "authorization_expired",
				"in time and too late": "already_captured",
			} {
				if got := testdb.Scalar[string](t, pool, `SELECT code FROM lastseat.requests WHERE key = $1`, key); got != want {
					t.Errorf("%s: %s, want %s", key, got, want)
				}
			}
			if got := balance(t, pool, "ada"); got != 2 {
				t.Errorf("ada has %d, want 2: the capture and the transfer", got)
			}
			provesExpiries(t, url, pool, 4)
		})
	}
}
