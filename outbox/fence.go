package outbox

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/jackc/pgx/v5"

	"github.com/lastseat/lastseat/internal/faultpoint"
	"github.com/lastseat/lastseat/internal/retry"
)

// errFenced says that another session settles the lane: this one stands by.
var errFenced = errors.New("another worker settles this lane")

// fenceSQL locks the lane's row for the transaction. That takes the right to UPDATE the row, so no other role's
// session can keep a lane from its work. A lock changes nothing in the row and leaves no dead one.
const fenceSQL = `
	SELECT lanes, coalesce(holder, ''), coalesce(accused, 0), coalesce(accused_attempt, 0), coalesce(accused_error, '')
	FROM lastseat.lanes WHERE queue = $1 AND lane = $2 FOR UPDATE NOWAIT`

// oursSQL is a condition for what is sent together with the lock on the lane's row. A job that such a statement locked
// in another session's lane would be passed by there.
const oursSQL = `EXISTS (
		SELECT FROM lastseat.lanes o
		WHERE o.queue = @queue AND o.lane = @lane AND o.lanes = @lanes AND o.holder = @holder)`

// begin begins a transaction of the lane. It is the only way to one: whatever a session believes, it can't settle
// while another one does, nor after another one has taken the lane.
//
// first, if it is not nil, queues what the transaction does first: BEGIN, the lock and that are one round trip. So it
// is sent before it is known whether the lane is this session's. If it is not, it must do nothing: see [oursSQL].
//
// Where the settings say SERIALIZABLE the transaction is REPEATABLE READ unless strict says that a kind needs more: see
// docs/decisions/013-isolation.md. While Postgres has no room for predicate locks it is REPEATABLE READ in any case,
// which takes none: the lane must not stand still because of another session that idles in a SERIALIZABLE transaction.
func (l *lane) begin(ctx context.Context, strict bool, first func(*pgx.Batch)) (pgx.Tx, error) {
	level := l.settings.Isolation
	if l.suspicion.noRoom || level == pgx.Serializable && !strict {
		level = pgx.RepeatableRead
	}
	opening := &pgx.Batch{}
	opening.BeginTx(pgx.TxOptions{IsoLevel: level, AccessMode: pgx.ReadWrite})
	l.queueFence(opening)
	if first != nil {
		first(opening)
	}
	results := l.conn.SendBatch(ctx, opening)
	if err := results.Close(); err != nil {
		_ = results.Tx().Rollback(context.WithoutCancel(ctx))
		return nil, fmt.Errorf("begin: %w", err)
	}
	return results.Tx(), nil
}

// queueFence makes sure that the lane is this session's, for as long as the transaction lasts.
func (l *lane) queueFence(opening *pgx.Batch) {
	sql := fenceSQL
	if faultpoint.Sabotaged(faultpoint.NoLane) {
		sql = strings.TrimSuffix(sql, "FOR UPDATE NOWAIT")
	}
	opening.Queue(sql, l.settings.Queue, l.number).QueryRow(func(row pgx.Row) error {
		var lanes int
		var holder string
		var heard accusation
		err := row.Scan(&lanes, &holder, &heard.job, &heard.attempt, &heard.reason)
		switch {
		case retry.SQLState(err) == stateLockTimeout || errors.Is(err, pgx.ErrNoRows):
			return errFenced
		case err != nil:
			return fmt.Errorf("make sure of the lane: %w", err)
		case (lanes != l.settings.Lanes || holder != l.holder) && !faultpoint.Sabotaged(faultpoint.NoLane):
			return errFenced
		}
		l.hear(heard)
		return nil
	})
}
