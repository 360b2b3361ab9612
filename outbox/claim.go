package outbox

import (
	"context"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/riverqueue/river/rivertype"
)

// claimed is a job that the lane has locked, with what is known of its request.
type claimed struct {
	Job         // without a usable key, Key names the job itself, so that its outcome can be found
	usableKey   bool
	createdAt   time.Time
	errorCount  int       // entries in river_job.errors
	now         time.Time // the transaction's, by the database's clock
	size        int       // of the arguments of a job that is not its request's own, in bytes, its key left out
	fingerprint []byte    // of a job that is not its request's own; nil for one that is
	request     request
	fate        fate
}

// request is the row of requests that has the job's key, if there is one.
type request struct {
	jobID       int64 // 0: there is none
	status      Status
	fingerprint []byte
}

// fate is what is to become of a claimed job.
type fate int

const (
	settle    fate = iota // to its settler
	invalid               // rejected: it has no usable key, or is too large
	duplicate             // its request is, or is being, settled by another job or an earlier run: finished without effect
	misuse                // its key belongs to a request with other arguments: discarded, with an error
	unknown               // of a kind that this worker does not have: a failed attempt
	postponed             // somebody is just about to ask for its key: left alone
)

const (
	claimSQL = `
	WITH claimed AS MATERIALIZED (
		SELECT j.id, j.kind, j.args, j.attempt, j.max_attempts, CASE WHEN isfinite(j.created_at) THEN j.created_at ELSE now() END AS created_at, coalesce(cardinality(j.errors), 0) AS error_count,
		       j.priority, j.scheduled_at, k.usable, CASE WHEN k.usable THEN j.args ->> 'key' ELSE 'river_job:' || j.id END AS key
		FROM lastseat.river_job j, LATERAL (SELECT coalesce(jsonb_typeof(j.args -> 'key') = 'string' AND char_length(j.args ->> 'key') BETWEEN 1 AND 200 AND NOT starts_with(j.args ->> 'key', 'river_job:') AND NOT starts_with(j.args ->> 'key', 'lastseat:'), false)) AS k(usable)
		WHERE j.state = 'available' AND j.queue = @queue AND j.scheduled_at <= now()
		  AND NOT EXISTS (SELECT FROM lastseat.river_queue q WHERE q.name = @queue AND q.paused_at IS NOT NULL)`
	laneFilterSQL = `
		  AND abs(hashtextextended(coalesce(j.args ->> (
		        SELECT o.arg FROM unnest(@kinds::text[], @order_by::text[]) AS o(kind, arg) WHERE o.kind = j.kind
		      ), j.args ->> 'key', ''), 0) % @lanes) = @lane`
	claimOrderSQL = `
		ORDER BY j.priority, j.scheduled_at, j.id
		LIMIT @limit
		FOR UPDATE OF j SKIP LOCKED
	)
	SELECT c.id, c.kind, c.args, c.attempt, c.max_attempts, CASE WHEN isfinite(c.scheduled_at) THEN c.scheduled_at ELSE now() END, c.created_at, c.error_count, c.key, c.usable, now(),
	       coalesce(r.job_id, 0), coalesce(r.status, ''), r.fingerprint,
	       CASE WHEN r.job_id = c.id THEN NULL ELSE lastseat.fingerprint(c.kind, c.args) END,
	       CASE WHEN r.job_id = c.id OR NOT c.usable THEN 0 ELSE octet_length((c.args - 'key')::text) END
	FROM claimed c
	LEFT JOIN lastseat.requests r ON r.key = c.key
	ORDER BY c.priority, c.scheduled_at, c.id`
)

func (l *lane) claimSQL() string {
	if l.settings.Lanes > 1 {
		return claimSQL + laneFilterSQL + claimOrderSQL
	}
	return claimSQL + claimOrderSQL
}

func (l *lane) claimArgs(limit int) pgx.NamedArgs {
	args := pgx.NamedArgs{"queue": l.settings.Queue, "limit": limit}
	if l.settings.Lanes > 1 {
		var kinds, orderBy []string
		for name, registered := range l.kinds.byName {
			kinds, orderBy = append(kinds, name), append(orderBy, registered.kind.OrderBy)
		}
		args["kinds"], args["order_by"], args["lanes"], args["lane"] = kinds, orderBy, l.settings.Lanes, l.number
	}
	return args
}

// claim locks up to limit jobs of the lane, in order, and decides what is to become of each.
func (l *lane) claim(ctx context.Context, tx pgx.Tx, limit int) ([]*claimed, error) {
	rows, err := tx.Query(ctx, l.claimSQL(), l.claimArgs(limit))
	if err != nil {
		return nil, fmt.Errorf("claim: %w", err)
	}
	jobs, err := pgx.CollectRows(rows, func(row pgx.CollectableRow) (*claimed, error) {
		c := &claimed{}
		err := row.Scan(&c.ID, &c.Kind, &c.Args, &c.Attempt, &c.MaxAttempts, &c.At, &c.createdAt, &c.errorCount, &c.Key, &c.usableKey, &c.now,
			&c.request.jobID, &c.request.status, &c.request.fingerprint, &c.fingerprint, &c.size)
		c.Attempt++
		return c, err
	})
	if err != nil {
		return nil, fmt.Errorf("claim: %w", err)
	}
	return jobs, l.admit(ctx, tx, jobs)
}

// attemptError is what River would write into river_job.errors.
func (c *claimed) attemptError(message, trace string) rivertype.AttemptError {
	return rivertype.AttemptError{At: c.now.UTC(), Attempt: c.Attempt, Error: storable(message), Trace: storable(trace)}
}
