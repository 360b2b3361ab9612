// Command enqueue asks for payments and reservations from the command line, imports files of them, and shows what became
// of them, what accounts have, and what can still be taken. It talks to the database that DATABASE_URL names; the role
// lastseat_producer is enough.
package main

import (
	"context"
	"errors"

	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/spf13/cobra"

	"github.com/lastseat/lastseat/internal/cli"
	"github.com/lastseat/lastseat/internal/config"
	"github.com/lastseat/lastseat/schema"
)

func main() { cli.Main(run) }

// program is what the commands share.
type program struct {
	streams cli.Streams
	output  *cli.Output
}

func run(ctx context.Context, args []string, streams cli.Streams) int {
	root := &cobra.Command{
		Use:   "enqueue",
		Short: "Ask for payments and reservations, once each",
		Long: `Ask for payments and reservations, once each.

The database is the one that DATABASE_URL names. Amounts are decimals in the currency's unit: 12.50 EUR, 1200 JPY.
A key is used once: the same command again changes nothing and shows what became of the first.

Exit codes: 0 done (with --wait: applied), 3 with --wait: rejected or failed, 64 usage, 65 bad data or a key reused with
other arguments, 69 the database can't be reached, 75 not known yet (ask again with the same key), 77 the role may not
do that, 78 configuration or schema version.`,
		Example: "  enqueue transfer --key order-1042 --from customer:7 --to shop --amount 12.50 --currency EUR\n  enqueue hold --key cart-7 --reservation r-7 --item hall/A1 --item hall/A2 --wait 10s\n  enqueue outcome order-1042",
		Version: cli.Version(),
	}
	p := &program{streams: streams, output: cli.AddOutput(root)}
	root.AddCommand(
		p.accountCommand(), p.transferCommand(), p.reverseCommand(),
		p.authorizeCommand(), p.captureCommand(), p.voidCommand(), p.refundCommand(),
		p.resourceCommand(), p.limitCommand(), p.holdCommand(), p.confirmCommand(), p.cancelCommand(), p.extendCommand(), p.bookCommand(),
		p.importCommand(), p.outcomeCommand(), p.waitCommand(), p.retryCommand(),
		p.balanceCommand(), p.paymentCommand(), p.statementCommand(),
		p.reservationCommand(), p.availabilityCommand(), p.occupiedCommand(),
	)
	return cli.Execute(ctx, root, args, streams)
}

// connect opens the database. One connection is enough for a command line; Wait takes a second.
func (p *program) connect(ctx context.Context) (*pgxpool.Pool, error) {
	loaded, err := config.Load(p.streams.Environ, true)
	if err != nil {
		return nil, err
	}
	pool, err := cli.Connect(ctx, loaded.DatabaseURL, "lastseat enqueue", 2)
	if err != nil {
		return nil, err
	}
	err = schema.Check(ctx, pool)
	if version := (*schema.VersionError)(nil); errors.As(err, &version) && version.Newer() {
		err = nil // functions gain arguments, and lose none
	}
	if err != nil {
		pool.Close()
		return nil, err
	}
	return pool, nil
}
