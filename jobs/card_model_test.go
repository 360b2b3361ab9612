package jobs

import (
	"cmp"
	"encoding/json"
	"fmt"
	"slices"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/lastseat/lastseat/outbox"
	"github.com/lastseat/lastseat/processor"
	"github.com/lastseat/lastseat/processor/calls"
)

// cardHistory is one payment by card of 100, with its processor: requests come in any order, answers too, people work
// at the processor by hand, and time passes.
type cardHistory struct {
	t        *rapid.T
	s        *state
	waiting  []*cardRequest // those that are not settled
	settled  []string       // codes
	charge   processor.Record
	byHand   bool
	answered bool // the processor carries out what it can, from now on
}

type cardRequest struct {
	job   outbox.Job
	args  operation
	calls bool
}

func newCardHistory(t *rapid.T) *cardHistory {
	h := &cardHistory{t: t, s: newState(tableTime)}
	h.s.money.ledger.accounts["card"] = &account{id: "card", currency: "EUR"}
	for _, id := range []string{"shop", clearingAccount("till", "EUR")} {
		h.s.money.ledger.accounts[id] = &account{id: id, currency: "EUR", overdraft: new(int64(0))}
	}
	h.ask("authorize", &Authorize{Payment: "p", From: "card", To: "shop", Amount: 100, Currency: "EUR",
		ExpiresAt: tableTime.Add(time.Hour), Processor: "till", Method: "pm"})
	return h
}

func (h *cardHistory) ask(key string, args operation) {
	r := &cardRequest{job: outbox.Job{Key: key, At: h.s.now}, args: args}
	h.waiting = append(h.waiting, r)
	h.settle(r)
}

// settle has the lane take a request up. Each has to be settled, to call, or to wait for the one that calls.
func (h *cardHistory) settle(r *cardRequest) {
	h.s.advance(r.job.At)
	result, err := r.args.apply(h.s, r.job)
	p := h.s.money.payments["p"]
	switch {
	case err != nil:
		h.t.Fatalf("%s: %v", r.job.Key, err)
	case result.IsCalling():
		if p.calling != r.job.Key {
			h.t.Fatalf("%s calls, and the payment says %q does", r.job.Key, p.calling)
		}
		r.calls = true
	case result.Status == "":
		if r.calls || p.calling == "" || p.calling == r.job.Key {
			h.t.Fatalf("%s waits, and %q calls", r.job.Key, p.calling)
		}
	default:
		h.settled = append(h.settled, r.job.Key+" "+result.Code)
		h.waiting = slices.DeleteFunc(h.waiting, func(o *cardRequest) bool { return o == r })
	}
	h.invariants()
}

// lane does what a batch's end does: what has run out is asked for.
func (h *cardHistory) lane() {
	for len(h.s.money.letGo) > 0 {
		id := h.s.money.letGo[0]
		h.s.money.letGo = h.s.money.letGo[1:]
		h.ask(expiryKey(id), &expire{Payment: id})
	}
}

// invariants hold after every step, whatever is under way.
func (h *cardHistory) invariants() {
	p, accounts := h.s.money.payments["p"], h.s.money.ledger.accounts
	card, shop, clearing := accounts["card"], accounts["shop"], accounts[clearingAccount("till", "EUR")]
	held := int64(0)
	if p.status == paymentAuthorized || p.status == paymentPending && p.calling != "" {
		held = p.amount
	}
	calling := 0
	for _, r := range h.waiting {
		if r.calls {
			calling++
		}
	}
	switch {
	case card.held != held, clearing.balance != p.inFlight, card.balance+shop.balance+clearing.balance != 0:
		h.t.Fatalf("%+v: card %d/%d, shop %d, clearing %d", *p, card.balance, card.held, shop.balance, clearing.balance)
	case calling > 1, calling == 0 && p.calling != "" && len(h.s.money.letGo) == 0:
		h.t.Fatalf("%d requests call, the payment says %q", calling, p.calling)
	case shop.balance != p.captured-p.refunded-p.inFlight:
		h.t.Fatalf("%+v: shop %d", *p, shop.balance)
	}
}

// answer has the processor answer the open call: it carries it out if it can, or does not want to.
func (h *cardHistory) answer() {
	at := slices.IndexFunc(h.waiting, func(r *cardRequest) bool { return r.calls })
	if at < 0 {
		return
	}
	r := h.waiting[at]
	refuses := !h.answered && rapid.IntRange(0, 3).Draw(h.t, "refuses") == 0
	answer := processor.Answer{Result: processor.Declined, Code: "card_declined"}
	if !refuses {
		answer = h.carryOut(r)
	}
	detail, _ := json.Marshal(calls.Detail{Reference: answer.Reference, Amount: answer.Amount, Currency: "EUR"})
	r.job.Answer = &outbox.Answer{Result: outbox.Certainty(answer.Result), Code: answer.Code, Detail: detail}
	r.calls = false
	h.settle(r)
	r.job.Answer = nil
	h.lane()
}

