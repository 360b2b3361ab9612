package main

import (
	"context"
	"errors"
	"fmt"
	"regexp"

	"github.com/jackc/pgx/v5"
	"github.com/spf13/cobra"

	"github.com/lastseat/lastseat/internal/cli"
	"github.com/lastseat/lastseat/internal/money"
	"github.com/lastseat/lastseat/jobs"
	"github.com/lastseat/lastseat/outbox"
)

func (p *program) currencyCommand() *cobra.Command {
	var code string
	var digits int
	cmd := &cobra.Command{
		Use:   "currency --code CODE --digits N",
		Short: "Define a currency that ISO 4217 does not list",
		Long: `Define a currency that ISO 4217 does not list: points, tokens, a code that is newer than this program. One that
was withdrawn is in use again.

The digits never change, since amounts are stored in the currency's smallest unit.`,
		Example: "  enqueue currency --code POINTS --digits 0",
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return p.define(cmd, fmt.Sprintf("%s  %d digits", cli.Word(code), digits), func(ctx context.Context,
				tx pgx.Tx) (outbox.Receipt, error) {
				return jobs.DefineCurrency(ctx, tx, code, digits)
			})
		},
	}
	cmd.Flags().StringVar(&code, "code", "", "3 to 12 capital letters and digits, a letter first")
	cmd.Flags().IntVar(&digits, "digits", 0, "how many decimals an amount has, 0 to 18")
	cli.Require(cmd, "code", "digits")
	return cmd
}

// defined is the form of a code that may have been defined.
var defined = regexp.MustCompile(`^[A-Z][A-Z0-9]{2,11}$`)

// know makes a currency known that was defined in the database, so that its amounts can be read and written. Whether
// there is one of that code, money.Digits tells.
func know(ctx context.Context, db outbox.Querier, code string) error {
	if _, err := money.Digits(code); err == nil || !defined.MatchString(code) {
		return nil
	}
	digits, err := jobs.DigitsOf(ctx, db, code)
	switch {
	case err == nil:
		money.Define(code, digits)
	case errors.Is(err, pgx.ErrNoRows):
		err = nil
	}
	return err
}

// know is for a command that has not connected yet.
func (p *program) know(cmd *cobra.Command, code string) error {
	if _, err := money.Digits(code); err == nil || !defined.MatchString(code) {
		return nil
	}
	pool, err := p.connect(cmd.Context())
	if err != nil {
		return err
	}
	defer closePool(pool)
	return know(cmd.Context(), pool, code)
}
