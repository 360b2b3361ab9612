package jobs_test

import (
	"context"
	"errors"
	"io"
	"maps"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/lastseat/lastseat/internal/clitest"
	"github.com/lastseat/lastseat/internal/fakestripe"
	"github.com/lastseat/lastseat/internal/testdb"
	"github.com/lastseat/lastseat/jobs"
	"github.com/lastseat/lastseat/outbox"
	"github.com/lastseat/lastseat/processor"
	"github.com/lastseat/lastseat/processor/stripe"
)

// counter is a shop with a worker, a processor and the network between them, and the shop's webhooks.
type counter struct {
	pool    *pgxpool.Pool
	fake    *fakestripe.Server
	gateway *stripe.Gateway
	hooks   string // the URL of the shop's webhooks
	hold    func(r *http.Request) gate
}

// gate is what the network does to a request that asks for something.
type gate struct {
	before  chan struct{}        // nil, or the request goes on when this is closed
	after   chan struct{}        // the same for its answer
	arrives func(deliver func()) // nil, or it is cut off, and arrives whenever this calls it
}

const hookSecret = "whsec_of_the_counter"

// openCounter opens it. A key's window of 0 has every answer that is not known looked up.
func openCounter(t *testing.T, window time.Duration) *counter {
	t.Helper()
	c := &counter{pool: newPool(t), hold: func(*http.Request) gate { return gate{} }}
	exec(t, c.pool, `SELECT lastseat.open_account('card', 'EUR', NULL), lastseat.open_account('shop', 'EUR')`)
	c.fake = fakestripe.New(fakestripe.Options{WebhookSecret: hookSecret})
	server := httptest.NewServer(http.HandlerFunc(c.network))
	gateway, err := stripe.New(stripe.Options{Key: "sk_test_x", URL: server.URL})
	if err != nil {
		t.Fatal(err)
	}
	c.gateway = gateway
	t.Cleanup(func() { gateway.Close(); server.Close(); c.fake.Close() })
	verify, err := stripe.Webhooks(hookSecret)
	if err != nil {
		t.Fatal(err)
	}
	receiver := httptest.NewServer(&processor.Receiver{
		Source: "stripe", Verify: verify, LookUp: gateway.LookUp, Take: jobs.TakeLate,
		DB: testdb.Pool(t, testdb.As(t, c.pool, "lastseat_producer")),
	})
	t.Cleanup(receiver.Close)
	c.hooks = receiver.URL
	caller := jobs.Processor("stripe", gateway)
	caller.Late = 50 * time.Millisecond
	if window >= 0 {
		caller.KeyWindow = window
	}
	work(t, c.pool, caller)
	return c
}

// network is between the worker and the processor.
func (c *counter) network(w http.ResponseWriter, r *http.Request) {
	if r.Method != http.MethodPost {
		c.fake.ServeHTTP(w, r)
		return
	}
	body, _ := io.ReadAll(r.Body)
	r.Body = io.NopCloser(strings.NewReader(string(body)))
	g := c.hold(r)
	if g.arrives != nil {
		late := r.Clone(context.WithoutCancel(r.Context()))
		late.Body = io.NopCloser(strings.NewReader(string(body)))
		g.arrives(func() { c.fake.ServeHTTP(httptest.NewRecorder(), late) })
		panic(http.ErrAbortHandler)
	}
	wait(g.before)
	answer := httptest.NewRecorder()
	c.fake.ServeHTTP(answer, r)
	wait(g.after)
	maps.Copy(w.Header(), answer.Header())
	w.WriteHeader(answer.Code)
	_, _ = w.Write(answer.Body.Bytes())
}

func wait(until chan struct{}) {
	if until != nil {
		<-until
	}
}

func (c *counter) charge(t *testing.T, payment string) {
	t.Helper()
	exec(t, c.pool, `SELECT lastseat.charge($1, $1, 'card', 'shop', 1000, 'EUR', 'stripe', 'pm_card_visa')`, payment)
}

// webhooks sends what the processor has told so far, each event so often, the newest first.
func (c *counter) webhooks(t *testing.T, times int) {
	t.Helper()
	var group sync.WaitGroup
	events := c.fake.Events()
	for range times {
		for i := range events {
			group.Go(func() {
				event := events[len(events)-1-i]
				if status, err := c.fake.Post(t.Context(), c.hooks, event); err != nil || status != http.StatusOK {
					t.Errorf("the webhook of %s: %d, %v", event.Type, status, err)
				}
			})
		}
	}
	group.Wait()
}

