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
	cmd := &cobra.Command{
		Use:   "resource --id ID --capacity N [--overbook N] [--group GROUP]",
		Short: "Define a resource, or change its capacity",
		Long: `Define something to be reserved, or change its capacity: a seat (capacity 1), the rooms of a type on a night, a room
by the hour.

The capacity can't go below what is held and confirmed. What is added is granted to those who wait, within two seconds.
--group is the group whose limit for each customer it counts for; see enqueue limit. A resource keeps its group.`,
		Example: "  enqueue resource --id hall/A1 --capacity 1 --group hall\n  enqueue resource --id double/2026-12-24 --capacity 40 --overbook 2",
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return p.define(cmd, cli.Word(resource.ID)+"  defined", func(ctx context.Context, tx pgx.Tx) (outbox.Receipt, error) {
				return jobs.DefineResource(ctx, tx, resource)
			})
		},
	}
	cmd.Flags().StringVar(&resource.ID, "id", "", "the resource's id, your own text")
	cmd.Flags().Int64Var(&resource.Capacity, "capacity", 0, "how many there are")
	cmd.Flags().Int64Var(&resource.Overbook, "overbook", 0, "how many more may be taken")
	cmd.Flags().StringVar(&resource.LimitGroup, "group", "", "the limit group that it counts for")
	cli.Require(cmd, "id", "capacity")
	return cmd
}

func (p *program) limitCommand() *cobra.Command {
	var group, most string
	cmd := &cobra.Command{
		Use:   "limit --group GROUP --per-customer N|unlimited",
		Short: "Limit what one customer may reserve of a group of resources",
		Long: `Limit what one customer may hold and have confirmed at a time of all the resources of a group together.

Where there is a limit, whoever asks has to name the customer. A lower one takes nothing away from anybody.`,
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
			return p.define(cmd, cli.Word(group)+"  "+most+" per customer", func(ctx context.Context, tx pgx.Tx) (outbox.Receipt, error) {
				return jobs.DefineLimit(ctx, tx, group, limit)
			})
		},
	}
	cmd.Flags().StringVar(&group, "group", "", "the group's id, your own text")
	cmd.Flags().StringVar(&most, "per-customer", "", "the sum of the quantities, or unlimited")
	cli.Require(cmd, "group", "per-customer")
	return cmd
}

// define makes something at once, in a transaction of its own, and shows its receipt.
func (p *program) define(cmd *cobra.Command, text string, do func(context.Context, pgx.Tx) (outbox.Receipt, error)) error {
	ctx := cmd.Context()
	pool, err := p.connect(ctx)
	if err != nil {
		return err
	}
	defer pool.Close()
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
