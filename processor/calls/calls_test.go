package calls_test

import (
	"context"
	"errors"
	"fmt"
	"net/http/httptest"
	"os"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/lastseat/lastseat/internal/clitest"
	"github.com/lastseat/lastseat/internal/fakestripe"
	"github.com/lastseat/lastseat/internal/testdb"
	"github.com/lastseat/lastseat/outbox"
	"github.com/lastseat/lastseat/processor"
	"github.com/lastseat/lastseat/processor/calls"
	"github.com/lastseat/lastseat/processor/stripe"
)

func TestMain(m *testing.M) { os.Exit(testdb.MainMigrated(m)) }

// pay is a kind of a service's own: it charges a card.
type pay struct {
	Order  string `json:"order"`
	Card   string `json:"card"`
	Amount int64  `json:"amount"`
}

func (pay) Kind() string  { return "test.pay" }
func (pay) Queue() string { return "test" }

func (p pay) operation() processor.Operation {
	return processor.Operation{
		Kind: processor.Charge, Payment: p.Order, Method: p.Card, Amount: p.Amount, Currency: "EUR",
	}
}

// TestChargedOnce asks for charges while every third request to the processor goes wrong in one way or another, and the
// key window is so short that some are only looked up. What the processor has charged and what the books say is the
// same, once each, and nothing stays unknown.
func TestChargedOnce(t *testing.T) {
	t.Parallel()
	fake := fakestripe.New(fakestripe.Options{Seed: 17})
	server := httptest.NewServer(fake)
	t.Cleanup(func() { server.Close(); fake.Close() })
	gateway, err := stripe.New(stripe.Options{Key: "sk_test_x", URL: server.URL})
	if err != nil {
		t.Fatal(err)
	}
	pool := testdb.Pool(t, testdb.New(t))
	testdb.Exec(t, pool, `CREATE TABLE books ("order" text PRIMARY KEY, amount bigint NOT NULL, reference text NOT NULL)`)
	kinds := &outbox.Kinds{}
	outbox.RegisterCall(kinds, outbox.Calling[pay]{
		Send: func(ctx context.Context, call outbox.Call, p pay) (outbox.Answer, error) {
			return calls.Send(ctx, gateway, call, p.operation())
		},
		LookUp: func(ctx context.Context, call outbox.Call, p pay) (outbox.Answer, error) {
			return calls.LookUp(ctx, gateway, call, p.operation())
		},
		Record: func(ctx context.Context, tx pgx.Tx, p pay, answer outbox.Answer) (outbox.Result, error) {
			detail, err := calls.DetailOf(answer)
			if err != nil || answer.Result == outbox.Declined {
				return outbox.Reject("not_charged", map[string]string{"because": answer.Code}), err
			}
			_, err = tx.Exec(ctx, `INSERT INTO books VALUES ($1, $2, $3)`, p.Order, detail.Amount, detail.Reference)
			return outbox.Result{Status: outbox.Applied, Code: "charged"}, err
		},
		KeyWindow: gateway.KeyWindow(), Late: 500 * time.Millisecond,
	})
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- outbox.NewWorker(pool, kinds, outbox.Settings{Queue: "test"}).Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	})

	for _, kind := range fakestripe.Kinds {
		fake.Break(fakestripe.Fault{Kind: kind, Rate: 0.03, Delay: 100})
	}
	const orders = 150
	for i := range orders {
		p := pay{Order: fmt.Sprint("order ", i), Card: "pm_card_visa", Amount: int64(100 + i)}
		if i%25 == 0 {
			p.Card = "pm_card_visa_chargeDeclined"
		}
		err := pgx.BeginFunc(t.Context(), pool, func(tx pgx.Tx) error {
			_, err := outbox.Enqueue(t.Context(), tx, p.Order, p)
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	clitest.Eventually(t, "every request to be settled", func() bool {
		return testdb.Scalar[int](t, pool, `SELECT count(*)::int FROM lastseat.requests WHERE status = 'pending'`) == 0
	})

	charged := 0
	for _, charge := range fake.Charges() {
		if charge.Received == 0 {
			continue
		}
		charged++
		order := charge.Metadata["lastseat_payment"]
		if n := testdb.Scalar[int](t, pool, `SELECT count(*)::int FROM books
			WHERE "order" = $1 AND amount = $2 AND reference = $3`, order, charge.Received, charge.Reference); n != 1 {
			t.Errorf("the books don't have %+v", charge)
		}
	}
	booked := testdb.Scalar[int](t, pool, `SELECT count(*)::int FROM books`)
	refused := testdb.Scalar[int](t, pool,
		`SELECT count(*)::int FROM lastseat.requests WHERE (status, code) = ('rejected', 'not_charged')`)
	counts := fake.Counts()
	t.Logf("%d charged, %d refused; the processor: %+v", charged, refused, counts)
	if charged != booked || booked+refused != orders || refused < orders/25 || counts.Faults < 10 || counts.Repeats == 0 {
		t.Errorf("%d charged, %d booked, %d refused of %d; %+v", charged, booked, refused, orders, counts)
	}
}

// TestMapping is about what is no plain answer.
func TestMapping(t *testing.T) {
	t.Parallel()
	fake := fakestripe.New(fakestripe.Options{})
	server := httptest.NewServer(fake)
	t.Cleanup(func() { server.Close(); fake.Close() })
	gateway, err := stripe.New(stripe.Options{Key: "sk_test_x", URL: server.URL})
	if err != nil {
		t.Fatal(err)
	}
	now := time.Now()
	call := outbox.Call{Key: processor.Key("k"), First: now, Last: now}
	op := pay{Order: "o", Card: "pm_card_visa", Amount: 5}.operation()

	fake.Break(fakestripe.Fault{Kind: fakestripe.Busy})
	answer, err := calls.Send(t.Context(), gateway, call, op)
	if !errors.Is(err, outbox.ErrNotSent) || answer.After != time.Second || answer.Stored {
		t.Errorf("busy: %+v, %v", answer, err)
	}
	wrong := op
	wrong.Currency = "nothing"
	if answer, err = calls.Send(t.Context(), gateway, call, wrong); err != nil || answer.Result != outbox.Declined ||
		answer.Code != calls.CodeInvalid {
		t.Errorf("invalid: %+v, %v", answer, err)
	}
	second := call
	second.Attempt = 2 // the first one may have been carried out
	if answer, _ = calls.Send(t.Context(), gateway, second, wrong); answer.Result != outbox.Unknown || !answer.Stored {
		t.Errorf("invalid after an attempt: %+v", answer)
	}
	if answer, err = calls.LookUp(t.Context(), gateway, call, op); err != nil || answer.Result != outbox.Absent {
		t.Errorf("not there: %+v, %v", answer, err)
	}
	fake.Break(fakestripe.Fault{Kind: fakestripe.ErrorAfter})
	if answer, err = calls.Send(t.Context(), gateway, call, op); err != nil || answer.Result != outbox.Unknown ||
		!answer.Stored {
		t.Errorf("500: %+v, %v", answer, err)
	}
	answer, err = calls.LookUp(t.Context(), gateway, call, op)
	detail, badDetail := calls.DetailOf(answer)
	if err != nil || badDetail != nil || answer.Result != outbox.Done || detail.Amount != 5 || detail.Reference == "" {
		t.Errorf("done: %+v, %+v, %v", answer, detail, err)
	}
	refund := processor.Operation{
		Kind: processor.Refund, Payment: "o", Reference: detail.Reference, Amount: 5, Currency: "EUR",
	}
	call.Key = processor.Key("r")
	if answer, err = calls.LookUp(t.Context(), gateway, call, refund); err != nil || answer.Result != outbox.Absent {
		t.Errorf("not refunded: %+v, %v", answer, err)
	}
	refund.Reference = "pi_of_another_account"
	if answer, err = calls.LookUp(t.Context(), gateway, call, refund); err == nil {
		t.Errorf("a charge that the processor doesn't know: %+v", answer)
	}
}
