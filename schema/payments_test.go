package schema_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
)

// onePayment is a payment of ada's for ben, of 100, in each status; p-captured was captured with 60, and 20 refunded.
const onePayment = `
	INSERT INTO lastseat.payments (id, key, from_account, to_account, amount, currency, expires_at)
	SELECT 'p-' || s, 'k-' || s, 'ada', 'ben', 100, 'EUR', '2999-01-01Z'
	  FROM unnest('{pending,authorized,captured,declined,voided,expired}'::text[]) s;
	UPDATE lastseat.payments SET status = 'authorized', version = 1
	  WHERE id IN ('p-authorized', 'p-captured', 'p-voided', 'p-expired');
	UPDATE lastseat.payments SET status = substr(id, 3), version = 2 WHERE id IN ('p-declined', 'p-voided', 'p-expired');
	UPDATE lastseat.payments SET status = 'captured', amount_captured = 60, amount_refunded = 20, version = 2
	  WHERE id = 'p-captured'`

// The database itself refuses what the state machine lacks, whoever writes.
func TestPaymentsRefuse(t *testing.T) {
	t.Parallel()
	pool := migrated(t)
	exec(t, pool, ledger)
	exec(t, pool, onePayment)
	set := func(what, status string) string {
		return `UPDATE lastseat.payments SET ` + what + ` WHERE id = 'p-` + status + `'`
	}
	insert := func(values string) string {
		return `INSERT INTO lastseat.payments (id, key, from_account, to_account, amount, currency, expires_at, status,
			amount_captured, amount_refunded) VALUES ` + values
	}
	const machine, captured = "payments_state_machine", "payments_captured_has_amount"
	refusals := []refusal{
		{"pending", insert(`('new', 'k', 'ada', 'ben', 1, 'EUR', now(), 'pending', 0, 0)`), "", ""},
		{"an id twice", insert(`('p-pending', 'k', 'ada', 'ben', 1, 'EUR', now(), 'pending', 0, 0)`), unique,
			"payments_pkey"},
		{"pending with a capture", insert(`('new', 'k', 'ada', 'ben', 1, 'EUR', now(), 'pending', 1, 0)`), check, captured},
		{"pending with a refund", insert(`('new', 'k', 'ada', 'ben', 1, 'EUR', now(), 'pending', 0, 1)`), check,
			"payments_refunded_at_most"},
		{"of nothing", insert(`('new', 'k', 'ada', 'ben', 0, 'EUR', now(), 'pending', 0, 0)`), check,
			"payments_amount_check"},
		{"to itself", insert(`('new', 'k', 'ada', 'ada', 1, 'EUR', now(), 'pending', 0, 0)`), check, "payments_two_accounts"},
		{"empty id", insert(`('', 'k', 'ada', 'ben', 1, 'EUR', now(), 'pending', 0, 0)`), check, "payments_id_check"},
		{"id of 201 characters", insert(`(repeat('x', 201), 'k', 'ada', 'ben', 1, 'EUR', now(), 'pending', 0, 0)`), check,
			"payments_id_check"},
		{"no such status", set(`status = 'paid'`, "authorized"), integrity, machine},
		{"captured whole", set(`status = 'captured', amount_captured = 100`, "authorized"), "", ""},
		{"captured nothing", set(`status = 'captured'`, "authorized"), check, captured},
		{"captured more", set(`status = 'captured', amount_captured = 101`, "authorized"), check,
			"payments_captured_at_most"},
		{"captured less than nothing", set(`status = 'captured', amount_captured = -1`, "authorized"), check,
			"payments_amount_captured_check"},
		{"captured and refunded at once", set(`status = 'captured', amount_captured = 10, amount_refunded = 10`,
			"authorized"), "", ""},
		{"an amount captured while authorized", set(`amount_captured = 1`, "authorized"), check, captured},
		{"voided with a capture", set(`status = 'voided', amount_captured = 1`, "authorized"), check, captured},
		{"refunded whole", set(`amount_refunded = 60`, "captured"), "", ""},
		{"refunded more", set(`amount_refunded = 61`, "captured"), check, "payments_refunded_at_most"},
		{"a refund taken back", set(`amount_refunded = 19`, "captured"), integrity, ""},
		{"a refund below zero", set(`amount_refunded = -1`, "pending"), integrity, ""},
		{"captured again, more", set(`amount_captured = 61`, "captured"), integrity, ""},
		{"a capture taken back in part", set(`amount_captured = 59`, "captured"), integrity, ""},
		{"a capture taken back", set(`amount_captured = 0, amount_refunded = 0`, "captured"), integrity, ""},
		{"set to what they are", `UPDATE lastseat.payments SET status = status, amount_captured = amount_captured,
			amount_refunded = amount_refunded, id = id, key = key`, "", ""},
		{"deleted", `DELETE FROM lastseat.payments WHERE id = 'p-declined'`, integrity, ""},
		{"truncated", `TRUNCATE lastseat.payments`, integrity, ""},
		{"truncated with others", `TRUNCATE lastseat.payments, lastseat.requests CASCADE`, integrity, ""},
	}
	for column, value := range map[string]string{
		"id": `'other'`, "key": `'other'`, "from_account": `'bank'`, "to_account": `'bank'`, "amount": `200`,
		"currency": `'USD'`, "expires_at": `expires_at + interval '1 microsecond'`,
	} {
		for _, status := range paymentStatuses {
			refusals = append(refusals, refusal{column + " of " + status, set(column+" = "+value, status), integrity, ""})
		}
		// not in one with a step that is allowed either
		refusals = append(refusals, refusal{column + " with a step", set("status = 'voided', "+column+" = "+value,
			"authorized"), integrity, ""})
	}
	runRefusals(t, pool, refusals)
}

