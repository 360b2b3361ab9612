package jobs_test

import (
	"context"
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/lastseat/lastseat/internal/testdb"
	"github.com/lastseat/lastseat/jobs"
	"github.com/lastseat/lastseat/outbox"
)

// locked is a row that another session locks, and what then waits for it: the first request needs the row and one more,
// the one behind it needs that other one only. Their codes tell whether they were settled in order.
type locked struct {
	lock          string // what the other session does, and leaves open
	row           string // how the log names the row
	first, behind outbox.Args
	want          [2]string // codes
}

var lockedRows = map[string]locked{
	"account": {
		lock: `SELECT FROM lastseat.accounts WHERE id = 'purse' FOR UPDATE`, row: "lastseat.accounts (id)=(purse)",
		first:  jobs.Transfer{From: "purse", To: "mid", Amount: 80, Currency: "EUR"},
		behind: jobs.Transfer{From: "mid", To: "shop", Amount: 80, Currency: "EUR"},
		want:   [2]string{jobs.CodeTransferred, jobs.CodeTransferred},
	},
	"payment": {
		lock: `SELECT FROM lastseat.payments WHERE id = 'p' FOR UPDATE`, row: "lastseat.payments (id)=(p)",
		first:  jobs.Capture{Payment: "p", Amount: 10},
		behind: jobs.Transfer{From: "mid", To: "shop", Amount: 10, Currency: "EUR"},
		want:   [2]string{jobs.CodeCaptured, jobs.CodeTransferred},
	},
	"transfer to be reversed": {
		lock: `SELECT FROM lastseat.accounts WHERE id = 'purse' FOR UPDATE`, row: "lastseat.accounts (id)=(purse)",
		first:  jobs.Transfer{From: "purse", To: "mid", Amount: 80, Currency: "EUR"},
		behind: jobs.Reverse{Transfer: "first"},
		want:   [2]string{jobs.CodeTransferred, jobs.CodeReversed},
	},
	"reservation": {
		lock:  `SELECT FROM lastseat.reservations WHERE id = 'taken' FOR UPDATE`,
		row:   "lastseat.reservations (id)=(taken)",
		first: jobs.Cancel{Reservation: "taken"}, behind: jobs.Hold{Reservation: "b", Items: one("seat")},
		want: [2]string{jobs.CodeCancelled, jobs.CodeHeld},
	},
	"resource": {
		lock: `SELECT lastseat.define_resource('stall/1', 2)`, row: "lastseat.resources (id)=(stall/1)",
		first:  jobs.Hold{Reservation: "a", Items: []jobs.Item{{Resource: "stall/1", Quantity: 2}, {Resource: "place"}}},
		behind: jobs.Hold{Reservation: "b", Items: one("place")},
		want:   [2]string{jobs.CodeHeld, jobs.CodeSoldOut},
	},
	"limit": {
		lock: `SELECT lastseat.define_limit('shows', 5)`, row: "lastseat.resources (id)=(show)",
		first: jobs.Cancel{Reservation: "sees"}, behind: jobs.Confirm{Reservation: "waits"},
		want: [2]string{jobs.CodeCancelled, jobs.CodeConfirmed},
	},
	"customer's count": {
		lock:   `SELECT FROM lastseat.customer_counts WHERE customer = 'cat' FOR UPDATE`,
		row:    "lastseat.customer_counts (limit_group, customer)=(shows, cat)",
		first:  jobs.Hold{Reservation: "a", Items: one("show2"), Customer: "cat"},
		behind: jobs.Hold{Reservation: "b", Items: one("show2"), Customer: "dan"},
		want:   [2]string{jobs.CodeHeld, jobs.CodeSoldOut},
	},
	"what a waiting customer needs besides": {
		lock: `SELECT lastseat.define_resource('hall', 7)`, row: "lastseat.resources (id)=(hall)",
		first: jobs.Cancel{Reservation: "queue1"}, behind: jobs.Hold{Reservation: "b", Items: one("queue")},
		want: [2]string{jobs.CodeCancelled, jobs.CodeSoldOut},
	},
}

