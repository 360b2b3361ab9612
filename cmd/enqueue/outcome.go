package main

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/spf13/cobra"

	"github.com/lastseat/lastseat/internal/cli"
	"github.com/lastseat/lastseat/outbox"
	"github.com/lastseat/lastseat/txn"
)

func (p *program) outcomeCommand() *cobra.Command {
	return &cobra.Command{
		Use:     "outcome KEY...",
		Short:   "Show the outcomes of requests",
		Example: "  enqueue outcome order-1042 order-1043 --output json",
		Args:    cobra.MinimumNArgs(1),
		RunE: func(cmd *cobra.Command, keys []string) error {
			pool, err := p.connect(cmd.Context())
			if err != nil {
				return err
			}
			defer closePool(pool)
			outcomes, err := outbox.Outcomes(cmd.Context(), pool, keys...)
			if err != nil {
				return err
			}
			if err := p.printAll(outcomes, false); err != nil {
				return err
			}
			found := make(map[string]bool)
			for i := range outcomes {
				found[outcomes[i].Key] = true
			}
			missing := slices.DeleteFunc(slices.Clone(keys), func(key string) bool { return found[key] })
			if len(missing) > 0 {
				return cli.BadData("no request has the key %s: check the key, it is compared to the letter",
					strings.Trim(fmt.Sprintf("%q", missing), "[]"))
			}
			return nil
		},
	}
}

func (p *program) waitCommand() *cobra.Command {
	var timeout time.Duration
	cmd := &cobra.Command{
		Use:   "wait KEY...",
		Short: "Wait until requests are settled, and show their outcomes",
		Long: `Wait until requests are settled, and show their outcomes.

The exit code is 0 if all were applied, 3 if one was rejected or failed, and 75 if one is still pending at the end of
--timeout.`,
		Example: "  enqueue wait order-1042 --timeout 30s",
		Args:    cobra.MinimumNArgs(1),
		RunE: func(cmd *cobra.Command, keys []string) error {
			if timeout <= 0 {
				return cli.Usage("--timeout is %v: longer than 0s; enqueue outcome does not wait", timeout)
			}
			p.patience = min(usualPatience, max(time.Second, timeout))
			pool, err := p.connect(cmd.Context())
			if err != nil {
				return err
			}
			defer closePool(pool)
			return p.await(cmd.Context(), pool, waiting{timeout, timeout}, false, keys...)
		},
	}
	cmd.Flags().DurationVar(&timeout, "timeout", 30*time.Second, "how long to wait")
	return cmd
}

// waiting is how long a command waits for outcomes: what the user has asked for, and what is left of it.
type waiting struct{ asked, left time.Duration }

// lastLook is how long a command that could not look within its time tries to look once.
const lastLook = time.Second

// await waits for outcomes and prints them; its error has the exit code that they ask for.
func (p *program) await(ctx context.Context, pool *pgxpool.Pool, timeout waiting, duplicate bool,
	keys ...string) error {
	limited, cancel := context.WithTimeout(ctx, timeout.left)
	defer cancel()
	outcomes, err := outbox.Wait(limited, pool, keys...)
	if limited.Err() != nil && len(outcomes) == 0 {
		// The time was over before it could look once. What is known is printed all the same.
		last, cancel := context.WithTimeout(ctx, lastLook)
		defer cancel()
		outcomes, _ = outbox.Outcomes(last, pool, keys...)
	}
	if err := p.printAll(outcomes, duplicate); err != nil {
		return err
	}
	if limited.Err() != nil && errors.Is(err, limited.Err()) {
		return &cli.Error{Code: cli.ExitUnknown, Err: fmt.Errorf("not settled after %v: ask again with the same key; "+
			"worker doctor tells whether one is at work", timeout.asked)}
	}
	if err != nil {
		return err
	}
	for i := range outcomes {
		if outcomes[i].Status != outbox.Applied {
			return &cli.Error{Code: cli.ExitRefused}
		}
	}
	return nil
}

func (p *program) printAll(outcomes []outbox.Outcome, duplicate bool) error {
	for i := range outcomes {
		if err := p.output.PrintOutcome(p.streams.Out, outcomes[i], duplicate); err != nil {
			return err
		}
	}
	return nil
}

func (p *program) retryCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "retry KEY...",
		Short: "Run failed requests again",
		Long: `Run failed requests again under the same keys. If one of them can't be run again, none is.

A request fails when its job has used up its attempts, or was cancelled. A rejected request stays rejected: make a new
one with a new key.`,
		Example: "  enqueue retry order-1042",
		Args:    cobra.MinimumNArgs(1),
		RunE: func(cmd *cobra.Command, keys []string) error {
			return p.retry(cmd.Context(), keys)
		},
	}
}

func (p *program) retry(ctx context.Context, keys []string) error {
	pool, err := p.connect(ctx)
	if err != nil {
		return err
	}
	defer closePool(pool)
	var outcomes []outbox.Outcome
	var pending map[string]bool // before this call
	err = txn.Run(ctx, pool, txn.Options{}, func(ctx context.Context, tx pgx.Tx) error {
		pending = make(map[string]bool)
		for _, key := range keys {
			receipt, err := outbox.Retry(ctx, tx, key)
			if err != nil {
				return err
			}
			pending[key] = receipt.Duplicate
		}
		outcomes, err = outbox.Outcomes(ctx, tx, keys...)
		return err
	})
	if err != nil {
		return err
	}
	for i := range outcomes {
		if err := p.output.PrintOutcome(p.streams.Out, outcomes[i], pending[outcomes[i].Key]); err != nil {
			return err
		}
	}
	return nil
}
