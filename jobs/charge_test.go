package jobs_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/lastseat/lastseat/internal/testdb"
	"github.com/lastseat/lastseat/jobs"
	"github.com/lastseat/lastseat/outbox"
	"github.com/lastseat/lastseat/processor"
)

// till is a processor: it carries an operation out once for each key, and fails as its faults say.
type till struct {
	mu      sync.Mutex
	faults  func(op processor.Operation) string // empty: none
	stored  map[string]processor.Answer         // by key: what is answered from now on
	charges map[string]*processor.Record        // by reference
	of      map[string]string                   // the reference of a charge, by its key
	held    chan struct{}                       // what hangs waits for this
}

func newTill() *till {
	return &till{
		stored: make(map[string]processor.Answer), charges: make(map[string]*processor.Record), of: make(map[string]string),
		held: make(chan struct{}), faults: func(processor.Operation) string { return "" },
	}
}

var errCut = errors.New("connection reset")

func (g *till) send(ctx context.Context, op processor.Operation) (processor.Answer, error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	unknown := processor.Answer{Result: processor.Unknown, Code: processor.CodeNoAnswer}
	if known, again := g.stored[op.Key]; again {
		known.Replayed = true
		return known, nil
	}
	fault := g.faults(op)
	switch fault {
	case "not sent":
		return processor.Answer{}, &processor.NotSentError{Err: errCut}
	case "cut before":
		return unknown, nil
	case "stored before":
		unknown.Code, unknown.Stored = processor.CodeServer, true
		g.stored[op.Key] = unknown
		return unknown, nil
	case "declined":
		g.stored[op.Key] = processor.Answer{Result: processor.Declined, Code: "card_declined", Message: "No."}
		return g.stored[op.Key], nil
	}
	answer := g.carryOut(op)
	switch fault {
	case "stored after":
		unknown.Code, unknown.Stored = processor.CodeServer, true
		g.stored[op.Key] = unknown
		return unknown, nil
	case "cut after":
		g.stored[op.Key] = answer
		return unknown, nil
	case "hang":
		g.stored[op.Key] = answer
		g.mu.Unlock()
		defer g.mu.Lock()
		select {
		case <-ctx.Done():
		case <-g.held:
		case <-time.After(500 * time.Millisecond): // longer than the lane waits for it
		}
		return unknown, nil
	}
	g.stored[op.Key] = answer
	return answer, nil
}

func (g *till) carryOut(op processor.Operation) processor.Answer {
	answer := processor.Answer{Result: processor.Done, Amount: op.Amount, Currency: op.Currency}
	switch op.Kind {
	case processor.Charge:
		answer.Reference = fmt.Sprintf("ch_%d", len(g.charges))
		g.of[op.Key] = answer.Reference
		g.charges[answer.Reference] = &processor.Record{
			Reference: answer.Reference, Payment: op.Payment, Key: op.Key, Status: processor.StatusCaptured,
			Currency: op.Currency, Amount: op.Amount, Captured: op.Amount,
		}
	case processor.Refund:
		charge := g.charges[op.Reference]
		answer.Reference = fmt.Sprintf("re_%s_%d", op.Reference, len(charge.Refunds))
		charge.Refunds = append(charge.Refunds, processor.RefundRecord{
			Reference: answer.Reference, Key: op.Key, Amount: op.Amount, Result: processor.Done,
		})
	default:
		panic(op.Kind)
	}
	return answer
}

func (g *till) Charge(ctx context.Context, op processor.Operation) (processor.Answer, error) {
	return g.send(ctx, op)
}

func (g *till) Refund(ctx context.Context, op processor.Operation) (processor.Answer, error) {
	return g.send(ctx, op)
}

func (g *till) Authorize(context.Context, processor.Operation) (processor.Answer, error) {
	panic("authorize")
}

func (g *till) Capture(context.Context, processor.Operation) (processor.Answer, error) {
	panic("capture")
}

func (g *till) Void(context.Context, processor.Operation) (processor.Answer, error) { panic("void") }

func (g *till) LookUp(_ context.Context, query processor.Query) (processor.Record, error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	reference := query.Reference
	if reference == "" {
		reference = g.of[query.Key]
	}
	if charge := g.charges[reference]; charge != nil {
		return *charge, nil
	}
	return processor.Record{}, processor.ErrNotFound
}

func (g *till) List(context.Context, time.Time, string) (processor.Page, error) { panic("list") }

func (g *till) KeyWindow() time.Duration { return 24 * time.Hour }

// taken is what the till has, refunds taken off, in how many charges.
func (g *till) taken() (amount int64, charges int) {
	g.mu.Lock()
	defer g.mu.Unlock()
	for _, charge := range g.charges {
		amount += charge.Captured - charge.Refunded()
	}
	return amount, len(g.charges)
}

