package audit_test

import (
	"context"
	"errors"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/lastseat/lastseat/internal/audit"
	"github.com/lastseat/lastseat/internal/retention"
	"github.com/lastseat/lastseat/internal/testdb"
	"github.com/lastseat/lastseat/outbox"
)

// figures are what payments and reservations count in.
func figures(t *testing.T, pool *pgxpool.Pool) (all string) {
	t.Helper()
	err := pool.QueryRow(t.Context(), `SELECT concat(
		(SELECT jsonb_agg(to_jsonb(a) ORDER BY a.id) FROM lastseat.accounts a),
		(SELECT jsonb_agg(to_jsonb(r) ORDER BY r.id) FROM lastseat.resources r),
		(SELECT jsonb_agg(to_jsonb(c) ORDER BY c.limit_group, c.customer) FROM lastseat.customer_counts c),
		(SELECT jsonb_agg(to_jsonb(i) ORDER BY i.reservation_id, i.position)
		 FROM lastseat.reservation_items i WHERE i.occupies AND upper(i.during) > now()),
		(SELECT jsonb_agg(to_jsonb(w) ORDER BY w.resource_id, w.number) FROM lastseat.waiting_items w))`).Scan(&all)
	if err != nil {
		t.Fatal(err)
	}
	return all
}

// ids are those of the rows of a table, in order.
func ids(t *testing.T, pool *pgxpool.Pool, from string) (all string) {
	t.Helper()
	err := pool.QueryRow(t.Context(), `SELECT coalesce(string_agg(id, ' ' ORDER BY id), '') FROM `+from).Scan(&all)
	if err != nil {
		t.Fatal(err)
	}
	return all
}

func countOf(t *testing.T, pool *pgxpool.Pool, from string) int64 {
	t.Helper()
	return count(t, pool, strings.TrimPrefix(from, "lastseat."))
}

// What has ended, by status. Of those that are confirmed, the ones of withPast whose names begin so.
const (
	endedPayments     = `lastseat.payments WHERE status IN ('declined', 'voided', 'expired', 'captured')`
	livePayments      = `lastseat.payments WHERE status NOT IN ('declined', 'voided', 'expired', 'captured')`
	endedReservations = `lastseat.reservations WHERE status IN ('rejected', 'cancelled', 'expired') OR id LIKE 'over%'`
	liveReservations  = `lastseat.reservations WHERE status NOT IN ('rejected', 'cancelled', 'expired') AND id NOT LIKE 'over%'`
)

// withPast adds confirmed reservations of times that are over: with a customer and without, beside a quantity, and
// under a customer's limit. Only the first two have ended.
func withPast(t *testing.T, pool *pgxpool.Pool) {
	t.Helper()
	const (
		range1 = `"during": "[2020-01-01 10:00Z,2020-01-01 11:00Z)"`
		range2 = `"during": "[2020-02-01 10:00Z,2020-02-01 11:00Z)"`
	)
	call(t, pool, `hold('hold-over', 'over', '[{"resource": "hall", `+range1+`}, {"resource": "hall", `+range2+`}]')`,
		`hold('hold-over-lee', 'over-lee', '[{"resource": "desk-by-hour", `+range1+`}]', customer => 'lee')`,
		`hold('hold-half', 'half', '[{"resource": "desk-by-hour", `+range2+`}, {"resource": "many"}]')`,
		`hold('hold-counted', 'counted', '[{"resource": "booth", `+range1+`}]', customer => 'lee')`,
		`hold('hold-ahead', 'ahead', '[{"resource": "desk-by-hour", "during": "[2031-01-01 10:00Z,2031-01-01 11:00Z)"}]')`)
	for _, id := range []string{"over", "over-lee", "half", "counted", "ahead"} {
		call(t, pool, `confirm('confirm-`+id+`', '`+id+`')`)
	}
	drain(t, pool)
	if got := ids(t, pool, `lastseat.reservations WHERE status = 'confirmed'
		AND id IN ('over', 'over-lee', 'half', 'counted', 'ahead')`); got != "ahead counted half over over-lee" {
		t.Fatalf("confirmed are %s: %s", got, ids(t, pool, `(SELECT concat_ws(' ', key, code, detail) AS id
			FROM lastseat.requests WHERE key IN ('hold-half', 'confirm-half')) r`))
	}
}

