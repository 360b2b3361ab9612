package inspect

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/lastseat/lastseat/internal/quote"
	"github.com/lastseat/lastseat/outbox"
)

// Explanation is why a request is where it is.
type Explanation struct {
	Key       string          `json:"key"`
	Kind      string          `json:"kind"`
	Status    outbox.Status   `json:"status"`
	Code      string          `json:"code,omitempty"`
	Detail    json.RawMessage `json:"detail,omitempty"`
	Requested time.Time       `json:"requested_at"`
	Settled   *time.Time      `json:"settled_at,omitempty"`
	Reasons   []string        `json:"reasons"` // sentences, the one that weighs most first

	Job   *Job     `json:"job,omitempty"`   // nil: it is gone
	Ahead int      `json:"ahead"`           // jobs of the queue that are due and come first, as far as they were counted
	Lanes []Lane   `json:"lanes,omitempty"` // of its queue, while it is pending
	Locks []Locked `json:"locks,omitempty"` // rows that it needs, and another session has locked
	Call  *Call    `json:"call,omitempty"`  // nil: none is open

	now    time.Time
	bounds Bounds
}

// Job is the job of a request, as River has it.
type Job struct {
	ID          int64           `json:"id"`
	State       string          `json:"state"`
	Queue       string          `json:"queue"`
	Attempt     int             `json:"attempt"`
	MaxAttempts int             `json:"max_attempts"`
	ScheduledAt time.Time       `json:"scheduled_at"`
	Errors      []string        `json:"errors,omitempty"` // of its attempts, in order
	Args        json.RawMessage `json:"args,omitempty"`   // what was asked for

	priority int
}

// Lane is a lane of a queue, and who holds it.
type Lane struct {
	Queue       string     `json:"queue"`
	Lane        int        `json:"lane"`
	Lanes       int        `json:"lanes"`
	PID         *int       `json:"pid"` // of Postgres's process; nil: nobody holds it
	Since       *time.Time `json:"since,omitempty"`
	Application string     `json:"application,omitempty"`
	Address     string     `json:"address,omitempty"`
	State       string     `json:"state,omitempty"`
	Paused      *time.Time `json:"paused_at,omitempty"` // since when its queue is paused
}

// Call is the open call of a request: what it has asked for outside the database.
type Call struct {
	Target    string     `json:"target"`
	Operation string     `json:"operation"`
	Attempt   int        `json:"attempt"`
	Since     time.Time  `json:"since"`
	FirstSent *time.Time `json:"first_sent_at"` // nil: nothing was sent yet
	Error     string     `json:"last_error,omitempty"`
}

// Locked is a row that a session has locked.
type Locked struct {
	Row         string `json:"row"`
	PID         int    `json:"pid"`
	Role        string `json:"role"`
	Application string `json:"application"`
	State       string `json:"state"`
	Since       string `json:"since"` // how long its transaction has been open
}

// ErrNoRequest says that no request has the key.
var ErrNoRequest = errors.New("no request has the key")

// ErrRemoved is an [ErrNoRequest]: the key has moved money, and its request is no longer kept.
var ErrRemoved = fmt.Errorf("%w any more: it has moved money, and its request is no longer kept", ErrNoRequest)

const (
	requestSQL = `
	SELECT r.kind, r.status, coalesce(r.code, ''), r.detail, r.requested_at, r.settled_at, r.job_id, now()
	FROM lastseat.requests r WHERE r.key = $1`
	jobSQL = `
	SELECT j.id, j.state::text, j.queue, j.attempt, j.max_attempts, j.scheduled_at, j.args, j.priority,
	       ARRAY(SELECT coalesce(e ->> 'error', e::text) FROM unnest(j.errors) WITH ORDINALITY AS u(e, n)
	             WHERE e IS NOT NULL ORDER BY n)
	FROM lastseat.river_job j WHERE j.id = $1`
	callSQL = `
	SELECT c.target, c.operation, c.attempt, c.created_at, c.first_sent_at, coalesce(c.last_error, '')
	FROM lastseat.calls c WHERE c.key = $1 AND c.ended_at IS NULL`
	// A job that was inserted directly has no request until it is settled.
	rawJobSQL = `
	SELECT j.id, j.kind, j.created_at, now() FROM (SELECT * FROM lastseat.river_job ORDER BY id DESC LIMIT $2) j
	WHERE j.args ->> 'key' = $1 AND j.state NOT IN ('completed', 'cancelled', 'discarded') ORDER BY j.id LIMIT 1`
	removedSQL = `
	SELECT EXISTS (SELECT FROM lastseat.removed_ids i WHERE i.what = 'transfers' AND i.id = $1)
	    OR EXISTS (SELECT FROM lastseat.transfers t WHERE t.key = $1)`
	aheadSQL = `
	SELECT count(*) FROM (
		SELECT FROM lastseat.river_job j WHERE j.state = 'available' AND j.queue = $1 AND j.scheduled_at <= now()
		  AND (j.priority, j.scheduled_at, j.id) < ($2::smallint, $3::timestamptz, $4::bigint) LIMIT $5) ahead`
)

