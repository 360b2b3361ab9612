package main

import (
	"encoding/json"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/spf13/cobra"

	"github.com/lastseat/lastseat/internal/cli"
	"github.com/lastseat/lastseat/internal/money"
	"github.com/lastseat/lastseat/jobs"
	"github.com/lastseat/lastseat/outbox"
)

func (p *program) transferCommand() *cobra.Command {
	var transfer jobs.Transfer
	var key, amount, metadata string
	var wait time.Duration
	cmd := &cobra.Command{
		Use:     "transfer --key KEY --from ID --to ID --amount AMOUNT --currency CODE",
		Short:   "Move money from one account to another",
		Example: "  enqueue transfer --key order-1042 --from customer:7 --to shop --amount 12.50 --currency EUR --wait 10s",
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) (err error) {
			if wait < 0 {
				return cli.Usage("--wait is %v: 0s or longer", wait)
			}
			if _, err := money.Digits(transfer.Currency); err != nil {
				return cli.BadData("--currency: %w", err)
			}
			if transfer.Amount, err = money.Parse(amount, transfer.Currency); err != nil {
				return cli.BadData("--amount: %w", err)
			}
			if transfer.Amount <= 0 {
				return cli.BadData("--amount is %s: more than 0", amount)
			}
			if metadata != "" {
				transfer.Metadata = json.RawMessage(metadata)
				if !json.Valid(transfer.Metadata) {
					return cli.BadData("--metadata: %q is not JSON", metadata)
				}
			}
			return p.ask(cmd, outbox.Request{Key: key, Args: transfer}, wait)
		},
	}
	flags := cmd.Flags()
	flags.StringVar(&key, "key", "", "the idempotency key: one for one request")
	flags.StringVar(&transfer.From, "from", "", "the account that gives")
	flags.StringVar(&transfer.To, "to", "", "the account that gets")
	flags.StringVar(&amount, "amount", "", "in the currency's unit: 12.50")
	flags.StringVar(&transfer.Currency, "currency", "", "ISO 4217: EUR")
	flags.StringVar(&transfer.Description, "description", "", "for the accounts' statements")
	flags.StringVar(&metadata, "metadata", "", "a JSON object that stays with the transfer")
	flags.DurationVar(&wait, "wait", 0, "wait so long for the outcome")
	cli.Require(cmd, "key", "from", "to", "amount", "currency")
	return cmd
}

// ask enqueues one request in a transaction of its own, and shows what is known of it.
func (p *program) ask(cmd *cobra.Command, request outbox.Request, wait time.Duration) error {
	ctx := cmd.Context()
	pool, err := p.connect(ctx)
	if err != nil {
		return err
	}
	defer pool.Close()
	var receipt outbox.Receipt
	var outcomes []outbox.Outcome
	err = inTx(ctx, pool, func(tx pgx.Tx) error {
		if receipt, err = outbox.Enqueue(ctx, tx, request.Key, request.Args); err != nil {
			return err
		}
		outcomes, err = outbox.Outcomes(ctx, tx, request.Key)
		return err
	})
	if err != nil {
		return err
	}
	if wait > 0 {
		return p.await(ctx, pool, wait, receipt.Duplicate, request.Key)
	}
	return p.output.PrintOutcome(p.streams.Out, outcomes[0], receipt.Duplicate)
}
