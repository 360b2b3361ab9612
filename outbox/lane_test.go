package outbox_test

import (
	"context"
	"errors"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/lastseat/lastseat/internal/testdb"
	"github.com/lastseat/lastseat/outbox"
)

// levels are the isolation levels under which every promise has to hold.
var levels = map[string]pgx.TxIsoLevel{"serializable": pgx.Serializable, "read committed": pgx.ReadCommitted}

func TestSettlesInOrderOfAsking(t *testing.T) {
	t.Parallel()
	for name, level := range levels {
		t.Run(name, func(t *testing.T) {
			inBothForms(t, func(t *testing.T, b *bench) {
				ctx := t.Context()
				// This transaction begins first and asks last: what was committed in between comes before it.
				early, err := b.pool.Begin(ctx)
				if err != nil {
					t.Fatal(err)
				}
				if _, err := early.Exec(ctx, "SELECT 1"); err != nil {
					t.Fatal(err)
				}
				want := numbered("k", 250)
				b.enqueue(want...)
				if _, err := outbox.Enqueue(ctx, early, "late", toy{}); err != nil {
					t.Fatal(err)
				}
				if err := early.Commit(ctx); err != nil {
					t.Fatal(err)
				}
				b.drain(outbox.Settings{Batch: 100, Isolation: level})
				if got := b.played(); !slices.Equal(got, append(want, "late")) {
					t.Errorf("played %v", got)
				}
				if n := one[int](b, `SELECT count(*) FROM lastseat.river_job`); n != 0 {
					t.Errorf("%d jobs are left", n)
				}
				b.wantOutcome("k-0007", outbox.Applied, "played")
			})
		})
	}
}

func TestKeepCompleted(t *testing.T) {
	t.Parallel()
	inBothForms(t, func(t *testing.T, b *bench) {
		b.enqueue("a", "b")
		b.drain(outbox.Settings{KeepCompleted: time.Hour})
		if n := one[int](b, `SELECT count(*) FROM lastseat.river_job WHERE state = 'completed' AND attempt = 1
			AND attempted_by = '{tester}'`); n != 2 {
			t.Errorf("%d completed jobs, want 2", n)
		}
		// Started again by hand, a completed job finds its request settled, and has no second effect.
		b.exec(`UPDATE lastseat.river_job SET state = 'available', finalized_at = NULL`)
		if stats := b.drain(outbox.Settings{}); stats.Duplicates != 2 || len(b.played()) != 2 {
			t.Errorf("%+v, played %v", stats, b.played())
		}
	})
}

func TestRollbackAndCommitOfTheCaller(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	b.exec(`CREATE TABLE public.orders (id text)`)
	gone := errors.New("the shop changes its mind")
	for key, fails := range map[string]error{"kept": nil, "gone": gone} {
		err := pgx.BeginFunc(t.Context(), b.pool, func(tx pgx.Tx) error {
			if _, err := tx.Exec(t.Context(), `INSERT INTO public.orders VALUES ($1)`, key); err != nil {
				return err
			}
			receipt, err := outbox.Enqueue(t.Context(), tx, key, toy{})
			if err != nil || receipt.Duplicate || receipt.Status != outbox.Pending || receipt.Kind != "toy" {
				t.Errorf("%+v, %v", receipt, err)
			}
			return fails
		})
		if !errors.Is(err, fails) {
			t.Fatal(err)
		}
	}
	for _, count := range []string{`SELECT id FROM public.orders`, `SELECT key FROM lastseat.requests`,
		`SELECT args ->> 'key' FROM lastseat.river_job`} {
		if got := b.keys(count); !slices.Equal(got, []string{"kept"}) {
			t.Errorf("%s: %v", count, got)
		}
	}
}

