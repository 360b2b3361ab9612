package outbox

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/lastseat/lastseat/internal/pgsession"
	"github.com/lastseat/lastseat/internal/retry"
)

const (
	// mostSavepoints is how many savepoints of handlers a transaction may have. Each is a subtransaction. Postgres
	// keeps 64 of a transaction's subtransactions in memory; with more, every snapshot of every session has to look
	// them up.
	mostSavepoints = 60
	// longestRun is when a transaction stops calling handlers: the rows that they have locked have to become free.
	longestRun = time.Second
	// handlerGrace is how long a handler may take to return after its context has ended.
	handlerGrace = time.Second
)

// HandlerTimeout is how long a handler may take for one job, unless [Timeout] says otherwise.
const HandlerTimeout = 10 * time.Second

// HandlerOption is an option of [Register].
type HandlerOption func(*handling)

// Timeout limits how long a handler may take for one job; the default is [HandlerTimeout]. Then its context ends.
// If the handler does not return within a second, or is in a statement, the lane gives up its connection and the
// job has failed. The time between two statements is limited by [Settings].HoldLimit, too.
func Timeout(d time.Duration) HandlerOption { return func(h *handling) { h.timeout = d } }

// OrderBy names the argument by which requests of the kind are ordered where the queue is split into lanes: see
// [Kind].
func OrderBy(argument string) HandlerOption { return func(h *handling) { h.orderBy = argument } }

// Savepoints says how many savepoints that write a handler makes itself for one job, at most; the default is 0.
// pgx.BeginFunc on its tx makes one, and so do lastseat.enqueue_many and PL/pgSQL blocks with EXCEPTION. The more
// there are, the fewer jobs go into a transaction.
func Savepoints(n int) HandlerOption { return func(h *handling) { h.savepoints = 1 + n } }

// Register makes handler responsible for one more kind, whose arguments are an A. The worker calls it for one
// request after the other, in order, inside the lane's transaction, each under a savepoint of its own. If A has a
// field for the argument "key", the handler finds the request's key there.
//
// What the handler writes through tx is committed together with the outcome that it returns, or not at all. It may
// ask for further requests ([Enqueue] with the same tx). After an applied [Result] what it wrote stays. After a
// rejected one it is rolled back, and so it is after an error or a panic: then the job has used up an attempt and
// is tried again, as River would, and the other jobs of its batch go on. If tx conflicts with another transaction
// (a serialization failure, a deadlock) the whole batch is tried again, and no job is blamed.
//
// A handler must not do anything that a rollback does not undo, nor end the transaction, nor use tx after it has
// returned. A transaction has at most 60 of its jobs; where that is too slow, implement [Settler], which gets a
// whole batch.
func Register[A Args](
	kinds *Kinds, handler func(ctx context.Context, tx pgx.Tx, args A) (Result, error), options ...HandlerOption,
) {
	var zero A
	registerHandling(kinds, zero.Kind(), func(ctx context.Context, tx pgx.Tx, job Job) (Result, error) {
		var args A
		if err := json.Unmarshal(job.Args, &args); err != nil {
			return Reject(CodeInvalidArgs, map[string]string{"error": err.Error()}), nil
		}
		return handler(ctx, tx, args)
	}, options)
}

func registerHandling(
	kinds *Kinds, kind string, handle func(context.Context, pgx.Tx, Job) (Result, error), options []HandlerOption,
) {
	h := &handling{handle: handle, timeout: HandlerTimeout, savepoints: 1}
	for _, option := range options {
		option(h)
	}
	if h.timeout <= 0 || h.savepoints < 1 || h.savepoints > mostSavepoints {
		panic(fmt.Sprintf("outbox: kind %q: the timeout is %v, which has to be positive; the savepoints are %d, of 0 to %d",
			kind, h.timeout, h.savepoints-1, mostSavepoints-1))
	}
	var settler Settler = h
	kinds.register(registration{settler: &settler, savepoints: h.savepoints, stopsEarly: true},
		Kind{Name: kind, OrderBy: h.orderBy})
}

