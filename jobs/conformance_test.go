package jobs_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/lastseat/lastseat/internal/testdb"
	"github.com/lastseat/lastseat/jobs"
	"github.com/lastseat/lastseat/outbox"
)

// conforming are arguments of one kind that are alike for every door. ID stands for an id of a payment that is new at each
// door; the payments, accounts and transfers that are named are there.
type conforming struct {
	kind     string
	sqlstate string // of lastseat.enqueue; empty: accepted
	code     string // of the job that came past it
	args     []string
}

var x200, x201 = strings.Repeat("x", 200), strings.Repeat("x", 201)

// accepted and refused, by kind. Numbers are what jsonb makes of them: 1e3 is 1000, 1.0 stays 1.0.
var conformance = []conforming{
	{jobs.KindTransfer, "", jobs.CodeTransferred, []string{
		`{"from":"a","to":"b","amount":1,"currency":"EUR"}`,
		`{"from":"a","to":"b","amount":1e3,"currency":"EUR","description":"d","metadata":{"x":[1,null]}}`,
		`{"from":"a","to":"b","amount":1,"currency":"EUR","description":null,"metadata":null}`,
		`{"from":"a","to":"b","amount":1,"currency":"EUR","description":"","metadata":{}}`,
		`{"from":"\u00fc","to":" ","amount":0.1e1,"currency":"EUR","description":"\u0007\n\"\\\/ 😀"}`,
		`{"from":"x","from":"a","to":"b","amount":"7","amount":1,"currency":"EUR"}`, // the last one counts
		`{"from":"😀","to":"\ud83d\ude00 ","amount":1,"currency":"\u0045UR"}`,
		`{"from":"a ","to":"a","amount":1,"currency":"EUR"}`,
		`{"from":"e\u0301","to":"\u00e9","amount":1,"currency":"EUR"}`, // two ways to write é
	}},
	{jobs.KindTransfer, "", jobs.CodeOutOfRange, []string{`{"from":"top","to":"` + x200 + `","amount":9223372036854775807,"currency":"EUR"}`}},
	{jobs.KindTransfer, "", jobs.CodeCurrencyMismatch, []string{`{"from":"a","to":"b","amount":1,"currency":"USD"}`}},
	{jobs.KindTransfer, "LS003", jobs.CodeAccountNotFound, []string{
		`{"from":"a","to":"nobody","amount":1,"currency":"EUR"}`,
		`{"from":"nobody","to":"a","amount":1,"currency":"EUR"}`,
		`{"from":"a","to":"A","amount":1,"currency":"EUR"}`,
	}},
	{jobs.KindTransfer, "LS002", outbox.CodeInvalidArgs, concat(moneyRefused(``), []string{
		`{}`,
		`{"from":"a","to":"b","amount":1,"currency":"EUR","description":7}`,
		`{"from":"a","to":"b","amount":1,"currency":"EUR","description":{}}`,
		`{"from":"a","to":"b","amount":1,"currency":"EUR","metadata":[]}`,
		`{"from":"a","to":"b","amount":1,"currency":"EUR","metadata":"x"}`,
		`{"from":"a","to":"b","amount":1,"currency":"EUR","metadata":false}`,
		`{"from":"a","to":"b","amount":1,"currency":"EUR","payment":"p"}`,
	})},
	{jobs.KindAuthorize, "", jobs.CodeAuthorized, []string{
		`{"payment":"ID","from":"a","to":"b","amount":1,"currency":"EUR"}`,
		`{"payment":"ID","from":"a","to":"b","amount":1e2,"currency":"EUR","expires_at":null}`,
		`{"payment":"ID\u00fc 😀","from":"a","to":"b","amount":1,"currency":"EUR","expires_at":"9999-12-31T23:59:59.999999999Z"}`,
		`{"payment":"ID","from":"a","to":"b","amount":1,"currency":"EUR","expires_at":"9999-12-31T12:00:00-11:59"}`,
		`{"payment":"ID","from":"a","to":"b","amount":1,"currency":"EUR","expires_at":"2999-02-28T23:59:59.5+14:59"}`,
		`{"payment":"ID","from":"a","to":"b","amount":1,"currency":"EUR","expires_at":"2996-02-29T00:00:00-14:59"}`,
		`{"payment":"ID","from":"a","to":"b","amount":1,"currency":"EUR","expires_at":"2999-06-01T12:00:00.1234565-00:00"}`,
		`{"payment":"ID","from":"a","to":"b","amount":1,"currency":"EUR","expires_at":"2999-06-01T12:00:00.9999999Z"}`,
		`{"payment":"ID","from":"a","to":"b","amount":1,"currency":"EUR","expires_at":"2999-06-01T12:00:00.00000001Z"}`,
	}},
	{jobs.KindAuthorize, "", jobs.CodeAuthorizationExpired, []string{
		`{"payment":"ID","from":"a","to":"b","amount":1,"currency":"EUR","expires_at":"2020-01-01T00:00:00Z"}`,
		`{"payment":"ID","from":"a","to":"b","amount":1,"currency":"EUR","expires_at":"0002-01-01T00:00:00Z"}`,
		`{"payment":"ID","from":"a","to":"b","amount":1,"currency":"EUR","expires_at":"0001-12-31T23:59:59.9-00:01"}`,
		`{"payment":"ID","from":"a","to":"b","amount":1,"currency":"EUR","expires_at":"1582-10-10T12:00:00Z"}`, // no such day in the Catholic calendar
	}},
	{jobs.KindAuthorize, "", jobs.CodeCurrencyMismatch, []string{`{"payment":"ID","from":"a","to":"b","amount":1,"currency":"JPY"}`}},
	{jobs.KindAuthorize, "", jobs.CodeInsufficientFunds, []string{`{"payment":"ID","from":"poor","to":"b","amount":1,"currency":"EUR"}`}},
	{jobs.KindAuthorize, "LS003", jobs.CodeAccountNotFound, []string{`{"payment":"ID","from":"a","to":"nobody","amount":1,"currency":"EUR"}`}},
	{jobs.KindAuthorize, "LS001", outbox.CodeInvalidArgs, []string{`{"payment":"p","from":"a","to":"b","amount":1,"currency":"EUR"}`}},
	{jobs.KindAuthorize, "LS002", outbox.CodeInvalidArgs, concat(moneyRefused(`"payment":"ID",`), idRefused("payment", `,"from":"a","to":"b","amount":1,"currency":"EUR"`), timesRefused(), []string{
		`{"payment":"ID","from":"a","to":"b","amount":1,"currency":"EUR","description":"d"}`,
	})},
	{jobs.KindCapture, "", jobs.CodeAlreadyCaptured, []string{`{"payment":"p"}`, `{"payment":"p","amount":null}`, `{"payment":"p","amount":9223372036854775807}`, `{"payment":"\u0070","amount":1e1}`}},
	{jobs.KindRefund, "", jobs.CodeRefunded, []string{`{"payment":"p","amount":1}`, `{"payment":"p","amount":10e0}`}},
	{jobs.KindRefund, "", jobs.CodeAmountExceedsCaptured, []string{`{"payment":"p","amount":9223372036854775807}`}},
	{jobs.KindVoid, "", jobs.CodeAlreadyCaptured, []string{`{"payment":"p"}`}},
	{jobs.KindReverse, "", jobs.CodeReversed, []string{`{"transfer":"t\u00fc DOOR"}`}},
	{jobs.KindReverse, "", jobs.CodeAlreadyReversed, []string{`{"transfer":"taken back"}`}},
	{jobs.KindReverse, "LS003", jobs.CodePaymentNotFound, []string{`{"transfer":"p"}`, `{"transfer":"p capture"}`, `{"transfer":"reversal"}`, `{"transfer":"nobody"}`, `{"transfer":" "}`, `{"transfer":"` + x200 + `"}`}},
	{jobs.KindReverse, "LS002", outbox.CodeInvalidArgs, concat(idRefused("transfer", ``), []string{`{"transfer":"t","amount":1}`, `{"payment":"p"}`, `{"transfer":"t","payment":null}`})},
	{jobs.KindVoid, "LS002", outbox.CodeInvalidArgs, concat(idRefused("payment", ``), []string{`{"payment":"p","amount":1}`, `{"payment":"p","amount":null}`})},
}

