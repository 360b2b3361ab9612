package outbox

import (
	"context"
	"encoding/json"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"
)

// Status is the state of a request.
type Status string

// The statuses of a request. Pending is the only one that changes by itself; failed can be made pending again
// ([Retry]).
const (
	Pending  Status = "pending"
	Applied  Status = "applied"  // done
	Rejected Status = "rejected" // a business refusal: recorded once, never tried again
	Failed   Status = "failed"   // given up on after technical errors
)

// Codes of the mechanism itself; the kinds have their own.
const (
	CodeInvalidArgs      = "invalid_args"      // rejected: a job inserted directly, with invalid arguments
	CodeRetriesExhausted = "retries_exhausted" // failed: an error at the job's last attempt
	CodeArgsChanged      = "args_changed"      // failed: somebody has changed the job's arguments since it was asked for
	CodeJobCancelled     = "job_cancelled"     // failed: the job was cancelled before it was claimed
	CodeAnswerUnknown    = "answer_unknown"    // failed: nobody will know whether the request's call was carried out
)

// Outcome is what became of a request. Times are UTC.
type Outcome struct {
	Key         string          `json:"key"`
	Kind        string          `json:"kind"`
	Status      Status          `json:"status"`
	Code        string          `json:"code"` // empty while pending
	Detail      json.RawMessage `json:"detail"`
	Attempts    int             `json:"attempts"`
	JobID       int64           `json:"job_id"`
	RequestedAt time.Time       `json:"requested_at"`
	SettledAt   *time.Time      `json:"settled_at"` // nil while pending
}

// Querier is what a pgx.Tx, a connection and a pool have in common.
type Querier interface {
	Query(ctx context.Context, sql string, args ...any) (pgx.Rows, error)
}

const outcomesSQL = `
	SELECT key, kind, status, coalesce(code, ''), detail, attempts, job_id, requested_at, settled_at
	FROM lastseat.outcomes($1::text[])`

// Outcomes returns the outcomes of the requests with these keys, in the order of the keys; keys that were never used
// are left out.
func Outcomes(ctx context.Context, db Querier, keys ...string) ([]Outcome, error) {
	rows, err := db.Query(ctx, outcomesSQL, keys)
	if err != nil {
		return nil, fmt.Errorf("read outcomes: %w", ContractError(err))
	}
	outcomes, err := pgx.CollectRows(rows, func(row pgx.CollectableRow) (Outcome, error) {
		var o Outcome
		return o, o.scan(row)
	})
	if err != nil {
		return nil, fmt.Errorf("read outcomes: %w", ContractError(err))
	}
	return outcomes, nil
}

// scan reads the columns of outcomesSQL into o, and the columns before them into more.
func (o *Outcome) scan(row pgx.CollectableRow, more ...any) error {
	err := row.Scan(append(more,
		&o.Key, &o.Kind, &o.Status, &o.Code, &o.Detail, &o.Attempts, &o.JobID, &o.RequestedAt, &o.SettledAt)...)
	o.RequestedAt = o.RequestedAt.UTC()
	if o.SettledAt != nil {
		utc := o.SettledAt.UTC()
		o.SettledAt = &utc
	}
	return err
}

const outcomesSinceSQL = `
	SELECT cursor, key, kind, status, coalesce(code, ''), detail, attempts, job_id, requested_at, settled_at
	FROM lastseat.outcomes_since($1, $2)`

// OutcomesSince returns outcomes that were settled after a cursor, as many as most says, in the order in which they
// were settled, and the cursor to go on with. The empty cursor is the beginning. No outcome is missed or repeated,
// whoever settles it: it shows up as soon as every transaction that began to write before it was settled has ended.
// A reader that saves the cursor in the transaction in which it uses the outcomes uses each of them once.
func OutcomesSince(ctx context.Context, db Querier, cursor string, most int) ([]Outcome, string, error) {
	rows, err := db.Query(ctx, outcomesSinceSQL, cursor, most)
	if err != nil {
		return nil, cursor, fmt.Errorf("read outcomes: %w", ContractError(err))
	}
	next := cursor
	outcomes, err := pgx.CollectRows(rows, func(row pgx.CollectableRow) (Outcome, error) {
		var o Outcome
		return o, o.scan(row, &next)
	})
	if err != nil {
		return nil, cursor, fmt.Errorf("read outcomes: %w", ContractError(err))
	}
	return outcomes, next, nil
}

// Retry asks for a failed request once more, under its key, inside the caller's transaction: its job becomes
// available again, as after River's own retry. A pending request stays as it is. For any other status the error is
// an [ErrInvalid]; for a key that was never used, or whose job River has removed meanwhile, an [ErrUnknown].
func Retry(ctx context.Context, tx pgx.Tx, key string) (Receipt, error) {
	var r Receipt
	err := tx.QueryRow(ctx, `SELECT r.key, r.kind, r.status, r.duplicate FROM lastseat.retry($1) r`, key).
		Scan(&r.Key, &r.Kind, &r.Status, &r.Duplicate)
	if err != nil {
		return Receipt{}, ContractError(err)
	}
	return r, nil
}
