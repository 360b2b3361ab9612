package outbox_test

import (
	"context"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/lastseat/lastseat/internal/testdb"
	"github.com/lastseat/lastseat/outbox"
)

// A consumer with a database of its own notes a mail for each outcome. The note and the cursor are one commit, so each
// outcome has one, whatever crashes.
func ExampleFollow() {
	pool, done := club()
	defer done()
	shop, closeShop := shopDatabase()
	defer closeShop()

	kinds := &outbox.Kinds{}
	outbox.Register(kinds, addPoints)
	ask(pool, "order-1", AddPoints{Customer: "ada", Points: 60})
	ask(pool, "order-2", AddPoints{Customer: "ada", Points: -5})
	if err := outbox.NewWorker(pool, kinds, outbox.Settings{}).Drain(context.Background()); err != nil {
		panic(err)
	}

	ctx, stop := context.WithCancel(context.Background())
	ended := make(chan error)
	go func() {
		ended <- outbox.Follow(ctx, pool, "mails", noteMails, outbox.FollowOptions{Into: shop})
	}()
	for mails(shop) < 2 {
		time.Sleep(10 * time.Millisecond)
	}
	stop()
	if err := <-ended; err != nil {
		panic(err)
	}
	// Output:
	// order-1 applied added
	// order-2 rejected not_positive
}

// noteMails works in a transaction of the consumer's database.
func noteMails(ctx context.Context, tx pgx.Tx, outcomes []outbox.Outcome) error {
	for _, o := range outcomes {
		fmt.Println(o.Key, o.Status, o.Code)
		if _, err := tx.Exec(ctx, `INSERT INTO mails (about) VALUES ($1)`, o.Key); err != nil {
			return err // nothing is committed, and Follow returns the error
		}
	}
	return nil
}

func mails(shop *pgxpool.Pool) (n int) {
	if err := shop.QueryRow(context.Background(), `SELECT count(*) FROM mails`).Scan(&n); err != nil {
		panic(err)
	}
	return n
}

// shopDatabase is the consumer's own, with the table of the cursors.
func shopDatabase() (pool *pgxpool.Pool, done func()) {
	url, drop := testdb.ForExample()
	pool, err := pgxpool.New(context.Background(), url)
	if err == nil {
		_, err = pool.Exec(context.Background(), outbox.FollowTable+`; CREATE TABLE mails (about text)`)
	}
	if err != nil {
		panic(err)
	}
	return pool, func() { pool.Close(); drop() }
}