// cashier runs a worker that has the till, until the test ends.
func cashier(t *testing.T, pool *pgxpool.Pool, g *till) {
	t.Helper()
	caller := jobs.Processor("till", g)
	caller.Late = 100 * time.Millisecond
	work(t, pool, caller)
}

// work runs a worker that has a caller, until the test ends.
func work(t *testing.T, pool *pgxpool.Pool, caller outbox.Caller) {
	t.Helper()
	kinds := &outbox.Kinds{}
	jobs.Register(kinds)
	kinds.AddCaller(caller)
	config := pool.Config()
	config.ConnConfig.RuntimeParams["role"] = "lastseat_worker"
	config.ConnConfig.RuntimeParams["application_name"] = "cashier"
	workers, err := pgxpool.NewWithConfig(t.Context(), config)
	if err != nil {
		t.Fatal(err)
	}
	settings := outbox.Settings{
		Logger: slog.New(slog.DiscardHandler), StopTimeout: time.Second,
		Calls: outbox.CallTimes{Watch: 200 * time.Millisecond, Pause: 5 * time.Millisecond, Poll: 10 * time.Millisecond},
	}
	ctx, cancel := context.WithCancel(context.WithoutCancel(t.Context()))
	done := make(chan error, 1)
	go func() {
		for {
			err := outbox.NewWorker(workers, kinds, settings).Run(ctx)
			if cut := (*pgconn.PgError)(nil); !errors.As(err, &cut) || cut.Code != "57P01" {
				done <- err
				return
			} // cut while it started: whoever runs it starts it again
		}
	}()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
		workers.Close()
	})
}

func newShop(t *testing.T) *pgxpool.Pool {
	t.Helper()
	pool := newPool(t)
	exec(t, pool, `SELECT lastseat.open_account('card', 'EUR', NULL), lastseat.open_account('shop', 'EUR')`)
	return pool
}

func waitFor(t *testing.T, pool *pgxpool.Pool, keys ...string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	if outcomes, err := outbox.Wait(ctx, pool, keys...); err != nil {
		for _, o := range outcomes {
			if o.Status == outbox.Pending {
				t.Errorf("%s is pending", o.Key)
			}
		}
		t.Fatal(err)
	}
}

// cleared checks what holds when nothing is under way: the till and the books agree, and the clearing accounts are
// empty.
func cleared(t *testing.T, pool *pgxpool.Pool, g *till) {
	t.Helper()
	amount, charges := g.taken()
	if balance := testdb.Scalar[int64](t, pool,
		`SELECT -balance FROM lastseat.accounts WHERE id = 'card'`); balance != amount {
		t.Errorf("the till has %d, the books say %d", amount, balance)
	}
	if n := testdb.Scalar[int](t, pool,
		`SELECT count(*)::int FROM lastseat.payments WHERE status = 'captured' AND reference IS NOT NULL`); n != charges {
		t.Errorf("%d charges at the till, %d in the books", charges, n)
	}
	if n := testdb.Scalar[int](t, pool, `SELECT count(*)::int FROM lastseat.clearing()
		WHERE balance <> 0 OR in_flight <> 0 OR payments <> 0 OR unknown <> 0`); n != 0 {
		t.Errorf("%d clearing accounts are not empty", n)
	}
	if n := testdb.Scalar[int](t, pool, `SELECT count(*)::int FROM lastseat.calls WHERE ended_at IS NULL`); n != 0 {
		t.Errorf("%d calls are open", n)
	}
	proven(t, pool)
}

// Every answer that a processor can give to a charge and to a refund: what it comes to, and what it leaves.
func TestCharge(t *testing.T) {
	t.Parallel()
	pool, g := newShop(t), newTill()
	first := make(map[string]string) // the fault of an operation's first attempt
	g.faults = func(op processor.Operation) string {
		fault := first[string(op.Kind)+" "+op.Payment]
		delete(first, string(op.Kind)+" "+op.Payment)
		return fault
	}
	cases := map[string]string{ // by fault
		"": "applied", "not sent": "applied", "cut before": "applied", "cut after": "applied", "stored after": "applied",
		"hang": "applied", "declined": "rejected declined", "stored before": "rejected declined",
	}
	for fault := range cases {
		first["charge c-"+fault], first["refund r-"+fault] = fault, fault
		for _, payment := range []string{"c-" + fault, "r-" + fault} {
			exec(t, pool, `SELECT lastseat.charge($1, $1, 'card', 'shop', 1000, 'EUR', 'till', 'pm_card_visa')`, payment)
		}
		// asked for before the charge has its answer
		exec(t, pool, `SELECT lastseat.refund('refund ' || $1, $1, 300), lastseat.refund('rest ' || $1, $1)`, "r-"+fault)
	}
	cashier(t, pool, g)
	for fault, want := range cases {
		waitFor(t, pool, "c-"+fault, "r-"+fault, "refund r-"+fault, "rest r-"+fault)
		for key, code := range map[string]string{"c-" + fault: "charged", "refund r-" + fault: "refunded"} {
			expected := want
			if want == "applied" {
				expected += " " + code
			}
			if o := outcome(t, pool, key); string(o.Status)+" "+o.Code != expected {
				t.Errorf("%s: %s %s %s, want %s", key, o.Status, o.Code, o.Detail, expected)
			}
		}
		left := int64(0)
		if o := outcome(t, pool, "rest r-"+fault); o.Code != jobs.CodeRefunded {
			t.Errorf("the rest of r-%s: %s %s", fault, o.Code, o.Detail)
		}
		p, err := jobs.PaymentOf(t.Context(), pool, "r-"+fault)
		if err != nil || p.Captured-p.Refunded != left {
			t.Errorf("%+v, %v", p, err)
		}
	}
	cleared(t, pool, g)
}

