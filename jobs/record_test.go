package jobs_test

import (
	"fmt"
	"testing"

	"github.com/lastseat/lastseat/outbox"
)

// What the worker records of itself, nobody can ask for: a job of such a kind that bypassed the SQL functions is
// invalid at its first attempt, and the audit holds.
func TestNobodyAsksForARecord(t *testing.T) {
	t.Parallel()
	pool := newPool(t)
	for _, kind := range []string{"payment.expire", "reservation.expire", "reservation.grant"} {
		exec(t, pool, `INSERT INTO lastseat.river_job (kind, args, queue, max_attempts)
			VALUES ($1, jsonb_build_object('key', $1::text, 'payment', 'p', 'reservation', 'r'), 'lastseat', 25)`, kind)
		_, err := pool.Exec(t.Context(), fmt.Sprintf(`SELECT lastseat.enqueue('%s', 'asked', '{"payment": "p"}')`, kind))
		if err == nil {
			t.Errorf("%s can be asked for", kind)
		}
	}
	drain(t, pool, outbox.Settings{})
	for _, kind := range []string{"payment.expire", "reservation.expire", "reservation.grant"} {
		if got := outcome(t, pool, kind); got.Status != outbox.Rejected || got.Code != outbox.CodeInvalidArgs {
			t.Errorf("%s: %+v, want rejected as invalid_args", kind, got)
		}
	}
	proven(t, pool)
}
