package jobs

import (
	"errors"
	"fmt"
	"regexp"
	"time"

	"github.com/tidwall/gjson"

	"github.com/lastseat/lastseat/outbox"
	"github.com/lastseat/lastseat/processor"
	"github.com/lastseat/lastseat/processor/calls"
)

// KindCharge is the kind of a [Charge].
const KindCharge = "payment.charge"

// Charge makes a payment by card: a processor takes the amount, and From pays it to To here. From stands for the
// processor's account with us; what it owes us is how far it is below zero. While the processor is asked, the amount
// is on the clearing account.
//
// It is applied (charged), or rejected, and the payment declined: declined (by the processor; the detail has its
// reason), account_not_found, currency_mismatch, insufficient_funds, out_of_range.
type Charge struct {
	Payment   string `json:"payment"` // its id
	From      string `json:"from"`
	To        string `json:"to"`
	Amount    int64  `json:"amount"`    // minor units, at least 1
	Currency  string `json:"currency"`  // ISO 4217
	Processor string `json:"processor"` // its name: see [Processor]
	Method    string `json:"method"`    // the processor's token of a card
}

// Kind implements [outbox.Args].
func (Charge) Kind() string { return KindCharge }

var (
	processorName = regexp.MustCompile(`^[a-z][a-z0-9_]{0,39}$`)
	cardToken     = regexp.MustCompile(`^[!-~]{1,200}$`)
)

func decodeCharge(args []byte) (operation, error) {
	var c Charge
	var t Transfer // the money obeys the rules of a transfer
	err := eachArg(args, func(name string, value gjson.Result) (bool, error) {
		switch name {
		case "payment":
			return true, idArg(name, value, &c.Payment)
		case "from", "to", "amount", "currency":
			return t.set(name, value)
		case "processor":
			return true, formArg(name, value, processorName, &c.Processor)
		case "method":
			return true, formArg(name, value, cardToken, &c.Method)
		}
		return false, nil
	})
	switch {
	case err != nil:
	case c.Payment == "":
		err = missing("payment")
	case c.Processor == "":
		err = missing("processor")
	case c.Method == "":
		err = missing("method")
	default:
		err = t.complete()
	}
	c.From, c.To, c.Amount, c.Currency = t.From, t.To, t.Amount, t.Currency
	return &c, err
}

// formArg reads an argument that is text of a certain form.
func formArg(name string, value gjson.Result, form *regexp.Regexp, into *string) error {
	if value.Type != gjson.String || !form.MatchString(value.Str) {
		return fmt.Errorf("%q is %.50s: it matches %v", name, value.Raw, form)
	}
	*into = value.Str
	return nil
}

// ownAccounts begins the ids of accounts that no request may name.
const ownAccounts = "lastseat:"

// clearingAccount is where money stands while a processor is asked to move it.
func clearingAccount(processor, currency string) string {
	return ownAccounts + "clearing:" + processor + ":" + currency
}

func (c *Charge) needs(s *state) {
	s.money.needPayment(c.Payment)
	s.money.ledger.needAccounts(c.From, c.To, clearingAccount(c.Processor, c.Currency))
}

func (c *Charge) touches(s *state, _ outbox.Job) []rowID {
	return append(s.money.touchesPayment(c.Payment),
		touchesAccounts(c.From, c.To, clearingAccount(c.Processor, c.Currency))...)
}

func (c *Charge) apply(s *state, job outbox.Job) (outbox.Result, error) {
	p, refused, err := s.money.asked(c.Payment, "charge", job, c.newPayment)
	if p == nil {
		return refused, err
	}
	if job.Answer != nil {
		return s.money.charged(p, job)
	}
	if p.calling == "" {
		refused := s.money.ledger.refuseDebit(p.from, p.to, p.amount, p.currency)
		if refused == nil {
			refused = s.money.ledger.refuseTransfer(p.from, p.clearing(), p.amount, p.currency)
		}
		if refused != nil {
			p.become(paymentDeclined)
			return *refused, nil
		}
		s.money.depart(p, job.Key, p.from, p.amount)
	}
	return call(p, job, processor.Operation{
		Kind: processor.Charge, Payment: p.id, Method: p.method, Amount: p.amount, Currency: p.currency,
	})
}

// newPayment makes the pending payment of a job that was inserted directly.
func (c *Charge) newPayment(job outbox.Job) *payment {
	return &payment{
		id: c.Payment, key: job.Key, from: c.From, to: c.To, amount: c.Amount, currency: c.Currency,
		processor: c.Processor, method: c.Method, expiresAt: job.At.Add(authorizationLasts), status: paymentPending,
		created: true,
	}
}

// charged settles a charge by the processor's answer.
func (m *money) charged(p *payment, job outbox.Job) (outbox.Result, error) {
	answer, err := m.answerTo(p, job)
	if err != nil {
		return outbox.Result{}, err
	}
	if job.Answer.Result != outbox.Done {
		m.arrive(p, p.from)
		p.become(paymentDeclined)
		return declined(job, answer), nil
	}
	if refused := m.ledger.refuseCredit(p.to, p.amount); refused != nil {
		return outbox.Result{}, fmt.Errorf("account %q can't get what was charged for it: %s", p.to, refused.Code)
	}
	m.arrive(p, p.to)
	p.become(paymentAuthorized) // the table proves every step
	p.wasAuthorized = true
	p.become(paymentCaptured)
	p.captured, p.reference = p.amount, answer.Reference
	return applied(CodeCharged, map[string]any{
		"charged": p.amount, "processor": p.processor, "reference": answer.Reference,
	})
}

