package outbox

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
)

// abandonedError says that the connection was left to a handler that has not returned: nobody else may touch it.
type abandonedError struct{ cause error }

func (e *abandonedError) Error() string { return e.cause.Error() }
func (e *abandonedError) Unwrap() error { return e.cause }

// answer is what a handler returned.
type answer struct {
	result Result
	err    error
}

// call calls the handler in a goroutine of its own and limits its time.
func (h *handling) call(ctx context.Context, tx pgx.Tx, job Job) (Result, error) {
	limited, cancel := context.WithTimeoutCause(ctx, h.timeout,
		fmt.Errorf("the handler of %s took longer than %v", job.Kind, h.timeout))
	defer cancel()
	g := &gate{}
	a, returned := h.await(limited, h.start(limited, &lanesTx{tx: tx, gate: g}, job))
	stuck := func(cause error) (Result, error) { return Result{}, &stuckError{job: job.ID, cause: cause} }
	switch {
	case !returned && ctx.Err() != nil: // the worker stops: nobody is to blame
		return Result{}, abandon(tx, g, context.Cause(limited))
	case !returned:
		return stuck(abandon(tx, g, context.Cause(limited)))
	case !g.shut():
		return stuck(abandon(tx, g,
			fmt.Errorf("the handler of %s returned while a goroutine of its own was in a statement", job.Kind)))
	case tx.Conn().PgConn().IsBusy():
		return stuck(abandon(tx, g,
			errors.Join(fmt.Errorf("the handler of %s left the rows of a query open", job.Kind), a.err)))
	case limited.Err() == nil || ctx.Err() != nil: // in time, or the worker stops
		return a.result, a.err
	case tx.Conn().IsClosed(): // pgx closes the connection of a statement that it cancels
		return stuck(errors.Join(context.Cause(limited), a.err))
	case a.err != nil:
		a.err = fmt.Errorf("%w: %w", context.Cause(limited), a.err)
	}
	return a.result, a.err
}

// start calls the handler in a goroutine, which may outlive the call. A panic becomes an error.
func (h *handling) start(ctx context.Context, tx pgx.Tx, job Job) <-chan answer {
	answers := make(chan answer, 1)
	go func() {
		var a answer
		defer func() { answers <- a }()
		defer recovered(&a.err)
		if a.result, a.err = h.handle(ctx, tx, job); a.err == nil {
			a.result.Detail, a.err = encodedDetail(a.result.Detail)
		}
	}()
	return answers
}

// await waits until the handler returns, a moment longer than its time.
func (h *handling) await(limited context.Context, answers <-chan answer) (a answer, returned bool) {
	select {
	case a = <-answers:
		return a, true
	case <-limited.Done():
	}
	select {
	case a = <-answers:
		return a, true
	case <-time.After(handlerGrace):
		return answer{}, false
	}
}

// encodedDetail encodes a detail inside the handler's goroutine, where a panic is the handler's.
func encodedDetail(detail any) (any, error) {
	encoded, err := encodeDetail(detail)
	if err != nil || encoded == nil {
		return nil, err
	}
	return json.RawMessage(*encoded), nil
}

// abandon cuts the connection, because it can't be shared with a handler that may still use it, and leaves the rest
// of it to the handler. The session rolls back when it notices; during a statement it would not, so that is
// cancelled.
func abandon(tx pgx.Tx, g *gate, cause error) error {
	g.over.Store(true)
	conn := tx.Conn().PgConn()
	ctx, cancel := context.WithTimeout(context.Background(), handlerGrace)
	defer cancel()
	_ = conn.CancelRequest(ctx)
	_ = conn.Conn().Close()
	return &abandonedError{cause: cause}
}

// gate lets the statements of a handler through, one at a time, until it has returned.
type gate struct {
	mu   sync.Mutex
	over atomic.Bool
}

var (
	// errEnded is for a handler that tries to end the lane's transaction.
	errEnded = errors.New("the transaction is the lane's: return a result, or an error")
	// errOver is for a goroutine that uses the transaction after its handler has returned.
	errOver = errors.New("the handler has returned: the transaction is no longer its own")
)

// enter waits until no other goroutine of the handler is in a statement.
func (g *gate) enter() error {
	g.mu.Lock()
	if g.over.Load() {
		g.mu.Unlock()
		return errOver
	}
	return nil
}

