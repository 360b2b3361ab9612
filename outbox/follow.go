package outbox

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/lastseat/lastseat/internal/retry"
)

// FollowTable is the table in which [Follow] keeps its cursors, a row for each name. Create it in the database in which
// the consumer works, in a schema of its search_path.
const FollowTable = `
CREATE TABLE IF NOT EXISTS lastseat_follow (name text PRIMARY KEY, cursor text NOT NULL DEFAULT '')`

// Beginner begins transactions: a pool, of the consumer's own database.
type Beginner interface {
	BeginTx(ctx context.Context, options pgx.TxOptions) (pgx.Tx, error)
}

// FollowOptions are what a follower may choose. The zero value of a field means its default.
type FollowOptions struct {
	Into   Beginner      // where the consumer works; default: the database of the outcomes
	Batch  int           // outcomes in a transaction, at most; default 500
	Poll   time.Duration // how often it looks without a notification; default 500ms
	Logger *slog.Logger  // is told what it waits out; default slog.Default()
}

func (o FollowOptions) withDefaults(source *pgxpool.Pool) FollowOptions {
	orDefault(&o.Batch, 500)
	orDefault(&o.Poll, waitPoll)
	orDefault(&o.Logger, slog.Default())
	if o.Into == nil {
		o.Into = source
	}
	return o
}

// Follow hands every outcome of a database to a function, once and in the order in which they were settled, until ctx
// is done; then it returns nil. source is the database of the outcomes; its role needs membership in lastseat_producer
// or lastseat_viewer.
//
// What do writes through tx and the cursor, in the row of [FollowTable] with this name, are one commit: so each outcome
// takes effect once, whatever crashes. That is true as far as tx reaches: a mail that do sends may be sent twice. tx
// is READ COMMITTED, in the database of [FollowOptions].Into, where the table has to be. While do works, no transaction
// is open in source, unless that is the same database. Several processes may follow with one name: they take turns.
//
// Follow waits out lost connections and conflicts (40001, 40P01), with the same outcomes again. Any other error ends
// it: one that do returns, a table or a right that is missing, a cursor that the database does not have any more
// (ErrInvalid, after a restore; the message says how to go on). Called again, it goes on where it was.
func Follow(
	ctx context.Context, source *pgxpool.Pool, name string,
	do func(ctx context.Context, tx pgx.Tx, outcomes []Outcome) error, options FollowOptions,
) error {
	f := &follower{source: source, name: name, do: do, options: options.withDefaults(source)}
	if options.Into == nil && source.Config().MaxConns < 2 {
		return errors.New("follow: the pool needs two connections: one listens, one works")
	}
	defer f.hangUp(ctx)
	for failures := 0; ctx.Err() == nil; {
		n, err := f.step(ctx)
		switch {
		case ctx.Err() != nil:
		case err == nil && n > 0:
			failures, f.pause = 0, 0
		case err == nil:
			failures = 0
			err = f.idle(ctx)
		}
		if err == nil || ctx.Err() != nil {
			continue
		}
		if !passing(err) {
			return err
		}
		failures++
		f.known = false // after a lost reply to COMMIT, the row says what became of it
		f.options.Logger.WarnContext(ctx, "the follower tries again", slog.String("follower", name),
			slog.String("error", err.Error()))
		_ = retry.Sleep(ctx, retry.Jitter(min(5*time.Second, 10*time.Millisecond<<min(failures, 10))))
	}
	return nil
}

type follower struct {
	source  *pgxpool.Pool
	listen  *pgxpool.Conn // of source: listens, and reads the outcomes
	name    string
	do      func(ctx context.Context, tx pgx.Tx, outcomes []Outcome) error
	options FollowOptions
	pause   time.Duration // how long it waits without a notification
	cursor  string
	known   bool // cursor is what the row had when it was last seen
}

// errCursorMoved says that another process has used the outcomes meanwhile.
var errCursorMoved = errors.New("another process follows with the same name")

const (
	followRowSQL  = `INSERT INTO lastseat_follow (name) VALUES ($1) ON CONFLICT (name) DO NOTHING`
	followLookSQL = `SELECT cursor FROM lastseat_follow WHERE name = $1`
	followLockSQL = followLookSQL + ` FOR UPDATE`
	followMoveSQL = `UPDATE lastseat_follow SET cursor = $2 WHERE name = $1`
)