func init() {
	for kind, refused := range map[string]string{jobs.KindCapture: `"x":1`, jobs.KindRefund: `"currency":"EUR"`} {
		args := concat(idRefused("payment", ``), idRefused("payment", `,"amount":1`), []string{`{"payment":"p",` + refused + `}`, `{"payment":"p","x":null}`})
		for _, amount := range amountsRefused[1:] { // null stands for the whole
			args = append(args, `{"payment":"p","amount":`+amount+`}`)
		}
		conformance = append(conformance, conforming{kind, "LS002", outbox.CodeInvalidArgs, args})
	}
	for _, kind := range []string{jobs.KindCapture, jobs.KindRefund, jobs.KindVoid} {
		conformance = append(conformance, conforming{kind, "LS003", jobs.CodePaymentNotFound, []string{`{"payment":"nobody"}`, `{"payment":"P"}`, `{"payment":"p "}`, `{"payment":"` + x200 + `"}`}})
	}
}

func concat(lists ...[]string) []string {
	var all []string
	for _, list := range lists {
		all = append(all, list...)
	}
	return all
}

var amountsRefused = []string{
	`null`, `0`, `-0`, `-1`, `1.5`, `1.0`, `10e-1`, `1e-1`, `-1e0`, `"1"`, `""`, `9223372036854775808`, `18446744073709551617`, `1e19`, `1e30`, `true`, `false`, `[1]`, `{}`, `0.99999999999999999999`,
	`9223372036854775807.0`, strings.Repeat("9", 400),
}

