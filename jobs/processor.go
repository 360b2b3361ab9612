package jobs

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"

	"github.com/lastseat/lastseat/outbox"
	"github.com/lastseat/lastseat/processor"
)

// Processor has a worker carry out the payments by card of a processor: those whose requests name it. Add it to the
// worker's kinds with [outbox.Kinds.AddCaller].
func Processor(name string, gateway processor.Gateway) outbox.Caller {
	return outbox.Caller{
		Target: name, KeyWindow: gateway.KeyWindow(), Late: processor.Late,
		Send: func(ctx context.Context, call outbox.Call) (outbox.Answer, error) {
			return send(ctx, gateway, call)
		},
		LookUp: func(ctx context.Context, call outbox.Call) (outbox.Answer, error) {
			return lookUp(ctx, gateway, call)
		},
	}
}

func send(ctx context.Context, gateway processor.Gateway, call outbox.Call) (outbox.Answer, error) {
	op, err := operationOf(call)
	if err != nil {
		return outbox.Answer{}, err
	}
	answer, err := processor.Send(ctx, gateway, op)
	switch {
	case errors.Is(err, processor.ErrInvalid) && call.Attempt == 1:
		return outbox.Answer{Result: outbox.Declined, Code: "invalid_operation"}, nil
	case errors.Is(err, processor.ErrInvalid): // an attempt before may have been carried out
		return outbox.Answer{Result: outbox.Unknown, Stored: true}, err
	case err != nil:
		return outbox.Answer{Result: outbox.Unknown, After: processor.RetryAfter(err)}, err
	}
	return answerOf(answer)
}

func lookUp(ctx context.Context, gateway processor.Gateway, call outbox.Call) (outbox.Answer, error) {
	op, err := operationOf(call)
	if err != nil {
		return outbox.Answer{}, err
	}
	record, err := gateway.LookUp(ctx, processor.Query{
		Reference: op.Reference, Key: op.Key, From: call.First, To: call.Last,
	})
	switch {
	case errors.Is(err, processor.ErrNotFound) && op.Reference == "":
		return outbox.Answer{Result: outbox.Absent}, nil
	case err != nil:
		return outbox.Answer{}, err
	}
	answer := record.Answer(op)
	if answer.Result == processor.Declined && answer.Code == processor.CodeNotDone {
		return outbox.Answer{Result: outbox.Absent}, nil
	}
	return answerOf(answer)
}

// call is the result of a request about a payment that its processor has to be asked for.
func call(p *payment, job outbox.Job, op processor.Operation) (outbox.Result, error) {
	if p.processor == "" {
		return outbox.Result{}, errNoProcessor
	}
	body, err := json.Marshal(op) //nolint:musttag // its names are those of its fields, here and when it is read
	if err != nil {
		return outbox.Result{}, fmt.Errorf("%s: encode the operation: %w", job.Kind, err)
	}
	return outbox.Calls(outbox.Intent{
		Target: p.processor, Operation: string(op.Kind), Subject: "payment:" + p.id, Body: body,
	}), nil
}

func operationOf(call outbox.Call) (op processor.Operation, err error) {
	if err := json.Unmarshal(call.Body, &op); err != nil { //nolint:musttag // see call
		return op, fmt.Errorf("read the operation: %w", err)
	}
	op.Key = call.Key
	return op, nil
}

// processorAnswer is the detail of an answer.
type processorAnswer struct {
	Reference string `json:"reference,omitempty"`
	Amount    int64  `json:"amount,omitempty"`
	Currency  string `json:"currency,omitempty"`
	Message   string `json:"message,omitempty"`
	Request   string `json:"request,omitempty"`
}

func answerOf(a processor.Answer) (outbox.Answer, error) {
	certainty := outbox.Unknown // whatever is neither of the two
	switch a.Result {
	case processor.Done:
		certainty = outbox.Done
	case processor.Declined:
		certainty = outbox.Declined
	}
	detail, err := json.Marshal(processorAnswer{
		Reference: a.Reference, Amount: a.Amount, Currency: a.Currency, Message: a.Message, Request: a.Request,
	})
	return outbox.Answer{Result: certainty, Code: a.Code, Detail: detail, Stored: a.Stored}, err
}

func readAnswer(a *outbox.Answer) (answer processorAnswer, err error) {
	if len(a.Detail) > 0 {
		err = json.Unmarshal(a.Detail, &answer)
	}
	return answer, err
}
