package outbox_test

import (
	"context"
	"fmt"
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

// toySweeper is a settler whose rows run out: those of public.perishable. before is called with the sweep's
// snapshot taken and no row of it locked.
type toySweeper struct {
	toySettler
	calls  atomic.Int64
	before func(ctx context.Context, tx pgx.Tx, sweep outbox.Sweep) error
}

func (s *toySweeper) Sweep(ctx context.Context, tx pgx.Tx, sweep outbox.Sweep) (int, bool, error) {
	s.calls.Add(1)
	if s.before != nil {
		if err := s.before(ctx, tx, sweep); err != nil {
			return 0, false, err
		}
	}
	rows, err := tx.Query(ctx, `SELECT id FROM public.perishable
		WHERE swept = 0 AND expires_at <= $1 AND ($2 = 1 OR abs(hashtextextended(id, 0) % $2) = $3)
		ORDER BY expires_at, id LIMIT $4 FOR UPDATE`, sweep.Until, sweep.Lanes, sweep.Lane, sweep.Limit)
	if err != nil {
		return 0, false, err
	}
	ids, err := pgx.CollectRows(rows, pgx.RowTo[string])
	if err == nil && len(ids) > 0 {
		sweep.Write.Queue(`UPDATE public.perishable SET swept = swept + 1, until = $2 WHERE id = ANY ($1)`, ids,
			sweep.Until).Exec(outbox.ExpectRows(len(ids)))
	}
	return len(ids), len(ids) >= sweep.Limit, err
}

func newSweepBench(t *testing.T) (*bench, *toySweeper) {
	t.Helper()
	b, s := newBench(t), &toySweeper{}
	b.kinds.Register(s, outbox.Kind{Name: "perish"})
	b.exec(`CREATE TABLE public.perishable (id text PRIMARY KEY, expires_at timestamptz NOT NULL, swept int NOT NULL DEFAULT 0, until timestamptz)`)
	return b, s
}

// perish makes rows that run out at a time from now: '-1 hour'.
func (b *bench) perish(at string, ids ...string) {
	b.t.Helper()
	b.exec(`INSERT INTO public.perishable (id, expires_at) SELECT id, clock_timestamp() + $2::text::interval
		FROM unnest($1::text[]) id`, ids, at)
}

func (b *bench) swept() []string {
	return b.keys(`SELECT id FROM public.perishable WHERE swept > 0 ORDER BY expires_at, id`)
}

// wantSweptOnce: all rows, in time's order of things: none before it had run out, none twice.
func (b *bench) wantSweptOnce() {
	b.t.Helper()
	if wrong := b.keys(`SELECT id FROM public.perishable WHERE swept <> 1 OR until < expires_at`); len(wrong) > 0 {
		b.t.Errorf("not swept once, and not before its time: %v", wrong)
	}
}

// An idle lane sweeps though it sleeps for an hour if nobody rings, and its sleep is that long: only the sweeps
// wake it.
func TestIdleLaneSweeps(t *testing.T) {
	t.Parallel()
	b, s := newSweepBench(t)
	b.start(outbox.Settings{Poll: time.Hour})
	for i := range 4 {
		b.perish(fmt.Sprintf("%d milliseconds", i*300), fmt.Sprint("p", i))
	}
	b.eventually("all are swept", func() bool { return len(b.swept()) == 4 && s.calls.Load() > 2 })
	b.wantSweptOnce()

	b.exec(`INSERT INTO lastseat.river_job (kind, queue, args) VALUES ('toy', 'lastseat', '{"key": "raw"}')`) // rings not
	calls := s.calls.Load()
	b.eventually("some sweeps more", func() bool { return s.calls.Load() > calls+2 })
	if len(b.played()) != 0 {
		t.Error("the lane looks for jobs with every sweep")
	}
	b.enqueue("rings")
	b.eventually("both are played", func() bool { return len(b.played()) == 2 })
}

// Who commits while an idle lane sweeps finds the doorbell taken, and rings: it is heard though nobody listens just
// then.
func TestCommitDuringSweepOfAnIdleLane(t *testing.T) {
	t.Parallel()
	b, s := newSweepBench(t)
	rounds := int64(testdb.Soak(4, 60))
	s.before = func(context.Context, pgx.Tx, outbox.Sweep) error {
		if n := s.calls.Load(); n > 2 && n <= 2+rounds {
			b.enqueue(fmt.Sprint("k", n))
		}
		return nil
	}
	b.start(outbox.Settings{Poll: time.Hour})
	b.eventually("all are played", func() bool { return len(b.played()) == int(rounds) })
}

// A lane that never comes to rest sweeps all the same.
func TestBusyLaneSweeps(t *testing.T) {
	t.Parallel()
	b, s := newSweepBench(t)
	var overtaken atomic.Int64
	s.before = func(ctx context.Context, tx pgx.Tx, sweep outbox.Sweep) error {
		var n int64
		err := tx.QueryRow(ctx, `SELECT count(*) FROM lastseat.river_job
			WHERE queue = 'lastseat' AND state = 'available' AND scheduled_at < $1`, sweep.Until).Scan(&n)
		overtaken.Add(n)
		return err
	}
	b.settler.set(func(context.Context, pgx.Tx, outbox.Job) error { time.Sleep(time.Millisecond); return nil })
	b.start(outbox.Settings{Batch: 20})
	for round := 0; len(b.swept()) < 5; round++ {
		b.enqueue(numbered(fmt.Sprint("k", round), 100)...)
		if round < 5 {
			b.perish("0", fmt.Sprint("p", round))
		}
		b.eventually("the lane is about to run dry",
			func() bool { return one[int](b, `SELECT count(*) FROM lastseat.river_job`) < 50 })
		if round > 500 {
			t.Fatal("a busy lane does not sweep")
		}
	}
	b.wantSweptOnce()
	if n := overtaken.Load(); n > 0 {
		t.Errorf("%d requests had to wait for a sweep that was after their time", n)
	}
}

// reached records how far each sweep goes, as the place of the job whose time it is: 'a', or 'now'.
func (s *toySweeper) reached(b *bench) (all func() []string) {
	var mu sync.Mutex
	var reached []string
	s.before = func(_ context.Context, _ pgx.Tx, sweep outbox.Sweep) error {
		name := "now"
		if !sweep.Until.Equal(sweep.Now) {
			name = one[string](b, `SELECT coalesce((SELECT args ->> 'key' FROM lastseat.river_job WHERE scheduled_at = $1),
				'nothing')`, sweep.Until)
		}
		mu.Lock()
		defer mu.Unlock()
		reached = append(reached, name)
		return nil
	}
	return func() []string { mu.Lock(); defer mu.Unlock(); return slices.Clone(reached) }
}

// A sweep goes as far as what was asked for has been settled, however late the worker is; a drain sweeps to the end.
func TestSweepGoesAsFarAsTheLane(t *testing.T) {
	t.Parallel()
	for name, level := range levels {
		t.Run(name, func(t *testing.T) {
			b, s := newSweepBench(t)
			reached := s.reached(b)
			// a sweep is due after each
			b.settler.set(func(context.Context, pgx.Tx, outbox.Job) error { time.Sleep(600 * time.Millisecond); return nil })
			for _, key := range []string{"a", "b", "c"} {
				b.perish("0", "before "+key)
				b.enqueue(key)
			}
			b.perish("0", "after c")
			b.perish("1 hour", "tomorrow")
			stats := b.drain(outbox.Settings{Batch: 1, Isolation: level})
			if got := reached(); !slices.Equal(got, []string{"a", "b", "c", "now"}) {
				t.Errorf("swept to %v", got)
			}
			if got := b.swept(); len(got) != 4 || stats.Swept != 4 {
				t.Errorf("swept %v, %+v", got, stats)
			}
			// each before the request that was asked for next
			if n := one[int](b, `SELECT count(*) FROM public.perishable p WHERE id LIKE 'before %'
				AND until = (SELECT requested_at FROM lastseat.requests r WHERE r.key = substr(p.id, 8))`); n != 3 {
				t.Errorf("%d of 3 were swept at their place in time", n)
			}
		})
	}
}

// A drain sweeps once more after its last batch, though the next sweep is not due yet.
func TestDrainSweepsOnceMore(t *testing.T) {
	t.Parallel()
	b, s := newSweepBench(t)
	reached := s.reached(b)
	b.enqueue("a")
	b.perish("0", "after a")
	if stats := b.drain(outbox.Settings{}); stats.Swept != 1 || !slices.Equal(reached(), []string{"a", "now"}) {
		t.Errorf("swept to %v, %+v", reached(), stats)
	}
}

// What is not the lane's to settle now does not hold the sweep back; what is, and is only paused, does.
func TestWhatHoldsASweepBack(t *testing.T) {
	t.Parallel()
	locked := func(b *bench, key string) {
		tx, err := b.pool.Begin(b.t.Context())
		if err != nil {
			b.t.Fatal(err)
		}
		b.t.Cleanup(func() { _ = tx.Rollback(context.Background()) })
		if _, err := tx.Exec(b.t.Context(), `SELECT FROM lastseat.river_job WHERE args ->> 'key' = $1 FOR UPDATE`,
			key); err != nil {
			b.t.Fatal(err)
		}
	}
	for name, c := range map[string]struct {
		prepare func(b *bench)
		want    string
	}{
		"nothing waits": {func(b *bench) { b.drain(outbox.Settings{}) }, "now"},
		"paused": {func(b *bench) {
			b.exec(`INSERT INTO lastseat.river_queue (name, paused_at) VALUES ('lastseat', now())`)
		}, "a"},
		"paused, the first stuck": {func(b *bench) {
			b.exec(`INSERT INTO lastseat.river_queue (name, paused_at) VALUES ('lastseat', now())`)
			locked(b, "a")
		}, "b"},
		"all are stuck": {func(b *bench) { locked(b, "a"); locked(b, "b") }, "now"},
		"scheduled for later": {func(b *bench) {
			b.exec(`UPDATE lastseat.river_job SET state = 'scheduled', scheduled_at = now() + '1 hour'`)
		}, "now"},
		"retried soon": {func(b *bench) { b.exec(`UPDATE lastseat.river_job SET scheduled_at = now() + '1 hour'`) },
			"now"},
		"of another queue": {func(b *bench) { b.exec(`UPDATE lastseat.river_job SET queue = 'other'`) }, "now"},
		"paused, of no time": {func(b *bench) {
			b.exec(`INSERT INTO lastseat.river_queue (name, paused_at) VALUES ('lastseat', now())`)
			b.exec(`UPDATE lastseat.river_job SET scheduled_at = '-infinity' WHERE args ->> 'key' = 'a'`)
		}, "b"},
	} {
		t.Run(name, func(t *testing.T) {
			b, s := newSweepBench(t)
			b.enqueue("a")
			b.enqueue("b")
			c.prepare(b)
			reached := s.reached(b)
			b.start(outbox.Settings{})
			b.eventually("two sweeps", func() bool { return len(reached()) >= 2 })
			for _, got := range reached() {
				if got != c.want {
					t.Errorf("swept to %s, want %s", got, c.want)
				}
			}
		})
	}
}

// Of several lanes each sweeps its own rows: those whose name is the ordering key of the requests that it settles.
// While a lane is held up by a request, the others go on, and the rows of that request's name stay.
func TestLanesSweepTheirOwn(t *testing.T) {
	t.Parallel()
	b, _ := newSweepBench(t)
	ids := numbered("p", 30)
	var name atomic.Value // of the request that is held up
	entered, leave := make(chan struct{}), make(chan struct{})
	b.settler.set(func(_ context.Context, _ pgx.Tx, job outbox.Job) error {
		if job.Key == name.Load() {
			entered <- struct{}{}
			<-leave
		}
		return nil
	})
	name.Store("")
	b.start(outbox.Settings{Lanes: 3})
	for _, held := range []string{"p-0003", "p-0011", "p-0017"} {
		name.Store(held)
		b.exec(`DELETE FROM public.perishable`)
		b.enqueue(held) // its note is its key
		<-entered
		b.perish("-1 hour", ids...)
		b.eventually("the other lanes have swept", func() bool {
			return one[int](b,
				`SELECT count(DISTINCT abs(hashtextextended(id, 0) % 3)) FROM public.perishable WHERE swept > 0`) == 2
		})
		if slices.Contains(b.swept(), held) {
			t.Errorf("%s was swept by a lane that does not settle its requests", held)
		}
		leave <- struct{}{}
		b.eventually("all are swept", func() bool { return len(b.swept()) == len(ids) })
		b.wantSweptOnce()
	}
}

// A lane's sweep goes as far as that lane, whatever waits in the others.
func TestLaneSweepsAsFarAsItsOwn(t *testing.T) {
	t.Parallel()
	b, s := newSweepBench(t)
	b.enqueue(numbered("p", 30)...)
	b.exec(`INSERT INTO lastseat.river_queue (name, paused_at) VALUES ('lastseat', now())`)
	var mu sync.Mutex
	wrong, lanes := []string{}, map[int]bool{}
	s.before = func(ctx context.Context, tx pgx.Tx, sweep outbox.Sweep) error {
		var first time.Time
		err := tx.QueryRow(ctx, `SELECT min(scheduled_at) FROM lastseat.river_job
			WHERE abs(hashtextextended(args ->> 'note', 0) % 4) = $1`, sweep.Lane).Scan(&first)
		mu.Lock()
		defer mu.Unlock()
		if lanes[sweep.Lane] = true; !sweep.Until.Equal(first) || sweep.Lanes != 4 {
			wrong = append(wrong, fmt.Sprintf("%+v, the first is %v", sweep, first))
		}
		return err
	}
	b.start(outbox.Settings{Lanes: 4})
	b.eventually("all lanes have swept", func() bool { mu.Lock(); defer mu.Unlock(); return len(lanes) == 4 })
	mu.Lock()
	defer mu.Unlock()
	if len(wrong) > 0 {
		t.Error(wrong)
	}
}

// With more to sweep than a transaction takes, it is all swept before a batch is settled that comes after it.
func TestSweepsComeFirst(t *testing.T) {
	t.Parallel()
	b, s := newSweepBench(t)
	var turns strings.Builder
	s.before = func(_ context.Context, _ pgx.Tx, sweep outbox.Sweep) error {
		if sweep.Limit != 5000 {
			t.Errorf("limit %d", sweep.Limit)
		}
		turns.WriteString("s")
		return nil
	}
	b.settler.set(func(context.Context, pgx.Tx, outbox.Job) error { turns.WriteString("b"); return nil })
	b.exec(`INSERT INTO public.perishable (id, expires_at) SELECT 'p' || n, now() - '1 hour'::interval
		FROM generate_series(1, 15000) n`)
	b.enqueue("a", "b", "c")
	stats := b.drain(outbox.Settings{Batch: 1})
	if !strings.HasPrefix(turns.String(), "ssssb") || stats.Swept != 15000 {
		t.Errorf("turns %s, %+v", turns.String(), stats)
	}
	b.wantSweptOnce()
}

// Of several workers only the one that holds the lane sweeps; when it goes, the next one does.
func TestOnlyTheHolderSweeps(t *testing.T) {
	t.Parallel()
	b, s := newSweepBench(t)
	var inside, most atomic.Int32
	s.before = func(context.Context, pgx.Tx, outbox.Sweep) error {
		most.Store(max(most.Load(), inside.Add(1)))
		time.Sleep(50 * time.Millisecond)
		inside.Add(-1)
		return nil
	}
	var workers []*outbox.Worker
	var stops []context.CancelFunc
	var running sync.WaitGroup
	defer running.Wait()
	for range 3 {
		ctx, stop := context.WithCancel(context.WithoutCancel(t.Context()))
		defer stop()
		worker := b.worker(outbox.Settings{})
		workers, stops = append(workers, worker), append(stops, stop)
		running.Go(func() {
			if err := worker.Run(ctx); err != nil {
				t.Error(err)
			}
		})
	}
	for round := range 3 {
		b.perish("0", fmt.Sprint("p", round))
		b.eventually("it is swept", func() bool { return len(b.swept()) == round+1 })
		b.perish("0", fmt.Sprint("q", round))
		b.eventually("it is swept",
			func() bool { return one[int](b, `SELECT count(*) FROM public.perishable WHERE swept = 0`) == 0 })
		b.exec(`DELETE FROM public.perishable WHERE id LIKE 'q%'`)
		holder := -1
		b.eventually("one worker counts both", func() bool { // it counts after the commit
			holder = slices.IndexFunc(workers, func(w *outbox.Worker) bool { return w.Stats().Swept == 2 })
			return holder >= 0
		})
		stops[holder]()
		workers, stops = slices.Delete(workers, holder, holder+1), slices.Delete(stops, holder, holder+1)
	}
	if most.Load() != 1 {
		t.Errorf("%d sweeps at once", most.Load())
	}
	b.wantSweptOnce()
}