// moneyRefused are arguments of which the accounts, the amount or the currency are wrong.
func moneyRefused(more string) []string {
	var all []string
	for _, id := range []string{``, `"from":null,`, `"from":"",`, `"from":1,`, `"from":["a"],`, `"from":"b",`, `"from":"` + x201 + `",`, `"From":"a",`} {
		all = append(all, `{`+more+id+`"to":"b","amount":1,"currency":"EUR"}`)
	}
	for _, id := range []string{``, `"to":null,`, `"to":"",`, `"to":false,`, `"to":"` + strings.Repeat("ü", 201) + `",`, `"to":"\u0061",`} {
		all = append(all, `{`+more+id+`"from":"a","amount":1,"currency":"EUR"}`)
	}
	for _, amount := range amountsRefused {
		all = append(all, `{`+more+`"from":"a","to":"b","amount":`+amount+`,"currency":"EUR"}`)
	}
	for _, currency := range []string{`null`, `"eur"`, `"EUX"`, `""`, `7`, `["EUR"]`, `"EUR "`, `"XXX"`, `"EURO"`} {
		all = append(all, `{`+more+`"from":"a","to":"b","amount":1,"currency":`+currency+`}`)
	}
	return append(all, `{`+more+`"from":"a","to":"b","currency":"EUR"}`, `{`+more+`"from":"a","to":"b","amount":1}`,
		`{`+more+`"from":"a","to":"b","amount":1,"currency":"EUR","typo":1}`, `{`+more+`"from":"a","to":"b","amount":1,"currency":"EUR","typo":null}`, `{`+more+`"from":"a","to":"b","amount":1,"currency":"EUR","":1}`)
}

func idRefused(name, more string) []string {
	all := []string{`{` + strings.TrimPrefix(more, ",") + `}`}
	for _, id := range []string{`null`, `""`, `1`, `{}`, `["p"]`, `true`, `"` + x201 + `"`} {
		all = append(all, `{"`+name+`":`+id+more+`}`)
	}
	return all
}

