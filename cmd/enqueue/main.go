// Command enqueue requests payments and reservations from the command line, imports files of requests, and shows their
// outcomes, the balances of accounts and what is still available. It connects to the database of DATABASE_URL; the role
// lastseat_producer is enough.
package main

import (
	"context"
	"errors"
	"sync/atomic"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/spf13/cobra"

	"github.com/lastseat/lastseat/internal/cli"
	"github.com/lastseat/lastseat/internal/config"
	"github.com/lastseat/lastseat/schema"
)

func main() { cli.Main(run) }

// program holds what all commands use.
type program struct {
	streams cli.Streams
	output  *cli.Output

	// patience is how long the database may be silent before a command gives up.
	patience time.Duration
	silent   atomic.Bool // it was, for that long
}

const (
	usualPatience  = 30 * time.Second // a request may wait for another of the same key that is not committed yet
	importPatience = 2 * time.Minute  // a chunk may wait for several
)

func run(ctx context.Context, args []string, streams cli.Streams) int {
	root := &cobra.Command{
		Use:   "enqueue",
		Short: "Request payments and reservations, exactly once",
		Long: `Request payments and reservations, exactly once.

Set DATABASE_URL to the database. Amounts are decimals in the currency's unit: 12.50 EUR, 1200 JPY.

Each request has a key. Running a command again with the same key changes nothing and shows the outcome of the first
run.

Exit codes:
  0   done; with --wait: applied
  3   with --wait: rejected or failed
  64  wrong usage
  65  bad data, or a key reused with other arguments
  69  the database can't be reached
  75  not known yet: run it again with the same key
  77  the role lacks a right
  78  wrong configuration or schema version`,
		Example: "  enqueue transfer --key order-1042 --from customer:7 --to shop --amount 12.50 --currency EUR\n  " +
			"enqueue hold --key cart-7 --reservation r-7 --item hall/A1 --item hall/A2 --wait 10s\n  enqueue outcome order-1042",
		Version: cli.Version(),
	}
	p := &program{streams: streams, output: cli.AddOutput(root), patience: usualPatience}
	root.AddCommand(
		p.accountCommand(), p.currencyCommand(), p.transferCommand(), p.reverseCommand(),
		p.authorizeCommand(), p.captureCommand(), p.voidCommand(), p.refundCommand(), p.chargeCommand(),
		p.resourceCommand(), p.limitCommand(), p.holdCommand(), p.confirmCommand(), p.cancelCommand(), p.extendCommand(),
		p.bookCommand(),
		p.importCommand(), p.outcomeCommand(), p.waitCommand(), p.listCommand(), p.watchCommand(),
		p.retryCommand(),
		p.balanceCommand(), p.paymentCommand(), p.statementCommand(),
		p.reservationCommand(), p.availabilityCommand(), p.occupiedCommand(),
	)
	p.addCompletions(root)
	for _, cmd := range root.Commands() {
		do := cmd.RunE
		cmd.RunE = func(cmd *cobra.Command, args []string) error { return p.explain(do(cmd, args)) }
	}
	cli.AddManual(root, streams, p.output)
	return cli.Execute(ctx, root, args, streams)
}

// closePool closes the pool of a command that ends. Where the network swallows everything, pgx tries for 15 seconds to
// cancel the statement that it waited for; the process does not wait for that.
func closePool(pool *pgxpool.Pool) {
	closed := make(chan struct{})
	go func() { pool.Close(); close(closed) }()
	select {
	case <-closed:
	case <-time.After(time.Second):
	}
}

// connect opens the database. One connection is enough for a command line; Wait takes a second.
func (p *program) connect(ctx context.Context, options ...func(*pgxpool.Config)) (*pgxpool.Pool, error) {
	loaded, err := config.Load(p.streams.Environ, true)
	if err != nil {
		return nil, err
	}
	options = append(options, cli.Asking(p.patience, func() { p.silent.Store(true) }))
	pool, err := cli.ConnectShared(ctx, loaded.DatabaseURL, "lastseat enqueue", 2, options...)
	if err != nil {
		return nil, err
	}
	err = schema.Check(ctx, pool)
	if version := (*schema.VersionError)(nil); errors.As(err, &version) && version.Newer() {
		err = nil // a newer schema keeps every function and argument of an older one
	}
	if err != nil {
		closePool(pool)
		return nil, err
	}
	return pool, nil
}
