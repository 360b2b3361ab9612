// Package loyalty gives points for orders. It is a complete example of a kind of request of your own on Lastseat.
package loyalty

import (
	"context"
	"errors"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/lastseat/lastseat/outbox"
)

// Schema creates the service's own tables.
const Schema = `
	CREATE TABLE orders  (id text PRIMARY KEY, customer text NOT NULL, cents bigint NOT NULL);
	CREATE TABLE members (customer text PRIMARY KEY, points bigint NOT NULL CHECK (points >= 0));`

// AddPoints adds points, or takes some back if Points is negative. Its fields are the arguments of the request.
type AddPoints struct {
	Customer string `json:"customer"`
	Points   int64  `json:"points"`
}

// Kind is the name under which the handler is registered.
func (AddPoints) Kind() string { return "loyalty.add_points" }

// Queue names a queue of their own, so that these requests are settled apart from payments and seats.
func (AddPoints) Queue() string { return "loyalty" }

// PlaceOrder is the business write: the order and the request for its points are one transaction, both or neither.
func PlaceOrder(ctx context.Context, pool *pgxpool.Pool, id, customer string, cents int64) error {
	return pgx.BeginFunc(ctx, pool, func(tx pgx.Tx) error {
		if _, err := tx.Exec(ctx, `INSERT INTO orders VALUES ($1, $2, $3)`, id, customer, cents); err != nil {
			return err
		}
		_, err := outbox.Enqueue(ctx, tx, "points:"+id, AddPoints{Customer: customer, Points: cents / 100})
		return err
	})
}

// addPoints is the handler. It takes effect once for each request, in order. Its writes and its outcome are one commit.
func addPoints(ctx context.Context, tx pgx.Tx, args AddPoints) (outbox.Result, error) {
	var points int64
	err := tx.QueryRow(ctx, `SELECT points FROM members WHERE customer = $1 FOR UPDATE`, args.Customer).Scan(&points)
	switch {
	case errors.Is(err, pgx.ErrNoRows):
		return outbox.Reject("no_member", nil), nil // a refusal is an outcome: never tried again
	case err != nil:
		return outbox.Result{}, err // the lane tries it again
	case points+args.Points < 0:
		return outbox.Reject("too_few_points", map[string]int64{"points": points}), nil
	}
	points += args.Points
	if _, err := tx.Exec(ctx, `UPDATE members SET points = $2 WHERE customer = $1`, args.Customer, points); err != nil {
		return outbox.Result{}, err
	}
	return outbox.Result{Status: outbox.Applied, Code: "added", Detail: map[string]int64{"points": points}}, nil
}

// NewWorker makes a worker. Run it in the service or in a process of its own; any number may run.
func NewWorker(pool *pgxpool.Pool) *outbox.Worker {
	kinds := &outbox.Kinds{}
	outbox.Register(kinds, addPoints, outbox.OrderBy("customer"))
	return outbox.NewWorker(pool, kinds, outbox.Settings{Queue: AddPoints{}.Queue()})
}
