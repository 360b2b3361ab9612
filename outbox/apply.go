package outbox

import (
	"context"
	"errors"
	"fmt"
	"runtime/debug"
	"time"

	"github.com/lastseat/lastseat/internal/faultpoint"
)

// run is jobs that follow one another and share a settler: one call of it.
type run struct {
	by     registration
	now    time.Time
	limit  int // how many may be settled
	jobs   []Job
	places []int // of the jobs in the batch
}

// runs divides the jobs that are to be settled. Those with another fate don't end a run.
func (b *batch) runs() []*run {
	var runs []*run
	for i, c := range b.jobs {
		if c.fate != settle && (c.fate != duplicate || !faultpoint.Sabotaged(faultpoint.NoDuplicates)) {
			continue
		}
		by := b.kinds.byName[c.Kind]
		if len(runs) == 0 || runs[len(runs)-1].by.settler != by.settler {
			runs = append(runs, &run{by: by, now: c.now})
		}
		last := runs[len(runs)-1]
		last.jobs, last.places = append(last.jobs, c.Job), append(last.places, i)
	}
	return runs
}

// apply has the settlers make a result of every job that is to be settled. A settler that stops early ends the
// batch: the jobs after that are left to the next one.
func (b *batch) apply(ctx context.Context) error {
	b.results = make([]Result, len(b.jobs))
	for i, c := range b.jobs {
		if c.fate == invalid {
			b.results[i] = Reject(CodeInvalidArgs, map[string]string{"error": invalidReason(c)})
		}
	}
	var before *run
	left := b.limit
	for _, run := range b.runs() {
		if left == 0 {
			b.jobs = b.jobs[:run.places[0]]
			break
		}
		run.limit = left
		row := b.barred(run)
		if row == nil && !run.by.kind.LocksWhatItReads {
			run.jobs = run.jobs[:min(left, len(run.jobs))]
		}
		if row == nil && before != nil { // this settler has to see what the one before it wrote
			if err := b.send(ctx); err != nil {
				return b.blocked(before, err)
			}
		}
		results := waitAll(run, row)
		if row == nil {
			before = run
			var err error
			if results, err = b.call(ctx, run); err != nil {
				return b.blocked(run, err)
			}
		}
		for j, result := range results {
			b.results[run.places[j]] = result
		}
		left -= b.remember(run, results)
		if len(results) < len(run.places) {
			b.jobs, b.full = b.jobs[:run.places[len(results)]], left > 0
			break
		}
	}
	b.leaveWaiting()
	return nil
}

func (b *batch) call(ctx context.Context, run *run) (results []Result, err error) {
	defer recovered(&err)
	results, err = (*run.by.settler).Settle(ctx, b.tx, Batch{
		Jobs: run.jobs, Waiting: b.behind[run.by.settler], Limit: run.limit, Now: run.now,
		Lane: b.number, Lanes: b.settings.Lanes, Write: b.write, History: b.history,
	})
	if n := len(results); err == nil && (n > len(run.jobs) || n < len(run.jobs) && !run.mayStop(results)) {
		err = fmt.Errorf("the settler of %s returned %d results for %d jobs", run.jobs[0].Kind, n, len(run.jobs))
	}
	return results, err
}

// mayStop tells whether a run may have results for the first of its jobs only.
func (r *run) mayStop(results []Result) bool {
	return r.by.stopsEarly || r.by.kind.LocksWhatItReads && countSettled(results) >= r.limit
}

// countSettled is how many results are those of jobs that do not wait.
func countSettled(results []Result) (n int) {
	for _, result := range results {
		if result.waits == nil {
			n++
		}
	}
	return n
}

func invalidReason(c *claimed) string {
	if c.Kind == ProbeKind {
		return "the kind " + ProbeKind + " is the worker's own"
	}
	if c.size > maxArgs {
		return fmt.Sprintf("the arguments are %d bytes, at most %d are allowed", c.size, maxArgs)
	}
	return `args has to be a JSON object with "key": ` +
		`text of 1 to 200 characters that can be seen, not beginning with lastseat: or river_job:`
}

type panicError struct {
	value any
	trace string
}

func (e *panicError) Error() string { return fmt.Sprintf("%v", e.value) }

// traceOf returns the stack of the panic that err comes from, if it comes from one.
func traceOf(err error) string {
	if p := (*panicError)(nil); errors.As(err, &p) {
		return p.trace
	}
	return ""
}

// recovered, when deferred, turns a panic into an error.
func recovered(err *error) {
	if value := recover(); value != nil {
		*err = &panicError{value: value, trace: string(debug.Stack())}
	}
}
