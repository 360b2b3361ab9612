package jobs

import (
	"cmp"
	"encoding/json"
	"fmt"
	"math"
	"strings"
	"testing"
	"time"

	"github.com/lastseat/lastseat/outbox"
)

func TestTransferApply(t *testing.T) {
	t.Parallel()
	const most, least = math.MaxInt64, math.MinInt64
	for name, test := range map[string]struct {
		from, to account
		amount   int64
		want     string
		detail   string
	}{
		"enough": {account{balance: 100, overdraft: new(int64(0))}, account{}, 100, CodeTransferred, `null`},
		"one too much": {account{balance: 100, overdraft: new(int64(0))}, account{}, 101, CodeInsufficientFunds,
			`{"account":"from","asked":101,"available":100}`},
		"within the overdraft": {account{balance: 100, overdraft: new(int64(50))}, account{}, 150, CodeTransferred, `null`},
		"beyond the overdraft": {account{balance: 100, overdraft: new(int64(50))}, account{}, 151, CodeInsufficientFunds,
			`{"account":"from","asked":151,"available":150}`},
		"held is not available": {account{balance: 100, held: 30, overdraft: new(int64(0))}, account{}, 71,
			CodeInsufficientFunds, `{"account":"from","asked":71,"available":70}`},
		"below the limit before": {account{balance: -80, overdraft: new(int64(50))}, account{}, 1, CodeInsufficientFunds,
			`{"account":"from","asked":1,"available":-30}`},
		"unbounded": {account{balance: 0}, account{}, most, CodeTransferred, `null`},
		"giver at the bottom": {account{balance: least}, account{}, 1, CodeOutOfRange,
			`{"account":"from","asked":1,"balance":-9223372036854775808,"held":0}`},
		"giver just fits": {account{balance: least + 5}, account{}, 5, CodeTransferred, `null`},
		"held would not fit": {account{balance: least + 5, held: 1}, account{}, 5, CodeOutOfRange,
			`{"account":"from","asked":5,"balance":-9223372036854775803,"held":1}`},
		"huge held": {account{balance: 0, held: most}, account{}, 2, CodeOutOfRange,
			`{"account":"from","asked":2,"balance":0,"held":9223372036854775807}`},
		"taker at the top": {account{balance: 10}, account{balance: most}, 1, CodeOutOfRange,
			`{"account":"to","asked":1,"balance":9223372036854775807}`},
		"taker just fits": {account{balance: 10}, account{balance: most - 1}, 1, CodeTransferred, `null`},
		"huge limit":      {account{balance: most, overdraft: new(int64(most))}, account{}, most, CodeTransferred, `null`},
		"giver's currency": {account{balance: 100, currency: "USD"}, account{}, 1, CodeCurrencyMismatch,
			`{"account":"from","account_currency":"USD","currency":"EUR"}`},
		"taker's currency": {account{balance: 100}, account{currency: "JPY"}, 1, CodeCurrencyMismatch,
			`{"account":"to","account_currency":"JPY","currency":"EUR"}`},
		"no giver": {account{id: "-"}, account{}, 1, CodeAccountNotFound, `{"account":"from"}`},
		"no taker": {account{}, account{id: "-"}, 1, CodeAccountNotFound, `{"account":"to"}`},
	} {
		t.Run(name, func(t *testing.T) {
			request := &Transfer{From: "from", To: "to", Amount: test.amount, Currency: "EUR"}
			l := newState(time.Now())
			request.needs(l)
			for id, a := range map[string]account{"from": test.from, "to": test.to} {
				if a.id == "-" {
					continue // not there
				}
				a.id = id
				if a.currency == "" {
					a.currency = "EUR"
				}
				l.money.ledger.accounts[id] = &a
			}
			result, err := request.apply(l, outbox.Job{Key: "key"})
			if err != nil {
				t.Fatal(err)
			}
			detail, err := json.Marshal(result.Detail)
			if err != nil || result.Code != test.want || string(detail) != test.detail {
				t.Errorf("%s %s, want %s %s (%v)", result.Code, detail, test.want, test.detail, err)
			}
			if moved := result.Status == outbox.Applied; moved != (len(l.money.ledger.transfers) == 1) ||
				moved != (len(l.money.ledger.entries) == 2) {
				t.Errorf("%s, with %d transfers, %d entries", result.Status, len(l.money.ledger.transfers),
					len(l.money.ledger.entries))
			}
		})
	}
}

