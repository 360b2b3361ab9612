package outbox_test

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"os"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/lastseat/lastseat/internal/testdb"
	"github.com/lastseat/lastseat/outbox"
)

func TestMain(m *testing.M) {
	if url := os.Getenv(deadlyURL); url != "" {
		os.Exit(drainOrDie(url))
	}
	if url := os.Getenv(workerURL); url != "" {
		os.Exit(runKinds(url, os.Getenv(workerURL+"_KINDS")))
	}
	os.Exit(testdb.MainMigrated(m))
}

// toy is a kind whose effect is a row of public.toy for each job, in the order in which they took effect.
type toy struct {
	Key  string `json:"key,omitempty"` // what a handler finds the request's key in
	Note string `json:"note,omitempty"`
}

func (toy) Kind() string { return "toy" }

// toySettler writes the rows; before does what a test wants of a job, under its own name so that it can be changed.
type toySettler struct {
	mu     sync.Mutex
	before func(ctx context.Context, tx pgx.Tx, job outbox.Job) error
}

func (s *toySettler) set(before func(ctx context.Context, tx pgx.Tx, job outbox.Job) error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.before = before
}

func (s *toySettler) doFirst() func(ctx context.Context, tx pgx.Tx, job outbox.Job) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.before
}

// handle is the same as a handler, of one job at a time.
func (s *toySettler) handle(ctx context.Context, tx pgx.Tx, args toy) (outbox.Result, error) {
	if before := s.doFirst(); before != nil {
		if err := before(ctx, tx, outbox.Job{Key: args.Key}); err != nil {
			return outbox.Result{}, err
		}
	}
	_, err := tx.Exec(ctx, `INSERT INTO public.toy (key) VALUES ($1)`, args.Key)
	return outbox.Result{Status: outbox.Applied, Code: "played"}, err
}

func (s *toySettler) Settle(ctx context.Context, tx pgx.Tx, batch outbox.Batch) ([]outbox.Result, error) {
	before := s.doFirst()
	results := make([]outbox.Result, len(batch.Jobs))
	for i, job := range batch.Jobs {
		if before != nil {
			if err := before(ctx, tx, job); err != nil {
				return nil, err
			}
		}
		batch.Write.Queue(`INSERT INTO public.toy (key) VALUES ($1)`, job.Key).Exec(outbox.ExpectRows(1))
		results[i] = outbox.Result{Status: outbox.Applied, Code: "played", Detail: map[string]int{"attempt": job.Attempt}}
	}
	return results, nil
}

type bench struct {
	t       *testing.T
	url     string
	pool    *pgxpool.Pool // the test's own
	workers *pgxpool.Pool // of workers, so that a test that holds all of its own starves none
	settler *toySettler
	kinds   *outbox.Kinds
}

// newBench is one whose toys are settled by a Settler.
func newBench(t *testing.T) *bench {
	t.Helper()
	b := newEmptyBench(t)
	b.kinds.Register(b.settler, outbox.Kind{Name: "toy", OrderBy: "note"})
	return b
}

// newHandlerBench is one whose toys are settled by a registered handler.
func newHandlerBench(t *testing.T, options ...outbox.HandlerOption) *bench {
	t.Helper()
	b := newEmptyBench(t)
	outbox.Register(b.kinds, b.settler.handle, append(options, outbox.OrderBy("note"))...)
	return b
}

func newEmptyBench(t *testing.T) *bench {
	t.Helper()
	b := &bench{t: t, url: testdb.New(t), settler: &toySettler{}, kinds: &outbox.Kinds{}}
	b.pool, b.workers = testdb.Pool(t, b.url), testdb.Pool(t, b.url)
	b.exec(`CREATE TABLE public.toy (n bigserial, key text)`)
	return b
}

// inBothForms runs a test of what is promised to a Settler and to a handler alike.
func inBothForms(t *testing.T, test func(t *testing.T, b *bench)) {
	t.Helper()
	t.Run("settler", func(t *testing.T) {
		t.Parallel()
		test(t, newBench(t))
	})
	t.Run("handler", func(t *testing.T) {
		t.Parallel()
		test(t, newHandlerBench(t))
	})
}

func (b *bench) exec(sql string, args ...any) {
	b.t.Helper()
	if _, err := b.pool.Exec(b.t.Context(), sql, args...); err != nil {
		b.t.Fatalf("%s: %v", sql, err)
	}
}

