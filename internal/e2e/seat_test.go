package e2e

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strconv"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/lastseat/lastseat/internal/clitest"
	"github.com/lastseat/lastseat/internal/testdb"
	"github.com/lastseat/lastseat/jobs"
	"github.com/lastseat/lastseat/outbox"
)

// A process of buyers is told its database and its name; see TestBuyers.
const (
	buyersDatabase = "LASTSEAT_TEST_BUYERS_DATABASE"
	buyersName     = "LASTSEAT_TEST_BUYERS_NAME"
	buyersEach     = 100
)

// TestBuyers is no test: it is the process that TestLastSeat starts several times.
func TestBuyers(t *testing.T) { //nolint:paralleltest // it is a process of its own
	url, name := os.Getenv(buyersDatabase), os.Getenv(buyersName)
	if url == "" {
		t.Skip("run by TestLastSeat")
	}
	pool := testdb.Pool(t, url)
	var buyers sync.WaitGroup
	const abreast = 10
	for n := range abreast {
		buyers.Go(func() {
			for i := n; i < buyersEach; i += abreast {
				holdSeat(t, pool, fmt.Sprintf("%s/%d", name, i))
			}
		})
	}
	buyers.Wait()
}

// holdSeat asks for the one seat, in a transaction of its own.
func holdSeat(t *testing.T, pool *pgxpool.Pool, key string) {
	t.Helper()
	if _, err := outbox.EnqueueMany(t.Context(), pool, []outbox.Request{{Key: key, Args: jobs.Hold{Reservation: key,
		Items: []jobs.Item{{Resource: "seat"}}}}}); err != nil {
		t.Error(err)
	}
}

// liveSeats is how many have the seat, by its row and by the reservations, whichever is more, in one snapshot.
const liveSeats = `
	SELECT greatest((SELECT held + confirmed FROM lastseat.resources WHERE id = 'seat'), (SELECT count(*)
	  FROM lastseat.reservations WHERE status IN ('held', 'confirmed')))::int`

// watched looks at the seat all the time until the returned function is called: never do two have it.
func watched(t *testing.T, pool *pgxpool.Pool) (over func()) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	var watch sync.WaitGroup
	looks := 0
	watch.Go(func() {
		for ; ctx.Err() == nil; looks++ {
			var live int
			if err := pool.QueryRow(ctx, liveSeats).Scan(&live); err != nil && !errors.Is(err, context.Canceled) {
				t.Error(err)
				return
			}
			if live > 1 {
				t.Errorf("%d have the seat", live)
				return
			}
			time.Sleep(time.Millisecond)
		}
	})
	return sync.OnceFunc(func() { cancel(); watch.Wait(); t.Logf("looked %d times", looks) })
}

// 500 buyers in five processes want one seat, and two workers compete for the lane, of which one is killed: one buyer
// has it. Then it is given back, and others ask for it and give it back, under new keys: never do two have it.
func TestLastSeat(t *testing.T) {
	t.Parallel()
	for name, environ := range map[string][]string{
		"serializable": {"LASTSEAT_BATCH=20"}, "read committed": {"LASTSEAT_BATCH=20", "LASTSEAT_ISOLATION=read committed"},
		"lanes": {"LASTSEAT_BATCH=20", "LASTSEAT_LANES=3"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			url := testdb.New(t)
			pool := testdb.Pool(t, url)
			testdb.Exec(t, pool, `SELECT lastseat.define_resource('seat', 1)`)
			over := watched(t, pool)
			defer over()
			workers := []*process{start(t, on(url, environ...), "worker", "run"), start(t, on(url, environ...), "worker", "run")}

			const processes = 5
			var buyers sync.WaitGroup
			for n := range processes {
				buyers.Go(func() {
					cmd := exec.CommandContext(t.Context(), os.Args[0], "-test.run=^TestBuyers$")
					cmd.Env = append(os.Environ(), buyersDatabase+"="+url, buyersName+"="+strconv.Itoa(n))
					if out, err := cmd.CombinedOutput(); err != nil {
						t.Errorf("%v: %s", err, out)
					}
				})
			}
			clitest.Eventually(t, "the first to be settled", func() bool { return settled(t, pool) > 0 })
			workers[0].killed(t)
			buyers.Wait()
			clitest.Eventually(t, "all to be settled", func() bool { return settled(t, pool) == processes*buyersEach })
			if got := codes(t, pool, "reservation.hold"); got != "held:1 sold_out:499" {
				t.Errorf("%s, want one held", got)
			}

			workers[0] = start(t, on(url, environ...), "worker", "run")
			first := testdb.Scalar[string](t, pool, `SELECT id FROM lastseat.reservations WHERE status = 'held'`)
			testdb.Exec(t, pool, `SELECT lastseat.cancel('cancel ' || $1, $1)`, first)
			tries := testdb.Soak(20, 400)
			for n := range 5 {
				buyers.Go(func() {
					for try := range tries {
						tryAgain(t, pool, fmt.Sprintf("again %d/%d", n, try))
						if n == 0 && try == tries/2 {
							workers[1].killed(t)
							workers[1] = start(t, on(url, environ...), "worker", "run")
						}
					}
				})
			}
			buyers.Wait()
			clitest.Eventually(t, "all to be settled", func() bool {
				return testdb.Scalar[int](t, pool, `SELECT count(*)::int FROM lastseat.requests WHERE status = 'pending'`) == 0
			})
			over()
			connected(t, pool, len(workers)*lanes(environ))
			for _, w := range workers {
				w.signal(t, syscall.SIGTERM)
				w.exits(t, 0)
			}
			t.Log(codes(t, pool, "reservation.hold"), codes(t, pool, "reservation.cancel"))
			// Whoever had it and gave it back, and whoever has it now: as many as were told so.
			if got := testdb.Scalar[string](t, pool, `
				SELECT format('%s held, %s cancelled, %s live', (SELECT count(*) FROM lastseat.requests
				  WHERE code = 'held') - (SELECT count(*) FROM lastseat.requests WHERE code = 'cancelled'),
				              (SELECT count(*) FROM lastseat.reservations WHERE status = 'cancelled') - (SELECT count(*)
				                FROM lastseat.requests WHERE code = 'cancelled'),
				              (SELECT count(*) FROM lastseat.reservations WHERE status = 'held') - (SELECT held + confirmed
				                FROM lastseat.resources))`); got[1:] != " held, 0 cancelled, 0 live" || got[0] > '1' {
				t.Error(got)
			}
			audited(t, url)
		})
	}
}

