package txn

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/lastseat/lastseat/internal/retry"
	"github.com/lastseat/lastseat/outbox"
)

const (
	// DefaultRetries is how often [Run] repeats a transaction after a conflict if [Options] say nothing else.
	DefaultRetries = 5

	shortestBackoff = 5 * time.Millisecond
	longestBackoff  = time.Second
	cleanupLimit    = time.Second // for a rollback, which is tried even after the caller's deadline
)

// ErrConflict says that a transaction conflicted with others (40001, 40P01) in every one of its tries, or until its
// time was up. Nothing is committed, and the caller may try again later. It wraps the last conflict.
var ErrConflict = errors.New("the transaction conflicted with others")

// Beginner is what [Run] needs of a *pgxpool.Pool, a *pgxpool.Conn or a *pgx.Conn. A pgx.Tx is no Beginner: isolation,
// access mode and retries belong to the outermost transaction, and can't be asked for inside it.
type Beginner interface {
	BeginTx(ctx context.Context, options pgx.TxOptions) (pgx.Tx, error)
}

// Options of the whole transaction. The zero value means the database's default isolation, read and write, no deadline
// but the context's, and [DefaultRetries].
type Options struct {
	Isolation pgx.TxIsoLevel
	ReadOnly  bool          // a write fails with SQLSTATE 25006
	Timeout   time.Duration // for all of it: waiting for a connection, the tries and the pauses between them; 0: none
	Retries   int           // after conflicts, at most; 0: DefaultRetries, negative: none
	OnRetry   func(Retry)   // called before the pause of each retry
}

// Retry describes a try that failed with a conflict and will be repeated.
type Retry struct {
	Attempt int           // the one that failed, from 1
	Err     error         // with the SQLSTATE 40001 or 40P01
	Pause   time.Duration // before the next one
}

// Run runs fn in a transaction of its own and commits it. If fn returns an error or panics, Run rolls back and
// passes the error or the panic on to the caller.
//
// After a conflict with other transactions (40001, 40P01), in fn or at COMMIT, Run runs the whole of fn again. It
// pauses before that: exponentially with full jitter, from 5 ms. So fn may run several times: it must return the
// errors it gets, set variables of its caller anew rather than add to them, and do nothing outside of tx that can't
// be repeated.
//
// Errors that a caller may branch on, besides those of fn: [ErrConflict]; pgx.ErrTxCommitRollback, if fn swallowed
// the error of a statement; the context's. After all of them nothing is committed. After [outbox.ErrCommitUnknown]
// only the database knows, and Run does not try again.
func Run(ctx context.Context, db Beginner, options Options, fn func(ctx context.Context, tx pgx.Tx) error) error {
	if inTransaction(db) {
		return errors.New("the connection is in a transaction already: pass its pgx.Tx, or use Nested")
	}
	if options.Timeout > 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, options.Timeout)
		defer cancel()
	}
	retries := options.Retries
	if retries == 0 {
		retries = DefaultRetries
	}
	for attempt := 1; ; attempt++ {
		err := try(ctx, db, options, fn)
		if !conflict(err) {
			return err
		}
		if attempt > retries {
			return fmt.Errorf("%w, %d times: %w", ErrConflict, attempt, err)
		}
		pause := backoff(attempt)
		if options.OnRetry != nil {
			options.OnRetry(Retry{Attempt: attempt, Err: err, Pause: pause})
		}
		if ended := retry.Sleep(ctx, pause); ended != nil {
			return fmt.Errorf("%w, until %w: %w", ErrConflict, ended, err)
		}
	}
}

func try(ctx context.Context, db Beginner, options Options, fn func(ctx context.Context, tx pgx.Tx) error) error {
	mode := pgx.TxOptions{IsoLevel: options.Isolation}
	if options.ReadOnly {
		mode.AccessMode = pgx.ReadOnly
	}
	tx, err := db.BeginTx(ctx, mode)
	if err != nil {
		return fmt.Errorf("begin: %w", err)
	}
	defer func() { // after a COMMIT this does nothing; if it fails, pgx closes the connection, which rolls back too
		ctx, cancel := cleanup(ctx)
		defer cancel()
		_ = tx.Rollback(ctx)
	}()
	if err := fn(ctx, lent{tx}); err != nil {
		return err
	}
	if err := ctx.Err(); err != nil { // nothing is committed; after trying to send COMMIT now, that would be unknown
		return fmt.Errorf("not committed: %w", err)
	}
	return outbox.Commit(ctx, tx)
}

// lent is a transaction that is passed to a function that did not begin it. The function must not end it: Run could
// not retry it then.
type lent struct{ pgx.Tx }

var errLent = errors.New("whoever began the transaction ends it: return nil to commit, an error to roll back")

func (lent) Commit(context.Context) error   { return errLent }
func (lent) Rollback(context.Context) error { return errLent }

// inTransaction tells whether a connection is in the middle of a transaction, as tx.Conn() is. There Postgres
// answers a BEGIN with a mere warning, and the COMMIT would be that of the outer transaction.
func inTransaction(db Beginner) bool {
	conn, _ := db.(*pgx.Conn)
	if pooled, ok := db.(*pgxpool.Conn); ok {
		conn = pooled.Conn()
	}
	return conn != nil && !conn.IsClosed() && conn.PgConn().TxStatus() != 'I'
}

// conflict tells whether the transaction may simply run again. What a Run inside fn has given up on is not tried
// again.
func conflict(err error) bool { return retry.Conflict(err) && !errors.Is(err, ErrConflict) }

// backoff returns a random pause, up to a limit that doubles with every attempt.
func backoff(attempt int) time.Duration {
	limit := shortestBackoff << min(attempt-1, 16)
	return retry.Jitter(min(limit, longestBackoff))
}

// cleanup returns a context for a rollback, which is needed above all when ctx has ended.
func cleanup(ctx context.Context) (context.Context, context.CancelFunc) {
	return context.WithTimeout(context.WithoutCancel(ctx), cleanupLimit)
}
