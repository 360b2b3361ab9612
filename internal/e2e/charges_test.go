package e2e

import (
	"cmp"
	"os"
	"strconv"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/lastseat/lastseat/internal/fakestripe"
	"github.com/lastseat/lastseat/internal/reconcile"
	"github.com/lastseat/lastseat/internal/testdb"
	"github.com/lastseat/lastseat/processor/stripe"
)

// TestChargesUnderKills charges cards and refunds charges, and authorizes, captures, voids and lets run out, while
// almost every request to the processor goes wrong in one way or another, webhooks come twice and in any order, and
// workers are killed before a call, in it, and between call and record. Then nothing is unknown, the clearing accounts
// are empty, and the processor has what the books say, one charge for each payment.
func TestChargesUnderKills(t *testing.T) {
	t.Parallel()
	if !testdb.Soaks() {
		t.Skip("minutes, under make soak; TestChargesUnderFaults in jobs has the faults without processes")
	}
	began := time.Now().Add(-time.Minute)
	n := cmp.Or(soakCharges(), 250)
	pool := testdb.Pool(t, testdb.New(t))
	testdb.Exec(t, pool, `SELECT lastseat.open_account('card', 'EUR', NULL), lastseat.open_account('shop', 'EUR')`)
	k := openTill(t, pool, min(max(20, n/8), 200))
	for _, kind := range fakestripe.Kinds {
		if kind != fakestripe.Declined { // a tenth of the cards are
			k.fake.Break(fakestripe.Fault{Kind: kind, Rate: 0.09, Delay: 50})
		}
	}
	// a look may read the list of all charges: about a tenth of such looks fail in each way, on one of the pages
	pages := float64(n/75 + 1)
	for _, kind := range []fakestripe.FaultKind{fakestripe.CutBefore, fakestripe.ErrorBefore, fakestripe.Truncated} {
		k.fake.Break(fakestripe.Fault{Kind: kind, Rate: 0.09 / pages, Operation: "read"})
	}
	for _, sql := range asked {
		testdb.Exec(t, pool, sql, n)
	}
	settled := func() bool {
		return testdb.Scalar[int](t, pool, unsettledSQL) == 0 &&
			testdb.Scalar[int](t, pool, `SELECT count(*)::int FROM lastseat.taken_events`) == len(k.fake.Events()) &&
			testdb.Scalar[int](t, pool, unsettledSQL) == 0
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

const onCard = `'card', 'shop', 100 + i, 'EUR'`

// asked is what is asked for about $1 charges, and a third as many authorizations: of these a quarter each is captured
// and refunded in part, captured in part, voided, and left to run out while its call may be under way. One in eight is
// asked to be captured and to be voided.
var asked = []string{
	`SELECT lastseat.charge('c' || i, 'p' || i, ` + onCard + `, 'stripe', ` + cardOf + `)
	FROM generate_series(0, $1::int - 1) i`,
	`SELECT lastseat.authorize('a' || i, 'q' || i, ` + onCard + `,
		CASE i % 4 WHEN 3 THEN now() + make_interval(secs => 5 + i % 60) END, 'stripe', ` + cardOf + `)
	FROM generate_series(0, $1::int / 3) i`,
	`SELECT lastseat.refund('r' || i, 'p' || i, 60), lastseat.refund('s' || i, 'p' || i)
	FROM generate_series(0, $1::int - 1, 3) i`,
	`SELECT CASE WHEN i % 4 < 2 THEN lastseat.capture('k' || i, 'q' || i, CASE i % 4 WHEN 1 THEN 60 END) END,
		CASE WHEN i % 4 = 2 OR i % 8 = 0 THEN lastseat.void('v' || i, 'q' || i) END,
		CASE WHEN i % 4 = 0 THEN lastseat.refund('t' || i, 'q' || i, 30) END
	FROM generate_series(0, $1::int / 3) i`,
}

const (
	cardOf = `CASE i % 10 WHEN 9 THEN 'pm_card_visa_chargeDeclined' ELSE 'pm_card_visa' END`
	// unsettledSQL counts what is still to be done.
	unsettledSQL = `SELECT (SELECT count(*)::int FROM lastseat.requests WHERE status = 'pending')
		+ (SELECT count(*)::int FROM lastseat.payments WHERE status = 'authorized' AND expires_at < now() + '1 hour')`
)

// soakCharges is how many charges SOAK_CHARGES asks for; 0: it doesn't.
func soakCharges() int {
	n, _ := strconv.Atoi(os.Getenv("SOAK_CHARGES"))
	return n
}

// soakSeed is that of the processor's faults.
func soakSeed() uint64 {
	seed, _ := strconv.ParseUint(os.Getenv("SOAK_SEED"), 10, 64)
	return cmp.Or(seed, 17)
}

// sums are what a side says.
type sums struct {
	taken, reserved  int64 // minor units: taken less what was refunded, and authorized
	charges, holding int   // payments that money was taken for, also if it was given back; that are authorized
}

// atProcessor is what the processor has. No payment may have two charges.
func (k *till) atProcessor() (m sums) {
	charged := map[string]int{}
	for _, charge := range k.fake.Charges() {
		switch {
		case charge.Received > 0:
			m.taken += charge.Received - charge.Refunded
			charged[charge.Metadata["lastseat_payment"]]++
		case charge.Status == "requires_capture":
			m.reserved += charge.Amount
			m.holding++
			charged[charge.Metadata["lastseat_payment"]]++
		}
	}
	for payment, times := range charged {
		if times > 1 {
			k.t.Errorf("%s was charged %d times", payment, times)
		}
	}
	m.charges = len(charged) - m.holding
	return m
}

// booksSQL is the same as the books have it. What was given back since it came late is in the books as returned.
const booksSQL = `
	SELECT -a.balance, a.held,
	       (SELECT count(*)::int FROM lastseat.payments WHERE status = 'captured')
	       + (SELECT count(DISTINCT p.id)::int FROM lastseat.requests r
	          JOIN lastseat.calls c ON c.key = r.key JOIN lastseat.payments p ON c.subject = 'payment:' || p.id
	          WHERE (r.status, r.code) = ('applied', 'returned') AND (r.detail ->> 'returned')::bigint > 0),
	       (SELECT count(*)::int FROM lastseat.payments WHERE status = 'authorized')
	FROM lastseat.accounts a WHERE a.id = 'card'`

// compare compares the processor with the books.
func (k *till) compare(pool *pgxpool.Pool, n int, began time.Time) {
	t := k.t
	t.Helper()
	var books sums
	err := pool.QueryRow(t.Context(), booksSQL).Scan(&books.taken, &books.reserved, &books.charges, &books.holding)
	if there := k.atProcessor(); err != nil || there != books {
		t.Errorf("the processor has %+v, the books %+v; %v", there, books, err)
	}
	for name, sql := range map[string]string{
		"failed requests": `SELECT count(*)::int FROM lastseat.requests WHERE status NOT IN ('applied', 'rejected')`,
		"open calls": `SELECT count(*)::int FROM lastseat.calls
			WHERE ended_at IS NULL OR result NOT IN ('done', 'declined')`,
		"clearing accounts": `SELECT count(*)::int FROM lastseat.clearing()
			WHERE balance <> 0 OR in_flight <> 0 OR payments <> 0`,
		"pending payments": `SELECT count(*)::int FROM lastseat.payments WHERE status = 'pending' OR calling IS NOT NULL`,
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
	statuses := testdb.Scalar[string](t, pool, `SELECT string_agg(n || ' ' || status, ', ' ORDER BY status)
		FROM (SELECT status, count(*) AS n FROM lastseat.payments GROUP BY status) p`)
	attempts := testdb.Scalar[string](t, pool, `SELECT format('%s calls, %s attempts, %s of one', count(*), sum(attempt),
		max(attempt)) FROM lastseat.calls`)
	t.Logf("%d charges asked for, and %d authorizations: %s in %v; %s; kills %v; the processor: %+v; "+
		"reconcile: %d charges, %d refunds, agree: %t", n, n/3+1, statuses, time.Since(began)-time.Minute, attempts, k.kills,
		k.fake.Counts(), report.Charges, report.Refunds, report.Agree)
	if k.fake.Counts().Faults == 0 || len(k.kills) < len(killed) {
		t.Errorf("nothing went wrong: %v, %+v", k.kills, k.fake.Counts())
	}
}
