package jobs

import (
	"fmt"
	"time"

	"github.com/lastseat/lastseat/outbox"
	"github.com/lastseat/lastseat/processor"
	"github.com/lastseat/lastseat/processor/calls"
)

// Authorizations by card. What is authorized stands in held of the giving account, from the moment at which the
// processor is asked until it has said that it was captured or let go of: nobody spends it meanwhile. So these
// operations have nothing on the clearing account while they are under way; a capture passes by it when it is recorded.

// asks notes that the processor is asked for a request of the payment, without money under way.
func (p *payment) asks(job outbox.Job) {
	p.become(p.status)
	p.calling = job.Key
}

// heard notes that it has answered.
func (p *payment) heard(status string) {
	p.become(status)
	p.calling = ""
}

// authorizeAsked goes on with an authorization by card.
func (m *money) authorizeAsked(p *payment, job outbox.Job) (outbox.Result, error) {
	if job.Answer == nil {
		return call(p, job, processor.Operation{
			Kind: processor.Authorize, Payment: p.id, Method: p.method, Amount: p.amount, Currency: p.currency,
		})
	}
	answer, err := m.answerAbout(p, job, p.amount)
	if err != nil {
		return outbox.Result{}, err
	}
	if job.Answer.Result != outbox.Done {
		if err := m.ledger.release(p.from, p.amount); err != nil {
			return outbox.Result{}, err
		}
		p.heard(paymentDeclined)
		return declined(job, answer), nil
	}
	p.heard(paymentAuthorized)
	p.wasAuthorized, p.reference = true, answer.Reference
	m.watch(p) // it may have run out meanwhile
	return applied(CodeAuthorized, map[string]any{"processor": p.processor, "reference": p.reference})
}

// captureAsked goes on with a capture by card. What is captured is what the processor has captured: somebody may have
// done that by hand, of another amount.
func (s *state) captureAsked(p *payment, amount int64, job outbox.Job) (outbox.Result, error) {
	switch {
	case p.calling != job.Key:
		return outbox.Later(p.comesAgain(s.now)), nil
	case job.Answer == nil:
		return call(p, job, processor.Operation{
			Kind: processor.Capture, Payment: p.id, Reference: p.reference, Amount: amount, Currency: p.currency,
		})
	}
	m := &s.money
	answer, err := calls.DetailOf(*job.Answer)
	switch {
	case err != nil:
		return outbox.Result{}, err
	case job.Answer.Result != outbox.Done:
		p.heard(paymentAuthorized)
		m.watch(p) // it may have run out meanwhile
		return declined(job, answer), nil
	case answer.Amount != 0:
		amount = answer.Amount
	}
	if amount > p.amount || answer.Amount != 0 && answer.Currency != p.currency ||
		m.ledger.refuseCredit(p.to, amount) != nil || m.ledger.refuseCredit(p.clearing(), amount) != nil {
		return outbox.Result{}, fmt.Errorf("the processor has captured %d %s of payment %q, which can't be booked",
			amount, answer.Currency, p.id)
	}
	if err := m.ledger.release(p.from, p.amount); err != nil {
		return outbox.Result{}, err
	}
	m.depart(p, job.Key, p.from, amount)
	m.arrive(p, p.to)
	p.heard(paymentCaptured)
	p.captured = amount
	return applied(CodeCaptured, map[string]any{
		"captured": amount, "released": p.amount - amount, "processor": p.processor, "reference": p.reference,
	})
}

// voidAsked goes on with a void by card.
func (s *state) voidAsked(p *payment, job outbox.Job) (outbox.Result, error) {
	switch {
	case p.calling != job.Key:
		return outbox.Later(p.comesAgain(s.now)), nil
	case job.Answer == nil:
		return call(p, job, processor.Operation{
			Kind: processor.Void, Payment: p.id, Reference: p.reference, Currency: p.currency,
		})
	}
	answer, err := calls.DetailOf(*job.Answer)
	if err != nil {
		return outbox.Result{}, err
	}
	if job.Answer.Result != outbox.Done {
		p.heard(paymentAuthorized)
		s.money.watch(p)
		return declined(job, answer), nil
	}
	if err := s.money.ledger.release(p.from, p.amount); err != nil {
		return outbox.Result{}, err
	}
	p.heard(paymentVoided)
	return applied(CodeVoided, map[string]any{"released": p.amount, "processor": p.processor})
}

// expire is the worker's own request for an authorization by card that has run out: the processor lets go of it first,
// and then its money is released here. Nobody else can ask for it; lastseat.expire_by_card makes it.
type expire struct {
	Payment string `json:"payment"`
}

// kindExpire is the kind of an expire, and of the record of an authorization that is not by card.
const kindExpire = "payment.expire"

func decodeExpire(args []byte) (operation, error) {
	var e expire
	return &e, decodeOfPayment(args, &e.Payment, nil)
}

func (e *expire) needs(s *state) { s.money.needPayment(e.Payment) }

func (e *expire) touches(s *state, _ outbox.Job) []rowID { return s.money.touchesPayment(e.Payment) }

// returnedAgain is after how long a processor that has refused to let go of an expired authorization is asked again.
const returnedAgain = 10 * time.Minute

// apply settles it. It asks for the processor's [processor.Return]: what somebody has captured there by hand is given
// back, since a payment that has expired here keeps no money there. If the processor refuses, the money stays reserved
// here, and it is asked again later; a Return looks first, so a new key does no harm.
func (e *expire) apply(s *state, job outbox.Job) (outbox.Result, error) {
	p := s.money.payments[e.Payment]
	if p == nil || p.calling != job.Key || job.Key != expiryKey(e.Payment) {
		return outbox.Reject(outbox.CodeInvalidArgs, map[string]string{
			"error": "nobody can ask for this: the worker does when it is time",
		}), nil
	}
	if job.Answer != nil && job.Answer.Result == outbox.Done {
		if err := s.money.ledger.release(p.from, p.amount); err != nil {
			return outbox.Result{}, err
		}
		p.heard(paymentExpired)
		return applied(CodeExpired, nil)
	}
	if job.Answer != nil {
		wait := p.updatedAt.Add(returnedAgain).Sub(s.now)
		if wait > 0 && job.Answer.Code != outbox.CodeNotDone { // which nobody has refused: it was never carried out
			return outbox.Later(wait), nil
		}
		p.asks(job)
	}
	return call(p, job, processor.Operation{
		Kind: processor.Return, Payment: p.id, Reference: p.reference, Currency: p.currency,
	})
}

// expiryKey is the key of the request that expires a payment.
func expiryKey(payment string) string { return ownAccounts + kindExpire + ":" + payment }