func timesRefused() []string {
	var all []string
	for _, at := range []string{
		`""`, `"now"`, `"infinity"`, `"-infinity"`, `"tomorrow"`, `7`, `{}`, `false`, `1795435200`, `"2999-01-01"`, `"2999-01-01T00:00:00"`, `"2999-01-01 00:00:00Z"`, `"2999-01-01T00:00Z"`, `"2999-01-01t00:00:00Z"`,
		`"2999-01-01T00:00:00z"`, `"2999-01-01T00:00:00.Z"`, `"2999-01-01T00:00:00,5Z"`, `"2999-01-01T00:00:00.1234567890Z"`, `"2999-02-29T00:00:00Z"`, `"2999-02-30T00:00:00Z"`, `"2999-04-31T00:00:00Z"`, `"2999-13-01T00:00:00Z"`,
		`"2999-00-01T00:00:00Z"`, `"2999-01-00T00:00:00Z"`, `"2999-01-32T00:00:00Z"`, `"0000-01-01T00:00:00Z"`, `"0000-12-31T23:59:59-14:59"`, `"0001-01-01T00:00:00Z"`, `"0001-12-31T23:59:59.999999Z"`, `"0002-01-01T00:00:00+00:01"`,
		`"9999-12-31T23:59:59-00:01"`, `"10000-01-01T00:00:00Z"`, `"+2999-01-01T00:00:00Z"`, `"-2999-01-01T00:00:00Z"`, `"2999-01-01T24:00:00Z"`, `"2999-01-01T23:60:00Z"`, `"2999-01-01T23:59:60Z"`, `"2999-01-01T00:00:00+15:00"`,
		`"2999-01-01T00:00:00+14:60"`, `"2999-01-01T00:00:00+24:00"`, `"2999-01-01T00:00:00+1:00"`, `"2999-01-01T00:00:00+0100"`, `"2999-01-01T00:00:00+01"`, `"2999-01-01T00:00:00 UTC"`, `"2999-01-01T00:00:00Z "`, `" 2999-01-01T00:00:00Z"`,
		`"2999-01-01T00:00:00Z\n"`, `"2999-01-01T00:00:00Europe/Berlin"`, `"2999-1-1T00:00:00Z"`, `"٢٠٢٦-01-01T00:00:00Z"`, `"2999-01-01T00:00:00Z BC"`, `"2999-W01-1T00:00:00Z"`,
	} {
		all = append(all, `{"payment":"ID","from":"a","to":"b","amount":1,"currency":"EUR","expires_at":`+at+`}`)
	}
	return all
}

// The same arguments through every door: lastseat.enqueue and Go refuse at once what a job that was inserted straight
// into river_job is rejected for, and what they accept means the same.
func TestConformance(t *testing.T) {
	pool := newPool(t)
	for _, id := range []string{"a", "b", "ü", " ", "a ", "😀", "😀 ", "e\u0301", "é", "top", "poor", x200} {
		exec(t, pool, `SELECT lastseat.open_account($1, 'EUR', CASE WHEN $1 <> 'poor' THEN NULL ELSE 0 END)`, id)
	}
	for _, door := range []string{"sql", "go", "raw"} {
		exec(t, pool, `SELECT lastseat.transfer('tü ' || $1, 'a', 'b', 1, 'EUR')`, door)
	}
	exec(t, pool, `SELECT lastseat.transfer('max', 'b', $1, 9223372036854775807, 'EUR')`, x200)
	exec(t, pool, `SELECT lastseat.transfer('taken back', 'a', 'b', 1, 'EUR'), lastseat.reverse('reversal', 'taken back')`)
	exec(t, pool, `SELECT lastseat.authorize('p', 'p', 'a', 'b', 100, 'EUR'), lastseat.capture('p capture', 'p')`)
	drain(t, pool, outbox.Settings{})
	type asked struct {
		conforming
		args, key string
	}
	var all []asked
	for i, c := range conformance {
		for j, args := range c.args {
			key := fmt.Sprintf("%d.%d", i, j)
			all = append(all, asked{c, args, key})
			at := func(door string) string {
				return strings.ReplaceAll(strings.ReplaceAll(args, "DOOR", door), "ID", door+key)
			}
			_, err := pool.Exec(t.Context(), `SELECT lastseat.enqueue($1, $2, $3::jsonb)`, c.kind, "sql"+key, at("sql"))
			pgErr, state := (*pgconn.PgError)(nil), ""
			if errors.As(err, &pgErr) {
				state = pgErr.Code
			}
			if state != c.sqlstate || state != "" && (pgErr.Hint == "" || pgErr.Message == "" || strings.Contains(pgErr.Message, "<NULL>")) {
				t.Errorf("%s %s: SQL says %q (%v), want %q", c.kind, args, state, err, c.sqlstate)
			}
			_, err = outbox.EnqueueMany(t.Context(), pool, []outbox.Request{{Key: "go" + key, Args: outbox.RawArgs{Of: c.kind, JSON: json.RawMessage(at("go"))}}})
			if (err == nil) != (c.sqlstate == "") {
				t.Errorf("%s %s: Go says %v", c.kind, args, err)
			}
			exec(t, pool, `INSERT INTO lastseat.river_job (kind, queue, max_attempts, args) VALUES ($1, 'lastseat', 25, $2::jsonb || jsonb_build_object('key', $3::text))`, c.kind, at("raw"), "raw"+key)
		}
	}
	if stats := drain(t, pool, outbox.Settings{}); stats.Failures != 0 {
		t.Errorf("%+v", stats)
	}
	for _, c := range all {
		doors := []string{"raw"}
		if c.sqlstate == "" {
			doors = []string{"raw", "sql", "go"}
		}
		for _, door := range doors {
			if o := outcome(t, pool, door+c.key); o.Code != c.code {
				t.Errorf("%s %s: asked for by %s it is %s %s, want %s", c.kind, c.args, door, o.Code, o.Detail, c.code)
			}
		}
	}
	sameMeaning(t, pool)
	proven(t, pool)
}

