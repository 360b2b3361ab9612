package main

import (
	"context"
	"fmt"
	"log/slog"
	"sync/atomic"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/riverqueue/river"
	"github.com/riverqueue/river/riverdriver/riverpgxv5"
	"github.com/riverqueue/river/rivertype"

	"github.com/lastseat/lastseat/jobs"
	"github.com/lastseat/lastseat/outbox"
	"github.com/lastseat/lastseat/schema"
)

const (
	transferWorkers = 30
	noopWorkers     = 100
)

// transferArgs are the arguments of a job as lastseat.transfer wrote them.
type transferArgs struct {
	Key string `json:"key"`
	jobs.Transfer
}

// progress counts the jobs that a River worker has done.
type progress struct {
	left atomic.Int64
	all  chan struct{} // closed when none is left
	fail context.CancelCauseFunc
}

func (p *progress) done() {
	if p.left.Add(-1) == 0 {
		close(p.all)
	}
}

// HandleError and HandlePanic implement [river.ErrorHandler]: River would try the job again, some seconds later, and the
// rate would be about that.
func (p *progress) HandleError(_ context.Context, job *rivertype.JobRow, err error) *river.ErrorHandlerResult {
	p.fail(fmt.Errorf("job %d: %w", job.ID, err))
	return nil
}

func (p *progress) HandlePanic(_ context.Context, job *rivertype.JobRow, value any, trace string) *river.ErrorHandlerResult {
	p.fail(fmt.Errorf("job %d: %v\n%s", job.ID, value, trace))
	return nil
}

// riverContestant has a River client work the queue with the worker that make returns.
type riverContestant struct {
	maxWorkers int
	cooldown   time.Duration
	make       func(*pgxpool.Pool, *progress) (worker river.Worker[transferArgs], retries func() int64)
}

func (r riverContestant) work(ctx context.Context, pool *pgxpool.Pool, n int) (tally, error) {
	watched, fail := context.WithCancelCause(ctx)
	defer fail(nil)
	p := &progress{all: make(chan struct{}), fail: fail}
	p.left.Store(int64(n))
	worker, retries := r.make(pool, p)
	workers := river.NewWorkers()
	river.AddWorker(workers, worker)

	began := time.Now()
	client, err := river.NewClient(riverpgxv5.New(pool), &river.Config{
		Schema: schema.Name,
		Queues: map[string]river.QueueConfig{outbox.Queue: {MaxWorkers: r.maxWorkers}},
		// The default, 100 ms, bounds the rate to MaxWorkers in that time.
		FetchCooldown:     r.cooldown,
		Workers:           workers,
		ErrorHandler:      p,
		Logger:            slog.New(slog.DiscardHandler),
		ReindexerSchedule: river.NeverSchedule(),
	})
	if err != nil {
		return tally{}, fmt.Errorf("make a river client: %w", err)
	}
	if err := client.Start(ctx); err != nil {
		return tally{}, fmt.Errorf("start river: %w", err)
	}
	defer func() { _ = client.StopAndCancel(context.WithoutCancel(ctx)) }()
	select {
	case <-p.all:
	case <-watched.Done():
		return tally{}, context.Cause(watched)
	}
	err = awaitCompletion(watched, pool)
	return tally{elapsed: time.Since(began), retries: retries()}, err
}

// awaitCompletion returns when River has written down that all jobs are done. Without JobCompleteTx it does so behind
// the worker's back, many at once.
func awaitCompletion(ctx context.Context, pool *pgxpool.Pool) error {
	for {
		var done bool
		err := pool.QueryRow(ctx, `SELECT NOT EXISTS (SELECT FROM lastseat.river_job WHERE state IN ('available', 'running'))`).Scan(&done)
		if done || err != nil {
			return err
		}
		time.Sleep(2 * time.Millisecond)
	}
}

// handWritten is the worker that one writes without a lane, with care.
func handWritten(isolation pgx.TxIsoLevel) func(context.Context, *pgxpool.Pool, int) (tally, error) {
	return riverContestant{
		maxWorkers: transferWorkers,
		cooldown:   5 * time.Millisecond,
		make: func(pool *pgxpool.Pool, p *progress) (river.Worker[transferArgs], func() int64) {
			w := &transferWorker{pool: pool, isolation: isolation, progress: p}
			return w, w.retries.Load
		},
	}.work
}

func workNoop(ctx context.Context, pool *pgxpool.Pool, n int) (tally, error) {
	return riverContestant{
		maxWorkers: noopWorkers,
		cooldown:   time.Millisecond,
		make: func(_ *pgxpool.Pool, p *progress) (river.Worker[transferArgs], func() int64) {
			return &noopWorker{progress: p}, func() int64 { return 0 }
		},
	}.work(ctx, pool, n)
}

type noopWorker struct {
	river.WorkerDefaults[transferArgs]
	progress *progress
}

func (w *noopWorker) Work(context.Context, *river.Job[transferArgs]) error {
	w.progress.done()
	return nil
}