func one[T any](b *bench, sql string, args ...any) T {
	b.t.Helper()
	var value T
	if err := b.pool.QueryRow(b.t.Context(), sql, args...).Scan(&value); err != nil {
		b.t.Fatalf("%s: %v", sql, err)
	}
	return value
}

func (b *bench) keys(sql string, args ...any) []string {
	b.t.Helper()
	rows, err := b.pool.Query(b.t.Context(), sql, args...)
	if err != nil {
		b.t.Fatal(err)
	}
	keys, err := pgx.CollectRows(rows, pgx.RowTo[string])
	if err != nil {
		b.t.Fatal(err)
	}
	return keys
}

// played are the keys in the order of their effects.
func (b *bench) played() []string { return b.keys(`SELECT key FROM public.toy ORDER BY n`) }

func (b *bench) enqueue(keys ...string) {
	b.t.Helper()
	requests := make([]outbox.Request, len(keys))
	for i, key := range keys {
		requests[i] = outbox.Request{Key: key, Args: toy{Note: key}}
	}
	if _, err := outbox.EnqueueMany(b.t.Context(), b.pool, requests); err != nil {
		b.t.Fatal(err)
	}
}

// atOnce has n producers do something at the same time.
func atOnce(t *testing.T, n int, do func(producer int) error) {
	t.Helper()
	failed := make(chan error, n)
	for producer := range n {
		go func() { failed <- do(producer) }()
	}
	for range n {
		if err := <-failed; err != nil {
			t.Fatal(err)
		}
	}
}

func (b *bench) worker(settings outbox.Settings) *outbox.Worker {
	if settings.Logger == nil {
		settings.Logger = slog.New(slog.NewTextHandler(testLog{b.t}, &slog.HandlerOptions{Level: slog.LevelWarn}))
	}
	if settings.ID == "" {
		settings.ID = "tester"
	}
	return outbox.NewWorker(b.workers, b.kinds, settings)
}

func (b *bench) drain(settings outbox.Settings) outbox.Snapshot {
	b.t.Helper()
	worker := b.worker(settings)
	ctx, cancel := context.WithTimeout(b.t.Context(), patience)
	defer cancel()
	if err := worker.Drain(ctx); err != nil {
		b.t.Fatalf("drain: %v", err)
	}
	if ctx.Err() != nil {
		b.t.Fatalf("drain did not end within %v", patience)
	}
	return worker.Stats()
}

// start runs a worker until the test ends or the returned function is called.
func (b *bench) start(settings outbox.Settings) (stop func()) {
	ctx, cancel := context.WithCancel(context.WithoutCancel(b.t.Context()))
	done := make(chan struct{})
	worker := b.worker(settings)
	go func() {
		defer close(done)
		if err := worker.Run(ctx); err != nil {
			b.t.Errorf("run: %v", err)
		}
	}()
	stop = sync.OnceFunc(func() { cancel(); <-done })
	b.t.Cleanup(stop)
	return stop
}

func (b *bench) outcome(key string) outbox.Outcome {
	b.t.Helper()
	outcomes, err := outbox.Outcomes(b.t.Context(), b.pool, key)
	if err != nil || len(outcomes) != 1 {
		b.t.Fatalf("outcome of %s: %v, %v", key, outcomes, err)
	}
	return outcomes[0]
}

func (b *bench) wantOutcome(key string, status outbox.Status, code string) {
	b.t.Helper()
	if o := b.outcome(key); o.Status != status || o.Code != code {
		b.t.Errorf("%s is %s/%s (%s), want %s/%s", key, o.Status, o.Code, o.Detail, status, code)
	}
}

// patience is how long anything may take on the slowest machine before a test gives up.
const patience = 3 * time.Minute

// eventually waits for what another process or goroutine brings about.
func (b *bench) eventually(what string, ok func() bool) {
	b.t.Helper()
	pause := 5 * time.Millisecond
	for deadline := time.Now().Add(patience); time.Now().Before(deadline); time.Sleep(pause) {
		if ok() {
			return
		}
		pause = min(pause+pause/8, 25*time.Millisecond) // most looks are queries, and many tests wait at once
	}
	b.t.Fatalf("not within %v: %s", patience, what)
}

func numbered(prefix string, n int) []string {
	keys := make([]string, n)
	for i := range keys {
		keys[i] = fmt.Sprintf("%s-%04d", prefix, i)
	}
	return keys
}

type testLog struct{ t *testing.T }

func (l testLog) Write(line []byte) (int, error) {
	if l.t.Context().Err() != nil {
		return io.Discard.Write(line) // the test is over
	}
	l.t.Logf("%s", line)
	return len(line), nil
}
