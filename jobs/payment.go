package jobs

import (
	"cmp"
	"errors"
	"fmt"
	"time"

	"github.com/tidwall/gjson"

	"github.com/lastseat/lastseat/outbox"
)

// The kinds of a payment's life.
const (
	KindAuthorize = "payment.authorize"
	KindCapture   = "payment.capture"
	KindVoid      = "payment.void"
	KindRefund    = "payment.refund"
)

// Authorize makes a payment, and reserves its amount on the giving account until it is captured, voided or expired. By
// card the processor reserves it on the card, too, and is asked for what follows.
//
// It is applied (authorized), or rejected, and the payment declined: account_not_found, currency_mismatch,
// insufficient_funds, out_of_range, declined (by the processor), or authorization_expired if ExpiresAt was past when it
// was asked for.
type Authorize struct {
	Payment  string `json:"payment"` // its id
	From     string `json:"from"`
	To       string `json:"to"`
	Amount   int64  `json:"amount"`   // minor units, at least 1
	Currency string `json:"currency"` // ISO 4217
	// ExpiresAt is when the worker releases the amount; zero: 7 days after it was asked for. It is no part of what makes
	// two requests the same: a retry may send a different one, and the first one is kept.
	ExpiresAt time.Time `json:"expires_at,omitzero"`
	// By card: the processor's name (see [Processor]), and its token of a card. From stands for the processor's account
	// with us, as in a [Charge]. Neither, if it is not by card.
	Processor string `json:"processor,omitempty"`
	Method    string `json:"method,omitempty"`
}

// Capture moves the money of an authorized payment, once: Amount, or the whole if it is 0. The rest is released.
//
// It is applied (captured), or rejected: payment_not_found, not_authorized (declined, or not yet), already_captured,
// already_voided, authorization_expired, amount_exceeds_authorized, out_of_range, declined (by the processor; the
// payment stays authorized).
type Capture struct {
	Payment string `json:"payment"`
	Amount  int64  `json:"amount,omitempty"` // minor units
}

// Void gives up an authorized payment and releases its amount.
//
// It is applied (voided), or rejected: payment_not_found, not_authorized, already_captured, already_voided,
// authorization_expired, declined (by the processor; the payment stays authorized).
type Void struct {
	Payment string `json:"payment"`
}

// Refund pays back a captured payment: Amount, or what is left of it if that is 0. There may be several, up to what was
// captured.
//
// It is applied (refunded), or rejected: payment_not_found, not_authorized, already_voided, authorization_expired,
// amount_exceeds_captured (also while nothing is captured), insufficient_funds of the account that was paid,
// out_of_range, declined (by the processor).
//
// With a Reference it gives back a charge that the books don't have, because the processor has made it after the
// payment was given up here: see [TakeLate]. It is applied (returned), or rejected: not_late if the payment stands with
// this charge, payment_not_found, declined.
type Refund struct {
	Payment   string `json:"payment"`
	Amount    int64  `json:"amount,omitempty"`    // minor units
	Reference string `json:"reference,omitempty"` // the processor's id of the late charge; no Amount then
}

// Kind implements [outbox.Args].
func (Authorize) Kind() string { return KindAuthorize }

// Kind implements [outbox.Args].
func (Capture) Kind() string { return KindCapture }

// Kind implements [outbox.Args].
func (Void) Kind() string { return KindVoid }

// Kind implements [outbox.Args].
func (Refund) Kind() string { return KindRefund }

// authorizationLasts is how long an authorization lasts if the request gives no time.
const authorizationLasts = 7 * 24 * time.Hour

func decodeAuthorize(args []byte) (operation, error) {
	var a Authorize
	var t Transfer // the money obeys the rules of a transfer
	err := eachArg(args, func(name string, value gjson.Result) (bool, error) {
		switch name {
		case "payment":
			return true, idArg(name, value, &a.Payment)
		case "from", "to", "amount", "currency":
			return t.set(name, value)
		case "expires_at":
			return true, timeArg(name, value, &a.ExpiresAt)
		case "processor":
			return true, formArg(name, value, processorName, &a.Processor)
		case "method":
			return true, formArg(name, value, cardToken, &a.Method)
		}
		return false, nil
	})
	if err == nil && a.Payment == "" {
		err = missing("payment")
	}
	if err == nil && (a.Processor == "") != (a.Method == "") {
		err = errors.New(`"processor" and "method" belong together`)
	}
	if err == nil {
		err = t.complete()
	}
	a.From, a.To, a.Amount, a.Currency = t.From, t.To, t.Amount, t.Currency
	return &a, err
}

