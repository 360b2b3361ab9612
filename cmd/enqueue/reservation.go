package main

import (
	"errors"
	"fmt"

	"github.com/jackc/pgx/v5"
	"github.com/spf13/cobra"

	"github.com/lastseat/lastseat/internal/cli"
	"github.com/lastseat/lastseat/jobs"
	"github.com/lastseat/lastseat/outbox"
)

const itemHelp = `--item is a resource, or RESOURCE=N for N of it. It may be given several times; the same resource
counts each time. If an id contains "=", the last "=" separates the number, and only if nothing but digits follows:
"row=7" means seven of "row", "row=7=1" means one of "row=7".

--during reserves the resources as a whole for a time: START/END or "[START,END)". START is included, END is not.
Each time has its offset: Z, +01:00.`

func (p *program) holdCommand() *cobra.Command {
	var asking asking
	var taking taking
	var expiring expiring
	var inLine bool
	cmd := &cobra.Command{
		Use:   "hold --key KEY --reservation ID --item RESOURCE[=N]...",
		Short: "Hold resources for a while, all of them or none",
		Long: `Hold resources for a while, all of them or none.

A hold ends when it is confirmed or cancelled. It expires after 15 minutes, after --expires-in, or at --expires-at.
Running the command again with the same key may give a different time; the first one is kept.

` + itemHelp + `

With --wait-in-line, a hold of taken resources waits in line until they are free, it is cancelled, or it expires. Its
request is applied at once, with the code waiting. --wait is different: how long this command waits for the outcome.`,
		Example: `  enqueue hold --key cart-7 --reservation r-7 --item hall/A1 --item hall/A2 --customer ada --wait 10s
  enqueue hold --key stay-8 --reservation r-8 --item double/2026-12-24=2 --item double/2026-12-25=2 --wait-in-line
  enqueue hold --key desk-9 --reservation r-9 --item room/1 --during 2026-12-01T10:00:00Z/2026-12-01T11:30:00Z`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			items, err := taking.items()
			if err == nil {
				err = expiring.check(cmd)
			}
			if err != nil {
				return err
			}
			return p.ask(cmd, asking, func(tx pgx.Tx) (outbox.Args, error) {
				at, err := expiring.time(cmd.Context(), tx)
				return jobs.Hold{Reservation: taking.reservation, Items: items, Customer: taking.customer, ExpiresAt: at,
					Wait: inLine}, err
			})
		},
	}
	asking.flags(cmd)
	taking.flags(cmd)
	expiring.flags(cmd, "how long to hold it, such as 10m (default 15m)", "until when to hold it")
	cmd.Flags().BoolVar(&inLine, "wait-in-line", false, "if a resource is taken, wait in line for it")
	return cmd
}

func (p *program) confirmCommand() *cobra.Command {
	return p.reservationStep(&cobra.Command{
		Use:     "confirm --key KEY --reservation ID",
		Short:   "Confirm a hold, so that it no longer expires",
		Example: "  enqueue confirm --key cart-7-paid --reservation r-7 --wait 10s",
	}, func(reservation string) outbox.Args { return jobs.Confirm{Reservation: reservation} })
}

func (p *program) cancelCommand() *cobra.Command {
	return p.reservationStep(&cobra.Command{
		Use:   "cancel --key KEY --reservation ID",
		Short: "Cancel a reservation that is held, confirmed or waiting",
		Long: `Cancel a reservation that is held, confirmed or waiting. Its resources go to the next reservations in line.

No money moves: to pay back a booking, run enqueue reverse --transfer with the booking's key.`,
		Example: "  enqueue cancel --key cart-7-left --reservation r-7 --wait 10s",
	}, func(reservation string) outbox.Args { return jobs.Cancel{Reservation: reservation} })
}

// reservationStep is a command whose request names a reservation and nothing else.
func (p *program) reservationStep(cmd *cobra.Command, args func(reservation string) outbox.Args) *cobra.Command {
	var asking asking
	var reservation string
	cmd.Args = cobra.NoArgs
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		return p.ask(cmd, asking, plain(args(reservation)))
	}
	asking.flags(cmd)
	reservationFlag(cmd, &reservation)
	return cmd
}

func (p *program) extendCommand() *cobra.Command {
	var asking asking
	var reservation string
	var expiring expiring
	cmd := &cobra.Command{
		Use:   "extend --key KEY --reservation ID --expires-in DURATION|--expires-at TIME",
		Short: "Change when a hold expires",
		Long: `Change when a held or waiting reservation expires: --expires-in from now, or at --expires-at.

The time is part of the request, and --expires-in gives a new time with every run. To run the command again with the
same key, use --expires-at.`,
		Example: "  enqueue extend --key cart-7-longer --reservation r-7 --expires-in 10m --wait 10s",
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := expiring.check(cmd); err != nil {
				return err
			}
			err := p.ask(cmd, asking, func(tx pgx.Tx) (outbox.Args, error) {
				at, err := expiring.time(cmd.Context(), tx)
				return jobs.Extend{Reservation: reservation, ExpiresAt: at}, err
			})
			if errors.Is(err, outbox.ErrKeyReused) && expiring.in > 0 {
				return fmt.Errorf(
					"%w; --expires-in gives a new time with every run: enqueue outcome shows the outcome of the first", err)
			}
			return err
		},
	}
	asking.flags(cmd)
	reservationFlag(cmd, &reservation)
	expiring.flags(cmd, "how long from now, such as 10m", "until when to hold it")
	cmd.MarkFlagsOneRequired("expires-in", "expires-at")
	return cmd
}

func (p *program) bookCommand() *cobra.Command {
	var asking asking
	var taking taking
	var moving moving
	var noting noting
	cmd := &cobra.Command{
		Use:   "book --key KEY --reservation ID --item RESOURCE[=N]... --from ID --to ID --amount AMOUNT --currency CODE",
		Short: "Reserve resources and pay for them, both or neither",
		Long: `Reserve resources and pay for them, both or neither. The reservation is confirmed at once.

` + itemHelp + `

To undo a booking, run both enqueue cancel for the reservation and enqueue reverse with the booking's key.`,
		Example: "  enqueue book --key order-10 --reservation r-10 --item hall/A3=1 --customer ada --from customer:7 --to " +
			"shop --amount 45.00 --currency EUR --wait 10s",
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			items, err := taking.items()
			if err != nil {
				return err
			}
			amount, err := moving.minor(cmd, p)
			if err != nil {
				return err
			}
			metadata, err := noting.json()
			if err != nil {
				return err
			}
			return p.ask(cmd, asking, plain(jobs.Book{
				Reservation: taking.reservation, Items: items, Customer: taking.customer,
				From: moving.from, To: moving.to, Amount: amount, Currency: moving.currency, Description: noting.description,
				Metadata: metadata,
			}))
		},
	}
	asking.flags(cmd)
	taking.flags(cmd)
	moving.flags(cmd)
	noting.flags(cmd)
	return cmd
}

func reservationFlag(cmd *cobra.Command, reservation *string) {
	cmd.Flags().StringVar(reservation, "reservation", "", "the reservation's id, any text of 1 to 200 characters")
	cli.Require(cmd, "reservation")
}
