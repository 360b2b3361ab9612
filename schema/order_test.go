package schema_test

import (
	"context"
	"errors"
	"slices"
	"sync"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
)

// queued are the keys in the order in which a lane claims them.
const queued = `SELECT args ->> 'key' FROM lastseat.river_job WHERE queue = 'lastseat' ORDER BY priority, scheduled_at,
	id`

// A transaction that began earlier but asks later comes later: not its now() counts.
func TestOrderIsThatOfAsking(t *testing.T) {
	t.Parallel()
	pool := migrated(t)
	early := connect(t, pool, "")
	exec(t, early, `BEGIN`)
	exec(t, early, `SELECT now()`)
	mustAsk(t, pool, `enqueue('toy', 'first', '{}')`)
	mustAsk(t, pool, `enqueue('toy', 'second', '{}', now() - interval '1 day')`) // the past is now
	mustAsk(t, early, `enqueue('toy', 'third', '{}')`)
	mustAsk(t, early, `enqueue('toy', 'fourth', '{}')`)
	mustAsk(t, pool, `enqueue('toy', 'fifth', '{}')`)
	exec(t, early, `COMMIT`)
	if got, want := column[string](t, pool, queued), []string{"first", "second", "third", "fourth",
		"fifth"}; !slices.Equal(got, want) {
		t.Errorf("the order is %v, want %v", got, want)
	}
}

func TestOrderOfOneStatement(t *testing.T) {
	t.Parallel()
	pool := migrated(t)
	exec(t, pool, `SELECT lastseat.enqueue('toy', to_char(n, 'FM0000'), '{}') FROM generate_series(1, 2000) n`)
	if got := column[string](t, pool, queued); len(got) != 2000 || !slices.IsSorted(got) {
		t.Errorf("%d jobs, in order: %t", len(got), slices.IsSorted(got))
	}
}

func TestFiftyConcurrentRequestsOfOneKey(t *testing.T) {
	t.Parallel()
	pool := migrated(t)
	openAccounts(t, pool)
	const callers = 50
	conns := make([]*pgx.Conn, callers)
	for i := range conns {
		conns[i] = connect(t, pool, "lastseat_producer")
	}
	receipts, errs := make([]receipt, callers), make([]error, callers)
	start := make(chan struct{})
	var all sync.WaitGroup
	for i, conn := range conns {
		all.Go(func() {
			<-start
			receipts[i], errs[i] = ask(t, conn, transferCall, "k", "bank", "ada", 5, "EUR")
		})
	}
	close(start)
	all.Wait()
	duplicates := 0
	for i, got := range receipts {
		if errs[i] != nil || got.Key != "k" || got.Status != "pending" {
			t.Errorf("call %d: %v, %v", i, got, errs[i])
		}
		if got.Duplicate {
			duplicates++
		}
	}
	if duplicates != callers-1 {
		t.Errorf("%d duplicates of %d calls", duplicates, callers)
	}
	for _, table := range []string{"requests", "river_job"} {
		if n := scalar[int](t, pool, `SELECT count(*) FROM lastseat.`+table); n != 1 {
			t.Errorf("%d rows in %s", n, table)
		}
	}
}

// A request whose key stands in an uncommitted transaction waits for that transaction. Then it is a duplicate, a misuse
// or the first.
func TestWaitsForTheFirst(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		end, args string
		duplicate bool
		code      string
	}{
		"committed":              {"COMMIT", `{"a": 1}`, true, ""},
		"rolled back":            {"ROLLBACK", `{"a": 1}`, false, ""},
		"committed, other":       {"COMMIT", `{"a": 2}`, false, "LS001"},
		"rolled back, and other": {"ROLLBACK", `{"a": 2}`, false, ""},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			pool := migrated(t)
			first, second := connect(t, pool, ""), connect(t, pool, "")
			exec(t, first, `BEGIN`)
			mustAsk(t, first, `enqueue('toy', 'k', '{"a": 1}')`)
			done := make(chan struct{})
			var got receipt
			var err error
			go func() {
				defer close(done)
				got, err = ask(t, second, `enqueue('toy', 'k', $1)`, test.args)
			}()
			for scalar[int](t, pool, `SELECT count(*) FROM pg_locks WHERE NOT granted AND pid = $1`,
				second.PgConn().PID()) == 0 {
				select {
				case <-done:
					t.Fatalf("it did not wait: %v, %v", got, err)
				default:
				}
			}
			exec(t, first, test.end)
			within(t, "the second call", done)
			if test.code != "" {
				wantContract(t, err, test.code)
			} else if err != nil || got.Duplicate != test.duplicate {
				t.Errorf("%v, %v", got, err)
			}
			if n := scalar[int](t, pool, `SELECT count(*) FROM lastseat.river_job`); n != 1 {
				t.Errorf("%d jobs", n)
			}
		})
	}
}

