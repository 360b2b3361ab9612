package main

import (
	"bufio"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/spf13/cobra"

	"github.com/lastseat/lastseat/internal/cli"
	"github.com/lastseat/lastseat/jobs"
)

func (p *program) reservationCommand() *cobra.Command {
	return &cobra.Command{
		Use:     "reservation ID",
		Short:   "Show a reservation's status and items",
		Example: "  enqueue reservation r-7",
		Args:    cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			return p.look(cmd, func(pool *pgxpool.Pool) error {
				reservation, err := jobs.ReservationOf(cmd.Context(), pool, args[0])
				if err != nil {
					return err
				}
				return p.output.Print(p.streams.Out, reservation, describeReservation(reservation))
			})
		},
	}
}

func describeReservation(r jobs.Reservation) string {
	text := cli.Word(r.ID) + "  " + r.Status
	items := make([]string, len(r.Items))
	for i, item := range r.Items {
		if items[i] = fmt.Sprintf("%d x %s", max(1, item.Quantity), cli.Word(item.Resource)); item.During != nil {
			items[i] = cli.Word(item.Resource) + " " + item.During.String()
		}
	}
	if len(items) > 0 {
		text += "  " + strings.Join(items, ", ")
	}
	if r.Customer != "" {
		text += "  customer " + cli.Word(r.Customer)
	}
	if r.Status == "pending" || r.Status == "held" || r.Status == "waiting" {
		text += "  expires " + r.ExpiresAt.Format(time.RFC3339)
	}
	return text
}

func (p *program) availabilityCommand() *cobra.Command {
	var after string
	var limit int64
	var format listFormat
	cmd := &cobra.Command{
		Use:   "availability PREFIX",
		Short: "Show how much of each resource is available",
		Long: `Show how much of each resource is available, in the order of the ids.

PREFIX is the beginning of the ids; an empty PREFIX means all resources.

To read page by page, pass the last id of a page to --after. Reservations for a time range are not counted: see enqueue
occupied.`,
		Example: "  enqueue availability hall/\n  enqueue availability double/2026-12- --limit 31 --output csv",
		Args:    cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			if limit < 1 && cmd.Flags().Changed("limit") {
				return cli.Usage("--limit is %d: 1 or more", limit)
			}
			return p.look(cmd, func(pool *pgxpool.Pool) error {
				return p.availability(cmd, pool, args[0], after, limit, format)
			})
		},
	}
	cmd.Flags().StringVar(&after, "after", "", "show only resources after this id")
	cmd.Flags().Int64Var(&limit, "limit", 0, "show at most this many resources (default all)")
	format.flag(cmd)
	return cmd
}

// availabilityPage is how many resources are read at a time: there may be more of them than memory.
const availabilityPage = 1000

// availability writes the resources page by page, all of one moment.
func (p *program) availability(cmd *cobra.Command, pool *pgxpool.Pool, prefix, after string, limit int64,
	format listFormat) error {
	ctx := cmd.Context()
	out := bufio.NewWriter(p.streams.Out)
	w, err := p.newList(format, out, []bool{1: true, 2: true, 3: true, 4: true, 5: true, 6: true},
		"resource", "available", "capacity", "overbook", "held", "confirmed", "waiting")
	if err != nil {
		return err
	}
	number := func(n int64) string { return strconv.FormatInt(n, 10) }
	err = pgx.BeginTxFunc(ctx, pool, pgx.TxOptions{IsoLevel: pgx.RepeatableRead, AccessMode: pgx.ReadOnly},
		func(tx pgx.Tx) error {
			left := limit
			for {
				page := int64(availabilityPage)
				if limit > 0 {
					page = min(page, left)
				}
				resources, err := jobs.Availability(ctx, tx, prefix, after, page)
				if err != nil {
					return err
				}
				for _, a := range resources {
					err := w.add(a, a.Resource, number(a.Free), number(a.Capacity), number(a.Overbook), number(a.Held),
						number(a.Confirmed), number(a.Waiting))
					if err != nil {
						return err
					}
					after = a.Resource
				}
				if left -= page; int64(len(resources)) < page || left == 0 {
					return w.end()
				}
			}
		})
	if flushed := out.Flush(); err == nil {
		err = flushed
	}
	return err
}

func (p *program) occupiedCommand() *cobra.Command {
	from, to := timeFlag{dates: true}, timeFlag{dates: true}
	var format listFormat
	cmd := &cobra.Command{
		Use:   "occupied RESOURCE",
		Short: "Show when a resource is taken as a whole",
		Long: `Show when a resource is held or confirmed as a whole: all time ranges that overlap --from to --to, in order.

Times are UTC, and a date means 00:00 UTC. The start of a range is included, its end is not.`,
		Example: "  enqueue occupied room/1 --from 2026-12-01 --to 2026-12-02",
		Args:    cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			if !to.at.IsZero() && from.at.After(to.at) {
				return cli.Usage("--from is later than --to")
			}
			return p.look(cmd, func(pool *pgxpool.Pool) error {
				taken, err := jobs.Occupied(cmd.Context(), pool, args[0], from.at, to.at)
				if err != nil {
					return err
				}
				w, err := p.newList(format, p.streams.Out, make([]bool, 4), "start", "end", "reservation", "status")
				for i := 0; err == nil && i < len(taken); i++ {
					o := taken[i]
					err = w.add(o, o.During.Start.Format(time.RFC3339Nano), o.During.End.Format(time.RFC3339Nano), o.Reservation,
						o.Status)
				}
				if err != nil {
					return err
				}
				return w.end()
			})
		},
	}
	cmd.Flags().Var(&from, "from", "start of the period, a time or date")
	cmd.Flags().Var(&to, "to", "end of the period, a time or date")
	format.flag(cmd)
	return cmd
}
