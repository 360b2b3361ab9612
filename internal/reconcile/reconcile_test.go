package reconcile_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/lastseat/lastseat/internal/fakestripe"
	"github.com/lastseat/lastseat/internal/reconcile"
	"github.com/lastseat/lastseat/internal/testdb"
	"github.com/lastseat/lastseat/processor"
	"github.com/lastseat/lastseat/processor/stripe"
)

func TestMain(m *testing.M) { os.Exit(testdb.MainMigrated(m)) }

// shop is a processor and the books, each of which a test writes as it likes.
type shop struct {
	t       *testing.T
	pool    *pgxpool.Pool
	fake    *fakestripe.Server
	gateway *stripe.Gateway
	viewer  *pgxpool.Pool
	serve   atomic.Pointer[http.HandlerFunc] // what answers for the processor
	begin   time.Time
}

func open(t *testing.T) *shop {
	t.Helper()
	s := &shop{t: t, pool: testdb.Pool(t, testdb.New(t)), fake: fakestripe.New(fakestripe.Options{})}
	s.begin = time.Now().Add(-time.Minute)
	s.viewer = testdb.Pool(t, testdb.As(t, s.pool, "lastseat_viewer"))
	s.answer(s.fake.ServeHTTP)
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		(*s.serve.Load())(w, r)
	}))
	gateway, err := stripe.New(stripe.Options{Key: "sk_test_x", URL: server.URL})
	if err != nil {
		t.Fatal(err)
	}
	s.gateway = gateway
	t.Cleanup(func() { gateway.Close(); server.Close(); s.fake.Close() })
	return s
}

func (s *shop) answer(how http.HandlerFunc) { s.serve.Store(&how) }

// there has the processor do something, and returns its id.
func (s *shop) there(kind processor.Kind, payment, charge string, amount int64) string {
	s.t.Helper()
	return s.thereIn("EUR", kind, payment, charge, amount)
}

func (s *shop) thereIn(currency string, kind processor.Kind, payment, charge string, amount int64) string {
	s.t.Helper()
	op := processor.Operation{Kind: kind, Key: processor.Key(string(kind), payment, fmt.Sprint(amount)), Payment: payment,
		Reference: charge, Amount: amount, Currency: currency}
	if charge == "" {
		op.Method = "pm_card_visa"
	}
	answer, err := processor.Send(s.t.Context(), s.gateway, op)
	if err != nil || answer.Result != processor.Done {
		s.t.Fatalf("%+v, %v", answer, err)
	}
	return answer.Reference
}

// here writes a payment into the books.
func (s *shop) here(payment, status, charge string, amount, captured int64, refunds ...int64) {
	s.t.Helper()
	var refunded int64
	for _, r := range refunds {
		refunded += r
		testdb.Exec(s.t, s.pool, `INSERT INTO lastseat.calls (key, step, kind, target, operation, subject, call_key, body_hash,
			job_id, first_sent_at, sent_at, answered_at, ended_at, result, detail)
			VALUES ($1, 1, 'payment.refund', 'stripe', 'refund', 'payment:' || $2, $3, '', 1, now(), now(), now(), now(),
			        'done', jsonb_build_object('reference', 're_of_the_books', 'amount', $4::bigint))`,
			fmt.Sprint("back ", payment, r), payment, processor.Key("refund", payment, fmt.Sprint(r)), r)
	}
	testdb.Exec(s.t, s.pool, `INSERT INTO lastseat.payments (id, key, from_account, to_account, amount, currency, processor,
		method, expires_at) VALUES ($1, $1, 'card', 'shop', $2, 'EUR', 'stripe', 'pm_card_visa', now() + interval '1 day')`,
		payment, amount)
	set := func(status string, captured, refunded int64) {
		testdb.Exec(s.t, s.pool, `UPDATE lastseat.payments SET status = $2, reference = nullif($3, ''), amount_captured = $4,
			amount_refunded = $5 WHERE id = $1`, payment, status, charge, captured, refunded)
	}
	switch status {
	case "captured", "voided", "expired":
		set("authorized", 0, 0)
	}
	set(status, captured, refunded)
}

func (s *shop) run() reconcile.Report {
	s.t.Helper()
	report, err := reconcile.Run(s.t.Context(), s.viewer, "stripe", s.gateway, s.begin)
	if err != nil {
		s.t.Fatal(err)
	}
	return report
}

