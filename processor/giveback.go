package processor

import (
	"context"
	"errors"
	"strconv"
)

// The codes of a declined [Return] that are ours.
const (
	CodeNoCharge     = "no_such_charge"
	CodeOtherPayment = "charge_of_another_payment"
)

// giveBack makes one attempt at a [Return]. It looks first, and lets go of what is reserved or refunds what is left. So
// a second attempt, or another Return of the same charge, has nothing more to do; and the processor refunds no more
// than a charge has.
func giveBack(ctx context.Context, gateway Gateway, op Operation) (Answer, error) {
	if err := op.Check(); err != nil {
		return Answer{}, err
	}
	record, err := gateway.LookUp(ctx, Query{Reference: op.Reference})
	switch {
	case errors.Is(err, ErrNotFound):
		return Answer{Result: Declined, Code: CodeNoCharge, Reference: op.Reference}, nil
	case err != nil:
		return Answer{}, &NotSentError{Err: err}
	case record.Payment != op.Payment:
		return Answer{Result: Declined, Code: CodeOtherPayment, Reference: op.Reference}, nil
	}
	if known := record.Answer(op); known.Code != CodeNotDone {
		return known, nil
	}
	part := op
	part.Kind, part.Currency = Void, record.Currency
	if record.Status == StatusCaptured {
		part.Kind, part.Amount = Refund, record.Captured-record.Refunded()
		// a refund by hand in between changes what is left, and a key has one content
		part.Key = Key(op.Key, strconv.FormatInt(part.Amount, 10))
	}
	answer, err := Send(ctx, gateway, part)
	if err != nil || answer.Result == Unknown {
		return answer, err
	}
	return decideReturn(ctx, gateway, op, answer), nil
}

// decideReturn looks whether anything is left after a part of a [Return] was carried out or refused.
func decideReturn(ctx context.Context, gateway Gateway, op Operation, part Answer) Answer {
	answer := Answer{
		Result: Unknown, Code: CodePending, Message: part.Message, Reference: op.Reference, Request: part.Request,
	}
	record, err := gateway.LookUp(ctx, Query{Reference: op.Reference})
	if err != nil {
		answer.Message = err.Error()
		return answer // the next attempt looks again
	}
	known := record.Answer(op)
	switch {
	case known.Code != CodeNotDone:
		known.Message, known.Request, known.Stored = part.Message, part.Request, part.Stored
		return known
	case part.Result == Declined && record.Status == StatusCaptured:
		answer.Result, answer.Code, answer.Stored = Declined, part.Code, part.Stored
	}
	return answer
}

// answerReturn says whether anything of the charge is left with us.
func (r Record) answerReturn(answer *Answer) {
	var pending int64
	for _, refund := range r.Refunds {
		if refund.Result == Unknown {
			pending += refund.Amount
		}
	}
	switch refunded := r.Refunded(); {
	case r.Status == StatusAuthorized:
	case r.Status == StatusCaptured && refunded+pending < r.Captured:
	case r.Status == StatusCaptured && refunded < r.Captured:
		answer.Result, answer.Code = Unknown, CodePending
	default:
		answer.Result, answer.Code, answer.Amount = Done, "", refunded
	}
}
