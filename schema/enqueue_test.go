package schema_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/jackc/pgx/v5"
)

const transferCall = `transfer($1, $2, $3, $4, $5)`

func TestOpenAccount(t *testing.T) {
	t.Parallel()
	pool := migrated(t)
	opened := receipt{"ada", "account.open", "applied", false}
	again := receipt{"ada", "account.open", "applied", true}
	for _, step := range []struct {
		call string
		want receipt
	}{
		{`open_account('ada', 'EUR')`, opened},
		{`open_account('ada', 'EUR')`, again},
		{`open_account('ada', 'EUR', 0)`, again},
		{`open_account('ada', 'USD', 5, true)`, again}, // if_missing: whatever it is
		{`open_account('ada', 'EUR', NULL, if_missing => true)`, again},
		{`open_account(id => repeat('ß', 200), currency => 'JPY', overdraft_limit => NULL)`, receipt{strings.Repeat("ß",
			200), "account.open", "applied", false}},
	} {
		if got := mustAsk(t, pool, step.call); got != step.want {
			t.Errorf("%s: %v, want %v", step.call, got, step.want)
		}
	}
	if n := scalar[int](t, pool,
		`SELECT count(*) FROM lastseat.accounts WHERE balance = 0 AND held = 0 AND version = 0`); n != 2 {
		t.Errorf("%d accounts", n)
	}
	for call, want := range map[string][]string{
		`open_account('ada', 'USD')`:                   {"LS001", `account "ada" is open already`, "in EUR", "limit of 0"},
		`open_account('ada', 'EUR', 1)`:                {"LS001", `"ada"`},
		`open_account('ada', 'EUR', NULL)`:             {"LS001", `"ada"`},
		`open_account(repeat('ß', 200), 'JPY')`:        {"LS001", "null (unbounded)"},
		`open_account('', 'EUR')`:                      {"LS002", "account id is empty"},
		`open_account(NULL, 'EUR')`:                    {"LS002", "account id is null"},
		`open_account(repeat('a', 201), 'EUR')`:        {"LS002", "201 characters"},
		`open_account('new', 'eur')`:                   {"LS002", `currency is "eur"`},
		`open_account('new', 'XXX')`:                   {"LS002", `"XXX"`},
		`open_account('new', NULL)`:                    {"LS002", "currency is null"},
		`open_account('new', 'EUR', -1)`:               {"LS002", `"new" is -1`},
		`open_account('ada', 'XXX', if_missing=>true)`: {"LS002", `"XXX"`},
	} {
		_, err := ask(t, pool, call)
		wantContract(t, err, want[0], want[1:]...)
	}
}