// Bounds of what is read of the jobs that wait.
type Bounds struct {
	Ahead int // of those that come first, so many are counted
	Jobs  int // a job that was inserted directly is looked for among so many, the newest

	HideArgs bool // neither the arguments are told, nor what may repeat them: errors, and which rows are locked
}

func noRequest(ctx context.Context, tx pgx.Tx, key string) error {
	var removed bool
	if err := tx.QueryRow(ctx, removedSQL, key).Scan(&removed); err != nil {
		return fmt.Errorf("look for the key's transfer: %w", err)
	}
	if removed {
		return ErrRemoved
	}
	return ErrNoRequest
}

// Explain tells why the request with this key waits, or what became of it.
func Explain(ctx context.Context, db db, key string, bounds Bounds) (e Explanation, err error) {
	err = read(ctx, db, func(tx pgx.Tx) error {
		e = Explanation{Key: key, bounds: bounds}
		var jobID int64
		err := tx.QueryRow(ctx, requestSQL, key).Scan(&e.Kind, &e.Status, &e.Code, (*[]byte)(&e.Detail), &e.Requested,
			&e.Settled, &jobID, &e.now)
		if errors.Is(err, pgx.ErrNoRows) {
			e.Status = outbox.Pending
			err = tx.QueryRow(ctx, rawJobSQL, key, bounds.Jobs).Scan(&jobID, &e.Kind, &e.Requested, &e.now)
		}
		switch {
		case errors.Is(err, pgx.ErrNoRows):
			return noRequest(ctx, tx, key)
		case err != nil:
			return fmt.Errorf("read the request: %w", err)
		}
		if err := e.readJob(ctx, tx, jobID); err != nil {
			return err
		}
		if e.Status == outbox.Pending && e.Job != nil {
			if err := e.readWait(ctx, tx); err != nil {
				return err
			}
		}
		e.Requested = e.Requested.UTC()
		if bounds.HideArgs {
			e.hideArgs()
		}
		e.reason()
		return nil
	})
	return e, err
}

// hideArgs hides what may repeat the arguments.
func (e *Explanation) hideArgs() {
	const hidden = "(hidden)"
	for i, locked := range e.Locks {
		table, _, _ := strings.Cut(locked.Row, " ")
		e.Locks[i].Row = "a row of " + table
	}
	if e.Job != nil {
		e.Job.Args = nil
		for i := range e.Job.Errors {
			e.Job.Errors[i] = hidden
		}
	}
	if e.Call != nil && e.Call.Error != "" {
		e.Call.Error = hidden
	}
}

func (e *Explanation) readJob(ctx context.Context, tx pgx.Tx, id int64) error {
	job := &Job{}
	err := tx.QueryRow(ctx, jobSQL, id).Scan(&job.ID, &job.State, &job.Queue, &job.Attempt, &job.MaxAttempts,
		&job.ScheduledAt, (*[]byte)(&job.Args), &job.priority, &job.Errors)
	switch {
	case errors.Is(err, pgx.ErrNoRows):
		return nil
	case err != nil:
		return fmt.Errorf("read the job: %w", err)
	}
	job.ScheduledAt = job.ScheduledAt.UTC()
	e.Job = job
	return nil
}

// readWait reads what a pending request may wait for.
func (e *Explanation) readWait(ctx context.Context, tx pgx.Tx) (err error) {
	if e.Lanes, err = lanes(ctx, tx, e.Job.Queue); err != nil {
		return err
	}
	err = tx.QueryRow(ctx, aheadSQL, e.Job.Queue, e.Job.priority, e.Job.ScheduledAt, e.Job.ID, e.bounds.Ahead).
		Scan(&e.Ahead)
	if err != nil {
		return fmt.Errorf("count what comes first: %w", err)
	}
	if e.Locks, err = locks(ctx, tx, e.Job.Args); err != nil {
		return err
	}
	call := &Call{}
	err = tx.QueryRow(ctx, callSQL, e.Key).
		Scan(&call.Target, &call.Operation, &call.Attempt, &call.Since, &call.FirstSent, &call.Error)
	switch {
	case errors.Is(err, pgx.ErrNoRows):
		return nil
	case err != nil:
		return fmt.Errorf("read the call: %w", err)
	}
	e.Call = call
	return nil
}