var paymentStatuses = []string{"pending", "authorized", "captured", "declined", "voided", "expired"}

func TestPaymentStatusChanges(t *testing.T) {
	t.Parallel()
	pool := migrated(t)
	exec(t, pool, onePayment)
	allowed := map[string]bool{"pending authorized": true, "pending declined": true, "authorized captured": true,
		"authorized voided": true, "authorized expired": true}
	var changes []refusal
	for _, from := range paymentStatuses {
		for _, to := range paymentStatuses {
			sql := `UPDATE lastseat.payments SET status = '` + to + `', amount_captured = ` + map[bool]string{true: "60",
				false: "amount_captured"}[to == "captured"] + ` WHERE id = 'p-` + from + `'`
			change := refusal{from + " to " + to, sql, integrity, "payments_state_machine"}
			if from == to || allowed[from+" "+to] {
				change.code, change.constraint = "", ""
			}
			changes = append(changes, change)
		}
		insert := `INSERT INTO lastseat.payments (id, key, from_account, to_account, amount, currency, expires_at, status,
			amount_captured) VALUES ('new', 'k', 'ada', 'ben', 1, 'EUR', now(),
			  '` + from + `', ` + map[bool]string{true: "1", false: "0"}[from == "captured"] + `)`
		begin := refusal{"begins as " + from, insert, integrity, "payments_state_machine"}
		if from == "pending" {
			begin.code, begin.constraint = "", ""
		}
		changes = append(changes, begin)
	}
	runRefusals(t, pool, changes)
}

const authorizeCall = `authorize($1, $2, $3, $4, $5, $6)`

