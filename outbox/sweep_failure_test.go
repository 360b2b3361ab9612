package outbox_test

import (
	"context"
	"errors"
	"fmt"
	"net"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/lastseat/lastseat/outbox"
)

// Whatever goes wrong in a sweep is no job's fault, and holds up neither them nor the other sweepers.
func TestFailingSweepBlamesNoJob(t *testing.T) {
	t.Parallel()
	for name, fail := range map[string]func(ctx context.Context, tx pgx.Tx) error{
		"error":     func(context.Context, pgx.Tx) error { return errors.New("the broom is broken") },
		"panic":     func(context.Context, pgx.Tx) error { panic("the broom is broken") },
		"SQL":       func(ctx context.Context, tx pgx.Tx) error { _, err := tx.Exec(ctx, `SELECT 1/0`); return err },
		"swallowed": func(ctx context.Context, tx pgx.Tx) error { _, _ = tx.Exec(ctx, `SELECT 1/0`); return nil },
		"cancelled": func(ctx context.Context, tx pgx.Tx) error {
			_, err := tx.Exec(ctx, `SELECT pg_cancel_backend(pg_backend_pid()), pg_sleep(5)`)
			return err
		},
		"conflict that stays": func(ctx context.Context, tx pgx.Tx) error {
			_, err := tx.Exec(ctx, `DO $$ BEGIN RAISE 'made up' USING ERRCODE = '40001'; END $$`)
			return err
		},
	} {
		t.Run(name, func(t *testing.T) {
			b, s := newSweepBench(t)
			second := &toySweeper{}
			b.kinds.Register(second, outbox.Kind{Name: "perish too"})
			var broken atomic.Bool
			broken.Store(true)
			s.before = func(ctx context.Context, tx pgx.Tx, _ outbox.Sweep) error {
				if broken.Load() {
					return fail(ctx, tx)
				}
				return nil
			}
			b.perish("-1 hour", "p")
			want := numbered("k", 60)
			b.enqueue(want...)
			stats := b.drain(outbox.Settings{Batch: 20, TxRetries: 1})
			if !slices.Equal(b.played(), want) || stats.Failures != 0 ||
				one[int](b, `SELECT max(attempts) FROM lastseat.requests`) != 1 {
				t.Errorf("%+v, played %v", stats, b.played())
			}
			if got := b.swept(); !slices.Equal(got, []string{"p"}) {
				t.Errorf("the other sweeper swept %v", got)
			}
			broken.Store(false)
			calls := s.calls.Load()
			b.eventually("it is called again", func() bool { // the last drain's session may hold the lane for a moment
				b.drain(outbox.Settings{})
				return s.calls.Load() > calls
			})
			b.wantSweptOnce()
		})
	}
}

// A sweeper that takes the connection with it, each time, can't keep the lane from its jobs: between two sweeps
// comes a batch.
func TestSweepThatLosesTheConnection(t *testing.T) {
	t.Parallel()
	b, s := newSweepBench(t)
	var cut atomic.Bool
	cut.Store(true)
	var turns strings.Builder // written by the lane alone
	b.settler.set(func(context.Context, pgx.Tx, outbox.Job) error { turns.WriteString("b"); return nil })
	s.before = func(ctx context.Context, tx pgx.Tx, _ outbox.Sweep) error {
		if cut.Load() {
			turns.WriteString("s")
			_, err := tx.Exec(ctx, `SELECT pg_terminate_backend(pg_backend_pid()), pg_sleep(5)`)
			return err
		}
		return nil
	}
	b.perish("-1 hour", "p")
	b.enqueue("a", "b", "c")
	slow := *b // to connect: the next sweep is due before the lane is there
	slow.workers = wrappedPool(b, func(conn net.Conn) net.Conn { time.Sleep(700 * time.Millisecond); return conn })
	stop := slow.start(outbox.Settings{Batch: 1})
	b.eventually("all are played", func() bool { return len(b.played()) == 3 })
	if n := one[int](b, `SELECT max(attempts) FROM lastseat.requests`); n != 1 || s.calls.Load() < 1 {
		t.Errorf("%d attempts, %d sweeps", n, s.calls.Load())
	}
	cut.Store(false)
	b.eventually("it is swept", func() bool { return len(b.swept()) == 1 })
	stop()
	if !strings.HasPrefix(turns.String(), "sb") {
		t.Errorf("turns %s: after a sweep that was cut off comes a batch", turns.String())
	}
	b.wantSweptOnce()
}

