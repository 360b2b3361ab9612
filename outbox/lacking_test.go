package outbox_test

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"slices"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/lastseat/lastseat/outbox"
)

// workerURL names the database in whose name the test's binary is a worker, of the kinds in workerURL_KINDS.
const workerURL = "OUTBOX_TEST_WORKER_URL"

// anySettler plays toys of any kind: it writes the kind with the key.
type anySettler struct{}

func (anySettler) Settle(_ context.Context, _ pgx.Tx, batch outbox.Batch) ([]outbox.Result, error) {
	results := make([]outbox.Result, len(batch.Jobs))
	for i, job := range batch.Jobs {
		batch.Write.Queue(`INSERT INTO public.toy (key) VALUES ($1)`, job.Key)
		results[i] = outbox.Result{Status: outbox.Applied, Code: "played"}
	}
	return results, nil
}

// runKinds is a worker until it is killed.
func runKinds(url, kinds string) int {
	ctx := context.Background()
	pool, err := pgxpool.New(ctx, url)
	if err != nil {
		return 1
	}
	known := &outbox.Kinds{}
	for kind := range strings.SplitSeq(kinds, ",") {
		known.Register(anySettler{}, outbox.Kind{Name: kind})
	}
	log := slog.New(slog.NewTextHandler(os.Stderr, nil))
	if err := outbox.NewWorker(pool, known, outbox.Settings{Logger: log, ID: kinds}).Run(ctx); err != nil {
		log.Error("the worker has ended", slog.String("error", err.Error()))
		return 1
	}
	return 0
}

// process runs a worker of these kinds in a process of its own until the test ends.
func (b *bench) process(kinds string, told *lines) {
	b.t.Helper()
	worker := exec.Command(os.Args[0])
	worker.Env = append(os.Environ(), workerURL+"="+b.url, workerURL+"_KINDS="+kinds)
	worker.Stderr = told
	if err := worker.Start(); err != nil {
		b.t.Fatal(err)
	}
	b.t.Cleanup(func() {
		_ = worker.Process.Kill()
		_ = worker.Wait()
	})
}

func (b *bench) ask(kind string, keys ...string) {
	b.t.Helper()
	requests := make([]outbox.Request, len(keys))
	for i, key := range keys {
		requests[i] = outbox.Request{Key: key, Args: outbox.RawArgs{Of: kind, JSON: json.RawMessage(`{}`)}}
	}
	if _, err := outbox.EnqueueMany(b.t.Context(), b.pool, requests); err != nil {
		b.t.Fatal(err)
	}
}

// Two workers on one queue, each with a kind that the other lacks: both kinds are settled, however busy the other one
// is, in order within each kind, and no job loses an attempt to the worker that lacks its kind.
func TestTwoWorkersWithDifferentKinds(t *testing.T) {
	t.Parallel()
	b := newEmptyBench(t)
	red, blue := &lines{}, &lines{}
	b.process("red", red)
	b.eventually("the first has the lane", func() bool { return red.with("lane taken", "") })
	b.process("blue", blue)
	settled := func(n int) func() bool {
		return func() bool {
			return one[int](b, `SELECT count(*) FROM lastseat.requests WHERE status = 'applied'`) == n
		}
	}
	var reds, blues []string
	for i := range 3 {
		r, l := numbered(fmt.Sprint("red", i), 20), numbered(fmt.Sprint("blue", i), 20)
		b.ask("blue", l...)
		b.ask("red", r...)
		reds, blues = append(reds, r...), append(blues, l...)
		b.eventually("both kinds are settled", settled(40*(i+1)))
	}
	played := b.played()
	of := func(color string) []string {
		return slices.DeleteFunc(slices.Clone(played), func(key string) bool { return !strings.HasPrefix(key, color) })
	}
	if !slices.Equal(of("red"), reds) || !slices.Equal(of("blue"), blues) {
		t.Errorf("played %v: each once, in order within its kind", played)
	}
	if n := one[int](b, `SELECT count(*) FROM lastseat.requests WHERE attempts <> 1`); n > 0 {
		t.Errorf("%d requests have lost an attempt", n)
	}
	if !red.with("whose kind this worker lacks", "blue (20)") {
		t.Errorf("the log of the first does not name the kind: %v", red.all)
	}
}

// A worker that has all kinds never gives the lane back: a rolling deploy that adds a kind.
func TestWorkerWithAllKindsKeepsTheLane(t *testing.T) {
	t.Parallel()
	b := newEmptyBench(t)
	before, after := &lines{}, &lines{}
	b.process("red", before)
	b.eventually("the old one has the lane", func() bool { return before.with("lane taken", "") })
	b.process("red,blue", after)
	for i := range 3 {
		b.ask("red", fmt.Sprint("red", i))
		b.ask("blue", fmt.Sprint("blue", i))
		b.eventually("both are settled", func() bool { return len(b.played()) == 2*(i+1) })
	}
	if holder := one[string](b, `SELECT holder FROM lastseat.lanes`); !strings.HasPrefix(holder, "red,blue ") {
		t.Errorf("%s holds the lane", holder)
	}
	if after.with("lane left", "") {
		t.Error("the new one has given the lane away")
	}
}

// One worker alone: jobs of a kind that it lacks stay as they are, without an attempt, others pass them by, holds run
// out, the log says so once, and the lane does not spin. It settles them when a worker has the kind.
func TestKindThatNobodyHas(t *testing.T) {
	t.Parallel()
	inBothForms(t, func(t *testing.T, b *bench) {
		told := &lines{}
		b.ask("no.such", "odd-1", "odd-2")
		b.exec(`UPDATE lastseat.river_job SET max_attempts = 1`)
		b.enqueue("a")
		stop := b.start(outbox.Settings{Logger: told.logger()})
		b.eventually(
			"the log names the kind",
			func() bool { return told.with("whose kind this worker lacks", "no.such (2)") },
		)
		b.enqueue("b")
		b.eventually("others pass by", func() bool { return slices.Equal(b.played(), []string{"a", "b"}) })
		stop()
		stats := b.drain(outbox.Settings{})
		if stats.Failures != 0 || stats.Batches != 0 {
			t.Errorf("%+v", stats)
		}
		for _, key := range []string{"odd-1", "odd-2"} {
			if o := b.outcome(key); o.Status != outbox.Pending || o.Attempts != 0 {
				t.Errorf("%+v", o)
			}
		}
		row := one[string](b, `SELECT DISTINCT state || ' ' || attempt || ' ' || cardinality(coalesce(errors, '{}'))
			FROM lastseat.river_job WHERE queue <> $1`, outbox.UpkeepQueue)
		if row != "available 0 0" {
			t.Errorf("the jobs are %s", row)
		}
		told.mu.Lock()
		n := len(slices.DeleteFunc(slices.Clone(told.all), func(line string) bool {
			return !strings.Contains(line, "whose kind this worker lacks")
		}))
		told.mu.Unlock()
		if n != 1 {
			t.Errorf("%d lines about the kind", n)
		}
		b.kinds.Register(anySettler{}, outbox.Kind{Name: "no.such"})
		b.drain(outbox.Settings{})
		b.wantOutcome("odd-2", outbox.Applied, "played")
	})
}
