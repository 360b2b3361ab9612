package jobs_test

import (
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"

	"github.com/lastseat/lastseat/internal/clitest"
	"github.com/lastseat/lastseat/internal/fakestripe"
	"github.com/lastseat/lastseat/internal/testdb"
	"github.com/lastseat/lastseat/jobs"
	"github.com/lastseat/lastseat/outbox"
)

// authorize asks for 1000, which run out after a time.
func (c *counter) authorize(t *testing.T, payment, method, lasts string) {
	t.Helper()
	exec(t, c.pool, `SELECT lastseat.authorize($1, $1, 'card', 'shop', 1000, 'EUR', now() + $3::text::interval, 'stripe', $2)`,
		payment, method, lasts)
}

// settled waits for a request's outcome, and compares.
func (c *counter) settled(t *testing.T, key, code, detail string) {
	t.Helper()
	waitFor(t, c.pool, key)
	if o := outcome(t, c.pool, key); o.Code != code || !strings.Contains(string(o.Detail), detail) {
		t.Errorf("%s: %s %s, want %s with %s", key, o.Code, o.Detail, code, detail)
	}
}

// is compares a payment and what the account of the processor holds for all of them.
func (c *counter) is(t *testing.T, payment, status string, held int64) {
	t.Helper()
	p, err := jobs.PaymentOf(t.Context(), c.pool, payment)
	if now := testdb.Scalar[int64](t, c.pool, `SELECT held FROM lastseat.accounts WHERE id = 'card'`); err != nil ||
		p.Status != status || now != held {
		t.Errorf("%s is %s, %d is held; want %s, %d (%v)", payment, p.Status, now, status, held, err)
	}
}

// expired waits for a payment to have expired.
func (c *counter) expired(t *testing.T, payment string) {
	t.Helper()
	clitest.Eventually(t, payment+" to expire", func() bool {
		return testdb.Scalar[int](t, c.pool, `SELECT count(*)::int FROM lastseat.requests
			WHERE key = 'lastseat:payment.expire:' || $1 AND code = 'expired'`, payment) == 1
	})
}

// there is the processor's charge of a payment.
func (c *counter) there(t *testing.T, payment string) fakestripe.Charge {
	t.Helper()
	for _, charge := range c.fake.Charges() {
		if charge.Metadata["lastseat_payment"] == payment {
			return charge
		}
	}
	t.Fatalf("the processor has nothing of %s", payment)
	return fakestripe.Charge{}
}

// byHand has somebody do something at the processor's own site.
func (c *counter) byHand(t *testing.T, path, form string) {
	t.Helper()
	request := httptest.NewRequestWithContext(t.Context(), http.MethodPost, path, strings.NewReader(form))
	request.SetBasicAuth("sk_test_x", "")
	answer := httptest.NewRecorder()
	if c.fake.ServeHTTP(answer, request); answer.Code != http.StatusOK {
		t.Fatalf("%s: %d %s", path, answer.Code, answer.Body)
	}
}