func TestLostReplyToCommitOfASweep(t *testing.T) {
	t.Parallel()
	for name, late := range map[string]bool{"committed": true, "not committed": false} {
		t.Run(name, func(t *testing.T) {
			b, _ := newSweepBench(t)
			cut := &cutter{late: late, spared: 1}
			cut.left.Store(1)
			cutBench := *b
			cutBench.workers = cut.pool(b)
			b.perish("-1 hour", "p", "q")
			cutBench.drain(outbox.Settings{}) // no job: the sweep's is the first COMMIT
			if cut.left.Load() > 0 {
				t.Fatal("no connection was cut")
			}
			b.wantSweptOnce()
		})
	}
}

// 40001: another session changes what is to be swept, after the snapshot was taken.
func TestConflictOfASweepIsRetried(t *testing.T) {
	t.Parallel()
	for name, conflicts := range map[string]int64{"serializable": 3, "read committed": 0} {
		t.Run(name, func(t *testing.T) {
			b, s := newSweepBench(t)
			s.before = func(context.Context, pgx.Tx, outbox.Sweep) error {
				if s.calls.Load() <= 3 {
					b.exec(`UPDATE public.perishable SET until = now()`)
				}
				return nil
			}
			b.perish("-1 hour", "p")
			if stats := b.drain(outbox.Settings{Isolation: levels[name]}); stats.Conflicts != conflicts || stats.Swept != 1 {
				t.Errorf("%+v, want %d conflicts", stats, conflicts)
			}
			b.wantSweptOnce()
		})
	}
}

// Where Postgres has no room for predicate locks, because of somebody else's session, a sweep does without.
func TestSweepWithoutRoomForPredicateLocks(t *testing.T) {
	t.Parallel()
	b, s := newSweepBench(t)
	s.before = func(ctx context.Context, tx pgx.Tx, _ outbox.Sweep) error {
		_, err := tx.Exec(ctx,
			`DO $$ BEGIN IF current_setting('transaction_isolation') = 'serializable' THEN RAISE 'full' USING ERRCODE = '53200'; END IF; END $$`)
		return err
	}
	b.perish("-1 hour", "p")
	b.drain(outbox.Settings{})
	b.wantSweptOnce()
}

// Rows that another session has locked for long hold up the sweep, and not the jobs.
func TestLockHeldDuringASweep(t *testing.T) {
	t.Parallel()
	b, s := newSweepBench(t)
	b.perish("-1 hour", "p")
	other, err := b.pool.Begin(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = other.Rollback(context.WithoutCancel(t.Context())) }()
	if _, err := other.Exec(t.Context(), `SELECT FROM public.perishable FOR UPDATE`); err != nil {
		t.Fatal(err)
	}
	var turns strings.Builder // written by the lane alone
	b.settler.set(func(context.Context, pgx.Tx, outbox.Job) error { turns.WriteString("b"); return nil })
	s.before = func(context.Context, pgx.Tx, outbox.Sweep) error { turns.WriteString("s"); return nil }
	b.enqueue("waits")
	stop := b.start(outbox.Settings{})
	for i := range 2 {
		b.enqueue(fmt.Sprint("k", i))
		calls := s.calls.Load()
		b.eventually("a job is played and a sweep is tried", func() bool {
			return len(b.played()) == i+2 &&
				s.calls.Load() > calls
		})
	}
	if len(b.swept()) != 0 {
		t.Fatal("the row was not locked: this test has shown nothing")
	}
	if err := other.Rollback(t.Context()); err != nil {
		t.Fatal(err)
	}
	b.eventually("it is swept", func() bool { return len(b.swept()) == 1 })
	stop()
	if !strings.HasPrefix(turns.String(), "sb") {
		t.Errorf("turns %s: after one try the jobs come first", turns.String())
	}
	b.wantSweptOnce()
}

// A sweep that fails is tried with half as much, and with all of it again once that has gone well.
func TestFailingSweepIsHalved(t *testing.T) {
	t.Parallel()
	b, s := newSweepBench(t)
	var limits []int
	s.before = func(_ context.Context, _ pgx.Tx, sweep outbox.Sweep) error {
		if limits = append(limits, sweep.Limit); sweep.Limit > 2000 && s.calls.Load() < 4 {
			return errors.New("too much")
		}
		return nil
	}
	b.exec(`INSERT INTO public.perishable (id, expires_at) SELECT 'p' || n, now() - '1 hour'::interval
		FROM generate_series(1, 6000) n`)
	stop := b.start(outbox.Settings{})
	b.eventually("all are swept", func() bool { return len(b.swept()) == 6000 })
	stop()
	if want := []int{5000, 2500, 1250, 2500, 5000}; !slices.Equal(limits[:5], want) {
		t.Errorf("limits %v, want %v", limits, want)
	}
	b.wantSweptOnce()
}
