package outbox

import (
	"context"
	"regexp"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"go.opentelemetry.io/otel/trace"
)

// A request may carry the W3C trace context of whoever asked for it: the SQL functions keep the setting
// lastseat.traceparent of the session with its job.

// Tracer is told about requests that were settled and that carry a trace context, see [Settings]. It is called as an
// [Observer] is.
type Tracer interface {
	// Traced: a batch was committed. It is not called for a batch without such requests.
	Traced(batch TracedBatch)
}

// TracedBatch is a batch that was committed, with those of its requests that carry a trace context.
type TracedBatch struct {
	Lane      int
	Jobs      int       // of the batch
	Began     time.Time // when they were claimed
	Committed time.Time
	Requests  []TracedRequest
}

// TracedRequest is what became of a request in a batch.
type TracedRequest struct {
	Key, Kind   string
	Traceparent string // of who asked, as in the W3C header
	Waited      time.Duration
	Attempt     int
	Status      Status // empty: the attempt has failed, or goes on outside the database
	Code        string
	Err         error // of an attempt that has failed; its text may name rows
}

const traceSQL = `SELECT set_config('lastseat.traceparent', $1, true)`

// queueTrace has what is asked for in the rest of the transaction carry the trace context of ctx, if somebody keeps
// the trace.
func queueTrace(ctx context.Context, batch *pgx.Batch) {
	span := trace.SpanContextFromContext(ctx)
	if span.IsValid() && span.IsSampled() {
		traceparent := "00-" + span.TraceID().String() + "-" + span.SpanID().String() + "-" + span.TraceFlags().String()
		batch.Queue(traceSQL, traceparent)
	}
}

// The claim reads a job's trace context only if somebody wants to know it.
var traced = strings.NewReplacer(
	"AS called,", "AS called, coalesce(left(j.metadata ->> 'traceparent', 56), '') AS traceparent,",
	"r.requested_at, c.called,", "r.requested_at, c.called, c.traceparent,")

var traceparent = regexp.MustCompile(`^[0-9a-f]{2}-[0-9a-f]{32}-[0-9a-f]{16}-[0-9a-f]{2}$`)

// traceBatch tells the tracer about a committed batch.
func (l *lane) traceBatch(b *batch) {
	if l.settings.Tracer == nil {
		return
	}
	told := TracedBatch{Lane: l.number, Jobs: len(b.jobs), Began: b.began, Committed: time.Now()}
	for i, c := range b.jobs {
		if !traceparent.MatchString(c.traceparent) || c.fate == postponed {
			continue
		}
		result := b.results[i]
		request := TracedRequest{
			Key: c.Key, Kind: c.Kind, Traceparent: c.traceparent, Waited: max(0, c.now.Sub(c.At)), Attempt: c.Attempt,
			Status: result.Status, Code: result.Code, Err: result.err,
		}
		if b.charged != nil {
			request.Err = b.charged.err
		}
		told.Requests = append(told.Requests, request)
	}
	if len(told.Requests) > 0 {
		l.settings.Tracer.Traced(told)
	}
}
