package main

import (
	"context"
	"strconv"

	"github.com/jackc/pgx/v5"
	"github.com/spf13/cobra"

	"github.com/lastseat/lastseat/internal/cli"
	"github.com/lastseat/lastseat/jobs"
	"github.com/lastseat/lastseat/outbox"
	"github.com/lastseat/lastseat/txn"
)

func (p *program) resourceCommand() *cobra.Command {
	var resource jobs.Resource
	var overbook int64
	cmd := &cobra.Command{
		Use:   "resource --id ID --capacity N [--overbook N] [--group GROUP]",
		Short: "Define a resource, or change its capacity",
		Long: `Define a resource that can be reserved, or change its capacity.

A resource is a seat (capacity 1), all rooms of a type on one night, or a room that is rented by the hour.

The capacity can't go below what is held and confirmed. Added capacity goes to waiting reservations within two seconds.
--group adds the resource to a group with a limit for each customer (see enqueue limit), for good.`,
		Example: "  enqueue resource --id hall/A1 --capacity 1 --group hall\n  enqueue resource --id double/2026-12-24 " +
			"--capacity 40 --overbook 2",
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if cmd.Flags().Changed("overbook") {
				resource.Overbook = &overbook
			}
			return p.define(cmd, cli.Word(resource.ID)+"  defined", func(ctx context.Context, tx pgx.Tx) (outbox.Receipt,
				error) {
				return jobs.DefineResource(ctx, tx, resource)
			})
		},
	}
	cmd.Flags().StringVar(&resource.ID, "id", "", "the resource's id, any text of 1 to 200 characters")
	cmd.Flags().Int64Var(&resource.Capacity, "capacity", 0, "how many can be reserved")
	cmd.Flags().Int64Var(&overbook, "overbook", 0,
		"how many more may be reserved beyond the capacity (default as before, 0 for a new resource)")
	cmd.Flags().StringVar(&resource.LimitGroup, "group", "", "the group whose limit the resource counts towards")
	cli.Require(cmd, "id", "capacity")
	return cmd
}

func (p *program) limitCommand() *cobra.Command {
	var group, most string
	cmd := &cobra.Command{
		Use:   "limit --group GROUP --per-customer N|unlimited",
		Short: "Limit how much of a group of resources one customer may reserve",
		Long: `Limit how much one customer may hold and have confirmed at the same time, of all resources in a group together.

With a limit, every hold and booking of these resources must name its customer. A lower limit leaves existing
reservations as they are.`,
		Example: "  enqueue limit --group hall --per-customer 4",
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			var limit *int64
			if most != "unlimited" {
				n, err := strconv.ParseInt(most, 10, 64)
				if err != nil {
					return cli.BadData("--per-customer is %q: a whole number from 0, or unlimited", most)
				}
				limit = &n
			}
			return p.define(cmd, cli.Word(group)+"  "+most+" per customer", func(ctx context.Context,
				tx pgx.Tx) (outbox.Receipt, error) {
				return jobs.DefineLimit(ctx, tx, group, limit)
			})
		},
	}
	cmd.Flags().StringVar(&group, "group", "", "the group's id, any text of 1 to 200 characters")
	cmd.Flags().StringVar(&most, "per-customer", "", "the most that one customer may have, or unlimited")
	cli.Require(cmd, "group", "per-customer")
	return cmd
}

// define runs do in a transaction of its own, and prints its receipt. It needs no worker.
func (p *program) define(cmd *cobra.Command, text string, do func(context.Context, pgx.Tx) (outbox.Receipt,
	error)) error {
	ctx := cmd.Context()
	pool, err := p.connect(ctx)
	if err != nil {
		return err
	}
	defer closePool(pool)
	var receipt outbox.Receipt
	err = txn.Run(ctx, pool, txn.Options{}, func(ctx context.Context, tx pgx.Tx) error {
		receipt, err = do(ctx, tx)
		return err
	})
	if err != nil {
		return err
	}
	if receipt.Duplicate {
		text += "  (duplicate)"
	}
	return p.output.Print(p.streams.Out, receipt, text)
}