// Points, tokens and the codes of tomorrow are defined; a currency that was withdrawn opens no account, and moves.
func TestCurrencies(t *testing.T) {
	t.Parallel()
	pool := migrated(t)
	defined, again := receipt{"POINTS", "currency.define", "applied", false}, receipt{"POINTS", "currency.define", "applied", true}
	for _, step := range []struct {
		call string
		want receipt
	}{
		{`define_currency('POINTS', 0)`, defined}, {`define_currency('POINTS', 0)`, again},
		{`define_currency('EUR', 2)`, receipt{"EUR", "currency.define", "applied", true}},
		{`define_currency('ETH', 18)`, receipt{"ETH", "currency.define", "applied", false}},
		{`open_account('p1', 'POINTS')`, receipt{"p1", "account.open", "applied", false}},
		{`open_account('p2', 'POINTS', NULL)`, receipt{"p2", "account.open", "applied", false}},
		{`open_account('xcg', 'XCG')`, receipt{"xcg", "account.open", "applied", false}},
		{`open_account('xad', 'XAD')`, receipt{"xad", "account.open", "applied", false}},
		{`transfer('k', 'p2', 'p1', 5, 'POINTS')`, receipt{"k", "payment.transfer", "pending", false}},
	} {
		if got := mustAsk(t, pool, step.call); got != step.want {
			t.Errorf("%s: %v, want %v", step.call, got, step.want)
		}
	}
	for call, want := range map[string][]string{
		`define_currency('EUR', 3)`:      {"LS001", `"EUR" has 2 digits`},
		`define_currency('XXX', 2)`:      {"LS002", `"XXX"`},
		`define_currency('XTS', 2)`:      {"LS002", `"XTS"`},
		`define_currency('eur', 2)`:      {"LS002", `"eur"`},
		`define_currency('PT', 2)`:       {"LS002", `"PT"`},
		`define_currency(NULL, 2)`:       {"LS002", `currency is null`},
		`define_currency('TOKEN', 19)`:   {"LS002", `19 digits`},
		`define_currency('TOKEN', NULL)`: {"LS002", `null digits`},
		`open_account('x', 'TOKEN')`:     {"LS002", `"TOKEN"`},
		`open_account('x', 'BGN')`:       {"LS002", `"BGN" was withdrawn on 2026-01-01`},
		`open_account('x', 'ANG')`:       {"LS002", `"ANG" was withdrawn on 2025-03-31`},
	} {
		_, err := ask(t, pool, call)
		wantContract(t, err, want[0], want[1:]...)
	}
	if got := scalar[string](t, pool, `SELECT string_agg(concat_ws(' ', x, c.digits, c.withdrawn), ', ' ORDER BY x)
		FROM unnest('{BGN,EUR,POINTS,TOKEN}'::text[]) x, lastseat.currency(x) c`); got != "BGN 2 2026-01-01, EUR 2, POINTS 0" {
		t.Errorf("the currencies are %s", got)
	}
	// An account from before.
	mustAsk(t, pool, `define_currency('BGN', 2)`)
	mustAsk(t, pool, `open_account('sofia', 'BGN', NULL)`)
	mustAsk(t, pool, `open_account('varna', 'BGN')`)
	exec(t, pool, `UPDATE lastseat.currencies SET withdrawn = '2026-01-01' WHERE code = 'BGN'`)
	mustAsk(t, pool, `transfer('out', 'sofia', 'varna', 5, 'BGN')`)
	mustAsk(t, pool, `authorize('hold', 'p', 'sofia', 'varna', 5, 'BGN')`)
	if got := mustAsk(t, pool, `open_account('varna', 'BGN')`); !got.Duplicate {
		t.Errorf("opened again it is %v, want a duplicate", got)
	}
	_, err := ask(t, pool, `open_account('plovdiv', 'BGN')`)
	wantContract(t, err, "LS002", "withdrawn")
	_, err = pool.Exec(t.Context(), `UPDATE lastseat.currencies SET minor_units = 3 WHERE code = 'POINTS'`)
	wantRefusal(t, err, "23000")
}

func TestTransferMakesTwoRows(t *testing.T) {
	t.Parallel()
	pool := migrated(t)
	openAccounts(t, pool)
	got := mustAsk(t, pool, `transfer('k', 'bank', 'ada', 1250, 'EUR', 'lunch', '{"table": 7}')`)
	if want := (receipt{"k", "payment.transfer", "pending", false}); got != want {
		t.Errorf("the receipt is %v, want %v", got, want)
	}
	args := scalar[string](t, pool, `SELECT j.args::text FROM lastseat.river_job j JOIN lastseat.requests r
		ON r.job_id = j.id
		WHERE r.key = 'k' AND r.kind = j.kind AND r.status = 'pending' AND j.state = 'available' AND j.queue = 'lastseat'
		  AND j.scheduled_at = r.requested_at AND j.max_attempts = 25 AND j.attempt = 0 AND j.finalized_at IS NULL`)
	if want := `{"to": "ada", "key": "k", "from": "bank", "amount": 1250, "currency": "EUR", "metadata": {"table": 7}, "description": "lunch"}`; args != want {
		t.Errorf("the job's arguments are %s, want %s", args, want)
	}
	var code, detail, settled *string
	var attempts int
	err := pool.QueryRow(t.Context(), `SELECT code, detail::text, settled_at::text, attempts FROM lastseat.outcome('k')
		WHERE key = 'k' AND status = 'pending'`).
		Scan(&code, &detail, &settled, &attempts)
	if err != nil || code != nil || detail != nil || settled != nil || attempts != 0 {
		t.Errorf("the outcome of a pending request has %v, %v, %v, %d (%v)", code, detail, settled, attempts, err)
	}
	if n := scalar[int](t, pool, `SELECT count(*) FROM lastseat.outcome('never used')`); n != 0 {
		t.Errorf("%d outcomes of a key that was never used", n)
	}
}

