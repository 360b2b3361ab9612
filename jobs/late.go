package jobs

import (
	"context"
	"errors"
	"fmt"

	"github.com/jackc/pgx/v5"

	"github.com/lastseat/lastseat/outbox"
	"github.com/lastseat/lastseat/processor"
	"github.com/lastseat/lastseat/processor/calls"
)

// TakeLate is a Take for a [processor.Receiver], or what yours calls first. It asks for money to be given back that the
// processor has taken or reserved for a payment that was given up here: the answer to a charge never came, a look found
// nothing, the payment was declined, and then the charge was carried out after all. It asks with a [Refund] under the
// key late:EVENT, and its lane decides: a payment whose processor is being asked right now is not given up.
//
// An event that tells of a failure changes nothing, whenever it comes.
func TakeLate(ctx context.Context, tx pgx.Tx, event processor.Event) error {
	charge := event.Record
	if charge == nil || charge.Payment == "" || charge.Answer(processor.Operation{
		Kind: processor.Return, Reference: charge.Reference,
	}).Code != processor.CodeNotDone {
		return nil // nothing of it is left with us
	}
	var stands bool
	err := tx.QueryRow(ctx, standsSQL, charge.Payment, charge.Reference).Scan(&stands)
	switch {
	case errors.Is(err, pgx.ErrNoRows) || err == nil && stands:
		return nil // another's payment, or it is in the books
	case err != nil:
		return fmt.Errorf("look for the payment of a charge: %w", err)
	}
	_, err = outbox.Enqueue(ctx, tx, "late:"+event.ID, Refund{Payment: charge.Payment, Reference: charge.Reference})
	return err
}

const standsSQL = `
	SELECT status IN ('authorized', 'captured') AND coalesce(reference = $2, false)
	FROM lastseat.payment($1) WHERE processor IS NOT NULL`

// giveBack asks the processor to give back a charge that the books don't have.
func (s *state) giveBack(r *Refund, job outbox.Job) (outbox.Result, error) {
	p := s.money.payments[r.Payment]
	switch {
	case p == nil:
		return *reject(CodePaymentNotFound, map[string]any{"payment": r.Payment}), nil
	case p.calling != "" && p.calling != job.Key:
		return outbox.Later(p.comesAgain(s.now)), nil // what is asked for may be this charge
	case p.calling != "" && job.Answer != nil:
		return givenBack(p, job)
	case p.calling == "" && p.stands(r.Reference):
		return outbox.Reject(CodeNotLate, map[string]any{
			"payment": p.id, "status": p.status, "reference": p.reference,
		}), nil
	case p.calling == "":
		p.become(p.status)
		p.calling = job.Key
	}
	return call(p, job, processor.Operation{
		Kind: processor.Return, Payment: p.id, Reference: r.Reference, Currency: p.currency,
	})
}

// stands tells whether a charge is the payment's, and in the books, or may come into them.
func (p *payment) stands(reference string) bool {
	switch {
	case p.processor == "" || p.status == paymentPending:
		return true
	case p.status == paymentAuthorized || p.status == paymentCaptured:
		return p.reference == reference
	}
	return false
}

// givenBack settles it by the processor's answer. The books had nothing of the charge, and have nothing of its end.
func givenBack(p *payment, job outbox.Job) (outbox.Result, error) {
	answer, err := calls.DetailOf(*job.Answer)
	if err != nil {
		return outbox.Result{}, err
	}
	p.become(p.status)
	p.calling = ""
	if job.Answer.Result != outbox.Done {
		return declined(job, answer), nil
	}
	return applied(CodeReturned, map[string]any{
		"returned": answer.Amount, "processor": p.processor, "reference": answer.Reference,
	})
}
