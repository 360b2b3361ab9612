package txn_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/lastseat/lastseat/internal/testdb"
	"github.com/lastseat/lastseat/outbox"
	"github.com/lastseat/lastseat/txn"
)

// shop is a migrated database with a table of a service.
func shop() (pool *pgxpool.Pool, done func()) {
	ctx := context.Background()
	url, drop := testdb.ForExample()
	pool, err := pgxpool.New(ctx, url)
	if err == nil {
		_, err = pool.Exec(ctx, `
			CREATE TABLE public.products (id int PRIMARY KEY, name text, stock int, version int DEFAULT 1);
			CREATE TABLE public.visits (product int REFERENCES products);
			INSERT INTO public.products VALUES (1, 'lamp', 5), (2, 'chair', 1), (3, 'table', 2)`)
	}
	if err != nil {
		panic(err)
	}
	return pool, func() { pool.Close(); drop() }
}

// The business write and the request are one commit. Two who buy the last chair at once read the same stock; one of
// them is repeated, and finds it sold.
func ExampleRun() {
	pool, done := shop()
	defer done()

	soldOut := errors.New("sold out")
	buy := func(ctx context.Context, tx pgx.Tx) error {
		var stock int
		if err := tx.QueryRow(ctx, `SELECT stock FROM products WHERE id = 2`).Scan(&stock); err != nil {
			return err
		}
		if stock == 0 {
			return soldOut
		}
		if _, err := tx.Exec(ctx, `UPDATE products SET stock = $1 WHERE id = 2`, stock-1); err != nil {
			return err
		}
		_, err := outbox.Enqueue(ctx, tx, "order-1042", outbox.RawArgs{Of: "order.ship",
			JSON: json.RawMessage(`{"product": 2}`)})
		return err
	}

	options := txn.Options{Isolation: pgx.RepeatableRead}
	options.OnRetry = func(r txn.Retry) { fmt.Println("try", r.Attempt, "ran into another transaction") }
	first := true
	err := txn.Run(context.Background(), pool, options, func(ctx context.Context, tx pgx.Tx) error {
		if _, err := tx.Exec(ctx, `SELECT`); err != nil { // from here on, we see what is committed now
			return err
		}
		if first { // the other customer is quicker
			first = false
			if err := txn.Run(ctx, pool, txn.Options{}, buy); err != nil {
				return err
			}
		}
		return buy(ctx, tx)
	})
	fmt.Println(err, errors.Is(err, soldOut))
	// Output:
	// try 1 ran into another transaction
	// sold out true
}

// What may fail does so alone: a visit of an unknown product is not recorded, the sale is.
func ExampleNested() {
	pool, done := shop()
	defer done()

	err := txn.Run(context.Background(), pool, txn.Options{}, func(ctx context.Context, tx pgx.Tx) error {
		err := txn.Nested(ctx, tx, func(ctx context.Context, tx pgx.Tx) error {
			_, err := tx.Exec(ctx, `INSERT INTO visits VALUES (99)`)
			return err
		})
		if err != nil {
			fmt.Println(err)
		}
		var stock int
		err = tx.QueryRow(ctx, `UPDATE products SET stock = stock - 1 WHERE id = 1 RETURNING stock`).Scan(&stock)
		fmt.Println("lamps:", stock)
		return err
	})
	fmt.Println(err)
	// Output:
	// ERROR: insert or update on table "visits" violates foreign key constraint "visits_product_fkey" (SQLSTATE 23503)
	// lamps: 4
	// <nil>
}

// Two clerks opened the same form, with version 1 of the lamp in it. The second to save is told.
func ExampleExpectOne() {
	pool, done := shop()
	defer done()

	rename := func(name string, version int) error {
		return txn.Run(context.Background(), pool, txn.Options{}, func(ctx context.Context, tx pgx.Tx) error {
			const sql = `UPDATE products SET name = $1, version = version + 1 WHERE id = 1 AND version = $2`
			return txn.ExpectOne(ctx, tx, sql, name, version)
		})
	}
	fmt.Println(rename("desk lamp", 1))
	err := rename("floor lamp", 1)
	fmt.Println(err, errors.Is(err, txn.ErrStale))
	// Output:
	// <nil>
	// stale: the row has changed since it was read, or is gone true
}

// A cart is locked in the order of the key, whatever its own, and what somebody else is just buying is left out.
func ExampleLock() {
	pool, done := shop()
	defer done()

	products := pgx.Identifier{"products"}
	err := txn.Run(context.Background(), pool, txn.Options{}, func(ctx context.Context, other pgx.Tx) error {
		if _, err := txn.Lock(ctx, other, products, []int{2}, txn.Mode{}); err != nil {
			return err
		}
		return txn.Run(ctx, pool, txn.Options{}, func(ctx context.Context, tx pgx.Tx) error {
			cart := []int{3, 99, 2, 1}
			ids, err := txn.Lock(ctx, tx, products, cart, txn.Mode{Strength: txn.ForNoKeyUpdate, Wait: txn.SkipLocked})
			fmt.Println(ids, err)
			_, err = txn.Lock(ctx, tx, products, cart, txn.Mode{Wait: txn.NoWait})
			fmt.Println(errors.Is(err, txn.ErrLocked))
			return err
		})
	})
	fmt.Println(errors.Is(err, txn.ErrLocked))
	// Output:
	// [1 3] <nil>
	// true
	// true
}
