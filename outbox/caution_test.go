package outbox_test

import (
	"context"
	"errors"
	"log/slog"
	"os"
	"os/exec"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/lastseat/lastseat/outbox"
)

// deadlyURL names the database in whose name the test's binary is a worker, which a job named "deadly" ends.
const deadlyURL = "OUTBOX_TEST_DEADLY_URL"

// drainOrDie drains the toys of a database. 0: it is drained.
func drainOrDie(url string) int {
	ctx := context.Background()
	pool, err := pgxpool.New(ctx, url)
	if err != nil {
		return 1
	}
	settler, kinds := &toySettler{}, &outbox.Kinds{}
	settler.set(func(_ context.Context, _ pgx.Tx, job outbox.Job) error {
		if job.Key == "deadly" {
			os.Exit(7)
		}
		return nil
	})
	if os.Getenv(deadlyURL+"_FORM") == "handler" {
		outbox.Register(kinds, settler.handle)
	} else {
		kinds.Register(settler, outbox.Kind{Name: "toy"})
	}
	log := slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: slog.LevelWarn}))
	if err := outbox.NewWorker(pool, kinds, outbox.Settings{Logger: log}).Drain(ctx); err != nil {
		return 1
	}
	return 0
}

// deaths runs workers of their own process, a new one for each that ends in the middle, until they have drained the
// queue. It returns how many ended.
func (b *bench) deaths(form string, workers int) (deaths int, said string) {
	b.t.Helper()
	var ended atomic.Int32
	var all sync.WaitGroup
	told := &lines{}
	for range workers {
		all.Go(func() {
			for ended.Load() < 30 {
				worker := exec.CommandContext(b.t.Context(), os.Args[0])
				worker.Env = append(os.Environ(), deadlyURL+"="+b.url, deadlyURL+"_FORM="+form)
				worker.Stderr = told
				err := worker.Run()
				exit := (*exec.ExitError)(nil)
				switch {
				case err == nil:
					return
				case errors.As(err, &exit) && exit.ExitCode() == 7:
					ended.Add(1)
				default:
					b.t.Errorf("a worker: %v", err)
					return
				}
			}
		})
	}
	all.Wait()
	told.mu.Lock()
	defer told.mu.Unlock()
	return int(ended.Load()), strings.Join(told.all, "")
}

// A job that ends its worker's process each time: a few deaths, and it has used up an attempt like any other that
// fails. The others settle, in order. At its next attempt it costs one death more.
func TestJobThatEndsItsWorker(t *testing.T) {
	t.Parallel()
	for _, form := range []string{"settler", "handler"} {
		for workers, most := range map[int]int{1: 5, 2: 7} {
			t.Run(form+", workers "+string(rune('0'+workers)), func(t *testing.T) {
				t.Parallel()
				b := newEmptyBench(t)
				before, after := numbered("a", 100), numbered("z", 100)
				b.enqueue(slices.Concat(before, []string{"deadly"}, after)...)
				n, said := b.deaths(form, workers)
				o := b.outcome("deadly") // on a slow machine its next attempt may have come meanwhile: a death more
				if n > most+o.Attempts-1 || n < 2 || o.Status != outbox.Pending || o.Attempts < 1 {
					t.Errorf("%d deaths, at most %d; %+v", n, most, o)
				}
				if got := b.played(); !slices.Equal(got, slices.Concat(before, after)) {
					t.Errorf("%d played, or out of order", len(got))
				}
				if !strings.Contains(said, "the worker ended while it settled this job") {
					t.Errorf("no line names the job: %s", said)
				}
				b.exec(`UPDATE lastseat.river_job SET max_attempts = attempt + 1`)
				b.dueNow()
				if n, _ := b.deaths(form, workers); n != 1 {
					t.Errorf("%d deaths at its next attempt", n)
				}
				b.wantOutcome("deadly", outbox.Failed, outbox.CodeRetriesExhausted)
			})
		}
	}
}

// A job that has one attempt only is found like any other.
func TestJobWithOneAttemptThatEndsItsWorker(t *testing.T) {
	t.Parallel()
	b := newEmptyBench(t)
	b.enqueue("a", "deadly", "z")
	b.exec(`UPDATE lastseat.river_job SET max_attempts = 1`)
	if n, _ := b.deaths("settler", 1); n < 2 || n > 5 {
		t.Errorf("%d deaths", n)
	}
	if got := b.played(); !slices.Equal(got, []string{"a", "z"}) {
		t.Errorf("played %v", got)
	}
	b.wantOutcome("deadly", outbox.Failed, outbox.CodeRetriesExhausted)
}

// Many jobs that fail, one after the other: each costs a few looks at a job, not a search through the full batch.
func TestManyJobsThatFail(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	var looks atomic.Int32
	b.settler.set(func(context.Context, pgx.Tx, outbox.Job) error {
		looks.Add(1)
		return errors.New("no paper")
	})
	b.enqueue(numbered("k", 200)...)
	b.exec(`UPDATE lastseat.river_job SET max_attempts = 1`)
	if stats := b.drain(outbox.Settings{}); stats.Failures != 200 {
		t.Errorf("%+v", stats)
	}
	if n := looks.Load(); n > 2*200 {
		t.Errorf("%d looks at 200 jobs", n)
	}
}

// measuring is a settler that measures what it is handed.
type measuring struct {
	*toySettler
	most, all int
}

func (m *measuring) Settle(ctx context.Context, tx pgx.Tx, batch outbox.Batch) ([]outbox.Result, error) {
	bytes := 0
	for _, job := range batch.Jobs {
		bytes += len(job.Args)
	}
	m.most, m.all = max(m.most, bytes), m.all+bytes
	return m.toySettler.Settle(ctx, tx, batch)
}

// A batch is bounded by the bytes of its arguments, too.
func TestBatchIsBoundedByBytes(t *testing.T) {
	t.Parallel()
	b := newEmptyBench(t)
	m := &measuring{toySettler: b.settler}
	b.kinds.Register(m, outbox.Kind{Name: "toy"})
	want := numbered("k", 600)
	b.exec(`SELECT lastseat.enqueue('toy', key, jsonb_build_object('note', repeat('x', 62 * 1024)))
		FROM unnest($1::text[]) key`, want)
	b.drain(outbox.Settings{})
	if got := b.played(); !slices.Equal(got, want) {
		t.Errorf("%d played, or out of order", len(got))
	}
	if m.most > 16<<20 || m.all < 600*62<<10 {
		t.Errorf("%d bytes at once, %d in all", m.most, m.all)
	}
}