// The payment of the table below: 100 of ada's 1000 for the shop, which has 500.
var tableTime = time.Date(2026, 11, 23, 12, 0, 0, 0, time.UTC)

// paymentStates: none stands for a payment that is not there; ran out, for one that is authorized and whose time is
// over at the time of the job.
var paymentStates = map[string]payment{
	"none":       {},
	"pending":    {status: paymentPending},
	"authorized": {status: paymentAuthorized, version: 1},
	"ran out":    {status: paymentAuthorized, version: 1, expiresAt: tableTime},
	"captured":   {status: paymentCaptured, version: 2, captured: 80},
	"partly":     {status: paymentCaptured, version: 3, captured: 80, refunded: 30}, // refunded
	"wholly":     {status: paymentCaptured, version: 3, captured: 80, refunded: 80}, // refunded
	"declined":   {status: paymentDeclined, version: 1},
	"voided":     {status: paymentVoided, version: 2},
	"expired": {status: paymentExpired, version: 2,
		expiresAt: tableTime.Add(-time.Hour).In(time.FixedZone("of the worker", 3600))},
}

// paymentOperations: key is the one that the payment was asked for with.
var paymentOperations = map[string]struct {
	key  string
	args operation
}{
	"authorize": {"key", &Authorize{Payment: "p", From: "ada", To: "shop", Amount: 100, Currency: "EUR",
		ExpiresAt: tableTime.Add(time.Hour)}},
	"authorize other": {"k", &Authorize{Payment: "p", From: "shop", To: "ada", Amount: 7, Currency: "EUR",
		ExpiresAt: tableTime.Add(time.Hour)}},
	"capture":     {"k", &Capture{Payment: "p"}},
	"capture 100": {"k", &Capture{Payment: "p", Amount: 100}},
	"capture 60":  {"k", &Capture{Payment: "p", Amount: 60}},
	"capture 101": {"k", &Capture{Payment: "p", Amount: 101}},
	"void":        {"k", &Void{Payment: "p"}},
	"refund":      {"k", &Refund{Payment: "p"}},
	"refund 20":   {"k", &Refund{Payment: "p", Amount: 20}},
	"refund 81":   {"k", &Refund{Payment: "p", Amount: 81}},
}

func tableState(name string) *state {
	s := newState(tableTime.Add(time.Minute))
	ada := &account{id: "ada", currency: "EUR", balance: 1000, overdraft: new(int64(0))}
	s.money.ledger.accounts["ada"], s.money.ledger.accounts["shop"] = ada, &account{id: "shop", currency: "EUR",
		balance: 500, overdraft: new(int64(0))}
	p := paymentStates[name]
	if p.status == "" {
		return s
	}
	p.id, p.key, p.from, p.to, p.amount, p.currency = "p", "key", "ada", "shop", 100, "EUR"
	if p.expiresAt.IsZero() {
		p.expiresAt = tableTime.Add(time.Nanosecond)
	}
	if p.status == paymentAuthorized {
		ada.held = p.amount
	}
	s.money.payments["p"] = &p
	return s
}

// row says what a step has made of the payment and its accounts.
func (s *state) row() string {
	text := "none"
	if p := s.money.payments["p"]; p != nil {
		text = fmt.Sprintf("%s v%d %d-%d", p.status, p.version, p.captured, p.refunded)
	}
	for _, id := range []string{"ada", "shop"} {
		text += fmt.Sprintf(", %d/%d v%d", s.money.ledger.accounts[id].balance, s.money.ledger.accounts[id].held,
			s.money.ledger.accounts[id].version)
	}
	return text
}