// requests waits until all that were asked for are settled, and returns how many there are of a status and code.
func (c *counter) requests(t *testing.T, status, code string) int {
	t.Helper()
	clitest.Eventually(t, "all requests to be settled", func() bool {
		return testdb.Scalar[int](t, c.pool, `SELECT count(*)::int FROM lastseat.requests WHERE status = 'pending'`) == 0
	})
	return testdb.Scalar[int](t, c.pool, `SELECT count(*)::int FROM lastseat.requests WHERE (status, code) = ($1, $2)`,
		status, code)
}

// balanced checks that the processor has what the books say, and that nothing is under way.
func (c *counter) balanced(t *testing.T, want int64) {
	t.Helper()
	var there int64
	for _, charge := range c.fake.Charges() {
		there += charge.Received - charge.Refunded
	}
	books := testdb.Scalar[int64](t, c.pool, `SELECT -balance FROM lastseat.accounts WHERE id = 'card'`)
	if there != want || books != want {
		t.Errorf("the processor has %d, the books say %d, want %d", there, books, want)
	}
	if n := testdb.Scalar[int](t, c.pool, `SELECT count(*)::int FROM lastseat.calls c
		FULL JOIN lastseat.clearing() w ON false WHERE c.key IS NOT NULL AND c.ended_at IS NULL OR w.balance <> 0`); n != 0 {
		t.Errorf("%d calls and clearing accounts are not at their end", n)
	}
	proven(t, c.pool)
}

// A charge arrives after its payment was declined, since nobody found it. Its webhook comes three times, beside that of
// an attempt that failed. It is refunded once, and the payment stays as it is.
func TestLateSuccess(t *testing.T) {
	t.Parallel()
	c := openCounter(t, 0) // the key window has passed after the first attempt
	var arrive func()
	var once sync.Once
	c.hold = func(*http.Request) (g gate) {
		once.Do(func() { g.arrives = func(deliver func()) { arrive = deliver } })
		return g
	}
	c.charge(t, "p")
	if n := c.requests(t, "rejected", jobs.CodeDeclined); n != 1 {
		t.Fatalf("%d declined", n)
	}
	arrive()
	if charges := c.fake.Charges(); len(charges) != 1 || charges[0].Received != 1000 {
		t.Fatalf("the processor has %+v", charges)
	}
	c.webhooks(t, 3)
	if n := c.requests(t, "applied", jobs.CodeReturned); n != 1 {
		t.Errorf("given back %d times", n)
	}
	c.webhooks(t, 2) // also of the refund
	if n := c.requests(t, "applied", jobs.CodeReturned); n != 1 {
		t.Errorf("given back %d times", n)
	}
	if got := c.fake.Counts(); got.Refunded != 1 {
		t.Errorf("%+v, want one refund", got)
	}
	// whoever asks for it by hand gives nothing back twice
	exec(t, c.pool, `SELECT lastseat.refund('by hand', 'p', reference => $1)`, c.fake.Charges()[0].Reference)
	if n := c.requests(t, "applied", jobs.CodeReturned); n != 2 || c.fake.Counts().Refunded != 1 {
		t.Errorf("%d requests, %+v", n, c.fake.Counts())
	}
	if p, err := jobs.PaymentOf(t.Context(), c.pool, "p"); err != nil || p.Status != "declined" {
		t.Errorf("%+v, %v", p, err)
	}
	c.balanced(t, 0)
}

// The webhook of a charge overtakes the answer to it: the charge is in nobody's books yet, and is not given back. A
// failure that is told of late changes nothing.
func TestWebhookOvertakesTheAnswer(t *testing.T) {
	t.Parallel()
	c := openCounter(t, -1)
	answer := make(chan struct{})
	released := sync.OnceFunc(func() { close(answer) })
	t.Cleanup(released)
	c.hold = func(*http.Request) gate { return gate{after: answer} }
	c.fake.Break(fakestripe.Fault{Kind: fakestripe.Declined}) // another customer's
	c.charge(t, "refused")
	clitest.Eventually(t, "the first charge to be refused", func() bool { return c.fake.Counts().Declined == 1 })
	c.charge(t, "p")
	clitest.Eventually(t, "the processor to charge", func() bool { return c.fake.Counts().Charged == 1 })
	c.webhooks(t, 3)
	if n := testdb.Scalar[int](t, c.pool,
		`SELECT count(*)::int FROM lastseat.requests WHERE starts_with(key, 'late:')`); n != 1 {
		t.Errorf("%d requests of webhooks", n)
	}
	clitest.Eventually(t, "the webhook's request to wait for the charge", func() bool {
		return testdb.Scalar[int](t, c.pool, `SELECT count(*)::int FROM lastseat.river_job
			WHERE starts_with(args ->> 'key', 'late:') AND state = 'scheduled'`) == 1
	})
	released()
	if n := c.requests(t, "rejected", jobs.CodeNotLate); n != 1 {
		t.Errorf("%d are not late", n)
	}
	c.webhooks(t, 3)
	if n := c.requests(t, "applied", jobs.CodeCharged); n != 1 || c.fake.Counts().Refunded != 0 {
		t.Errorf("%d charged, %+v", n, c.fake.Counts())
	}
	c.balanced(t, 1000)
}