func TestOneSettlerAtATimeAndHandover(t *testing.T) {
	t.Parallel()
	inBothForms(t, func(t *testing.T, b *bench) {
		var inside, most atomic.Int32
		b.settler.set(func(context.Context, pgx.Tx, outbox.Job) error {
			most.Store(max(most.Load(), inside.Add(1)))
			time.Sleep(time.Millisecond)
			inside.Add(-1)
			return nil
		})
		stops := []func(){b.start(outbox.Settings{Batch: 5}), b.start(outbox.Settings{Batch: 5}),
			b.start(outbox.Settings{Batch: 5})}
		want := numbered("k", 300)
		b.enqueue(want...)
		for i, stop := range stops {
			b.eventually("some more are played", func() bool { return len(b.played()) > 60*(i+1) })
			if i < 2 {
				stop()
			}
		}
		b.eventually("all are played", func() bool { return len(b.played()) == len(want) })
		if !slices.Equal(b.played(), want) {
			t.Error("out of order")
		}
		if most.Load() != 1 {
			t.Errorf("%d settlers at once", most.Load())
		}
	})
}

func TestStopFinishesTheBatch(t *testing.T) {
	t.Parallel()
	inBothForms(t, func(t *testing.T, b *bench) {
		entered := make(chan struct{})
		b.settler.set(func(_ context.Context, _ pgx.Tx, job outbox.Job) error {
			if job.Key == "k-0000" {
				close(entered)
				time.Sleep(200 * time.Millisecond)
			}
			return nil
		})
		b.enqueue(numbered("k", 20)...)
		stop := b.start(outbox.Settings{Batch: 10})
		<-entered
		stop()
		if n := len(b.played()); n != 10 {
			t.Errorf("%d played, want the batch of 10 that was begun and no other", n)
		}
	})
}

func TestLanes(t *testing.T) {
	t.Parallel()
	inBothForms(t, func(t *testing.T, b *bench) {
		var requests []outbox.Request
		for _, key := range numbered("k", 300) {
			requests = append(requests, outbox.Request{Key: key, Args: toy{Note: key[len(key)-1:]}}) // ten ordering keys
		}
		if _, err := outbox.EnqueueMany(t.Context(), b.pool, requests); err != nil {
			t.Fatal(err)
		}
		b.drain(outbox.Settings{Lanes: 3, Batch: 7})
		if got := b.keys(`SELECT key FROM public.toy ORDER BY right(key, 1), n`); len(got) != 300 ||
			!slices.Equal(got, b.keys(`SELECT key FROM public.toy ORDER BY right(key, 1), key`)) {
			t.Errorf("%d played, or out of order within a lane", len(got))
		}
		const wrong = `SELECT key FROM lastseat.requests WHERE ordering IS DISTINCT FROM right(key, 1)`
		if got := b.keys(wrong); len(got) != 0 {
			t.Errorf("it is not written down by what these were ordered: %v", got)
		}
	})
}

func TestPausedQueueWaits(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	b.exec(`INSERT INTO lastseat.river_queue (name, paused_at) VALUES ('lastseat', now())`)
	b.enqueue("a")
	if b.drain(outbox.Settings{}); len(b.played()) != 0 {
		t.Error("a paused queue was worked")
	}
	b.exec(`UPDATE lastseat.river_queue SET paused_at = NULL`)
	if b.drain(outbox.Settings{}); len(b.played()) != 1 {
		t.Error("a resumed queue was not worked")
	}
}

// The lane sleeps for an hour if it misses a ring: then this test ends in its time limit.
func TestNoCommitIsMissed(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	b.start(outbox.Settings{Poll: time.Hour})
	const producers = 4
	rounds := testdb.Soak(40, 500)
	atOnce(t, producers, func(p int) error {
		for _, key := range numbered("p"+string(rune('a'+p)), rounds) {
			tx, err := b.pool.Begin(t.Context())
			if err != nil {
				return err
			}
			if _, err := outbox.Enqueue(t.Context(), tx, key, toy{}); err != nil {
				return err
			}
			// A commit that comes late may find that the lane has gone to sleep since it was asked for.
			time.Sleep(time.Duration(len(key)*int(key[len(key)-1])%17) * time.Millisecond)
			if err := tx.Commit(t.Context()); err != nil {
				return err
			}
			ctx, cancel := context.WithTimeout(t.Context(), patience)
			_, err = outbox.Wait(ctx, b.pool, key)
			cancel()
			if err != nil {
				return err
			}
		}
		return nil
	})
	if n := len(b.played()); n != producers*rounds {
		t.Errorf("%d played", n)
	}
}

