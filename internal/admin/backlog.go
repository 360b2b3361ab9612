package admin

import (
	"context"
	"strconv"
	"sync"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/lastseat/lastseat/outbox"
)

// backlog collects what only the database knows. However often it is asked, it reads once in a few seconds, by key or
// along an index, and counts no further than a bound.
type backlog struct {
	pool *pgxpool.Pool

	mu   sync.Mutex
	at   time.Time
	read []prometheus.Metric
}

const (
	readEvery = 5 * time.Second
	readLimit = 3 * time.Second
	mostDue   = 10_000 // that are counted of a queue
)

var (
	upDesc = prometheus.NewDesc("lastseat_database_up",
		"1 if the database answered when the metrics were read.", nil, nil)

	waitingDesc = prometheus.NewDesc("lastseat_backlog_requests",
		"Requests that are due and wait, counted up to 10,001.", []string{"queue"}, nil)
	oldestDesc = prometheus.NewDesc("lastseat_backlog_oldest_age_seconds",
		"How long the request has been due that has waited longest; 0: none waits.", []string{"queue"}, nil)
	pausedDesc = prometheus.NewDesc("lastseat_queue_paused", "1 if somebody has paused the queue.", []string{"queue"}, nil)
	holderDesc = prometheus.NewDesc("lastseat_lane_has_holder",
		"1 if a session holds the lane, of this worker or another one.", []string{"queue", "lane"}, nil)
	overdueDesc = prometheus.NewDesc("lastseat_expiry_overdue_seconds",
		"How long the oldest hold or authorization that ran out has not been given back; 0: none.",
		[]string{"relation"}, nil)
	horizonDesc = prometheus.NewDesc("lastseat_horizon_age_transactions",
		"Age of the oldest snapshot that keeps dead rows in place, as far as the worker's role may see.", nil, nil)
	notifyDesc = prometheus.NewDesc("lastseat_notification_queue_ratio",
		"How full Postgres's notification queue is, 0 to 1.", nil, nil)
	deadDesc = prometheus.NewDesc("lastseat_job_dead_rows", "Dead rows of river_job, as Postgres estimates.", nil, nil)
)

func newBacklog(pool *pgxpool.Pool) *backlog { return &backlog{pool: pool} }

// Describe implements prometheus.Collector.
func (b *backlog) Describe(descs chan<- *prometheus.Desc) {
	for _, desc := range []*prometheus.Desc{
		upDesc, waitingDesc, oldestDesc, pausedDesc, holderDesc, overdueDesc, horizonDesc, notifyDesc, deadDesc,
	} {
		descs <- desc
	}
}

// Collect implements prometheus.Collector.
func (b *backlog) Collect(metrics chan<- prometheus.Metric) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.at.IsZero() || time.Since(b.at) > readEvery {
		ctx, cancel := context.WithTimeout(context.Background(), readLimit)
		defer cancel()
		up := 1.0
		b.read = nil
		if err := b.query(ctx); err != nil {
			b.read, up = nil, 0 // what was read before is not true now
		}
		b.add(upDesc, up)
		b.at = time.Now()
	}
	for _, metric := range b.read {
		metrics <- metric
	}
}

func (b *backlog) add(desc *prometheus.Desc, value float64, labels ...string) {
	b.read = append(b.read, prometheus.MustNewConstMetric(desc, prometheus.GaugeValue, value, labels...))
}

