package outbox_test

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/lastseat/lastseat/internal/testdb"
	"github.com/lastseat/lastseat/outbox"
)

// AddPoints are the arguments of a kind of one's own.
type AddPoints struct {
	Key      string `json:"key,omitempty"` // of the request; filled in when it is settled
	Customer string `json:"customer"`
	Points   int64  `json:"points"`
}

func (AddPoints) Kind() string { return "loyalty.add_points" }

// Greet is another, in a queue of its own.
type Greet struct {
	Customer string `json:"customer"`
}

func (Greet) Kind() string  { return "loyalty.greet" }
func (Greet) Queue() string { return "letters" }

// addPoints is a handler: what it writes through tx, the follow-up that it asks for and the outcome that it returns
// are one commit.
func addPoints(ctx context.Context, tx pgx.Tx, args AddPoints) (outbox.Result, error) {
	if args.Points <= 0 {
		return outbox.Reject("not_positive", nil), nil // a refusal: recorded once, never tried again
	}
	var points int64
	err := tx.QueryRow(ctx, `UPDATE members SET points = points + $2 WHERE customer = $1 RETURNING points`,
		args.Customer, args.Points).Scan(&points)
	if err != nil {
		return outbox.Result{}, err // the job has failed, and is tried again
	}
	if points >= 100 {
		if _, err := outbox.Enqueue(ctx, tx, "greet:"+args.Key, Greet{Customer: args.Customer}); err != nil {
			return outbox.Result{}, err
		}
	}
	return outbox.Result{Status: outbox.Applied, Code: "added", Detail: map[string]int64{"points": points}}, nil
}

func greet(ctx context.Context, tx pgx.Tx, args Greet) (outbox.Result, error) {
	_, err := tx.Exec(ctx, `INSERT INTO letters VALUES ($1, 'Thank you!')`, args.Customer)
	return outbox.Result{Status: outbox.Applied, Code: "greeted"}, err
}

// A handler with a time limit of its own, whose requests are in order for each customer where the queue is split into
// lanes.
func ExampleRegister() {
	pool, done := club()
	defer done()

	kinds := &outbox.Kinds{}
	outbox.Register(kinds, addPoints, outbox.Timeout(2*time.Second), outbox.OrderBy("customer"))
	worker := outbox.NewWorker(pool, kinds, outbox.Settings{})

	ask(pool, "order-1", AddPoints{Customer: "ada", Points: 60})
	ask(pool, "order-2", AddPoints{Customer: "ada", Points: -5})
	ask(pool, "order-3", AddPoints{Customer: "bob", Points: 10}) // no such member: an error, not a refusal
	if err := worker.Drain(context.Background()); err != nil {   // in production: Run
		panic(err)
	}
	show(pool, "order-1", "order-2", "order-3")
	// Output:
	// order-1 applied added {"points": 60}
	// order-2 rejected not_positive
	// order-3 pending
}

// The follow-up of a handler goes to a queue of its own, whose worker has another isolation level.
func ExampleQueued() {
	pool, done := club()
	defer done()

	kinds := &outbox.Kinds{}
	outbox.Register(kinds, addPoints)
	outbox.Register(kinds, greet)
	points := outbox.NewWorker(pool, kinds, outbox.Settings{})
	letters := outbox.NewWorker(pool, kinds, outbox.Settings{Queue: "letters", Isolation: pgx.ReadCommitted})

	ask(pool, "order-1", AddPoints{Customer: "ada", Points: 120})
	for _, worker := range []*outbox.Worker{points, letters} {
		if err := worker.Drain(context.Background()); err != nil {
			panic(err)
		}
	}
	show(pool, "order-1", "greet:order-1")
	// Output:
	// order-1 applied added {"points": 120}
	// greet:order-1 applied greeted
}

// pointsSettler settles a whole batch: one statement reads and locks, one writes, whatever the number of jobs.
type pointsSettler struct{}

