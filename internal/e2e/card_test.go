package e2e

import (
	"cmp"
	"context"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/lastseat/lastseat/internal/fakestripe"
	"github.com/lastseat/lastseat/internal/reconcile"
	"github.com/lastseat/lastseat/internal/testdb"
	"github.com/lastseat/lastseat/jobs"
	"github.com/lastseat/lastseat/outbox"
	"github.com/lastseat/lastseat/processor"
	"github.com/lastseat/lastseat/processor/stripe"
)

// The environment that makes the test's binary a worker that charges cards, with shorter times than worker run has.
const (
	cardWorkerURL  = "E2E_TEST_CARD_WORKER_URL"
	cardWorkerTill = "E2E_TEST_CARD_WORKER_STRIPE"
	cardWorkerKey  = "E2E_TEST_CARD_WORKER_KEY"
)

func runCardWorker(url string) int {
	ctx := context.Background()
	pool, err := pgxpool.New(ctx, url)
	if err != nil {
		return 1
	}
	gateway, err := stripe.New(stripe.Options{
		Key: os.Getenv(cardWorkerKey), URL: os.Getenv(cardWorkerTill), Timeout: 5 * time.Second,
	})
	if err != nil {
		return 1
	}
	kinds := &outbox.Kinds{}
	jobs.Register(kinds)
	caller := jobs.Processor("stripe", gateway)
	caller.Late = time.Second
	kinds.AddCaller(caller)
	log := slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: slog.LevelError}))
	err = outbox.NewWorker(pool, kinds, outbox.Settings{Logger: log, Calls: outbox.CallTimes{
		Watch: 6 * time.Second, Pause: time.Millisecond, Poll: 20 * time.Millisecond,
	}}).Run(ctx)
	if err != nil {
		log.Error("the worker has ended", slog.String("error", err.Error()))
		return 1
	}
	return 0
}

// till is a card processor, the network before it, and the workers, some of which it kills.
type till struct {
	t      *testing.T
	fake   *fakestripe.Server
	url    string // of the network
	worker string // the URL of the workers' database

	mu     sync.Mutex
	writes int
	every  int // so many requests come between two kills; 0: no more kills
	kills  map[string]int
	number int                  // of the workers that were started
	alive  map[string]*exec.Cmd // by API key
}

// killed are the points at which a worker is killed, in turn.
var killed = []string{"before it is carried out", "carried out, not answered", "answered"}

// network hands a request on. Every so many requests it kills the worker that has sent it, at one of the points.
func (k *till) network(w http.ResponseWriter, r *http.Request) {
	point := ""
	if r.Method == http.MethodPost {
		k.mu.Lock()
		k.writes++
		if k.every > 0 && k.writes%k.every == 0 {
			point = killed[k.writes/k.every%len(killed)]
		}
		k.mu.Unlock()
	}
	sender := strings.TrimPrefix(r.Header.Get("Authorization"), "Bearer ")
	switch point {
	case "":
		k.fake.ServeHTTP(w, r)
	case killed[0]:
		k.kill(sender, point)
		panic(http.ErrAbortHandler)
	case killed[1]:
		k.fake.ServeHTTP(httptest.NewRecorder(), r)
		k.kill(sender, point)
		panic(http.ErrAbortHandler)
	default: // the worker may have noted the answer, or not
		defer func() { go k.kill(sender, point) }()
		k.fake.ServeHTTP(w, r)
	}
}

// kill kills a worker, and starts another one.
func (k *till) kill(key, point string) {
	k.mu.Lock()
	defer k.mu.Unlock()
	cmd := k.alive[key]
	if cmd == nil || k.every == 0 {
		return // it was killed meanwhile
	}
	delete(k.alive, key)
	if err := cmd.Process.Kill(); err != nil {
		k.t.Error(err)
	}
	_ = cmd.Wait()
	k.kills[point]++
	k.start()
}

