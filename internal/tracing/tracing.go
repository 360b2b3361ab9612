// Package tracing makes OpenTelemetry spans of what a worker settles, and sends them by OTLP over HTTP. The standard
// variables OTEL_... configure it; without an endpoint among them there is nothing.
package tracing

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/jackc/pgx/v5/pgconn"
	"go.opentelemetry.io/otel"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/exporters/otlp/otlptrace/otlptracehttp"
	"go.opentelemetry.io/otel/propagation"
	"go.opentelemetry.io/otel/sdk/resource"
	sdk "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/trace"

	"github.com/lastseat/lastseat/outbox"
)

// Endpoint is where the variables in environ have traces sent, as a URL; empty: nowhere. Its error names the variable.
func Endpoint(environ []string) (string, error) {
	value := func(name string) string {
		for _, variable := range slices.Backward(environ) {
			if found, is := strings.CutPrefix(variable, name+"="); is {
				return found
			}
		}
		return ""
	}
	if strings.EqualFold(value("OTEL_SDK_DISABLED"), "true") || value("OTEL_TRACES_EXPORTER") == "none" {
		return "", nil
	}
	name := "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT"
	endpoint := value(name)
	if endpoint == "" {
		name = "OTEL_EXPORTER_OTLP_ENDPOINT"
		if endpoint = value(name); endpoint == "" {
			return "", nil
		}
		endpoint = strings.TrimRight(endpoint, "/") + "/v1/traces"
	}
	if at, err := url.Parse(endpoint); err != nil || at.Host == "" || at.Scheme != "http" && at.Scheme != "https" {
		return "", fmt.Errorf("%s is no URL that begins with http:// or https://", name)
	}
	for _, name := range []string{"OTEL_EXPORTER_OTLP_TRACES_PROTOCOL", "OTEL_EXPORTER_OTLP_PROTOCOL"} {
		if protocol := value(name); protocol == "http/protobuf" {
			break
		} else if protocol != "" {
			return "", fmt.Errorf("%s is %q: the worker sends traces by http/protobuf only", name, protocol)
		}
	}
	return endpoint, nil
}

// mostBatches wait to be made into spans. What comes when there are more is left out: the lane does not wait.
const mostBatches = 64

// mostLinks of a batch to its requests are kept. Each request has a link to its batch in any case.
const mostLinks = 128

// Tracer makes spans of batches. It is an [outbox.Tracer].
type Tracer struct {
	provider *sdk.TracerProvider
	tracer   trace.Tracer
	keys     bool // whether spans have keys and the text of errors, which may name accounts
	batches  chan outbox.TracedBatch
	stopping chan struct{}
	ended    chan struct{}
}

var _ outbox.Tracer = (*Tracer)(nil)

// Options of [New].
type Options struct {
	Endpoint string // see [Endpoint]
	Keys     bool   // spans have keys and the text of errors
	Version  string
	Logger   *slog.Logger // is told of errors of sending
}

// New makes a tracer that sends spans to an endpoint.
func New(ctx context.Context, options Options) (*Tracer, error) {
	endpoint := options.Endpoint
	exporter, err := otlptracehttp.New(ctx, otlptracehttp.WithEndpointURL(endpoint))
	if err != nil {
		return nil, fmt.Errorf("traces: %w", err)
	}
	otel.SetErrorHandler(otel.ErrorHandlerFunc(func(err error) {
		options.Logger.WarnContext(ctx, "traces", slog.String("error", err.Error()))
	}))
	named := resource.NewSchemaless(attribute.String("service.name", "lastseat-worker"),
		attribute.String("service.version", options.Version))
	from, err := resource.New(ctx, resource.WithTelemetrySDK(), resource.WithHost(), resource.WithProcessPID(),
		resource.WithFromEnv()) // OTEL_SERVICE_NAME, OTEL_RESOURCE_ATTRIBUTES
	if err == nil {
		named, err = resource.Merge(named, from)
	}
	if err != nil {
		return nil, fmt.Errorf("traces: %w", err)
	}
	t := &Tracer{
		provider: sdk.NewTracerProvider(sdk.WithBatcher(exporter), sdk.WithResource(named)),
		keys:     options.Keys,
		batches:  make(chan outbox.TracedBatch, mostBatches),
		stopping: make(chan struct{}), ended: make(chan struct{}),
	}
	t.tracer = t.provider.Tracer("github.com/lastseat/lastseat", trace.WithInstrumentationVersion(options.Version))
	go t.run()
	return t, nil
}