func (pointsSettler) Settle(ctx context.Context, tx pgx.Tx, batch outbox.Batch) ([]outbox.Result, error) {
	requests, customers := make([]AddPoints, len(batch.Jobs)), make([]string, len(batch.Jobs))
	for i, job := range batch.Jobs {
		if err := json.Unmarshal(job.Args, &requests[i]); err == nil { // the others have no points
			customers[i] = requests[i].Customer
		}
	}
	// the read set, in the order of its keys
	rows, err := tx.Query(ctx, `SELECT customer, points FROM public.members WHERE customer = ANY ($1)
		ORDER BY customer FOR UPDATE`, customers)
	if err != nil {
		return nil, err
	}
	points, customer, has := make(map[string]int64), "", int64(0)
	if _, err := pgx.ForEachRow(rows, []any{&customer, &has},
		func() error { points[customer] = has; return nil }); err != nil {
		return nil, err
	}
	// apply: in memory, one after the other, no SQL and no clock
	results := make([]outbox.Result, len(batch.Jobs))
	for i, request := range requests {
		results[i] = applyPoints(points, request)
	}
	// the write set: one statement, with the number of rows that it has to change
	batch.Write.Queue(`UPDATE public.members m SET points = n.points
		FROM unnest($1::text[], $2::bigint[]) n (customer, points)
		WHERE m.customer = n.customer`,
		slices.Collect(maps.Keys(points)), slices.Collect(maps.Values(points))).Exec(outbox.ExpectRows(len(points)))
	return results, nil
}

// applyPoints is pure: a table of cases is its test.
func applyPoints(points map[string]int64, request AddPoints) outbox.Result {
	has, member := points[request.Customer]
	switch {
	case request.Points <= 0:
		return outbox.Reject("not_positive", nil)
	case !member:
		return outbox.Reject("no_member", nil)
	}
	points[request.Customer] = has + request.Points
	return outbox.Result{Status: outbox.Applied, Code: "added", Detail: map[string]int64{"points": has + request.Points}}
}

// The batch form of the same kind.
func ExampleKinds_Register() {
	pool, done := club()
	defer done()

	kinds := &outbox.Kinds{}
	kinds.Register(pointsSettler{}, outbox.Kind{Name: AddPoints{}.Kind(), OrderBy: "customer"})
	worker := outbox.NewWorker(pool, kinds, outbox.Settings{})

	ask(pool, "order-1", AddPoints{Customer: "ada", Points: 60})
	ask(pool, "order-2", AddPoints{Customer: "ada", Points: 50})
	ask(pool, "order-3", AddPoints{Customer: "bob", Points: 10})
	if err := worker.Drain(context.Background()); err != nil {
		panic(err)
	}
	show(pool, "order-1", "order-2", "order-3")
	// Output:
	// order-1 applied added {"points": 60}
	// order-2 applied added {"points": 110}
	// order-3 rejected no_member
}

// club is a migrated database with tables of a service.
func club() (pool *pgxpool.Pool, done func()) {
	slog.SetDefault(slog.New(slog.DiscardHandler)) // a worker without a logger of its own says what it does
	url, drop := testdb.ForExample()
	pool, err := pgxpool.New(context.Background(), url)
	if err == nil {
		_, err = pool.Exec(context.Background(), `
			CREATE TABLE public.members (customer text PRIMARY KEY, points bigint NOT NULL);
			CREATE TABLE public.letters (customer text, message text);
			INSERT INTO public.members VALUES ('ada', 0)`)
	}
	if err != nil {
		panic(err)
	}
	return pool, func() { pool.Close(); drop() }
}

// ask is what a service does, beside a write of its own in the same transaction.
func ask(pool *pgxpool.Pool, key string, args outbox.Args) {
	err := pgx.BeginFunc(context.Background(), pool, func(tx pgx.Tx) error {
		_, err := outbox.Enqueue(context.Background(), tx, key, args)
		return err
	})
	if err != nil {
		panic(err)
	}
}

func show(pool *pgxpool.Pool, keys ...string) {
	outcomes, err := outbox.Outcomes(context.Background(), pool, keys...)
	if err != nil {
		panic(err)
	}
	for _, o := range outcomes {
		fmt.Println(strings.TrimSpace(fmt.Sprintln(o.Key, o.Status, o.Code, string(o.Detail))))
	}
}
