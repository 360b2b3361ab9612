package main

import (
	"github.com/jackc/pgx/v5"
	"github.com/spf13/cobra"

	"github.com/lastseat/lastseat/internal/cli"
	"github.com/lastseat/lastseat/jobs"
	"github.com/lastseat/lastseat/outbox"
)

func (p *program) authorizeCommand() *cobra.Command {
	var asking asking
	var moving moving
	var args jobs.Authorize
	var expiring expiring
	cmd := &cobra.Command{
		Use: "authorize --key KEY --payment ID --from ID --to ID --amount AMOUNT --currency CODE " +
			"[--processor NAME --method TOKEN]",
		Short: "Hold money for a payment, to be captured later",
		Long: `Hold money for a payment, to be captured later.

The hold expires after 7 days, after --expires-in, or at --expires-at. Running the command again with the same key may
give a different time; the first one is kept.

With --processor and --method the amount is reserved on a card, too: the processor is asked. --from is then the account
that stands for the processor.`,
		Example: "  enqueue authorize --key order-1045 --payment p-1045 --from customer:7 --to shop --amount 12.50 " +
			"--currency EUR --expires-in 15m",
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			amount, err := moving.minor(cmd, p)
			if err == nil {
				err = expiring.check(cmd)
			}
			if err != nil {
				return err
			}
			return p.ask(cmd, asking, func(tx pgx.Tx) (outbox.Args, error) {
				at, err := expiring.time(cmd.Context(), tx)
				args.From, args.To, args.Amount, args.Currency = moving.from, moving.to, amount, moving.currency
				args.ExpiresAt = at
				return args, err
			})
		},
	}
	asking.flags(cmd)
	paymentFlag(cmd, &args.Payment)
	moving.flags(cmd)
	cardFlags(cmd, &args.Processor, &args.Method)
	expiring.flags(cmd, "how long the money is held: 15m (default 168h, 7 days)", "until when it is held")
	return cmd
}

func (p *program) captureCommand() *cobra.Command {
	return p.partCommand(&cobra.Command{
		Use:   "capture --key KEY --payment ID [--amount AMOUNT]",
		Short: "Move the money of an authorized payment",
		Long: `Move the money of an authorized payment, once.

This captures all of it, or --amount of it in the payment's currency. The rest is released.`,
		Example: "  enqueue capture --key order-1045-shipped --payment p-1045 --amount 10.00 --wait 10s",
	}, func(payment string, amount int64) outbox.Args { return jobs.Capture{Payment: payment, Amount: amount} })
}

func (p *program) refundCommand() *cobra.Command {
	var reference string
	cmd := p.partCommand(&cobra.Command{
		Use:   "refund --key KEY --payment ID [--amount AMOUNT | --reference ID]",
		Short: "Pay a captured payment back",
		Long: `Pay a captured payment back.

This refunds all that is not refunded yet, or --amount in the payment's currency. A payment may have several refunds,
up to the captured amount in total.

With --reference it gives back a charge that the processor has made after the payment was given up here; worker
reconcile and webhooks tell of those.`,
		Example: "  enqueue refund --key order-1045-returned --payment p-1045 --amount 5.00 --wait 10s",
	}, func(payment string, amount int64) outbox.Args {
		return jobs.Refund{Payment: payment, Amount: amount, Reference: reference}
	})
	cmd.Flags().StringVar(&reference, "reference", "", "the processor's id of a late charge")
	cmd.MarkFlagsMutuallyExclusive("amount", "reference")
	return cmd
}

// partCommand asks for the whole of a payment, which is the amount 0, or for a part of it.
func (p *program) partCommand(cmd *cobra.Command, args func(payment string, amount int64) outbox.Args) *cobra.Command {
	var asking asking
	var payment, part string
	cmd.Args = cobra.NoArgs
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		if !cmd.Flags().Changed("amount") {
			return p.ask(cmd, asking, plain(args(payment, 0)))
		}
		return p.ask(cmd, asking, func(tx pgx.Tx) (outbox.Args, error) {
			known, err := jobs.PaymentOf(cmd.Context(), tx, payment)
			if err != nil {
				return nil, err
			}
			if err := know(cmd.Context(), tx, known.Currency); err != nil {
				return nil, err
			}
			amount, err := parseAmount(part, known.Currency)
			return args(payment, amount), err
		})
	}
	asking.flags(cmd)
	paymentFlag(cmd, &payment)
	cmd.Flags().StringVar(&part, "amount", "", "a part, in the payment's currency: 5.00")
	return cmd
}

func (p *program) voidCommand() *cobra.Command {
	var asking asking
	var void jobs.Void
	cmd := &cobra.Command{
		Use:     "void --key KEY --payment ID",
		Short:   "Cancel an authorized payment, and release its money",
		Example: "  enqueue void --key order-1045-cancelled --payment p-1045 --wait 10s",
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return p.ask(cmd, asking, plain(void))
		},
	}
	asking.flags(cmd)
	paymentFlag(cmd, &void.Payment)
	return cmd
}

func paymentFlag(cmd *cobra.Command, payment *string) {
	cmd.Flags().StringVar(payment, "payment", "", "the payment's id, your own text")
	cli.Require(cmd, "payment")
}
