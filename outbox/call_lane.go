package outbox

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"strconv"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgtype"
)

// The lane's part of a call (docs/decisions/019-calls.md). The job of a request that has called sleeps: it is scheduled
// for a time at which somebody has to look after the call. The answer wakes it.

// CallTimes are the times of calls.
type CallTimes struct {
	// Watch is how long after an attempt is due the lane looks whether its job is still there; default 2 minutes. An
	// attempt that has run for so long has lost its process.
	Watch time.Duration
	Pause time.Duration // before the second attempt, doubled each time; default 1 s
	// Longest is the longest pause before an attempt, however many there were; default 10 minutes.
	Longest time.Duration
	Poll    time.Duration // how often a caller looks for work; default 100 ms
}

func (c CallTimes) withDefaults() CallTimes {
	orDefault(&c.Watch, 2*CallTimeout)
	orDefault(&c.Pause, time.Second)
	orDefault(&c.Longest, 10*time.Minute)
	orDefault(&c.Poll, 100*time.Millisecond)
	return c
}

// callKey is the idempotency key of a request's call.
func callKey(key string, step int) string {
	sum := sha256.Sum256([]byte("lastseat " + strconv.Itoa(step) + " " + key))
	return hex.EncodeToString(sum[:])
}

// lastCall is the last call of a request.
type lastCall struct {
	step, attempt int
	target        string
	ended         bool
	result        Certainty // of the current attempt; empty: there is none
	code          string
	detail        []byte
	error         string
	notBefore     pgtype.Timestamptz
	job           string             // the state of the attempt's job; empty: it is gone
	since         pgtype.Timestamptz // since when it runs, or for when it is scheduled
}

// callStep is what the lane does next about an open call.
type callStep int

const (
	callSettle callStep = iota // its answer is there: the settler decides
	callWait                   // its attempt is under way
	callAgain                  // the next attempt
	callLost                   // its answer will never be known
)

// next decides what to do about an open call, and how long to wait before.
func (k *lastCall) next(now time.Time, times CallTimes) (step callStep, wait time.Duration) {
	switch k.result {
	case Done, Declined:
		return callSettle, 0
	case lost:
		return callLost, 0
	case Unknown:
		pause := min(times.Pause<<min(k.attempt-1, 20), times.Longest)
		return callAgain, max(pause, k.notBefore.Time.Sub(now), 0)
	}
	stale := now.Sub(k.since.Time) >= times.Watch
	switch {
	case k.job == "running" && !stale, k.job == "available":
		return callWait, times.Watch // one that nobody fetches waits for a worker that has its target
	case (k.job == "scheduled" || k.job == "retryable" || k.job == "pending") && !stale:
		return callWait, max(times.Watch, k.since.Time.Sub(now)+times.Watch)
	}
	return callAgain, 0
}

const lastCallsSQL = `
	SELECT a.key, c.step, c.attempt, c.target, c.ended_at IS NOT NULL, coalesce(c.result, ''), coalesce(c.code, ''),
	       c.detail, coalesce(c.last_error, ''), c.not_before, coalesce(j.state::text, ''),
	       CASE j.state WHEN 'running' THEN j.attempted_at ELSE j.scheduled_at END
	FROM unnest($1::text[]) AS a(key),
	     LATERAL (SELECT q.* FROM lastseat.calls q WHERE q.key = a.key ORDER BY q.step DESC LIMIT 1) c
	LEFT JOIN LATERAL (SELECT q.state, q.attempted_at, q.scheduled_at FROM lastseat.river_job q
	                   WHERE q.id = c.job_id AND q.kind = '` + callKind + `' OFFSET 0) j ON true`

