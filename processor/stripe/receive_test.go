package stripe_test

import (
	"context"
	"errors"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/lastseat/lastseat/internal/fakestripe"
	"github.com/lastseat/lastseat/internal/testdb"
	"github.com/lastseat/lastseat/jobs"
	"github.com/lastseat/lastseat/outbox"
	"github.com/lastseat/lastseat/processor"
	"github.com/lastseat/lastseat/processor/stripe"
)

func TestMain(m *testing.M) { os.Exit(testdb.MainMigrated(m)) }

const signingSecret = "whsec_of_the_test"

// shop is a service: its webhooks, the processor, and its database, where it has no more rights than a producer.
type shop struct {
	fake    *fakestripe.Server
	gateway *stripe.Gateway
	pool    *pgxpool.Pool
	url     string

	mu      sync.Mutex
	results map[string]int
	take    func(context.Context, pgx.Tx, processor.Event) error
}

func openShop(t *testing.T) *shop {
	t.Helper()
	s := &shop{results: map[string]int{}}
	s.fake, s.gateway = open(t, fakestripe.Options{WebhookSecret: signingSecret})
	s.pool = testdb.Pool(t, testdb.New(t))
	testdb.Exec(t, s.pool, `SELECT lastseat.open_account('clearing', 'EUR', NULL), lastseat.open_account('shop', 'EUR')`)
	verify, err := stripe.Webhooks(signingSecret)
	if err != nil {
		t.Fatal(err)
	}
	s.take = creditShop
	server := httptest.NewServer(&processor.Receiver{
		Source: "stripe", Verify: verify, LookUp: s.gateway.LookUp,
		DB: testdb.Pool(t, testdb.As(t, s.pool, "lastseat_producer")), Logger: slog.New(slog.DiscardHandler),
		Take: func(ctx context.Context, tx pgx.Tx, event processor.Event) error {
			s.note("Take")
			return s.take(ctx, tx, event)
		},
		Observe: s.note,
	})
	t.Cleanup(server.Close)
	s.url = server.URL
	return s
}

// creditShop asks for the money of a charge that was captured, whichever event tells of it.
func creditShop(ctx context.Context, tx pgx.Tx, event processor.Event) error {
	if event.Record == nil || event.Record.Status != processor.StatusCaptured || event.Payment == "" {
		return nil
	}
	_, err := outbox.Enqueue(ctx, tx, "charged:"+event.Reference, jobs.Transfer{
		From: "clearing", To: "shop", Amount: event.Record.Captured, Currency: event.Record.Currency,
	})
	return err
}

func (s *shop) post(t *testing.T, event fakestripe.Event, want int) {
	t.Helper()
	if status, err := s.fake.Post(t.Context(), s.url, event); err != nil || status != want {
		t.Errorf("the webhook of %s: %d, %v, want %d", event.Type, status, err, want)
	}
}

func (s *shop) note(what string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.results[what]++
}

func (s *shop) wantRequests(t *testing.T, want int) {
	t.Helper()
	if got := testdb.Scalar[int](t, s.pool, `SELECT count(*)::int FROM lastseat.requests`); got != want {
		t.Errorf("there are %d requests, want %d", got, want)
	}
}

func (s *shop) wantResults(t *testing.T, want map[string]int) {
	t.Helper()
	s.mu.Lock()
	defer s.mu.Unlock()
	for result, n := range want {
		if s.results[result] != n {
			t.Errorf("results: %v, want %v", s.results, want)
		}
	}
}

// authorizeAndCapture leaves two events, of the authorization and of the capture.
func (s *shop) authorizeAndCapture(t *testing.T) (reference string) {
	t.Helper()
	op := charge("auth")
	op.Kind = processor.Authorize
	answer, err := s.gateway.Authorize(t.Context(), op)
	if err != nil {
		t.Fatal(err)
	}
	_, err = s.gateway.Capture(t.Context(), processor.Operation{
		Kind: processor.Capture, Key: "capture", Payment: op.Payment, Reference: answer.Reference, Amount: 700,
		Currency: "EUR",
	})
	if err != nil {
		t.Fatal(err)
	}
	return answer.Reference
}

// TestThreeTimesReordered: each webhook comes three times, the later event first. The shop is credited once, with what
// was captured: the first event brings it already, since its state is fetched.
func TestThreeTimesReordered(t *testing.T) {
	t.Parallel()
	s := openShop(t)
	s.authorizeAndCapture(t)
	events := s.fake.Events()
	if len(events) != 2 {
		t.Fatalf("%d events", len(events))
	}
	for _, at := range []int{1, 0, 1, 0, 0, 1} {
		s.post(t, events[at], http.StatusOK)
	}
	s.wantRequests(t, 1)
	s.wantResults(t, map[string]int{"Take": 2, "taken": 2, "duplicate": 4})
	if got := testdb.Scalar[int64](t, s.pool,
		`SELECT (args ->> 'amount')::bigint FROM lastseat.river_job WHERE kind = 'payment.transfer'`); got != 700 {
		t.Errorf("the request is of %d, want the 700 that were captured", got)
	}
}