// handling is the [Settler] of a registered handler.
type handling struct {
	handle     func(ctx context.Context, tx pgx.Tx, job Job) (Result, error)
	timeout    time.Duration
	savepoints int // for a job, its own included
	orderBy    string
}

// stuckError says that a handler left the lane's connection or transaction unusable. Its job is known, so no other is
// suspected.
type stuckError struct {
	job   int64
	cause error
}

func (e *stuckError) Error() string { return e.cause.Error() }
func (e *stuckError) Unwrap() error { return e.cause }

const (
	// guardSQL makes every COMMIT before closeSQL fail: it would have to run the cursor's query, which fails. Without
	// it a handler that ends the transaction would commit the effects of the jobs before it without their outcomes,
	// and they would happen again.
	guardSQL = `DECLARE lastseat_guard CURSOR WITH HOLD FOR SELECT current_setting('lastseat.lane')::bigint
		AS "a handler must not end the lane's transaction"`
	closeSQL = `CLOSE lastseat_guard`
	// A handler has the search_path of its pool, the lane its own.
	savepointSQL = `SAVEPOINT lastseat_handler; SET LOCAL search_path TO DEFAULT`
	releaseSQL   = `RELEASE SAVEPOINT lastseat_handler; SET LOCAL search_path = ` + pgsession.Path
	rollbackSQL  = `ROLLBACK TO SAVEPOINT lastseat_handler; RELEASE SAVEPOINT lastseat_handler`

	stateNoSavepoint = "3B001"
)

// Settle implements [Settler]. When its time is up it returns results for the first of the jobs only.
func (h *handling) Settle(ctx context.Context, tx pgx.Tx, batch Batch) ([]Result, error) {
	results := make([]Result, 0, len(batch.Jobs))
	began, before := time.Now(), guardSQL
	for i, job := range batch.Jobs {
		if i > 0 && time.Since(began) > longestRun {
			break
		}
		if err := h.step(ctx, tx, batch.Jobs[max(0, i-1)], before+"; "+savepointSQL); err != nil {
			return nil, err
		}
		result, err := h.settle(ctx, tx, job)
		if err != nil {
			return nil, err
		}
		before = releaseSQL
		if result.err != nil || result.Status != Applied && result.intent == nil {
			before = rollbackSQL
		}
		results = append(results, result)
		if result.waits != nil { // those behind it would overtake it
			results = append(results, waitAll(&run{jobs: batch.Jobs[i+1:]}, result.waits)...)
			break
		}
	}
	return results, h.step(ctx, tx, batch.Jobs[len(results)-1], before+"; "+closeSQL)
}

// step ends one savepoint and begins the next, in one round trip. If the savepoint is gone, the handler of the last
// job has ended it.
func (h *handling) step(ctx context.Context, tx pgx.Tx, last Job, sql string) error {
	_, err := tx.Exec(ctx, sql)
	if retry.SQLState(err) == stateNoSavepoint {
		return h.ended(last)
	}
	return err
}

func (h *handling) ended(job Job) error {
	return &stuckError{job: job.ID, cause: fmt.Errorf("the handler of %s ended the lane's transaction", job.Kind)}
}

// settle calls the handler under its savepoint. An error that it returns is one of the whole batch; the handler's own
// error is in the result.
func (h *handling) settle(ctx context.Context, tx pgx.Tx, job Job) (Result, error) {
	conn := tx.Conn()
	seen := watchErrors(conn)
	result, err := h.call(ctx, tx, job)
	if errors.As(err, new(*stuckError)) || errors.As(err, new(*abandonedError)) {
		return Result{}, err
	}
	unwatchErrors(conn)
	if locked := seen.lockTimeout(err, conn); locked != nil {
		return Waits(rowOf(locked, job.Kind)), nil
	}
	if err := h.batchsError(ctx, conn, job, seen, err); err != nil {
		return Result{}, err
	}
	if err == nil {
		err = h.misdeed(conn.PgConn().TxStatus(), job, result, seen)
	}
	if err != nil {
		return Result{err: err}, nil
	}
	return result, nil
}

