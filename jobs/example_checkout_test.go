package jobs_test

import (
	"context"
	"fmt"
	"log/slog"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/lastseat/lastseat/internal/testdb"
	"github.com/lastseat/lastseat/jobs"
	"github.com/lastseat/lastseat/outbox"
)

// checkout sells seats in four requests, because the customer has to be asked something in between. Without that,
// [jobs.Book] is one request for all of it. Each step is asked for when the one before is applied. If one is refused,
// its undo takes back the steps before.
//
// Its keys come from the order, so any process may run it again from the start, at any time: what was asked for before
// is a duplicate, and answers with its first outcome.
func checkout(ctx context.Context, pool *pgxpool.Pool, order, customer string, amount int64,
	seats ...jobs.Item) (string, error) {
	for _, step := range []struct {
		name string
		args outbox.Args
		undo outbox.Args // of the steps before, if this one is refused
	}{
		{"hold", jobs.Hold{Reservation: order, Items: seats, Customer: customer}, nil},
		{"authorize", jobs.Authorize{Payment: order, From: customer, To: "shop", Amount: amount, Currency: "EUR"},
			jobs.Cancel{Reservation: order}},
		{"confirm", jobs.Confirm{Reservation: order}, jobs.Void{Payment: order}},   // the hold ran out
		{"capture", jobs.Capture{Payment: order}, jobs.Cancel{Reservation: order}}, // the authorization ran out
	} {
		outcome, err := ask(ctx, pool, order+"/"+step.name, step.args)
		if err != nil {
			return "", err // not known: run it again
		}
		if outcome.Status == outbox.Applied {
			continue
		}
		refused := step.name + " " + outcome.Code
		if step.undo == nil {
			return refused, nil
		}
		undone, err := ask(ctx, pool, order+"/undo", step.undo)
		return refused + ", " + undone.Code, err
	}
	return "sold", nil
}

// ask asks for one thing, and waits for what becomes of it.
func ask(ctx context.Context, pool *pgxpool.Pool, key string, args outbox.Args) (outbox.Outcome, error) {
	err := pgx.BeginFunc(ctx, pool, func(tx pgx.Tx) error { // and with it the service's own rows
		_, err := outbox.Enqueue(ctx, tx, key, args)
		return err
	})
	if err != nil {
		return outbox.Outcome{}, err
	}
	outcomes, err := outbox.Wait(ctx, pool, key)
	if err != nil {
		return outbox.Outcome{}, err
	}
	return outcomes[0], nil
}

// A checkout in four steps: seats are held, money is authorized, seats are confirmed, money is captured; and what is
// taken back when one of them is refused.
func Example_checkout() {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	url, drop := testdb.ForExample() // a Postgres that schema.Up has migrated
	defer drop()
	pool, err := pgxpool.New(ctx, url)
	if err != nil {
		panic(err)
	}
	defer pool.Close()
	must := func(err error) {
		if err != nil {
			panic(err)
		}
	}

	// Once: what there is.
	must(pgx.BeginFunc(ctx, pool, func(tx pgx.Tx) error {
		limit := int64(100_00)
		for _, account := range []jobs.Account{
			{ID: "ada", Currency: "EUR", OverdraftLimit: &limit}, {ID: "ben", Currency: "EUR", OverdraftLimit: new(int64)},
			{ID: "shop", Currency: "EUR", OverdraftLimit: new(int64)},
		} {
			if _, err := jobs.OpenAccount(ctx, tx, account); err != nil {
				return err
			}
		}
		for _, seat := range []string{"A1", "A2", "A3"} {
			if _, err := jobs.DefineResource(ctx, tx, jobs.Resource{ID: "hall/" + seat, Capacity: 1}); err != nil {
				return err
			}
		}
		return nil
	}))

	// In the worker: what `worker run` does.
	kinds := &outbox.Kinds{}
	jobs.Register(kinds)
	working, stop := context.WithCancel(ctx)
	stopped := make(chan error)
	go func() {
		stopped <- outbox.NewWorker(pool, kinds, outbox.Settings{Logger: slog.New(slog.DiscardHandler)}).Run(working)
	}()
	defer func() { stop(); must(<-stopped) }()

	// In the service.
	seat := func(id string) jobs.Item { return jobs.Item{Resource: "hall/" + id} }
	buys := func(order, customer string, amount int64, seats ...jobs.Item) {
		result, err := checkout(ctx, pool, order, customer, amount, seats...)
		must(err)
		fmt.Println(order+":", result)
	}
	buys("order 1", "ada", 45_00, seat("A1"), seat("A2"))
	buys("order 1", "ada", 45_00, seat("A1"), seat("A2")) // once more: nothing new
	buys("order 2", "ben", 22_50, seat("A2"))
	buys("order 3", "ben", 22_50, seat("A3")) // they have no money

	// Between two steps anything may happen: here staff cancels a hold, and voids an authorization.
	meddle := func(order, after string, args outbox.Args) {
		for _, step := range []struct {
			name string
			args outbox.Args
		}{
			{"hold", jobs.Hold{Reservation: order, Items: []jobs.Item{seat("A3")}, Customer: "ada"}},
			{"authorize", jobs.Authorize{Payment: order, From: "ada", To: "shop", Amount: 22_50, Currency: "EUR"}},
			{"confirm", jobs.Confirm{Reservation: order}},
		} {
			_, err := ask(ctx, pool, order+"/"+step.name, step.args)
			must(err)
			if step.name == after {
				break
			}
		}
		_, err := ask(ctx, pool, order+"/staff", args)
		must(err)
	}
	meddle("order 4", "authorize", jobs.Cancel{Reservation: "order 4"})
	buys("order 4", "ada", 22_50, seat("A3"))
	meddle("order 5", "confirm", jobs.Void{Payment: "order 5"})
	buys("order 5", "ada", 22_50, seat("A3"))

	// What is left: one order's money and seats, and nothing held.
	for _, id := range []string{"ada", "shop"} {
		account, err := jobs.BalanceOf(ctx, pool, id)
		must(err)
		fmt.Println(id, account.Balance, account.Held)
	}
	seats, err := jobs.Availability(ctx, pool, "hall/", "", 0)
	must(err)
	var free []string
	for _, s := range seats {
		if s.Free > 0 {
			free = append(free, s.Resource)
		}
	}
	fmt.Println("free:", strings.Join(free, " "))
	// Output:
	// order 1: sold
	// order 1: sold
	// order 2: hold sold_out
	// order 3: authorize insufficient_funds, cancelled
	// order 4: confirm not_held, voided
	// order 5: capture already_voided, cancelled
	// ada -4500 0
	// shop 4500 0
	// free: hall/A3
}
