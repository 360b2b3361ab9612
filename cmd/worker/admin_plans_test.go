package main

import (
	"context"
	"encoding/json"
	"maps"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/lastseat/lastseat/internal/admin"
	"github.com/lastseat/lastseat/internal/testdb"
	"github.com/lastseat/lastseat/outbox"
)

// plan is a node of a plan that was carried out.
type plan struct {
	Type     string  `json:"Node Type"`
	Relation string  `json:"Relation Name"`
	Schema   string  `json:"Schema"`
	Index    string  `json:"Index Name"`
	Rows     float64 `json:"Actual Rows"` // of one loop
	Loops    float64 `json:"Actual Loops"`
	Removed  float64 `json:"Rows Removed by Filter"`
	Plans    []plan  `json:"Plans"`
}

// told are the plans of a session's statements, which auto_explain tells.
type told struct {
	mu    sync.Mutex
	plans map[string]plan // by statement
	bad   error
}

func (p *told) notice(_ *pgconn.PgConn, n *pgconn.Notice) {
	_, text, found := strings.Cut(n.Message, "plan:\n")
	if !found {
		return
	}
	var seen struct {
		Query string `json:"Query Text"`
		Plan  plan   `json:"Plan"`
	}
	err := json.Unmarshal([]byte(text), &seen)
	p.mu.Lock()
	defer p.mu.Unlock()
	if err != nil {
		p.bad = err
	}
	p.plans[seen.Query] = seen.Plan
}

func (p *told) take() map[string]plan {
	p.mu.Lock()
	defer p.mu.Unlock()
	taken := p.plans
	p.plans = make(map[string]plan)
	return taken
}

// watchedPool is a pool whose statements are told. It skips the test where that takes rights that the login lacks.
func watchedPool(t *testing.T, dbURL string, to *told) *pgxpool.Pool {
	t.Helper()
	config, err := pgxpool.ParseConfig(dbURL)
	if err != nil {
		t.Fatal(err)
	}
	config.ConnConfig.OnNotice = to.notice
	maps.Copy(config.ConnConfig.RuntimeParams, map[string]string{
		"session_preload_libraries": "auto_explain", "client_min_messages": "notice",
		"auto_explain.log_min_duration": "0", "auto_explain.log_nested_statements": "on",
		"auto_explain.log_analyze": "on", "auto_explain.log_timing": "off", "auto_explain.log_verbose": "on",
		"auto_explain.log_format": "json", "auto_explain.log_level": "notice",
	})
	pool, err := pgxpool.NewWithConfig(t.Context(), config)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(pool.Close)
	if err := pool.Ping(t.Context()); err != nil {
		t.Skipf("auto_explain can't be loaded, which takes a superuser: %v", err)
	}
	return pool
}

// mostRead is how many rows of a table a statement of the pages may read. The table has more in the test.
var mostRead = map[string]float64{
	"river_job": 10_001, "outcome_log": 5_000, "requests": 1_001, "entries": 1_000, "transfers": 1_000, "accounts": 100,
	"resources": 501,
}

// check finds whatever reads a table other than along an index, or reads too much of it.
func (n *plan) check(complain func(format string, args ...any)) {
	for i := range n.Plans {
		n.Plans[i].check(complain)
	}
	most, isLarge := mostRead[n.Relation]
	if n.Schema != "lastseat" || !isLarge || !strings.HasSuffix(n.Type, "Scan") {
		return
	}
	if !strings.HasPrefix(n.Type, "Index") {
		complain("%s of %s", n.Type, n.Relation)
	}
	if rows := (n.Rows + n.Removed) * n.Loops; rows > most {
		complain("%s of %s (%s) reads %.0f rows", n.Type, n.Relation, n.Index, rows)
	}
}

// plansServer is the admin server of a worker that does not run, with the doctor, and its pool.
func plansServer(t *testing.T, pool *pgxpool.Pool) (address string) {
	t.Helper()
	own, err := admin.NewPool(t.Context(), pool)
	if err != nil {
		t.Fatal(err)
	}
	ui, err := admin.NewRiverPool(t.Context(), pool)
	if err != nil {
		t.Fatal(err)
	}
	metrics := admin.NewMetrics(admin.MetricsOptions{
		Lanes: 1, Pool: own, Stats: func() outbox.Snapshot { return outbox.Snapshot{} },
	})
	server, err := admin.Listen(t.Context(), admin.Options{
		Address: "127.0.0.1:0", Pool: own, RiverPool: ui, Metrics: metrics.Handler(),
		Examine: func(ctx context.Context) ([]admin.Finding, error) { return examine(ctx, own, 1) },
	})
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(context.WithoutCancel(t.Context()))
	ended := make(chan error, 1)
	go func() { ended <- server.Serve(ctx) }()
	t.Cleanup(func() {
		stop()
		if err := <-ended; err != nil {
			t.Error(err)
		}
		own.Close()
		ui.Close()
	})
	return server.URL()
}