// A charge that nothing here allows asks no processor; one whose processor nobody has waits.
func TestChargeIsNotSent(t *testing.T) {
	t.Parallel()
	pool, g := newShop(t), newTill()
	exec(t, pool, `SELECT lastseat.open_account('poor', 'EUR'), lastseat.open_account('yen', 'JPY')`)
	exec(t, pool, `SELECT lastseat.charge('poor', 'p1', 'poor', 'shop', 1, 'EUR', 'till', 'pm'),
		lastseat.charge('yen', 'p2', 'card', 'yen', 1, 'EUR', 'till', 'pm'),
		lastseat.charge('other', 'p3', 'card', 'shop', 1, 'EUR', 'other', 'pm')`)
	cashier(t, pool, g)
	waitFor(t, pool, "poor", "yen")
	for key, code := range map[string]string{"poor": jobs.CodeInsufficientFunds, "yen": jobs.CodeCurrencyMismatch} {
		if o := outcome(t, pool, key); o.Code != code {
			t.Errorf("%s: %s", key, o.Code)
		}
	}
	for testdb.Scalar[string](t, pool, `SELECT calling FROM lastseat.payment('p3')`) != "other" {
		time.Sleep(5 * time.Millisecond)
	}
	if got := testdb.Scalar[string](t, pool, `SELECT format('%s %s %s %s', account, balance, in_flight, payments)
		FROM lastseat.clearing() WHERE payments > 0`); got != "lastseat:clearing:other:EUR 1 1 1" {
		t.Errorf("under way: %s", got)
	}
	if _, charges := g.taken(); charges != 0 {
		t.Errorf("%d charges", charges)
	}
	proven(t, pool)
}

// Many charges and refunds, a tenth of them with each fault, while sessions of the workers are cut at random: between
// intent, call and record, and within each. Each charge is at the till as often as in the books.
func TestChargesUnderFaults(t *testing.T) {
	t.Parallel()
	pool, g := newShop(t), newTill()
	n := 200
	if testdb.Soaks() {
		n = 10_000
	}
	faults := []string{"not sent", "cut before", "cut after", "stored before", "stored after", "declined", "hang"}
	g.faults = func(processor.Operation) string { // called under the till's lock
		if i := rand.N(10 * len(faults) / 7); i < len(faults) {
			return faults[i]
		}
		return ""
	}
	keys := make([]string, 0, 2*n)
	for i := range n {
		keys = append(keys, fmt.Sprintf("c%d", i))
		if i%2 == 0 {
			keys = append(keys, fmt.Sprintf("r%d", i))
		}
	}
	exec(t, pool, `SELECT lastseat.charge('c' || i, 'p' || i, 'card', 'shop', 100 + i, 'EUR', 'till', 'pm_card_visa')
		FROM generate_series(0, $1::int - 1) i`, n)
	exec(t, pool, `SELECT lastseat.refund('r' || i, 'p' || i, 50) FROM generate_series(0, $1::int - 1, 2) i`, n)
	for range 2 { // workers
		cashier(t, pool, g)
	}
	stop, stopped := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(stopped)
		for range n / 5 {
			select {
			case <-stop:
				return
			case <-time.After(20 * time.Millisecond):
			}
			_, _ = pool.Exec(context.WithoutCancel(t.Context()), `SELECT pg_terminate_backend(pid) FROM pg_stat_activity
				WHERE datname = current_database() AND pid <> pg_backend_pid() AND application_name IN ('cashier', 'lastseat lane')
				ORDER BY random() LIMIT 1`)
		}
	}()
	waitFor(t, pool, keys...)
	close(stop)
	<-stopped
	cleared(t, pool, g)
}