// step uses a batch of outcomes, and returns how many; with 0 there is nothing to do.
func (f *follower) step(ctx context.Context) (int, error) {
	if err := f.connect(ctx); err != nil {
		return 0, err
	}
	if !f.known {
		if err := f.inTx(ctx, f.look); err != nil {
			return 0, fmt.Errorf("follow: look up the cursor: %w", err)
		}
		f.known = true
	}
	outcomes, next, err := OutcomesSince(ctx, f.listen, f.cursor, f.options.Batch)
	if err != nil || len(outcomes) == 0 {
		return 0, err
	}
	err = f.inTx(ctx, func(ctx context.Context, tx pgx.Tx) error {
		var now string
		if err := tx.QueryRow(ctx, followLockSQL, f.name).Scan(&now); err != nil {
			return fmt.Errorf("follow: lock the cursor: %w", err)
		}
		if now != f.cursor {
			f.cursor = now
			return errCursorMoved
		}
		if err := f.do(ctx, tx, outcomes); err != nil {
			return err
		}
		_, err := tx.Exec(ctx, followMoveSQL, f.name, next)
		return err
	})
	switch {
	case errors.Is(err, errCursorMoved):
		return 1, nil // at once again, from there
	case err != nil:
		return 0, err
	}
	f.cursor = next
	return len(outcomes), nil
}

func (f *follower) look(ctx context.Context, tx pgx.Tx) error {
	if _, err := tx.Exec(ctx, followRowSQL, f.name); err != nil {
		return err
	}
	return tx.QueryRow(ctx, followLookSQL, f.name).Scan(&f.cursor)
}

// inTx runs do in a transaction of the consumer's.
func (f *follower) inTx(ctx context.Context, do func(ctx context.Context, tx pgx.Tx) error) error {
	tx, err := f.options.Into.BeginTx(ctx, pgx.TxOptions{IsoLevel: pgx.ReadCommitted, AccessMode: pgx.ReadWrite})
	if err != nil {
		return fmt.Errorf("begin: %w", err)
	}
	defer func() { // after a COMMIT this does nothing
		limited, cancel := context.WithTimeout(context.WithoutCancel(ctx), unlistenLimit)
		defer cancel()
		_ = tx.Rollback(limited)
	}()
	if err := do(ctx, tx); err != nil {
		return err
	}
	if err := ctx.Err(); err != nil {
		return err
	}
	return Commit(ctx, tx)
}

// connect makes the session that listens, if there is none.
func (f *follower) connect(ctx context.Context) error {
	if f.listen != nil && !f.listen.Conn().IsClosed() {
		return nil
	}
	f.hangUp(ctx)
	conn, err := f.source.Acquire(ctx)
	if err != nil {
		return err
	}
	f.listen = conn
	if _, err := conn.Exec(ctx, "LISTEN "+outcomeChannel); err != nil {
		return fmt.Errorf("listen for outcomes: %w", err)
	}
	return nil
}

// hangUp closes the session that listens: it can't go back to the pool.
func (f *follower) hangUp(ctx context.Context) {
	if f.listen == nil {
		return
	}
	limited, cancel := context.WithTimeout(context.WithoutCancel(ctx), unlistenLimit)
	defer cancel()
	_ = f.listen.Conn().Close(limited)
	f.listen.Release()
	f.listen = nil
}

// idle waits for a notification. An outcome shows when every transaction that began before its own has ended, which may
// be later than that: so it looks soon after it, and then less and less often.
func (f *follower) idle(ctx context.Context) error {
	const first = 5 * time.Millisecond
	f.pause = min(max(2*f.pause, first), f.options.Poll)
	began := time.Now()
	err := awaitNotification(ctx, f.listen.Conn(), f.pause)
	if time.Since(began) < f.pause {
		f.pause = 0
	}
	return err
}

// passing tells whether an error is one that goes away: a conflict, or a database that can't be reached.
func passing(err error) bool {
	if state := retry.SQLState(err); state != "" {
		return retry.Conflict(err) || slices.ContainsFunc([]string{"08", "53", "57P"}, func(class string) bool {
			return strings.HasPrefix(state, class)
		})
	}
	return errors.Is(err, ErrCommitUnknown) || errors.As(err, new(*pgconn.ConnectError)) ||
		slices.ContainsFunc([]error{io.EOF, io.ErrUnexpectedEOF, net.ErrClosed, syscall.ECONNRESET, syscall.EPIPE},
			func(lost error) bool { return errors.Is(err, lost) }) || strings.Contains(err.Error(), "conn closed")
}

// awaitNotification waits for any notification, at most for limit.
func awaitNotification(ctx context.Context, conn *pgx.Conn, limit time.Duration) error {
	wait, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	_, err := conn.WaitForNotification(wait)
	if wait.Err() != nil {
		return ctx.Err()
	}
	return err
}
