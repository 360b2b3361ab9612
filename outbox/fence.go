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

// begin begins a transaction of the lane. It is the only way to one: whatever a session believes, it can't settle
// while another one does, nor after another one has taken the lane.
//
// Where the settings say SERIALIZABLE the transaction is REPEATABLE READ unless strict says that a kind needs more: see
// docs/decisions/013-isolation.md. While Postgres has no room for predicate locks it is REPEATABLE READ in any case,
// which takes none: the lane must not stand still because of another session that idles in a SERIALIZABLE transaction.
func (l *lane) begin(ctx context.Context, strict bool) (pgx.Tx, error) {
	level := l.settings.Isolation
	if l.suspicion.noRoom || level == pgx.Serializable && !strict {
		level = pgx.RepeatableRead
	}
	tx, err := l.conn.BeginTx(ctx, pgx.TxOptions{IsoLevel: level, AccessMode: pgx.ReadWrite})
	if err != nil {
		return nil, fmt.Errorf("begin: %w", err)
	}
	if err := l.fence(ctx, tx); err != nil {
		_ = tx.Rollback(context.WithoutCancel(ctx))
		return nil, err
	}
	return tx, nil
}

// fence makes sure that the lane is this session's, for as long as the transaction lasts.
func (l *lane) fence(ctx context.Context, tx pgx.Tx) error {
	var lanes int
	var holder string
	var heard accusation
	sql := fenceSQL
	if faultpoint.Sabotaged(faultpoint.NoLane) {
		sql = strings.TrimSuffix(sql, "FOR UPDATE NOWAIT")
	}
	err := tx.QueryRow(ctx, sql, l.settings.Queue, l.number).Scan(
		&lanes, &holder, &heard.job, &heard.attempt, &heard.reason)
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
}
