// Command go-database-sql writes an order and asks for its payment in one transaction, with database/sql.
package main

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"os"
	"time"

	"github.com/jackc/pgx/v5/pgconn"
	_ "github.com/jackc/pgx/v5/stdlib" // the driver "pgx"
)

func main() {
	if err := run(context.Background()); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func run(ctx context.Context) error {
	db, err := sql.Open("pgx", os.Getenv("DATABASE_URL"))
	if err != nil {
		return err
	}
	defer func() { _ = db.Close() }()

	tx, err := order(ctx, db, "1042", "12.50", 1250)
	if err != nil {
		return err
	}
	if err := tx.Commit(); err != nil {
		return err
	}
	if tx, err = order(ctx, db, "1043", "99.00", 9900); err != nil {
		return err
	}
	if err := tx.Rollback(); err != nil {
		return err
	}

	status, code := "pending", ""
	for ; status == "pending"; time.Sleep(100 * time.Millisecond) {
		row := db.QueryRowContext(ctx, `SELECT status, coalesce(code, '') FROM lastseat.outcome($1)`, "order-1042")
		if err := row.Scan(&status, &code); err != nil {
			return err
		}
	}
	fmt.Println("committed:", status, code)
	var n int
	if err := db.QueryRowContext(ctx, `SELECT count(*) FROM lastseat.outcome($1)`, "order-1043").Scan(&n); err != nil {
		return err
	}
	fmt.Println("rolled back:", n, "requests")

	_, err = db.ExecContext(ctx, `SELECT lastseat.transfer('order-1042', 'customer:7', 'shop', 1, 'EUR')`)
	if refused := (*pgconn.PgError)(nil); !errors.As(err, &refused) || refused.Code != "LS001" {
		return fmt.Errorf("the key was used for another amount: %w", err)
	}
	return nil
}

// order begins a transaction, writes the order in it, and returns it.
func order(ctx context.Context, db *sql.DB, number, total string, cents int64) (*sql.Tx, error) {
	tx, err := db.BeginTx(ctx, nil)
	if err != nil {
		return nil, err
	}
	if _, err = tx.ExecContext(ctx, `INSERT INTO shop.orders (id, total) VALUES ($1, $2)`, number, total); err == nil {
		_, err = tx.ExecContext(ctx, `SELECT key, status, duplicate
			FROM lastseat.transfer($1, 'customer:7', 'shop', amount => $2, currency => 'EUR')`, "order-"+number, cents)
	}
	if err != nil {
		return nil, errors.Join(err, tx.Rollback())
	}
	return tx, nil
}