// Every state, every operation. After: "status version captured-refunded", then balance/held and version of both
// accounts; empty: all as before.
func TestPaymentStateMachine(t *testing.T) {
	t.Parallel()
	seen := make(map[string]bool)
	check := func(t *testing.T, c paymentCase, operation string) {
		s, o := tableState(c.state), paymentOperations[operation]
		before := s.row()
		result, err := o.args.apply(s, outbox.Job{Key: o.key, At: tableTime})
		detail, unfit := json.Marshal(result.Detail)
		outcome := fmt.Sprintf("%s %s %s", result.Status, result.Code, detail)
		if err = cmp.Or(err, unfit); err != nil {
			outcome = "error: " + err.Error()
		}
		if outcome != c.outcome {
			t.Errorf("%s, want %s", outcome, c.outcome)
		}
		if want := cmp.Or(c.after, before); s.row() != want {
			t.Errorf("%s, want %s", s.row(), want)
		}
		for id, a := range s.money.ledger.accounts {
			if a.changed != (a.version > 0) {
				t.Errorf("account %s: changed is %t at version %d", id, a.changed, a.version)
			}
		}
		if p := s.money.payments["p"]; p != nil && (p.changed != (c.after != "") || p.created != (c.state == "none") ||
			p.wasAuthorized != (result.Code == CodeAuthorized)) {
			t.Errorf("%+v", *p)
		}
		if wantExpired := c.state == "ran out" && c.after != ""; (len(s.money.expired) == 1) != wantExpired {
			t.Errorf("expired: %v", s.money.expired)
		}
		if moved := result.Code == CodeCaptured ||
			result.Code == CodeRefunded; moved != (len(s.money.ledger.transfers) == 1) || moved &&
			(s.money.ledger.transfers[0].payment != "p" || s.money.ledger.transfers[0].key != o.key) {
			t.Errorf("transfers: %+v", s.money.ledger.transfers)
		}
	}
	for _, c := range paymentTable {
		for operation := range strings.SplitSeq(c.operations, ", ") {
			seen[c.state+"/"+operation] = true
			t.Run(c.state+"/"+operation, func(t *testing.T) { check(t, c, operation) })
		}
	}
	for state := range paymentStates {
		for operation := range paymentOperations {
			if !seen[state+"/"+operation] {
				t.Errorf("no case %s/%s", state, operation)
			}
		}
	}
}

type paymentCase struct{ state, operations, outcome, after string }

