// Package retry holds what the packages outbox and txn share about trying a transaction again.
package retry

import (
	"context"
	"errors"
	"math/rand/v2"
	"time"

	"github.com/jackc/pgx/v5/pgconn"
)

// SQLState returns the SQLSTATE of err; "" if err did not come from the database.
func SQLState(err error) string {
	pgErr := (*pgconn.PgError)(nil)
	if errors.As(err, &pgErr) {
		return pgErr.Code
	}
	return ""
}

// Conflict tells whether a transaction ran into another one: a serialization failure or a deadlock. Nothing is
// wrong with either of the two, and the same work may simply be done again in a new transaction.
func Conflict(err error) bool {
	code := SQLState(err)
	return code == "40001" || code == "40P01"
}

// Jitter returns a random duration between 0 and limit. Full jitter spreads out sessions that ran into each other: see
// "Exponential Backoff And Jitter" of the AWS Architecture Blog.
func Jitter(limit time.Duration) time.Duration { return rand.N(limit + 1) }

// Sleep waits for d. If ctx ends first, Sleep returns at once with ctx's error.
func Sleep(ctx context.Context, d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-timer.C:
		return nil
	}
}
