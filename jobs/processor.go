package jobs

import (
	"context"
	"encoding/json"
	"fmt"

	"github.com/lastseat/lastseat/outbox"
	"github.com/lastseat/lastseat/processor"
	"github.com/lastseat/lastseat/processor/calls"
)

// Processor has a worker carry out the payments by card of a processor: those whose requests name it. Add it to the
// worker's kinds with [outbox.Kinds.AddCaller].
func Processor(name string, gateway processor.Gateway) outbox.Caller {
	return outbox.Caller{
		Target: name, KeyWindow: gateway.KeyWindow(), Late: processor.Late,
		Send: func(ctx context.Context, call outbox.Call) (outbox.Answer, error) {
			op, err := operationOf(call)
			if err != nil {
				return outbox.Answer{}, err
			}
			return calls.Send(ctx, gateway, call, op)
		},
		LookUp: func(ctx context.Context, call outbox.Call) (outbox.Answer, error) {
			op, err := operationOf(call)
			if err != nil {
				return outbox.Answer{}, err
			}
			return calls.LookUp(ctx, gateway, call, op)
		},
	}
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
	return op, nil
}
