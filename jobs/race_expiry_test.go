package jobs_test

import (
	"context"
	"fmt"
	"maps"
	"math/rand/v2"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/lastseat/lastseat/internal/testdb"
	"github.com/lastseat/lastseat/jobs"
	"github.com/lastseat/lastseat/outbox"
)

// Races with time.

// A capture that comes in the very moment in which its authorization runs out: one of the two.
func TestCaptureAgainstExpiry(t *testing.T) {
	t.Parallel()
	settings := maps.Clone(races)
	const careful = "serializable, and producers look first"
	settings[careful] = races["serializable"]
	for name, settings := range settings {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			a := newArena(t, 2, settings)
			payments := testdb.Soak(100, 2000)
			var runners []func()
			keys := make([]string, payments)
			authorizations := make([]outbox.Request, payments)
			begin := time.Now().Add(time.Second)
			for i := range payments {
				keys[i] = fmt.Sprint("capture", i)
				id := fmt.Sprint("p", i)
				// Spread over the time between several sweeps, so that some run out while one is at work.
				expires := begin.Add(time.Duration(i) * 5 * time.Millisecond)
				early := time.Duration(rand.IntN(8)-2) * time.Millisecond
				if i%10 == 0 { // some in time, on a slow machine too
					expires, early = begin.Add(time.Hour), time.Hour
				}
				authorizations[i] = outbox.Request{Key: "a" + id, Args: jobs.Authorize{Payment: id, From: "ada", To: "shop",
					Amount: 100, Currency: "EUR", ExpiresAt: expires}}
				runners = append(runners, func() {
					time.Sleep(time.Until(expires) - early)
					if name != careful {
						a.ask(keys[i], jobs.Capture{Payment: id})
						return
					}
					err := a.askedBy(pgx.Serializable, func(tx pgx.Tx) error {
						if _, err := jobs.PaymentOf(t.Context(), tx, id); err != nil {
							return err
						}
						_, err := outbox.Enqueue(t.Context(), tx, keys[i], jobs.Capture{Payment: id})
						return err
					})
					if err != nil {
						t.Error(err)
					}
				})
			}
			if _, err := outbox.EnqueueMany(t.Context(), a.pool, authorizations); err != nil {
				t.Fatal(err)
			}
			atOnce(runners...)
			captured, expired, late := int64(0), 0, 0
			for i, code := range a.codes(keys...) {
				id := fmt.Sprint("p", i)
				p, err := jobs.PaymentOf(t.Context(), a.pool, id)
				if err != nil {
					t.Fatal(err)
				}
				records, err := outbox.Outcomes(t.Context(), a.pool, "lastseat:payment.expire:"+id)
				if err != nil {
					t.Fatal(err)
				}
				asked := outcome(t, a.pool, keys[i]).RequestedAt
				switch fmt.Sprint(code, " ", p.Status, " ", len(records)) {
				case "captured captured 0":
					if captured++; !asked.Before(p.ExpiresAt) {
						t.Errorf("%s was captured: asked for at %v, expired at %v", id, asked, p.ExpiresAt)
					}
				case "authorization_expired expired 1":
					expired++
				case "not_authorized declined 0":
					late++ // the machine is so slow that even the authorization was
				default:
					t.Errorf("%s: the capture is %s, the payment %s, with %d expiries", id, code, p.Status, len(records))
				}
			}
			t.Logf("%d captured, %d expired, %d too late to be authorized; %+v", captured, expired, late, a.workers[0].Stats())
			if captured == 0 || expired == 0 {
				t.Error("always the same has won: this test has shown nothing")
			}
			a.ends(100 * captured)
		})
	}
}

