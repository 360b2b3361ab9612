// Package calls carries out operations at a card processor as calls: [Send] and [LookUp] are what [outbox.RegisterCall]
// asks for, and what jobs.Processor is made of. This is the one place that says what a processor's answer means to a
// call. examples/outside/card is a whole program.
package calls

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"

	"github.com/lastseat/lastseat/outbox"
	"github.com/lastseat/lastseat/processor"
)

// CodeInvalid is of an operation that no processor can do ([processor.ErrInvalid]): it is declined, if nothing was sent
// before.
const CodeInvalid = "invalid_operation"

// Detail is the detail of an answer, as JSON.
type Detail struct {
	Reference string `json:"reference,omitempty"` // the processor's id, of the charge or of the refund
	Amount    int64  `json:"amount,omitempty"`    // what has moved, in minor units
	Currency  string `json:"currency,omitempty"`
	Message   string `json:"message,omitempty"` // what the processor says, for people
	Request   string `json:"request,omitempty"` // the processor's id of the attempt
}

// DetailOf reads the detail of an answer that [Send] or [LookUp] has brought.
func DetailOf(answer outbox.Answer) (detail Detail, err error) {
	if len(answer.Detail) > 0 {
		err = json.Unmarshal(answer.Detail, &detail)
	}
	return detail, err
}

// Send makes one attempt at an operation, under the call's key. The operation is the same at every attempt, but for its
// Key, which Send sets.
func Send(ctx context.Context, gateway processor.Gateway, call outbox.Call, op processor.Operation) (
	outbox.Answer, error) {
	op.Key = call.Key
	answer, err := processor.Send(ctx, gateway, op)
	switch {
	case errors.Is(err, processor.ErrInvalid) && call.Attempt > 1: // one before may have been carried out
		return outbox.Answer{Result: outbox.Unknown, Stored: true}, err
	case errors.Is(err, processor.ErrInvalid):
		return answerOf(processor.Answer{Result: processor.Declined, Code: CodeInvalid, Message: err.Error()})
	case errors.Is(err, processor.ErrNotSent):
		return outbox.Answer{After: processor.RetryAfter(err)}, fmt.Errorf("%w: %w", outbox.ErrNotSent, err)
	case err != nil:
		return outbox.Answer{}, err
	}
	return answerOf(answer)
}

// LookUp finds out whether an operation was carried out, without sending it.
func LookUp(ctx context.Context, gateway processor.Gateway, call outbox.Call, op processor.Operation) (
	outbox.Answer, error) {
	op.Key = call.Key
	query := processor.Query{Reference: op.Reference}
	if op.Reference == "" {
		query = processor.Query{Key: op.Key, From: call.First, To: call.Last, Customer: op.Customer}
	}
	record, err := gateway.LookUp(ctx, query)
	switch {
	case errors.Is(err, processor.ErrNotFound) && op.Reference == "":
		return outbox.Answer{Result: outbox.Absent}, nil
	case err != nil: // also a charge that we had from the processor, and that it doesn't know: that proves nothing
		return outbox.Answer{}, err
	}
	answer := record.Answer(op)
	if answer.Result == processor.Declined && answer.Code == processor.CodeNotDone {
		return outbox.Answer{Result: outbox.Absent}, nil
	}
	return answerOf(answer)
}

func answerOf(answer processor.Answer) (outbox.Answer, error) {
	detail, err := json.Marshal(Detail{
		Reference: answer.Reference, Amount: answer.Amount, Currency: answer.Currency, Message: answer.Message,
		Request: answer.Request,
	})
	known := map[processor.Result]outbox.Certainty{processor.Done: outbox.Done, processor.Declined: outbox.Declined}
	result, found := known[answer.Result]
	if !found {
		result = outbox.Unknown
	}
	return outbox.Answer{Result: result, Code: answer.Code, Detail: detail, Stored: answer.Stored}, err
}