// laneSleeps tells whether a lane holds the doorbell.
func (b *bench) laneSleeps() bool {
	return one[bool](b, `SELECT EXISTS (SELECT FROM pg_locks WHERE locktype = 'advisory' AND mode = 'ExclusiveLock'
		AND (classid::bigint << 32 | objid::bigint) = lastseat.doorbell('lastseat')
		AND database = (SELECT oid FROM pg_database WHERE datname = current_database()))`)
}

// The lane keeps the doorbell while it settles requests that come one by one: it has to be rung for each of them.
func TestRequestsOneByOne(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	b.start(outbox.Settings{Poll: time.Hour})
	for _, key := range numbered("k", 20) {
		b.eventually("the lane sleeps", b.laneSleeps)
		b.enqueue(key)
		b.eventually(key+" is played", func() bool { return slices.Contains(b.played(), key) })
	}
}

// Commits that notify wait for the disk one after the other. Of askers who come at once, again and again, few have to.
func TestAskersAtOnceDoNotNotify(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	b.start(outbox.Settings{Poll: time.Hour})
	pooled, err := b.pool.Acquire(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	listener := pooled.Hijack()
	defer listener.Close(context.WithoutCancel(t.Context()))
	if _, err := listener.Exec(t.Context(), `LISTEN "lastseat.river_insert"`); err != nil {
		t.Fatal(err)
	}
	b.eventually("the lane sleeps", b.laneSleeps)
	const askers, rounds = 8, 25
	atOnce(t, askers, func(a int) error {
		for _, key := range numbered("a"+string(rune('a'+a)), rounds) {
			_, err := outbox.EnqueueMany(t.Context(), b.pool, []outbox.Request{{Key: key, Args: toy{}}})
			if err != nil {
				return err
			}
			if _, err := outbox.Wait(t.Context(), b.pool, key); err != nil {
				return err
			}
		}
		return nil
	})
	b.exec(`SELECT pg_notify('lastseat.river_insert', 'end')`)
	for rings := 0; ; {
		notification, err := listener.WaitForNotification(t.Context())
		switch {
		case err != nil:
			t.Fatal(err)
		case strings.Contains(notification.Payload, `"lastseat"`):
			rings++
		case notification.Payload == "end":
			if rings < 1 || rings > askers*rounds/2 {
				t.Errorf("%d of %d requests notified the lane, want the first and not half of them", rings, askers*rounds)
			}
			return
		}
	}
}

// The one moment in which a commit could be missed: after the lane has looked, and before it has the doorbell. The
// producer's commit takes place just there.
func TestCommitBetweenLookAndSleep(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	tx, err := b.pool.Begin(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if _, err := outbox.Enqueue(t.Context(), tx, "a", toy{}); err != nil {
		t.Fatal(err)
	}
	hooked := *b
	hooked.workers = hookedPool(b, "pg_try_advisory_lock(lastseat.doorbell", sync.OnceFunc(func() {
		if err := tx.Commit(context.WithoutCancel(t.Context())); err != nil {
			t.Error(err)
		}
	}))
	hooked.start(outbox.Settings{Poll: time.Hour})
	b.eventually("it is played", func() bool { return len(b.played()) == 1 })
}

func TestScheduledRequestWaitsForItsTime(t *testing.T) {
	t.Parallel()
	inBothForms(t, func(t *testing.T, b *bench) {
		due := time.Now().Add(1500 * time.Millisecond)
		if _, err := outbox.EnqueueMany(t.Context(), b.pool, []outbox.Request{{Key: "later", Args: toy{},
			ScheduledAt: due}}); err != nil {
			t.Fatal(err)
		}
		if state := one[string](b, `SELECT state::text FROM lastseat.river_job`); state != "scheduled" {
			t.Errorf("state %s", state)
		}
		b.start(outbox.Settings{})
		b.enqueue("now")
		b.eventually("both are played", func() bool { return len(b.played()) == 2 })
		if o := b.outcome("later"); o.SettledAt.Before(due.Add(-50 * time.Millisecond)) { // clocks of two processes
			t.Errorf("settled at %v, due at %v", o.SettledAt, due)
		}
	})
}
