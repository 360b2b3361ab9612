// Command go-river writes an order and asks for its payment in one transaction, with a River client that knows only the
// shape of a job of Lastseat. Nobody checks the arguments here. The worker checks them when it claims the job, and if
// they are wrong the outcome is rejected, invalid_args.
package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/riverqueue/river"
	"github.com/riverqueue/river/riverdriver/riverpgxv5"
)

// transfer are the arguments of a payment.transfer.
type transfer struct {
	Key      string `json:"key"`
	From     string `json:"from"`
	To       string `json:"to"`
	Amount   int64  `json:"amount"` // minor units
	Currency string `json:"currency"`
}

// Kind implements river.JobArgs.
func (transfer) Kind() string { return "payment.transfer" }

// InsertOpts implements river.JobArgsWithInsertOpts.
func (transfer) InsertOpts() river.InsertOpts { return river.InsertOpts{Queue: "lastseat"} }

func main() {
	if err := run(context.Background()); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func run(ctx context.Context) error {
	db, err := pgxpool.New(ctx, os.Getenv("DATABASE_URL"))
	if err != nil {
		return err
	}
	defer db.Close()
	client, err := river.NewClient(riverpgxv5.New(db), &river.Config{Schema: "lastseat"})
	if err != nil {
		return err
	}

	order := func(tx pgx.Tx, number, total string, cents int64) error {
		if _, err := tx.Exec(ctx, `INSERT INTO shop.orders (id, total) VALUES ($1, $2)`, number, total); err != nil {
			return err
		}
		args := transfer{Key: "order-" + number, From: "customer:7", To: "shop", Amount: cents, Currency: "EUR"}
		_, err := client.InsertTx(ctx, tx, args, nil)
		return err
	}
	if err := pgx.BeginFunc(ctx, db, func(tx pgx.Tx) error { return order(tx, "1042", "12.50", 1250) }); err != nil {
		return err
	}
	noStock := errors.New("no stock")
	err = pgx.BeginFunc(ctx, db, func(tx pgx.Tx) error {
		if err := order(tx, "1043", "99.00", 9900); err != nil {
			return err
		}
		return noStock // rolls back
	})
	if !errors.Is(err, noStock) {
		return err
	}

	// The worker records the request when it claims the job. Before that there is no row.
	status, code := "pending", ""
	for ; status == "pending"; time.Sleep(100 * time.Millisecond) {
		row := db.QueryRow(ctx, `SELECT status, coalesce(code, '') FROM lastseat.outcome($1)`, "order-1042")
		if err := row.Scan(&status, &code); err != nil && !errors.Is(err, pgx.ErrNoRows) {
			return err
		}
	}
	fmt.Println("committed:", status, code)
	var n int
	if err := db.QueryRow(ctx, `SELECT count(*) FROM lastseat.outcome($1)`, "order-1043").Scan(&n); err != nil {
		return err
	}
	fmt.Println("rolled back:", n, "requests")
	return nil
}
