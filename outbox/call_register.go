package outbox

import (
	"context"
	"encoding/json"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"
)

// Calling is how the requests of a kind of one's own are settled that need something done outside the database: a mail
// that is sent, a third party's lock. See [RegisterCall].
type Calling[A Args] struct {
	// Send makes an attempt, with no transaction open. It sends call.Key along, so that the other side does the same thing
	// once, however often it is asked. An error is an Unknown: it may have been carried out.
	Send func(ctx context.Context, call Call, args A) (Answer, error)
	// LookUp finds out whether the call was carried out; see [Caller].
	LookUp func(ctx context.Context, call Call, args A) (Answer, error)
	// Begin is called inside the lane's transaction before the call: what it writes is committed together with the intent.
	// Nil, or an empty Result: the request calls. A Result with a status settles the request without a call.
	Begin func(ctx context.Context, tx pgx.Tx, args A) (Result, error)
	// Record is called inside the lane's transaction with the answer, [Done] or [Declined]: what it writes is committed
	// together with the outcome that it returns. Nil: done is applied, declined is rejected, with the answer's code and
	// detail.
	Record func(ctx context.Context, tx pgx.Tx, args A, answer Answer) (Result, error)
	// KeyWindow, Late, Timeout and Workers are those of the [Caller].
	KeyWindow, Late, Timeout time.Duration
	Workers                  int
}

// RegisterCall makes a worker settle the requests of a kind, whose arguments are an A, by a call: the lane writes down
// what is to be called, Send calls when that is committed, and the lane records the answer and settles the request. It
// has one outcome, with the answer; until then it is pending. Requests that come later don't wait for it.
//
// The other side is called effectively once: every attempt has the same key and the same arguments, and after
// KeyWindow nothing is sent any more. If then nobody can say what came of it, the request is failed with
// [CodeAnswerUnknown].
func RegisterCall[A Args](kinds *Kinds, calling Calling[A], options ...HandlerOption) {
	var zero A
	target := zero.Kind()
	registerHandling(kinds, target, calling.handle, options)
	caller := Caller{
		Target: target, Send: decoded(calling.Send), KeyWindow: calling.KeyWindow, Late: calling.Late,
		Timeout: calling.Timeout, Workers: calling.Workers,
	}
	if calling.LookUp != nil {
		caller.LookUp = decoded(calling.LookUp)
	}
	kinds.AddCaller(caller)
}

func (c Calling[A]) handle(ctx context.Context, tx pgx.Tx, job Job) (Result, error) {
	var args A
	if err := json.Unmarshal(job.Args, &args); err != nil {
		return Reject(CodeInvalidArgs, map[string]string{"error": err.Error()}), nil
	}
	if job.Answer != nil {
		return c.record(ctx, tx, args, *job.Answer)
	}
	if c.Begin != nil {
		if result, err := c.Begin(ctx, tx, args); err != nil || result.Status != "" {
			return result, err
		}
	}
	return Calls(Intent{Target: args.Kind(), Operation: "call", Body: job.Args}), nil
}

func (c Calling[A]) record(ctx context.Context, tx pgx.Tx, args A, answer Answer) (Result, error) {
	if c.Record != nil {
		return c.Record(ctx, tx, args, answer)
	}
	result := Result{Status: Applied, Code: string(Done)}
	if answer.Result == Declined {
		result = Result{Status: Rejected, Code: string(Declined)}
	}
	if answer.Code != "" {
		result.Code = answer.Code
	}
	if len(answer.Detail) > 0 {
		result.Detail = answer.Detail
	}
	return result, nil
}

// decoded is a function of a [Caller] that reads the arguments from the call's body.
func decoded[A Args](
	call func(ctx context.Context, call Call, args A) (Answer, error),
) func(ctx context.Context, call Call) (Answer, error) {
	if call == nil {
		return nil
	}
	return func(ctx context.Context, c Call) (Answer, error) {
		var args A
		if err := json.Unmarshal(c.Body, &args); err != nil {
			return Answer{}, fmt.Errorf("read the body of the call: %w", err)
		}
		return call(ctx, c, args)
	}
}
