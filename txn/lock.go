package txn

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/lastseat/lastseat/internal/retry"
)

// ErrLocked says that another transaction holds a lock on one of the rows (55P03). The transaction is aborted,
// unless the call was in a [Nested] of its own. [Run] does not repeat it: a caller that does not want to wait
// decides what to do instead.
var ErrLocked = errors.New("locked by another transaction")

// Strength says what a row lock keeps others from doing. FOR KEY SHARE < FOR SHARE < FOR NO KEY UPDATE < FOR UPDATE.
type Strength int

// The four row locks of Postgres. A foreign key takes ForKeyShare on the row that it refers to. So ForUpdate holds up
// inserts that refer to the row; ForNoKeyUpdate, which every UPDATE of other columns takes, does not.
const (
	ForUpdate      Strength = iota // to delete the row or change its key
	ForNoKeyUpdate                 // to change it
	ForShare                       // to make sure that it stays as it is
	ForKeyShare                    // to make sure that it stays
)

var strengths = [...]string{"FOR UPDATE", "FOR NO KEY UPDATE", "FOR SHARE", "FOR KEY SHARE"}

// Wait says what to do about a row that another transaction has locked. Zero waits as long as the session's
// lock_timeout allows (Postgres's default: for ever). A positive Wait is the limit for each row that it has to wait
// for. Only a deadline of the context limits the sum of all waits, and then the connection is lost.
type Wait time.Duration

// NoWait gives up at once, with [ErrLocked]; SkipLocked leaves the row out.
const (
	NoWait     Wait = -1
	SkipLocked Wait = -2
)

// Mode says how to lock. The zero value is FOR UPDATE, waits, and identifies rows by their column id.
type Mode struct {
	Strength Strength
	Wait     Wait
	Key      string // the column of the table's primary key; "": id
}

// Lock locks the rows of a table whose keys are among ids, until the end of the transaction. It locks them in the
// order of the key, whatever the order of ids, so that transactions that lock several rows don't deadlock with each
// other. It returns the keys of the rows that it locked, in that order. A row that does not exist is left out, and
// with SkipLocked a row that another transaction holds. Read the rows after they are locked, not before: only then
// do they stay as read.
//
// Errors are [ErrLocked], and in a REPEATABLE READ or SERIALIZABLE transaction a conflict (40001) if a row has changed
// since the snapshot.
func Lock[K any](ctx context.Context, tx pgx.Tx, table pgx.Identifier, ids []K, mode Mode) ([]K, error) {
	sql, err := mode.sql(table)
	if err != nil || len(ids) == 0 {
		return nil, err
	}
	before := ""
	if mode.Wait > 0 {
		if before, err = setLockTimeout(ctx, tx, mode.Wait); err != nil {
			return nil, err
		}
	}
	rows, _ := tx.Query(ctx, sql, ids) // CollectRows returns the error
	locked, err := pgx.CollectRows(rows, pgx.RowTo[K])
	if retry.SQLState(err) == "55P03" {
		err = fmt.Errorf("%w: %w", ErrLocked, err)
	}
	if err != nil {
		return nil, fmt.Errorf("lock rows of %s: %w", strings.Join(table, "."), err)
	}
	if mode.Wait > 0 { // after an error, the rollback restores it
		if _, err := tx.Exec(ctx, `SELECT set_config('lock_timeout', $1, true)`, before); err != nil {
			return nil, fmt.Errorf("restore lock_timeout: %w", err)
		}
	}
	return locked, nil
}

// Postgres sorts the rows first and locks them then:
// https://www.postgresql.org/docs/current/sql-select.html#SQL-FOR-UPDATE-SHARE
func (m Mode) sql(table pgx.Identifier) (string, error) {
	if m.Strength < 0 || int(m.Strength) >= len(strengths) || m.Wait < SkipLocked {
		return "", fmt.Errorf("no such lock: %+v", m)
	}
	key := pgx.Identifier{m.Key}.Sanitize()
	if m.Key == "" {
		key = `"id"`
	}
	sql := fmt.Sprintf(`SELECT %[1]s FROM %[2]s WHERE %[1]s = ANY ($1) ORDER BY %[1]s %[3]s`,
		key, table.Sanitize(), strengths[m.Strength])
	switch m.Wait {
	case NoWait:
		sql += " NOWAIT"
	case SkipLocked:
		sql += " SKIP LOCKED"
	}
	return sql, nil
}

// setLockTimeout sets lock_timeout to the end of the transaction or of the savepoint, and returns the value before. It
// rounds up, since 0 would be no timeout.
func setLockTimeout(ctx context.Context, tx pgx.Tx, wait Wait) (before string, err error) {
	milliseconds := (time.Duration(wait) + time.Millisecond - 1).Milliseconds()
	const sql = `SELECT before, set_config('lock_timeout', $1, true) FROM current_setting('lock_timeout') AS before`
	if err := tx.QueryRow(ctx, sql, fmt.Sprintf("%dms", milliseconds)).Scan(&before, nil); err != nil {
		return "", fmt.Errorf("set lock_timeout: %w", err)
	}
	return before, nil
}