// A plain transfer is written in place by each of the three functions; with its key among the arguments, it goes the
// way of every other request (schema/functions/plain.sql). The rows have to be the same, and a repetition a duplicate.
func TestTransferIsTheSameThroughEveryDoor(t *testing.T) {
	t.Parallel()
	pool := migrated(t)
	openAccounts(t, pool)
	const rowSQL = `SELECT jsonb_build_object('job', to_jsonb(j) - '{id,created_at,scheduled_at}'::text[]
			|| jsonb_build_object('args', j.args - 'key', 'at_once', j.scheduled_at = r.requested_at),
		'request', to_jsonb(r) - '{key,job_id,requested_at}'::text[], 'key', j.args ->> 'key' = r.key,
		'fingerprint', r.fingerprint = lastseat.fingerprint(j.kind, j.args))::text
		FROM lastseat.river_job j JOIN lastseat.requests r ON r.job_id = j.id WHERE r.key = $1`
	const traceparent = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
	for i, trace := range []string{"", traceparent, traceparent + "-", "nonsense"} {
		for _, amount := range []string{"1", "999999999999999999", "1000000000000000000", "9223372036854775807"} {
			plainArgs := fmt.Sprintf(`{"from": "bank", "to": "ada", "amount": %s, "currency": "EUR"}`, amount)
			want := ""
			for n, call := range []string{
				`enqueue('payment.transfer', '%[1]s', '%[2]s' || jsonb_build_object('key', '%[1]s'))`,
				`enqueue('payment.transfer', '%[1]s', '%[2]s')`,
				`transfer('%[1]s', 'bank', 'ada', %[3]s, 'EUR')`,
				`enqueue_many('[{"kind": "payment.transfer", "key": "%[1]s", "args": %[2]s}]')`,
			} {
				key := fmt.Sprintf("k-%d-%s-%d", i, amount, n)
				for _, duplicate := range []bool{false, true} {
					tx, err := pool.Begin(t.Context())
					if err != nil {
						t.Fatal(err)
					}
					exec(t, tx, `SELECT set_config('lastseat.traceparent', $1, true)`, trace)
					got := mustAsk(t, tx, fmt.Sprintf(call, key, plainArgs, amount))
					if err := tx.Commit(t.Context()); err != nil {
						t.Fatal(err)
					}
					if want := (receipt{key, "payment.transfer", "pending", duplicate}); got != want {
						t.Errorf("%s returns %v, want %v", call, got, want)
					}
				}
				row := scalar[string](t, pool, rowSQL, key)
				if want == "" {
					want = row
				}
				if diff := cmp.Diff(want, row); diff != "" {
					t.Errorf("%s: rows of another form (-want +got):\n%s", call, diff)
				}
			}
		}
	}
}

