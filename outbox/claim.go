package outbox

import (
	"context"
	"slices"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/lastseat/lastseat/internal/faultpoint"
)

// claimed is a job that the lane has locked, with what is known of its request.
type claimed struct {
	Job        // if the job has no usable key, Key names the job itself, so that its outcome can be found
	usableKey  bool
	row        string // the ctid of its row in river_job, which can't change while it is locked
	createdAt  time.Time
	errorCount int       // entries in river_job.errors
	ordering   *string   // the argument by which its kind is ordered; nil: there is none, or none that can be kept
	now        time.Time // of the transaction, by the database's clock
	request    request
	fate       fate
	waits      *Row // that it waits for; nil: it does not

	traceparent string // of who asked for it; empty: not known, or nobody wants to know

	called bool          // its request has called, or may have
	call   *lastCall     // of its request; nil: there is none
	step   callStep      // of a job that is under way
	wait   time.Duration // before that step

	// Of a job that is not its request's own:
	size        int    // of its arguments without the key, in bytes
	fingerprint []byte // of its arguments
}

// request is the row of requests that has the job's key, if there is one.
type request struct {
	jobID       int64 // 0: there is none
	status      Status
	fingerprint []byte
	spelled     []byte // SHA-256 of the arguments as they were asked for; see asAsked
	requestedAt *time.Time
}

// fate is what is to become of a claimed job.
type fate int

const (
	settle    fate = iota // its settler decides
	invalid               // rejected: it has no usable key, or is too large
	duplicate             // finished without effect: another job or an earlier run settles its request
	changed               // failed: its arguments are no longer those that were asked for
	misuse                // discarded with an error: its key belongs to a request with other arguments
	postponed             // left alone: another transaction is asking for its key right now
	probe                 // finished without effect: it asks whether the lane settles, see [ProbeKind]
	charge                // a failed attempt, for what it did in an earlier batch
	underway              // its request's call has no answer yet
)

// claimSQL reads the priorities one after the other, each from where it begins, until it has enough jobs. It looks up
// each job's request by its key. OFFSET 0 leaves the planner no other way: from a plain join it makes a walk through
// all of requests_pkey where statistics say that the table is empty. A key of the worker's own is usable by the job
// that a request was made with under it, and by no other. It may be longer than others: it holds an id of up to 200
// characters.
const (
	claimSQL = `
	WITH claimed AS MATERIALIZED (
		SELECT j.row, j.id, j.kind, j.args, j.attempt, j.max_attempts,
		       CASE WHEN isfinite(j.created_at) THEN j.created_at ELSE now() END AS created_at,
		       coalesce(cardinality(j.errors), 0) AS error_count, j.priority, j.scheduled_at, k.usable,
		       j.metadata ? '` + calledMark + `' AS called,
		       CASE WHEN k.usable THEN j.args ->> 'key' ELSE 'river_job:' || j.id END AS key
		FROM ` + rangesSQL + `, LATERAL (
			SELECT j.ctid AS row, j.* FROM lastseat.river_job j WHERE ` + waitingSQL
	claimOrderSQL = `
			ORDER BY j.scheduled_at, j.id LIMIT @limit FOR UPDATE SKIP LOCKED) j,
		     LATERAL (SELECT coalesce(jsonb_typeof(j.args -> 'key') = 'string'
		                     AND NOT starts_with(j.args ->> 'key', 'river_job:')
		                     AND CASE WHEN starts_with(j.args ->> 'key', 'lastseat:')
		                         THEN EXISTS (SELECT FROM lastseat.requests q
		                                      WHERE q.key = j.args ->> 'key' AND q.job_id = j.id AND j.id > 0)
		                         ELSE char_length(j.args ->> 'key') BETWEEN 1 AND 200 END
		                     AND (j.args ->> 'key' !~ '[^!-~]' OR lastseat.name_fault(j.args ->> 'key') IS NULL),
		                     false)) AS k(usable)
		WHERE NOT EXISTS (SELECT FROM lastseat.river_queue q WHERE q.name = @queue AND q.paused_at IS NOT NULL)
		  AND ` + oursSQL + `
		LIMIT @limit
	)
	SELECT c.row::text, c.id, c.kind, c.args, c.attempt, c.max_attempts,
	       CASE WHEN isfinite(c.scheduled_at) THEN c.scheduled_at ELSE now() END,
	       c.created_at, c.error_count, c.key, c.usable, now(),
	       coalesce(r.job_id, 0), coalesce(r.status, ''), r.fingerprint, r.spelled,
	       r.requested_at, c.called,
	       CASE WHEN r.job_id = c.id THEN NULL ELSE lastseat.fingerprint(c.kind, c.args) END,
	       CASE WHEN r.job_id = c.id OR NOT c.usable THEN 0 ELSE octet_length((c.args - 'key')::text) END,
	       (SELECT a FROM (VALUES (c.args ->> nullif(@orders::jsonb ->> c.kind, ''))) AS o(a) WHERE char_length(a) <= 200)
	FROM claimed c
	LEFT JOIN LATERAL (
		SELECT q.job_id, q.status, q.fingerprint, coalesce(q.spelled, q.fingerprint) AS spelled, q.requested_at
		FROM lastseat.requests q WHERE q.key = c.key OFFSET 0
	) r ON true
	ORDER BY c.priority, c.scheduled_at, c.id`
)