// The page to which the customer returns and a webhook ask for a refund at the same time: under one key, and two that
// together are more than the charge. The processor is asked once at a time, and gives back what was taken at most.
func TestRefundRace(t *testing.T) {
	t.Parallel()
	c := openCounter(t, -1)
	c.charge(t, "p")
	if n := c.requests(t, "applied", jobs.CodeCharged); n != 1 {
		t.Fatalf("%d charged", n)
	}
	answer := make(chan struct{})
	released := sync.OnceFunc(func() { close(answer) })
	t.Cleanup(released)
	c.hold = func(*http.Request) gate { return gate{after: answer} }
	ask := func(key string, amount int64) {
		if err := pgx.BeginFunc(t.Context(), c.pool, func(tx pgx.Tx) error {
			_, err := outbox.Enqueue(t.Context(), tx, key, jobs.Refund{Payment: "p", Amount: amount})
			return err
		}); err != nil {
			t.Error(err)
		}
	}
	var group sync.WaitGroup
	for _, key := range []string{"page and webhook", "page and webhook", "another"} {
		group.Go(func() { ask(key, 700) })
	}
	group.Wait()
	clitest.Eventually(t, "one refund to be made, and the other one to wait", func() bool {
		return c.fake.Counts().Refunded >= 1 && testdb.Scalar[int](t, c.pool, `SELECT count(*)::int FROM lastseat.river_job
			WHERE kind = 'payment.refund' AND state = 'scheduled'`) == 2
	})
	released()
	if n := c.requests(t, "rejected", jobs.CodeAmountExceedsCaptured); n != 1 || c.fake.Counts().Refunded != 1 {
		t.Errorf("%d refused, %+v", n, c.fake.Counts())
	}
	c.balanced(t, 300)
}

// The key's window has passed, and the answer to a charge and to a refund was lost: they are found, and not sent again.
func TestKeyWindowPassed(t *testing.T) {
	t.Parallel()
	c := openCounter(t, 0)
	c.fake.Break(fakestripe.Fault{Kind: fakestripe.CutAfter, Operation: "charge"})
	c.fake.Break(fakestripe.Fault{Kind: fakestripe.CutAfter, Operation: "refund"})
	c.charge(t, "p")
	exec(t, c.pool, `SELECT lastseat.refund('r', 'p', 400)`)
	for _, code := range []string{jobs.CodeCharged, jobs.CodeRefunded} {
		if n := c.requests(t, "applied", code); n != 1 {
			t.Errorf("%d %s", n, code)
		}
	}
	if got := c.fake.Counts(); got.Writes != 2 || got.Faults != 2 {
		t.Errorf("%+v: want two requests, both cut off", got)
	}
	c.balanced(t, 600)
}

// TestNotLate: what TakeLate leaves alone.
func TestNotLate(t *testing.T) {
	t.Parallel()
	pool := newShop(t)
	tx, err := pool.Begin(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = tx.Rollback(context.WithoutCancel(t.Context())) }()
	for _, record := range []*processor.Record{
		nil, {Reference: "pi_1", Status: processor.StatusCaptured, Captured: 5}, // of somebody else
		{Reference: "pi_1", Payment: "unknown", Status: processor.StatusCaptured, Captured: 5},
		{Reference: "pi_1", Payment: "p", Status: processor.StatusVoided},
		{Reference: "pi_1", Payment: "p", Status: processor.StatusDeclined},
	} {
		err = errors.Join(err, jobs.TakeLate(t.Context(), tx, processor.Event{ID: "evt_1", Record: record}))
	}
	var n int
	err = errors.Join(err, tx.QueryRow(t.Context(), `SELECT count(*) FROM lastseat.requests`).Scan(&n))
	if err != nil || n != 0 {
		t.Errorf("%d requests, %v", n, err)
	}
}