// Operations that end alike share a line.
var paymentTable = []paymentCase{
	{"none", "authorize", `applied authorized null`, "authorized v1 0-0, 1000/100 v1, 500/0 v0"},
	{"none", "authorize other", `applied authorized null`, "authorized v1 0-0, 1000/0 v0, 500/7 v1"},
	{"none", "capture, capture 100, capture 60, capture 101, void, refund, refund 20, refund 81",
		`rejected payment_not_found {"payment":"p"}`, ""},
	{"pending", "authorize", `applied authorized null`, "authorized v1 0-0, 1000/100 v1, 500/0 v0"},
	{"pending", "authorize other", `rejected invalid_args {"error":"payment \"p\" was asked for with the key \"key\""}`,
		""},
	{"pending", "capture, capture 100, capture 60, capture 101, void, refund, refund 20, refund 81",
		`rejected not_authorized {"payment":"p","status":"pending"}`, ""},
	{"authorized", "authorize",
		`error: payment "p" is authorized, and the request to authorize it is not settled: run worker audit`, ""},
	{"authorized", "authorize other",
		`rejected invalid_args {"error":"payment \"p\" was asked for with the key \"key\""}`, ""},
	{"authorized", "capture, capture 100", `applied captured {"captured":100,"released":0}`,
		"captured v2 100-0, 900/0 v2, 600/0 v1"},
	{"authorized", "capture 60", `applied captured {"captured":60,"released":40}`, "captured v2 60-0, 940/0 v2, 560/0 v1"},
	{"authorized", "capture 101", `rejected amount_exceeds_authorized {"asked":101,"authorized":100,"payment":"p"}`, ""},
	{"authorized", "void", `applied voided {"released":100}`, "voided v2 0-0, 1000/0 v1, 500/0 v0"},
	{"authorized", "refund", `rejected amount_exceeds_captured {"asked":0,"captured":0,"payment":"p","refunded":0}`, ""},
	{"authorized", "refund 20", `rejected amount_exceeds_captured {"asked":20,"captured":0,"payment":"p","refunded":0}`,
		""},
	{"authorized", "refund 81", `rejected amount_exceeds_captured {"asked":81,"captured":0,"payment":"p","refunded":0}`,
		""},
	{"ran out", "authorize",
		`error: payment "p" is authorized, and the request to authorize it is not settled: run worker audit`, ""},
	{"ran out", "authorize other", `rejected invalid_args {"error":"payment \"p\" was asked for with the key \"key\""}`,
		""},
	{"ran out", "capture, capture 100, capture 60, capture 101, void, refund, refund 20, refund 81",
		`rejected authorization_expired {"expires_at":"2026-11-23T12:00:00Z","payment":"p"}`,
		"expired v2 0-0, 1000/0 v1, 500/0 v0"},
	{"captured", "authorize",
		`error: payment "p" is captured, and the request to authorize it is not settled: run worker audit`, ""},
	{"captured", "authorize other", `rejected invalid_args {"error":"payment \"p\" was asked for with the key \"key\""}`,
		""},
	{"captured", "capture, capture 100, capture 60, capture 101, void",
		`rejected already_captured {"captured":80,"payment":"p"}`, ""},
	{"captured", "refund", `applied refunded {"left":0,"refunded":80}`, "captured v3 80-80, 1080/0 v1, 420/0 v1"},
	{"captured", "refund 20", `applied refunded {"left":60,"refunded":20}`, "captured v3 80-20, 1020/0 v1, 480/0 v1"},
	{"captured", "refund 81", `rejected amount_exceeds_captured {"asked":81,"captured":80,"payment":"p","refunded":0}`,
		""},
	{"partly", "authorize",
		`error: payment "p" is captured, and the request to authorize it is not settled: run worker audit`, ""},
	{"partly", "authorize other", `rejected invalid_args {"error":"payment \"p\" was asked for with the key \"key\""}`,
		""},
	{"partly", "capture, capture 100, capture 60, capture 101, void",
		`rejected already_captured {"captured":80,"payment":"p"}`, ""},
	{"partly", "refund", `applied refunded {"left":0,"refunded":50}`, "captured v4 80-80, 1050/0 v1, 450/0 v1"},
	{"partly", "refund 20", `applied refunded {"left":30,"refunded":20}`, "captured v4 80-50, 1020/0 v1, 480/0 v1"},
	{"partly", "refund 81", `rejected amount_exceeds_captured {"asked":81,"captured":80,"payment":"p","refunded":30}`, ""},
	{"wholly", "authorize",
		`error: payment "p" is captured, and the request to authorize it is not settled: run worker audit`, ""},
	{"wholly", "authorize other", `rejected invalid_args {"error":"payment \"p\" was asked for with the key \"key\""}`,
		""},
	{"wholly", "capture, capture 100, capture 60, capture 101, void",
		`rejected already_captured {"captured":80,"payment":"p"}`, ""},
	{"wholly", "refund", `rejected amount_exceeds_captured {"asked":0,"captured":80,"payment":"p","refunded":80}`, ""},
	{"wholly", "refund 20", `rejected amount_exceeds_captured {"asked":20,"captured":80,"payment":"p","refunded":80}`, ""},
	{"wholly", "refund 81", `rejected amount_exceeds_captured {"asked":81,"captured":80,"payment":"p","refunded":80}`, ""},
	{"declined", "authorize",
		`error: payment "p" is declined, and the request to authorize it is not settled: run worker audit`, ""},
	{"declined", "authorize other", `rejected invalid_args {"error":"payment \"p\" was asked for with the key \"key\""}`,
		""},
	{"declined", "capture, capture 100, capture 60, capture 101, void, refund, refund 20, refund 81",
		`rejected not_authorized {"payment":"p","status":"declined"}`, ""},
	{"voided", "authorize",
		`error: payment "p" is voided, and the request to authorize it is not settled: run worker audit`, ""},
	{"voided", "authorize other", `rejected invalid_args {"error":"payment \"p\" was asked for with the key \"key\""}`,
		""},
	{"voided", "capture, capture 100, capture 60, capture 101, void, refund, refund 20, refund 81",
		`rejected already_voided {"payment":"p"}`, ""},
	{"expired", "authorize",
		`error: payment "p" is expired, and the request to authorize it is not settled: run worker audit`, ""},
	{"expired", "authorize other", `rejected invalid_args {"error":"payment \"p\" was asked for with the key \"key\""}`,
		""},
	{"expired", "capture, capture 100, capture 60, capture 101, void, refund, refund 20, refund 81",
		`rejected authorization_expired {"expires_at":"2026-11-23T11:00:00Z","payment":"p"}`, ""},
}

