package loyalty

import (
	"context"
	"os"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/lastseat/lastseat/outbox"
	"github.com/lastseat/lastseat/schema"
)

// From the business write to the outcome. DATABASE_URL names an empty database; `make test` of Lastseat gives it one.
func TestPoints(t *testing.T) {
	url := os.Getenv("DATABASE_URL")
	if url == "" {
		t.Skip("DATABASE_URL is not set: an empty database, owned by its user")
	}
	ctx := t.Context()
	if _, err := schema.Up(ctx, url, false); err != nil { // what `worker migrate up` does
		t.Fatal(err)
	}
	pool, err := pgxpool.New(ctx, url)
	if err != nil {
		t.Fatal(err)
	}
	defer pool.Close()
	if _, err := pool.Exec(ctx, Schema+`INSERT INTO members VALUES ('ada', 0)`); err != nil {
		t.Fatal(err)
	}

	running, stop := context.WithCancel(ctx)
	worker, done := NewWorker(pool), make(chan error)
	go func() { done <- worker.Run(running) }()

	for _, order := range []struct {
		id, customer string
		cents        int64
	}{{"order-1", "ada", 1250}, {"order-2", "ada", 700}, {"order-3", "bob", 900}} {
		if err := PlaceOrder(ctx, pool, order.id, order.customer, order.cents); err != nil {
			t.Fatal(err)
		}
	}
	if err := PlaceOrder(ctx, pool, "order-1", "ada", 1250); err == nil {
		t.Error("the same order, placed twice")
	}
	for range 2 { // asked for twice, taken once
		if err := pgx.BeginFunc(ctx, pool, func(tx pgx.Tx) error {
			_, err := outbox.Enqueue(ctx, tx, "voucher-1", AddPoints{Customer: "ada", Points: -15})
			return err
		}); err != nil {
			t.Fatal(err)
		}
	}
	if err := pgx.BeginFunc(ctx, pool, func(tx pgx.Tx) error {
		_, err := outbox.Enqueue(ctx, tx, "voucher-2", AddPoints{Customer: "ada", Points: -15})
		return err
	}); err != nil {
		t.Fatal(err)
	}

	wait, cancel := context.WithTimeout(ctx, 30*time.Second)
	defer cancel()
	outcomes, err := outbox.Wait(wait, pool,
		"points:order-1", "points:order-2", "points:order-3", "voucher-1", "voucher-2")
	if err != nil {
		t.Fatal(err)
	}
	for i, want := range []string{
		"applied added", "applied added", "rejected no_member", "applied added", "rejected too_few_points",
	} {
		if got := string(outcomes[i].Status) + " " + outcomes[i].Code; got != want {
			t.Errorf("%s: %s, want %s", outcomes[i].Key, got, want)
		}
	}
	var points int64
	err = pool.QueryRow(ctx, `SELECT points FROM members WHERE customer = 'ada'`).Scan(&points)
	if err != nil || points != 12+7-15 {
		t.Errorf("%d points, %v, want 4", points, err)
	}
	stop()
	if err := <-done; err != nil {
		t.Error(err)
	}
}