// agreeing is one of each that nothing is wrong with.
func (s *shop) agreeing() {
	s.t.Helper()
	charge := s.there(processor.Charge, "charged", "", 1000)
	s.there(processor.Refund, "charged", charge, 300)
	s.there(processor.Refund, "charged", charge, 200)
	s.here("charged", "captured", charge, 1000, 1000, 200, 300)
	reserved := s.there(processor.Authorize, "authorized", "", 400)
	s.here("authorized", "authorized", reserved, 400, 0)
	part := s.there(processor.Authorize, "part", "", 400)
	s.there(processor.Capture, "part", part, 250)
	s.here("part", "captured", part, 400, 250)
	voided := s.there(processor.Authorize, "voided", "", 400)
	s.there(processor.Void, "voided", voided, 0)
	s.here("voided", "voided", voided, 400, 0)
	late := s.there(processor.Charge, "given back", "", 70)
	s.there(processor.Return, "given back", late, 0)
	s.here("given back", "declined", "", 70, 0)
	s.here("never sent", "declined", "", 70, 0)
}

func TestAgree(t *testing.T) {
	t.Parallel()
	s := open(t)
	s.agreeing()
	if _, err := s.gateway.Charge(t.Context(), processor.Operation{Kind: processor.Charge, Key: "k", Payment: "under way",
		Method: "pm_card_visa", Amount: 5, Currency: "EUR"}); err != nil {
		t.Fatal(err)
	}
	s.here("under way", "pending", "", 5, 0)
	testdb.Exec(t, s.pool, `UPDATE lastseat.payments SET calling = 'k' WHERE id = 'under way'`)
	s.byHand()
	report := s.run()
	if !report.Agree || report.Charges != 5 || report.Refunds != 3 || report.UnderWay != 1 || report.Others != 1 {
		t.Errorf("%+v", report)
	}
	// the list of the processor begins later: every charge of the books is looked up
	testdb.Exec(t, s.pool, `UPDATE lastseat.payments SET updated_at = now() + interval '1 hour', version = version + 1`)
	s.begin = time.Now().Add(time.Minute)
	if report = s.run(); !report.Agree || report.Charges != 4 || report.Refunds != 2 || report.Others != 0 {
		t.Errorf("looked up: %+v", report)
	}
}

// byHand has somebody else make a charge at the processor.
func (s *shop) byHand() {
	s.t.Helper()
	request := httptest.NewRequestWithContext(s.t.Context(), http.MethodPost, "/v1/payment_intents",
		strings.NewReader("amount=900&currency=eur&payment_method=pm_card_visa&confirm=true"))
	request.SetBasicAuth("sk_test_x", "")
	answer := httptest.NewRecorder()
	if s.fake.ServeHTTP(answer, request); answer.Code != http.StatusOK {
		s.t.Fatal(answer.Body)
	}
}