const (
	queuesSQL = `
	SELECT n.name,
	       (SELECT count(*) FROM (SELECT FROM lastseat.river_job j
	                              WHERE j.state = 'available' AND j.queue = n.name COLLATE "default"
	                                AND j.scheduled_at <= now() LIMIT $1) due)::float8,
	       coalesce((SELECT max(extract(epoch FROM now() - o.scheduled_at)) FROM generate_series(1, 4) p, LATERAL (
	          SELECT j.scheduled_at FROM lastseat.river_job j
	          WHERE j.state = 'available' AND j.queue = n.name COLLATE "default" AND j.priority = p
	            AND j.scheduled_at <= now() AND isfinite(j.scheduled_at)
	          ORDER BY j.scheduled_at, j.id LIMIT 1) o), 0)::float8,
	       EXISTS (SELECT FROM lastseat.river_queue q WHERE q.name = n.name COLLATE "default" AND q.paused_at IS NOT NULL)
	FROM (SELECT l.queue FROM lastseat.lanes l UNION SELECT '` + outbox.Queue + `') AS n(name)
	ORDER BY n.name LIMIT 100`

	holdersSQL = `
	SELECT l.queue, l.lane, EXISTS (SELECT FROM pg_stat_activity a
	                                WHERE a.pid = l.pid AND a.datname = current_database() AND l.holder IS NOT NULL
	                                  AND a.application_name = 'lastseat lane')
	FROM lastseat.lanes l
	WHERE l.lane < (SELECT f.lanes FROM lastseat.lanes f WHERE f.queue = l.queue AND f.lane = 0)
	ORDER BY l.queue, l.lane LIMIT 1000`

	// One number each, so that a role that may not see something gets 0 for it.
	figuresSQL = `
	SELECT coalesce((SELECT extract(epoch FROM now() - p.expires_at) FROM lastseat.payments p
	                 WHERE p.status = 'authorized' AND p.calling IS NULL AND p.expires_at < now()
	                   AND isfinite(p.expires_at)
	                 ORDER BY p.expires_at, p.id LIMIT 1), 0)::float8,
	       coalesce((SELECT extract(epoch FROM now() - r.expires_at) FROM lastseat.reservations r
	                 WHERE r.status IN ('held', 'waiting') AND r.expires_at < now() AND isfinite(r.expires_at)
	                 ORDER BY r.expires_at, r.id LIMIT 1), 0)::float8,
	       coalesce((SELECT max(h.age) FROM (
	          SELECT greatest(age(a.backend_xid), age(a.backend_xmin)) AS age FROM pg_stat_activity a
	          WHERE a.pid <> pg_backend_pid()
	          UNION ALL SELECT age(x.transaction) FROM pg_prepared_xacts x
	          UNION ALL SELECT age(s.xmin) FROM pg_replication_slots s) h), 0)::float8,
	       pg_notification_queue_usage(),
	       coalesce(pg_stat_get_dead_tuples('lastseat.river_job'::regclass), 0)::float8`
)

// query reads everything on one snapshot.
func (b *backlog) query(ctx context.Context) error {
	return read(ctx, b.pool, func(tx pgx.Tx) error {
		var queue string
		var waiting, oldest float64
		var lane int
		var yes bool
		rows, _ := tx.Query(ctx, queuesSQL, mostDue+1) // ForEachRow has the error
		_, err := pgx.ForEachRow(rows, []any{&queue, &waiting, &oldest, &yes}, func() error {
			b.add(waitingDesc, waiting, queue)
			b.add(oldestDesc, max(0, oldest), queue)
			b.add(pausedDesc, asNumber(yes), queue)
			return nil
		})
		if err != nil {
			return err
		}
		rows, _ = tx.Query(ctx, holdersSQL)
		_, err = pgx.ForEachRow(rows, []any{&queue, &lane, &yes}, func() error {
			b.add(holderDesc, asNumber(yes), queue, strconv.Itoa(lane))
			return nil
		})
		if err != nil {
			return err
		}
		var payments, reservations, horizon, notify, dead float64
		err = tx.QueryRow(ctx, figuresSQL).Scan(&payments, &reservations, &horizon, &notify, &dead)
		b.add(overdueDesc, payments, "payments")
		b.add(overdueDesc, reservations, "reservations")
		b.add(horizonDesc, horizon)
		b.add(notifyDesc, notify)
		b.add(deadDesc, dead)
		return err
	})
}

func asNumber(yes bool) float64 {
	if yes {
		return 1
	}
	return 0
}