// admitCalls gives the jobs of requests that have called their answers. What has none does not get to its settler.
func (b *batch) admitCalls(ctx context.Context) error {
	asleep := make(map[string]*claimed)
	var keys []string
	for _, c := range b.jobs {
		if c.called && c.fate == settle {
			asleep[c.Key] = c
			keys = append(keys, c.Key)
		}
	}
	if len(keys) == 0 {
		return nil
	}
	rows, err := b.tx.Query(ctx, lastCallsSQL, keys)
	if err != nil {
		return fmt.Errorf("read calls: %w", err)
	}
	var key string
	k := &lastCall{}
	_, err = pgx.ForEachRow(rows, []any{
		&key, &k.step, &k.attempt, &k.target, &k.ended, &k.result, &k.code, &k.detail, &k.error, &k.notBefore, &k.job,
		&k.since,
	}, func() error {
		known := *k
		asleep[key].call = &known
		return nil
	})
	if err != nil {
		return fmt.Errorf("read calls: %w", err)
	}
	for _, c := range asleep {
		c.admitCall(b.settings.Calls)
	}
	return nil
}

func (c *claimed) admitCall(times CallTimes) {
	if c.call == nil || c.call.ended {
		return // a failed request that is tried again
	}
	if c.step, c.wait = c.call.next(c.now, times); c.step != callSettle {
		c.fate = underway
		return
	}
	c.Answer = &Answer{Result: c.call.result, Code: c.call.code, Detail: json.RawMessage(c.call.detail)}
}

// callRows are what a batch writes about calls.
type callRows struct {
	ended    []*claimed
	intended []*claimed
	intents  []Intent
	again    []*claimed
	asleep   []*claimed
}

// add notes what becomes of a job's call.
func (r *callRows) add(b *batch, c *claimed) {
	switch c.step {
	case callWait:
		r.asleep = append(r.asleep, c)
	case callAgain:
		r.again = append(r.again, c)
	case callLost:
		r.ended = append(r.ended, c)
		b.queueFailure(c, c.attemptError(c.call.error, ""), true)
		b.queueExhausted(c, CodeAnswerUnknown, map[string]string{"error": storable(c.call.error)})
	}
}

// end notes that the call of a job is over, if it has one: its request is settled, or calls again.
func (r *callRows) end(c *claimed) {
	if c.call != nil && !c.call.ended {
		r.ended = append(r.ended, c)
	}
}

// leave notes a job whose request stays pending: it calls, or comes again later.
func (r *callRows) leave(c *claimed, result Result) {
	if result.intent == nil {
		c.wait = result.later
		r.asleep = append(r.asleep, c)
		return
	}
	r.end(c)
	r.intended, r.intents = append(r.intended, c), append(r.intents, *result.intent)
}

func (b *batch) queueCalls(r callRows) {
	if len(r.ended) > 0 {
		b.queueEnded(r.ended)
	}
	if len(r.intended) > 0 {
		b.queueIntents(r.intended, r.intents)
	}
	if len(r.again) > 0 {
		b.queueAgain(r.again)
	}
	if len(r.asleep) > 0 {
		b.write.Queue(sleepSQL+` SELECT`, pgx.NamedArgs{
			"rows": each(r.asleep, func(c *claimed) string { return c.row }),
			"naps": each(r.asleep, func(c *claimed) float64 { return c.wait.Seconds() }),
		})
	}
}

// each is a value of each of several.
func each[T, V any](all []T, value func(T) V) []V {
	values := make([]V, len(all))
	for i, one := range all {
		values[i] = value(one)
	}
	return values
}

const endCallsSQL = `
	UPDATE lastseat.calls c SET ended_at = now(), body = NULL
	FROM unnest(@keys::text[], @steps::int[]) AS e(key, step)
	WHERE c.key = e.key AND c.step = e.step AND c.ended_at IS NULL`

func (b *batch) queueEnded(jobs []*claimed) {
	b.write.Queue(endCallsSQL, pgx.NamedArgs{
		"keys":  each(jobs, func(c *claimed) string { return c.Key }),
		"steps": each(jobs, func(c *claimed) int { return c.call.step }),
	}).Exec(ExpectRows(len(jobs)))
}

