package main

import (
	"github.com/spf13/cobra"

	"github.com/lastseat/lastseat/internal/cli"
	"github.com/lastseat/lastseat/jobs"
)

func (p *program) transferCommand() *cobra.Command {
	var asking asking
	var moving moving
	var noting noting
	cmd := &cobra.Command{
		Use:     "transfer --key KEY --from ID --to ID --amount AMOUNT --currency CODE",
		Short:   "Move money from one account to another",
		Example: "  enqueue transfer --key order-1042 --from customer:7 --to shop --amount 12.50 --currency EUR --wait 10s",
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			amount, err := moving.minor(cmd, p)
			if err != nil {
				return err
			}
			metadata, err := noting.json()
			if err != nil {
				return err
			}
			return p.ask(cmd, asking, plain(jobs.Transfer{
				From: moving.from, To: moving.to, Amount: amount, Currency: moving.currency, Description: noting.description,
				Metadata: metadata,
			}))
		},
	}
	asking.flags(cmd)
	moving.flags(cmd)
	noting.flags(cmd)
	return cmd
}

func (p *program) reverseCommand() *cobra.Command {
	var asking asking
	var reverse jobs.Reverse
	cmd := &cobra.Command{
		Use:   "reverse --key KEY --transfer KEY",
		Short: "Take a transfer back",
		Long: `Take a transfer back: the same amount, the other way, once.

--transfer is the key of the transfer's request. To pay a captured payment back, use enqueue refund.
To undo a booking, also cancel its reservation.`,
		Example: "  enqueue reverse --key order-1042-back --transfer order-1042 --wait 10s",
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return p.ask(cmd, asking, plain(reverse))
		},
	}
	asking.flags(cmd)
	cmd.Flags().StringVar(&reverse.Transfer, "transfer", "", "the key of the transfer")
	cli.Require(cmd, "transfer")
	return cmd
}
