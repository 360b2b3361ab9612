package doctor

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/lastseat/lastseat/internal/quote"
	"github.com/lastseat/lastseat/internal/retry"
	"github.com/lastseat/lastseat/outbox"
)

// mostCounted is how many due jobs of a queue are counted, and how many of the first ones are divided among the lanes.
const mostCounted = 10000

// queue is what waits in a queue.
type queue struct {
	Name     string
	Due      int        // at most mostCounted + 1
	Oldest   *time.Time // since when the oldest of them is due
	Paused   *time.Time
	Reported *time.Time // when a River client last said that it works the queue
	Worked   bool       // lanes have worked it
	Now      time.Time
}

// queuesSQL steps along River's fetching index from one queue to the next, and to the oldest jobs of each priority. It
// reads few rows however many there are, and is not misled by statistics. Jobs of kinds that the lanes' holders lack
// are not theirs to settle: a lane that passes them by stands still for nobody, and checkKinds names them.
const queuesSQL = `
	WITH RECURSIVE found(queue) AS (
		(SELECT j.queue FROM lastseat.river_job j WHERE j.state = 'available' ORDER BY j.queue LIMIT 1)
		UNION ALL
		SELECT (SELECT j.queue FROM lastseat.river_job j WHERE j.state = 'available' AND j.queue > f.queue
		        ORDER BY j.queue LIMIT 1)
		FROM found f WHERE f.queue IS NOT NULL
	), names(name) AS (
		SELECT f.queue COLLATE "C" FROM found f WHERE f.queue IS NOT NULL
		UNION SELECT l.queue FROM lastseat.lanes l
		UNION SELECT '` + outbox.Queue + `'
	)
	SELECT n.name, least(d.due, ` + mostCountedSQL + `), d.oldest,
	       q.paused_at, q.updated_at, EXISTS (SELECT FROM lastseat.lanes l WHERE l.queue = n.name), clock_timestamp()
	FROM names n LEFT JOIN lastseat.river_queue q ON q.name = n.name COLLATE "default",
	     LATERAL (SELECT array_agg(k.kind) AS kinds
	              FROM lastseat.lanes l, jsonb_object_keys(l.kinds) k(kind) WHERE l.queue = n.name) settled,
	     LATERAL (
	        SELECT count(*) AS due, min(first.scheduled_at) AS oldest FROM generate_series(1, 4) p, LATERAL (
	           SELECT j.kind, ` + finiteSQL + ` AS scheduled_at
	           FROM lastseat.river_job j
	           WHERE j.state = 'available' AND j.queue = n.name COLLATE "default" AND j.priority = p
	             AND j.scheduled_at <= now() AND j.kind <> '` + outbox.ProbeKind + `'
	           ORDER BY j.scheduled_at, j.id LIMIT ` + mostCountedSQL + `) first
	        WHERE settled.kinds IS NULL OR first.kind = ANY (settled.kinds)) d
	ORDER BY n.name`

// finiteSQL is a time that Go can read, whatever another client has written.
const finiteSQL = `CASE WHEN isfinite(j.scheduled_at) THEN j.scheduled_at
	                        WHEN isfinite(j.created_at) THEN j.created_at ELSE now() END`

const mostCountedSQL = `10001` // mostCounted + 1

// checkQueues looks how long the oldest due request of every queue and lane has waited, and whether anything was
// settled meanwhile.
var checkQueues = check{"queues", func(ctx context.Context, e *exam) ([]Finding, error) {
	all, err := e.judgeQueues(ctx)
	if err != nil {
		return nil, err
	}
	if slices.ContainsFunc(all, func(one judged) bool { return one.lane != nil }) {
		// Many requests may have come with one commit just now, asked for long ago. The lane gets as long as any other.
		if all, err = e.lookAgain(ctx, all); err != nil {
			return nil, err
		}
	}
	var found, good []Finding
	for _, one := range all {
		if one.finding.Severity == OK {
			good = append(good, one.finding)
			continue
		}
		if one.lane != nil {
			e.stalled = append(e.stalled, *one.lane)
			sessions, err := e.sessions(ctx, one.lane.PID)
			if err != nil {
				return nil, err
			}
			one.finding.Told += " (" + e.describe(sessions[one.lane.PID]) + ")"
		}
		found = append(found, one.finding)
	}
	if len(found) == 0 {
		found = good
	}
	return found, nil
}}

// judgeQueues reads what waits and who settles, and judges it.
func (e *exam) judgeQueues(ctx context.Context) (all []judged, err error) {
	if e.lanes, err = read[lane](ctx, e, lanesSQL); err != nil {
		return nil, err
	}
	if e.queues, err = read[queue](ctx, e, queuesSQL); err != nil {
		return nil, err
	}
	for _, q := range e.queues {
		oldest, err := e.oldestByLane(ctx, q)
		if err != nil {
			return nil, err
		}
		all = append(all, judgeQueue(q, e.lanesOf(q.Name), oldest, e.Patience)...)
	}
	return all, nil
}

// lookAgain gives lanes that seem to stand still as long as patience has it to settle something.
func (e *exam) lookAgain(ctx context.Context, all []judged) ([]judged, error) {
	for began := time.Now(); time.Since(began) < e.Patience; {
		if err := retry.Sleep(ctx, min(e.Patience/4, time.Second)); err != nil {
			return nil, err
		}
		var err error
		if all, err = e.judgeQueues(ctx); err != nil {
			return nil, err
		}
		if !slices.ContainsFunc(all, func(one judged) bool { return one.lane != nil }) {
			break
		}
	}
	return all, nil
}