// lockedWorld has what the cases need, settled.
func lockedWorld(t *testing.T, pool *pgxpool.Pool) {
	t.Helper()
	exec(t, pool, `
		SELECT lastseat.open_account('bank', 'EUR', NULL), lastseat.open_account('shop', 'EUR', NULL),
		       lastseat.open_account('cafe', 'EUR', NULL),
		       lastseat.open_account('purse', 'EUR'), lastseat.open_account('mid', 'EUR'),
		       lastseat.define_limit('shows', 1), lastseat.define_resource('show', 1, 0, 'shows'),
		       lastseat.define_resource('show2', 1, 0, 'shows'), lastseat.define_resource('seat', 1),
		       lastseat.define_resource('stall/1', 1), lastseat.define_resource('place', 1),
		       lastseat.define_resource('queue', 1), lastseat.define_resource('hall', 5),
		       lastseat.define_resource('free', 1000), lastseat.define_resource('short', 5)`)
	askInOrder(t, pool,
		jobs.Transfer{From: "bank", To: "purse", Amount: 100, Currency: "EUR"},
		jobs.Authorize{Payment: "p", From: "purse", To: "mid", Amount: 10, Currency: "EUR"},
		jobs.Authorize{Payment: "q", From: "bank", To: "cafe", Amount: 10, Currency: "EUR"},
		jobs.Hold{Reservation: "taken", Items: one("seat")},
		jobs.Hold{Reservation: "sees", Items: one("show"), Customer: "ann"},
		jobs.Hold{Reservation: "waits", Items: one("show"), Customer: "bob", Wait: true},
		jobs.Hold{Reservation: "cats", Items: one("show"), Customer: "cat", Wait: true},
		jobs.Hold{Reservation: "queue1", Items: one("queue")},
		jobs.Hold{Reservation: "queue2", Items: []jobs.Item{{Resource: "queue"}, {Resource: "hall"}}, Wait: true},
		jobs.Hold{Reservation: "kept", Items: one("free")},
	)
	exec(t, pool, `INSERT INTO lastseat.customer_counts (limit_group, customer, quantity) VALUES ('shows', 'cat', 0)
		ON CONFLICT DO NOTHING`)
	drain(t, pool, outbox.Settings{})
}

func askInOrder(t *testing.T, pool *pgxpool.Pool, args ...outbox.Args) (keys []string) {
	t.Helper()
	for i, args := range args {
		key := fmt.Sprintf("%s-%d", args.Kind(), i)
		keys = append(keys, key)
		if _, err := outbox.EnqueueMany(t.Context(), pool, []outbox.Request{{Key: key, Args: args}}); err != nil {
			t.Fatal(err)
		}
	}
	return keys
}

// While another session has a row locked, what needs it waits, and so does what comes behind that; everything else is
// settled. When the lock goes, the order is that of asking.
func TestLockedRowHoldsUpOnlyWhatNeedsIt(t *testing.T) {
	t.Parallel()
	for name, c := range lockedRows {
		for level, settings := range map[string]outbox.Settings{
			"default": {}, "read committed": {Isolation: pgx.ReadCommitted}, "three lanes": {Lanes: 3},
		} {
			if level == "read committed" && !testdb.Soaks() {
				continue
			}
			t.Run(name+", "+level, func(t *testing.T) {
				t.Parallel()
				stranger := newStranger(t, c.lock)
				pool := stranger.pool
				ask := func(key string, args outbox.Args) {
					if _, err := outbox.EnqueueMany(t.Context(), pool, []outbox.Request{{Key: key, Args: args}}); err != nil {
						t.Fatal(err)
					}
				}
				ask("first", c.first)
				keys, parts := []string{"first"}, []string{c.row, "pid=" + fmt.Sprint(stranger.pid), "key=first", c.lock}
				if settings.Lanes == 0 { // lanes have no order among them
					ask("behind", c.behind)
					keys, parts = append(keys, "behind"), append(parts, "behind=1")
				}
				others := askOthers(t, pool, ask)
				log := &recorder{}
				settings.Logger = log.logger()
				startWorker(t, pool, settings)
				settle(t, pool, others...)
				for _, key := range keys {
					if o := outcome(t, pool, key); o.Status != outbox.Pending || o.Attempts != 0 {
						t.Errorf("%s: %+v, while the row is locked", key, o)
					}
				}
				log.await(t, parts...)
				stranger.commit()
				settle(t, pool, keys...)
				for i, key := range keys {
					if got := outcome(t, pool, key).Code; got != c.want[i] {
						t.Errorf("%s: in the end %s, want %s", key, got, c.want[i])
					}
				}
				if n := retried(t, pool); n != 0 {
					t.Errorf("%d requests have used more than one attempt", n)
				}
				proven(t, pool)
			})
		}
	}
}

// askOthers asks for what has nothing to do with the locked rows.
func askOthers(t *testing.T, _ *pgxpool.Pool, ask func(string, outbox.Args)) []string {
	t.Helper()
	keys := make([]string, 0, 6)
	for key, args := range map[string]outbox.Args{
		"other transfer": jobs.Transfer{From: "bank", To: "cafe", Amount: 1, Currency: "EUR"},
		"other capture":  jobs.Capture{Payment: "q"},
		"other hold":     jobs.Hold{Reservation: "other", Items: one("free")},
		"other confirm":  jobs.Confirm{Reservation: "kept"},
		"short":          jobs.Hold{Reservation: "short", Items: one("short"), ExpiresAt: time.Now().Add(time.Second)},
	} {
		ask(key, args)
		keys = append(keys, key)
	}
	return append(keys, "lastseat:reservation.expire:short")
}

