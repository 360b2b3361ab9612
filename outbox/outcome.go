package outbox

import (
	"context"
	"encoding/json"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
)

// Status is what a request has come to.
type Status string

// The statuses of a request. Pending is the only one that changes by itself; failed can be made pending again ([Retry]).
const (
	Pending  Status = "pending"
	Applied  Status = "applied"  // done
	Rejected Status = "rejected" // a business refusal: recorded once, never tried again
	Failed   Status = "failed"   // given up on after technical errors
)

// Codes of the mechanism itself; the kinds have their own.
const (
	CodeInvalidArgs      = "invalid_args"      // rejected: arguments that came past the SQL functions and break their rules
	CodeRetriesExhausted = "retries_exhausted" // failed: an error at the job's last attempt
	CodeJobCancelled     = "job_cancelled"     // failed: the job was cancelled before it was claimed
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

// Queryer is what a pgx.Tx, a connection and a pool have in common.
type Queryer interface {
	Query(ctx context.Context, sql string, args ...any) (pgx.Rows, error)
}

const outcomesSQL = `
	SELECT key, kind, status, coalesce(code, ''), detail, attempts, job_id, requested_at, settled_at
	FROM lastseat.outcomes($1::text[])`

// Outcomes returns the outcomes of the requests with these keys, in the order of the keys; keys that were never used
// are left out.
func Outcomes(ctx context.Context, db Queryer, keys ...string) ([]Outcome, error) {
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

// scan reads the columns of outcomesSQL, and before them those that more stand for.
func (o *Outcome) scan(row pgx.CollectableRow, more ...any) error {
	err := row.Scan(append(more, &o.Key, &o.Kind, &o.Status, &o.Code, &o.Detail, &o.Attempts, &o.JobID, &o.RequestedAt, &o.SettledAt)...)
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

// OutcomesSince returns the outcomes that were settled after a cursor, in the order in which they were settled, and the
// cursor to go on with. It misses none and repeats none, whoever settles them: an outcome shows up when every transaction that began
// to write before it was settled has ended. Empty, the cursor stands for the beginning. Who keeps the cursor in the transaction
// that works on the outcomes works on each once.
func OutcomesSince(ctx context.Context, db Queryer, cursor string, most int) ([]Outcome, string, error) {
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

// waitPoll stands behind the notifications: one may be lost with its connection, or to a connection pooler.
const waitPoll = 500 * time.Millisecond

// Wait returns when all requests with these keys are settled, with their outcomes in the order of the keys. When ctx
// ends first, the error is ctx's and the outcomes are those known so far, pending ones included. A key that was never
// used is an [ErrUnknown].
func Wait(ctx context.Context, pool *pgxpool.Pool, keys ...string) ([]Outcome, error) {
	conn, err := pool.Acquire(ctx)
	if err != nil {
		return nil, err
	}
	defer conn.Release()
	if _, err := conn.Exec(ctx, "LISTEN "+outcomeChannel); err != nil {
		return nil, fmt.Errorf("listen for outcomes: %w", err)
	}
	defer func() { _, _ = conn.Exec(context.WithoutCancel(ctx), "UNLISTEN *") }()

	var outcomes []Outcome
	for {
		latest, err := Outcomes(ctx, conn, keys...)
		if err != nil {
			if ctx.Err() != nil {
				return outcomes, ctx.Err()
			}
			return outcomes, err
		}
		outcomes = latest
		if missing := firstMissing(keys, outcomes); missing != nil {
			return outcomes, fmt.Errorf("%w: no request has the key %q", ErrUnknown, *missing)
		}
		if settled(outcomes) {
			return outcomes, nil
		}
		wait, cancel := context.WithTimeout(ctx, waitPoll)
		_, err = conn.Conn().WaitForNotification(wait)
		cancel()
		switch {
		case ctx.Err() != nil:
			return outcomes, ctx.Err()
		case err != nil && wait.Err() == nil:
			return outcomes, fmt.Errorf("wait for outcomes: %w", err)
		}
	}
}

func firstMissing(keys []string, outcomes []Outcome) *string {
	found := make(map[string]bool, len(outcomes))
	for i := range outcomes {
		found[outcomes[i].Key] = true
	}
	for i := range keys {
		if !found[keys[i]] {
			return &keys[i]
		}
	}
	return nil
}

func settled(outcomes []Outcome) bool {
	for i := range outcomes {
		if outcomes[i].Status == Pending {
			return false
		}
	}
	return true
}

// Retry asks for a failed request once more, under its key, inside the caller's transaction: its job becomes available
// again, as River's own retry would make it. A pending request is left as it is. Anything else is an [ErrInvalid], a
// key that was never used, or whose job River has removed meanwhile, an [ErrUnknown].
func Retry(ctx context.Context, tx pgx.Tx, key string) (Receipt, error) {
	var r Receipt
	err := tx.QueryRow(ctx, `SELECT r.key, r.kind, r.status, r.duplicate FROM lastseat.retry($1) r`, key).
		Scan(&r.Key, &r.Kind, &r.Status, &r.Duplicate)
	if err != nil {
		return Receipt{}, ContractError(err)
	}
	return r, nil
}
