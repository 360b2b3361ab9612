package main

import (
	"context"

	"github.com/jackc/pgx/v5"
	"github.com/spf13/cobra"

	"github.com/lastseat/lastseat/internal/cli"
	"github.com/lastseat/lastseat/internal/money"
	"github.com/lastseat/lastseat/jobs"
	"github.com/lastseat/lastseat/outbox"
)

func (p *program) accountCommand() *cobra.Command {
	var account jobs.Account
	var overdraft string
	cmd := &cobra.Command{
		Use:     "account --id ID --currency CODE [--overdraft AMOUNT|unlimited]",
		Short:   "Open an account",
		Example: "  enqueue account --id customer:7 --currency EUR --overdraft 100.00",
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := p.know(cmd, account.Currency); err != nil {
				return err
			}
			limit, err := parseOverdraft(overdraft, account.Currency)
			if err != nil {
				return err
			}
			account.OverdraftLimit = limit
			return p.define(cmd, cli.Word(account.ID)+"  open", func(ctx context.Context, tx pgx.Tx) (outbox.Receipt, error) {
				return jobs.OpenAccount(ctx, tx, account)
			})
		},
	}
	cmd.Flags().StringVar(&account.ID, "id", "", "the account's id, any text of 1 to 200 characters")
	cmd.Flags().StringVar(&account.Currency, "currency", "", "its code, such as EUR")
	cmd.Flags().StringVar(&overdraft, "overdraft", "0", "how far below zero the balance may go, or unlimited")
	cli.Require(cmd, "id", "currency")
	return cmd
}

// parseOverdraft returns minor units; nil is without bound.
func parseOverdraft(text, currency string) (*int64, error) {
	if _, err := money.Digits(currency); err != nil {
		return nil, cli.BadData("--currency: %w", err)
	}
	if text == "unlimited" {
		return nil, nil
	}
	limit, err := money.Parse(text, currency)
	if err != nil {
		return nil, cli.BadData("--overdraft: %w", err)
	}
	if limit < 0 {
		return nil, cli.BadData("--overdraft is %s: 0 or more, or unlimited", text)
	}
	return &limit, nil
}
