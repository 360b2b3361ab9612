package main

import (
	"context"
	"encoding/json"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/spf13/cobra"

	"github.com/lastseat/lastseat/internal/cli"
	"github.com/lastseat/lastseat/internal/money"
	"github.com/lastseat/lastseat/outbox"
	"github.com/lastseat/lastseat/txn"
)

// asking holds the flags of every command that makes a request.
type asking struct {
	key  string
	wait time.Duration
	dry  bool
}

func (a *asking) flags(cmd *cobra.Command) {
	cmd.Flags().StringVar(&a.key, "key", "", "the idempotency key, a new one for each request")
	cmd.Flags().DurationVar(&a.wait, "wait", 0, "how long to wait for the outcome")
	cmd.Flags().BoolVar(&a.dry, "dry-run", false, "say what would become of it now, and write nothing")
	cmd.MarkFlagsMutuallyExclusive("wait", "dry-run")
	cli.Require(cmd, "key")
}

// shortestWait is how long a command waits for the outcome at least, however long it took to ask.
const shortestWait = 100 * time.Millisecond

// limit ends the context of the transaction that asks when --wait is over, counted from the beginning of the command: a
// link that answers each statement late would take many times as long otherwise. It never asks for less than a second.
func (a *asking) limit(ctx context.Context, begun time.Time) (context.Context, context.CancelFunc) {
	if a.wait == 0 {
		return ctx, func() {}
	}
	return context.WithDeadline(ctx, begun.Add(max(time.Second, a.wait)))
}

// argsOf returns the arguments of the request; it may read them from the database.
type argsOf func(tx pgx.Tx) (outbox.Args, error)

// plain is an argsOf that reads nothing.
func plain(args outbox.Args) argsOf {
	return func(pgx.Tx) (outbox.Args, error) { return args, nil }
}

// ask enqueues one request in a transaction of its own, and prints its outcome as far as it is known.
func (p *program) ask(cmd *cobra.Command, asking asking, argsOf argsOf) error {
	if asking.dry {
		return p.dryRun(cmd, asking, argsOf)
	}
	if asking.wait < 0 {
		return cli.Usage("--wait is %v: 0s or longer", asking.wait)
	}
	if asking.wait > 0 {
		p.patience = min(usualPatience, max(time.Second, asking.wait))
	}
	ctx, begun := cmd.Context(), time.Now()
	pool, err := p.connect(ctx)
	if err != nil {
		return err
	}
	defer closePool(pool)
	asked, cancel := asking.limit(ctx, begun)
	defer cancel()
	var receipt outbox.Receipt
	var outcomes []outbox.Outcome
	err = txn.Run(asked, pool, txn.Options{}, func(ctx context.Context, tx pgx.Tx) error {
		args, err := argsOf(tx)
		if err != nil {
			return err
		}
		if receipt, err = outbox.Enqueue(ctx, tx, asking.key, args); err != nil {
			return inFlags(cmd, err)
		}
		outcomes, err = outbox.Outcomes(ctx, tx, asking.key)
		return err
	})
	if err != nil {
		return err
	}
	if asking.wait > 0 {
		left := max(asking.wait-time.Since(begun), min(asking.wait, shortestWait))
		return p.await(ctx, pool, waiting{asking.wait, left}, receipt.Duplicate, asking.key)
	}
	return p.output.PrintOutcome(p.streams.Out, outcomes[0], receipt.Duplicate)
}

// moving holds the flags of commands that move money between two accounts.
type moving struct{ from, to, amount, currency string }

func (m *moving) flags(cmd *cobra.Command) {
	cmd.Flags().StringVar(&m.from, "from", "", "the account to take the money from")
	cmd.Flags().StringVar(&m.to, "to", "", "the account to pay the money to")
	cmd.Flags().StringVar(&m.amount, "amount", "", "the amount in the currency's unit, such as 12.50")
	cmd.Flags().StringVar(&m.currency, "currency", "", "its code, such as EUR")
	cli.Require(cmd, "from", "to", "amount", "currency")
}

// minor is the amount in minor units.
func (m *moving) minor(cmd *cobra.Command, p *program) (int64, error) {
	if err := p.know(cmd, m.currency); err != nil {
		return 0, err
	}
	if _, err := money.Digits(m.currency); err != nil {
		if _, swapped := money.Parse(m.currency, m.amount); swapped == nil {
			return 0, cli.BadData("--currency is %q and --amount is %q: swap them", m.currency, m.amount)
		}
		return 0, cli.BadData("--currency: %w", err)
	}
	return parseAmount(m.amount, m.currency)
}

// noting holds the flags of a transfer's description and metadata.
type noting struct{ description, metadata string }

func (n *noting) flags(cmd *cobra.Command) {
	cmd.Flags().StringVar(&n.description, "description", "", "shown in the statements of both accounts")
	cmd.Flags().StringVar(&n.metadata, "metadata", "", "a JSON object to store with the transfer")
}

// json is the metadata; nil: none.
func (n *noting) json() (json.RawMessage, error) {
	switch {
	case n.metadata == "":
		return nil, nil
	case !json.Valid([]byte(n.metadata)):
		return nil, cli.BadData(`--metadata is %q: JSON, such as '{"order": 7}'`, n.metadata)
	}
	return json.RawMessage(n.metadata), nil
}

// parseAmount reads --amount as minor units.
func parseAmount(text, currency string) (int64, error) {
	amount, err := money.Parse(text, currency)
	if err != nil {
		return 0, cli.BadData("--amount: %w", err)
	}
	if amount <= 0 {
		return 0, cli.BadData("--amount is %s: give more than 0; to move money the other way, swap the accounts", text)
	}
	return amount, nil
}