// A reversal takes back a plain transfer, once.
func TestReverseApply(t *testing.T) {
	t.Parallel()
	plain := transfer{id: 1, key: "t", from: "ada", to: "shop", amount: 100, currency: "EUR"}
	for name, c := range map[string]struct {
		of      *transfer
		outcome string
		after   string
	}{
		"none":  {nil, `rejected payment_not_found {"transfer":"t"}`, "none, 1000/0 v0, 500/0 v0"},
		"plain": {&plain, `applied reversed null`, "none, 1100/0 v1, 400/0 v1"},
		"reversed": {with(plain, func(t *transfer) { t.reversedBy = "r" }),
			`rejected already_reversed {"reversed_by":"r","transfer":"t"}`, "none, 1000/0 v0, 500/0 v0"},
		"capture": {with(plain, func(t *transfer) { t.payment = "p" }), `rejected payment_not_found {"transfer":"t"}`,
			"none, 1000/0 v0, 500/0 v0"},
		"reversal": {with(plain, func(t *transfer) { t.reverses = &transfer{} }),
			`rejected payment_not_found {"transfer":"t"}`, "none, 1000/0 v0, 500/0 v0"},
		"spent": {with(plain, func(t *transfer) { t.amount = 501 }),
			`rejected insufficient_funds {"account":"shop","asked":501,"available":500}`, "none, 1000/0 v0, 500/0 v0"},
		"too much": {with(plain, func(t *transfer) { t.from, t.to, t.amount = "top", "shop", 5 }),
			`rejected out_of_range {"account":"top","asked":5,"balance":9223372036854775807}`, "none, 1000/0 v0, 500/0 v0"},
	} {
		t.Run(name, func(t *testing.T) {
			s := tableState("none")
			s.money.ledger.accounts["top"] = &account{id: "top", currency: "EUR", balance: math.MaxInt64}
			r := &Reverse{Transfer: "t"}
			r.needs(s)
			if _, needed := s.money.ledger.byKey["t"]; !needed {
				t.Error("the transfer is not needed")
			}
			s.money.ledger.byKey["t"] = c.of
			for range 2 { // the second time it is reversed by the first
				result, err := r.apply(s, outbox.Job{Key: "r2", At: tableTime})
				if err != nil {
					t.Fatal(err)
				}
				detail, _ := json.Marshal(result.Detail)
				if outcome := fmt.Sprintf("%s %s %s", result.Status, result.Code, detail); outcome != c.outcome ||
					s.row() != c.after {
					t.Errorf("%s: %s, want %s: %s", outcome, s.row(), c.outcome, c.after)
				}
				if result.Code == CodeReversed {
					c.outcome = `rejected already_reversed {"reversed_by":"r2","transfer":"t"}`
				}
			}
			// nor is the reversal itself, or a reversal of it
			result, _ := (&Reverse{Transfer: "r2"}).apply(s, outbox.Job{Key: "r3"})
			if result.Code != CodePaymentNotFound {
				t.Errorf("the reversal: %s", result.Code)
			}
		})
	}
}

func with[T any](value T, change func(*T)) *T {
	change(&value)
	return &value
}

// An account that contradicts its authorizations is an error, and nothing is half done; a sweep leaves it alone.
func TestContradictionIsAnError(t *testing.T) {
	t.Parallel()
	for name, operation := range map[string]operation{"capture": &Capture{Payment: "p"}, "void": &Void{Payment: "p"},
		"refund": &Refund{Payment: "p"}} {
		for _, state := range []string{"authorized", "ran out"} {
			s := tableState(state)
			s.money.ledger.accounts["ada"].held = 99
			before := s.row()
			if _, err := operation.apply(s, outbox.Job{Key: "k", At: tableTime}); (err == nil) != (name == "refund" &&
				state == "authorized") || s.row() != before {
				t.Errorf("%s of %s: %v, %s", name, state, err, s.row())
			}
			if s.expireDue(tableTime.Add(time.Hour)); s.row() != before || len(s.money.expired) != 0 {
				t.Errorf("swept: %s", s.row())
			}
		}
	}
}

// Whatever ran out until a time is expired by then, and nothing else.
func TestExpireDue(t *testing.T) {
	t.Parallel()
	for name := range paymentStates {
		for at, due := range map[time.Time]bool{tableTime.Add(-1): false, tableTime: true, tableTime.Add(time.Hour): true} {
			s := tableState(name)
			before := s.row()
			s.expireDue(at)
			if expires := due && name == "ran out" || at.After(tableTime) && name == "authorized"; expires {
				before = "expired v2 0-0, 1000/0 v1, 500/0 v0"
			}
			if s.row() != before {
				t.Errorf("%s: %s, want %s", name, s.row(), before)
			}
		}
	}
}

// expireDue is a sweep, in memory.
func (s *state) expireDue(at time.Time) {
	for _, p := range s.money.payments {
		if p != nil && p.status == paymentAuthorized {
			s.money.watch(p)
		}
	}
	s.advance(at)
}