// Each lane expires the payments that it settles, and no other: what was asked for in time of a lane that is behind
// stays so, though the others have come to the end.
func TestLanesExpireTheirOwn(t *testing.T) {
	t.Parallel()
	for lanes := testdb.Soak(3, 2); lanes <= testdb.Soak(3, 4); lanes++ {
		t.Run(fmt.Sprint(lanes), func(t *testing.T) {
			t.Parallel()
			pool := newPool(t)
			exec(t, pool, `SELECT lastseat.open_account('shop', 'EUR'),
				(SELECT count(lastseat.open_account('c' || n, 'EUR', NULL)) FROM generate_series(0, 59) n)`)
			const payments = 60
			expires := time.Now().Add(3 * time.Second)
			var authorizations, captures []outbox.Request
			for i := range payments {
				id := fmt.Sprint("p", i)
				authorizations = append(authorizations, outbox.Request{Key: "a" + id, Args: jobs.Authorize{Payment: id,
					From: fmt.Sprint("c", i), To: "shop", Amount: 1, Currency: "EUR", ExpiresAt: expires}})
				captures = append(captures, outbox.Request{Key: "c" + id, Args: jobs.Capture{Payment: id}})
			}
			if _, err := outbox.EnqueueMany(t.Context(), pool, authorizations); err != nil {
				t.Fatal(err)
			}
			drain(t, pool, outbox.Settings{Lanes: lanes})
			if _, err := outbox.EnqueueMany(t.Context(), pool, captures); err != nil {
				t.Fatal(err)
			}
			time.Sleep(time.Until(expires))

			// The lane of the first capture can't go on until the others have settled all that is theirs, and swept.
			lock, err := pool.Begin(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			defer func() { _ = lock.Rollback(context.WithoutCancel(t.Context())) }()
			if _, err := lock.Exec(t.Context(), `SELECT FROM lastseat.accounts WHERE id = 'c0' FOR UPDATE`); err != nil {
				t.Fatal(err)
			}
			var drained sync.WaitGroup
			drained.Go(func() { drain(t, pool, outbox.Settings{Lanes: lanes, Batch: 1}) })
			const others = `SELECT NOT EXISTS (SELECT FROM lastseat.payments WHERE status = 'authorized'
				AND hashtextextended(id, 0) % $1 NOT IN (hashtextextended('p0', 0) % $1, -(hashtextextended('p0', 0) % $1)))`
			for deadline := time.Now().Add(2 * time.Minute); !testdb.Scalar[bool](t, pool, others, lanes) &&
				time.Now().Before(deadline); {
				time.Sleep(5 * time.Millisecond)
			}
			time.Sleep(1200 * time.Millisecond) // two sweeps
			if err := lock.Rollback(t.Context()); err != nil {
				t.Fatal(err)
			}
			drained.Wait()
			if n := testdb.Scalar[int](t, pool,
				`SELECT count(*)::int FROM lastseat.payments WHERE status = 'captured'`); n != payments {
				t.Errorf("%d of %d are captured", n, payments)
			}
			proven(t, pool)
		})
	}
}

// At the very time at which an authorization ends it has ended, though no sweep has come by: the lane is not there yet.
func TestCaptureAtTheVeryTime(t *testing.T) {
	t.Parallel()
	for name, level := range levels {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			pool := newPool(t)
			exec(t, pool, `SELECT lastseat.open_account('bank', 'EUR', NULL), lastseat.open_account('shop', 'EUR')`)
			exec(t, pool, `SELECT lastseat.authorize('a' || n, 'p' || n, 'bank', 'shop', 100, 'EUR',
				now() + interval '2 seconds') FROM generate_series(1, 3) n`)
			drain(t, pool, outbox.Settings{})
			exec(t, pool, `SELECT lastseat.transfer('before', 'bank', 'shop', 1, 'EUR')`)
			exec(t, pool, `SELECT lastseat.capture('at', 'p1'), lastseat.capture('just before', 'p2'),
				lastseat.void('void at', 'p3')`)
			exec(t, pool, `UPDATE lastseat.river_job SET scheduled_at = (SELECT max(expires_at)
				FROM lastseat.payments) - CASE args ->> 'key' WHEN 'just before' THEN interval '1 microsecond' ELSE interval '0' END
				WHERE args ->> 'key' <> 'before'`)
			time.Sleep(2 * time.Second)
			drain(t, pool, outbox.Settings{Isolation: level})
			for key, want := range map[string]string{"at": jobs.CodeAuthorizationExpired,
				"void at": jobs.CodeAuthorizationExpired, "just before": jobs.CodeCaptured} {
				if o := outcome(t, pool, key); o.Code != want {
					t.Errorf("%s: %s, want %s", key, o.Code, want)
				}
			}
			proven(t, pool)
		})
	}
}

// What an authorization holds is free for a request that was asked for after its time, also in a batch that begins
// before.
func TestMoneyOfAnExpiredAuthorization(t *testing.T) {
	t.Parallel()
	pool := newPool(t)
	exec(t, pool, `SELECT lastseat.open_account('bank','EUR',NULL), lastseat.open_account('shop','EUR'),
		lastseat.open_account('ada','EUR')`)
	exec(t, pool, `SELECT lastseat.transfer('t','bank','ada',100,'EUR')`)
	exec(t, pool, `SELECT lastseat.authorize('a','p','ada','shop',100,'EUR', now() + interval '500 milliseconds')`)
	drain(t, pool, outbox.Settings{})
	exec(t, pool, `SELECT lastseat.transfer('early','bank','shop',1,'EUR')`)
	time.Sleep(700 * time.Millisecond)
	exec(t, pool, `SELECT lastseat.transfer('late','ada','shop',100,'EUR')`)
	exec(t, pool, `SELECT lastseat.authorize('late2','p2','ada','shop',100,'EUR')`)
	drain(t, pool, outbox.Settings{})
	if o := outcome(t, pool, "late"); o.Code != jobs.CodeTransferred {
		t.Errorf("%+v", o)
	}
	if o := outcome(t, pool, "late2"); o.Code != jobs.CodeInsufficientFunds {
		t.Errorf("%+v", o)
	}
	proven(t, pool)
}