// The lane's claims begin where they may because whoever asks has a number before it reads the clock
// (docs/decisions/015). Nothing that a call returns shows it, so this reads the functions.
func TestNumberBeforeTime(t *testing.T) {
	t.Parallel()
	pool := migrated(t)
	const sql = `SELECT coalesce(string_agg(proname, ', ' ORDER BY proname), '') FROM pg_proc
		WHERE pronamespace = 'lastseat'::regnamespace AND prosrc ~ 'INSERT INTO river_job' AND prosrc ~ 'INSERT INTO requests'
		  AND %s (prosrc ~ 'pg_current_xact_id.*clock_timestamp' AND prosrc !~ 'clock_timestamp.*pg_current_xact_id')`
	if got := scalar[string](t, pool, fmt.Sprintf(sql, "")); got != "enqueue, enqueue_many, expire_by_card, transfer" {
		t.Errorf("these functions ask for requests: %s", got)
	}
	if got := scalar[string](t, pool, fmt.Sprintf(sql, "NOT")); got != "" {
		t.Errorf("these functions may read the clock first: %s", got)
	}
}

func TestDuplicates(t *testing.T) {
	t.Parallel()
	pool := migrated(t)
	openAccounts(t, pool)
	mustAsk(t, pool, `transfer('plain', 'bank', 'ada', 5, 'EUR')`)
	mustAsk(t, pool, `transfer('full', 'bank', 'ada', 5, 'EUR', 'lunch', '{"a": 1, "b": [1, 2]}')`)
	mustAsk(t, pool, `enqueue('toy', 'own', '{"a": 1, "b": null}')`)
	for _, call := range []string{
		`transfer('plain', 'bank', 'ada', 5, 'EUR')`,
		`transfer('plain', 'bank', 'ada', 5, 'EUR', NULL, NULL)`,
		`transfer('plain', 'bank', 'ada', 5, 'EUR', '')`,
		`transfer('plain', 'bank', 'ada', 5, 'EUR', metadata => '{}')`,
		`enqueue('payment.transfer', 'plain', '{"currency": "EUR", "amount": 5, "to": "ada", "from": "bank"}')`,
		`enqueue('payment.transfer', 'plain',
			'{"currency": "EUR", "amount": 5, "to": "ada", "from": "bank", "key": "plain"}')`,
		`enqueue('payment.transfer', 'plain',
			'{"currency": "EUR", "amount": 5, "to": "ada", "from": "bank", "description": null, "metadata": null}')`,
		`enqueue('payment.transfer', 'plain',
			'{"currency": "EUR", "amount": 5, "to": "ada", "from": "bank", "metadata": {}}')`,
		`enqueue('payment.transfer', 'plain', '{"currency": "EUR", "amount": 5, "to": "ada", "from": "bank"}',
			now() + '1 hour')`,
		`transfer('full', 'bank', 'ada', 5, 'EUR', 'lunch', '{"b": [1, 2], "a": 1}')`,
		`enqueue('toy', 'own', '{"a": 1}')`,
	} {
		if got := mustAsk(t, pool, call); !got.Duplicate || got.Status != "pending" {
			t.Errorf("%s: %v, want a pending duplicate", call, got)
		}
	}
	if n := scalar[int](t, pool, `SELECT count(*) FROM lastseat.river_job`); n != 3 {
		t.Errorf("%d jobs, want 3", n)
	}
	exec(t, pool, `UPDATE lastseat.requests SET status = 'rejected', code = 'insufficient_funds', settled_at = now()
		WHERE key = 'plain'`)
	if got := mustAsk(t, pool, `transfer('plain', 'bank', 'ada', 5, 'EUR')`); got != (receipt{"plain", "payment.transfer",
		"rejected", true}) {
		t.Errorf("the duplicate of a settled request is %v", got)
	}
	for _, call := range []string{
		`transfer('full', 'bank', 'ada', 5, 'EUR')`,
		`transfer('full', 'bank', 'ada', 5, 'EUR', 'dinner', '{"a": 1, "b": [1, 2]}')`,
		`transfer('full', 'bank', 'ada', 5, 'EUR', 'lunch', '{"a": 1, "b": [2, 1]}')`,
		`transfer('plain', 'bank', 'ada', 6, 'EUR')`,
		`transfer('plain', 'ada', 'bank', 5, 'EUR')`,
		`transfer('plain', 'bank', 'ben', 5, 'EUR')`,
		`enqueue('toy', 'plain', '{"currency": "EUR", "amount": 5, "to": "ada", "from": "bank"}')`,
		`enqueue('toy', 'own', '{"a": "1"}')`,
	} {
		_, err := ask(t, pool, call)
		wantContract(t, err, "LS001", `key "`, "was used at 20", "request")
	}
}

