package admin

import (
	"net/http"
	"strconv"
	"sync"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"github.com/lastseat/lastseat/outbox"
)

// Metrics counts what the lanes of a worker do, and reads from the database what waits. Keys, accounts and other ids
// are never labels. docs/monitoring.md lists the metrics.
type Metrics struct {
	registry *prometheus.Registry

	settled  *prometheus.CounterVec
	failed   *prometheus.CounterVec
	repeated *prometheus.CounterVec
	jobs     prometheus.Histogram
	duration prometheus.Histogram
	webhooks *prometheus.CounterVec
	last     prometheus.Gauge
	holds    *prometheus.GaugeVec
	labels   bounded
}

var _ outbox.Observer = (*Metrics)(nil)

// MetricsOptions are what metrics are made of.
type MetricsOptions struct {
	Kinds   []string // of the worker: what has not happened yet is told as 0
	Lanes   int
	Version string
	Pool    *pgxpool.Pool
	Stats   func() outbox.Snapshot
	Audit   func() AuditStatus // nil: it is turned off
}

// AuditStatus is what the continuous audit of a worker has found.
type AuditStatus struct {
	Here       bool          // this worker audits, because it holds the first lane
	At         time.Time     // the end of the last round; zero: there was none
	Behind     time.Duration // since when something waits to be proved; 0: nothing does
	Violations []string      // that hold
	Rows       int64         // proved since the worker began
}

// NewMetrics makes the metrics of a worker.
func NewMetrics(options MetricsOptions) *Metrics {
	m := &Metrics{registry: prometheus.NewRegistry()}
	counter := func(name, help string, labels ...string) *prometheus.CounterVec {
		return prometheus.NewCounterVec(prometheus.CounterOpts{Name: name, Help: help}, labels)
	}
	m.settled = counter("lastseat_requests_settled_total", "Requests that this worker settled.", "kind", "status", "code")
	m.failed = counter("lastseat_attempts_failed_total", "Attempts that ended in an error or a panic.", "kind")
	m.repeated = counter("lastseat_batches_repeated_total",
		"Batches that were rolled back and tried again, by cause and SQLSTATE.", "cause", "sqlstate")
	m.jobs = prometheus.NewHistogram(prometheus.HistogramOpts{
		Name: "lastseat_batch_jobs", Help: "Jobs of a committed batch.",
		Buckets: []float64{1, 2, 5, 10, 50, 100, 500, 1000, 2000, 5000, 10000},
	})
	m.webhooks = counter("lastseat_webhooks_total", "Webhooks of card processors, by what became of them.", "source",
		"result")
	m.duration = prometheus.NewHistogram(prometheus.HistogramOpts{
		Name: "lastseat_batch_duration_seconds", Help: "From the claim of a batch to the reply to its COMMIT.",
		Buckets: []float64{.002, .005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10, 30},
	})
	m.last = prometheus.NewGauge(prometheus.GaugeOpts{
		Name: "lastseat_last_batch_timestamp_seconds", Help: "When this worker last committed a batch; 0: never.",
	})
	m.holds = prometheus.NewGaugeVec(prometheus.GaugeOpts{
		Name: "lastseat_lane_held", Help: "1 if this worker holds the lane, 0 if it stands by.",
	}, []string{"lane"})
	swept := prometheus.NewCounterFunc(prometheus.CounterOpts{
		Name: "lastseat_rows_expired_total", Help: "Holds and authorizations that ran out and were given back.",
	}, func() float64 { return float64(options.Stats().Swept) })
	build := prometheus.NewGaugeFunc(prometheus.GaugeOpts{
		Name: "lastseat_build_info", Help: "1; the labels tell what runs.",
		ConstLabels: prometheus.Labels{"version": options.Version},
	}, func() float64 { return 1 })
	m.registry.MustRegister(m.settled, m.failed, m.repeated, m.webhooks, m.jobs, m.duration, m.last, m.holds, swept,
		build,
		newBacklog(options.Pool), collectors.NewGoCollector(),
		collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	m.begin(options)
	if options.Audit != nil {
		m.audit(options.Audit)
	}
	return m
}

// audit tells what the audit of this worker has found.
func (m *Metrics) audit(status func() AuditStatus) {
	gauge := func(name, help string, value func(AuditStatus) float64) {
		m.registry.MustRegister(prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: name, Help: help},
			func() float64 { return value(status()) }))
	}
	gauge("lastseat_invariant_violations", "Violations that the audit of this worker has found, and that hold.",
		func(a AuditStatus) float64 { return float64(len(a.Violations)) })
	gauge("lastseat_audit_last_run_timestamp_seconds", "When this worker last audited; 0: never.",
		func(a AuditStatus) float64 {
			if a.At.IsZero() {
				return 0
			}
			return float64(a.At.UnixMilli()) / 1000
		})
	gauge("lastseat_audit_behind_seconds", "Since when the oldest commit waits that is not audited yet; 0: none does.",
		func(a AuditStatus) float64 { return a.Behind.Seconds() })
	m.registry.MustRegister(prometheus.NewCounterFunc(prometheus.CounterOpts{
		Name: "lastseat_audited_rows_total", Help: "Rows that this worker has audited.",
	}, func() float64 { return float64(status().Rows) }))
}