// What has ended goes by age, with its items, and counts nowhere: every figure stays as it was, the audit finds nothing
// missing, and names what is changed or taken away beside it. Their ids are never used again.
func TestRetentionOfWhatHasEnded(t *testing.T) {
	t.Parallel()
	pool := filled(t)
	call(t, pool, `define_resource('desk-by-hour', 1)`, `define_resource('many', 9)`)
	drain(t, pool)
	withPast(t, pool)
	before, live := figures(t, pool), ids(t, pool, livePayments)+", "+ids(t, pool, liveReservations)
	payments, reservations := countOf(t, pool, endedPayments), countOf(t, pool, endedReservations)
	call(t, pool, `keep('payments', 1)`, `keep('reservations', 1)`)
	if removed := removeOld(t, pool, 3); removed.Payments+removed.Reservations != 0 {
		t.Fatalf("%+v was removed on its first day", removed)
	}
	call(t, pool, `keep('payments', 0)`, `keep('reservations', 0)`)
	removed := removeOld(t, pool, 3)
	if removed.Payments != payments || removed.Reservations != reservations || payments < 5 || reservations < 8 {
		t.Errorf("removed %+v, ended were %d payments and %d reservations", removed, payments, reservations)
	}
	if got := ids(t, pool, livePayments) + ", " + ids(t, pool, liveReservations); got != live {
		t.Errorf("left are %s, want %s", got, live)
	}
	if after := figures(t, pool); after != before {
		t.Errorf("the figures are\n%s\nwant\n%s", after, before)
	}
	wantClean(t, pool)
	roundIsClean(t, &audit.Continuous{}, pool)
}

// An id stands for one payment or reservation for ever. A repeated request is a duplicate still, and a new one that
// names what was removed is rejected.
func TestRemovedIDsAreNotUsedAgain(t *testing.T) {
	t.Parallel()
	pool := filled(t)
	drain(t, pool)
	old, err := pool.BeginTx(t.Context(), pgx.TxOptions{IsoLevel: pgx.RepeatableRead}) // a snapshot that has them
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = old.Rollback(context.WithoutCancel(t.Context())) }()
	if _, err := old.Exec(t.Context(), `SELECT FROM lastseat.payments LIMIT 1`); err != nil {
		t.Fatal(err)
	}
	call(t, pool, `keep('payments', 0)`, `keep('reservations', 0)`)
	removeOld(t, pool, 1000)
	for _, again := range []string{
		`authorize('new-key', 'paid', 'card', 'shop', 1000, 'EUR')`, `hold('new-key', 'let-go', '[{"resource": "night"}]')`,
		`book('new-key', 'let-go', '[{"resource": "night"}]', 'card', 'shop', 5, 'EUR')`,
	} {
		_, err := pool.Exec(t.Context(), `SELECT lastseat.`+again)
		if err == nil || !strings.Contains(err.Error(), "was asked for before (SQLSTATE LS001)") {
			t.Errorf("%s: %v", again, err)
		}
	}
	_, err = old.Exec(t.Context(), `SELECT lastseat.hold('new-key', 'let-go', '[{"resource": "night"}]')`)
	if err == nil || !strings.Contains(err.Error(), "was asked for before (SQLSTATE LS001)") {
		t.Errorf("with an old snapshot: %v", err)
	}
	var duplicate bool
	if err := pool.QueryRow(t.Context(), `SELECT (lastseat.void('void', 'voided')).duplicate
		AND (lastseat.cancel('cancel', 'let-go')).duplicate`).Scan(&duplicate); err != nil || !duplicate {
		t.Errorf("repeated requests are duplicates: %t, %v", duplicate, err)
	}
	call(t, pool, `refund('late-refund', 'paid', 1)`, `cancel('late-cancel', 'let-go')`)
	drain(t, pool)
	var codes string
	if err := pool.QueryRow(t.Context(), `SELECT string_agg(concat_ws(' ', status, code), ', ' ORDER BY key)
		FROM lastseat.outcomes('{late-cancel,late-refund}')`).Scan(&codes); err != nil ||
		codes != "rejected reservation_not_found, rejected payment_not_found" {
		t.Errorf("they are %s, %v", codes, err)
	}
	wantClean(t, pool)
	if _, err := pool.Exec(t.Context(), `DELETE FROM lastseat.removed_ids`); err == nil {
		t.Error("an id can be taken out")
	}
}

