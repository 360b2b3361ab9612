// Command go-pgx writes an order and asks for its payment in one transaction, with pgx. Package outbox does the same
// with Go's types.
package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
)

func main() {
	if err := run(context.Background()); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func run(ctx context.Context) error {
	db, err := pgx.Connect(ctx, os.Getenv("DATABASE_URL"))
	if err != nil {
		return err
	}
	defer func() { _ = db.Close(ctx) }()

	err = pgx.BeginFunc(ctx, db, func(tx pgx.Tx) error { return order(ctx, tx, "1042", "12.50", 1250) })
	if err != nil {
		return err
	}
	noStock := errors.New("no stock")
	err = pgx.BeginFunc(ctx, db, func(tx pgx.Tx) error {
		if err := order(ctx, tx, "1043", "99.00", 9900); err != nil {
			return err
		}
		return noStock // rolls back
	})
	if !errors.Is(err, noStock) {
		return err
	}

	status, code := "pending", ""
	for ; status == "pending"; time.Sleep(100 * time.Millisecond) {
		row := db.QueryRow(ctx, `SELECT status, coalesce(code, '') FROM lastseat.outcome($1)`, "order-1042")
		if err := row.Scan(&status, &code); err != nil {
			return err
		}
	}
	fmt.Println("committed:", status, code)
	var n int
	if err := db.QueryRow(ctx, `SELECT count(*) FROM lastseat.outcome($1)`, "order-1043").Scan(&n); err != nil {
		return err
	}
	fmt.Println("rolled back:", n, "requests")

	_, err = db.Exec(ctx, `SELECT lastseat.transfer('order-1042', 'customer:7', 'shop', 1, 'EUR')`)
	if refused := (*pgconn.PgError)(nil); !errors.As(err, &refused) || refused.Code != "LS001" {
		return fmt.Errorf("the key was used for another amount: %w", err)
	}
	return nil
}

func order(ctx context.Context, tx pgx.Tx, number, total string, cents int64) error {
	if _, err := tx.Exec(ctx, `INSERT INTO shop.orders (id, total) VALUES ($1, $2)`, number, total); err != nil {
		return err
	}
	_, err := tx.Exec(ctx, `SELECT key, status, duplicate
		FROM lastseat.transfer($1, 'customer:7', 'shop', amount => $2, currency => 'EUR')`, "order-"+number, cents)
	return err
}
