// Command river is a worker of River with its defaults. Its one kind of job says that it has begun, takes a second, and
// says that it is done.
package main

import (
	"context"
	"fmt"
	"os"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/riverqueue/river"
	"github.com/riverqueue/river/riverdriver/riverpgxv5"
	"github.com/riverqueue/river/rivermigrate"
)

type slow struct{}

func (slow) Kind() string { return "slow" }

type worker struct {
	river.WorkerDefaults[slow]
	pool *pgxpool.Pool
}

func (w *worker) Work(ctx context.Context, _ *river.Job[slow]) error {
	if _, err := w.pool.Exec(ctx, `INSERT INTO peer VALUES ('begun')`); err != nil {
		return err
	}
	time.Sleep(time.Second)
	_, err := w.pool.Exec(ctx, `INSERT INTO peer VALUES ('done')`)
	return err
}

func main() {
	if err := run(context.Background(), os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func run(ctx context.Context, args []string) error {
	pool, err := pgxpool.New(ctx, os.Getenv("DATABASE_URL"))
	if err != nil {
		return err
	}
	defer pool.Close()
	driver := riverpgxv5.New(pool)
	migrator, err := rivermigrate.New(driver, nil)
	if err != nil {
		return err
	}
	if _, err := migrator.Migrate(ctx, rivermigrate.DirectionUp, nil); err != nil {
		return err
	}
	workers := river.NewWorkers()
	river.AddWorker(workers, &worker{pool: pool})
	client, err := river.NewClient[pgx.Tx](driver, &river.Config{
		Queues: map[string]river.QueueConfig{river.QueueDefault: {MaxWorkers: 1}}, Workers: workers,
	})
	if err != nil {
		return err
	}
	if len(args) > 0 && args[0] == "ask" {
		if _, err := client.Insert(ctx, slow{}, nil); err != nil {
			return err
		}
	}
	if err := client.Start(ctx); err != nil {
		return err
	}
	<-ctx.Done()
	return nil
}