// tryAgain asks for the seat once more, and who gets it gives it back.
func tryAgain(t *testing.T, pool *pgxpool.Pool, key string) {
	t.Helper()
	holdSeat(t, pool, key)
	ctx, cancel := context.WithTimeout(t.Context(), clitest.Patience)
	defer cancel()
	outcomes, err := outbox.Wait(ctx, pool, key)
	if err != nil {
		t.Error(err)
		return
	}
	if outcomes[0].Code == jobs.CodeHeld {
		testdb.Exec(t, pool, `SELECT lastseat.cancel('cancel ' || $1, $1)`, key)
	}
}

// codes counts the outcomes of a kind: "held:1 sold_out:499".
func codes(t *testing.T, pool *pgxpool.Pool, kind string) string {
	t.Helper()
	return testdb.Scalar[string](t, pool, `
		SELECT coalesce(string_agg(code || ':' || n, ' ' ORDER BY code), '')
		  FROM (SELECT coalesce(code, 'pending') AS code, count(*) AS n FROM lastseat.requests WHERE kind = $1
		    GROUP BY 1) c`, kind)
}

func audited(t *testing.T, url string) {
	t.Helper()
	audit := start(t, on(url), "worker", "audit")
	if audit.wait(t) != 0 {
		t.Errorf("audit: exit code %d\n%s%s", audit.wait(t), audit.out.String(), audit.errs.String())
	}
}

// Holds that run out all at once, over as many resources and over one, on a worker that has other things to do, too:
// each is released once, and what is asked for meanwhile does not wait for the last of them.
func TestManyHoldsRunOutAtOnce(t *testing.T) {
	t.Parallel()
	for name, resources := range map[string]int{"of many resources": 1 << 30, "of one": 1} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			url := testdb.New(t)
			pool := testdb.Pool(t, url)
			open(t, pool)
			holds := testdb.Soak(3_000, 50_000)
			ranOutHolds(t, url, pool, holds, min(resources, holds))
			// What is asked for meanwhile comes after all that had run out before.
			began := time.Now()
			p := start(t, on(url), "worker", "run")
			between := 0
			for live := holds; live > 0; {
				key := fmt.Sprint("meanwhile", between)
				give(t, pool, key)
				ctx, cancel := context.WithTimeout(t.Context(), clitest.Patience)
				if _, err := outbox.Wait(ctx, pool, key); err != nil {
					t.Fatal(err)
				}
				cancel()
				live = testdb.Scalar[int](t, pool, `SELECT held::int FROM (SELECT sum(held) AS held FROM lastseat.resources) r`)
				if live > 0 {
					between++
				}
			}
			t.Logf("%d holds released in %v, with the worker's start and %d transfers between: %s", holds,
				time.Since(began).Round(time.Millisecond), between,
				testdb.Scalar[string](t, pool, `
					SELECT format('%s transactions; %s a second from the first to the last', count(DISTINCT settled_at),
					              coalesce(((count(*) - count(*) FILTER (WHERE settled_at = first)) / nullif(extract(epoch
					                FROM max(settled_at) - min(settled_at)), 0))::int::text, 'all at once'))
					FROM (SELECT settled_at, min(settled_at) OVER () AS first FROM lastseat.requests
					  WHERE kind = 'reservation.expire') e`))
			p.signal(t, syscall.SIGTERM)
			p.exits(t, 0)
			if got := codes(t, pool, "reservation.expire"); got != fmt.Sprintf("expired:%d", holds) {
				t.Errorf("recorded: %s, want %d", got, holds)
			}
			audited(t, url)
		})
	}
}

// ranOutHolds makes holds of one place each that have run out, without a worker to release them.
func ranOutHolds(t *testing.T, url string, pool *pgxpool.Pool, holds, resources int) {
	t.Helper()
	testdb.Exec(t, pool,
		`SELECT count(lastseat.define_resource('stock' || n, $1)) FROM generate_series(0, $2::int - 1) n`,
		(holds+resources-1)/resources, resources)
	testdb.Exec(t, pool, `
		SELECT count(lastseat.hold('h' || n, 'h' || n, jsonb_build_array(jsonb_build_object('resource', 'stock' || n % $2)),
		  now() + interval '1 hour')) FROM generate_series(1, $1::int) n`, holds, resources)
	start(t, on(url), "worker", "run", "--drain").exits(t, 0)
	testdb.Exec(t, pool, `UPDATE lastseat.reservations SET expires_at = now() - interval '1 second' WHERE status = 'held'`)
}