func TestSavepoints(t *testing.T) {
	t.Parallel()
	pool := migrated(t)
	err := pgx.BeginFunc(t.Context(), pool, func(tx pgx.Tx) error {
		mustAsk(t, tx, `enqueue('toy', 'kept', '{}')`)
		exec(t, tx, `SAVEPOINT s`)
		mustAsk(t, tx, `enqueue('toy', 'dropped', '{}')`)
		exec(t, tx, `ROLLBACK TO s`)
		if got := mustAsk(t, tx, `enqueue('toy', 'kept', '{}')`); !got.Duplicate {
			t.Errorf("the same in one transaction: %v", got)
		}
		exec(t, tx, `SAVEPOINT s`)
		_, err := ask(t, tx, `enqueue('toy', 'kept', '{"other": 1}')`)
		wantContract(t, err, "LS001")
		exec(t, tx, `ROLLBACK TO s`) // the caller's transaction goes on if it has a savepoint
		if got := mustAsk(t, tx, `enqueue('toy', 'dropped', '{"again": 1}')`); got.Duplicate {
			t.Errorf("the key that was rolled back is taken: %v", got)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if got, want := column[string](t, pool, queued), []string{"kept", "dropped"}; !slices.Equal(got, want) {
		t.Errorf("the jobs are %v, want %v", got, want)
	}
}

func TestErrorEndsTheCallersTransaction(t *testing.T) {
	t.Parallel()
	pool := migrated(t)
	exec(t, pool, `CREATE TABLE public.orders (id text)`)
	err := pgx.BeginFunc(t.Context(), pool, func(tx pgx.Tx) error {
		exec(t, tx, `INSERT INTO public.orders VALUES ('order-1')`)
		_, _ = ask(t, tx, `enqueue('toy', '', '{}')`)
		return nil
	})
	if !errors.Is(err, pgx.ErrTxCommitRollback) {
		t.Errorf("commit: %v", err)
	}
	if n := scalar[int](t, pool, `SELECT count(*) FROM public.orders`); n != 0 {
		t.Errorf("%d orders", n)
	}
}

func TestSerializableCaller(t *testing.T) {
	t.Parallel()
	pool := migrated(t)
	openAccounts(t, pool)
	begin := func() *pgx.Conn {
		conn := connect(t, pool, "lastseat_producer")
		exec(t, conn, `BEGIN ISOLATION LEVEL SERIALIZABLE`)
		return conn
	}
	tx := begin()
	if got := mustAsk(t, tx, transferCall, "k", "bank", "ada", 5, "EUR"); got.Duplicate {
		t.Error(got)
	}
	if got := mustAsk(t, tx, transferCall, "k", "bank", "ada", 5, "EUR"); !got.Duplicate {
		t.Error(got)
	}
	exec(t, tx, `COMMIT`)
	if tx = begin(); !mustAsk(t, tx, transferCall, "k", "bank", "ada", 5, "EUR").Duplicate {
		t.Error("not a duplicate of what was committed before")
	}
	exec(t, tx, `COMMIT`)

	// Asked for by somebody else after the snapshot: to be run again, and neither a second request nor a false error.
	tx = begin()
	exec(t, tx, `SELECT * FROM lastseat.outcome('raced')`)
	mustAsk(t, pool, transferCall, "raced", "bank", "ada", 5, "EUR")
	_, err := ask(t, tx, transferCall, "raced", "bank", "ada", 5, "EUR")
	wantRefusal(t, err, "40001")
	exec(t, tx, `ROLLBACK`)
	if n := scalar[int](t, pool, `SELECT count(*) FROM lastseat.river_job`); n != 2 {
		t.Errorf("%d jobs", n)
	}
}

// Many producers, few keys, all at once, some of them rolling back: every key that was committed has one request and
// one job, and only its own producer was told that it was the first.
func TestManyProducersFewKeys(t *testing.T) {
	t.Parallel()
	pool := migrated(t)
	keys := []string{"a", "b", "c", "d", "e"}
	var mu sync.Mutex
	firsts := make(map[string]int)
	var all sync.WaitGroup
	for n := range 10 {
		conn := connect(t, pool, "lastseat_producer")
		all.Go(func() {
			for i := range 40 {
				key := keys[(n*7+i*3)%len(keys)]
				keep := (n+i)%3 != 0
				var got receipt
				err := pgx.BeginFunc(t.Context(), conn, func(tx pgx.Tx) (err error) {
					got, err = ask(t, tx, `enqueue('toy', $1, '{}')`, key)
					if err == nil && !keep {
						err = errRolledBack
					}
					return err
				})
				if err != nil && !errors.Is(err, errRolledBack) {
					t.Errorf("%s: %v", key, err)
				}
				if err == nil && !got.Duplicate {
					mu.Lock()
					firsts[key]++
					mu.Unlock()
				}
			}
		})
	}
	all.Wait()
	for _, key := range keys {
		if firsts[key] != 1 {
			t.Errorf("%s: %d callers were told that theirs was the first", key, firsts[key])
		}
	}
	if n := scalar[int](t, pool,
		`SELECT count(*) FROM lastseat.river_job j JOIN lastseat.requests r ON r.job_id = j.id`); n != len(keys) {
		t.Errorf("%d jobs with a request", n)
	}
}

var errRolledBack = errors.New("rolled back")

func TestDoorbell(t *testing.T) {
	t.Parallel()
	pool := migrated(t)
	openAccounts(t, pool)
	listener, lane := connect(t, pool, ""), connect(t, pool, "lastseat_worker")
	exec(t, listener, `LISTEN "lastseat.river_insert"; LISTEN rest`)
	// heard are the notifications before one that is sent for this purpose: they come in the order of their commits.
	heard := func() []*pgconn.Notification {
		t.Helper()
		exec(t, pool, `NOTIFY rest`)
		var all []*pgconn.Notification
		for {
			got, err := listener.WaitForNotification(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			if got.Channel == "rest" {
				return all
			}
			all = append(all, got)
		}
	}
	rings := func(what, payload string, want int, do func()) {
		t.Helper()
		do()
		got := heard()
		if len(got) != want {
			t.Fatalf("%s: %d notifications, want %d", what, len(got), want)
		}
		for _, ring := range got {
			if ring.Channel != "lastseat.river_insert" || ring.Payload != payload {
				t.Errorf("%s: %s %s", what, ring.Channel, ring.Payload)
			}
		}
	}
	const payload = `{"queue": "lastseat"}`
	transfer := func(key string) func() {
		return func() { mustAsk(t, pool, transferCall, key, "bank", "ada", 5, "EUR") }
	}
	rings("the lane is at work", payload, 0, transfer("a"))
	exec(t, lane, `SELECT pg_advisory_lock(lastseat.doorbell('lastseat'))`)
	rings("the lane sleeps", payload, 1, transfer("b"))
	rings("a duplicate", payload, 0, transfer("b"))
	rings("an error", payload, 0, func() { _, _ = ask(t, pool, transferCall, "c", "bank", "nobody", 5, "EUR") })
	rings("rolled back", payload, 0,
		func() { trial(t, pool, func(tx pgx.Tx) { mustAsk(t, tx, `enqueue('toy', 'd', '{}')`) }) })
	rings("several in one transaction", payload, 1, func() {
		exec(t, pool, `SELECT lastseat.enqueue('toy', 'e' || n, '{}')
		FROM generate_series(1, 9) n`)
	})
	breakRequest(t, pool, "b", "discarded")
	rings("a retry", payload, 1, func() { mustAsk(t, pool, `retry('b')`) })
	exec(t, lane, `SELECT pg_advisory_unlock(lastseat.doorbell('lastseat'))`)
	rings("at work again", payload, 0, transfer("f"))

	// While a producer who found the doorbell free is not done, the lane can't go to sleep.
	open := connect(t, pool, "lastseat_producer")
	exec(t, open, `BEGIN`)
	mustAsk(t, open, `enqueue('toy', 'g', '{}')`)
	if scalar[bool](t, lane, `SELECT pg_try_advisory_lock(lastseat.doorbell('lastseat'))`) {
		t.Error("the lane could go to sleep while a commit without a ring was under way")
	}
	_ = open.Close(context.WithoutCancel(t.Context()))
}