func decodeCapture(args []byte) (operation, error) {
	var c Capture
	return &c, decodeOfPayment(args, &c.Payment, &c.Amount)
}

func decodeVoid(args []byte) (operation, error) {
	var v Void
	return &v, decodeOfPayment(args, &v.Payment, nil)
}

func decodeRefund(args []byte) (operation, error) {
	var r Refund
	err := decodeOfPayment(args, &r.Payment, &r.Amount, &r.Reference)
	if err == nil && r.Amount != 0 && r.Reference != "" {
		err = errors.New(`"amount" and "reference" are both given: a late charge is given back whole`)
	}
	return &r, err
}

// decodeOfPayment reads the id of a payment, and an amount and a charge's reference where there can be one.
func decodeOfPayment(args []byte, payment *string, amount *int64, reference ...*string) error {
	err := eachArg(args, func(name string, value gjson.Result) (bool, error) {
		switch {
		case name == "payment":
			return true, idArg(name, value, payment)
		case name == "amount" && amount != nil:
			return true, amountArg(name, value, amount)
		case name == "reference" && len(reference) > 0:
			return true, formArg(name, value, cardToken, reference[0])
		}
		return false, nil
	})
	if err == nil && *payment == "" {
		return missing("payment")
	}
	return err
}

func (a *Authorize) needs(s *state) {
	s.money.needPayment(a.Payment)
	s.money.ledger.needAccounts(a.From, a.To)
	if a.Processor != "" {
		s.money.ledger.needAccounts(clearingAccount(a.Processor, a.Currency))
	}
}

func (a *Authorize) touches(s *state, _ outbox.Job) []rowID {
	return append(s.money.touchesPayment(a.Payment), touchesAccounts(a.From, a.To)...)
}

func (a *Authorize) apply(s *state, job outbox.Job) (outbox.Result, error) {
	p, refused, err := s.money.asked(a.Payment, "authorize", job, a.newPayment)
	if p == nil {
		return refused, err
	}
	if p.calling != "" {
		return s.money.authorizeAsked(p, job)
	}
	if refused := s.money.refuseAuthorization(p, job.At); refused != nil {
		p.become(paymentDeclined)
		return *refused, nil
	}
	if p.processor != "" {
		if s.money.ledger.accounts[p.clearing()] == nil { // a job that was inserted directly
			p.become(paymentDeclined)
			return *reject(CodeAccountNotFound, map[string]any{"account": p.clearing()}), nil
		}
		s.money.ledger.reserve(p.from, p.amount)
		p.asks(job)
		return s.money.authorizeAsked(p, job)
	}
	s.money.authorize(p)
	return applied(CodeAuthorized, nil)
}

// asked is the pending payment that a job is to authorize or charge; a job that was inserted directly makes it. Nil:
// this job can't settle it, and its result is returned.
func (m *money) asked(id, verb string, job outbox.Job, newPayment func(outbox.Job) *payment) (
	*payment, outbox.Result, error,
) {
	p := m.payments[id]
	switch {
	case p == nil:
		p = newPayment(job)
		m.payments[p.id] = p
	case p.key != job.Key:
		text := fmt.Sprintf("payment %q was asked for with the key %q", p.id, p.key)
		return nil, outbox.Reject(outbox.CodeInvalidArgs, map[string]string{"error": text}), nil
	case p.status != paymentPending:
		return nil, outbox.Result{}, fmt.Errorf(
			"payment %q is %s, and the request to %s it is not settled: run worker audit", p.id, p.status, verb)
	}
	return p, outbox.Result{}, nil
}

// newPayment makes the pending payment of a job that was inserted directly. The SQL functions make it for all others.
func (a *Authorize) newPayment(job outbox.Job) *payment {
	p := &payment{
		id: a.Payment, key: job.Key, from: a.From, to: a.To, amount: a.Amount, currency: a.Currency,
		processor: a.Processor, method: a.Method, expiresAt: a.ExpiresAt, status: paymentPending, created: true,
	}
	if p.expiresAt.IsZero() {
		p.expiresAt = job.At.Add(authorizationLasts)
	}
	return p
}

