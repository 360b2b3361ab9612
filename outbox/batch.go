package outbox

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"runtime/debug"
	"strings"

	"github.com/jackc/pgx/v5"
	"github.com/riverqueue/river/rivertype"
)

// errRaced asks for the same as a serialization failure: roll back and run again.
var errRaced = errors.New("another session was quicker")

// batchError is an error that a job of the batch brought about: its settler's own, a panic, or one of the database
// that is neither a conflict nor the database's condition.
type batchError struct {
	jobs  []*claimed
	err   error
	trace string // of a panic
}

func (e *batchError) Error() string { return e.err.Error() }
func (e *batchError) Unwrap() error { return e.err }

// settleBatch settles up to limit jobs in one transaction and returns how many; 0: none was waiting. With an error
// nothing has changed, unless it is an ErrCommitUnknown.
func (l *lane) settleBatch(ctx context.Context, limit int) (int, error) {
	tx, err := l.begin(ctx)
	if err != nil {
		return 0, err
	}
	defer func() {
		if l.conn != nil {
			_ = tx.Rollback(context.WithoutCancel(ctx))
		}
	}()

	jobs, err := l.claim(ctx, tx, limit)
	if err != nil || len(jobs) == 0 {
		return 0, err
	}
	if l.stuck(jobs[0]) {
		return 0, l.culprit
	}
	jobs = l.cut(jobs)
	write := &pgx.Batch{}
	results, err := l.apply(ctx, tx, jobs, write)
	if err == nil {
		if len(results) < len(jobs) {
			jobs = jobs[:len(results)]
			l.pace.room = len(jobs)
		}
		err = l.finish(write, jobs, results)
	}
	if err == nil {
		err = tx.SendBatch(ctx, write).Close()
	}
	if errors.As(err, new(*abandonedError)) {
		l.conn = nil
	}
	if err != nil {
		return 0, &batchError{jobs: jobs, err: err, trace: traceOf(err)}
	}
	if err := Commit(ctx, tx); err != nil {
		return 0, &batchError{jobs: jobs, err: fmt.Errorf("commit: %w", err)}
	}
	for i, c := range jobs {
		if err := results[i].err; err != nil {
			l.logFailure(ctx, c, err)
		}
	}
	return l.stats.count(jobs, results), nil
}

// stuck tells whether a job is known to have cost the connection, at this attempt.
func (l *lane) stuck(c *claimed) bool {
	if l.culprit == nil || l.culprit.jobs[0].ID != c.ID {
		return false
	}
	if l.culprit.jobs[0].Attempt != c.Attempt { // somebody else has recorded it
		l.culprit = nil
	}
	return l.culprit != nil
}

// cut shortens a batch to what one transaction should have: 60 savepoints of handlers, and no job that is known to have
// cost the connection. What is cut off is free again when the transaction ends.
func (l *lane) cut(jobs []*claimed) []*claimed {
	savepoints := 0
	for i, c := range jobs {
		savepoints += l.kinds.byName[c.Kind].savepoints
		if i > 0 && (savepoints > mostSavepoints || l.stuck(c)) {
			l.pace.room = i
			return jobs[:i]
		}
	}
	l.pace.fitted(len(jobs), savepoints >= mostSavepoints)
	return jobs
}

// begin begins a batch's transaction. Where an idle SERIALIZABLE session has made Postgres run out of room for predicate
// locks, batches are REPEATABLE READ, which takes none, until one is settled: the lane must not stand still for somebody else's session.
func (l *lane) begin(ctx context.Context) (pgx.Tx, error) {
	level := l.settings.Isolation
	if l.crowded {
		level = pgx.RepeatableRead
	}
	tx, err := l.conn.BeginTx(ctx, pgx.TxOptions{IsoLevel: level, AccessMode: pgx.ReadWrite})
	if err != nil {
		return nil, fmt.Errorf("begin: %w", err)
	}
	return tx, nil
}

// apply hands the jobs to their settlers, run by run: jobs that follow one another and share a settler are one call. It
// returns a result for every job; that of a job with another fate than settle is left empty. Where handlers have taken long
// enough, the jobs that are left have none.
func (l *lane) apply(ctx context.Context, tx pgx.Tx, jobs []*claimed, write *pgx.Batch) ([]Result, error) {
	results := make([]Result, len(jobs))
	var run []Job
	var places []int
	var settler *Settler // of the run
	flush := func() error {
		if len(run) == 0 {
			return nil
		}
		made, err := callSettler(ctx, *settler, tx, Batch{Jobs: run, Now: jobs[0].now, Lane: l.number, Lanes: l.settings.Lanes, Write: write})
		if err != nil {
			return err
		}
		for i := range made {
			results[places[i]] = made[i]
		}
		if len(made) < len(run) {
			results = results[:places[len(made)]]
		}
		run, places = run[:0], places[:0]
		return nil
	}
	for i, c := range jobs {
		switch c.fate {
		case invalid:
			results[i] = Reject(CodeInvalidArgs, map[string]string{"error": invalidReason(c)})
			continue
		case duplicate, misuse, unknown, postponed:
			continue
		}
		registered := l.kinds.byName[c.Kind]
		if len(run) > 0 && settler != registered.settler {
			if err := flush(); err != nil {
				return nil, err
			}
			// what this settler wrote has to be there before the next one reads
			if write.Len() > 0 {
				if err := tx.SendBatch(ctx, write).Close(); err != nil {
					return nil, err
				}
				*write = pgx.Batch{}
			}
			if len(results) <= i {
				return results, nil
			}
		}
		settler = registered.settler
		run, places = append(run, c.Job), append(places, i)
	}
	err := flush()
	return results, err
}