func TestAuthorizeMakesThePendingPayment(t *testing.T) {
	t.Parallel()
	pool := migrated(t)
	openAccounts(t, pool)
	producer := connect(t, pool, "lastseat_producer")
	exec(t, producer, `SET TimeZone = 'America/New_York'; SET DateStyle = 'German'`)
	if got := mustAsk(t, producer, authorizeCall, "k", "p", "ada", "ben", 7, "EUR"); got != (receipt{"k",
		"payment.authorize", "pending", false}) {
		t.Errorf("%v", got)
	}
	if !scalar[bool](t, pool, `SELECT p.status = 'pending' AND p.key = 'k' AND p.from_account = 'ada'
		AND p.to_account = 'ben' AND p.amount = 7 AND p.currency = 'EUR' AND p.version = 0
		AND p.expires_at = r.requested_at + interval '168 hours' FROM lastseat.payments p
		  JOIN lastseat.requests r USING (key) WHERE p.id = 'p'`) {
		t.Error("the payment is not as it was asked for")
	}
	// microseconds, in UTC, whatever the session's time zone
	for i, c := range []struct{ at, want string }{
		{`2999-07-01T12:00:00.123456999+02:00`, `2999-07-01 10:00:00.123456Z`}, {`2999-01-01T00:00:00Z`,
			`2999-01-01 00:00:00Z`}, {`9999-12-31T23:59:59.9999999Z`, `9999-12-31 23:59:59.999999Z`},
		{`0002-01-01T00:00:00Z`, `0002-01-01 00:00:00Z`}, {`2999-12-31T23:59:59.5-14:59`, `3000-01-01 14:58:59.5Z`},
	} {
		id := fmt.Sprint("p", i)
		mustAsk(t, producer, `enqueue('payment.authorize', $1, jsonb_build_object('payment', $1::text, 'from', 'ada', 'to',
			'ben', 'amount', 7, 'currency', 'EUR', 'expires_at', $2::text))`, id, c.at)
		if !scalar[bool](t, pool, `SELECT expires_at = $2::text::timestamptz FROM lastseat.payments WHERE id = $1`, id,
			c.want) {
			t.Errorf("%s is not %s", c.at, c.want)
		}
	}
	// 7 days are 168 hours, though a night of them is longer in New York
	trial(t, pool, func(tx pgx.Tx) {
		exec(t, tx, `SET LOCAL TimeZone = 'America/New_York'`)
		exec(t, tx, `SELECT lastseat.begin_request('payment.authorize', 'fall',
			'{"payment": "fall", "from": "ada", "to": "ben", "amount": 7, "currency": "EUR"}', '2026-10-29 12:00Z')`)
		if at := scalar[time.Time](t, tx,
			`SELECT expires_at FROM lastseat.payments WHERE id = 'fall'`); !at.Equal(time.Date(2026, 11, 5, 12, 0, 0, 0,
			time.UTC)) {
			t.Errorf("%v", at)
		}
	})
	// a duplicate, and its time is no part of what is asked
	for _, call := range []string{
		`authorize('k', 'p', 'ada', 'ben', 7, 'EUR')`, `authorize('k', 'p', 'ada', 'ben', 7, 'EUR',
			now() + interval '1 hour')`, `authorize('k', 'p', 'ada', 'ben', 7, 'EUR', '1999-01-01Z')`,
		`enqueue('payment.authorize', 'k',
			'{"payment": "p", "from": "ada", "to": "ben", "amount": 7, "currency": "EUR", "expires_at": "2999-01-01T00:00:00Z", "key": "k"}')`,
	} {
		if got := mustAsk(t, producer, call); got != (receipt{"k", "payment.authorize", "pending", true}) {
			t.Errorf("%s: %v", call, got)
		}
	}
	if !scalar[bool](t, pool, `SELECT expires_at < now() + interval '8 days' AND expires_at > now() + interval '6 days'
		FROM lastseat.payments WHERE id = 'p'`) {
		t.Error("a duplicate has moved the payment's time")
	}
	if n := scalar[int](t, pool, `SELECT count(*) FROM lastseat.river_job WHERE args ->> 'key' = 'k'`); n != 1 {
		t.Errorf("%d jobs", n)
	}
}

