package outbox_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/lastseat/lastseat/internal/pgsession"
	"github.com/lastseat/lastseat/internal/testdb"
	"github.com/lastseat/lastseat/outbox"
)

// always are settings of a worker that looks before each claim where its queue begins. Patrols come too late to help.
func always(settings outbox.Settings) outbox.Settings {
	return settings.Looking(-1, time.Nanosecond, time.Hour)
}

// wait waits until all of them have outcomes.
func (b *bench) wait(keys ...string) {
	b.t.Helper()
	for _, key := range keys {
		ctx, cancel := context.WithTimeout(b.t.Context(), 2*time.Minute)
		_, err := outbox.Wait(ctx, b.pool, key)
		cancel()
		if err != nil {
			b.t.Fatalf("%s: %v", key, err)
		}
	}
}

// slowClockSQL has enqueue and enqueue_many stop right after they have read the clock, in sessions that set
// early.asker.
const slowClockSQL = `
	CREATE FUNCTION public.slow_clock() RETURNS timestamptz LANGUAGE plpgsql AS $$
	DECLARE
	    read CONSTANT timestamptz := clock_timestamp();
	BEGIN
	    IF current_setting('early.asker', true) = 'on' THEN PERFORM pg_advisory_lock_shared(15); END IF;
	    RETURN read;
	END $$;
	DO $$
	DECLARE
	    function regprocedure;
	BEGIN
	    FOR function IN SELECT oid FROM pg_proc WHERE pronamespace = 'lastseat'::regnamespace
	                    AND proname IN ('enqueue', 'enqueue_many') LOOP
	        EXECUTE replace(pg_get_functiondef(function), 'clock_timestamp()', 'public.slow_clock()');
	    END LOOP;
	END $$`

// A transaction that asks early and commits late is overtaken by those who ask later, before it commits. What is asked
// for after its commit does not overtake it, wherever the lane's claims begin by then: also if it was held up between
// the reading of the clock and its first write, for its number came before that.
func TestEarlyAskerThatCommitsLateIsNotPassedBy(t *testing.T) {
	t.Parallel()
	doors := map[string]string{ // one at a time: claims that begin early for the one would find the other's request
		"enqueue":      `SELECT lastseat.enqueue('toy', 'early', '{}')`,
		"enqueue_many": `SELECT lastseat.enqueue_many('[{"kind": "toy", "key": "early", "args": {}}]')`,
	}
	for name, level := range levels {
		for door, ask := range doors {
			t.Run(name+"/"+door, func(t *testing.T) {
				t.Parallel()
				newBench(t).askEarlyCommitLate(level, ask)
			})
		}
	}
}

func (b *bench) askEarlyCommitLate(level pgx.TxIsoLevel, ask string) {
	b.t.Helper()
	b.exec(slowClockSQL)
	barrier, err := b.pool.Begin(b.t.Context())
	if err != nil {
		b.t.Fatal(err)
	}
	if _, err := barrier.Exec(b.t.Context(), `SELECT pg_advisory_xact_lock(15)`); err != nil {
		b.t.Fatal(err)
	}
	b.start(always(outbox.Settings{Isolation: level}))
	b.enqueue("warm")
	b.wait("warm")
	asked := make(chan error, 1)
	go func() { asked <- b.askEarly(ask) }()
	b.eventually("it has asked", func() bool {
		return one[int](b, `SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND objid = 15 AND NOT granted
			AND database = (SELECT oid FROM pg_database WHERE datname = current_database())`) == 1
	})
	for _, key := range numbered("between", 20) { // at least as many looks
		b.enqueue(key)
		b.wait(key)
	}
	if err := barrier.Commit(b.t.Context()); err != nil {
		b.t.Fatal(err)
	}
	if err := <-asked; err != nil {
		b.t.Fatal(err)
	}
	b.enqueue("late")
	b.wait("late")
	if got := b.played(); len(got) != 23 || got[22] != "late" {
		b.t.Errorf("played %v: the early one is missing, or not before the late one", got)
	}
}

// askEarly asks in a session that stops after reading the clock.
func (b *bench) askEarly(ask string) error {
	ctx := context.WithoutCancel(b.t.Context())
	conn, err := pgsession.Open(ctx, b.url)
	if err != nil {
		return err
	}
	defer func() { _ = conn.Close(ctx) }()
	if _, err := conn.Exec(ctx, `SET early.asker = on`); err != nil {
		return err
	}
	_, err = conn.Exec(ctx, ask)
	return err
}

// A job that was inserted with an earlier time than its insertion is before the place where claims begin. A patrol
// finds it.
func TestPatrolFindsWhatIsEarlierThanItsInsertion(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	b.start(outbox.Settings{Poll: 50 * time.Millisecond}.Looking(-1, time.Nanosecond, 50*time.Millisecond))
	b.enqueue(numbered("k", 20)...)
	b.wait(numbered("k", 20)...)
	for priority := range 4 {
		b.exec(`INSERT INTO lastseat.river_job (kind, queue, args, state, priority, scheduled_at)
			VALUES ('toy', 'lastseat', jsonb_build_object('key', 'raw' || $1::int), 'available', $1::int, now() - interval '1 h')`,
			priority+1)
	}
	b.eventually("all are played", func() bool { return len(b.played()) == 24 })
}