// "An argument that is null is one that was left out" is a rule of arguments, not of what stands inside of them.
func TestNullInsideAnArgumentCounts(t *testing.T) {
	t.Parallel()
	pool := migrated(t)
	openAccounts(t, pool)
	mustAsk(t, pool, `transfer('k', 'bank', 'ada', 5, 'EUR', metadata => '{"a": 1, "gift": null}')`)
	_, err := ask(t, pool, `transfer('k', 'bank', 'ada', 5, 'EUR', metadata => '{"a": 1}')`)
	wantContract(t, err, "LS001", `key "k"`)
}

func TestContractErrors(t *testing.T) {
	t.Parallel()
	pool := migrated(t)
	openAccounts(t, pool)
	type want struct{ code, value string }
	for call, want := range map[string]want{
		`transfer('k', 'nobody', 'ada', 5, 'EUR')`: {"LS003",
			`"nobody"`},
		`transfer('k', 'ada', 'no one', 5, 'EUR')`: {"LS003",
			`"no one"`},
		`transfer('k', 'ADA', 'ben', 5, 'EUR')`:                                                                              {"LS003", `"ADA"`},
		`transfer('k', NULL, 'ada', 5, 'EUR')`:                                                                               {"LS002", `"from" is missing`},
		`transfer('k', 'ada', '', 5, 'EUR')`:                                                                                 {"LS002", `"to" is empty`},
		`transfer('k', 'ada', repeat('x', 201), 5, 'EUR')`:                                                                   {"LS002", `"to" is 201 characters`},
		`transfer('k', 'ada', 'ada', 5, 'EUR')`:                                                                              {"LS002", `the same account, "ada"`},
		`transfer('k', 'ada', 'ben', 0, 'EUR')`:                                                                              {"LS002", `"amount" is 0`},
		`transfer('k', 'ada', 'ben', -7, 'EUR')`:                                                                             {"LS002", `"amount" is -7`},
		`transfer('k', 'ada', 'ben', NULL, 'EUR')`:                                                                           {"LS002", `"amount" is missing`},
		`transfer('k', 'ada', 'ben', 5, 'EURO')`:                                                                             {"LS002", `"EURO"`},
		`transfer('k', 'ada', 'ben', 5, NULL)`:                                                                               {"LS002", `currency is null`},
		`transfer('k', 'ada', 'ben', 5, 'EUR', metadata => '[1]')`:                                                           {"LS002", `"metadata" is [1]`},
		`transfer(NULL, 'ada', 'ben', 5, 'EUR')`:                                                                             {"LS002", "key is null"},
		`transfer('', 'ada', 'ben', 5, 'EUR')`:                                                                               {"LS002", "key is empty"},
		`transfer(repeat('k', 201), 'ada', 'ben', 5, 'EUR')`:                                                                 {"LS002", "201 characters"},
		`enqueue('payment.transfer', 'k', '{"from": "ada", "to": "ben", "amount": 1.5, "currency": "EUR"}')`:                 {"LS002", `"amount" is 1.5`},
		`enqueue('payment.transfer', 'k', '{"from": "ada", "to": "ben", "amount": "5", "currency": "EUR"}')`:                 {"LS002", `"amount" is "5"`},
		`enqueue('payment.transfer', 'k', '{"from": "ada", "to": "ben", "amount": 9223372036854775808, "currency": "EUR"}')`: {"LS002", `9223372036854775808`},
		`enqueue('payment.transfer', 'k', '{"from": 7, "to": "ben", "amount": 5, "currency": "EUR"}')`:                       {"LS002", `"from" is 7`},
		`enqueue('payment.transfer', 'k', '{"from": "ada", "to": "ben", "amount": 5, "currency": "EUR", "description": 7}')`: {"LS002", `"description" is 7`},
		`enqueue('payment.transfer', 'k', '{"from": "ada", "to": "ben", "amount": 5, "currency": "EUR", "note": "hello"}')`:  {"LS002", `"note"`},
		`enqueue('payment.transfers', 'k', '{}')`:                                                                            {"LS002", `"payment.transfers"`},
		`enqueue('reservation.hold!', 'k', '{}')`:                                                                            {"LS002", `"reservation.hold!"`},
		`enqueue('booking.', 'k', '{}')`:                                                                                     {"LS002", `"booking."`},
		`enqueue('', 'k', '{}')`:                                                                                             {"LS002", `kind is ""`},
		`enqueue('toy', 'k', '{}', queue => 'lastseat_upkeep')`:                                                              {"LS002", `"lastseat_upkeep" is the worker's own`},
		`enqueue('toy', 'k', '{}', queue => 'lastseat2')`:                                                                    {"LS002", `"lastseat2" is the worker's own`},
		`enqueue(NULL, 'k', '{}')`:                                                                                           {"LS002", "kind is null"},
		`enqueue(repeat('x', 128), 'k', '{}')`:                                                                               {"LS002", "kind is"},
		`enqueue('toy', 'k', '[]')`:                                                                                          {"LS002", "a JSON array"},
		`enqueue('toy', 'k', '"text"')`:                                                                                      {"LS002", "a JSON string"},
		`enqueue('toy', 'k', '7')`:                                                                                           {"LS002", "a JSON number"},
		`enqueue('toy', 'k', 'null')`:                                                                                        {"LS002", "a JSON null"},
		`enqueue('toy', 'k', NULL)`:                                                                                          {"LS002", "are null"},
		`enqueue('toy', 'k', '{"key": "other"}')`:                                                                            {"LS002", `another key, "other"`},
		`retry('never used')`:                                                                                                {"LS003", `"never used"`},
		`retry(NULL)`:                                                                                                        {"LS002", "key is null"},
		`retry('')`:                                                                                                          {"LS002", "key is empty"},
	} {
		_, err := ask(t, pool, call)
		if err == nil {
			t.Errorf("%s: no error", call)
			continue
		}
		wantContract(t, err, want.code, want.value)
	}
	if n := scalar[int](t, pool, `SELECT (SELECT count(*) FROM lastseat.requests) + (SELECT count(*)
		FROM lastseat.river_job)`); n != 0 {
		t.Errorf("what was refused left %d rows", n)
	}
}