// reason says what it all means.
func (e *Explanation) reason() {
	say := func(format string, args ...any) { e.Reasons = append(e.Reasons, fmt.Sprintf(format, args...)) }
	switch {
	case e.Settled != nil:
		say("It was settled at %s, %s after it was asked for: %s, %s.", e.Settled.UTC().Format(time.RFC3339),
			short(e.Settled.Sub(e.Requested)), e.Status, e.Code)
		switch e.Status {
		case outbox.Rejected:
			say("A rejected request stays rejected: ask again with a new key.")
		case outbox.Failed:
			say("To run it again under the same key: enqueue retry %s", quote.Word(e.Key))
		}
	case e.Job == nil:
		say("Its job is gone, so no worker will settle it: worker audit says what else is missing.")
	default:
		e.reasonOfJob(say)
	}
	if e.Job != nil && len(e.Job.Errors) > 0 {
		say("Attempt %d of %d failed: %s", len(e.Job.Errors), e.Job.MaxAttempts, e.Job.Errors[len(e.Job.Errors)-1])
	}
}

func (e *Explanation) reasonOfJob(say func(format string, args ...any)) {
	job := e.Job
	in := job.ScheduledAt.Sub(e.now)
	switch {
	case e.Call != nil:
		e.reasonOfCall(say)
	case job.State == "cancelled" || job.State == "discarded":
		say("Its job was %s: the next batch settles it as failed.", job.State)
	case job.State == "running":
		say("Another River client has taken its job, which no lane of ours does.")
	case job.State == "retryable" && in > 0:
		say("It failed, and is tried again at %s, in %s.", job.ScheduledAt.Format(time.RFC3339), short(in))
	case in > 0:
		say("It is scheduled for %s, in %s.", job.ScheduledAt.Format(time.RFC3339), short(in))
	}
	if len(e.Lanes) > 0 && e.Lanes[0].Paused != nil {
		say("The queue %s has been paused since %s: worker resume goes on.", job.Queue,
			e.Lanes[0].Paused.UTC().Format(time.RFC3339))
	}
	e.reasonOfLanes(say)
	for _, locked := range e.Locks {
		say("It needs %s, which process %d (%s, %s, %s for %s) has locked.", locked.Row, locked.PID, locked.Role,
			locked.Application, locked.State, locked.Since)
	}
	if e.Ahead > 0 && e.Ahead == e.bounds.Ahead {
		say("Requests of its queue that come first: %d or more.", e.Ahead)
	} else if e.Ahead > 0 {
		say("Requests of its queue that come first: %d.", e.Ahead)
	}
	if len(e.Reasons) == 0 {
		say("It is next: a lane settles it at once, unless its kind is one that the worker does not have.")
	}
}

// reasonOfCall says how far the request's call is.
func (e *Explanation) reasonOfCall(say func(format string, args ...any)) {
	c := e.Call
	if c.FirstSent == nil {
		say("Since %s it is to ask %s (%s), and nothing was sent yet: a worker has to have that target.",
			c.Since.UTC().Format(time.RFC3339), c.Target, c.Operation)
	} else {
		say("%s was asked (%s) first at %s; this is attempt %d, and the answer is not here yet.", c.Target, c.Operation,
			c.FirstSent.UTC().Format(time.RFC3339), c.Attempt)
	}
	if c.Error != "" {
		say("What went wrong last: %s", c.Error)
	}
}

// reasonOfLanes says which lanes of the job's queue nobody holds.
func (e *Explanation) reasonOfLanes(say func(format string, args ...any)) {
	held := 0
	for _, lane := range e.Lanes {
		if lane.PID != nil {
			held++
		}
	}
	switch {
	case len(e.Lanes) == 0:
		say("No worker has ever had the queue %s: worker run.", e.Job.Queue)
	case held < e.Lanes[0].Lanes:
		say("No worker holds %d of the %d lanes of its queue: worker run.", e.Lanes[0].Lanes-held, e.Lanes[0].Lanes)
	}
}

// short is a duration for people.
func short(d time.Duration) string {
	if d < time.Second {
		return d.Round(time.Millisecond).String()
	}
	return d.Round(time.Second).String()
}