func (t *Tracer) run() {
	defer close(t.ended)
	for {
		select {
		case batch := <-t.batches:
			t.spans(batch)
			continue
		default:
		}
		select {
		case batch := <-t.batches:
			t.spans(batch)
		case <-t.stopping:
			return
		}
	}
}

// Traced implements [outbox.Tracer].
func (t *Tracer) Traced(batch outbox.TracedBatch) {
	select {
	case t.batches <- batch:
	default:
	}
}

// Stop sends what is left, for a few seconds at most. What comes after it is left out.
func (t *Tracer) Stop(ctx context.Context) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), 5*time.Second)
	defer cancel()
	close(t.stopping)
	<-t.ended
	if err := t.provider.Shutdown(ctx); err != nil {
		otel.Handle(err)
	}
}

// spans makes a span for each request, a child of its asker's, and one for the batch, in a trace of its own.
func (t *Tracer) spans(batch outbox.TracedBatch) {
	parents := make([]trace.SpanContext, len(batch.Requests))
	links := make([]trace.Link, 0, mostLinks)
	for i, request := range batch.Requests {
		parents[i] = parent(request.Traceparent)
		if parents[i].IsSampled() && len(links) < mostLinks {
			links = append(links, trace.Link{SpanContext: parents[i]})
		}
	}
	if len(links) == 0 {
		return // nobody keeps these traces
	}
	_, span := t.tracer.Start(context.Background(), "settle batch", trace.WithNewRoot(), trace.WithTimestamp(batch.Began),
		trace.WithLinks(links...), trace.WithAttributes(attribute.Int("lastseat.lane", batch.Lane),
			attribute.Int("lastseat.batch.jobs", batch.Jobs)))
	for i := range batch.Requests {
		if !parents[i].IsSampled() {
			continue // nobody keeps its trace, or it is none
		}
		t.request(&batch, i, parents[i], span.SpanContext())
	}
	span.End(trace.WithTimestamp(batch.Committed))
}

func (t *Tracer) request(batch *outbox.TracedBatch, i int, asker, of trace.SpanContext) {
	request := &batch.Requests[i]
	ctx := trace.ContextWithRemoteSpanContext(context.Background(), asker)
	_, span := t.tracer.Start(ctx, "settle "+request.Kind, trace.WithSpanKind(trace.SpanKindConsumer),
		trace.WithTimestamp(batch.Began), trace.WithLinks(trace.Link{SpanContext: of}), trace.WithAttributes(
			attribute.String("lastseat.kind", request.Kind),
			attribute.Int("lastseat.attempt", request.Attempt),
			attribute.Float64("lastseat.waited_seconds", request.Waited.Seconds())))
	if request.Status != "" {
		span.SetAttributes(attribute.String("lastseat.status", string(request.Status)),
			attribute.String("lastseat.code", request.Code))
	}
	if t.keys {
		span.SetAttributes(attribute.String("lastseat.key", request.Key))
	}
	if request.Err != nil {
		t.failed(span, request.Err)
	}
	span.End(trace.WithTimestamp(batch.Committed))
}

func (t *Tracer) failed(span trace.Span, err error) {
	if t.keys {
		span.RecordError(err)
	}
	if pg, is := errors.AsType[*pgconn.PgError](err); is {
		span.SetAttributes(attribute.String("db.response.status_code", pg.Code))
	}
	span.SetStatus(codes.Error, "attempt failed")
}

// parent is the span of a W3C traceparent.
func parent(traceparent string) trace.SpanContext {
	carrier := propagation.MapCarrier{"traceparent": traceparent}
	return trace.SpanContextFromContext(propagation.TraceContext{}.Extract(context.Background(), carrier))
}