// The same key with another body, and a payment's id twice: an error, and the caller's transaction is gone.
func TestPaymentReused(t *testing.T) {
	t.Parallel()
	pool := migrated(t)
	openAccounts(t, pool)
	exec(t, pool, `CREATE TABLE public.orders (id text)`)
	mustAsk(t, pool, authorizeCall, "k", "p", "ada", "ben", 7, "EUR")
	mustAsk(t, pool, authorizeCall, "k2", "p2", "ada", "ben", 7, "EUR")
	mustAsk(t, pool, `capture('c', 'p', 5)`)
	mustAsk(t, pool, `transfer('t', 'bank', 'ada', 5, 'EUR')`)
	mustAsk(t, pool, `reverse('v', 't')`)
	for call, says := range map[string]string{
		`authorize('k', 'p', 'ada', 'ben', 8, 'EUR')`: `key "k"`, `authorize('k', 'p', 'ben', 'ada', 7, 'EUR')`: `key "k"`,
		`authorize('k', 'q', 'ada', 'ben', 7, 'EUR')`:  `key "k"`,
		`authorize('k', 'p2', 'ada', 'ben', 7, 'EUR')`: `key "k"`, `capture('k', 'p')`: `key "k"`,
		`authorize('new', 'p', 'ada', 'ben', 7, 'EUR')`:                            `payment "p"`,
		`authorize('new', 'p', 'bank', 'ben', 1, 'EUR', now() + interval '1 day')`: `payment "p"`,
		`capture('c', 'p')`: `key "c"`, `capture('c', 'p', 6)`: `key "c"`, `capture('c', 'p2', 5)`: `key "c"`,
		`refund('c', 'p', 5)`: `key "c"`, `void('c', 'p')`: `key "c"`, `reverse('t', 't')`: `key "t"`,
		`transfer('v', 'bank', 'ada', 5, 'EUR')`: `key "v"`,
	} {
		tx, err := pool.Begin(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		exec(t, tx, `INSERT INTO orders VALUES ($1)`, call)
		_, err = ask(t, tx, call)
		wantContract(t, err, "LS001", says)
		if err := tx.Commit(t.Context()); err == nil {
			t.Errorf("%s: the caller's transaction was committed", call)
		}
	}
	if n := scalar[int](t, pool, `SELECT (SELECT count(*) FROM orders) + (SELECT count(*) FROM lastseat.requests
		WHERE key = 'new')`); n != 0 {
		t.Errorf("%d rows stayed", n)
	}
	for _, call := range []string{`capture('c', 'p', 5)`, `reverse('v', 't')`,
		`authorize('k2', 'p2', 'ada', 'ben', 7, 'EUR')`} {
		if got := mustAsk(t, pool, call); !got.Duplicate {
			t.Errorf("%s: %v", call, got)
		}
	}
	// a rollback takes the payment with it: its id is free
	trial(t, pool, func(tx pgx.Tx) { mustAsk(t, tx, authorizeCall, "gone", "gone", "ada", "ben", 7, "EUR") })
	mustAsk(t, pool, authorizeCall, "again", "gone", "ada", "ben", 8, "EUR")
}

// Two transactions ask for the same payment: the second one waits for the first, and is told.
func TestPaymentAskedForAtOnce(t *testing.T) {
	t.Parallel()
	pool := migrated(t)
	openAccounts(t, pool)
	for _, commits := range []bool{true, false} {
		id := fmt.Sprint("p-", commits)
		first, err := pool.Begin(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		mustAsk(t, first, authorizeCall, id+"-1", id, "ada", "ben", 7, "EUR")
		second, answered := connect(t, pool, ""), make(chan struct{})
		var refused error
		go func() {
			defer close(answered)
			_, refused = ask(t, second, authorizeCall, id+"-2", id, "ada", "ben", 7, "EUR")
		}()
		for scalar[int](t, pool, `SELECT count(*) FROM pg_locks WHERE NOT granted AND pid = $1`, second.PgConn().PID()) == 0 {
			time.Sleep(time.Millisecond)
		}
		if commits {
			err = first.Commit(t.Context())
		} else {
			err = first.Rollback(t.Context())
		}
		if err != nil {
			t.Fatal(err)
		}
		within(t, "the second to be answered", answered)
		if commits {
			wantContract(t, refused, "LS001", id)
		} else if refused != nil {
			t.Errorf("after a rollback: %v", refused)
		}
	}
}

func TestPaymentUnknown(t *testing.T) {
	t.Parallel()
	pool := migrated(t)
	openAccounts(t, pool)
	mustAsk(t, pool, authorizeCall, "k", "p", "ada", "ben", 7, "EUR")
	mustAsk(t, pool, `capture('c', 'p')`)
	mustAsk(t, pool, `refund('r', 'p')`)
	mustAsk(t, pool, `transfer('t', 'bank', 'ada', 5, 'EUR')`)
	mustAsk(t, pool, `reverse('v', 't')`)
	mustAsk(t, pool, `enqueue('toy', 'toy', '{}')`)
	for call, says := range map[string]string{
		`capture('n', 'q')`: `payment "q"`, `void('n', 'q')`: `payment "q"`, `refund('n', 'k')`: `payment "k"`,
		`authorize('n', 'n', 'ada', 'zoe', 1, 'EUR')`: `account "zoe"`,
		`authorize('n', 'n', 'zoe', 'ada', 1, 'EUR')`: `account "zoe"`,
		`reverse('n', 'nobody')`:                      `key "nobody"`, `reverse('n', 'k')`: `it is a payment.authorize`,
		`reverse('n', 'c')`: `it is a payment.capture`, `reverse('n', 'r')`: `it is a payment.refund`,
		`reverse('n', 'v')`:   `it is a payment.reverse`,
		`reverse('n', 'toy')`: `it is a toy`, `reverse('n', 'p')`: `key "p"`,
	} {
		_, err := ask(t, pool, call)
		wantContract(t, err, "LS003", says)
	}
}

// Keys that begin with lastseat: are the worker's own.
func TestReservedKeys(t *testing.T) {
	t.Parallel()
	pool := migrated(t)
	openAccounts(t, pool)
	mustAsk(t, pool, authorizeCall, "k", "p", "ada", "ben", 7, "EUR")
	mustAsk(t, pool, `transfer('t', 'bank', 'ada', 5, 'EUR')`)
	for _, key := range []string{"lastseat:", "lastseat:payment.expire:p", "river_job:7"} {
		for _, call := range []string{
			`authorize($1, 'q', 'ada', 'ben', 7, 'EUR')`, `capture($1, 'p')`, `void($1, 'p')`, `refund($1, 'p')`,
			`reverse($1, 't')`, `transfer($1, 'bank', 'ada', 5, 'EUR')`, `enqueue('toy', $1, '{}')`,
		} {
			_, err := ask(t, pool, call, key)
			wantContract(t, err, "LS002", key)
		}
	}
	_, err := ask(t, pool, `retry('lastseat:payment.expire:p')`) // one that has failed is retried like any other
	wantContract(t, err, "LS003", "no request has the key")
	for _, key := range []string{"lastseat", "Lastseat:x", " lastseat:x", "x lastseat:"} {
		mustAsk(t, pool, `enqueue('toy', $1, '{}')`, key)
	}
	_, err = ask(t, pool, `retry('river_job:7')`)
	wantContract(t, err, "LS002", "river_job:7")
	_, err = ask(t, pool, `enqueue('payment.expire', 'x', '{"payment": "p"}')`)
	wantContract(t, err, "LS002", "payment.expire")
	// such a key is longer than an id, and there is room for one of 200 characters
	record := `INSERT INTO lastseat.requests (key, kind, fingerprint, job_id) VALUES ($1, 'payment.expire', '', 0)`
	exec(t, pool, record, "lastseat:payment.expire:"+strings.Repeat("😀", 200))
	_, err = pool.Exec(t.Context(), record, strings.Repeat("x", 201))
	wantRefusal(t, err, check)
}

// Reading: one row or none, for every role.
func TestPaymentReading(t *testing.T) {
	t.Parallel()
	pool := migrated(t)
	openAccounts(t, pool)
	mustAsk(t, pool, authorizeCall, "k", "p", "ben", "ada", 7, "EUR")
	for _, role := range []string{"lastseat_producer", "lastseat_worker", "lastseat_viewer"} {
		conn := connect(t, pool, role)
		if got := scalar[string](t, conn, `SELECT concat_ws(' ', status, from_account, to_account, amount, amount_captured,
			amount_refunded, currency, version, key) FROM lastseat.payment('p')`); got != "pending ben ada 7 0 0 EUR 0 k" {
			t.Errorf("%s: %s", role, got)
		}
		if got := scalar[string](t, conn, `SELECT concat_ws(' ', currency, balance, held, overdraft_limit, version)
			FROM lastseat.account('ben')`); got != "EUR 0 0 100 0" {
			t.Errorf("%s: %s", role, got)
		}
		for _, sql := range []string{`lastseat.payment('x')`, `lastseat.payment(NULL)`, `lastseat.account('x')`,
			`lastseat.statement('ada')`} {
			if n := scalar[int](t, conn, `SELECT count(*) FROM `+sql); n != 0 {
				t.Errorf("%s: %d rows of %s", role, n, sql)
			}
		}
	}
}
