package main

import (
	"bytes"
	"context"
	_ "embed"
	"errors"
	"fmt"
	"io"
	"os"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/spf13/cobra"

	"github.com/lastseat/lastseat/internal/cli"
	"github.com/lastseat/lastseat/internal/config"
	"github.com/lastseat/lastseat/internal/importfile"
	"github.com/lastseat/lastseat/internal/localpg"
	"github.com/lastseat/lastseat/internal/money"
	"github.com/lastseat/lastseat/jobs"
	"github.com/lastseat/lastseat/outbox"
)

//go:embed sample.jsonl
var sample []byte

func (p *program) demoCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "demo",
		Short: "Show a service, its requests, a worker, and the proof",
		Long: `Show what Lastseat does.

A shop writes orders and requests payments in the same transactions, a worker settles them, and the audit proves the
result.

The demo makes a database of its own and drops it at the end. The server is that of DATABASE_URL or, if that is not
set, a private Postgres.`,
		Example: "  worker demo",
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return p.withDemoDatabase(cmd.Context(), p.demo)
		},
	}
	cmd.AddCommand(p.crashCommand())
	return cmd
}

// withDemoDatabase gives do a database that nobody else uses.
func (p *program) withDemoDatabase(ctx context.Context, do func(context.Context, config.Config,
	*pgxpool.Pool) error) (err error) {
	loaded, err := config.Load(p.streams.Environ, false)
	if err != nil {
		return err
	}
	own := *p
	own.streams.Environ = []string{"LASTSEAT_LOG_LEVEL=warn"}
	if loaded.DatabaseURL == "" {
		return own.withDatabase(ctx, "", do)
	}
	pool, err := cli.Connect(ctx, loaded.DatabaseURL, "lastseat demo", 1)
	if err != nil {
		return err
	}
	defer pool.Close()
	name := fmt.Sprintf("lastseat_demo_%d_%d", os.Getpid(), time.Now().Unix())
	if _, err := pool.Exec(ctx, "CREATE DATABASE "+name); err != nil {
		return fmt.Errorf("make a database for the demo: %w", err)
	}
	defer func() {
		_, dropped := pool.Exec(context.WithoutCancel(ctx), "DROP DATABASE "+name+" WITH (FORCE)")
		err = errors.Join(err, dropped)
	}()
	own.streams.Environ = append(own.streams.Environ, "DATABASE_URL="+localpg.WithDatabase(loaded.DatabaseURL, name))
	return own.withDatabase(ctx, "", do)
}

func (p *program) demo(ctx context.Context, loaded config.Config, pool *pgxpool.Pool) error {
	p.say("\n1. A shop has its own table, and accounts to be paid from and to.\n")
	if err := p.demoAccounts(ctx, pool); err != nil {
		return err
	}
	p.say("\n2. For each order: BEGIN; INSERT INTO orders; SELECT lastseat.transfer(...); COMMIT.\n")
	keys, err := p.demoOrders(ctx, pool)
	if err != nil {
		return err
	}
	p.say("\n3. A worker settles what was asked for, in order, each once.\n")
	worker := p.newWorker(pool, loaded, watchers{})
	if err := worker.Drain(ctx); err != nil {
		return err
	}
	outcomes, err := outbox.Outcomes(ctx, pool, keys...)
	if err != nil {
		return err
	}
	for i := range outcomes {
		if err := p.output.PrintOutcome(p.streams.Out, outcomes[i], false); err != nil {
			return err
		}
	}
	if err := p.demoBalances(ctx, pool); err != nil {
		return err
	}
	p.say("\n4. The proof: worker audit.\n")
	if err := p.audit(ctx, pool, config.Config{}, auditOptions{}); err != nil {
		return err
	}
	p.say("\nThat is all. Next: worker dev, and the README.")
	return nil
}

// say prints a line of the story: on stdout for people, on stderr for a program that reads JSON from stdout.
func (p *program) say(format string, args ...any) {
	out := p.streams.Out
	if *p.output == "json" {
		out = p.streams.Err
	}
	_, _ = fmt.Fprintf(out, format+"\n", args...)
}

func (p *program) demoAccounts(ctx context.Context, pool *pgxpool.Pool) error {
	return pgx.BeginFunc(ctx, pool, func(tx pgx.Tx) error {
		if _, err := tx.Exec(ctx,
			`CREATE TABLE public.orders (id text, note text, ordered_at timestamptz DEFAULT now())`); err != nil {
			return err
		}
		for _, account := range []jobs.Account{
			{ID: "bank", Currency: "EUR"}, // unlimited: where money comes from
			{ID: "ada", Currency: "EUR", OverdraftLimit: new(int64)},
			{ID: "ben", Currency: "EUR", OverdraftLimit: new(int64)},
			{ID: "shop", Currency: "EUR", OverdraftLimit: new(int64)},
			{ID: "shop-us", Currency: "USD", OverdraftLimit: new(int64)},
		} {
			if _, err := jobs.OpenAccount(ctx, tx, account); err != nil {
				return err
			}
			p.say("   account %-8s in %s", account.ID, account.Currency)
		}
		return nil
	})
}

// demoOrders enqueues the sample, an order and a request in each transaction, and returns the keys.
func (p *program) demoOrders(ctx context.Context, pool *pgxpool.Pool) ([]string, error) {
	reader, err := importfile.NewReader(bytes.NewReader(sample), importfile.Options{})
	if err != nil {
		return nil, err
	}
	var keys []string
	for {
		record, err := reader.Next()
		if errors.Is(err, io.EOF) {
			return keys, nil
		}
		if err != nil {
			return nil, err
		}
		request := record.Request
		var receipt outbox.Receipt
		err = pgx.BeginFunc(ctx, pool, func(tx pgx.Tx) error {
			if _, err := tx.Exec(ctx, `INSERT INTO public.orders (id, note) VALUES ($1, $2)`, request.Key,
				string(request.Args)); err != nil {
				return err
			}
			receipts, err := outbox.EnqueueMany(ctx, tx, []outbox.Request{{Key: request.Key,
				Args: outbox.RawArgs{Of: request.Kind, JSON: request.Args}}})
			if err == nil {
				receipt = receipts[0]
			}
			return err
		})
		switch {
		case errors.Is(err, outbox.ErrKeyReused):
			p.say("   %-10s  refused, its order rolled back: %v", request.Key, err)
		case err != nil:
			return nil, err
		case receipt.Duplicate:
			p.say("   %-10s  a duplicate: asked for before, and %s", request.Key, receipt.Status)
		default:
			p.say("   %-10s  %s", request.Key, request.Args)
			keys = append(keys, request.Key)
		}
	}
}

func (p *program) demoBalances(ctx context.Context, pool *pgxpool.Pool) error {
	rows, err := pool.Query(ctx, `SELECT id, balance, currency FROM lastseat.accounts ORDER BY id`)
	if err != nil {
		return err
	}
	var id, currency string
	var balance int64
	_, err = pgx.ForEachRow(rows, []any{&id, &balance, &currency}, func() error {
		p.say("   %-8s %10s %s", id, money.Format(balance, currency), currency)
		return nil
	})
	return err
}