// sameMeaning compares what the doors have made of the same arguments: payments, transfers, and what was recorded of them.
func sameMeaning(t *testing.T, pool *pgxpool.Pool) {
	t.Helper()
	for what, sql := range map[string]string{
		// without a time of its own it runs out 7 days after it was asked for, which is not at the same time
		"payments": `SELECT substr(key, length(door) + 1) AS of, door, (from_account, to_account, amount, currency, status, CASE WHEN expires_at - created_at BETWEEN '6 days' AND '8 days' THEN NULL ELSE expires_at END, substr(id, length(door) + 1))::text AS is
			FROM lastseat.payments, unnest('{raw,sql,go}'::text[]) door WHERE starts_with(key, door)`,
		"transfers": `SELECT substr(key, length(door) + 1) AS of, door, (from_account, to_account, amount, currency, payment_id, reverses_id IS NULL, description, coalesce(metadata, '{}'))::text AS is
			FROM lastseat.transfers, unnest('{raw,sql,go}'::text[]) door WHERE starts_with(key, door)`,
	} {
		// those of the raw door alone were refused at the others
		differ := testdb.Scalar[*string](t, pool, `SELECT string_agg(of || ': ' || ways, '; ') FROM (
			SELECT of, string_agg(DISTINCT x.is, ' or ') AS ways FROM (`+sql+`) x GROUP BY of HAVING count(*) NOT IN (1, 3) OR count(DISTINCT x.is) > 1) y`)
		if differ != nil {
			t.Errorf("%s differ: %s", what, *differ)
		}
	}
	if n := testdb.Scalar[int](t, pool, `SELECT count(*)::int FROM lastseat.payments WHERE starts_with(key, 'go')`); n < 10 {
		t.Errorf("%d payments were compared", n)
	}
}

