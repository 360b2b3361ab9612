package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/spf13/cobra"

	"github.com/lastseat/lastseat/internal/cli"
	"github.com/lastseat/lastseat/internal/config"
	"github.com/lastseat/lastseat/jobs"
	"github.com/lastseat/lastseat/outbox"
)

const (
	crashTransfers = 20_000
	crashAccounts  = 50
	crashKills     = 3
)

func (p *program) crashCommand() *cobra.Command {
	return &cobra.Command{
		Use:     "crash",
		Short:   "Kill the worker while it works, and prove that nothing is lost or done twice",
		Example: "  worker demo crash",
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return p.withDemoDatabase(cmd.Context(), p.crash)
		},
	}
}

func (p *program) crash(ctx context.Context, loaded config.Config, pool *pgxpool.Pool) error {
	p.say("1. %d transfers among %d accounts, of which none may go below zero: the order decides what is refused.",
		crashTransfers, crashAccounts)
	want, err := crashRequests(ctx, pool)
	if err != nil {
		return err
	}
	p.say("\n2. A worker settles them, in small batches, and is killed with SIGKILL. Each time another one is started.")
	if err := p.killAndGoOn(ctx, loaded.DatabaseURL, pool); err != nil {
		return err
	}
	p.say("\n3. The proof. The balances, beside those of the same transfers done one after the other in memory:")
	rows, err := pool.Query(ctx, `SELECT id, balance FROM lastseat.accounts`)
	if err != nil {
		return err
	}
	var id string
	var balance int64
	if _, err := pgx.ForEachRow(rows, []any{&id, &balance}, func() error {
		if balance != want[id] {
			return &cli.Error{Code: cli.ExitViolation, Err: fmt.Errorf("the balance of %s is %d, and should be %d", id, balance,
				want[id])}
		}
		return nil
	}); err != nil {
		return err
	}
	p.say("   %d of %d are equal.\n", len(want), len(want))
	return p.audit(ctx, pool, config.Config{}, auditOptions{})
}

// crashRequests asks for the transfers and returns the balances that they lead to when they are taken in their order.
func crashRequests(ctx context.Context, pool *pgxpool.Pool) (map[string]int64, error) {
	balances := map[string]int64{"bank": 0}
	account := func(i int) string { return fmt.Sprintf("account:%02d", i%crashAccounts) }
	err := pgx.BeginFunc(ctx, pool, func(tx pgx.Tx) error {
		if _, err := jobs.OpenAccount(ctx, tx, jobs.Account{ID: "bank", Currency: "EUR"}); err != nil {
			return err
		}
		for i := range crashAccounts {
			if _, err := jobs.OpenAccount(ctx, tx, jobs.Account{ID: account(i), Currency: "EUR",
				OverdraftLimit: new(int64)}); err != nil {
				return err
			}
			balances[account(i)] = 0
		}
		return nil
	})
	requests := make([]outbox.Request, 0, 1000)
	for i := 0; i < crashTransfers && err == nil; i++ {
		transfer := jobs.Transfer{From: account(i * 7), To: account(i*13 + 1), Amount: int64(i*31%97 + 1), Currency: "EUR"}
		if i%5 == 0 || transfer.From == transfer.To {
			transfer.From = "bank"
		}
		if transfer.From == "bank" || balances[transfer.From] >= transfer.Amount {
			balances[transfer.From] -= transfer.Amount
			balances[transfer.To] += transfer.Amount
		}
		requests = append(requests, outbox.Request{Key: fmt.Sprintf("transfer-%05d", i), Args: transfer})
		if len(requests) == cap(requests) {
			_, err = outbox.EnqueueMany(ctx, pool, requests)
			requests = requests[:0]
		}
	}
	return balances, err
}

// killAndGoOn drains with workers of their own processes, all but the last of which are killed.
func (p *program) killAndGoOn(ctx context.Context, databaseURL string, pool *pgxpool.Pool) error {
	self, err := os.Executable()
	if err != nil {
		return err
	}
	for kills := 0; ; kills++ {
		worker := exec.CommandContext(ctx, self, "run", "--drain")
		worker.Env = []string{"DATABASE_URL=" + databaseURL, "LASTSEAT_BATCH=100", "LASTSEAT_LOG_LEVEL=error"}
		worker.Stderr = p.streams.Err
		began := time.Now()
		had, err := settledRequests(ctx, pool)
		if err != nil {
			return err
		}
		if err := worker.Start(); err != nil {
			return err
		}
		if kills == crashKills {
			err := worker.Wait()
			p.say("   the last worker settled the rest in %v", time.Since(began).Round(time.Millisecond))
			return err
		}
		var first time.Duration
		for n := had; n < (kills+1)*crashTransfers/(crashKills+2); time.Sleep(time.Millisecond) {
			if n, err = settledRequests(ctx, pool); err != nil {
				return errors.Join(err, worker.Process.Kill())
			}
			if n > had && first == 0 {
				first = time.Since(began)
			}
		}
		err = worker.Process.Kill()
		_ = worker.Wait() // it was killed
		if err != nil {
			return err
		}
		p.say("   started, at work after %v; killed with about %d requests settled", first.Round(time.Millisecond),
			(kills+1)*crashTransfers/(crashKills+2))
	}
}

func settledRequests(ctx context.Context, pool *pgxpool.Pool) (n int, err error) {
	err = pool.QueryRow(ctx, `SELECT count(*) FROM lastseat.requests WHERE status <> 'pending'`).Scan(&n)
	return n, err
}
