package outbox

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"runtime/debug"
	"sync"
	"sync/atomic"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
)

// abandonedError says that the connection has been left to a handler that is still at it: nobody else may touch it.
type abandonedError struct{ cause error }

func (e *abandonedError) Error() string { return e.cause.Error() }
func (e *abandonedError) Unwrap() error { return e.cause }

// call calls the handler in a goroutine of its own, and limits its time.
func (h *handling) call(ctx context.Context, tx pgx.Tx, job Job) (Result, error) {
	limited, cancel := context.WithTimeoutCause(ctx, h.timeout, fmt.Errorf("the handler of %s took longer than %v", job.Kind, h.timeout))
	defer cancel()
	type answer struct {
		result Result
		err    error
	}
	g := &gate{}
	answers := make(chan answer, 1)
	go func() {
		var a answer
		defer func() {
			if value := recover(); value != nil {
				a.err = &panicError{value: value, trace: string(debug.Stack())}
			}
			answers <- a
		}()
		if a.result, a.err = h.handle(limited, &lanesTx{tx: tx, gate: g}, job); a.err == nil {
			a.result.Detail, a.err = encodedDetail(a.result.Detail)
		}
	}()
	var a answer
	select {
	case a = <-answers:
	case <-limited.Done():
		select {
		case a = <-answers:
		case <-time.After(handlerGrace):
			abandoned := abandon(tx, g, context.Cause(limited))
			if ctx.Err() != nil {
				return Result{}, abandoned
			}
			return Result{}, &stuckError{job: job.ID, cause: abandoned}
		}
	}
	if !g.shut() {
		return Result{}, &stuckError{job: job.ID, cause: abandon(tx, g, fmt.Errorf("the handler of %s returned while a goroutine of its own was in a statement", job.Kind))}
	}
	if tx.Conn().PgConn().IsBusy() {
		return Result{}, &stuckError{job: job.ID, cause: abandon(tx, g, errors.Join(fmt.Errorf("the handler of %s left the rows of a query open", job.Kind), a.err))}
	}
	if limited.Err() != nil && ctx.Err() == nil {
		switch cause := context.Cause(limited); {
		case tx.Conn().IsClosed(): // pgx gives a connection up whose statement was cancelled
			return Result{}, &stuckError{job: job.ID, cause: errors.Join(cause, a.err)}
		case a.err != nil:
			a.err = fmt.Errorf("%w: %w", cause, a.err)
		}
	}
	return a.result, a.err
}

// encodedDetail encodes while the handler's panics are still its own.
func encodedDetail(detail any) (any, error) {
	encoded, err := encodeDetail(detail)
	if err != nil || encoded == nil {
		return nil, err
	}
	return json.RawMessage(*encoded), nil
}

// abandon cuts the connection, which can't be shared with a handler that is still at it, and leaves what is left of it to the
// handler. The session rolls back when it notices; in a statement it would not, and is told.
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
	// errEnded is what a handler gets that tries to end the lane's transaction.
	errEnded = errors.New("the transaction is the lane's: return a result, or an error")
	// errOver is what a goroutine gets that a handler has left behind.
	errOver = errors.New("the handler has returned: the transaction is no longer its own")
)

// enter waits for the handler's other goroutines.
func (g *gate) enter() error {
	g.mu.Lock()
	if g.over.Load() {
		g.mu.Unlock()
		return errOver
	}
	return nil
}

func (g *gate) leave() { g.mu.Unlock() }

// shut lets nothing through any more. It fails if somebody is inside.
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

func (t *lanesTx) CopyFrom(ctx context.Context, table pgx.Identifier, columns []string, source pgx.CopyFromSource) (int64, error) {
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
	return t.tx.Query(ctx, sql, args...) //nolint:sqlclosecheck // they are the handler's; left open, they cost it the connection
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

// refusedRows are what comes too late gets: pgx allows its error to be looked at later than at once.
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
