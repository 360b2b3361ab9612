package outbox

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"runtime/debug"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/riverqueue/river"
)

// callKind is the kind of the jobs that carry calls out. They are River's; no lane claims them.
const callKind = "lastseat.call"

// callArgs says which attempt at which call a job is.
type callArgs struct {
	Call    string `json:"call"` // the request's key. Not "key": the job is not the request's.
	Step    int    `json:"step"`
	Attempt int    `json:"attempt"`
	Target  string `json:"target"`
}

func (callArgs) Kind() string { return callKind }

// callWorker makes attempts at calls. A stale attempt, one that River has rescued or that runs twice, does no harm: the
// call goes out with the same key, and one answer is taken.
type callWorker struct {
	river.WorkerDefaults[callArgs]
	pool    *pgxpool.Pool
	callers map[string]Caller
	log     *slog.Logger
}

// Timeout implements [river.Worker]. The attempt itself has its caller's timeout; this one has room for the statements
// around it.
func (w *callWorker) Timeout(*river.Job[callArgs]) time.Duration { return CallTimeout + 2*noteLimit }

// noteLimit is how long it may take to note that an attempt begins, or what it has brought.
const noteLimit = 10 * time.Second

const (
	beginCallSQL = `
	SELECT kind, operation, call_key, body, sends, coalesce(first_sent_at, seen_at), coalesce(sent_at, seen_at), seen_at
	FROM lastseat.begin_call(@key, @step, @attempt, @window)`
	answerCallSQL = `
	SELECT lastseat.answer_call(@key, @step, @attempt, @result, nullif(@code, ''), @detail::jsonb, @stored, @wait)`
)

// begunCall is an attempt that has begun.
type begunCall struct {
	Call
	sends bool // else it is looked up
	now   time.Time
}

// Work implements [river.Worker].
func (w *callWorker) Work(ctx context.Context, job *river.Job[callArgs]) error {
	caller, known := w.callers[job.Args.Target]
	if !known {
		return river.JobSnooze(time.Minute) // another worker may have it
	}
	begun, err := w.begin(ctx, caller, job.Args)
	if err != nil || begun == nil {
		return err
	}
	answer := caller.attempt(ctx, begun)
	if answer.Result == Unknown || answer.Result == lost {
		w.log.WarnContext(ctx, "the answer to a call is not known", slog.String("key", begun.Request),
			slog.String("kind", begun.Kind), slog.String("target", caller.Target), slog.Int("attempt", begun.Attempt),
			slog.String("error", errorOf(answer)))
	}
	return w.note(context.WithoutCancel(ctx), job.Args, answer)
}

// begin notes that the attempt begins; nil: it is not the current one any more.
func (w *callWorker) begin(ctx context.Context, caller Caller, args callArgs) (*begunCall, error) {
	ctx, cancel := context.WithTimeout(ctx, noteLimit)
	defer cancel()
	c := &begunCall{Call: Call{Request: args.Call, Attempt: args.Attempt}}
	var body string
	err := w.pool.QueryRow(ctx, beginCallSQL, pgx.NamedArgs{
		"key": args.Call, "step": args.Step, "attempt": args.Attempt,
		// what is sent at the last moment has to arrive while the key is known
		"window": max(0, caller.KeyWindow-2*caller.Timeout),
	}).Scan(&c.Kind, &c.Operation, &c.Key, &body, &c.sends, &c.First, &c.Last, &c.now)
	c.Body = []byte(body)
	switch {
	case errors.Is(err, pgx.ErrNoRows):
		return nil, nil
	case err != nil:
		return nil, fmt.Errorf("begin a call: %w", err)
	}
	return c, nil
}

// note notes what the attempt has brought. A lane takes it from there. An answer that comes too late changes nothing.
func (w *callWorker) note(ctx context.Context, args callArgs, answer Answer) error {
	ctx, cancel := context.WithTimeout(ctx, noteLimit)
	defer cancel()
	var detail *string
	if len(answer.Detail) > 0 {
		detail = new(string(answer.Detail))
	}
	_, err := w.pool.Exec(ctx, answerCallSQL, pgx.NamedArgs{
		"key": args.Call, "step": args.Step, "attempt": args.Attempt, "result": string(answer.Result),
		"code": storable(answer.Code), "detail": detail, "stored": answer.Stored, "wait": max(0, answer.After),
	})
	if err != nil {
		return fmt.Errorf("note the answer to a call: %w", err)
	}
	return nil
}

// attempt sends a call, or looks it up if it must not be sent again.
func (c Caller) attempt(ctx context.Context, call *begunCall) Answer {
	ctx, cancel := context.WithTimeout(ctx, c.Timeout)
	defer cancel()
	switch {
	case call.sends:
		answer, err := protected(ctx, c.Send, call.Call)
		if err == nil && answer.Result == Absent {
			err = errors.New("a Send can't answer that it is absent")
		}
		return answer.orUnknown(err)
	case c.LookUp == nil:
		return withError(Answer{Result: lost}, errors.New("it may have been sent, and there is no way to look it up"))
	}
	answer, err := protected(ctx, c.LookUp, call.Call)
	if err == nil && answer.Result == Absent {
		if left := c.Late - call.now.Sub(call.Last); left > 0 {
			return withError(Answer{Result: Unknown, After: left}, errors.New("it is not there, and may still arrive"))
		}
		answer.Result, answer.Code = Declined, CodeNotDone
	}
	return answer.orUnknown(err)
}

// orUnknown is the answer, or an Unknown if there was an error, or the answer makes no sense.
func (a Answer) orUnknown(err error) Answer {
	if err == nil && a.Result != Done && a.Result != Declined && a.Result != Unknown {
		err = fmt.Errorf("the answer %q is none", a.Result)
	}
	switch {
	case err != nil:
		return withError(Answer{Result: Unknown, Code: a.Code, Stored: a.Stored, After: a.After}, err)
	case a.Result == Unknown:
		return withError(a, errors.New("the answer was: unknown "+a.Code))
	}
	return a
}

// protected calls a function of a caller. A panic is an error.
func protected(
	ctx context.Context, call func(context.Context, Call) (Answer, error), c Call,
) (answer Answer, err error) {
	defer func() {
		if value := recover(); value != nil {
			answer, err = Answer{}, &panicError{value: value, trace: string(debug.Stack())}
		}
	}()
	return call(ctx, c)
}

// withError puts an error into the detail of an answer that is not known.
func withError(a Answer, err error) Answer {
	text, _ := encodeDetail(map[string]string{"error": storable(err.Error())}) // a map of strings can't fail
	a.Detail = []byte(*text)
	return a
}

func errorOf(a Answer) string { return string(a.Detail) }