// What becomes of authorizations by card: captured and refunded, voided, refused, captured twice at once, captured by
// hand. The processor has the same at every end.
func TestAuthorizedByCard(t *testing.T) {
	t.Parallel()
	c := openCounter(t, -1)
	for _, payment := range []string{"captured", "voided", "twice", "by hand"} {
		c.authorize(t, payment, "pm_card_visa", "1 day")
	}
	c.authorize(t, "refused", "pm_card_visa_chargeDeclinedInsufficientFunds", "1 day")
	// asked for before the processor has answered
	exec(t, c.pool, `SELECT lastseat.capture('capture', 'captured', 600), lastseat.refund('refund', 'captured', 200),
		lastseat.void('void', 'voided'), lastseat.capture('one', 'twice', 500), lastseat.capture('other', 'twice', 700)`)
	c.settled(t, "refused", jobs.CodeDeclined, `"reason": "insufficient_funds"`)
	c.settled(t, "capture", jobs.CodeCaptured, `"captured": 600, "released": 400`)
	c.settled(t, "refund", jobs.CodeRefunded, `"left": 400`)
	c.settled(t, "void", jobs.CodeVoided, `"released": 1000`)
	c.settled(t, "one", jobs.CodeCaptured, `"captured": 500`)
	c.settled(t, "other", jobs.CodeAlreadyCaptured, `"captured": 500`)
	c.settled(t, "by hand", jobs.CodeAuthorized, `"reference": "pi_`)
	c.is(t, "by hand", "authorized", 1000)
	c.byHand(t, "/v1/payment_intents/"+c.there(t, "by hand").Reference+"/capture", "amount_to_capture=300")
	exec(t, c.pool, `SELECT lastseat.void('too late', 'by hand')`)
	c.settled(t, "too late", jobs.CodeDeclined, `"reason": "payment_intent_unexpected_state"`)
	exec(t, c.pool, `SELECT lastseat.capture('books', 'by hand')`)
	c.settled(t, "books", jobs.CodeCaptured, `"captured": 300, "released": 700`)
	for payment, status := range map[string]string{
		"captured": "captured", "voided": "voided", "twice": "captured", "by hand": "captured", "refused": "declined",
	} {
		c.is(t, payment, status, 0)
	}
	if there := c.there(t, "voided"); there.Status != "canceled" {
		t.Errorf("voided here, there it is %+v", there)
	}
	if got := c.fake.Counts(); got.Captured != 3 || got.Voided != 1 || got.Refunded != 1 {
		t.Errorf("%+v", got)
	}
	c.balanced(t, 400+500+300)
}

// An authorization runs out: the processor lets go of it first, and then its money is released here. One that somebody
// has captured by hand is given back; one whose capture is under way does not run out, unless that is refused.
func TestExpiryByCard(t *testing.T) {
	t.Parallel()
	c := openCounter(t, -1)
	cancelled, captured := make(chan struct{}), make(chan struct{})
	release := sync.OnceFunc(func() { close(cancelled) })
	answer := sync.OnceFunc(func() { close(captured) })
	t.Cleanup(func() { release(); answer() })
	c.hold = func(r *http.Request) gate {
		switch {
		case strings.HasSuffix(r.URL.Path, "/cancel"):
			return gate{after: cancelled}
		case strings.HasSuffix(r.URL.Path, "/capture"):
			return gate{after: captured}
		}
		return gate{}
	}
	c.authorize(t, "runs out", "pm_card_visa", "1 second")
	c.settled(t, "runs out", jobs.CodeAuthorized, "")
	clitest.Eventually(t, "the processor to let go", func() bool { return c.fake.Counts().Voided == 1 })
	exec(t, c.pool, `SELECT lastseat.capture('too late', 'runs out')`)
	c.is(t, "runs out", "authorized", 1000) // its answer is not here yet
	release()
	c.expired(t, "runs out")
	c.settled(t, "too late", jobs.CodeAuthorizationExpired, "")
	c.is(t, "runs out", "expired", 0)

	long := strings.Repeat("p", 200) // the worker's own key is longer than any other
	// A stranger's job under that key, from before its time, neither ends the payment nor takes the key.
	exec(t, c.pool, `INSERT INTO lastseat.river_job (kind, queue, args) VALUES ('payment.expire', 'lastseat',
		jsonb_build_object('key', 'lastseat:payment.expire:' || $1::text, 'payment', $1::text))`, long)
	clitest.Eventually(t, "the stranger's job to be rejected", func() bool {
		return c.requests(t, "rejected", outbox.CodeInvalidArgs) == 1
	})
	c.authorize(t, long, "pm_card_visa", "1 second")
	c.expired(t, long)

	for _, payment := range []string{"by hand", "in time", "refused"} {
		c.authorize(t, payment, "pm_card_visa", "3 seconds")
	}
	c.fake.Break(fakestripe.Fault{Kind: fakestripe.Declined, Operation: "capture"})
	exec(t, c.pool, `SELECT lastseat.capture('refused capture', 'refused')`)
	clitest.Eventually(t, "the capture to be refused", func() bool { return c.fake.Counts().Faults == 1 })
	exec(t, c.pool, `SELECT lastseat.capture('capture', 'in time')`)
	c.settled(t, "by hand", jobs.CodeAuthorized, "")
	c.byHand(t, "/v1/payment_intents/"+c.there(t, "by hand").Reference+"/capture", "")
	c.expired(t, "by hand")
	if there := c.there(t, "by hand"); there.Refunded != 1000 {
		t.Errorf("captured by hand, and expired here: there it is %+v", there)
	}
	c.is(t, "in time", "authorized", 2000) // and the other one: they have run out, and wait for their answers
	answer()
	c.settled(t, "capture", jobs.CodeCaptured, "")
	c.settled(t, "refused capture", jobs.CodeDeclined, "card_declined")
	c.expired(t, "refused")
	if n := c.requests(t, "applied", jobs.CodeExpired); n != 4 {
		t.Errorf("%d have expired", n)
	}
	c.balanced(t, 1000)
}

