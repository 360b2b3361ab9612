package main

import (
	"bytes"
	"encoding/hex"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"strings"
	"sync"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"go.opentelemetry.io/otel/trace"
	collector "go.opentelemetry.io/proto/otlp/collector/trace/v1"
	spans "go.opentelemetry.io/proto/otlp/trace/v1"
	"google.golang.org/protobuf/proto"

	"github.com/lastseat/lastseat/internal/cli"
	"github.com/lastseat/lastseat/internal/config"
	"github.com/lastseat/lastseat/internal/testdb"
	"github.com/lastseat/lastseat/internal/tracing"
	"github.com/lastseat/lastseat/outbox"
)

// collect is a collector of OTLP over HTTP.
func collect(t *testing.T) (endpoint string, collected func() map[string]*spans.Span) {
	t.Helper()
	var mu sync.Mutex
	got := make(map[string]*spans.Span)
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		sent := &collector.ExportTraceServiceRequest{}
		if err == nil {
			err = proto.Unmarshal(body, sent)
		}
		if err != nil || r.URL.Path != "/v1/traces" {
			http.Error(w, fmt.Sprint(err), http.StatusBadRequest)
			return
		}
		mu.Lock()
		defer mu.Unlock()
		for _, resource := range sent.ResourceSpans {
			for _, scope := range resource.ScopeSpans {
				for _, span := range scope.Spans {
					got[named(span, "lastseat.key")+" "+span.Name] = span
				}
			}
		}
	}))
	t.Cleanup(server.Close)
	return server.URL, func() map[string]*spans.Span {
		mu.Lock()
		defer mu.Unlock()
		return got
	}
}

// named is an attribute of a span.
func named(span *spans.Span, name string) string {
	for _, attribute := range span.Attributes {
		if attribute.Key == name {
			return attribute.Value.GetStringValue()
		}
	}
	return ""
}