func (e *exam) lanesOf(name string) (lanes []lane) {
	for _, l := range e.lanes {
		if l.Queue == name {
			lanes = append(lanes, l)
		}
	}
	return lanes
}

// byLaneSQL divides the first due jobs of a queue among its lanes, as the lanes do.
const byLaneSQL = `
	WITH split AS MATERIALIZED (
		SELECT l.lanes, l.kinds FROM lastseat.lanes l WHERE l.queue = $1 AND l.lane = 0
	), heads AS MATERIALIZED (
		SELECT h.* FROM generate_series(1, 4) p, LATERAL (
			SELECT j.kind, j.args, ` + finiteSQL + ` AS scheduled_at FROM lastseat.river_job j
			WHERE j.state = 'available' AND j.queue = $1 AND j.priority = p AND j.scheduled_at <= now()
			  AND j.kind <> '` + outbox.ProbeKind + `'
			ORDER BY j.scheduled_at, j.id LIMIT 2000) h
	)
	SELECT abs(hashtextextended(coalesce(h.args ->> (s.kinds ->> h.kind), h.args ->> 'key', ''), 0) % s.lanes)::int,
	       min(h.scheduled_at)
	FROM heads h, split s WHERE s.kinds IS NULL OR s.kinds ? h.kind GROUP BY 1`

type laneAge struct {
	Lane   int
	Oldest time.Time
}

// oldestByLane is since when the oldest job of each lane is due. A lane that has none is left out, or none among the
// first ones of a long queue.
func (e *exam) oldestByLane(ctx context.Context, q queue) (map[int]time.Time, error) {
	oldest := make(map[int]time.Time)
	lanes := e.lanesOf(q.Name)
	switch {
	case q.Oldest == nil || len(lanes) == 0:
		return oldest, nil
	case len(lanes) == 1:
		oldest[0] = *q.Oldest
		return oldest, nil
	}
	rows, err := read[laneAge](ctx, e, byLaneSQL, q.Name)
	for _, row := range rows {
		oldest[row.Lane] = row.Oldest
	}
	return oldest, err
}

// judged is a finding, and the lane that it says stands still; nil: none.
type judged struct {
	finding Finding
	lane    *lane
}

func judgeQueue(q queue, lanes []lane, oldest map[int]time.Time, patience time.Duration) (found []judged) {
	waited := time.Duration(0)
	if q.Oldest != nil {
		waited = q.Now.Sub(*q.Oldest)
	}
	due := fmt.Sprintf("%d due", q.Due)
	if q.Due > mostCounted {
		due = fmt.Sprintf("more than %d due", mostCounted)
	}
	name := "the queue " + q.Name
	switch {
	case q.Paused != nil && (q.Worked || q.Due > 0 || q.Name == outbox.Queue):
		do := "worker resume"
		if q.Name != outbox.Queue {
			do += " --queue " + quote.Word(q.Name)
		}
		return []judged{{finding: wrong(do, "%s is paused: %s since %s", name, due, q.Paused.UTC().Format(time.RFC3339))}}
	case !q.Worked && q.Due > 0 && waited > patience:
		return []judged{{finding: unworked(q, name, due, waited)}}
	}
	for _, l := range lanes {
		if at, waits := oldest[l.Number]; waits && l.Now.Sub(at) >= patience {
			found = append(found, judgeLane(q, l, due, l.Now.Sub(at), patience)...)
		}
	}
	if len(found) == 0 {
		found = append(found, judged{finding: ok("%s: %s, the oldest for %s", name, due, span(waited))})
	}
	return found
}

// judgeLane is about a lane whose oldest due job has waited for longer than patience.
func judgeLane(q queue, l lane, due string, waited, patience time.Duration) []judged {
	switch {
	case !l.Lives && q.Name != outbox.Queue && l.Holder == "":
		return []judged{{finding: wrong("start the queue's worker",
			"no worker holds %v: %s, the oldest for %s", l, due, span(waited))}}
	case !l.Lives: // checkLanes has said so
		return nil
	case l.since() > patience:
		return []judged{{finding: stalled(l, fmt.Sprintf("%s, the oldest for %s, and it has settled nothing for %s",
			due, span(waited), span(l.since()))), lane: &l}}
	}
	return []judged{{finding: warning("", "%v is behind: %s, the oldest for %s; it settled something %s ago",
		l, due, span(waited), span(l.since()))}}
}

// stalled is the finding about a lane that is held and does not settle.
func stalled(l lane, told string) Finding {
	return wrong(fmt.Sprintf("end the worker %s, or its session: %s; another one then takes over. By itself that takes "+
		"half a minute in a batch, and a minute between two (docs/operations.md)", l.worker(), end(l.PID)),
		"the holder of %v is frozen, cut off or held up: %s", l, told)
}

// callQueues begin the names of the queues of calls.
var callQueues = strings.TrimSuffix(outbox.CallQueue("x"), "x")

// unworked is the finding about a queue that has no lane. River's own clients may work it.
func unworked(q queue, name, due string, waited time.Duration) Finding {
	told := fmt.Sprintf("%s: %s, the oldest for %s", name, due, span(waited))
	switch {
	case q.Name == outbox.UpkeepQueue:
		return warning("restart the workers", "River's part of the workers does not work: %s", told)
	case strings.HasPrefix(q.Name, callQueues):
		return wrong("start a worker that can call whom it is for; worker explain KEY names them. Cancelling its jobs only "+
			"makes new ones", "no worker works %s", told)
	case q.Reported != nil && q.Now.Sub(*q.Reported) < 15*time.Minute:
		return warning("look at that client's log", "a River client that works %s is behind", told)
	}
	return wrong("start a worker of that queue (outbox.Settings.Queue), or cancel what was put there",
		"no worker works %s", told)
}
