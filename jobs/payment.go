package jobs

import (
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

// Authorize makes a payment, and holds its amount on the giving account until it is captured, voided or expired.
//
// It is applied (authorized), or rejected, and the payment declined: account_not_found, currency_mismatch,
// insufficient_funds, out_of_range, or authorization_expired if ExpiresAt was past when it was asked for.
type Authorize struct {
	Payment  string `json:"payment"` // its id
	From     string `json:"from"`
	To       string `json:"to"`
	Amount   int64  `json:"amount"`   // minor units, at least 1
	Currency string `json:"currency"` // ISO 4217
	// ExpiresAt is when the hold ends by itself; zero: 7 days after it was asked for. It is no part of what makes two requests
	// the same: who asks again may reckon it anew, and the first one stays.
	ExpiresAt time.Time `json:"expires_at,omitzero"`
}

// Capture moves the money of an authorized payment, once: Amount, or the whole if it is 0. The rest of the hold is released.
//
// It is applied (captured), or rejected: payment_not_found, not_authorized (declined, or not yet), already_captured,
// already_voided, authorization_expired, amount_exceeds_authorized, out_of_range.
type Capture struct {
	Payment string `json:"payment"`
	Amount  int64  `json:"amount,omitempty"` // minor units
}

// Void gives an authorized payment up and releases its hold.
//
// It is applied (voided), or rejected: payment_not_found, not_authorized, already_captured, already_voided,
// authorization_expired.
type Void struct {
	Payment string `json:"payment"`
}

// Refund pays a captured payment back: Amount, or what is left of it if that is 0. There may be several, up to what was captured.
//
// It is applied (refunded), or rejected: payment_not_found, not_authorized, already_voided, authorization_expired,
// amount_exceeds_captured (nothing is captured yet, included), insufficient_funds of the account that was paid, out_of_range.
type Refund struct {
	Payment string `json:"payment"`
	Amount  int64  `json:"amount,omitempty"` // minor units
}

// Kind implements [outbox.Args].
func (Authorize) Kind() string { return KindAuthorize }

// Kind implements [outbox.Args].
func (Capture) Kind() string { return KindCapture }

// Kind implements [outbox.Args].
func (Void) Kind() string { return KindVoid }

// Kind implements [outbox.Args].
func (Refund) Kind() string { return KindRefund }

// authorizationLasts where no other time is asked for.
const authorizationLasts = 7 * 24 * time.Hour

func decodeAuthorize(args []byte) (operation, error) {
	var a Authorize
	var t Transfer // whose rules those of the money are
	err := eachArg(args, func(name string, value gjson.Result) (bool, error) {
		switch name {
		case "payment":
			return true, idArg(name, value, &a.Payment)
		case "from", "to", "amount", "currency":
			return t.set(name, value)
		case "expires_at":
			return true, timeArg(name, value, &a.ExpiresAt)
		}
		return false, nil
	})
	if err == nil && a.Payment == "" {
		err = missing("payment")
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
	return &r, decodeOfPayment(args, &r.Payment, &r.Amount)
}

// decodeOfPayment reads the id of a payment, and an amount where there can be one.
func decodeOfPayment(args []byte, payment *string, amount *int64) error {
	err := eachArg(args, func(name string, value gjson.Result) (bool, error) {
		switch {
		case name == "payment":
			return true, idArg(name, value, payment)
		case name == "amount" && amount != nil:
			return true, amountArg(name, value, amount)
		}
		return false, nil
	})
	if err == nil && *payment == "" {
		return missing("payment")
	}
	return err
}

// The statuses of a payment; see the state machine in schema/migrations/0003_payments.up.sql.
const (
	paymentPending    = "pending"
	paymentAuthorized = "authorized"
	paymentCaptured   = "captured"
	paymentDeclined   = "declined"
	paymentVoided     = "voided"
	paymentExpired    = "expired"
)

// payment is a row of payments. Amounts are minor units.
type payment struct {
	id, key, from, to          string
	amount, captured, refunded int64
	currency                   string
	status                     string
	expiresAt                  time.Time
	version                    int64

	created       bool // by this batch: it is not in the table yet
	wasAuthorized bool // by this batch: the table has it as pending still
	changed       bool
}

func (s *state) needPayment(id string) {
	if _, known := s.payments[id]; !known {
		s.payments[id] = nil
	}
}

// become takes the payment one step on.
func (p *payment) become(status string) {
	p.status = status
	p.version++
	p.changed = true
}

func (a *Authorize) needs(s *state) {
	s.needPayment(a.Payment)
	s.needAccounts(a.From, a.To)
}

func (a *Authorize) apply(s *state, job outbox.Job) (outbox.Result, error) {
	p := s.payments[a.Payment]
	switch {
	case p == nil:
		p = a.begin(job)
		s.payments[p.id] = p
	case p.key != job.Key:
		return outbox.Reject(outbox.CodeInvalidArgs, map[string]string{"error": fmt.Sprintf("payment %q was asked for with the key %q", p.id, p.key)}), nil
	case p.status != paymentPending:
		return outbox.Result{}, fmt.Errorf("payment %q is %s, and the request to authorize it is not settled: run worker audit", p.id, p.status)
	}
	if refused := a.refuse(s, p, job); refused != nil {
		p.become(paymentDeclined)
		return *refused, nil
	}
	s.hold(p.from, p.amount, s.now)
	p.become(paymentAuthorized)
	p.wasAuthorized = true
	s.watchPayment(p)
	return outbox.Result{Status: outbox.Applied, Code: CodeAuthorized}, nil
}

// begin makes the payment of a job that came past the SQL functions, which do the same.
func (a *Authorize) begin(job outbox.Job) *payment {
	p := &payment{id: a.Payment, key: job.Key, from: a.From, to: a.To, amount: a.Amount, currency: a.Currency, expiresAt: a.ExpiresAt, status: paymentPending, created: true}
	if p.expiresAt.IsZero() {
		p.expiresAt = job.At.Add(authorizationLasts)
	}
	return p
}

func (a *Authorize) refuse(s *state, p *payment, job outbox.Job) *outbox.Result {
	if p.ranOut(job.At) {
		return p.refuseExpired()
	}
	if refused := s.refuseDebit(p.from, p.to, p.amount, p.currency); refused != nil {
		return refused
	}
	return s.refuseHold(p.from, p.amount)
}

// ranOut tells whether the payment's time was over at a time.
func (p *payment) ranOut(at time.Time) bool { return !at.Before(p.expiresAt) }

// refuseExpired says when the payment's time was over.
func (p *payment) refuseExpired() *outbox.Result {
	return reject(CodeAuthorizationExpired, map[string]any{"payment": p.id, "expires_at": inUTC(p.expiresAt)})
}

// inUTC writes a time for the detail of an outcome, the same wherever the worker runs. As text, for a job of a raw client may
// have a time whose year JSON has no form for.
func inUTC(t time.Time) string { return t.UTC().Format(time.RFC3339Nano) }

// authorized returns the payment if it is authorized at the time of the request, or says why it is not. One that has run out
// by then, and that no sweep has found yet, expires here.
func (s *state) authorized(id string, job outbox.Job) (*payment, *outbox.Result, error) {
	p := s.payments[id]
	if p == nil {
		return nil, reject(CodePaymentNotFound, map[string]any{"payment": id}), nil
	}
	if p.status == paymentAuthorized && p.ranOut(job.At) {
		if err := s.expire(p); err != nil {
			return nil, nil, err
		}
	}
	switch p.status {
	case paymentAuthorized:
		return p, nil, nil
	case paymentCaptured:
		return p, reject(CodeAlreadyCaptured, map[string]any{"payment": id, "captured": p.captured}), nil
	case paymentVoided:
		return p, reject(CodeAlreadyVoided, map[string]any{"payment": id}), nil
	case paymentExpired:
		return p, p.refuseExpired(), nil
	default:
		return p, reject(CodeNotAuthorized, map[string]any{"payment": id, "status": p.status}), nil
	}
}

func (c *Capture) needs(s *state) { s.needPayment(c.Payment) }

func (c *Capture) apply(s *state, job outbox.Job) (outbox.Result, error) {
	p, refused, err := s.authorized(c.Payment, job)
	if refused != nil || err != nil {
		return resultOf(refused), err
	}
	amount := c.Amount
	if amount == 0 {
		amount = p.amount
	}
	if amount > p.amount {
		return outbox.Reject(CodeAmountExceedsAuthorized, map[string]any{"payment": p.id, "asked": amount, "authorized": p.amount}), nil
	}
	if refused := s.refuseCredit(p.to, amount); refused != nil {
		return *refused, nil
	}
	if err := s.release(p.from, p.amount, s.now); err != nil {
		return outbox.Result{}, err
	}
	s.move(&transfer{key: job.Key, from: p.from, to: p.to, amount: amount, currency: p.currency, payment: p.id}, s.now)
	p.become(paymentCaptured)
	p.captured = amount
	return outbox.Result{Status: outbox.Applied, Code: CodeCaptured, Detail: map[string]any{"captured": amount, "released": p.amount - amount}}, nil
}

func (v *Void) needs(s *state) { s.needPayment(v.Payment) }

func (v *Void) apply(s *state, job outbox.Job) (outbox.Result, error) {
	p, refused, err := s.authorized(v.Payment, job)
	if refused != nil || err != nil {
		return resultOf(refused), err
	}
	if err := s.release(p.from, p.amount, s.now); err != nil {
		return outbox.Result{}, err
	}
	p.become(paymentVoided)
	return outbox.Result{Status: outbox.Applied, Code: CodeVoided, Detail: map[string]any{"released": p.amount}}, nil
}

func (r *Refund) needs(s *state) { s.needPayment(r.Payment) }

func (r *Refund) apply(s *state, job outbox.Job) (outbox.Result, error) {
	p, refused, err := s.authorized(r.Payment, job)
	if err != nil || p == nil || p.status != paymentAuthorized && p.status != paymentCaptured {
		return resultOf(refused), err
	}
	left := p.captured - p.refunded
	amount := r.Amount
	if amount == 0 {
		amount = left
	}
	if amount > left || left == 0 {
		return outbox.Reject(CodeAmountExceedsCaptured, map[string]any{"payment": p.id, "asked": amount, "captured": p.captured, "refunded": p.refunded}), nil
	}
	if refused := s.refuse(p.to, p.from, amount, p.currency); refused != nil {
		return *refused, nil
	}
	s.move(&transfer{key: job.Key, from: p.to, to: p.from, amount: amount, currency: p.currency, payment: p.id}, s.now)
	p.become(paymentCaptured)
	p.refunded += amount
	return outbox.Result{Status: outbox.Applied, Code: CodeRefunded, Detail: map[string]any{"refunded": amount, "left": left - amount}}, nil
}

func resultOf(refused *outbox.Result) outbox.Result {
	if refused == nil {
		return outbox.Result{}
	}
	return *refused
}

// expire ends an authorization whose time is over.
func (s *state) expire(p *payment) error {
	if err := s.release(p.from, p.amount, s.now); err != nil {
		return err
	}
	p.become(paymentExpired)
	s.expired = append(s.expired, p.id)
	return nil
}