// years has more rows in each table than a page may read of it.
const years = `
	SELECT lastseat.open_account('x' || n, 'EUR') FROM generate_series(1, 200) n;
	SELECT lastseat.define_resource('seat' || n, 1) FROM generate_series(1, 600) n;
	SELECT lastseat.enqueue_many(jsonb_agg(jsonb_build_object('kind', 'payment.transfer', 'key', 'k' || n, 'args',
		jsonb_build_object('from', 'bank', 'to', 'ada', 'amount', 1, 'currency', 'EUR'))))
	FROM generate_series(1, 1200) n`

// more are jobs that wait and were inserted directly, and old rows of the log.
const more = `
	INSERT INTO lastseat.river_job (kind, queue, args, state, scheduled_at)
	SELECT 'payment.transfer', 'lastseat', jsonb_build_object('key', 'raw' || n), s.state::lastseat.river_job_state,
	       now() + s.due FROM generate_series(1, 6000) n,
	       (VALUES ('available', '-1 s'::interval), ('available', '-1 s'), ('scheduled', '1 day')) s(state, due);
	SELECT lastseat.transfer('last', 'bank', 'ada', 1, 'EUR');
	ALTER TABLE lastseat.outcome_log DISABLE TRIGGER USER;
	INSERT INTO lastseat.outcome_log (timeline, settled_at, keys)
	SELECT max(l.timeline), max(l.settled_at), array_agg(DISTINCT k.key)
	FROM lastseat.outcome_log l, unnest(l.keys) k(key), generate_series(1, 6000) n WHERE k.key = 'k1' GROUP BY n`

// hostile are statistics as Postgres has them after an ANALYZE at the wrong moment, or none.
var hostile = map[string]string{
	"right": `ANALYZE lastseat.river_job, lastseat.requests, lastseat.outcome_log, lastseat.entries, lastseat.transfers`,
	"empty": `UPDATE pg_class SET reltuples = 0, relpages = pg_relation_size(oid) / 8192 ` + ofLastseat,
	"never analyzed": `DELETE FROM pg_statistic WHERE starelid IN (
		SELECT oid FROM pg_class WHERE relnamespace = 'lastseat'::regnamespace);
		UPDATE pg_class SET reltuples = -1, relpages = 0 ` + ofLastseat,
	"huge": `UPDATE pg_class SET reltuples = 1e9, relpages = 1e7 ` + ofLastseat,
}

const ofLastseat = `WHERE relnamespace = 'lastseat'::regnamespace AND relkind IN ('r', 'i')`

// However many rows there are, and whatever Postgres believes of its tables, each statement of the pages, of the doctor
// behind them and of a scrape reads along an index, and a bounded number of rows.
func TestPlansOfThePages(t *testing.T) {
	t.Parallel()
	dbURL := testdb.New(t)
	pool := open(t, dbURL)
	seen := &told{plans: make(map[string]plan)}
	watched := watchedPool(t, dbURL, seen)
	testdb.Exec(t, pool, years)
	runWith(t, dbURL, "run", "--drain").Succeeds(t)
	testdb.Exec(t, pool, more)
	for name, sql := range hostile {
		testdb.Exec(t, pool, sql)
		address := plansServer(t, watched) // with sessions of its own, which plan anew
		seen.take()
		for _, path := range []string{
			"/", "/request?key=k1", "/request?key=last", "/request?key=raw1", "/request?key=nothing", "/account?id=ada",
			"/account?id=bank&before=1000", "/requests", "/requests?status=pending", "/requests?status=failed",
			"/requests?status=rejected&since=ever", "/requests?kind=none", "/search?q=k", "/search?q=seat", "/search?q=x1",
			"/resources", "/resource?id=seat1", "/metrics", "/readyz?verbose",
		} {
			code, body := get(t, address+path)
			if code != 200 && code != 404 && !strings.HasPrefix(path, "/readyz") {
				t.Errorf("%s: %d %s", path, code, body)
			}
		}
		plans := seen.take()
		if len(plans) < 20 {
			t.Fatalf("auto_explain told %d plans", len(plans))
		}
		for _, query := range slices.Sorted(maps.Keys(plans)) {
			done := plans[query]
			if strings.Contains(query, "AS w(queue, due, oldest, paused)") {
				continue // the sample for the picture of the last hour, which no page waits for, counts up to 100,000
			}
			done.check(func(format string, args ...any) {
				t.Errorf("%s: "+format+"\n%s", slices.Concat([]any{name}, args, []any{query})...)
			})
		}
	}
	if seen.bad != nil {
		t.Error(seen.bad)
	}
}