// A request has a span in its asker's trace, whether they asked in Go or in SQL, and a link to its batch. Who gives no
// trace context, or nonsense, or one that nobody keeps, gets no span.
func TestTraces(t *testing.T) {
	t.Parallel()
	url := testdb.New(t)
	pool := open(t, url)
	give(t, pool, "not traced", 100)
	asker := trace.NewSpanContext(trace.SpanContextConfig{
		TraceID: trace.TraceID{1, 2}, SpanID: trace.SpanID{3, 4}, TraceFlags: trace.FlagsSampled})
	err := pgx.BeginFunc(t.Context(), pool, func(tx pgx.Tx) error {
		_, err := outbox.Enqueue(trace.ContextWithSpanContext(t.Context(), asker), tx, "from Go", outbox.RawArgs{
			Of: "payment.transfer", JSON: []byte(`{"from": "ada", "to": "bank", "amount": 1000, "currency": "EUR"}`)})
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	const inSQL = "4bf92f3577b34da6a3ce929d0e0e4736"
	for key, traceparent := range map[string]string{
		"from SQL": "00-" + inSQL + "-00f067aa0ba902b7-01", "not sampled": "00-" + inSQL + "-00f067aa0ba902b7-00",
		"nonsense": "00-xyz", "zeros": "00-00000000000000000000000000000000-0000000000000000-01",
	} {
		testdb.Exec(t, pool, fmt.Sprintf(`BEGIN; SET LOCAL lastseat.traceparent = '%s';
			SELECT lastseat.transfer('%s', 'bank', 'ada', 5, 'EUR'); COMMIT`, traceparent, key))
	}
	testdb.Exec(t, pool, fmt.Sprintf(`BEGIN; SET LOCAL lastseat.traceparent = '00-%s-00f067aa0ba902b7-01';
		SELECT lastseat.enqueue_many('[{"kind": "payment.transfer", "key": "of many",
			"args": {"from": "bank", "to": "ada", "amount": 1, "currency": "EUR"}}]'); COMMIT`, inSQL))
	endpoint, collected := collect(t)
	runIn(t, []string{"DATABASE_URL=" + url, "OTEL_EXPORTER_OTLP_ENDPOINT=" + endpoint,
		"LASTSEAT_LOG_LEVEL=warn", "LASTSEAT_TRACE_KEYS=true"}, "run", "--drain").Succeeds(t)

	got := collected()
	batch := got[" settle batch"]
	if len(got) != 4 || batch == nil || len(batch.Links) != 3 {
		t.Fatalf("%d spans: %v", len(got), got)
	}
	for key, want := range map[string][2]string{
		"from Go":  {asker.TraceID().String(), asker.SpanID().String()},
		"from SQL": {inSQL, "00f067aa0ba902b7"}, "of many": {inSQL, "00f067aa0ba902b7"},
	} {
		span := got[key+" settle payment.transfer"]
		if span == nil {
			t.Errorf("%s has no span: %v", key, got)
			continue
		}
		if of := [2]string{hex.EncodeToString(span.TraceId), hex.EncodeToString(span.ParentSpanId)}; of != want {
			t.Errorf("%s is of trace and span %v, want %v", key, of, want)
		}
		if len(span.Links) != 1 || string(span.Links[0].SpanId) != string(batch.SpanId) {
			t.Errorf("%s has the links %v, want its batch", key, span.Links)
		}
		status, code := "applied", "transferred"
		if key == "from Go" {
			status, code = "rejected", "insufficient_funds"
		}
		if named(span, "lastseat.status") != status || named(span, "lastseat.code") != code {
			t.Errorf("%s: %v", key, span.Attributes)
		}
	}
}

// The example in Python has its trace go on in the worker. -v prints the trace.
func TestTraceFromPython(t *testing.T) {
	t.Parallel()
	python := "/usr/bin/python3"
	if err := exec.CommandContext(t.Context(), python, "-c", "import psycopg2").Run(); err != nil {
		t.Skip("psycopg2 is missing: apt-get install python3-psycopg2")
	}
	url := testdb.New(t)
	pool := open(t, url)
	testdb.Exec(t, pool, `CREATE SCHEMA shop; CREATE TABLE shop.orders (id text PRIMARY KEY, total numeric);
		SELECT lastseat.open_account('customer:7', 'EUR', NULL), lastseat.open_account('shop', 'EUR')`)
	command := exec.CommandContext(t.Context(), python, "../../examples/python/traced.py")
	command.Env = append(os.Environ(), "DATABASE_URL="+url)
	said, err := command.CombinedOutput()
	if err != nil {
		t.Fatalf("%v: %s", err, said)
	}
	endpoint, collected := collect(t)
	runIn(t, []string{"DATABASE_URL=" + url, "LASTSEAT_LOG_LEVEL=warn", "LASTSEAT_TRACE_KEYS=true",
		"OTEL_EXPORTER_OTLP_TRACES_ENDPOINT=" + endpoint + "/v1/traces"},
		"run", "--drain").Succeeds(t)
	span := collected()["order-1044 settle payment.transfer"]
	if span == nil {
		t.Fatalf("there is no span: %v", collected())
	}
	if got := "00-" + hex.EncodeToString(span.TraceId) + "-" + hex.EncodeToString(span.ParentSpanId) + "-01"; got !=
		strings.TrimSpace(string(said)) {
		t.Errorf("the span is of %s, want %s", got, said)
	}
	t.Logf("ordered by %s-> %s: %s, %s %s, link to the batch %x", said, span.Name, named(span, "lastseat.key"),
		named(span, "lastseat.status"), named(span, "lastseat.code"), span.Links[0].SpanId)
}

// Without an endpoint there is no tracer, so the lane reads no trace context.
func TestTracesAreOff(t *testing.T) {
	t.Parallel()
	for _, environ := range [][]string{
		nil, {"OTEL_EXPORTER_OTLP_ENDPOINT="}, {"OTEL_EXPORTER_OTLP_ENDPOINT=http://127.0.0.1:1", "OTEL_SDK_DISABLED=true"},
		{"OTEL_EXPORTER_OTLP_ENDPOINT=http://127.0.0.1:1", "OTEL_TRACES_EXPORTER=none"},
	} {
		p := &program{}
		p.streams.Environ = environ
		tracer, _, err := p.tracer(t.Context(), config.Config{})
		if tracer != nil || err != nil {
			t.Errorf("%q: %v, %v", environ, tracer, err)
		}
	}
}

// A wrong variable is told at the start, and not by a trace that never comes.
func TestTracesGoNowhere(t *testing.T) {
	t.Parallel()
	for _, environ := range [][]string{
		{"OTEL_EXPORTER_OTLP_ENDPOINT=collector:4318"}, {"OTEL_EXPORTER_OTLP_TRACES_ENDPOINT=http://%zz"},
		{"OTEL_EXPORTER_OTLP_ENDPOINT=http://127.0.0.1:4317", "OTEL_EXPORTER_OTLP_PROTOCOL=grpc"},
	} {
		p := &program{}
		p.streams.Environ = environ
		if _, _, err := p.tracer(t.Context(), config.Config{}); cli.ExitCode(err) != cli.ExitConfig {
			t.Errorf("%q: %v", environ, err)
		}
	}
}

// Whatever stands in the setting, and in whatever transaction: the request is asked for and settled. What the functions
// did not write into a job's metadata harms the lane no more.
func TestHostileTraceparents(t *testing.T) {
	t.Parallel()
	url := testdb.New(t)
	pool := open(t, url)
	give(t, pool, "ada", 100)
	good := "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
	hostile := map[string]string{
		"huge": strings.Repeat("0", 1<<20), "longer": good + "-00", "two lines": good + "\n", "quoted": `' OR true --"\`,
		"upper case": strings.ToUpper(good), "wide": strings.Repeat("\u2028", 55), "version ff": "ff" + good[2:],
		"of later": "cc" + good[2:],
	}
	want := 0
	for key, value := range hostile {
		for _, level := range []pgx.TxIsoLevel{pgx.ReadCommitted, pgx.Serializable} {
			want++
			err := pgx.BeginTxFunc(t.Context(), pool, pgx.TxOptions{IsoLevel: level}, func(tx pgx.Tx) error {
				if _, err := tx.Exec(t.Context(), `SELECT set_config('lastseat.traceparent', $1, false)`, value); err != nil {
					return err
				}
				_, err := tx.Exec(t.Context(), `SELECT lastseat.transfer($1, 'bank', 'ada', 5, 'EUR')`, key+string(level))
				return err
			})
			if err != nil {
				t.Errorf("%s, %s: %v", key, level, err)
			}
		}
	}
	if kept := testdb.Scalar[int](t, pool, `SELECT count(*) FROM lastseat.river_job WHERE metadata <> '{}'`); kept != 4 {
		t.Errorf("%d jobs keep a trace context, want the 4 of another version", kept)
	}
	for i, metadata := range []string{`[]`, `"traceparent"`, `{"traceparent": 7}`, `{"traceparent": {"a": null}}`,
		`{"traceparent": "` + strings.Repeat("0", 1<<20) + `"}`} {
		want++
		testdb.Exec(t, pool, `INSERT INTO lastseat.river_job (state, queue, kind, args, metadata, max_attempts)
			VALUES ('available', 'lastseat', 'payment.transfer', jsonb_build_object('key', 'raw ' || $1::int, 'from', 'bank',
				'to', 'ada', 'amount', 1, 'currency', 'EUR'), $2, 25)`, i, metadata)
	}
	endpoint, collected := collect(t)
	runIn(t, []string{"DATABASE_URL=" + url, "OTEL_EXPORTER_OTLP_ENDPOINT=" + endpoint, "LASTSEAT_LOG_LEVEL=warn"},
		"run", "--drain").Succeeds(t)
	got := testdb.Scalar[int](t, pool, `SELECT count(*) FROM lastseat.requests WHERE code = 'transferred'`)
	if got != want+1 {
		t.Errorf("%d are settled, want %d", got, want+1)
	}
	if got := collected(); len(got) != 2 || got[" settle payment.transfer"] == nil {
		t.Errorf("%d kinds of spans, want the batch and those of a later version: %v", len(got), got)
	}
}

// Nothing that is sent has a key, an account or the text of an error, unless somebody has asked for it.
func TestTracesHaveNoNames(t *testing.T) {
	t.Parallel()
	for _, keys := range []bool{false, true} {
		var sent []byte
		var mu sync.Mutex
		server := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
			body, _ := io.ReadAll(r.Body)
			mu.Lock()
			defer mu.Unlock()
			sent = append(sent, body...)
		}))
		t.Cleanup(server.Close)
		tracer, err := tracing.New(t.Context(), tracing.Options{Endpoint: server.URL + "/v1/traces", Keys: keys,
			Logger: slog.New(slog.DiscardHandler)})
		if err != nil {
			t.Fatal(err)
		}
		tracer.Traced(outbox.TracedBatch{Jobs: 1, Requests: []outbox.TracedRequest{{
			Key: "key of ada", Kind: "own.kind", Traceparent: "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
			Err: fmt.Errorf("ask: %w", &pgconn.PgError{Code: "22P02", Message: "what bob has"}),
		}}})
		tracer.Stop(t.Context())
		tracer.Traced(outbox.TracedBatch{}) // a lane that is late
		mu.Lock()
		if !bytes.Contains(sent, []byte("22P02")) || bytes.Contains(sent, []byte("key of ada")) != keys ||
			bytes.Contains(sent, []byte("bob")) != keys {
			t.Errorf("with keys %v: %q", keys, sent)
		}
		mu.Unlock()
	}
}