// claimError is an error of a claim.
type claimError struct{ err error }

func (e *claimError) Error() string { return "claim: " + e.err.Error() }
func (e *claimError) Unwrap() error { return e.err }

// mostBytes is how much of arguments a batch takes into memory. What comes after that is left to the next batch.
const mostBytes = 16 << 20

// claim locks up to limit jobs of the lane, in order. Jobs that another session has locked are left out.
func (b *batch) claim(ctx context.Context, limit int) error {
	claim := &pgx.Batch{}
	b.queueClaim(claim, limit)
	return b.tx.SendBatch(ctx, claim).Close()
}

// queueClaim is claim as a part of a round trip.
func (b *batch) queueClaim(write *pgx.Batch, limit int) {
	order := claimOrderSQL
	if faultpoint.Sabotaged(faultpoint.Unordered) {
		order = strings.NewReplacer("c.priority, ", "c.id % 3, ", "ORDER BY j.", "ORDER BY j.id % 3, j.").Replace(order)
	}
	sql := claimSQL + b.filterSQL() + order
	if faultpoint.Sabotaged(faultpoint.NoLane) {
		sql = strings.Replace(sql, oursSQL, "true", 1)
	}
	if b.settings.Tracer != nil {
		sql = traced.Replace(sql)
	}
	write.Queue(sql, b.bound.args(b.args(limit))).Query(func(rows pgx.Rows) error {
		if err := b.read(rows); err != nil {
			return &claimError{err}
		}
		return nil
	})
}

// read takes in what was claimed.
func (b *batch) read(rows pgx.Rows) (err error) {
	bytes, kept := 0, 0
	b.jobs, err = pgx.CollectRows(rows, func(row pgx.CollectableRow) (*claimed, error) {
		c := &claimed{}
		if bytes > mostBytes {
			return c, nil // read past the rest
		}
		into := []any{&c.row, &c.ID, &c.Kind, (*[]byte)(&c.Args), &c.Attempt, &c.MaxAttempts, &c.At,
			&c.createdAt, &c.errorCount, &c.Key, &c.usableKey, &c.now,
			&c.request.jobID, &c.request.status, &c.request.fingerprint, &c.request.spelled, &c.request.requestedAt,
			&c.called, &c.traceparent, &c.fingerprint, &c.size, &c.ordering}
		if b.settings.Tracer == nil {
			into = slices.Delete(into, len(into)-4, len(into)-3)
		}
		err := row.Scan(into...)
		c.Attempt++
		if bytes += len(c.Args); bytes <= mostBytes || bytes == len(c.Args) {
			kept++
		}
		return c, err
	})
	if err != nil {
		return err
	}
	if kept < len(b.jobs) {
		b.shorten(kept)
	}
	return nil
}