const (
	// sleepSQL puts the jobs of requests to sleep. Their metadata says that there is a call to be looked up.
	sleepSQL = `
	WITH slept AS (
		UPDATE lastseat.river_job j
		SET state = 'scheduled', scheduled_at = now() + make_interval(secs => s.nap),
		    metadata = CASE WHEN jsonb_typeof(j.metadata) = 'object' THEN j.metadata ELSE '{}' END
		               || '{"` + calledMark + `": true}'
		FROM unnest(@rows::text[], @naps::float8[]) AS s(row, nap)
		WHERE j.ctid = s.row::tid
	)`
	calledMark = "lastseat_call"

	// attemptsSQL inserts the jobs of attempts, available from their time on: River's scheduler has nothing to do with
	// them.
	attemptsSQL = sleepSQL + `, i AS MATERIALIZED (
		SELECT i.*, nextval('lastseat.river_job_id_seq') AS job
		FROM unnest(@keys::text[], @steps::int[], @attempts::int[], @targets::text[], @queues::text[], @waits::float8[])
		     AS i(key, step, attempt, target, queue, wait)
	), made AS (
		INSERT INTO lastseat.river_job (id, kind, queue, args, state, scheduled_at)
		SELECT i.job, '` + callKind + `', i.queue,
		       jsonb_build_object('call', i.key, 'step', i.step, 'attempt', i.attempt, 'target', i.target),
		       'available', now() + make_interval(secs => i.wait)
		FROM i
	)`

	intentsSQL = attemptsSQL + `
	INSERT INTO lastseat.calls (key, step, kind, target, operation, subject, call_key, body, body_hash, job_id)
	SELECT i.key, i.step, c.kind, i.target, c.operation, nullif(c.subject, ''), c.call_key, c.body, c.hash, i.job
	FROM i JOIN unnest(@keys::text[], @kinds::text[], @operations::text[], @subjects::text[], @call_keys::text[],
	                   @bodies::text[], @hashes::bytea[]) AS c(key, kind, operation, subject, call_key, body, hash)
	       USING (key)`

	againSQL = attemptsSQL + `
	UPDATE lastseat.calls c
	SET attempt = i.attempt, job_id = i.job, result = NULL, code = NULL, detail = NULL, not_before = NULL,
	    answered_at = NULL
	FROM i WHERE c.key = i.key AND c.step = i.step AND c.ended_at IS NULL`
)

// queueIntents writes new calls and the jobs of their first attempts.
func (b *batch) queueIntents(jobs []*claimed, intents []Intent) {
	for _, c := range jobs {
		c.wait = 0
		step := 1
		if c.call != nil {
			step = c.call.step + 1
		}
		c.call = &lastCall{step: step}
	}
	for i, c := range jobs {
		c.call.target = intents[i].Target
	}
	args := b.attemptArgs(jobs)
	args["kinds"] = each(jobs, func(c *claimed) string { return c.Kind })
	args["operations"] = each(intents, func(i Intent) string { return i.Operation })
	args["subjects"] = each(intents, func(i Intent) string { return i.Subject })
	args["call_keys"] = each(jobs, func(c *claimed) string { return callKey(c.Key, c.call.step) })
	args["bodies"] = each(intents, func(i Intent) string { return string(i.Body) })
	args["hashes"] = each(intents, func(i Intent) []byte { sum := sha256.Sum256(i.Body); return sum[:] })
	b.write.Queue(intentsSQL, args).Exec(ExpectRows(len(jobs)))
}

// queueAgain writes the next attempts at calls.
func (b *batch) queueAgain(jobs []*claimed) {
	b.write.Queue(againSQL, b.attemptArgs(jobs)).Exec(ExpectRows(len(jobs)))
}

func (b *batch) attemptArgs(jobs []*claimed) pgx.NamedArgs {
	watch := b.settings.Calls.Watch
	return pgx.NamedArgs{
		"rows":     each(jobs, func(c *claimed) string { return c.row }),
		"naps":     each(jobs, func(c *claimed) float64 { return (c.wait + watch).Seconds() }),
		"keys":     each(jobs, func(c *claimed) string { return c.Key }),
		"steps":    each(jobs, func(c *claimed) int { return c.call.step }),
		"attempts": each(jobs, func(c *claimed) int { return c.call.attempt + 1 }),
		"targets":  each(jobs, func(c *claimed) string { return c.call.target }),
		"queues":   each(jobs, func(c *claimed) string { return CallQueue(c.call.target) }),
		"waits":    each(jobs, func(c *claimed) float64 { return c.wait.Seconds() }),
	}
}