// Go's own structs and the typed functions of SQL ask for the same: the one is a duplicate of the other.
func TestTypedFunctionsConform(t *testing.T) {
	pool := newPool(t)
	exec(t, pool, `SELECT lastseat.open_account('a', 'EUR', NULL), lastseat.open_account('b', 'EUR')`)
	soon := time.Now().Add(time.Hour).Round(time.Microsecond)
	for _, c := range []struct {
		key, sql string
		args     outbox.Args
	}{
		{"transfer", `transfer('transfer', 'a', 'b', 7, 'EUR')`, jobs.Transfer{From: "a", To: "b", Amount: 7, Currency: "EUR"}},
		{"transfer, more", `transfer('transfer, more', 'a', 'b', 7, 'EUR', 'lunch', '{"n": 1}')`, jobs.Transfer{From: "a", To: "b", Amount: 7, Currency: "EUR", Description: "lunch", Metadata: json.RawMessage(`{"n":1}`)}},
		{"authorize", `authorize('authorize', 'p', 'a', 'b', 7, 'EUR')`, jobs.Authorize{Payment: "p", From: "a", To: "b", Amount: 7, Currency: "EUR"}},
		{"authorize, time", `authorize('authorize, time', 'q', 'a', 'b', 7, 'EUR', now() + interval '1 hour')`, jobs.Authorize{Payment: "q", From: "a", To: "b", Amount: 7, Currency: "EUR", ExpiresAt: soon}},
		{"capture", `capture('capture', 'p')`, jobs.Capture{Payment: "p"}},
		{"capture, part", `capture('capture, part', 'q', 5)`, jobs.Capture{Payment: "q", Amount: 5}},
		{"void", `void('void', 'p')`, jobs.Void{Payment: "p"}},
		{"refund", `refund('refund', 'p')`, jobs.Refund{Payment: "p"}},
		{"refund, part", `refund('refund, part', 'q', 2)`, jobs.Refund{Payment: "q", Amount: 2}},
		{"reverse", `reverse('reverse', 'transfer')`, jobs.Reverse{Transfer: "transfer"}},
	} {
		exec(t, pool, "SELECT lastseat."+c.sql)
		receipts, err := outbox.EnqueueMany(t.Context(), pool, []outbox.Request{{Key: c.key, Args: c.args}})
		if err != nil || !receipts[0].Duplicate {
			t.Errorf("%s: %+v, %v", c.key, receipts, err)
		}
	}
	drain(t, pool, outbox.Settings{})
	if n := testdb.Scalar[int](t, pool, `SELECT count(*)::int FROM lastseat.requests WHERE status = 'applied'`); n != 9 { // all but the void
		t.Errorf("%d requests were applied", n)
	}
	for call, state := range map[string]string{
		`authorize('n', 'n', 'a', 'b', 1, 'EUR', 'infinity')`: "LS002", `authorize('n', 'n', 'a', 'b', 1, 'EUR', '-infinity')`: "LS002", `authorize('n', 'n', 'a', 'b', 1, 'EUR', '10000-01-01Z')`: "LS002",
		`authorize('n', 'n', 'a', 'b', 1, 'EUR', '2999-01-01Z BC')`: "LS002", `authorize('n', 'n', 'a', 'b', 1, 'EUR', '0001-06-01Z')`: "LS002", `authorize('n', 'n', 'a', 'b', NULL, 'EUR')`: "LS002",
		`authorize('n', NULL, 'a', 'b', 1, 'EUR')`: "LS002", `authorize('n', 'n', NULL, 'b', 1, 'EUR')`: "LS002", `authorize('n', 'n', 'a', NULL, 1, 'EUR')`: "LS002", `authorize('n', 'n', 'a', 'b', 1, NULL)`: "LS002",
		`authorize('n', 'n', 'a', 'b', -1, 'EUR')`: "LS002", `authorize('n', 'n', 'a', 'a', 1, 'EUR')`: "LS002", `authorize('n', 'n', 'a', 'c', 1, 'EUR')`: "LS003", `authorize('n', 'p', 'a', 'b', 7, 'EUR')`: "LS001",
		`authorize(NULL, 'n', 'a', 'b', 7, 'EUR')`: "LS002", `capture('n', NULL)`: "LS002", `capture('n', 'n')`: "LS003", `capture('n', 'p', 0)`: "LS002", `capture('n', 'p', -1)`: "LS002", `capture('', 'p')`: "LS002",
		`void('n', NULL)`: "LS002", `void('n', 'n')`: "LS003", `refund('n', NULL)`: "LS002", `refund('n', 'n')`: "LS003", `refund('n', 'p', 0)`: "LS002", `reverse('n', NULL)`: "LS002", `reverse('n', 'n')`: "LS003",
		`reverse('n', 'capture')`: "LS003", `reverse('n', 'reverse')`: "LS003", `reverse('n', '')`: "LS002", `void('lastseat:x', 'p')`: "LS002", `capture('river_job:1', 'p')`: "LS002",
	} {
		_, err := pool.Exec(t.Context(), "SELECT lastseat."+call)
		if pgErr := (*pgconn.PgError)(nil); !errors.As(err, &pgErr) || pgErr.Code != state || pgErr.Hint == "" {
			t.Errorf("%s: %v, want %s", call, err, state)
		}
	}
	proven(t, pool)
}
