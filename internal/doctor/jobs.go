package doctor

import (
	"fmt"
	"time"

	"github.com/lastseat/lastseat/outbox"
)

// headsSQL are the first jobs of every queue that are due in $1::text[] of states, 2,000 of each state and priority at
// most.
const headsSQL = `
	WITH RECURSIVE found(state, queue) AS (
		SELECT s.state, (SELECT j.queue FROM lastseat.river_job j WHERE j.state = s.state ORDER BY j.queue LIMIT 1)
		FROM unnest('{%s}'::lastseat.river_job_state[]) AS s(state)
		UNION ALL
		SELECT f.state, (SELECT j.queue FROM lastseat.river_job j WHERE j.state = f.state AND j.queue > f.queue
		                 ORDER BY j.queue LIMIT 1)
		FROM found f WHERE f.queue IS NOT NULL
	), heads AS MATERIALIZED (
		SELECT h.* FROM found f, generate_series(1, 4) p, LATERAL (
			SELECT j.* FROM lastseat.river_job j
			WHERE j.state = f.state AND j.queue = f.queue AND j.priority = p AND j.kind <> '` + outbox.ProbeKind + `' AND %s
			ORDER BY j.scheduled_at, j.id LIMIT 2000) h
		WHERE f.queue IS NOT NULL
	)`

func heads(states, condition string) string { return fmt.Sprintf(headsSQL, states, condition) }

// unknownKind is a kind that the holder of a queue's lanes does not have.
type unknownKind struct {
	Queue, Kind string
	Jobs        int
	Since       time.Time // when the first of them was asked for
	Now         time.Time
}

// checkKinds looks for requests of a kind that no worker has. They wait, or use up their attempts.
var checkKinds = look("kinds", heads("available,retryable,scheduled",
	"(j.state <> 'scheduled' OR j.scheduled_at <= now())")+`
	SELECT h.queue, h.kind, count(*), coalesce(min(h.created_at) FILTER (WHERE isfinite(h.created_at)), now()),
	       clock_timestamp()
	FROM heads h
	WHERE EXISTS (SELECT FROM lastseat.lanes l WHERE l.queue = h.queue COLLATE "C" AND l.kinds IS NOT NULL)
	  AND NOT EXISTS (SELECT FROM lastseat.lanes l WHERE l.queue = h.queue COLLATE "C" AND l.kinds ? h.kind)
	GROUP BY 1, 2 ORDER BY 1, 2`,
	func(e *exam, rows []unknownKind) []Finding { return judgeKinds(rows, e.Patience) })

func judgeKinds(rows []unknownKind, patience time.Duration) (found []Finding) {
	for _, k := range rows {
		waited := k.Now.Sub(k.Since)
		do := "start a worker that registers the kind, or cancel these jobs"
		told := fmt.Sprintf("no worker of the queue %s has the kind %s: %d jobs of it wait, the first for %s", k.Queue,
			k.Kind, k.Jobs, span(waited))
		if waited > patience {
			found = append(found, wrong(do, "%s", told))
		} else {
			found = append(found, warning(do, "%s", told))
		}
	}
	if len(found) == 0 {
		found = append(found, ok("every kind that waits has a worker"))
	}
	return found
}

// overdue is what should have been made available by now.
type overdue struct {
	Queue  string
	Jobs   int
	Ours   int // of these: those that a lane makes available itself
	Since  time.Time
	Lanes  bool   // the queue has lanes
	Odd    *int64 // a job that River can't read
	OddBy  string
	Leader string // the client that should do it; empty: none
	Now    time.Time
}

// checkScheduled looks for scheduled jobs and retries whose time has come. A lane makes those of its queue available
// itself, each second. Those with a unique key, and those of other queues, are River's: its scheduler reads whole rows,
// and one row that it can't read stops it for all queues of the schema.
var checkScheduled = look("scheduled", heads("scheduled,retryable", "j.scheduled_at <= now()")+`
	, odd AS (
		SELECT h.id, CASE WHEN array_position(h.tags, NULL) IS NOT NULL OR array_ndims(h.tags) > 1 THEN 'tags'
		                  WHEN array_position(h.errors, NULL) IS NOT NULL OR array_ndims(h.errors) > 1 THEN 'errors'
		                  WHEN array_position(h.attempted_by, NULL) IS NOT NULL OR array_ndims(h.attempted_by) > 1
		                  THEN 'attempted_by'
		                  WHEN NOT isfinite(h.scheduled_at) THEN 'scheduled_at'
		                  WHEN NOT isfinite(h.created_at) THEN 'created_at'
		                  WHEN NOT isfinite(h.attempted_at) THEN 'attempted_at' END AS in_column
		FROM heads h
	), first AS (SELECT o.id, o.in_column FROM odd o WHERE o.in_column IS NOT NULL ORDER BY o.id LIMIT 1)
	SELECT h.queue, count(*), count(*) FILTER (WHERE h.unique_key IS NULL),
	       coalesce(min(h.scheduled_at) FILTER (WHERE isfinite(h.scheduled_at)),
	         min(h.created_at) FILTER (WHERE isfinite(h.created_at)), now()),
	       h.queue = '`+outbox.Queue+`'
	         OR EXISTS (SELECT FROM lastseat.lanes l WHERE l.queue = h.queue COLLATE "C"), f.id, coalesce(f.in_column, ''),
	       coalesce((SELECT r.leader_id FROM lastseat.river_leader r WHERE r.expires_at > now() LIMIT 1), ''),
	       clock_timestamp()
	FROM heads h LEFT JOIN first f ON true
	GROUP BY h.queue, f.id, f.in_column ORDER BY h.queue`,
	func(e *exam, rows []overdue) []Finding { return judgeOverdue(rows, e.Patience) })

