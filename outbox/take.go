package outbox

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/lastseat/lastseat/internal/retry"
)

const (
	takeSQL = `
	UPDATE lastseat.lanes
	SET holder = @holder, pid = pg_backend_pid(), taken_at = now(), unclean = @unclean, trying = NULL, trying_size = NULL,
	    deadly = @deadly, kinds = @kinds
	WHERE queue = @queue AND lane = @lane`

	leaveSQL = `
	UPDATE lastseat.lanes SET holder = NULL, pid = NULL, unclean = 0, trying = NULL, trying_size = NULL
	WHERE queue = $1 AND lane = $2 AND holder = $3`
)

// takeRow writes this session into the lane's row, in a transaction of its own. The last holder's transactions have
// ended by then, and it can begin no more: so every snapshot that comes after this shows all that it did.
func (l *lane) takeRow(ctx context.Context) (held bool, err error) {
	tx, err := l.conn.BeginTx(ctx, pgx.TxOptions{IsoLevel: pgx.ReadCommitted, AccessMode: pgx.ReadWrite})
	if err != nil {
		return false, fmt.Errorf("take the lane: %w", err)
	}
	defer func() { _ = tx.Rollback(context.WithoutCancel(ctx)) }()
	last, err := l.lastHolder(ctx, tx)
	if err == nil && last.lives { // or its process has just ended, and its session has not yet
		_ = retry.Sleep(ctx, lastBreath)
		if _, err = tx.Exec(ctx, `SELECT pg_stat_clear_snapshot()`); err == nil {
			err = tx.QueryRow(ctx, livesSQL, l.settings.Queue, l.number).Scan(&last.lives)
		}
	}
	if err == nil {
		l.learn(ctx, last)
		_, err = tx.Exec(ctx, takeSQL, pgx.NamedArgs{
			"queue": l.settings.Queue, "lane": l.number, "holder": l.holder, "unclean": l.caution.unclean,
			"deadly": l.suspicion.deadly, "kinds": l.kinds.orders(),
		})
	}
	if err == nil {
		err = Commit(ctx, tx) // if its reply is lost, the lane's next session takes it again
	}
	switch {
	case retry.SQLState(err) == stateLockTimeout: // its holder settles, or another session takes it
		return false, nil
	case err != nil:
		return false, fmt.Errorf("take the lane: %w", err)
	}
	return true, nil
}

// lastHolder is what the lane's row says of the last holder.
type lastHolder struct {
	lanes   int
	name    string // empty: it has left the lane
	unclean int    // how many holders in a row did not leave it, nor settle anything
	trying  int64  // the first job of the batch in which it ended, if it had noted that; otherwise 0
	size    int    // of that batch
	deadly  []int64
	lives   bool // its session goes on: it has lost the lane, but no job has ended it
}

const (
	lastHolderSQL = `
	SELECT lanes, coalesce(holder, ''), unclean, coalesce(trying, 0), coalesce(trying_size, 0), deadly, ` + aliveSQL + `
	FROM lastseat.lanes l
	WHERE queue = $1 AND lane = $2 FOR UPDATE NOWAIT`

	livesSQL = `SELECT ` + aliveSQL + ` FROM lastseat.lanes l WHERE queue = $1 AND lane = $2`

	aliveSQL = `
	       EXISTS (SELECT FROM pg_stat_activity a WHERE a.pid = l.pid AND a.datname = current_database()
	                AND a.application_name = '` + laneName + `')`

	// lastBreath is how long the session of a process that has ended may still be seen.
	lastBreath = 500 * time.Millisecond
)

// lastHolder locks the lane's row. If there is none, or the queue was split into another number of lanes, it splits
// the queue first.
func (l *lane) lastHolder(ctx context.Context, tx pgx.Tx) (last lastHolder, err error) {
	for range 2 {
		err = tx.QueryRow(ctx, lastHolderSQL, l.settings.Queue, l.number).Scan(
			&last.lanes, &last.name, &last.unclean, &last.trying, &last.size, &last.deadly, &last.lives)
		if err == nil && last.lanes == l.settings.Lanes {
			break
		}
		if err != nil && !errors.Is(err, pgx.ErrNoRows) {
			return last, err
		}
		if err := l.split(ctx, tx); err != nil {
			return last, err
		}
	}
	return last, err
}

const (
	lockLanesSQL   = `SELECT FROM lastseat.lanes WHERE queue = $1 ORDER BY lane FOR UPDATE NOWAIT`
	missingLaneSQL = `
	INSERT INTO lastseat.lanes (queue, lane, lanes) SELECT $1, lane, $2 FROM generate_series(0, $2::int - 1) AS lane
	ON CONFLICT DO NOTHING`
	// A job may have come into another lane, so each lane knows the deadly ones of all.
	splitSQL = `
	UPDATE lastseat.lanes
	SET lanes = $2, holder = NULL, pid = NULL, unclean = 0, trying = NULL, trying_size = NULL,
	    deadly = ARRAY(SELECT DISTINCT job FROM lastseat.lanes l, unnest(l.deadly) AS job WHERE l.queue = $1)
	WHERE queue = $1 AND lanes <> $2`
)

// split makes the queue's rows those of this worker's number of lanes. It locks all of them, so nobody settles
// meanwhile; whoever goes by another number of lanes finds that out when their next transaction begins.
func (l *lane) split(ctx context.Context, tx pgx.Tx) error {
	if _, err := tx.Exec(ctx, lockLanesSQL, l.settings.Queue); err != nil {
		return err
	}
	for _, sql := range []string{missingLaneSQL, splitSQL} {
		if _, err := tx.Exec(ctx, sql, l.settings.Queue, l.settings.Lanes); err != nil {
			return err
		}
	}
	return nil
}

// leave notes that the lane was left in good order.
func (l *lane) leave(ctx context.Context) {
	if _, err := l.conn.Exec(ctx, leaveSQL, l.settings.Queue, l.number, l.holder); err != nil {
		l.log.DebugContext(ctx, "the lane could not be left in good order", slog.String("error", err.Error()))
	}
}