func (h *cardHistory) carryOut(r *cardRequest) processor.Answer {
	c, p := &h.charge, h.s.money.payments["p"]
	op := processor.Operation{Reference: "ch", Key: r.job.Key}
	switch args := r.args.(type) {
	case *Authorize:
		op.Kind = processor.Authorize
		*c = processor.Record{Reference: "ch", Key: op.Key, Amount: args.Amount, Status: processor.StatusAuthorized}
	case *Capture:
		op.Kind = processor.Capture
		if c.Status == processor.StatusAuthorized {
			c.Status, c.Captured = processor.StatusCaptured, cmp.Or(args.Amount, p.amount)
		}
	case *Void:
		op.Kind = processor.Void
		if c.Status == processor.StatusAuthorized {
			c.Status = processor.StatusVoided
		}
	case *Refund:
		op.Kind = processor.Refund
		if c.Captured-c.Refunded() >= p.inFlight {
			c.Refunds = append(c.Refunds, processor.RefundRecord{Key: op.Key, Amount: p.inFlight, Result: processor.Done})
		}
	case *expire:
		op.Kind = processor.Return
		if c.Status == processor.StatusAuthorized {
			c.Status = processor.StatusVoided
		} else if left := c.Captured - c.Refunded(); left > 0 {
			c.Refunds = append(c.Refunds, processor.RefundRecord{Amount: left, Result: processor.Done})
		}
	}
	return c.Answer(op)
}

// Whatever is asked for, answered, refused and done by hand, in whatever order and at whatever time: what is held and
// what is on the clearing account follow from the payment, one request calls at a time, and at the end the processor
// and the books agree.
func TestCardHistories(t *testing.T) {
	t.Parallel()
	ended := make(map[string]bool)
	rapid.Check(t, func(t *rapid.T) {
		h, n := newCardHistory(t), 0
		amount := rapid.Int64Range(0, 120)
		asks := func(args func() operation) func(*rapid.T) {
			return func(*rapid.T) { n++; h.ask(fmt.Sprint("r", n), args()); h.lane() }
		}
		t.Repeat(map[string]func(*rapid.T){
			"capture": asks(func() operation { return &Capture{Payment: "p", Amount: amount.Draw(t, "amount")} }),
			"void":    asks(func() operation { return &Void{Payment: "p"} }),
			"refund":  asks(func() operation { return &Refund{Payment: "p", Amount: amount.Draw(t, "amount")} }),
			"answer":  func(*rapid.T) { h.answer() },
			"time": func(t *rapid.T) {
				h.s.now = h.s.now.Add(time.Duration(rapid.IntRange(1, 90).Draw(t, "minutes")) * time.Minute)
				h.s.advance(h.s.now)
				h.lane()
				h.again()
			},
			"by hand": func(t *rapid.T) {
				if h.charge.Status == processor.StatusAuthorized && rapid.IntRange(0, 3).Draw(t, "does") == 0 {
					h.byHand = true
					h.charge.Status = processor.StatusVoided
					if rapid.Bool().Draw(t, "captures") {
						h.charge.Status, h.charge.Captured = processor.StatusCaptured, 70
					}
				}
			},
		})
		h.end()
		ended[h.s.money.payments["p"].status] = true
	})
	for _, status := range []string{paymentDeclined, paymentCaptured, paymentVoided, paymentExpired} {
		if !ended[status] {
			t.Errorf("no history ends %s", status)
		}
	}
}

// again has the requests that wait come again.
func (h *cardHistory) again() {
	for _, r := range slices.Clone(h.waiting) {
		if !r.calls {
			r.job.At = h.s.now
			h.settle(r)
		}
	}
	h.lane()
}

// end lets everything come to its end, the time of the authorization included, and compares both sides.
func (h *cardHistory) end() {
	h.answered = true
	for range 3 + 2*len(h.waiting) {
		h.answer()
		h.again()
	}
	h.s.now = h.s.now.Add(2 * time.Hour)
	h.s.advance(h.s.now)
	h.lane()
	for range 3 {
		h.answer()
		h.again()
	}
	p, c := h.s.money.payments["p"], h.charge
	if len(h.waiting) > 0 || p.calling != "" {
		h.t.Fatalf("%d requests are not settled: %+v, %v", len(h.waiting), *p, h.settled)
	}
	left := c.Captured - c.Refunded()
	if c.Status == processor.StatusAuthorized {
		left += c.Amount
	}
	if books := p.captured - p.refunded; left != books {
		h.t.Fatalf("the processor has %d (%+v), the books have %d (%+v): %v", left, c, books, *p, h.settled)
	}
	if !h.byHand && (c.Captured != p.captured || c.Refunded() != p.refunded) {
		h.t.Fatalf("the processor: %+v, the books: %+v: %v", c, *p, h.settled)
	}
}
