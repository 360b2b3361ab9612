package outbox

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"runtime/debug"
	"time"

	"github.com/jackc/pgx/v5"
)

// mostHandled is how many jobs of handlers a transaction has, at most. Each is a subtransaction, and Postgres remembers 64 of
// a transaction's subtransactions at hand; beyond that every snapshot of every session has to look on disk while it lasts.
const mostHandled = 60

// HandlerTimeout is how long a handler may take for one job, if [Timeout] does not say otherwise.
const HandlerTimeout = 10 * time.Second

// handlerGrace is for a handler that was told to stop.
const handlerGrace = time.Second

// HandlerOption is an option of [Register].
type HandlerOption func(*handling)

// Timeout limits how long a handler may take for one job; the default is [HandlerTimeout]. Its context is done then. A handler
// that does not heed it loses the lane's connection, and the job has failed.
func Timeout(d time.Duration) HandlerOption { return func(h *handling) { h.timeout = d } }

// OrderBy names the argument by which requests of the kind are ordered where the queue is split into lanes: see [Kind].
func OrderBy(argument string) HandlerOption { return func(h *handling) { h.orderBy = argument } }

// Register has a worker of kinds settle requests of one more kind, whose arguments are an A: handler is called for one after
// the other, in order, inside the lane's transaction, each under a savepoint of its own.
//
// What it writes through tx is committed together with the outcome that it returns, or not at all. It may ask for further
// requests ([Enqueue] with the same tx). An applied [Result] keeps what it wrote. A rejected one takes it back, and so does an
// error or a panic: the job then has one attempt less and is tried again, as River would, and the other jobs of its batch go on.
// A serialization failure or deadlock must be returned as it is: the whole batch is tried again, and no job is blamed.
//
// A handler does nothing that a rollback does not undo, and does not end the transaction. A batch holds 60 of its jobs at
// most; where that is too slow, implement [Settler], which gets a whole batch.
func Register[A Args](kinds *Kinds, handler func(ctx context.Context, tx pgx.Tx, args A) (Result, error), options ...HandlerOption) {
	var zero A
	h := &handling{timeout: HandlerTimeout, handle: func(ctx context.Context, tx pgx.Tx, job Job) (Result, error) {
		var args A
		if err := json.Unmarshal(job.Args, &args); err != nil {
			return Reject(CodeInvalidArgs, map[string]string{"error": err.Error()}), nil
		}
		return handler(ctx, tx, args)
	}}
	for _, option := range options {
		option(h)
	}
	kinds.Register(h, Kind{Name: zero.Kind(), OrderBy: h.orderBy})
}

// handling is the [Settler] of a registered handler.
type handling struct {
	handle  func(ctx context.Context, tx pgx.Tx, job Job) (Result, error)
	timeout time.Duration
	orderBy string
}

// errEnded is what a handler gets that tries to end the lane's transaction.
var errEnded = errors.New("the transaction is the lane's: return a result, or an error")

// lanesTx is the lane's transaction in the hands of a handler.
type lanesTx struct{ pgx.Tx }

func (lanesTx) Commit(context.Context) error   { return errEnded }
func (lanesTx) Rollback(context.Context) error { return errEnded }

// stuckError is of a job whose handler did not come back. Whose doing it was is known: nobody else is suspected.
type stuckError struct {
	job   int64
	cause error
}

func (e *stuckError) Error() string { return e.cause.Error() }
func (e *stuckError) Unwrap() error { return e.cause }

// Settle implements [Settler].
func (h *handling) Settle(ctx context.Context, tx pgx.Tx, batch Batch) ([]Result, error) {
	results := make([]Result, len(batch.Jobs))
	for i, job := range batch.Jobs {
		result, err := h.settle(ctx, tx, job)
		if err != nil {
			return nil, err
		}
		results[i] = result
	}
	return results, nil
}

// settle calls the handler under a savepoint. The error is one of the batch; the handler's own is in the result.
func (h *handling) settle(ctx context.Context, tx pgx.Tx, job Job) (Result, error) {
	if _, err := tx.Exec(ctx, "SAVEPOINT handler"); err != nil {
		return Result{}, err
	}
	result, err := h.call(ctx, tx, job)
	switch status := tx.Conn().PgConn().TxStatus(); {
	case errors.As(err, new(*stuckError)), tx.Conn().IsClosed() || conflict(err) || unavailable(err):
		return Result{}, err
	case status == 'I':
		// What this batch has done so far is committed, and its outcomes are not. All that is left is to say so.
		_ = tx.Conn().Close(ctx)
		return Result{}, &stuckError{job: job.ID, cause: fmt.Errorf("the handler of %s ended the lane's transaction", job.Kind)}
	case status == 'E' && err == nil:
		err = fmt.Errorf("the handler of %s returned a result after a statement of its own had failed", job.Kind)
	case err == nil && result.Status != Applied && result.Status != Rejected || err == nil && result.Code == "":
		err = fmt.Errorf("the handler of %s returned status %q, code %q", job.Kind, result.Status, result.Code)
	}
	end := "RELEASE SAVEPOINT handler"
	if err != nil || result.Status != Applied {
		end = "ROLLBACK TO SAVEPOINT handler; RELEASE SAVEPOINT handler"
	}
	if _, failed := tx.Exec(ctx, end); failed != nil {
		return Result{}, failed
	}
	if err != nil {
		return Result{err: err}, nil
	}
	return result, nil
}

// call calls the handler and limits its time.
func (h *handling) call(ctx context.Context, tx pgx.Tx, job Job) (Result, error) {
	limited, cancel := context.WithTimeoutCause(ctx, h.timeout, fmt.Errorf("the handler of %s took longer than %v", job.Kind, h.timeout))
	defer cancel()
	type answer struct {
		result Result
		err    error
	}
	answers := make(chan answer, 1)
	go func() {
		var a answer
		defer func() {
			if value := recover(); value != nil {
				a.err = &panicError{value: value, trace: string(debug.Stack())}
			}
			answers <- a
		}()
		a.result, a.err = h.handle(limited, lanesTx{tx}, job)
	}()
	var a answer
	select {
	case a = <-answers:
	case <-limited.Done():
		select {
		case a = <-answers:
		case <-time.After(handlerGrace):
			// The connection can't be shared with a handler that is still at it: cut, and the session rolls back.
			_ = tx.Conn().PgConn().Conn().Close()
			a.err = context.Cause(limited)
			return Result{}, h.overdue(ctx, limited, job, a.err)
		}
	}
	if a.err != nil && limited.Err() != nil && ctx.Err() == nil {
		a.err = fmt.Errorf("%w: %w", context.Cause(limited), a.err)
		if tx.Conn().IsClosed() { // pgx gives a connection up whose statement was cancelled
			return Result{}, h.overdue(ctx, limited, job, a.err)
		}
	}
	return a.result, a.err
}

// overdue is the error of a handler that has cost the connection.
func (h *handling) overdue(ctx, limited context.Context, job Job, err error) error {
	if ctx.Err() != nil {
		return context.Cause(limited)
	}
	return &stuckError{job: job.ID, cause: err}
}