// refundAsked goes on with the refund of a payment whose processor is being asked for something. Another request's call
// has to end first: one operation at a time for a payment.
func (s *state) refundAsked(p *payment, job outbox.Job) (outbox.Result, error) {
	switch {
	case p.calling != job.Key:
		return outbox.Later(p.comesAgain(s.now)), nil
	case job.Answer != nil:
		return s.money.refunded(p, job)
	}
	return call(p, job, processor.Operation{
		Kind: processor.Refund, Payment: p.id, Reference: p.reference, Amount: p.inFlight, Currency: p.currency,
	})
}

// longestLater is how long a request waits at a time for the call of another one.
const longestLater = 512 * time.Second

// comesAgain is after how long a request that waits for the payment's call comes again: an eighth of the time that the
// call has taken so far. A call may be open for days, and thousands of requests may wait for it. All of them come at
// the same times, multiples of a power of two of seconds, so they stay in the order in which they were asked for.
func (p *payment) comesAgain(now time.Time) time.Duration {
	step := time.Second
	for !p.updatedAt.IsZero() && step < longestLater && 16*step <= now.Sub(p.updatedAt) {
		step *= 2
	}
	return now.Truncate(step).Add(step).Sub(now)
}

// refunded settles the refund of a charge by the processor's answer.
func (m *money) refunded(p *payment, job outbox.Job) (outbox.Result, error) {
	answer, err := m.answerTo(p, job)
	if err != nil {
		return outbox.Result{}, err
	}
	amount := p.inFlight
	if job.Answer.Result != outbox.Done {
		m.arrive(p, p.to)
		p.become(paymentCaptured)
		return declined(job, answer), nil
	}
	m.arrive(p, p.from)
	p.become(paymentCaptured)
	p.refunded += amount
	return applied(CodeRefunded, map[string]any{
		"refunded": amount, "left": p.captured - p.refunded, "processor": p.processor, "reference": answer.Reference,
	})
}

// declined is the outcome of what a processor has refused.
func declined(job outbox.Job, answer calls.Detail) outbox.Result {
	return outbox.Reject(CodeDeclined, map[string]any{"reason": job.Answer.Code, "message": answer.Message})
}

// depart puts an amount of a payment on the clearing account, for as long as the processor is asked. Nothing has
// refused it.
func (m *money) depart(p *payment, key, from string, amount int64) {
	m.ledger.post(&transfer{
		key: key, leg: 1, from: from, to: p.clearing(), amount: amount, currency: p.currency, payment: p.id,
	})
	p.become(p.status)
	p.calling, p.inFlight = key, amount
}

// arrive takes it from there.
func (m *money) arrive(p *payment, to string) {
	m.ledger.post(&transfer{
		key: p.calling, leg: 2, from: p.clearing(), to: to, amount: p.inFlight, currency: p.currency, payment: p.id,
	})
	p.calling, p.inFlight = "", 0
}

// answerTo reads the answer to the call of a payment. The error says that the rows, or the processor, contradict what
// was asked: then nothing is settled, and the money stays on the clearing account for people to see.
func (m *money) answerTo(p *payment, job outbox.Job) (calls.Detail, error) {
	if p.calling != job.Key {
		return calls.Detail{}, fmt.Errorf("payment %q calls for %q, not for this: run worker audit", p.id, p.calling)
	}
	if clearing := m.ledger.accounts[p.clearing()]; clearing == nil || clearing.balance < p.inFlight {
		return calls.Detail{}, fmt.Errorf("account %q lacks what is under way: run worker audit", p.clearing())
	}
	answer, err := calls.DetailOf(*job.Answer)
	if err == nil && job.Answer.Result == outbox.Done && answer.Amount != 0 &&
		(answer.Amount != p.inFlight || answer.Currency != p.currency) {
		err = fmt.Errorf("the processor has moved %d %s, and was asked for %d %s",
			answer.Amount, answer.Currency, p.inFlight, p.currency)
	}
	return answer, err
}

// answerAbout reads the answer to a call of a payment that has no money under way.
func (m *money) answerAbout(p *payment, job outbox.Job, asked int64) (calls.Detail, error) {
	if p.calling != job.Key {
		return calls.Detail{}, fmt.Errorf("payment %q calls for %q, not for this: run worker audit", p.id, p.calling)
	}
	answer, err := calls.DetailOf(*job.Answer)
	if err == nil && job.Answer.Result == outbox.Done && answer.Amount != 0 &&
		(answer.Amount != asked || answer.Currency != p.currency) {
		err = fmt.Errorf("the processor has authorized %d %s, and was asked for %d %s",
			answer.Amount, answer.Currency, asked, p.currency)
	}
	return answer, err
}

// errNoProcessor is of a payment that has none.
var errNoProcessor = errors.New("the payment has no processor")