// The audit names what is changed beside retention, and takes nothing as removed without its link.
func TestRetentionOfWhatHasEndedIsNoTampering(t *testing.T) {
	t.Parallel()
	pool := filled(t)
	drain(t, pool)
	call(t, pool, `keep('payments', 0)`, `keep('reservations', 0)`)
	// changed before it is removed, past the triggers: what a keeper notes is what it finds
	tamper(t, pool, `UPDATE lastseat.payments SET to_account = 'till' WHERE id = 'voided';
		UPDATE lastseat.reservation_items SET quantity = 2 WHERE reservation_id = 'let-go' AND position = 1`)
	if removed := removeOld(t, pool, 1000); removed.Payments == 0 || removed.Reservations == 0 {
		t.Fatalf("removed %+v", removed)
	}
	named := func(db audit.Beginner) string {
		var told []string
		if _, err := audit.Run(t.Context(), db, func(f audit.Finding) { told = append(told, f.Violations...) }); err != nil {
			t.Error(err)
		}
		return strings.Join(told, "\n")
	}
	const changed = " was changed before it was removed: what was removed is not what was settled"
	if told := named(pool); told != "payment voided"+changed+"\nitem let-go#1"+changed {
		t.Errorf("it says %s", told)
	}
	for _, c := range []tampering{
		{"a payment comes back", `INSERT INTO lastseat.payments (id, key, from_account, to_account, amount, currency, status,
			version, expires_at) VALUES ('expired', 'ask-expired', 'card', 'shop', 40, 'EUR', 'expired', 2, now())`,
			"payment expired: it was removed, and its id was used again"},
		{"a reservation comes back", `INSERT INTO lastseat.reservations (id, key, expires_at)
			VALUES ('let-go', 'hold-let-go', now())`, "reservation let-go: it was removed, and its id was used again"},
		{"a live payment is deleted", `DELETE FROM lastseat.payments WHERE id = 'held'`, "payment held was settled"},
		{"a live reservation is deleted", `DELETE FROM lastseat.reservations WHERE id = 'waits'`,
			"reservation waits was settled"},
		{"an item is deleted", `DELETE FROM lastseat.reservation_items WHERE reservation_id = 'confirmed' AND position = 2`,
			"item confirmed#2 was settled"},
		{"no link for payments", `DELETE FROM lastseat.history WHERE relation = 'payments.removed'`, "payment paid was settled"},
		{"no link for reservations", `DELETE FROM lastseat.history WHERE relation = 'reservations.removed'`,
			"reservation let-go was settled"},
		{"no link for items", `DELETE FROM lastseat.history WHERE relation = 'reservation_items.removed'`,
			"item let-go#2 was settled"},
		{"another version", `UPDATE lastseat.history SET keys = array_replace(keys, 'paid@4', 'paid@3')
			WHERE relation = 'payments.removed'`, `of chain "retention"`},
		{"an id is free again", `DELETE FROM lastseat.removed_ids WHERE id = 'paid'`,
			"payment paid: it was removed, and its id may be used again"},
		{"an id is used up", `INSERT INTO lastseat.removed_ids VALUES ('reservations', 'waits')`,
			"reservation waits: its id may not be used again, and it was not removed"},
		{"how far payments", `DELETE FROM lastseat.removed WHERE what = 'payments'`, "payment"},
		{"how far reservations", `UPDATE lastseat.removed SET before = before - interval '1 day' WHERE what = 'reservations'`,
			"removal of reservations"},
		{"an old transfer of a payment", `UPDATE lastseat.transfers SET amount = 801 WHERE key = 'capture'`, "(key capture)"},
	} {
		if told := named(past{pool, c.sql}); !strings.Contains(told, c.row) {
			t.Errorf("%s: %q is not named: %s", c.name, c.row, told)
		}
	}
}

