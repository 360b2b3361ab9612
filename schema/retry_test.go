package schema_test

import (
	"testing"

	"github.com/jackc/pgx/v5"
)

// breakRequest makes of a waiting request a failed one, as the worker leaves it: its job is discarded after the last
// attempt, or cancelled.
func breakRequest(t *testing.T, db querier, key, state string) {
	t.Helper()
	if state == "cancelled" {
		exec(t, db, `UPDATE lastseat.river_job SET state = 'cancelled', finalized_at = now() WHERE args ->> 'key' = $1`, key)
		return
	}
	// as the lane does it, in whose session the trigger for jobs that others discard keeps still
	exec(t, db, `WITH lane AS MATERIALIZED (SELECT set_config('lastseat.lane', 'on', true))
		UPDATE lastseat.river_job SET state = 'discarded', attempt = max_attempts, finalized_at = now() FROM lane
		  WHERE args ->> 'key' = $1`, key)
	exec(t, db, `UPDATE lastseat.requests SET status = 'failed', code = 'retries_exhausted', detail = '{"error": "x"}',
		attempts = 25, settled_at = now()
		WHERE key = $1`, key)
}

func TestRetry(t *testing.T) {
	t.Parallel()
	for _, state := range []string{"discarded", "cancelled"} {
		t.Run(state, func(t *testing.T) {
			t.Parallel()
			pool := migrated(t)
			producer := connect(t, pool, "lastseat_producer")
			mustAsk(t, producer, `enqueue('toy', 'k', '{"a": 1}')`)
			mustAsk(t, producer, `enqueue('toy', 'other', '{"a": 1}')`)
			breakRequest(t, pool, "k", state)
			if got := mustAsk(t, producer, `enqueue('toy', 'k', '{"a": 1}')`); got != (receipt{"k", "toy", "failed", true}) {
				t.Errorf("asked for again: %v", got)
			}
			if got := mustAsk(t, producer, `retry('k')`); got != (receipt{"k", "toy", "pending", false}) {
				t.Errorf("retry: %v", got)
			}
			ok := scalar[bool](t, pool, `SELECT r.status = 'pending' AND r.code IS NULL AND r.detail IS NULL
				AND r.settled_at IS NULL
				  AND j.state = 'available' AND j.finalized_at IS NULL AND j.attempt < j.max_attempts
				    AND j.scheduled_at <= clock_timestamp()
				  AND j.scheduled_at > (SELECT scheduled_at FROM lastseat.river_job WHERE args ->> 'key' = 'other')
				    AND j.args = '{"a": 1, "key": "k"}'
				FROM lastseat.requests r JOIN lastseat.river_job j ON j.id = r.job_id WHERE r.key = 'k'`)
			if !ok {
				t.Error("the job is not as one that waits, behind the others")
			}
			if attempts := scalar[int](t, pool,
				`SELECT max_attempts FROM lastseat.river_job WHERE args ->> 'key' = 'k'`); attempts != map[string]int{"discarded": 26, "cancelled": 25}[state] {
				t.Errorf("the job has %d attempts", attempts)
			}
			if got := mustAsk(t, producer, `retry('k')`); got != (receipt{"k", "toy", "pending", true}) {
				t.Errorf("retry of a pending request: %v", got)
			}
			if n := scalar[int](t, pool, `SELECT count(*) FROM lastseat.river_job`); n != 2 {
				t.Errorf("%d jobs", n)
			}
		})
	}
}

func TestRetryRefuses(t *testing.T) {
	t.Parallel()
	pool := migrated(t)
	for _, key := range []string{"applied", "rejected", "gone", "finished"} {
		mustAsk(t, pool, `enqueue('toy', $1, '{}')`, key)
	}
	for _, key := range []string{"applied", "rejected"} {
		exec(t, pool, `UPDATE lastseat.requests SET status = $1, code = 'some_code', settled_at = now() WHERE key = $1`, key)
	}
	breakRequest(t, pool, "gone", "discarded")
	exec(t, pool, `DELETE FROM lastseat.river_job WHERE args ->> 'key' = 'gone'`)
	breakRequest(t, pool, "finished", "discarded")
	exec(t, pool, `UPDATE lastseat.river_job SET state = 'completed' WHERE args ->> 'key' = 'finished'`)
	for key, want := range map[string][]string{
		"applied": {"LS002", `"applied" is applied (some_code)`}, "rejected": {"LS002", `"rejected" is rejected`},
		"unknown": {"LS003", `"unknown"`}, "gone": {"LS003", `"gone" is gone`}, "finished": {"LS003", `"finished"`},
	} {
		_, err := ask(t, pool, `retry($1)`, key)
		wantContract(t, err, want[0], want[1:]...)
	}
	if n := scalar[int](t, pool, `SELECT count(*) FROM lastseat.requests WHERE status = 'pending'`); n != 0 {
		t.Errorf("%d requests were opened again", n)
	}
}

