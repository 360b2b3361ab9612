package main

import (
	"context"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/spf13/cobra"

	"github.com/lastseat/lastseat/internal/cli"
)

// expiring holds the flags of what expires.
type expiring struct {
	in time.Duration
	at timeFlag
}

func (e *expiring) flags(cmd *cobra.Command, in, at string) {
	cmd.Flags().DurationVar(&e.in, "expires-in", 0, in)
	cmd.Flags().Var(&e.at, "expires-at", at+": 2026-11-23T12:00:00Z")
	cmd.MarkFlagsMutuallyExclusive("expires-in", "expires-at")
}

// check finds usage errors that cobra can't find.
func (e *expiring) check(cmd *cobra.Command) error {
	if e.in <= 0 && cmd.Flags().Changed("expires-in") {
		return cli.Usage("--expires-in is %v: give a time longer than 0s", e.in)
	}
	return nil
}

// time is when it expires; zero means that no time is given. --expires-in counts from the database's clock, because the
// database decides what has expired.
func (e *expiring) time(ctx context.Context, tx pgx.Tx) (at time.Time, err error) {
	if e.in <= 0 {
		return e.at.at, nil
	}
	if err = tx.QueryRow(ctx, `SELECT now() + $1::interval`, e.in).Scan(&at); err != nil {
		return at, fmt.Errorf("ask for the time: %w", err)
	}
	return at.UTC(), nil
}