func TestKeys(t *testing.T) {
	t.Parallel()
	pool := migrated(t)
	for _, key := range []string{"k", strings.Repeat("k", 200), strings.Repeat("ß", 200), strings.Repeat("🪑", 200),
		`"; DROP TABLE x; --`, "null"} {
		if got := mustAsk(t, pool, `enqueue('toy', $1, '{}')`, key); got.Key != key || got.Duplicate {
			t.Errorf("key of %d bytes: %v", len(key), got)
		}
		if n := scalar[int](t, pool, `SELECT count(*) FROM lastseat.outcome($1) o JOIN lastseat.river_job j
			ON j.id = o.job_id AND j.args ->> 'key' = o.key`, key); n != 1 {
			t.Errorf("key of %d bytes: %d outcomes", len(key), n)
		}
	}
	for _, key := range []string{strings.Repeat("k", 201), strings.Repeat("ß", 201), strings.Repeat("🪑", 201)} {
		_, err := ask(t, pool, `enqueue('toy', $1, '{}')`, key)
		wantContract(t, err, "LS002", "201 characters")
	}
	for _, key := range []string{"K", "k "} { // to the letter
		if got := mustAsk(t, pool, `enqueue('toy', $1, '{"other": 1}')`, key); got.Duplicate {
			t.Errorf("key %q is a duplicate of another", key)
		}
	}
}

