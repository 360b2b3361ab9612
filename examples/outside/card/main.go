// Command card charges a card for an order, and gives the money back. It is a service, its worker and its webhook
// endpoint in one process: each would be a process of its own.
package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/lastseat/lastseat/outbox"
	"github.com/lastseat/lastseat/processor"
	"github.com/lastseat/lastseat/processor/calls"
	"github.com/lastseat/lastseat/processor/stripe"
)

// Payment is what a request asks for: a charge, or a refund of the charge that Reference names.
type Payment struct {
	Do        processor.Kind `json:"do"`
	Order     string         `json:"order"`
	Card      string         `json:"card,omitempty"` // the processor's token of it
	Reference string         `json:"reference,omitempty"`
	Amount    int64          `json:"amount"` // cents
}

// Kind and Queue make it a kind of the shop's own.
func (Payment) Kind() string  { return "shop.card" }
func (Payment) Queue() string { return "shop_card" }

func (p Payment) operation() processor.Operation {
	return processor.Operation{
		Kind: p.Do, Payment: p.Order, Method: p.Card, Reference: p.Reference, Amount: p.Amount, Currency: "EUR",
	}
}

// record is called in the lane's transaction, with the processor's answer.
func record(_ context.Context, _ pgx.Tx, p Payment, answer outbox.Answer) (outbox.Result, error) {
	detail, err := calls.DetailOf(answer)
	if err != nil || answer.Result == outbox.Declined {
		return outbox.Reject("declined", map[string]string{"because": answer.Code}), err
	}
	code := map[processor.Kind]string{processor.Charge: "charged", processor.Refund: "refunded"}[p.Do]
	return outbox.Result{Status: outbox.Applied, Code: code, Detail: detail}, nil // and the order's row would be updated
}

func newWorker(pool *pgxpool.Pool, gateway processor.Gateway) *outbox.Worker {
	kinds := &outbox.Kinds{}
	outbox.RegisterCall(kinds, outbox.Calling[Payment]{
		Send: func(ctx context.Context, call outbox.Call, p Payment) (outbox.Answer, error) {
			return calls.Send(ctx, gateway, call, p.operation())
		},
		LookUp: func(ctx context.Context, call outbox.Call, p Payment) (outbox.Answer, error) {
			return calls.LookUp(ctx, gateway, call, p.operation())
		},
		Record: record, KeyWindow: gateway.KeyWindow(),
	})
	return outbox.NewWorker(pool, kinds, outbox.Settings{Queue: Payment{}.Queue()})
}

// pay asks for a payment in the transaction of the business write, and waits for its outcome.
func pay(ctx context.Context, pool *pgxpool.Pool, key string, p Payment) (detail calls.Detail, err error) {
	err = pgx.BeginFunc(ctx, pool, func(tx pgx.Tx) error {
		_, err := outbox.Enqueue(ctx, tx, key, p)
		return err
	})
	if err != nil {
		return detail, err
	}
	for {
		outcomes, err := outbox.Outcomes(ctx, pool, key)
		if err != nil {
			return detail, err
		}
		if len(outcomes) == 1 && outcomes[0].Status != outbox.Pending {
			fmt.Println(key, outcomes[0].Status, outcomes[0].Code, string(outcomes[0].Detail))
			return detail, json.Unmarshal(outcomes[0].Detail, &detail)
		}
		time.Sleep(50 * time.Millisecond)
	}
}

func main() {
	if err := run(); err != nil {
		fmt.Fprintln(os.Stderr, "card:", err)
		os.Exit(1)
	}
}

func run() error {
	ctx, cancel := context.WithTimeout(context.Background(), 40*time.Second)
	defer cancel()
	pool, err := pgxpool.New(ctx, os.Getenv("DATABASE_URL"))
	if err != nil {
		return err
	}
	defer pool.Close()
	gateway, err := stripe.New(stripe.Options{Key: os.Getenv("STRIPE_KEY"), URL: os.Getenv("STRIPE_URL")})
	if err != nil {
		return err
	}
	if err := serveWebhooks(pool, gateway); err != nil {
		return err
	}
	working, stop := context.WithCancel(ctx)
	ended := make(chan error, 1)
	go func() { ended <- newWorker(pool, gateway).Run(working) }()

	charged, err := pay(ctx, pool, "card-1", Payment{Do: processor.Charge, Order: "1", Card: "pm_card_visa", Amount: 1250})
	if err == nil {
		_, err = pay(ctx, pool, "card-1-back", Payment{
			Do: processor.Refund, Order: "1", Reference: charged.Reference, Amount: charged.Amount,
		})
	}
	stop()
	return errors.Join(err, <-ended)
}

// serveWebhooks takes in what the processor tells, once each, however often it comes.
func serveWebhooks(pool *pgxpool.Pool, gateway processor.Gateway) error {
	verify, err := stripe.Webhooks(os.Getenv("STRIPE_WEBHOOK_SECRET"))
	if err != nil {
		return err
	}
	listener, err := net.Listen("tcp", os.Getenv("WEBHOOKS"))
	if err != nil {
		return err
	}
	receiver := &processor.Receiver{
		Source: "stripe", Verify: verify, LookUp: gateway.LookUp, DB: pool,
		Take: func(_ context.Context, _ pgx.Tx, event processor.Event) error {
			fmt.Println("webhook", event.Type, event.Reference)
			return nil // a service enqueues what it asks for, in this transaction
		},
	}
	go func() { _ = (&http.Server{Handler: receiver, ReadTimeout: 10 * time.Second}).Serve(listener) }()
	return nil
}