// Every kind of difference, beside what agrees.
func TestDifferences(t *testing.T) {
	t.Parallel()
	s := open(t)
	s.agreeing()
	var want []reconcile.Difference
	add := func(kind, payment, status, charge, refund, request string, there, books int64) {
		want = append(want, reconcile.Difference{Kind: kind, Payment: payment, Status: status, Charge: charge, Refund: refund,
			Request: request, Currency: "EUR", AtProcessor: there, InBooks: books})
	}
	unknown := s.there(processor.Charge, "a unknown", "", 11)
	add(reconcile.NotInBooks, "a unknown", "", unknown, "", "", 11, 0)
	late := s.there(processor.Charge, "b late", "", 12)
	s.here("b late", "declined", "", 12, 0)
	add(reconcile.NotInBooks, "b late", "declined", late, "", "", 12, 0)
	first := s.there(processor.Charge, "c twice", "", 13)
	second := s.there(processor.Authorize, "c twice", "", 13)
	s.here("c twice", "captured", first, 13, 13)
	add(reconcile.NotInBooks, "c twice", "captured", second, "", "", 13, 0)
	s.here("d made up", "captured", "pi_made_up", 14, 14)
	add(reconcile.NotAtProcessor, "d made up", "captured", "pi_made_up", "", "", 0, 14)
	reserved := s.there(processor.Authorize, "e reserved", "", 15)
	s.here("e reserved", "captured", reserved, 15, 10)
	add(reconcile.Authorized, "e reserved", "captured", reserved, "", "", 15, 0)
	add(reconcile.Captured, "e reserved", "captured", reserved, "", "", 0, 10)
	more := s.there(processor.Charge, "f more", "", 16)
	s.here("f more", "captured", more, 20, 20)
	add(reconcile.Captured, "f more", "captured", more, "", "", 16, 20)
	// the sums of the refunds agree, and they do not
	charge := s.there(processor.Charge, "g refunds", "", 100)
	back := s.there(processor.Refund, "g refunds", charge, 30)
	s.here("g refunds", "captured", charge, 100, 100, 29, 1)
	add(reconcile.RefundNotInBooks, "g refunds", "captured", charge, back, "", 30, 0)
	add(reconcile.RefundNotAtProcessor, "g refunds", "captured", charge, "re_of_the_books", "back g refunds1", 0, 1)
	add(reconcile.RefundNotAtProcessor, "g refunds", "captured", charge, "re_of_the_books", "back g refunds29", 0, 29)
	voided := s.there(processor.Authorize, "h let go", "", 17)
	if !s.fake.Expire(voided) {
		t.Fatal("it is not authorized")
	}
	s.here("h let go", "authorized", voided, 17, 0)
	add(reconcile.Authorized, "h let go", "authorized", voided, "", "", 0, 17)
	gone := s.there(processor.Authorize, "i gone", "", 18)
	s.here("i gone", "expired", gone, 18, 0)
	add(reconcile.NotInBooks, "i gone", "expired", gone, "", "", 18, 0)
	dollars := s.thereIn("USD", processor.Charge, "j dollars", "", 19)
	s.here("j dollars", "captured", dollars, 19, 19)
	add(reconcile.Currency, "j dollars", "captured", dollars, "", "", 19, 19)
	want[len(want)-1].Currency = "USD"
	// the same refund, of another amount
	charge = s.there(processor.Charge, "k refund", "", 100)
	back = s.there(processor.Refund, "k refund", charge, 30)
	s.here("k refund", "captured", charge, 100, 100, 30)
	testdb.Exec(t, s.pool, `BEGIN; SET LOCAL session_replication_role = replica;
		UPDATE lastseat.calls SET detail = detail || '{"amount": 31}' WHERE key = 'back k refund30'; COMMIT`)
	add(reconcile.RefundAmount, "k refund", "captured", charge, back, "back k refund30", 30, 31)

	report := s.run()
	sortRefunds(report.Differences)
	if got, expected := lines(t, report.Differences), lines(t, want); !slices.Equal(got, expected) {
		t.Errorf("found:\n%s\nwant:\n%s", got, expected)
	}
	if report.Agree {
		t.Error("they agree")
	}
}

func sortRefunds(all []reconcile.Difference) {
	slices.SortStableFunc(all, func(a, b reconcile.Difference) int {
		switch {
		case a.Payment != b.Payment || a.Request == "" || b.Request == "":
			return 0
		case a.Request < b.Request:
			return -1
		}
		return 1
	})
}

func lines(t *testing.T, all []reconcile.Difference) (lines []string) {
	t.Helper()
	for _, d := range all {
		line, err := json.Marshal(d)
		if err != nil {
			t.Fatal(err)
		}
		lines = append(lines, string(line)+"\n")
	}
	return lines
}

// What moved between the list and the books is no difference, and a processor that can't be asked is no agreement.
func TestMovesMeanwhile(t *testing.T) {
	t.Parallel()
	s := open(t)
	charge := s.there(processor.Charge, "p", "", 100)
	s.here("p", "captured", charge, 100, 100, 40)
	listed := false
	s.answer(func(w http.ResponseWriter, r *http.Request) {
		s.answer(s.fake.ServeHTTP)
		s.fake.ServeHTTP(w, r)
		if listed = r.URL.Path == "/v1/payment_intents"; listed {
			s.there(processor.Refund, "p", charge, 40)
		}
	})
	if report := s.run(); !report.Agree || !listed || report.Refunds != 1 {
		t.Errorf("%+v", report)
	}
	s.answer(func(w http.ResponseWriter, _ *http.Request) { http.Error(w, "no", http.StatusBadGateway) })
	_, err := reconcile.Run(t.Context(), s.pool, "stripe", s.gateway, s.begin)
	if unreachable := (*reconcile.ProcessorError)(nil); !errors.As(err, &unreachable) {
		t.Errorf("%v", err)
	}
}
