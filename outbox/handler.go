package outbox

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
)

const (
	// mostSavepoints is how many savepoints of handlers a transaction has, at most. Each is a subtransaction, and Postgres remembers
	// 64 of a transaction's subtransactions at hand; beyond that every snapshot of every session has to look them up while it lasts.
	mostSavepoints = 60
	// longestRun is when a transaction has had enough of handlers: what they have locked has to become free.
	longestRun = time.Second
	// handlerGrace is for a handler that was told to stop.
	handlerGrace = time.Second
)

// HandlerTimeout is how long a handler may take for one job, if [Timeout] does not say otherwise.
const HandlerTimeout = 10 * time.Second

// HandlerOption is an option of [Register].
type HandlerOption func(*handling)

// Timeout limits how long a handler may take for one job; the default is [HandlerTimeout]. Its context is done then. A handler
// that does not heed it within a second, or is in a statement, costs the lane its connection, and the job has failed. Between
// two statements [Settings].HoldLimit is a limit, too.
func Timeout(d time.Duration) HandlerOption { return func(h *handling) { h.timeout = d } }

// OrderBy names the argument by which requests of the kind are ordered where the queue is split into lanes: see [Kind].
func OrderBy(argument string) HandlerOption { return func(h *handling) { h.orderBy = argument } }

// Savepoints says how many savepoints of its own that write a handler makes for one job, at most; the default is 0. So are meant
// pgx.BeginFunc on its tx, lastseat.enqueue_many, and blocks of PL/pgSQL with EXCEPTION. A transaction then has fewer of its jobs.
func Savepoints(n int) HandlerOption { return func(h *handling) { h.savepoints = 1 + n } }

// Register has a worker of kinds settle requests of one more kind, whose arguments are an A: handler is called for one after
// the other, in order, inside the lane's transaction, each under a savepoint of its own. It finds the request's key in the argument
// "key", if A has a field for it.
//
// What it writes through tx is committed together with the outcome that it returns, or not at all. It may ask for further
// requests ([Enqueue] with the same tx). An applied [Result] keeps what it wrote. A rejected one takes it back, and so does an
// error or a panic: the job then has one attempt less and is tried again, as River would, and the other jobs of its batch go on.
// If tx ran into another transaction (a serialization failure, a deadlock) the whole batch is tried again, and no job is blamed.
//
// A handler does nothing that a rollback does not undo, does not end the transaction, and is done with tx when it returns. A
// transaction has 60 of its jobs at most; where that is too slow, implement [Settler], which gets a whole batch.
func Register[A Args](kinds *Kinds, handler func(ctx context.Context, tx pgx.Tx, args A) (Result, error), options ...HandlerOption) {
	var zero A
	h := &handling{timeout: HandlerTimeout, savepoints: 1, handle: func(ctx context.Context, tx pgx.Tx, job Job) (Result, error) {
		var args A
		if err := json.Unmarshal(job.Args, &args); err != nil {
			return Reject(CodeInvalidArgs, map[string]string{"error": err.Error()}), nil
		}
		return handler(ctx, tx, args)
	}}
	for _, option := range options {
		option(h)
	}
	if h.timeout <= 0 || h.savepoints < 1 || h.savepoints > mostSavepoints {
		panic(fmt.Sprintf("outbox: kind %q: the timeout is %v, the savepoints are %d: more than 0 and less than %d are possible",
			zero.Kind(), h.timeout, h.savepoints-1, mostSavepoints))
	}
	kinds.Register(h, Kind{Name: zero.Kind(), OrderBy: h.orderBy})
}

// handling is the [Settler] of a registered handler.
type handling struct {
	handle     func(ctx context.Context, tx pgx.Tx, job Job) (Result, error)
	timeout    time.Duration
	savepoints int // for a job, its own included
	orderBy    string
}

// stuckError is of a job whose handler has made the lane's connection or transaction useless. Whose doing it was is known: nobody
// else is suspected.
type stuckError struct {
	job   int64
	cause error
}

func (e *stuckError) Error() string { return e.cause.Error() }
func (e *stuckError) Unwrap() error { return e.cause }

const (
	// guardSQL has any COMMIT fail before closeSQL: it has to run the cursor's query then. Without that, a handler which ends the
	// transaction would commit the effects of the jobs before it without their outcomes, and they would happen again.
	guardSQL = `DECLARE lastseat_guard CURSOR WITH HOLD FOR SELECT current_setting('lastseat.lane')::bigint
		AS "a handler must not end the lane's transaction"`
	closeSQL     = `CLOSE lastseat_guard`
	savepointSQL = `SAVEPOINT lastseat_handler`
	releaseSQL   = `RELEASE SAVEPOINT lastseat_handler`
	rollbackSQL  = `ROLLBACK TO SAVEPOINT lastseat_handler; RELEASE SAVEPOINT lastseat_handler`

	stateNoSavepoint = "3B001"
)

// Settle implements [Settler]. It returns fewer results than there are jobs when its time is up.
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
		if result.err != nil || result.Status != Applied {
			before = rollbackSQL
		}
		results = append(results, result)
	}
	return results, h.step(ctx, tx, batch.Jobs[len(results)-1], before+"; "+closeSQL)
}

// step ends one savepoint and begins the next, in one round trip. A savepoint that is gone has been ended by its own handler.
func (h *handling) step(ctx context.Context, tx pgx.Tx, last Job, sql string) error {
	_, err := tx.Exec(ctx, sql)
	if sqlState(err) == stateNoSavepoint {
		return h.ended(last)
	}
	return err
}

func (h *handling) ended(job Job) error {
	return &stuckError{job: job.ID, cause: fmt.Errorf("the handler of %s ended the lane's transaction", job.Kind)}
}

// settle calls the handler under its savepoint. The error is one of the batch; the handler's own is in the result.
func (h *handling) settle(ctx context.Context, tx pgx.Tx, job Job) (Result, error) {
	conn := tx.Conn()
	seen := watchErrors(conn)
	result, err := h.call(ctx, tx, job)
	if errors.As(err, new(*stuckError)) || errors.As(err, new(*abandonedError)) {
		return Result{}, err
	}
	unwatchErrors(conn)
	switch status := conn.PgConn().TxStatus(); {
	case conn.IsClosed():
		return Result{}, h.lost(ctx, job, seen, err)
	case status == 'I':
		return Result{}, h.ended(job)
	// What counts is what the database has said, whatever the handler made of it; and of another database's troubles this
	// transaction knows nothing.
	case status == 'E' && seen.last != nil && nobodysFault(seen.last):
		return Result{}, seen.last
	case nobodysFault(err) && seen.codes[sqlState(err)]:
		return Result{}, err
	case status == 'E' && err == nil:
		err = fmt.Errorf("the handler of %s returned a result after a statement of its own had failed: %w", job.Kind, seen.error())
	case err == nil && (result.Status != Applied && result.Status != Rejected || result.Code == ""):
		err = fmt.Errorf("the handler of %s returned status %q, code %q", job.Kind, result.Status, result.Code)
	}
	if err != nil {
		return Result{err: err}, nil
	}
	return result, nil
}

func nobodysFault(err error) bool { return conflict(err) || unavailable(err) }

// lost is the error of a batch whose connection was closed during a handler: by its context, which pgx makes a statement pay
// for with the connection, or from outside.
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

// seenErrors are those of a connection during a handler. Handlers wrap errors, and lose them.
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