func judgeOverdue(rows []overdue, patience time.Duration) (found []Finding) {
	for _, o := range rows {
		late := o.Now.Sub(o.Since)
		if late < patience {
			continue
		}
		told := fmt.Sprintf("%d scheduled jobs or retries of the queue %s are overdue, the first for %s", o.Jobs, o.Queue,
			span(late))
		switch {
		case o.Lanes && o.Ours > 0:
			found = append(found, wrong("see what is said of the lane", "%s: no lane makes them available", told))
		case o.Odd != nil:
			found = append(found, wrong(fmt.Sprintf("UPDATE lastseat.river_job SET %s = ... WHERE id = %d; or DELETE it, if it "+
				"carries no request", o.OddBy, *o.Odd), "%s: River's scheduler can't read job %d (its %s)", told, *o.Odd, o.OddBy))
		case o.Leader == "":
			found = append(found, wrong("restart the workers", "%s: no River client leads, so nobody schedules them", told))
		default:
			found = append(found, wrong("restart the client "+o.Leader+" and look at its log",
				"%s: River's scheduler, which %s should run, does not get on", told, o.Leader))
		}
	}
	if len(found) == 0 {
		found = append(found, ok("nothing that was scheduled is overdue"))
	}
	return found
}

// postponed are jobs of pending requests that are scheduled for a year ahead or more.
type postponed struct {
	Queue string
	Jobs  int // at most 2,000 of each state and priority
	Key   string
	ID    int64
	At    string
}

// checkPostponed looks for requests that are put off for so long that hardly anybody has asked for it. A worker's login
// may change when a job is due, as River does after a failed attempt, and no record says for when it was asked.
var checkPostponed = look("postponed", heads("scheduled,retryable", "j.scheduled_at > now() + interval '1 year'")+`
	SELECT DISTINCT ON (h.queue) h.queue, count(*) OVER (PARTITION BY h.queue),
	       coalesce(h.args ->> 'key', 'river_job:' || h.id), h.id, h.scheduled_at::text
	FROM heads h ORDER BY h.queue, h.scheduled_at DESC, h.id`,
	func(_ *exam, rows []postponed) []Finding { return judgePostponed(rows) })

func judgePostponed(rows []postponed) (found []Finding) {
	for _, p := range rows {
		found = append(found, warning(
			fmt.Sprintf("if nobody asked for that: UPDATE lastseat.river_job SET scheduled_at = now() WHERE id = %d", p.ID),
			"%d requests of the queue %s are scheduled for more than a year from now: %q for %s", p.Jobs, p.Queue,
			p.Key, p.At))
	}
	if len(found) == 0 {
		found = append(found, ok("nothing is scheduled for more than a year from now"))
	}
	return found
}

// failed is what has become of jobs that were given up on.
type failed struct {
	Discarded int // within the last day, at most mostFailed + 1
	Last      string
	Retrying  int // wait for another attempt after an error, at most 8000
	LastRetry string
}

const mostFailed = 1000

// checkFailed looks for requests that fail. They are being dealt with; somebody should know all the same. Of the jobs
// that are due, it looks at the first ones: hardly one of a long backlog has an error.
var checkFailed = look("failed", heads("available,retryable", "true")+`
	, tried AS MATERIALIZED (SELECT h.* FROM heads h WHERE cardinality(h.errors) > 0), discarded AS MATERIALIZED (
		SELECT j.id, j.kind, j.errors, j.finalized_at FROM lastseat.river_job j
		WHERE j.state = 'discarded' AND j.finalized_at > now() - interval '1 day'
		ORDER BY j.finalized_at DESC LIMIT 1001
	)
	SELECT (SELECT count(*) FROM discarded),
	       coalesce((SELECT concat_ws(': ', d.kind, d.errors[cardinality(d.errors)] ->> 'error')
	                 FROM discarded d ORDER BY d.finalized_at DESC LIMIT 1), ''),
	       (SELECT count(*) FROM tried),
	       coalesce((SELECT concat_ws(': ', h.kind, h.errors[cardinality(h.errors)] ->> 'error')
	                 FROM tried h ORDER BY h.attempted_at DESC LIMIT 1), '')`,
	func(_ *exam, rows []failed) []Finding { return judgeFailed(rows[0]) })

func judgeFailed(f failed) (found []Finding) {
	if f.Discarded > 0 {
		count := fmt.Sprint(f.Discarded)
		if f.Discarded > mostFailed {
			count = fmt.Sprintf("more than %d", mostFailed)
		}
		found = append(found, warning("mend the cause, then enqueue retry KEY; enqueue outcome KEY has the error",
			"%s requests were given up on within a day, the last of %s", count, f.Last))
	}
	if f.Retrying > 0 {
		found = append(found, warning("mend the cause: the next attempt comes by itself",
			"%d wait for another attempt after an error, the last of %s", f.Retrying, f.LastRetry))
	}
	if len(found) == 0 {
		found = append(found, ok("nothing was given up on within a day"))
	}
	return found
}