// Whatever way a job was going to be run, cancelling it settles its request.
func TestCancelledJobFailsItsRequest(t *testing.T) {
	t.Parallel()
	for _, state := range []string{"available", "scheduled", "retryable", "pending", "running"} {
		t.Run(state, func(t *testing.T) {
			t.Parallel()
			pool := migrated(t)
			mustAsk(t, pool, `enqueue('toy', 'k', '{}')`)
			mustAsk(t, pool, `enqueue('toy', 'other', '{}')`)
			exec(t, pool, `UPDATE lastseat.river_job SET state = $1::lastseat.river_job_state WHERE args ->> 'key' = 'k'`, state)
			worker := connect(t, pool, "lastseat_worker")
			exec(t, worker, `UPDATE lastseat.river_job SET state = 'cancelled', finalized_at = now() WHERE args ->> 'key' = 'k'`)
			if !scalar[bool](t, pool, `SELECT status = 'failed' AND code = 'job_cancelled' AND settled_at IS NOT NULL
				FROM lastseat.outcome('k')`) {
				t.Error("the request of the cancelled job has not failed")
			}
			if status := scalar[string](t, pool, `SELECT status FROM lastseat.outcome('other')`); status != "pending" {
				t.Errorf("the other request is %s", status)
			}
			exec(t, worker, `DELETE FROM lastseat.river_job WHERE args ->> 'key' = 'k'`) // River UI's next button
		})
	}
}

func TestWaitingJobCannotBeDeleted(t *testing.T) {
	t.Parallel()
	pool := migrated(t)
	worker := connect(t, pool, "lastseat_worker")
	mustAsk(t, pool, `enqueue('toy', 'k', '{}')`)
	for _, state := range []string{"available", "scheduled", "retryable", "pending", "running"} {
		exec(t, pool, `UPDATE lastseat.river_job SET state = $1::lastseat.river_job_state`, state)
		for _, conn := range []querier{worker, pool} {
			_, err := conn.Exec(t.Context(), `DELETE FROM lastseat.river_job`)
			wantRefusal(t, err, integrity, `pending request "k"`)
			if pgError(t, err).Hint == "" {
				t.Error("no HINT")
			}
		}
	}
	trial(t, pool, func(tx pgx.Tx) { // the lane says who it is
		exec(t, tx, `SET LOCAL lastseat.lane = 'on'; DELETE FROM lastseat.river_job`)
	})
	trial(t, pool, func(tx pgx.Tx) { // settled: its job is nobody's any more
		exec(t, tx, `UPDATE lastseat.requests SET status = 'applied', code = 'played', settled_at = now(); DELETE
			FROM lastseat.river_job`)
	})
	for _, state := range []string{"discarded", "cancelled"} {
		trial(t, pool, func(tx pgx.Tx) {
			breakRequest(t, tx, "k", state)
			exec(t, tx, `DELETE FROM lastseat.river_job`)
		})
	}
	exec(t, pool, `UPDATE lastseat.river_job SET state = 'completed', finalized_at = now()`)
	exec(t, worker, `DELETE FROM lastseat.river_job`)
	// a job that came past lastseat.enqueue has no request that would be lost
	exec(t, pool, `INSERT INTO lastseat.river_job (kind, queue, max_attempts, args)
		VALUES ('toy', 'lastseat', 25, '{"key": "raw"}'), ('toy', 'lastseat', 25, '{}')`)
	exec(t, worker, `DELETE FROM lastseat.river_job`)
}

func TestTruncateOfJobsIsRefused(t *testing.T) {
	t.Parallel()
	pool := migrated(t)
	mustAsk(t, pool, `enqueue('toy', 'k', '{}')`)
	if _, err := pool.Exec(t.Context(), `TRUNCATE lastseat.river_job`); err == nil {
		t.Error("TRUNCATE took the job of a pending request")
	}
}
