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

const itemHelp = `--item is a resource's id, or ID=N for N of them, once for each item; the same resource twice counts twice. An id may hold "="
itself: only the last one counts, and only if nothing but digits follows, so that "row=7" is seven of "row", and "row=7=1" one
of "row=7". --during takes the resources as a whole for a time: START/END or "[START,END)"; START belongs to it, END does not,
and a time without an offset is UTC.`

func (p *program) holdCommand() *cobra.Command {
	var asking asking
	var taking taking
	var expiring expiring
	var inLine bool
	cmd := &cobra.Command{
		Use:   "hold --key KEY --reservation ID --item RESOURCE[=N]...",
		Short: "Hold resources for a while, all of them or none",
		Long: `Hold resources for a while, all of them or none: until it is confirmed or cancelled, and at most 15 minutes, for
--expires-in, or until --expires-at. That time is no part of what makes two requests the same: asked again, the first one's
stays.

` + itemHelp + `

--wait-in-line has it wait where something is taken, until it is granted, cancelled, or its time has come: the request is
then applied, waiting. --wait is another thing: how long this command waits for the outcome.`,
		Example: `  enqueue hold --key cart-7 --reservation r-7 --item hall/A1 --item hall/A2 --customer ada --expires-in 10m --wait 10s
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
				return jobs.Hold{Reservation: taking.reservation, Items: items, Customer: taking.customer, ExpiresAt: at, Wait: inLine}, err
			})
		},
	}
	asking.flags(cmd)
	taking.flags(cmd)
	expiring.flags(cmd, "how long it is held: 10m (default 15m)", "until when it is held")
	cmd.Flags().BoolVar(&inLine, "wait-in-line", false, "where something is taken, wait for it")
	return cmd
}

func (p *program) confirmCommand() *cobra.Command {
	return p.reservationStep(&cobra.Command{
		Use:     "confirm --key KEY --reservation ID",
		Short:   "Make a hold lasting",
		Example: "  enqueue confirm --key cart-7-paid --reservation r-7 --wait 10s",
	}, func(reservation string) outbox.Args { return jobs.Confirm{Reservation: reservation} })
}

func (p *program) cancelCommand() *cobra.Command {
	return p.reservationStep(&cobra.Command{
		Use:   "cancel --key KEY --reservation ID",
		Short: "Give up a reservation: held, confirmed, or waiting",
		Long: `Give up a reservation: one that is held, confirmed, or waits. What becomes free is granted to those who wait.

Money is not moved: what a booking has paid is paid back by enqueue reverse --transfer, with the booking's key.`,
		Example: "  enqueue cancel --key cart-7-left --reservation r-7 --wait 10s",
	}, func(reservation string) outbox.Args { return jobs.Cancel{Reservation: reservation} })
}

// reservationStep asks for what takes a reservation and nothing else.
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
		Short: "Have a hold run out at another time",
		Long: `Have a hold, or a reservation that waits, run out at another time: --expires-in from now, or --expires-at.

The time is what is asked for, and --expires-in is reckoned anew each time: to ask again with the same key, give the
same --expires-at.`,
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
				return fmt.Errorf("%w; --expires-in is another time each time: enqueue outcome shows what became of the first", err)
			}
			return err
		},
	}
	asking.flags(cmd)
	reservationFlag(cmd, &reservation)
	expiring.flags(cmd, "how long from now: 10m", "until when it is held")
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
		Short: "Take resources and pay for them, both or neither",
		Long: `Take resources and pay for them, both or neither: the reservation is confirmed at once.

` + itemHelp + `

To take a booking back, cancel the reservation, and reverse the transfer with the booking's key: neither does the other.`,
		Example: "  enqueue book --key order-10 --reservation r-10 --item hall/A3=1 --customer ada --from customer:7 --to shop --amount 45.00 --currency EUR --wait 10s",
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			items, err := taking.items()
			if err != nil {
				return err
			}
			amount, err := moving.minor()
			if err != nil {
				return err
			}
			metadata, err := noting.json()
			if err != nil {
				return err
			}
			return p.ask(cmd, asking, plain(jobs.Book{
				Reservation: taking.reservation, Items: items, Customer: taking.customer,
				From: moving.from, To: moving.to, Amount: amount, Currency: moving.currency, Description: noting.description, Metadata: metadata,
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
	cmd.Flags().StringVar(reservation, "reservation", "", "the reservation's id, your own text")
	cli.Require(cmd, "reservation")
}
