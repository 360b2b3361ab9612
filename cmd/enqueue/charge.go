package main

import (
	"github.com/jackc/pgx/v5"
	"github.com/spf13/cobra"

	"github.com/lastseat/lastseat/internal/cli"
	"github.com/lastseat/lastseat/jobs"
	"github.com/lastseat/lastseat/outbox"
)

func (p *program) chargeCommand() *cobra.Command {
	var asking asking
	var moving moving
	var args jobs.Charge
	cmd := &cobra.Command{
		Use: "charge --key KEY --payment ID --from ID --to ID --amount AMOUNT --currency CODE --processor NAME " +
			"--method TOKEN",
		Short: "Take an amount from a card",
		Long: `Take an amount from a card: a processor is asked, and the money moves here when it has said yes.

--from is the account that stands for the processor: how far it is below zero is what the processor owes you.`,
		Example: "  enqueue charge --key order-1051 --payment p-1051 --from stripe --to shop --amount 12.50 --currency EUR " +
			"--processor stripe --method pm_card_visa --wait 30s",
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			amount, err := moving.minor(cmd, p)
			if err != nil {
				return err
			}
			args.From, args.To, args.Amount, args.Currency = moving.from, moving.to, amount, moving.currency
			return p.ask(cmd, asking, func(pgx.Tx) (outbox.Args, error) { return args, nil })
		},
	}
	asking.flags(cmd)
	paymentFlag(cmd, &args.Payment)
	moving.flags(cmd)
	cardFlags(cmd, &args.Processor, &args.Method)
	cli.Require(cmd, "processor", "method")
	return cmd
}

func cardFlags(cmd *cobra.Command, processor, method *string) {
	cmd.Flags().StringVar(processor, "processor", "", "the processor's name, as the workers know it: stripe")
	cmd.Flags().StringVar(method, "method", "", "the processor's token of the card; never a card's number")
}
