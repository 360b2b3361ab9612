// Command worker settles the requests of a database, payments and reservations, exactly once and in order. It also
// migrates the database, audits it, and has a demo.
package main

import (
	"context"
	"errors"
	"log/slog"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/spf13/cobra"

	"github.com/lastseat/lastseat/internal/cli"
	"github.com/lastseat/lastseat/internal/config"
	"github.com/lastseat/lastseat/internal/pgsession"
	"github.com/lastseat/lastseat/jobs"
	"github.com/lastseat/lastseat/outbox"
	"github.com/lastseat/lastseat/schema"
)

func main() { cli.Main(run) }

// program holds what all commands use.
type program struct {
	streams cli.Streams
	output  *cli.Output
}

func run(ctx context.Context, args []string, streams cli.Streams) int {
	root := &cobra.Command{
		Use:   "worker",
		Short: "Settle payments and reservations, exactly once and in order",
		Long: `Settle payments and reservations, exactly once and in order.

Environment variables configure it; docs/operations.md lists them.

Exit codes:
  0   done
  1   audit, doctor or reconcile found a problem, or an error without a code of its own
  64  wrong usage
  65  bad data: a file, a key, a name
  69  the database can't be reached
  75  not known, or not done in time: run it again
  77  the role lacks a right
  78  wrong configuration or schema version`,
		Example: "  worker demo\n  DATABASE_URL=postgres://lastseat_worker@localhost/shop worker run",
		Version: cli.Version(),
	}
	p := &program{streams: streams, output: cli.AddOutput(root)}
	root.AddCommand(p.runCommand(), p.migrateCommand(), p.auditCommand(), p.doctorCommand(), p.devCommand(),
		p.demoCommand(), p.explainCommand(), p.topCommand(), p.pauseCommand(), p.resumeCommand(),
		p.relayCommand(), p.retainCommand(), p.reconcileCommand())
	cli.AddManual(root, streams, p.output)
	return cli.Execute(ctx, root, args, streams)
}

// workerConnections is the size of the pool. River needs three (leader, producer, listener); the rest are to spare.
const workerConnections = 8

// open loads the configuration and connects.
func (p *program) open(ctx context.Context) (config.Config, *pgxpool.Pool, error) {
	loaded, err := config.Load(p.streams.Environ, true)
	if err != nil {
		return loaded, nil, err
	}
	pool, err := cli.Connect(ctx, loaded.DatabaseURL, "lastseat worker", workerConnections)
	return loaded, pool, err
}

// openMigrated is open for what needs the schema of this version.
func (p *program) openMigrated(ctx context.Context) (config.Config, *pgxpool.Pool, error) {
	loaded, pool, err := p.open(ctx)
	if err != nil {
		return loaded, nil, err
	}
	if err := schema.Check(ctx, pool); err != nil {
		pool.Close()
		return loaded, nil, err
	}
	return loaded, pool, nil
}

// openOwn is open for what needs sessions of its own. Behind a pooler in transaction mode it fails before it has set
// anything in a session that is somebody else's next.
func (p *program) openOwn(
	ctx context.Context, options ...func(*pgxpool.Config),
) (config.Config, *pgxpool.Pool, error) {
	loaded, err := config.Load(p.streams.Environ, true)
	if err != nil {
		return loaded, nil, err
	}
	parsed, err := pgxpool.ParseConfig(loaded.DatabaseURL)
	if err != nil {
		return loaded, nil, err
	}
	err = pgsession.CheckOwn(ctx, parsed.ConnConfig)
	if errors.As(err, new(*pgsession.SharedError)) {
		err = &cli.Error{Code: cli.ExitConfig, Err: err}
	}
	if err != nil {
		return loaded, nil, err
	}
	pool, err := cli.Connect(ctx, loaded.DatabaseURL, "lastseat worker", workerConnections, options...)
	return loaded, pool, err
}

func (p *program) logger(loaded config.Config) *slog.Logger {
	options := &slog.HandlerOptions{Level: loaded.LogLevel}
	if loaded.LogFormat == "json" {
		return slog.New(slog.NewJSONHandler(p.streams.Err, options))
	}
	return slog.New(slog.NewTextHandler(p.streams.Err, options))
}

// watchers are told what the lanes do. Each may be nil.
type watchers struct {
	observer outbox.Observer
	tracer   outbox.Tracer
}

// newWorker makes the worker of the built-in kinds.
func (p *program) newWorker(pool *pgxpool.Pool, loaded config.Config, told watchers) *outbox.Worker {
	kinds := &outbox.Kinds{}
	jobs.Register(kinds)
	if gateway := loaded.Stripe(); gateway != nil {
		kinds.AddCaller(jobs.Processor("stripe", gateway))
	}
	logIn := func(ctx context.Context) error { return pgsession.LogIn(ctx, pool) }
	logger := slog.New(cli.NewOutage(p.logger(loaded).Handler(), logIn))
	return outbox.NewWorker(pool, kinds, outbox.Settings{
		Lanes: loaded.Lanes, Batch: loaded.Batch, TxRetries: loaded.TxRetries, Isolation: pgx.TxIsoLevel(loaded.Isolation),
		KeepCompleted: loaded.KeepCompleted, Poll: loaded.Poll, StopTimeout: loaded.StopTimeout, Logger: logger,
		HoldLimit: loaded.HoldLimit, ReplyLimit: loaded.ReplyLimit, Observer: told.observer,
		Tracer: told.tracer,
	})
}
