package outbox

import (
	"context"
	"fmt"
	"log/slog"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/riverqueue/river"
	"github.com/riverqueue/river/riverdriver/riverpgxv5"

	"github.com/lastseat/lastseat/internal/pgsession"
)

// UpkeepQueue is a queue that River works itself, apart from the lanes.
const UpkeepQueue = "lastseat_upkeep"

// upkeepInterval is how often the lanes' queue is reported to river_queue. River removes a queue that nobody has
// reported for a day, and with it the fact that it is paused.
const upkeepInterval = 10 * time.Minute

// startRiver starts this worker's River client. It makes scheduled and retryable jobs available, removes finished
// jobs, elects the client that does both, and runs periodic jobs.
func (w *Worker) startRiver(ctx context.Context) (stop func(), err error) {
	completed := w.settings.KeepCompleted
	if completed == 0 {
		completed = time.Hour // other clients' jobs, and upkeep
	}
	pool, err := w.riverPool(ctx)
	if err != nil {
		return nil, fmt.Errorf("open river's pool: %w", err)
	}
	w.river = pool
	defer func() {
		if err != nil {
			pool.Close()
		}
	}()
	workers := river.NewWorkers()
	river.AddWorker(workers, &upkeepWorker{pool: pool, queue: w.settings.Queue})
	river.AddWorker(workers, &callWorker{pool: pool, callers: w.kinds.callers, log: w.settings.Logger})
	client, err := river.NewClient(riverpgxv5.New(pool), &river.Config{
		ID:     w.settings.ID,
		Logger: slog.New(warnings{w.settings.Logger.Handler()}),
		Schema: "lastseat",
		Queues: w.queues(),
		PeriodicJobs: []*river.PeriodicJob{river.NewPeriodicJob(river.PeriodicInterval(upkeepInterval),
			func() (river.JobArgs, *river.InsertOpts) {
				return upkeepArgs{}, &river.InsertOpts{Queue: UpkeepQueue, MaxAttempts: 1}
			}, &river.PeriodicJobOpts{RunOnStart: true})},
		// Any login of the database can notify River's channels: to pause, to resign as the leader, or with text that
		// River writes to the log, line by line. Nothing that this client does is in a hurry.
		PollOnly:                    true,
		Workers:                     workers,
		CompletedJobRetentionPeriod: completed,
		CancelledJobRetentionPeriod: -1, // a cancelled or discarded job has the arguments that lastseat.retry needs
		DiscardedJobRetentionPeriod: -1,
		ReindexerSchedule:           river.NeverSchedule(), // only the owner may REINDEX, and a worker is not the owner
	})
	if err != nil {
		return nil, fmt.Errorf("make a river client: %w", err)
	}
	if err := client.Start(context.WithoutCancel(ctx)); err != nil {
		return nil, fmt.Errorf("start river: %w", err)
	}
	return func() {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), w.settings.StopTimeout)
		defer cancel()
		if client.Stop(ctx) == nil {
			pool.Close()
		} else {
			go pool.Close() // it waits for sessions that do not answer
		}
	}, nil
}

// queues are those that River works: its own upkeep, and the calls of the targets that this worker calls.
func (w *Worker) queues() map[string]river.QueueConfig {
	queues := map[string]river.QueueConfig{UpkeepQueue: {MaxWorkers: 1}}
	for target, caller := range w.kinds.callers {
		queues[CallQueue(target)] = river.QueueConfig{
			MaxWorkers: caller.Workers, FetchPollInterval: w.settings.Calls.Poll, FetchCooldown: w.settings.Calls.Poll,
		}
	}
	return queues
}

// riverPool makes a pool like the worker's, of sessions that have no other use: leader, producer, and two to spare.
func (w *Worker) riverPool(ctx context.Context) (*pgxpool.Pool, error) {
	config := w.pool.Config()
	config.MaxConns, config.MinConns = 4+int32(min(2*len(w.kinds.callers), 8)), 0
	config.MinIdleConns = 0
	observeErrors(&config.ConnConfig.Config) // a lane may need one of them
	limitReplies(config.ConnConfig, 0)
	return pgsession.NewPool(ctx, config)
}

// warnings passes on River's warnings and errors; it drops what River reports every minute.
type warnings struct{ slog.Handler }

func (h warnings) Enabled(ctx context.Context, level slog.Level) bool {
	return level >= slog.LevelWarn && h.Handler.Enabled(ctx, level)
}

func (h warnings) WithAttrs(attrs []slog.Attr) slog.Handler {
	return warnings{h.Handler.WithAttrs(attrs)}
}
func (h warnings) WithGroup(name string) slog.Handler { return warnings{h.Handler.WithGroup(name)} }

type upkeepArgs struct{}

func (upkeepArgs) Kind() string { return "lastseat.upkeep" }

type upkeepWorker struct {
	river.WorkerDefaults[upkeepArgs]
	pool  *pgxpool.Pool
	queue string
}

const reportQueueSQL = `
	INSERT INTO lastseat.river_queue (name) VALUES (@queue)
	ON CONFLICT (name) DO UPDATE SET updated_at = now()`

func (u *upkeepWorker) Work(ctx context.Context, _ *river.Job[upkeepArgs]) error {
	_, err := u.pool.Exec(ctx, reportQueueSQL, pgx.NamedArgs{"queue": u.queue})
	return err
}