// start starts a worker. The caller has the lock.
func (k *till) start() {
	k.number++
	key := fmt.Sprintf("sk_test_%d", k.number)
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), cardWorkerURL+"="+k.worker, cardWorkerTill+"="+k.url, cardWorkerKey+"="+key)
	cmd.Stderr = os.Stderr
	if err := cmd.Start(); err != nil {
		k.t.Error(err)
		return
	}
	k.alive[key] = cmd
}

// stop ends all workers.
func (k *till) stop() {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.every = 0
	for key, cmd := range k.alive {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
		delete(k.alive, key)
	}
}

func openTill(t *testing.T, pool *pgxpool.Pool, every int) *till {
	t.Helper()
	k := &till{
		t: t, every: every, worker: testdb.As(t, pool, "lastseat_worker"), kills: map[string]int{},
		alive: map[string]*exec.Cmd{},
	}
	var receiver processor.Receiver
	hooks := httptest.NewServer(&receiver)
	k.fake = fakestripe.New(fakestripe.Options{Seed: 17, SearchLag: time.Second, WebhookURL: hooks.URL,
		WebhookSecret: "whsec_of_the_till"})
	k.fake.Send(fakestripe.Sending{Copies: 2, Shuffle: 300})
	network := httptest.NewServer(http.HandlerFunc(k.network))
	k.url = network.URL
	gateway, err := stripe.New(stripe.Options{Key: "sk_test_hooks", URL: k.url})
	if err != nil {
		t.Fatal(err)
	}
	verify, err := stripe.Webhooks("whsec_of_the_till")
	if err != nil {
		t.Fatal(err)
	}
	receiver = processor.Receiver{
		Source: "stripe", Verify: verify, LookUp: gateway.LookUp, Take: jobs.TakeLate, DB: pool,
		Logger: slog.New(slog.DiscardHandler),
	}
	t.Cleanup(func() { k.stop(); network.Close(); k.fake.Close(); hooks.Close(); gateway.Close() })
	k.mu.Lock()
	defer k.mu.Unlock()
	k.start()
	k.start()
	return k
}

// TestChargesUnderKills charges cards and refunds charges while almost every request to the processor goes wrong in one
// way or another, webhooks come twice and in any order, and workers are killed before a call, in it, and between call
// and record. Then nothing is unknown, the clearing accounts are empty, and the processor has what the books say, one
// charge for each payment.
func TestChargesUnderKills(t *testing.T) {
	t.Parallel()
	if !testdb.Soaks() {
		t.Skip("minutes, under make soak; TestChargesUnderFaults in jobs has the faults without processes")
	}
	began := time.Now().Add(-time.Minute)
	n := cmp.Or(soakCharges(), 250)
	pool := testdb.Pool(t, testdb.New(t))
	testdb.Exec(t, pool, `SELECT lastseat.open_account('card', 'EUR', NULL), lastseat.open_account('shop', 'EUR')`)
	k := openTill(t, pool, max(20, n/8))
	for _, kind := range fakestripe.Kinds {
		if kind != fakestripe.Declined { // a tenth of the cards are
			k.fake.Break(fakestripe.Fault{Kind: kind, Rate: 0.09, Delay: 50})
		}
	}
	// of looks only a few fail: one of them may read a list of many pages
	for _, kind := range []fakestripe.FaultKind{fakestripe.CutBefore, fakestripe.ErrorBefore, fakestripe.Truncated} {
		k.fake.Break(fakestripe.Fault{Kind: kind, Rate: 0.003, Operation: "read"})
	}
	testdb.Exec(t, pool, `SELECT lastseat.charge('c' || i, 'p' || i, 'card', 'shop', 100 + i, 'EUR', 'stripe',
		CASE i % 10 WHEN 9 THEN 'pm_card_visa_chargeDeclined' ELSE 'pm_card_visa' END)
		FROM generate_series(0, $1::int - 1) i`, n)
	testdb.Exec(t, pool, `SELECT lastseat.refund('r' || i, 'p' || i, 60), lastseat.refund('s' || i, 'p' || i)
		FROM generate_series(0, $1::int - 1, 3) i`, n)
	settled := func() bool {
		return testdb.Scalar[int](t, pool, `SELECT count(*)::int FROM lastseat.requests WHERE status = 'pending'`) == 0 &&
			testdb.Scalar[int](t, pool, `SELECT count(*)::int FROM lastseat.taken_events`) == len(k.fake.Events()) &&
			testdb.Scalar[int](t, pool, `SELECT count(*)::int FROM lastseat.requests WHERE status = 'pending'`) == 0
	}
	for deadline := time.Now().Add(30 * time.Minute); !settled(); time.Sleep(200 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal("waited in vain for all requests to be settled, and all webhooks to be taken in")
		}
	}
	k.stop()
	k.fake.NoFaults()
	k.compare(pool, n, began)
}

