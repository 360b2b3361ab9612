package main

import (
	"context"
	"strings"
	"testing"
	"time"

	"github.com/lastseat/lastseat/internal/clitest"
)

// authorize asks for the payment "p-"+key of 10.00 EUR from bank to ada, but for what change says.
func (s *shop) authorize(t *testing.T, key string, change ...string) clitest.Result {
	t.Helper()
	args := []string{"authorize", "--key", key, "--payment", "p-" + key, "--from", "bank", "--to", "ada", "--amount",
		"10.00", "--currency", "EUR"}
	return s.enqueue(t, append(args, change...)...)
}

// works runs a worker until the test ends.
func (s *shop) works(t *testing.T) {
	t.Helper()
	ctx, stop := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- s.worker().Run(ctx) }()
	t.Cleanup(func() {
		stop()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
}

// wantRefused demands exit code 3, and the code on stdout.
func wantRefused(t *testing.T, r clitest.Result, code string) {
	t.Helper()
	if r.Code != 3 || r.Err != "" || !strings.Contains(r.Out, "  rejected  "+code) {
		t.Errorf("exit code %d, stdout %q, stderr %q; want 3 and %s", r.Code, r.Out, r.Err, code)
	}
}

// Every kind, waited for: what is done is exit code 0, what is refused 3. Amounts are those of the decimals.
func TestPaymentKinds(t *testing.T) {
	t.Parallel()
	s := newShop(t)
	s.works(t)
	for _, step := range []struct {
		args string
		want string // "refused code", or what stdout says
		ada  int64  // then
	}{
		{"authorize --key a --payment p --from bank --to ada --amount 10.00 --currency EUR",
			"a  payment.authorize  applied  authorized", 0},
		{"refund --key r0 --payment p", "refused amount_exceeds_captured", 0},
		{"capture --key c0 --payment p --amount 10.01", "refused amount_exceeds_authorized", 0},
		{"capture --key c --payment p --amount 7.5",
			`c  payment.capture  applied  captured  {"captured": 750, "released": 250}`, 750},
		{"capture --key c2 --payment p", "refused already_captured", 750},
		{"void --key v0 --payment p", "refused already_captured", 750},
		{"refund --key r1 --payment p --amount 2.00",
			`r1  payment.refund  applied  refunded  {"left": 550, "refunded": 200}`, 550},
		{"refund --key r2 --payment p --amount 5.51", "refused amount_exceeds_captured", 550},
		{"refund --key r3 --payment p", `r3  payment.refund  applied  refunded  {"left": 0, "refunded": 550}`, 0},

		{"authorize --key b --payment q --from bank --to ada --amount 3 --currency EUR", "authorized", 0},
		{"void --key v --payment q", `v  payment.void  applied  voided  {"released": 300}`, 0},
		{"void --key v2 --payment q", "refused already_voided", 0},
		{"capture --key c3 --payment q", "refused already_voided", 0},

		{"authorize --key d --payment r --from bank --to ada --amount 4 --currency EUR", "authorized", 0},
		{"capture --key c4 --payment r", "captured", 400},
		{"authorize --key poor --payment none --from ben --to ada --amount 0.01 --currency EUR",
			"refused insufficient_funds", 400},
		{"capture --key c5 --payment none", "refused not_authorized", 400},
		{"authorize --key late --payment late --from bank --to ada --amount 1 --currency EUR --expires-at " +
			"2020-01-01T00:00:00+02:00", "refused authorization_expired", 400},

		{"transfer --key t --from bank --to ada --amount 1.00 --currency EUR", "transferred", 500},
		{"reverse --key u --transfer t", "u  payment.reverse  applied  reversed", 400},
		{"reverse --key u2 --transfer t", "refused already_reversed", 400},
	} {
		got := s.enqueue(t, append(strings.Fields(step.args), "--wait", "30s")...)
		if code, refused := strings.CutPrefix(step.want, "refused "); refused {
			wantRefused(t, got, code)
		} else if got.Succeeds(t); !strings.Contains(got.Out, step.want) {
			t.Errorf("%s: stdout %q, want %q", step.args, got.Out, step.want)
		}
		if ada := s.balance(t, "ada"); ada != step.ada {
			t.Errorf("after %s ada has %d, want %d", step.args, ada, step.ada)
		}
	}
	if got := decodeOutcome(t, s.enqueue(t, "refund", "--key", "r3", "--payment", "p", "--wait", "30s", "-o",
		"json").Out); got["duplicate"] != true || got["code"] != "refunded" {
		t.Errorf("asked again: %v, want a duplicate, refunded", got)
	}
}

// An amount is read in the payment's currency, whatever its decimals, and is never rounded.
func TestPaymentDecimals(t *testing.T) {
	t.Parallel()
	s := newShop(t)
	for _, id := range []string{"kuwait", "dinar"} {
		s.enqueue(t, "account", "--id", id, "--currency", "KWD", "--overdraft", "unlimited").Succeeds(t)
	}
	s.enqueue(t, "account", "--id", "osaka", "--currency", "JPY").Succeeds(t)
	s.authorize(t, "kwd", "--from", "kuwait", "--to", "dinar", "--amount", "1.234", "--currency", "KWD").Succeeds(t)
	s.authorize(t, "jpy", "--from", "tokyo", "--to", "osaka", "--amount", "1200", "--currency", "JPY").Succeeds(t)
	for _, command := range []string{"capture", "refund"} {
		s.enqueue(t, command, "--key", "x", "--payment", "p-kwd", "--amount", "1.2345").Fails(t, 65,
			"4 decimals and KWD has 3")
		s.enqueue(t, command, "--key", "x", "--payment", "p-jpy", "--amount", "5.0").Fails(t, 65, "JPY has no decimals")
	}
	s.enqueue(t, "capture", "--key", "c-kwd", "--payment", "p-kwd", "--amount", "1.005").Succeeds(t)
	s.enqueue(t, "capture", "--key", "c-jpy", "--payment", "p-jpy", "--amount", "5").Succeeds(t)
	s.drain(t)
	if kwd, jpy := s.balance(t, "dinar"), s.balance(t, "osaka"); kwd != 1005 || jpy != 5 {
		t.Errorf("captured %d and %d, want 1005 and 5", kwd, jpy)
	}
	if got := s.enqueue(t, "payment", "p-kwd").Out; !strings.Contains(got,
		"1.234 KWD from kuwait to dinar  captured 1.005  refunded 0.000") {
		t.Errorf("the payment is shown as %q", got)
	}
}

// What is wrong has exit code 65 and its reason on one line, and nothing is written.
func TestPaymentBadInput(t *testing.T) {
	t.Parallel()
	s := newShop(t)
	s.authorize(t, "a").Succeeds(t)
	s.transfer(t, "t").Succeeds(t)
	authorize := "authorize --key k --payment p --from bank --to ada --amount 1 --currency EUR "
	long := strings.Repeat("x", 201)
	s.refuses(t, map[string]badInput{
		"payment taken":          {authorize + "--payment p-a", `payment "p-a" was asked for with the key "a"`},
		"empty payment":          {authorize + "--payment=", "--payment is empty"},
		"long payment":           {authorize + "--payment " + long, "201 characters"},
		"payment with NUL":       {authorize + "--payment a\x00b", ""},
		"payment not UTF-8":      {authorize + "--payment a\xff", "UTF-8"},
		"unknown giver":          {authorize + "--from nobody", `there is no account "nobody"`},
		"unknown taker":          {authorize + "--to nobody", `there is no account "nobody"`},
		"the same account":       {authorize + "--to bank", "same account"},
		"amount zero":            {authorize + "--amount 0.00", "--amount is 0.00"},
		"amount negative":        {authorize + "--amount -1", "--amount is -1"},
		"amount no number":       {authorize + "--amount much", `"much"`},
		"too many decimals":      {authorize + "--amount 1.005", "3 decimals"},
		"unknown currency":       {authorize + "--currency XQQ", `"XQQ"`},
		"empty key":              {authorize + "--key=", "the key is empty"},
		"reserved key":           {authorize + "--key lastseat:k", "lastseat:"},
		"year after 9999":        {authorize + "--expires-at 9999-12-31T23:59:59-14:00", "year"},
		"capture of none":        {"capture --key k --payment none", `there is no payment "none"`},
		"part of none":           {"capture --key k --payment none --amount 1", `there is no payment "none"`},
		"refund of none":         {"refund --key k --payment none", `there is no payment "none"`},
		"refund of part of none": {"refund --key k --payment none --amount 1", `there is no payment "none"`},
		"void of none":           {"void --key k --payment none", `there is no payment "none"`},
		"capture of NUL":         {"capture --key k --payment a\x00 --amount 1", ""},
		"capture of escape":      {"capture --key k --payment a\x1b[31m --amount 1", "there is no payment"},
		"capture of zero":        {"capture --key k --payment p-a --amount 0", "--amount is 0"},
		"capture of less":        {"capture --key k --payment p-a --amount -1.00", "--amount is -1.00"},
		"capture of nothing":     {"capture --key k --payment p-a --amount=", "--amount"},
		"capture too exact":      {"capture --key k --payment p-a --amount 1.005", "3 decimals and EUR has 2"},
		"capture beyond int64":   {"capture --key k --payment p-a --amount 92233720368547758.08", "out of range"},
		"capture without key":    {"capture --key= --payment p-a", "the key is empty"},
		"refund too exact":       {"refund --key k --payment p-a --amount 1.500", "3 decimals and EUR has 2"},
		"void with long key":     {"void --key " + long + " --payment p-a", "201 characters"},
		"reverse of none":        {"reverse --key k --transfer none", `no transfer was asked for with the key "none"`},
		"reverse of a payment":   {"reverse --key k --transfer a", "it is a payment.authorize"},
		"reverse of empty":       {"reverse --key k --transfer=", "--transfer is empty"},
		"balance of none":        {"balance none", `there is no account "none"`},
		"payment none":           {"payment none", `there is no payment "none"`},
		"statement of none":      {"statement none", `there is no account "none"`},
		"statement of none, CSV": {"statement none -o csv --to 2026-11-23", `there is no account "none"`},
		"statement of NUL":       {"statement a\x00b", ""},
		"key of a transfer":      {authorize + "--key t", `key "t" was used`},
		"key of an authorize":    {"capture --key a --payment p-a", `key "a" was used`},
	})
}

// The same again is a duplicate, with other arguments exit code 65. The time at which the hold ends is no such
// argument: whoever asks again reckons it anew.
func TestPaymentKeyReused(t *testing.T) {
	t.Parallel()
	s := newShop(t)
	duplicate := func(got clitest.Result, want bool) {
		t.Helper()
		got.Succeeds(t)
		if decodeOutcome(t, got.Out)["duplicate"] != want {
			t.Errorf("printed %s, want duplicate: %v", got.Out, want)
		}
	}
	expires := func() (at time.Time) {
		t.Helper()
		if err := s.pool.QueryRow(t.Context(),
			`SELECT expires_at FROM lastseat.payments WHERE id = 'p-a'`).Scan(&at); err != nil {
			t.Fatal(err)
		}
		return at
	}
	before := time.Now()
	duplicate(s.authorize(t, "a", "--expires-in", "15m", "-o", "json"), false)
	first := expires()
	if first.Before(before.Add(14*time.Minute)) || first.After(time.Now().Add(16*time.Minute)) {
		t.Errorf("asked for at %v, it expires at %v: want 15 minutes later", before, first)
	}
	s.transfer(t, "t").Succeeds(t)
	for _, later := range []string{"pending", "settled"} {
		for _, again := range [][]string{
			{"--expires-in", "15m"}, {"--expires-in", "1h"}, {"--expires-at", "2099-01-01T00:00:00Z"},
			{"--expires-at", "2020-01-01T00:00:00+01:00"}, {},
		} {
			duplicate(s.authorize(t, "a", append(again, "-o", "json")...), true)
			if got := expires(); !got.Equal(first) {
				t.Errorf("asked again with %v, it expires at %v, not %v", again, got, first)
			}
		}
		for _, change := range [][]string{{"--amount", "9.99"}, {"--to", "ben"}, {"--payment", "other"}} {
			s.authorize(t, "a", change...).Fails(t, 65, `key "a" was used`, "LS001")
		}
		for command, change := range map[string][]string{
			"capture --key c --payment p-a --amount 7.00": {"--amount", "7.01"},
			"refund --key r --payment p-a --amount 1":     {"--amount", "2"},
			"void --key v --payment p-a":                  {"--payment", "p-b"},
			"reverse --key u --transfer t":                {"--transfer", "t2"},
		} {
			args := append(strings.Fields(command), "-o", "json")
			if later == "pending" {
				s.authorize(t, "b").Succeeds(t)
				s.transfer(t, "t2").Succeeds(t)
				duplicate(s.enqueue(t, args...), false)
			}
			duplicate(s.enqueue(t, args...), true)
			s.enqueue(t, append(args, change...)...).Fails(t, 65, "was used", "LS001")
		}
		s.drain(t)
	}
	s.expect(t, "4 accounts, 8 requests, 0 jobs")
}

func TestExpiresAt(t *testing.T) {
	t.Parallel()
	s := newShop(t)
	s.authorize(t, "a", "--expires-at", "2099-01-01T12:00:00.25+02:00").Succeeds(t)
	s.authorize(t, "week").Succeeds(t)
	var at, week time.Time
	err := s.pool.QueryRow(t.Context(), `
		SELECT (SELECT expires_at FROM lastseat.payments WHERE id = 'p-a'), (SELECT expires_at - interval '7 days'
		  FROM lastseat.payments WHERE id = 'p-week')`).Scan(&at, &week)
	if want := time.Date(2099, 1, 1, 10, 0, 0, 250_000_000, time.UTC); err != nil || !at.Equal(want) {
		t.Errorf("it expires at %v (%v), want %v", at, err, want)
	}
	if ago := time.Since(week).Abs(); ago > time.Hour {
		t.Errorf("without a time it expires 7 days after %v", week)
	}
}
