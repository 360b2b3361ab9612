package main

import (
	"fmt"
	"math"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/spf13/cobra"

	"github.com/lastseat/lastseat/internal/cli"
	"github.com/lastseat/lastseat/internal/money"
	"github.com/lastseat/lastseat/jobs"
)

func (p *program) balanceCommand() *cobra.Command {
	return &cobra.Command{
		Use:     "balance ACCOUNT",
		Short:   "Show what an account has, holds and can spend",
		Example: "  enqueue balance customer:7",
		Args:    cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			return p.look(cmd, func(pool *pgxpool.Pool) error {
				balance, err := jobs.BalanceOf(cmd.Context(), pool, args[0])
				if err != nil {
					return err
				}
				if err := know(cmd.Context(), pool, balance.Currency); err != nil {
					return err
				}
				shown := shownBalance{Balance: balance, Available: available(balance)}
				return p.output.Print(p.streams.Out, shown, shown.String())
			})
		},
	}
}

func (p *program) paymentCommand() *cobra.Command {
	return &cobra.Command{
		Use:     "payment ID",
		Short:   "Show a payment's status and amounts",
		Example: "  enqueue payment p-1045",
		Args:    cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			return p.look(cmd, func(pool *pgxpool.Pool) error {
				payment, err := jobs.PaymentOf(cmd.Context(), pool, args[0])
				if err != nil {
					return err
				}
				if err := know(cmd.Context(), pool, payment.Currency); err != nil {
					return err
				}
				return p.output.Print(p.streams.Out, payment, describePayment(payment))
			})
		},
	}
}

// look connects for a command that only reads.
func (p *program) look(cmd *cobra.Command, do func(*pgxpool.Pool) error) error {
	pool, err := p.connect(cmd.Context())
	if err != nil {
		return err
	}
	defer closePool(pool)
	return do(pool)
}

type shownBalance struct {
	jobs.Balance
	Available *int64 `json:"available"` // nil: without bound
}

// available is what a request may take: balance - held + overdraft limit. A sum beyond 64 bits is clipped, for no
// amount is larger.
func available(b jobs.Balance) *int64 {
	if b.OverdraftLimit == nil {
		return nil
	}
	free := b.Balance - b.Held // the database sees to it that this fits
	if free > math.MaxInt64-*b.OverdraftLimit {
		free = math.MaxInt64
	} else {
		free += *b.OverdraftLimit
	}
	return &free
}

func (b shownBalance) String() string {
	limit := func(amount *int64) string {
		if amount == nil {
			return "unlimited"
		}
		return money.Format(*amount, b.Currency)
	}
	return fmt.Sprintf("%s  %s %s  held %s  available %s  overdraft %s", cli.Word(b.ID), money.Format(b.Balance.Balance,
		b.Currency), b.Currency,
		money.Format(b.Held, b.Currency), limit(b.Available), limit(b.OverdraftLimit))
}

func describePayment(p jobs.Payment) string {
	text := fmt.Sprintf("%s  %s  %s %s from %s to %s  captured %s  refunded %s", cli.Word(p.ID), p.Status,
		money.Format(p.Amount, p.Currency), p.Currency,
		cli.Word(p.From), cli.Word(p.To), money.Format(p.Captured, p.Currency), money.Format(p.Refunded, p.Currency))
	if p.Status == "pending" || p.Status == "authorized" {
		text += "  expires " + p.ExpiresAt.Format(time.RFC3339)
	}
	return text
}