// soakCharges is how many charges SOAK_CHARGES asks for; 0: it doesn't.
func soakCharges() int {
	n, _ := strconv.Atoi(os.Getenv("SOAK_CHARGES"))
	return n
}

// compare compares the processor with the books.
func (k *till) compare(pool *pgxpool.Pool, n int, began time.Time) {
	t := k.t
	t.Helper()
	money, charged := int64(0), map[string]int{}
	for _, charge := range k.fake.Charges() {
		if left := charge.Received - charge.Refunded; charge.Received > 0 {
			money += left
			charged[charge.Metadata["lastseat_payment"]]++
		}
	}
	for payment, times := range charged {
		if times > 1 {
			t.Errorf("%s was charged %d times", payment, times)
		}
	}
	books := testdb.Scalar[int64](t, pool, `SELECT -balance FROM lastseat.accounts WHERE id = 'card'`)
	captured := testdb.Scalar[int](t, pool, `SELECT count(*)::int FROM lastseat.payments WHERE status = 'captured'`)
	returned := testdb.Scalar[int](t, pool,
		`SELECT count(*)::int FROM lastseat.requests WHERE (status, code) = ('applied', 'returned')`)
	if money != books || len(charged) != captured+returned {
		t.Errorf("the processor has %d in %d charges, the books %d in %d, %d given back", money, len(charged), books,
			captured, returned)
	}
	for name, sql := range map[string]string{
		"failed requests": `SELECT count(*)::int FROM lastseat.requests WHERE status NOT IN ('applied', 'rejected')`,
		"open calls": `SELECT count(*)::int FROM lastseat.calls
			WHERE ended_at IS NULL OR result NOT IN ('done', 'declined')`,
		"clearing accounts": `SELECT count(*)::int FROM lastseat.clearing()
			WHERE balance <> 0 OR in_flight <> 0 OR payments <> 0`,
	} {
		if found := testdb.Scalar[int](t, pool, sql); found != 0 {
			t.Errorf("%d %s", found, name)
		}
	}
	gateway, err := stripe.New(stripe.Options{Key: "sk_test_x", URL: k.url})
	if err != nil {
		t.Fatal(err)
	}
	defer gateway.Close()
	report, err := reconcile.Run(t.Context(), pool, "stripe", gateway, began)
	if err != nil || !report.Agree {
		t.Errorf("reconcile: %+v, %v", report, err)
	}
	start(t, on(k.worker), "worker", "audit").exits(t, 0)
	t.Logf("%d charges asked for, %d charged in %v; kills %v; the processor: %+v; reconcile: %d charges, %d refunds",
		n, captured, time.Since(began)-time.Minute, k.kills, k.fake.Counts(), report.Charges, report.Refunds)
	if k.fake.Counts().Faults == 0 || len(k.kills) < len(killed) {
		t.Errorf("nothing went wrong: %v, %+v", k.kills, k.fake.Counts())
	}
}
