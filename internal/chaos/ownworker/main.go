// Command ownworker is a worker with kinds of its own, for the fault bench: one that counts points, and one that
// misbehaves as it is asked to.
package main

import (
	"context"
	"errors"
	"log/slog"
	"os"
	"os/signal"
	"syscall"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/lastseat/lastseat/outbox"
)

type add struct {
	Member string `json:"member"`
	Points int64  `json:"points"`
}

func (add) Kind() string  { return "points.add" }
func (add) Queue() string { return "points" }

type poison struct {
	How string `json:"how"`
}

func (poison) Kind() string  { return "points.poison" }
func (poison) Queue() string { return "points" }

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM)
	err := run(ctx)
	stop()
	if err != nil {
		slog.Error("the worker has ended", slog.String("error", err.Error()))
		os.Exit(1)
	}
}

func run(ctx context.Context) error {
	if err := limitMemory(); err != nil {
		return err
	}
	pool, err := pgxpool.New(ctx, os.Getenv("DATABASE_URL"))
	if err != nil {
		return err
	}
	defer pool.Close()
	kinds := &outbox.Kinds{}
	if os.Getenv("CHAOS_LACKS") != (add{}).Kind() {
		outbox.Register(kinds, addPoints, outbox.OrderBy("member"), outbox.Timeout(time.Second))
	}
	outbox.Register(kinds, misbehave, outbox.Timeout(time.Second))
	worker := outbox.NewWorker(pool, kinds, outbox.Settings{Queue: "points", Logger: slog.New(slog.NewTextHandler(
		os.Stderr, nil))})
	return worker.Run(ctx)
}

func addPoints(ctx context.Context, tx pgx.Tx, args add) (outbox.Result, error) {
	if args.Points <= 0 {
		return outbox.Reject("not_positive", nil), nil
	}
	tag, err := tx.Exec(ctx, `UPDATE bench.members SET points = points + $2 WHERE id = $1`, args.Member, args.Points)
	switch {
	case err != nil:
		return outbox.Result{}, err
	case tag.RowsAffected() == 0:
		return outbox.Reject("no_member", nil), nil
	}
	return outbox.Result{Status: outbox.Applied, Code: "added"}, nil
}

// misbehave fails in the way that it is asked to. It has no effect that would last.
func misbehave(ctx context.Context, tx pgx.Tx, args poison) (outbox.Result, error) {
	switch args.How {
	case "exit":
		os.Exit(3)
	case "grow":
		grow()
	case "panic":
		panic("the handler panics")
	case "slow":
		<-ctx.Done()
		return outbox.Result{}, ctx.Err()
	case "sql":
		_, err := tx.Exec(ctx, `SELECT 1 / 0`)
		return outbox.Result{}, err
	case "cut":
		_ = tx.Conn().Close(ctx)
	}
	return outbox.Result{}, errors.New("the handler fails")
}
