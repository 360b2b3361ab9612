package outbox

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/riverqueue/river"
	"github.com/riverqueue/river/rivertype"
)

// riverScheduler is the interval of River's scheduler. A retry that is due sooner is made available at once, with its
// time in the future, because the scheduler would be late; River does the same.
const riverScheduler = 5 * time.Second

const (
	failSQL = `
	UPDATE lastseat.river_job
	SET state = @state::text::lastseat.river_job_state, attempt = least(attempt::int + 1, 32767), attempted_at = now(),
	    attempted_by = CASE WHEN coalesce(array_ndims(attempted_by), 1) = 1 THEN array_append(attempted_by, @worker::text) ELSE ARRAY[@worker::text] END,
	    errors = CASE WHEN coalesce(array_ndims(errors), 1) = 1 THEN array_append(errors, @error::jsonb) ELSE ARRAY[@error::jsonb] END,
	    scheduled_at = CASE WHEN @state::text = 'discarded' THEN scheduled_at ELSE now() + @delay::interval END,
	    finalized_at = CASE WHEN @state::text = 'discarded' THEN clock_timestamp() END
	WHERE id = @id`

	countAttemptSQL = `UPDATE lastseat.requests SET attempts = @attempts WHERE key = @key AND status = 'pending'`

	exhaustedSQL = `
	UPDATE lastseat.requests
	SET status = 'failed', code = @code, detail = @detail::jsonb, attempts = @attempts, settled_at = now()
	WHERE key = @key AND status = 'pending'`
)

// fail gives a job that stands alone what River would give it for an error or a panic: an entry in errors, an attempt
// used, and the time of its next one, or discarded after the last, with the outcome failed.
//
// recorded: it had its turn. Else it was taken away, or something with a higher priority has come before it.
func (l *lane) fail(ctx context.Context, failed *batchError) (recorded bool, err error) {
	tx, err := l.begin(ctx)
	if err != nil {
		return false, err
	}
	defer func() { _ = tx.Rollback(context.WithoutCancel(ctx)) }()
	jobs, err := l.claim(ctx, tx, 1)
	if err != nil || len(jobs) == 0 || jobs[0].ID != failed.jobs[0].ID {
		return false, err
	}
	job := jobs[0]
	write := &pgx.Batch{}
	l.queueAttempt(write, job, failed.Error(), failed.trace)
	write.Queue("SELECT pg_notify($1, $2)", outcomeChannel, l.settings.Queue)
	if err := tx.SendBatch(ctx, write).Close(); err != nil {
		return false, fmt.Errorf("record a failed attempt: %w", err)
	}
	if err := Commit(ctx, tx); err != nil {
		return false, fmt.Errorf("commit: %w", err)
	}
	l.stats.failures.Add(1)
	l.logFailure(ctx, job, failed)
	return true, nil
}

func (l *lane) logFailure(ctx context.Context, job *claimed, err error) {
	l.log.WarnContext(ctx, "job failed", slog.Int64("job_id", job.ID), slog.String("kind", job.Kind), slog.String("key", job.Key),
		slog.Int("attempt", job.Attempt), slog.Bool("discarded", job.last()), slog.String("error", err.Error()))
}

// last tells whether this attempt is the job's last.
func (c *claimed) last() bool { return c.Attempt >= c.MaxAttempts }

// queueAttempt queues all that a failed attempt leaves behind: the job's row, and its request's.
func (l *lane) queueAttempt(write *pgx.Batch, job *claimed, message, trace string) {
	last := job.last()
	l.queueFailure(write, job, job.attemptError(message, trace), last)
	if !last {
		write.Queue(countAttemptSQL, pgx.NamedArgs{"key": job.Key, "attempts": job.Attempt})
		return
	}
	detail, _ := json.Marshal(map[string]string{"error": storable(message)}) // text: it can't fail
	write.Queue(exhaustedSQL, pgx.NamedArgs{"key": job.Key, "code": CodeRetriesExhausted, "detail": string(detail), "attempts": job.Attempt})
}

// queueFailure queues what River would write: River UI and River's clients read these rows.
func (l *lane) queueFailure(write *pgx.Batch, job *claimed, failure rivertype.AttemptError, discard bool) {
	encoded, _ := json.Marshal(failure) // a struct of strings, a number and a time: it can't fail
	state, delay := rivertype.JobStateDiscarded, time.Duration(0)
	if !discard {
		state, delay = rivertype.JobStateRetryable, nextRetry(job)
		if delay <= riverScheduler {
			state = rivertype.JobStateAvailable
		}
	}
	write.Queue(failSQL, pgx.NamedArgs{
		"id": job.ID, "state": string(state), "worker": l.settings.ID, "error": string(encoded), "delay": delay,
	}).Exec(ExpectRows(1))
}

// nextRetry is how long River's own policy has a job wait. As a duration: the database's clock is the one that counts.
func nextRetry(job *claimed) time.Duration {
	policy := &river.DefaultClientRetryPolicy{}
	row := &rivertype.JobRow{ID: job.ID, Attempt: job.Attempt, Errors: make([]rivertype.AttemptError, job.errorCount)}
	return time.Until(policy.NextRetry(row))
}

const giveUpSQL = `UPDATE lastseat.river_job SET state = 'discarded', finalized_at = now() WHERE id = $1`

// giveUp discards a job whose failure can't be recorded, with what can be said of it in its request.
func (l *lane) giveUp(ctx context.Context, failed *batchError, cause error) error {
	job := failed.jobs[0]
	detail, _ := json.Marshal(map[string]string{"error": storable(failed.Error()), "unrecorded": storable(cause.Error())})
	batch := &pgx.Batch{}
	batch.Queue(giveUpSQL, job.ID)
	batch.Queue(exhaustedSQL, pgx.NamedArgs{"key": job.Key, "code": CodeRetriesExhausted, "detail": string(detail), "attempts": job.Attempt})
	if err := l.conn.SendBatch(ctx, batch).Close(); err != nil { // one implicit transaction
		return fmt.Errorf("give up job %d: %w", job.ID, err)
	}
	l.log.ErrorContext(ctx, "job discarded: its failure can't be recorded", slog.Int64("job_id", job.ID), slog.String("key", job.Key), slog.String("error", cause.Error()))
	return nil
}