// A lane settles beside a keeper that removes all that ends: the outcomes are those of a lane alone, and what has gone
// was never needed.
func TestRetentionBesideALane(t *testing.T) {
	t.Parallel()
	alone, beside := busy(t), busy(t)
	drain(t, alone)
	call(t, beside, `keep('payments', 0)`, `keep('reservations', 0)`, `keep('requests:reservation.cancel', 0)`)
	keeper := retention.New(as(t, beside, "lastseat_keeper"), retention.Settings{Rows: 5, Pause: 1})
	ended := make(chan error)
	settled := make(chan struct{})
	go func() {
		for {
			select {
			case <-settled:
				_, err := keeper.Pass(context.WithoutCancel(t.Context()))
				ended <- err
				return
			default:
			}
			if _, err := keeper.Pass(t.Context()); err != nil {
				ended <- err
				return
			}
		}
	}()
	err := worker(beside, outbox.Settings{Batch: 7}).Drain(t.Context())
	close(settled)
	if err := errors.Join(err, <-ended); err != nil {
		t.Fatal(err)
	}
	const outcomes = `SELECT string_agg(concat_ws(' ', key, status, code), ', ' ORDER BY key COLLATE "C")
		FROM lastseat.requests WHERE kind <> 'reservation.cancel'`
	const left = `SELECT concat((SELECT string_agg(concat_ws(' ', id, balance, held), ', ' ORDER BY id) FROM lastseat.accounts),
		(SELECT string_agg(concat_ws(' ', id, held, confirmed, waiting), ', ' ORDER BY id) FROM lastseat.resources))`
	for _, sql := range []string{outcomes, left} {
		var one, other string
		if err := errors.Join(alone.QueryRow(t.Context(), sql).Scan(&one),
			beside.QueryRow(t.Context(), sql).Scan(&other)); err != nil {
			t.Fatal(err)
		}
		if one != other {
			t.Errorf("beside a keeper:\n%s\nalone:\n%s", other, one)
		}
	}
	if n := countOf(t, beside, endedPayments) + countOf(t, beside, endedReservations); n != 0 {
		t.Errorf("%d are left that have ended", n)
	}
	wantClean(t, beside)
	roundIsClean(t, &audit.Continuous{}, beside)
}

// busy is a database that is asked for payments and reservations that come to all sorts of ends.
func busy(t *testing.T) *pgxpool.Pool {
	t.Helper()
	pool := testdb.Pool(t, testdb.New(t))
	call(t, pool, `open_account('bank', 'EUR', NULL)`, `open_account('shop', 'EUR')`, `define_resource('seat', 40)`,
		`define_resource('one', 1)`)
	exec(t, pool, `SELECT lastseat.authorize('ask-' || n, 'p' || n, 'bank', 'shop', 10 + n, 'EUR'),
		CASE WHEN n % 2 = 0 THEN lastseat.capture('capture-' || n, 'p' || n, 10)
			ELSE lastseat.void('void-' || n, 'p' || n) END,
		lastseat.hold('hold-' || n, 'r' || n, format('[{"resource": "seat", "quantity": 2}%s]',
			CASE WHEN n % 10 = 0 THEN ', {"resource": "one"}' ELSE '' END)::jsonb, wait => n % 20 = 0),
		CASE WHEN n % 3 > 0 THEN lastseat.cancel('cancel-' || n, 'r' || n)
			ELSE lastseat.confirm('confirm-' || n, 'r' || n) END
		FROM generate_series(1, 100) AS n ORDER BY n`)
	return pool
}
