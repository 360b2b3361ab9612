package outbox

import (
	"encoding/json"
	"fmt"

	"github.com/jackc/pgx/v5"

	"github.com/lastseat/lastseat/internal/faultpoint"
	"github.com/lastseat/lastseat/internal/jsonsafe"
)

// finish queues the outcomes of the requests and the end of their jobs.
func (b *batch) finish() error {
	var settled outcomeRows
	var done, probes []string // rows of river_job
	var calls callRows
	for i, c := range b.jobs {
		result := b.results[i]
		switch {
		case c.fate == postponed:
		case c.fate == charge:
			b.queueCharge(c)
		case c.fate == underway:
			calls.add(b, c)
		case c.fate == changed:
			const reason = "the job's arguments are not those that were asked for"
			b.queueFailure(c, c.attemptError(reason, ""), true)
			b.queueExhausted(c, CodeArgsChanged, map[string]string{"error": reason})
		case c.fate == misuse:
			reason := fmt.Sprintf("key %q was used for another request (LS001)", c.Key)
			b.queueFailure(c, c.attemptError(reason, ""), true)
		case c.fate == probe:
			probes = append(probes, c.row)
		case c.fate == duplicate:
			done = append(done, c.row)
		case result.err != nil && faultpoint.Sabotaged(faultpoint.Blameless):
			return result.err
		case result.err != nil:
			b.queueAttempt(c, result.err)
		case result.unsettled():
			calls.leave(c, result)
		default:
			if err := settled.add(c, result); err != nil {
				return err
			}
			b.noteOutcome(c, result, settled.details[len(settled.details)-1])
			done = append(done, c.row)
			calls.end(c)
		}
	}
	b.queueCalls(calls)
	b.queueOutcomes(settled)
	b.queueDone(done)
	b.queueProbes(probes)
	b.bell.queue(b.write, b.settings.Queue)
	return nil
}

// outcomeRows are the columns of outcomeSQL.
type outcomeRows struct {
	keys, statuses, codes []string
	details               []*string // JSON
	orderings             []*string
	attempts              []int
}

func (o *outcomeRows) add(c *claimed, result Result) error {
	if !result.valid() {
		return fmt.Errorf("the settler of %s returned status %q, code %q", c.Kind, result.Status, result.Code)
	}
	detail, err := encodeDetail(result.Detail)
	if err != nil {
		return fmt.Errorf("%s: %w", c.Kind, err)
	}
	o.keys, o.statuses = append(o.keys, c.Key), append(o.statuses, string(result.Status))
	o.codes, o.details = append(o.codes, result.Code), append(o.details, detail)
	o.attempts, o.orderings = append(o.attempts, c.Attempt), append(o.orderings, c.ordering)
	return nil
}

// encodeDetail writes integers that JavaScript would round as text.
func encodeDetail(detail any) (text *string, err error) {
	if detail == nil {
		return nil, nil
	}
	defer recovered(&err)
	encoded, err := json.Marshal(detail)
	if err != nil {
		return nil, fmt.Errorf("encode the detail: %w", err)
	}
	return new(string(jsonsafe.Numbers(encoded))), nil
}

// outcomeSQL finds each request by its key and updates the row at that place, in whatever order: the place in the batch
// is written down, for outcome_log. A plain join on the key would be a walk through the whole index where statistics
// say that the table is empty.
const outcomeSQL = `
	WITH o AS MATERIALIZED (
		SELECT o.*, (SELECT q.ctid FROM lastseat.requests q WHERE q.key = o.key) AS row
		FROM unnest(@keys::text[], @statuses::text[], @codes::text[], @details::text[], @attempts::int[],
		            @orderings::text[])
		     WITH ORDINALITY AS o(key, status, code, detail, attempts, ordering, place))
	UPDATE lastseat.requests r
	SET status = o.status, code = o.code, detail = o.detail::jsonb, attempts = o.attempts, place = o.place,
	    ordering = o.ordering, settled_at = now()
	FROM o
	WHERE r.ctid = o.row AND r.status = 'pending'`

func (b *batch) queueOutcomes(o outcomeRows) {
	if len(o.keys) == 0 {
		return
	}
	b.write.Queue(outcomeSQL, pgx.NamedArgs{
		"keys": o.keys, "statuses": o.statuses, "codes": o.codes, "details": o.details, "attempts": o.attempts,
		"orderings": o.orderings,
	}).Exec(ExpectRows(len(o.keys)))
}

const (
	deleteSQL = `DELETE FROM lastseat.river_job WHERE ctid = ANY (@rows::text[]::tid[])`

	// A job that is kept shows its outcome where River shows what a job returns: to River one whose request was refused
	// is completed like any other.
	completeSQL = `
	UPDATE lastseat.river_job j
	SET state = 'completed', attempt = least(attempt::int + 1, 32767), attempted_at = now(),
	    attempted_by = CASE WHEN coalesce(array_ndims(attempted_by), 1) = 1
	                        THEN array_append(attempted_by, @worker::text) ELSE ARRAY[@worker::text] END,
	    finalized_at = clock_timestamp(),
	    metadata = CASE WHEN jsonb_typeof(j.metadata) = 'object' THEN j.metadata ELSE '{}' END || coalesce(
	        (SELECT jsonb_build_object('output',
	             jsonb_build_object('status', q.status, 'code', q.code, 'detail', q.detail))
	         FROM lastseat.requests q WHERE q.key = coalesce(j.args ->> 'key', 'river_job:' || j.id)), '{}')
	WHERE j.ctid = ANY (@rows::text[]::tid[])`
)

// queueDone ends jobs that are done with: they are deleted, or kept as completed for a while. It finds them at their
// place in the table, since river_job has two indexes with the id in them, and one of them is walked from end to end if
// the planner picks it.
func (b *batch) queueDone(rows []string) {
	if len(rows) == 0 {
		return
	}
	sql, args := deleteSQL, pgx.NamedArgs{"rows": rows}
	if b.settings.KeepCompleted > 0 {
		sql, args["worker"] = completeSQL, b.settings.ID
	}
	b.write.Queue(sql, args).Exec(ExpectRows(len(rows)))
}