// begin has counters that alarms look at begin at 0: rate and increase don't see the first step of one that is new.
func (m *Metrics) begin(options MetricsOptions) {
	for _, kind := range options.Kinds {
		m.failed.WithLabelValues(kind)
		m.settled.WithLabelValues(kind, string(outbox.Failed), outbox.CodeRetriesExhausted)
	}
	for _, sqlState := range []string{"40001", "40P01", "55P03"} {
		m.repeated.WithLabelValues("nobody's fault", sqlState)
	}
	for lane := range options.Lanes {
		m.Holds(lane, false)
	}
}

// Handler answers a scrape.
func (m *Metrics) Handler() http.Handler {
	return promhttp.HandlerFor(m.registry, promhttp.HandlerOpts{MaxRequestsInFlight: 4, Timeout: 30 * time.Second})
}

// Settled implements [outbox.Observer].
func (m *Metrics) Settled(batch outbox.SettledBatch) {
	for as, n := range batch.Settled {
		kind, code := m.labels.limit("kind", as.Kind), m.labels.limit("code", as.Code)
		m.settled.WithLabelValues(kind, string(as.Status), code).Add(float64(n))
	}
	for kind, n := range batch.Failed {
		m.failed.WithLabelValues(m.labels.limit("kind", kind)).Add(float64(n))
	}
	m.jobs.Observe(float64(batch.Jobs))
	m.duration.Observe(batch.Duration.Seconds())
	m.last.SetToCurrentTime()
}

// Repeated implements [outbox.Observer].
func (m *Metrics) Repeated(_ int, cause, sqlState string) {
	m.repeated.WithLabelValues(cause, m.labels.limit("sqlstate", sqlState)).Inc()
}

// Holds implements [outbox.Observer].
func (m *Metrics) Holds(lane int, holds bool) {
	value := 0.0
	if holds {
		value = 1
	}
	m.holds.WithLabelValues(strconv.Itoa(lane)).Set(value)
}

// Webhooks are counted for a processor: what it returns is the Observe of a processor.Receiver.
func (m *Metrics) Webhooks(source string) func(result string) {
	for _, result := range []string{"taken", "duplicate", "refused", "failed"} {
		m.webhooks.WithLabelValues(source, result)
	}
	return func(result string) { m.webhooks.WithLabelValues(source, result).Inc() }
}

// bounded keeps labels from growing without a bound: handlers of somebody's own may make up a code for every request.
type bounded struct {
	mu   sync.Mutex
	seen map[string]map[string]bool
}

// mostValues is how many values a label has before further ones are "other".
const mostValues = 100

func (b *bounded) limit(label, value string) string {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.seen == nil {
		b.seen = make(map[string]map[string]bool)
	}
	values := b.seen[label]
	if values == nil {
		values = make(map[string]bool)
		b.seen[label] = values
	}
	if !values[value] && len(values) >= mostValues {
		return "other"
	}
	values[value] = true
	return value
}
