package outbox

import (
	"encoding/json"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/riverqueue/river"
	"github.com/riverqueue/river/rivertype"
)

// A failed attempt is what River would make of an error or a panic: an entry in the job's errors, one attempt used
// up, and the time of the next one; after the last attempt the job is discarded and its request is failed.

// attemptError is what River would append to river_job.errors.
func (c *claimed) attemptError(message, trace string) rivertype.AttemptError {
	return rivertype.AttemptError{At: c.now.UTC(), Attempt: c.Attempt, Error: storable(message), Trace: storable(trace)}
}

// last tells whether this attempt is the job's last.
func (c *claimed) last() bool { return c.Attempt >= c.MaxAttempts }

// queueCharge writes the failed attempt of a job that is known to have failed in an earlier batch.
func (b *batch) queueCharge(c *claimed) {
	if b.charged.unwritable != nil {
		b.queueDiscard(c, b.charged)
		return
	}
	b.queueAttempt(c, b.charged.err)
}

const (
	countAttemptSQL = `UPDATE lastseat.requests SET attempts = @attempts WHERE key = @key AND status = 'pending'`

	exhaustedSQL = `
	UPDATE lastseat.requests
	SET status = 'failed', code = @code, detail = @detail::jsonb, attempts = @attempts, ordering = @ordering,
	    settled_at = now()
	WHERE key = @key AND status = 'pending'
	RETURNING kind, fingerprint, job_id, requested_at, detail::text, settled_at`
)

// queueAttempt writes all that a failed attempt changes: the job's row and its request's.
func (b *batch) queueAttempt(c *claimed, err error) {
	b.queueFailure(c, c.attemptError(err.Error(), traceOf(err)), c.last())
	if c.last() {
		b.queueExhausted(c, CodeRetriesExhausted, map[string]string{"error": storable(err.Error())})
		return
	}
	b.write.Queue(countAttemptSQL, pgx.NamedArgs{"key": c.Key, "attempts": c.Attempt})
}

func (b *batch) queueExhausted(c *claimed, code string, detail map[string]string) {
	encoded, _ := json.Marshal(detail) // a map of strings can't fail
	b.write.Queue(exhaustedSQL, pgx.NamedArgs{
		"key": c.Key, "code": code, "detail": string(encoded), "attempts": c.Attempt, "ordering": c.ordering,
	}).Query(func(rows pgx.Rows) error { return b.noteExhausted(c, code, rows) })
}

const failSQL = `
	UPDATE lastseat.river_job
	SET state = @state::text::lastseat.river_job_state, attempt = least(attempt::int + 1, 32767), attempted_at = now(),
	    attempted_by = CASE WHEN coalesce(array_ndims(attempted_by), 1) = 1
	                        THEN array_append(attempted_by, @worker::text) ELSE ARRAY[@worker::text] END,
	    errors = CASE WHEN coalesce(array_ndims(errors), 1) = 1
	                  THEN array_append(errors, @error::jsonb) ELSE ARRAY[@error::jsonb] END,
	    scheduled_at = CASE WHEN @state::text = 'discarded' THEN scheduled_at ELSE now() + @delay::interval END,
	    finalized_at = CASE WHEN @state::text = 'discarded' THEN clock_timestamp() END
	WHERE ctid = @row::tid`

// riverScheduler is the interval of River's scheduler. A retry that is due sooner is made available at once, with its
// time in the future, because the scheduler would be late; River does the same.
const riverScheduler = 5 * time.Second

// queueFailure writes the job's row as River would: River UI and River's clients read it.
func (b *batch) queueFailure(c *claimed, failure rivertype.AttemptError, discard bool) {
	encoded, _ := json.Marshal(failure) // a struct of strings, a number and a time can't fail
	state, delay := rivertype.JobStateDiscarded, time.Duration(0)
	if !discard {
		state, delay = rivertype.JobStateRetryable, nextRetry(c)
		if delay <= riverScheduler {
			state = rivertype.JobStateAvailable
		}
	}
	b.write.Queue(failSQL, pgx.NamedArgs{
		"row": c.row, "state": string(state), "worker": b.settings.ID, "error": string(encoded), "delay": delay,
	}).Exec(ExpectRows(1))
}

// nextRetry is how long River's own policy has a job wait. It is a duration because the database's clock counts.
func nextRetry(c *claimed) time.Duration {
	policy := &river.DefaultClientRetryPolicy{}
	row := &rivertype.JobRow{ID: c.ID, Attempt: c.Attempt, Errors: make([]rivertype.AttemptError, c.errorCount)}
	return time.Until(policy.NextRetry(row))
}

const discardSQL = `UPDATE lastseat.river_job SET state = 'discarded', finalized_at = now() WHERE ctid = $1::tid`

// queueDiscard discards a job whose row can't take a failed attempt. The request says what there is to say.
func (b *batch) queueDiscard(c *claimed, why *culprit) {
	b.write.Queue(discardSQL, c.row)
	b.queueExhausted(c, CodeRetriesExhausted, map[string]string{
		"error": storable(why.err.Error()), "unrecorded": storable(why.unwritable.Error()),
	})
}

// storable replaces what a Postgres text can't hold.
func storable(text string) string {
	return strings.ReplaceAll(strings.ToValidUTF8(text, "\uFFFD"), "\x00", "\uFFFD")
}