// batchsError returns an error after which the batch can't go on, whatever the handler made of it. What the
// database said counts, not what the handler returned. A conflict in another database that the handler uses is its
// own affair.
func (h *handling) batchsError(ctx context.Context, conn *pgx.Conn, job Job, seen *seenErrors, err error) error {
	switch status := conn.PgConn().TxStatus(); {
	case conn.IsClosed():
		return h.lost(ctx, job, seen, err)
	case status == 'I':
		return h.ended(job)
	case status == 'E' && seen.last != nil && blameless(seen.last):
		return seen.last
	case blameless(err) && seen.codes[retry.SQLState(err)]:
		return err
	}
	return nil
}

// misdeed is the error of a handler that returned none, but a result that can't stand.
func (h *handling) misdeed(status byte, job Job, result Result, seen *seenErrors) error {
	switch {
	case status == 'E':
		return fmt.Errorf("the handler of %s returned a result after a statement of its own had failed: %w",
			job.Kind, seen.error())
	case !result.valid() && !result.unsettled():
		return fmt.Errorf("the handler of %s returned status %q, code %q", job.Kind, result.Status, result.Code)
	}
	return nil
}

// blameless tells whether an error is the doing of no job.
func blameless(err error) bool { return conflict(err) || unavailable(err) }

// lost is the error of a batch whose connection was closed during a handler: because of its context, since pgx
// closes the connection of a statement that it cancels, or from outside.
func (h *handling) lost(ctx context.Context, job Job, seen *seenErrors, err error) error {
	switch {
	case ctx.Err() != nil:
		return context.Cause(ctx)
	case seen.last != nil && unavailable(seen.last):
		return seen.last
	case errors.Is(err, context.DeadlineExceeded) || errors.Is(err, context.Canceled) || pgconn.Timeout(err):
		return &stuckError{job: job.ID, cause: err}
	}
	return errors.Join(fmt.Errorf("the connection was lost in the handler of %s", job.Kind), err, seen.error())
}

// seenErrors are the errors that the database reported on a connection during a handler. A handler may wrap them in
// a way that hides them, or drop them.
type seenErrors struct {
	last  *pgconn.PgError
	codes map[string]bool
}

func (s *seenErrors) error() error {
	if s.last == nil {
		return nil
	}
	return s.last
}

// lockTimeout is the error of a lock that a handler waited for in vain, and that it did not get over; or nil.
func (s *seenErrors) lockTimeout(err error, conn *pgx.Conn) error {
	switch stuck := conn.PgConn().TxStatus() == 'E'; {
	case stuck && s.last != nil && s.last.Code == stateLockTimeout:
		return s.last
	case retry.SQLState(err) == stateLockTimeout && s.codes[stateLockTimeout] && !conn.IsClosed():
		return err
	}
	return nil
}

const seenKey = "lastseat.errors"

// observeErrors prepares a connection for watchErrors.
func observeErrors(config *pgconn.Config) {
	next := config.OnPgError
	config.OnPgError = func(conn *pgconn.PgConn, err *pgconn.PgError) bool {
		if seen, ok := conn.CustomData()[seenKey].(*seenErrors); ok {
			seen.last = err
			seen.codes[err.Code] = true
		}
		return next(conn, err)
	}
}

func watchErrors(conn *pgx.Conn) *seenErrors {
	seen := &seenErrors{codes: make(map[string]bool)}
	conn.PgConn().CustomData()[seenKey] = seen
	return seen
}

func unwatchErrors(conn *pgx.Conn) { delete(conn.PgConn().CustomData(), seenKey) }