func (g *gate) leave() { g.mu.Unlock() }

// shut lets no more statements through. It returns false if one is still running.
func (g *gate) shut() bool {
	g.over.Store(true)
	if !g.mu.TryLock() {
		return false
	}
	g.mu.Unlock()
	return true
}

// lanesTx is the lane's transaction in the hands of a handler, or a savepoint in it.
type lanesTx struct {
	tx     pgx.Tx
	gate   *gate
	nested bool
}

func (t *lanesTx) Begin(ctx context.Context) (pgx.Tx, error) {
	if err := t.gate.enter(); err != nil {
		return nil, err
	}
	defer t.gate.leave()
	tx, err := t.tx.Begin(ctx)
	if err != nil {
		return nil, err
	}
	return &lanesTx{tx: tx, gate: t.gate, nested: true}, nil
}

func (t *lanesTx) Commit(ctx context.Context) error { return t.end(ctx, pgx.Tx.Commit) }

func (t *lanesTx) Rollback(ctx context.Context) error { return t.end(ctx, pgx.Tx.Rollback) }

func (t *lanesTx) end(ctx context.Context, how func(pgx.Tx, context.Context) error) error {
	if !t.nested {
		return errEnded
	}
	if err := t.gate.enter(); err != nil {
		return err
	}
	defer t.gate.leave()
	return how(t.tx, ctx)
}

func (t *lanesTx) CopyFrom(
	ctx context.Context, table pgx.Identifier, columns []string, source pgx.CopyFromSource,
) (int64, error) {
	if err := t.gate.enter(); err != nil {
		return 0, err
	}
	defer t.gate.leave()
	return t.tx.CopyFrom(ctx, table, columns, source)
}

func (t *lanesTx) SendBatch(ctx context.Context, batch *pgx.Batch) pgx.BatchResults {
	if err := t.gate.enter(); err != nil {
		return refusedBatch{}
	}
	defer t.gate.leave()
	return t.tx.SendBatch(ctx, batch)
}

func (t *lanesTx) Prepare(ctx context.Context, name, sql string) (*pgconn.StatementDescription, error) {
	if err := t.gate.enter(); err != nil {
		return nil, err
	}
	defer t.gate.leave()
	return t.tx.Prepare(ctx, name, sql)
}

func (t *lanesTx) Exec(ctx context.Context, sql string, arguments ...any) (pgconn.CommandTag, error) {
	if err := t.gate.enter(); err != nil {
		return pgconn.CommandTag{}, err
	}
	defer t.gate.leave()
	return t.tx.Exec(ctx, sql, arguments...)
}

func (t *lanesTx) Query(ctx context.Context, sql string, args ...any) (pgx.Rows, error) {
	if err := t.gate.enter(); err != nil {
		return refusedRows{}, err
	}
	defer t.gate.leave()
	return t.tx.Query(ctx, sql, args...) //nolint:sqlclosecheck // the handler closes its rows; if not, it has failed
}

func (t *lanesTx) QueryRow(ctx context.Context, sql string, args ...any) pgx.Row {
	if err := t.gate.enter(); err != nil {
		return refusedRows{}
	}
	defer t.gate.leave()
	return t.tx.QueryRow(ctx, sql, args...)
}

func (t *lanesTx) LargeObjects() pgx.LargeObjects { return t.tx.LargeObjects() }
func (t *lanesTx) Conn() *pgx.Conn                { return t.tx.Conn() }

// refusedRows are for a query that comes too late. The caller of pgx may look at the error of Query or at that of
// the rows.
type refusedRows struct{ pgx.Rows }

func (refusedRows) Close()                        {}
func (refusedRows) Err() error                    { return errOver }
func (refusedRows) CommandTag() pgconn.CommandTag { return pgconn.CommandTag{} }
func (refusedRows) Next() bool                    { return false }
func (refusedRows) Scan(...any) error             { return errOver }
func (refusedRows) Values() ([]any, error)        { return nil, errOver }

type refusedBatch struct{ pgx.BatchResults }

func (refusedBatch) Exec() (pgconn.CommandTag, error) { return pgconn.CommandTag{}, errOver }
func (refusedBatch) Query() (pgx.Rows, error)         { return refusedRows{}, errOver }
func (refusedBatch) QueryRow() pgx.Row                { return refusedRows{} }
func (refusedBatch) Close() error                     { return errOver }
