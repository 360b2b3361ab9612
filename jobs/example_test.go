package jobs_test

import (
	"context"
	"fmt"
	"log/slog"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/lastseat/lastseat/internal/testdb"
	"github.com/lastseat/lastseat/jobs"
	"github.com/lastseat/lastseat/outbox"
)

// A shop takes an order and asks for its payment in one transaction; a worker, usually another process, settles it.
func Example() {
	ctx := context.Background()
	url, drop := testdb.ForExample() // a Postgres that schema.Up has migrated
	defer drop()
	pool, err := pgxpool.New(ctx, url)
	if err != nil {
		panic(err)
	}
	defer pool.Close()
	if _, err := pool.Exec(ctx, `CREATE TABLE public.orders (id int, total numeric)`); err != nil {
		panic(err)
	}

	// Once: the accounts.
	overdraft := int64(100_00)
	err = pgx.BeginFunc(ctx, pool, func(tx pgx.Tx) error {
		for _, account := range []jobs.Account{
			{ID: "customer:7", Currency: "EUR", OverdraftLimit: &overdraft},
			{ID: "shop", Currency: "EUR", OverdraftLimit: new(int64)},
		} {
			if _, err := jobs.OpenAccount(ctx, tx, account); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		panic(err)
	}

	// In the service.
	err = pgx.BeginFunc(ctx, pool, func(tx pgx.Tx) error {
		if _, err := tx.Exec(ctx, `INSERT INTO orders (id, total) VALUES (1042, 12.50)`); err != nil {
			return err
		}
		_, err := outbox.Enqueue(ctx, tx, "order-1042", jobs.Transfer{
			From: "customer:7", To: "shop", Amount: 1250, Currency: "EUR", // minor units: 12.50 EUR
		})
		return err
	})
	if err != nil {
		panic(err)
	}

	// In the worker: what `worker run` does.
	kinds := &outbox.Kinds{}
	jobs.Register(kinds)
	worker := outbox.NewWorker(pool, kinds, outbox.Settings{Logger: slog.New(slog.DiscardHandler)})
	if err := worker.Drain(ctx); err != nil {
		panic(err)
	}

	// Back in the service.
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	outcomes, err := outbox.Wait(ctx, pool, "order-1042")
	if err != nil {
		panic(err)
	}
	fmt.Println(outcomes[0].Status, outcomes[0].Code)
	// Output: applied transferred
}