// Nothing that becomes available is left, however it does and whatever its time says; and what one producer asks for
// through enqueue takes effect in its order.
func TestNothingIsLeftWhereverClaimsBegin(t *testing.T) {
	t.Parallel()
	for name, settings := range map[string]outbox.Settings{
		"one lane": {Batch: 20}, "three lanes": {Batch: 20, Lanes: 3},
		"read committed": {Batch: 20, Isolation: pgx.ReadCommitted},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := newHandlerBench(t)
			var once sync.Map
			b.settler.set(func(_ context.Context, _ pgx.Tx, job outbox.Job) error {
				if _, tried := once.LoadOrStore(job.Key, true); strings.Contains(job.Key, "fails") && !tried {
					return errors.New("it fails once")
				}
				return nil
			})
			settings.Poll, settings.Logger = 50*time.Millisecond, slog.New(slog.DiscardHandler)
			b.start(settings.Looking(-1, 2*time.Millisecond, 200*time.Millisecond))
			producers, rounds := 4, testdb.Soak(60, 600)
			atOnce(t, producers, func(p int) error { return b.askAtRandom(fmt.Sprint("p", p), rounds) })
			left := []string{"?"}
			for range 8000 {
				left = b.keys(`SELECT concat_ws(' ', args ->> 'key', state, priority, scheduled_at, attempt, now())
					FROM lastseat.river_job WHERE kind = 'toy' ORDER BY id`)
				if len(left) == 0 {
					break
				}
				time.Sleep(5 * time.Millisecond)
			}
			if len(left) > 0 {
				t.Fatalf("left: %s", strings.Join(left, "\n"))
			}
			if n := len(b.played()); n != producers*rounds {
				t.Errorf("%d of %d were played", n, producers*rounds)
			}
			for p := range producers {
				got := b.keys(`SELECT key FROM public.toy WHERE key LIKE 'p' || $1::int || '-plain-%' ORDER BY n`, p)
				if !slices.IsSorted(got) || len(got) == 0 {
					t.Errorf("out of order: %v", got)
				}
			}
		})
	}
}

// askAtRandom asks n times, in all ways that there are. What it asks for plainly has names in its order.
func (b *bench) askAtRandom(producer string, n int) error {
	ctx := b.t.Context()
	random := rand.New(rand.NewPCG(15, uint64(len(producer))+uint64(producer[1])))
	for i := range n {
		err := pgx.BeginFunc(ctx, b.pool, func(tx pgx.Tx) error {
			time.Sleep(time.Duration(random.IntN(3000)) * time.Microsecond)
			key := func(how string) string { return fmt.Sprintf("%s-%s-%06d", producer, how, i) }
			args := func(key string) string { return fmt.Sprintf(`{"note": %q, "key": %q}`, producer, key) }
			var err error
			switch random.IntN(8) {
			case 0: // its time is any, its priority too
				_, err = tx.Exec(ctx, `INSERT INTO lastseat.river_job (kind, queue, args, state, priority, scheduled_at)
					VALUES ('toy', 'lastseat', $1::text::jsonb, 'available', $2, now() - $3 * interval '1 ms')`,
					args(key("raw")), 1+random.IntN(4), random.IntN(5000))
			case 1: // another session has the job locked for a while
				_, err = tx.Exec(ctx, `INSERT INTO lastseat.river_job (kind, queue, args, state)
					VALUES ('toy', 'lastseat', $1::text::jsonb, 'available')`, args(key("locked")))
				go b.lockFor(key("locked"), time.Duration(random.IntN(300))*time.Millisecond)
			case 2:
				_, err = outbox.EnqueueMany(ctx, tx, []outbox.Request{{Key: key("scheduled"), Args: toy{Note: producer},
					ScheduledAt: time.Now().Add(time.Duration(random.IntN(1500)) * time.Millisecond)}})
			case 3:
				_, err = outbox.Enqueue(ctx, tx, key("fails"), toy{Note: producer})
			default:
				_, err = outbox.Enqueue(ctx, tx, key("plain"), toy{Note: producer})
			}
			time.Sleep(time.Duration(random.IntN(3000)) * time.Microsecond)
			return err
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// lockFor locks a job, if it comes in time.
func (b *bench) lockFor(key string, duration time.Duration) {
	ctx := b.t.Context()
	time.Sleep(3 * time.Millisecond)
	_ = pgx.BeginFunc(ctx, b.pool, func(tx pgx.Tx) error {
		_, err := tx.Exec(ctx, `SELECT FROM lastseat.river_job WHERE args ->> 'key' = $1 FOR UPDATE`, key)
		time.Sleep(duration)
		return err
	})
}