func invalidReason(c *claimed) string {
	if c.size > maxArgs {
		return fmt.Sprintf("the arguments are %d bytes, at most %d are allowed", c.size, maxArgs)
	}
	return `args has to be a JSON object with "key": text of 1 to 200 characters, not beginning with lastseat: or river_job:`
}

type panicError struct {
	value any
	trace string
}

func (e *panicError) Error() string { return fmt.Sprintf("%v", e.value) }

func traceOf(err error) string {
	if p := (*panicError)(nil); errors.As(err, &p) {
		return p.trace
	}
	return ""
}

func callSettler(ctx context.Context, settler Settler, tx pgx.Tx, batch Batch) (results []Result, err error) {
	defer recovered(&err)
	results, err = settler.Settle(ctx, tx, batch)
	_, handled := settler.(*handling) // may return fewer
	if err == nil && len(results) != len(batch.Jobs) && !handled {
		err = fmt.Errorf("the settler of %s returned %d results for %d jobs", batch.Jobs[0].Kind, len(results), len(batch.Jobs))
	}
	return results, err
}

// recovered makes an error of a panic, when deferred.
func recovered(err *error) {
	if value := recover(); value != nil {
		*err = &panicError{value: value, trace: string(debug.Stack())}
	}
}

const (
	outcomeChannel = "lastseat_outcome"

	outcomeSQL = `
	UPDATE lastseat.requests r
	SET status = o.status, code = o.code, detail = o.detail::jsonb, attempts = o.attempts, settled_at = now()
	FROM unnest(@keys::text[], @statuses::text[], @codes::text[], @details::text[], @attempts::int[])
	     AS o(key, status, code, detail, attempts)
	WHERE r.key = o.key AND r.status = 'pending'`

	deleteSQL = `DELETE FROM lastseat.river_job WHERE id = ANY (@ids::bigint[])`

	completeSQL = `
	UPDATE lastseat.river_job
	SET state = 'completed', attempt = least(attempt::int + 1, 32767), attempted_at = now(),
	    attempted_by = CASE WHEN coalesce(array_ndims(attempted_by), 1) = 1 THEN array_append(attempted_by, @worker::text) ELSE ARRAY[@worker::text] END,
	    finalized_at = clock_timestamp()
	WHERE id = ANY (@ids::bigint[])`
)

// finish queues the outcomes and the end of the jobs.
func (l *lane) finish(write *pgx.Batch, jobs []*claimed, results []Result) error {
	var keys, statuses, codes []string
	var details []*string
	var attempts []int
	var done []int64
	for i, c := range jobs {
		switch c.fate {
		case postponed:
			continue
		case misuse:
			reason := fmt.Sprintf("key %q was used for another request (LS001)", c.Key)
			l.queueFailure(write, c, c.attemptError(reason, ""), true)
			continue
		case unknown:
			l.queueAttempt(write, c, (&rivertype.UnknownJobKindError{Kind: c.Kind}).Error(), "")
			continue
		}
		if err := results[i].err; err != nil {
			l.queueAttempt(write, c, err.Error(), traceOf(err))
			continue
		}
		done = append(done, c.ID)
		if c.fate == duplicate {
			continue
		}
		if results[i].Status != Applied && results[i].Status != Rejected || results[i].Code == "" {
			return fmt.Errorf("the settler of %s returned status %q, code %q", c.Kind, results[i].Status, results[i].Code)
		}
		detail, err := encodeDetail(results[i].Detail)
		if err != nil {
			return fmt.Errorf("%s: %w", c.Kind, err)
		}
		keys, statuses, codes = append(keys, c.Key), append(statuses, string(results[i].Status)), append(codes, results[i].Code)
		details, attempts = append(details, detail), append(attempts, c.Attempt)
	}
	if len(keys) > 0 {
		write.Queue(outcomeSQL, pgx.NamedArgs{
			"keys": keys, "statuses": statuses, "codes": codes, "details": details, "attempts": attempts,
		}).Exec(ExpectRows(len(keys)))
	}
	if len(done) > 0 {
		sql, args := deleteSQL, pgx.NamedArgs{"ids": done}
		if l.settings.KeepCompleted > 0 {
			sql, args["worker"] = completeSQL, l.settings.ID
		}
		write.Queue(sql, args).Exec(ExpectRows(len(done)))
	}
	write.Queue("SELECT pg_notify($1, $2)", outcomeChannel, l.settings.Queue)
	return nil
}

func encodeDetail(detail any) (text *string, err error) {
	if detail == nil {
		return nil, nil
	}
	defer recovered(&err)
	encoded, err := json.Marshal(detail)
	if err != nil {
		return nil, fmt.Errorf("encode the detail: %w", err)
	}
	return new(string(encoded)), nil
}

// storable takes out what a Postgres text can't hold.
func storable(text string) string {
	return strings.ReplaceAll(strings.ToValidUTF8(text, "\uFFFD"), "\x00", "\uFFFD")
}