func (c *Capture) needs(s *state) { s.money.needPayment(c.Payment) }

func (c *Capture) touches(s *state, _ outbox.Job) []rowID { return s.money.touchesPayment(c.Payment) }

func (c *Capture) apply(s *state, job outbox.Job) (outbox.Result, error) {
	if p := s.money.payments[c.Payment]; p != nil && p.calling != "" {
		return s.captureAsked(p, cmp.Or(c.Amount, p.amount), job)
	}
	p, refused, err := s.money.authorized(c.Payment, job.At)
	if refused != nil || err != nil {
		return resultOf(refused), err
	}
	amount := c.Amount
	if amount == 0 {
		amount = p.amount
	}
	if amount > p.amount {
		return outbox.Reject(CodeAmountExceedsAuthorized,
			map[string]any{"payment": p.id, "asked": amount, "authorized": p.amount}), nil
	}
	if refused := s.money.ledger.refuseCredit(p.to, amount); refused != nil {
		return *refused, nil
	}
	if p.processor != "" {
		p.asks(job)
		return s.captureAsked(p, amount, job)
	}
	if err := s.money.ledger.release(p.from, p.amount); err != nil {
		return outbox.Result{}, err
	}
	s.money.ledger.post(&transfer{
		key: job.Key, from: p.from, to: p.to, amount: amount, currency: p.currency, payment: p.id,
	})
	p.become(paymentCaptured)
	p.captured = amount
	return applied(CodeCaptured, map[string]any{"captured": amount, "released": p.amount - amount})
}

func (v *Void) needs(s *state) { s.money.needPayment(v.Payment) }

func (v *Void) touches(s *state, _ outbox.Job) []rowID { return s.money.touchesPayment(v.Payment) }

func (v *Void) apply(s *state, job outbox.Job) (outbox.Result, error) {
	if p := s.money.payments[v.Payment]; p != nil && p.calling != "" {
		return s.voidAsked(p, job)
	}
	p, refused, err := s.money.authorized(v.Payment, job.At)
	if refused != nil || err != nil {
		return resultOf(refused), err
	}
	if p.processor != "" {
		p.asks(job)
		return s.voidAsked(p, job)
	}
	if err := s.money.ledger.release(p.from, p.amount); err != nil {
		return outbox.Result{}, err
	}
	p.become(paymentVoided)
	return applied(CodeVoided, map[string]any{"released": p.amount})
}

func (r *Refund) needs(s *state) { s.money.needPayment(r.Payment) }

func (r *Refund) touches(s *state, _ outbox.Job) []rowID { return s.money.touchesPayment(r.Payment) }

func (r *Refund) apply(s *state, job outbox.Job) (outbox.Result, error) {
	if r.Reference != "" {
		return s.giveBack(r, job)
	}
	if p := s.money.payments[r.Payment]; p != nil && p.calling != "" {
		return s.refundAsked(p, job)
	}
	p, refused, err := s.money.authorized(r.Payment, job.At)
	if err != nil || p == nil || p.calling != "" || p.status != paymentAuthorized && p.status != paymentCaptured {
		return resultOf(refused), err // calling: it has just run out
	}
	left := p.captured - p.refunded
	amount := r.Amount
	if amount == 0 {
		amount = left
	}
	if amount > left || left == 0 {
		return outbox.Reject(CodeAmountExceedsCaptured,
			map[string]any{"payment": p.id, "asked": amount, "captured": p.captured, "refunded": p.refunded}), nil
	}
	if refused := s.money.ledger.refuseTransfer(p.to, p.from, amount, p.currency); refused != nil {
		return *refused, nil
	}
	if p.processor != "" {
		if refused := s.money.ledger.refuseCredit(p.clearing(), amount); refused != nil {
			return *refused, nil
		}
		s.money.depart(p, job.Key, p.to, amount)
		return s.refundAsked(p, job)
	}
	s.money.ledger.post(&transfer{
		key: job.Key, from: p.to, to: p.from, amount: amount, currency: p.currency, payment: p.id,
	})
	p.become(paymentCaptured)
	p.refunded += amount
	return applied(CodeRefunded, map[string]any{"refunded": amount, "left": left - amount})
}