func retried(t *testing.T, pool *pgxpool.Pool) (n int) {
	t.Helper()
	if err := pool.QueryRow(t.Context(),
		`SELECT count(*) FROM lastseat.requests WHERE attempts > 1`).Scan(&n); err != nil {
		t.Fatal(err)
	}
	return n
}

// A job that waits for a row leaves the queue in another way than by the lane: an operator cancels it, or it is lost in
// a failover to a server that lags behind. What runs out is not held up by it any longer.
func TestWaitingJobLeavesTheQueue(t *testing.T) {
	t.Parallel()
	pool := newPool(t)
	exec(t, pool, `SELECT lastseat.open_account('payer', 'EUR', NULL), lastseat.open_account('payee', 'EUR')`)
	ask := func(key string, args outbox.Args) {
		t.Helper()
		if _, err := outbox.EnqueueMany(t.Context(), pool, []outbox.Request{{Key: key, Args: args}}); err != nil {
			t.Fatal(err)
		}
	}
	ask("authorized", jobs.Authorize{Payment: "p", From: "payer", To: "payee", Amount: 1, Currency: "EUR",
		ExpiresAt: time.Now().Add(2 * time.Second)})
	drain(t, pool, outbox.Settings{})
	stranger := strangerIn(t, pool, `SELECT FROM lastseat.accounts WHERE id = 'payer' FOR UPDATE`)
	ask("waits", jobs.Transfer{From: "payer", To: "payee", Amount: 1, Currency: "EUR"})
	log := &recorder{}
	startWorker(t, pool, outbox.Settings{Logger: log.logger()})
	log.await(t, "lastseat.accounts (id)=(payer)", "key=waits")
	exec(t, pool, `UPDATE lastseat.river_job SET state = 'cancelled', finalized_at = now() WHERE args ->> 'key' = 'waits'`)
	stranger.commit()
	settle(t, pool, "waits", "lastseat:payment.expire:p")
	if o := outcome(t, pool, "waits"); o.Code != outbox.CodeJobCancelled {
		t.Errorf("%+v", o)
	}
	proven(t, pool)
}

// stranger is a session that has something locked.
type stranger struct {
	pool   *pgxpool.Pool // of the test
	pid    uint32
	commit func()
}

func newStranger(t *testing.T, lock string) *stranger {
	t.Helper()
	pool := newPool(t)
	lockedWorld(t, pool)
	return strangerIn(t, pool, lock)
}

func strangerIn(t *testing.T, pool *pgxpool.Pool, lock string) *stranger {
	t.Helper()
	ctx := context.WithoutCancel(t.Context())
	conn, err := pgx.ConnectConfig(ctx, pool.Config().ConnConfig.Copy())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close(ctx) })
	tx, err := conn.Begin(ctx)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := tx.Exec(ctx, lock); err != nil {
		t.Fatal(err)
	}
	return &stranger{pool: pool, pid: conn.PgConn().PID(), commit: func() {
		if err := tx.Commit(ctx); err != nil {
			t.Error(err)
		}
	}}
}

func startWorker(t *testing.T, pool *pgxpool.Pool, settings outbox.Settings) *outbox.Worker {
	t.Helper()
	kinds := &outbox.Kinds{}
	jobs.Register(kinds)
	worker := outbox.NewWorker(pool, kinds, settings)
	ctx, cancel := context.WithCancel(context.WithoutCancel(t.Context()))
	done := make(chan error, 1)
	go func() { done <- worker.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
	return worker
}

// settle waits until requests are settled.
func settle(t *testing.T, pool *pgxpool.Pool, keys ...string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	for ctx.Err() == nil {
		var settled []string
		err := pool.QueryRow(ctx, `SELECT coalesce(array_agg(key), '{}') FROM lastseat.requests
			WHERE key = ANY ($1) AND status <> 'pending'`, keys).Scan(&settled)
		if err != nil {
			break
		}
		if len(settled) == len(keys) {
			return
		}
		time.Sleep(5 * time.Millisecond)
	}
	missing := slices.DeleteFunc(slices.Clone(keys), func(key string) bool {
		o, err := outbox.Outcomes(t.Context(), pool, key)
		return err == nil && len(o) == 1 && o[0].Status != outbox.Pending
	})
	t.Fatalf("not settled within 20 s: %v", missing)
}