func TestPayloadBoundary(t *testing.T) {
	t.Parallel()
	pool := migrated(t)
	args := func(bytes int) string { return fmt.Sprintf(`{"a": "%s"}`, strings.Repeat("x", bytes-len(`{"a": ""}`))) }
	if got := mustAsk(t, pool, `enqueue('toy', 'exact', $1)`, args(65536)); got.Duplicate {
		t.Error(got)
	}
	_, err := ask(t, pool, `enqueue('toy', 'over', $1)`, args(65537))
	wantContract(t, err, "LS004", `"over"`, "65537 bytes")
	// bytes, not characters
	_, err = ask(t, pool, `enqueue('toy', 'wide', $1)`, fmt.Sprintf(`{"a": "%s"}`, strings.Repeat("ß", 32_768)))
	wantContract(t, err, "LS004", "65545 bytes")
	openAccounts(t, pool)
	_, err = ask(t, pool, `transfer('described', 'bank', 'ada', 5, 'EUR', repeat('x', 65536))`)
	wantContract(t, err, "LS004", `"described"`)
	// whatever it is that is long, and before it is found that there is no such account
	for _, long := range []string{"from", "to", "currency"} {
		long = fmt.Sprintf(`'{"from": "bank", "to": "ada", "amount": 5, "currency": "EUR"}' || jsonb_build_object('%s',
			repeat('x', 65536))`, long)
		_, err = ask(t, pool, `enqueue('payment.transfer', 'long', `+long+`)`)
		wantContract(t, err, "LS004", `"long"`)
		_, err = ask(t, pool, `enqueue_many(jsonb_build_array(jsonb_build_object('kind', 'payment.transfer', 'key', 'long',
			'args', `+long+`)))`)
		wantContract(t, err, "LS004", `"long"`)
	}
}

func TestScheduledAt(t *testing.T) {
	t.Parallel()
	pool := migrated(t)
	for _, test := range []struct {
		key, at, state string
		due            bool
	}{
		{"later", `now() + interval '1 hour'`, "scheduled", false},
		{"default", `DEFAULT`, "available", true},
		{"past", `now() - interval '1 hour'`, "available", true},
		{"epoch", `'epoch'`, "available", true},
		{"null", `NULL`, "available", true},
	} {
		call := `enqueue('toy', '` + test.key + `', '{}', ` + test.at + `)`
		if test.at == "DEFAULT" {
			call = `enqueue('toy', 'default', '{}')`
		}
		before := time.Now().Add(-time.Minute)
		mustAsk(t, pool, call)
		var state string
		var at, asked time.Time
		err := pool.QueryRow(t.Context(), `SELECT j.state, j.scheduled_at, r.requested_at FROM lastseat.river_job j
			JOIN lastseat.requests r ON r.job_id = j.id WHERE r.key = $1`, test.key).Scan(&state, &at, &asked)
		if err != nil {
			t.Fatal(err)
		}
		if state != test.state || at.Equal(asked) != test.due || at.Before(before) {
			t.Errorf("%s: state %s at %v, asked for at %v", test.key, state, at, asked)
		}
	}
}

func TestRollbackLeavesNothing(t *testing.T) {
	t.Parallel()
	pool := migrated(t)
	openAccounts(t, pool)
	exec(t, pool, `CREATE TABLE public.orders (id text)`)
	trial(t, pool, func(tx pgx.Tx) {
		exec(t, tx, `INSERT INTO public.orders VALUES ('order-1')`)
		mustAsk(t, tx, transferCall, "order-1", "bank", "ada", 5, "EUR")
	})
	if n := scalar[int](t, pool, `SELECT (SELECT count(*) FROM lastseat.requests) + (SELECT count(*)
		FROM lastseat.river_job)`); n != 0 {
		t.Errorf("the rollback left %d rows", n)
	}
	if got := mustAsk(t, pool, transferCall, "order-1", "ada", "bank", 7, "EUR"); got.Duplicate {
		t.Error("the key that was rolled back is taken")
	}
}
