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
	handWorkers = 30
	noopWorkers = 100
)

// The arguments of jobs as lastseat.enqueue wrote them.
type (
	transferArgs struct {
		Key string `json:"key"`
		jobs.Transfer
	}
	holdArgs struct {
		Key string `json:"key"`
		jobs.Hold
	}
	confirmArgs struct {
		Key string `json:"key"`
		jobs.Confirm
	}
)

// progress counts the jobs that a River worker has done.
type progress struct {
	left    atomic.Int64
	retries atomic.Int64
	all     chan struct{} // closed when none is left
	fail    context.CancelCauseFunc
}

func (p *progress) done() {
	if p.left.Add(-1) == 0 {
		close(p.all)
	}
}

// HandleError and HandlePanic implement [river.ErrorHandler]: River would try the job again, some seconds later, and
// the rate would be about that.
func (p *progress) HandleError(_ context.Context, job *rivertype.JobRow, err error) *river.ErrorHandlerResult {
	p.fail(fmt.Errorf("job %d: %w", job.ID, err))
	return nil
}

func (p *progress) HandlePanic(_ context.Context, job *rivertype.JobRow, value any,
	trace string) *river.ErrorHandlerResult {
	p.fail(fmt.Errorf("job %d: %v\n%s", job.ID, value, trace))
	return nil
}

// riverContestant has a River client work the queue with the workers that add adds.
type riverContestant struct {
	maxWorkers int
	cooldown   time.Duration
	add        func(*river.Workers, *pgxpool.Pool, *progress)
}

func (r riverContestant) work(ctx context.Context, pool *pgxpool.Pool, n int) (tally, error) {
	watched, fail := context.WithCancelCause(ctx)
	defer fail(nil)
	p := &progress{all: make(chan struct{}), fail: fail}
	p.left.Store(int64(n))
	workers := river.NewWorkers()
	r.add(workers, pool, p)

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
	return tally{elapsed: time.Since(began), retries: p.retries.Load()}, err
}

// awaitCompletion returns when River has written down that all jobs are done. Without JobCompleteTx it does so behind
// the worker's back, many at once.
func awaitCompletion(ctx context.Context, pool *pgxpool.Pool) error {
	for {
		var done bool
		err := pool.QueryRow(ctx,
			`SELECT NOT EXISTS (SELECT FROM lastseat.river_job WHERE state IN ('available', 'running'))`).Scan(&done)
		if done || err != nil {
			return err
		}
		time.Sleep(2 * time.Millisecond)
	}
}

// handWritten is the worker that one writes without a lane, with care.
func handWritten(isolation pgx.TxIsoLevel) func(context.Context, *pgxpool.Pool, int) (tally, error) {
	return riverContestant{
		maxWorkers: handWorkers,
		cooldown:   5 * time.Millisecond,
		add: func(workers *river.Workers, pool *pgxpool.Pool, p *progress) {
			river.AddWorker(workers, &handWorker[transferArgs]{pool: pool, isolation: isolation, progress: p,
				settle: settleTransfer})
			river.AddWorker(workers, &handWorker[holdArgs]{pool: pool, isolation: isolation, progress: p, settle: settleHold})
			river.AddWorker(workers, &handWorker[confirmArgs]{pool: pool, isolation: isolation, progress: p,
				settle: settleConfirm})
		},
	}.work
}

func workNoop(ctx context.Context, pool *pgxpool.Pool, n int) (tally, error) {
	return riverContestant{
		maxWorkers: noopWorkers,
		cooldown:   time.Millisecond,
		add: func(workers *river.Workers, _ *pgxpool.Pool, p *progress) {
			river.AddWorker(workers, &noopWorker{progress: p})
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
