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

const mostConnections = 50

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
	seen    func(encoded []byte) // of each job whose transaction was committed, with its arguments; nil: nobody asks
}

func newProgress(n int, fail context.CancelCauseFunc) *progress {
	p := &progress{all: make(chan struct{}), fail: fail}
	p.left.Store(int64(n))
	return p
}

func (p *progress) done(job *rivertype.JobRow) {
	if p.seen != nil {
		p.seen(job.EncodedArgs)
	}
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
	schema  string
	workers int
	add     func(*river.Workers, *pgxpool.Pool, *progress)
}

// start starts the client. It fetches as often as it may: the default, 100 ms, bounds the rate to the number of
// workers in that time.
func (r riverContestant) start(ctx context.Context, pool *pgxpool.Pool, p *progress) (stop func(), err error) {
	workers := river.NewWorkers()
	r.add(workers, pool, p)
	client, err := river.NewClient(riverpgxv5.New(pool), &river.Config{
		Schema:            r.schema,
		Queues:            map[string]river.QueueConfig{outbox.Queue: {MaxWorkers: r.workers}},
		FetchCooldown:     time.Millisecond,
		Workers:           workers,
		ErrorHandler:      p,
		Logger:            slog.New(slog.DiscardHandler),
		ReindexerSchedule: river.NeverSchedule(),
	})
	if err != nil {
		return nil, fmt.Errorf("make a river client: %w", err)
	}
	if err := client.Start(ctx); err != nil {
		return nil, fmt.Errorf("start river: %w", err)
	}
	return func() { _ = client.StopAndCancel(context.WithoutCancel(ctx)) }, nil
}

func (r riverContestant) work(ctx context.Context, pool *pgxpool.Pool, n int) (tally, error) {
	watched, fail := context.WithCancelCause(ctx)
	defer fail(nil)
	p := newProgress(n, fail)
	began := time.Now()
	stop, err := r.start(ctx, pool, p)
	if err != nil {
		return tally{}, err
	}
	defer stop()
	select {
	case <-p.all:
	case <-watched.Done():
		return tally{}, context.Cause(watched)
	}
	err = r.awaitCompletion(watched, pool)
	return tally{elapsed: time.Since(began), retries: p.retries.Load()}, err
}

// awaitCompletion returns when River has written down that all jobs are done. Without JobCompleteTx it does so behind
// the worker's back, many at once.
func (r riverContestant) awaitCompletion(ctx context.Context, pool *pgxpool.Pool) error {
	table := pgx.Identifier{r.schema, "river_job"}.Sanitize()
	for {
		var done bool
		err := pool.QueryRow(ctx,
			`SELECT NOT EXISTS (SELECT FROM `+table+` WHERE state IN ('available', 'running'))`).Scan(&done)
		if done || err != nil {
			return err
		}
		time.Sleep(2 * time.Millisecond)
	}
}

// oneByOne is the worker that most people would write, with care.
func oneByOne(workers int, isolation pgx.TxIsoLevel) riverContestant {
	return riverContestant{schema.Name, workers, func(added *river.Workers, pool *pgxpool.Pool, p *progress) {
		river.AddWorker(added, &handWorker[transferArgs]{pool: pool, isolation: isolation, progress: p,
			settle: settleTransfer})
		river.AddWorker(added, &handWorker[holdArgs]{pool: pool, isolation: isolation, progress: p, settle: settleHold})
		river.AddWorker(added, &handWorker[confirmArgs]{pool: pool, isolation: isolation, progress: p,
			settle: settleConfirm})
	}}
}

func noop(workers int) riverContestant {
	return riverContestant{"public", workers, func(added *river.Workers, _ *pgxpool.Pool, p *progress) {
		river.AddWorker(added, &noopWorker{progress: p})
	}}
}

type noopWorker struct {
	river.WorkerDefaults[transferArgs]
	progress *progress
}

func (w *noopWorker) Work(_ context.Context, job *river.Job[transferArgs]) error {
	w.progress.done(job.JobRow)
	return nil
}