// An authorization whose answer was lost is not found, and declined; then it arrives at the processor after all. Its
// webhook comes three times, and it is let go of once. Captures and voids whose answers are lost or stored are done
// once.
func TestCardAnswersAreLost(t *testing.T) {
	t.Parallel()
	c := openCounter(t, 0) // every key's window has passed after the first attempt
	var arrive func()
	var once sync.Once
	c.hold = func(*http.Request) (g gate) {
		once.Do(func() { g.arrives = func(deliver func()) { arrive = deliver } })
		return g
	}
	c.authorize(t, "late", "pm_card_visa", "1 day")
	c.settled(t, "late", jobs.CodeDeclined, `"reason": "not_done"`)
	arrive()
	c.webhooks(t, 3)
	if n := c.requests(t, "applied", jobs.CodeReturned); n != 1 || c.fake.Counts().Voided != 1 {
		t.Errorf("given back %d times, %+v", n, c.fake.Counts())
	}
	c.is(t, "late", "declined", 0)

	for _, fault := range []fakestripe.FaultKind{
		fakestripe.CutBefore, fakestripe.CutAfter, fakestripe.ErrorBefore, fakestripe.ErrorAfter, fakestripe.BadGateway,
	} {
		for _, verb := range []string{"capture", "void"} {
			payment := verb + " " + string(fault)
			c.authorize(t, payment, "pm_card_visa", "1 day")
			c.settled(t, payment, jobs.CodeAuthorized, "")
			c.fake.Break(fakestripe.Fault{Kind: fault, Operation: verb})
			exec(t, c.pool, `SELECT lastseat.`+verb+`('1 ' || $1, $1)`, payment)
			waitFor(t, c.pool, "1 "+payment)
			done := outcome(t, c.pool, "1 "+payment).Code != jobs.CodeDeclined
			if was := fault == fakestripe.CutAfter || fault == fakestripe.ErrorAfter; done != was {
				t.Errorf("%s: done is %t", payment, done)
			}
			if !done { // it is authorized still
				c.is(t, payment, "authorized", 1000)
				exec(t, c.pool, `SELECT lastseat.`+verb+`('2 ' || $1, $1)`, payment)
				waitFor(t, c.pool, "2 "+payment)
			}
		}
	}
	// one that has run out, and whose void was never carried out: nobody has refused it, so it is asked for again at once
	c.fake.Break(fakestripe.Fault{Kind: fakestripe.ErrorBefore, Operation: "void", Times: 2})
	c.authorize(t, "runs out", "pm_card_visa", "1 second")
	c.expired(t, "runs out")
	c.is(t, "runs out", "expired", 0)
	if got := c.fake.Counts(); got.Captured != 5 || got.Voided != 1+5+1 {
		t.Errorf("%+v", got)
	}
	c.balanced(t, 5000)
}