// TestManyAtATime: copies of one webhook that come at the same time are taken in once.
func TestManyAtATime(t *testing.T) {
	t.Parallel()
	s := openShop(t)
	if _, err := s.gateway.Charge(t.Context(), charge("k")); err != nil {
		t.Fatal(err)
	}
	var group sync.WaitGroup
	for range 12 {
		group.Go(func() { s.post(t, s.fake.Events()[0], http.StatusOK) })
	}
	group.Wait()
	s.wantRequests(t, 1)
	s.wantResults(t, map[string]int{"Take": 1, "taken": 1, "duplicate": 11})
}

// TestPageAndWebhook: the page to which the customer returns and the webhook ask for the same, under one key.
func TestPageAndWebhook(t *testing.T) {
	t.Parallel()
	s := openShop(t)
	answer, err := s.gateway.Charge(t.Context(), charge("k"))
	if err != nil {
		t.Fatal(err)
	}
	var group sync.WaitGroup
	group.Go(func() {
		record, err := s.gateway.LookUp(t.Context(), processor.Query{Reference: answer.Reference})
		if err == nil {
			err = pgx.BeginFunc(t.Context(), s.pool, func(tx pgx.Tx) error {
				return creditShop(t.Context(), tx, processor.Event{
					Reference: record.Reference, Payment: record.Payment, Record: &record,
				})
			})
		}
		if err != nil {
			t.Error(err)
		}
	})
	group.Go(func() { s.post(t, s.fake.Events()[0], http.StatusOK) })
	group.Wait()
	s.wantRequests(t, 1)
}

// TestTakeFails: an event whose transaction fails was not taken in, and comes again.
func TestTakeFails(t *testing.T) {
	t.Parallel()
	s := openShop(t)
	if _, err := s.gateway.Charge(t.Context(), charge("k")); err != nil {
		t.Fatal(err)
	}
	event := s.fake.Events()[0]
	s.take = func(ctx context.Context, tx pgx.Tx, event processor.Event) error {
		return errors.Join(creditShop(ctx, tx, event), errors.New("no time"))
	}
	s.post(t, event, http.StatusInternalServerError)
	s.wantRequests(t, 0)
	s.take = creditShop
	s.fake.Break(fakestripe.Fault{Kind: fakestripe.CutBefore, Operation: "read"})
	s.post(t, event, http.StatusInternalServerError) // its state could not be fetched
	s.post(t, event, http.StatusOK)
	s.post(t, event, http.StatusOK)
	s.wantRequests(t, 1)
	s.wantResults(t, map[string]int{"Take": 2, "failed": 2, "taken": 1, "duplicate": 1})
}

// TestRefusedWebhooks get no further than the signature.
func TestRefusedWebhooks(t *testing.T) {
	t.Parallel()
	s := openShop(t)
	s.take = func(context.Context, pgx.Tx, processor.Event) error {
		t.Error("it was taken in")
		return nil
	}
	signed := func(body string, at time.Time) string { return fakestripe.Signature(signingSecret, at, []byte(body)) }
	large := `{"id":"evt_1","type":"x","pad":"` + strings.Repeat(" ", 1<<20) + `"}`
	for _, c := range []struct {
		name, method, body, signature string
		want                          int
	}{
		{"a signature of another secret", http.MethodPost, intentEvent,
			fakestripe.Signature("whsec_of_another", time.Now(), []byte(intentEvent)), http.StatusBadRequest},
		{"an old one", http.MethodPost, intentEvent, signed(intentEvent, time.Now().Add(-time.Hour)), http.StatusBadRequest},
		{"one of the future", http.MethodPost, intentEvent, signed(intentEvent, time.Now().Add(time.Hour)),
			http.StatusBadRequest},
		{"none", http.MethodPost, intentEvent, "", http.StatusBadRequest},
		{"no JSON", http.MethodPost, "<html>", signed("<html>", time.Now()), http.StatusBadRequest},
		{"too large", http.MethodPost, large, signed(large, time.Now()), http.StatusRequestEntityTooLarge},
		{"no POST", http.MethodGet, "", "", http.StatusMethodNotAllowed},
	} {
		request, err := http.NewRequestWithContext(t.Context(), c.method, s.url, strings.NewReader(c.body))
		if err != nil {
			t.Fatal(err)
		}
		request.Header.Set("Stripe-Signature", c.signature)
		answer, err := http.DefaultClient.Do(request)
		if err != nil {
			t.Fatal(err)
		}
		if _ = answer.Body.Close(); answer.StatusCode != c.want {
			t.Errorf("%s: %d, want %d", c.name, answer.StatusCode, c.want)
		}
	}
	if got := testdb.Scalar[int](t, s.pool, `SELECT count(*)::int FROM lastseat.taken_events`); got != 0 {
		t.Errorf("%d events were taken in", got)
	}
}
