package jobs_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/lastseat/lastseat/internal/testdb"
	"github.com/lastseat/lastseat/jobs"
	"github.com/lastseat/lastseat/outbox"
)

// planNode is a node of a plan that was carried out.
type planNode struct {
	Type     string      `json:"Node Type"`
	Relation string      `json:"Relation Name"`
	Schema   string      `json:"Schema"`
	Index    string      `json:"Index Name"`
	Cond     string      `json:"Index Cond"`
	TidCond  string      `json:"TID Cond"`
	Rows     json.Number `json:"Actual Rows"` // of one loop; from 18 on with decimals
	Loops    json.Number `json:"Actual Loops"`
	Removed  json.Number `json:"Rows Removed by Filter"`
	Rechecks json.Number `json:"Rows Removed by Index Recheck"`
	Hit      int         `json:"Shared Hit Blocks"`
	Read     int         `json:"Shared Read Blocks"`
	Plans    []planNode  `json:"Plans"`
}

type plan struct {
	Query string   `json:"Query Text"`
	Plan  planNode `json:"Plan"`
}

// plansOf has auto_explain tell every plan of the worker's sessions, also of the statements inside of functions and
// triggers. So a statement is looked at because it runs, and a new one can't be forgotten.
type plansOf struct {
	mu    sync.Mutex
	plans []plan
	bad   error
}

func (p *plansOf) notice(_ *pgconn.PgConn, n *pgconn.Notice) {
	_, text, found := strings.Cut(n.Message, "plan:\n")
	if !found {
		return
	}
	var told plan
	err := json.Unmarshal([]byte(text), &told)
	p.mu.Lock()
	defer p.mu.Unlock()
	if err != nil {
		p.bad = fmt.Errorf("%w: %s", err, text)
	}
	p.plans = append(p.plans, told)
}

func (p *plansOf) take() []plan {
	p.mu.Lock()
	defer p.mu.Unlock()
	taken := p.plans
	p.plans = nil
	return taken
}

func (p *plansOf) pool(t *testing.T, url string) *pgxpool.Pool {
	t.Helper()
	config, err := pgxpool.ParseConfig(url)
	if err != nil {
		t.Fatal(err)
	}
	config.ConnConfig.OnNotice = p.notice
	maps.Copy(config.ConnConfig.RuntimeParams, map[string]string{
		"session_preload_libraries": "auto_explain", "client_min_messages": "notice",
		"auto_explain.log_min_duration": "0", "auto_explain.log_nested_statements": "on",
		"auto_explain.log_analyze": "on", "auto_explain.log_buffers": "on", "auto_explain.log_timing": "off",
		"auto_explain.log_verbose": "on", "auto_explain.log_format": "json", "auto_explain.log_level": "notice",
	})
	pool, err := pgxpool.NewWithConfig(t.Context(), config)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(pool.Close)
	return pool
}

// small are the tables that have few rows for ever.
var small = []string{"river_queue", "river_leader", "lanes", "schema_migrations", "schema_functions", "river_migration"}

// todo are partial indexes that hold only what is to be done, so that a walk through one of them is no walk through
// history.
// timelines and history_waiting are read from one end, with a LIMIT; the bound on rows holds for them too.
var todo = []string{"resources_grown", "resources_waiting", "timelines_pkey", "history_waiting_pkey"}

// check finds what is read in another way than by key, and what reads more than a batch of n jobs needs.
func (n *planNode) check(leading map[string]string, jobs int, complain func(format string, args ...any)) {
	for i := range n.Plans {
		n.Plans[i].check(leading, jobs, complain)
	}
	if n.Relation == "" || n.Schema != "lastseat" || slices.Contains(small, n.Relation) {
		return
	}
	switch {
	case strings.HasPrefix(n.Type, "Index"):
		if !strings.Contains(n.Cond, leading[n.Index]) && !slices.Contains(todo, n.Index) {
			complain("walks through %s: the condition is %q", n.Index, n.Cond)
		}
	case n.Type == "Tid Scan":
	case strings.HasSuffix(n.Type, "Scan"):
		complain("%s of %s", n.Type, n.Relation)
	}
	if rows := n.rowsRead(); strings.HasSuffix(n.Type, "Scan") && rows > float64(100+20*jobs) {
		complain("%s of %s (%s) reads %.0f rows", n.Type, n.Relation, n.Index, rows)
	}
}

func (n *planNode) rowsRead() float64 {
	number := func(text json.Number) float64 {
		value, _ := text.Float64()
		return value
	}
	return (number(n.Rows) + number(n.Removed) + number(n.Rechecks)) * number(n.Loops)
}

// hostile are statistics that are wrong. Postgres has them after an ANALYZE at the wrong moment; here they are written
// into the catalog, so that every table has them at once.
var hostile = map[string]string{
	// analyzed when drained
	"empty": `UPDATE pg_class SET reltuples = 0, relpages = pg_relation_size(oid) / 8192 ` + ours,
	"never analyzed": `DELETE FROM pg_statistic WHERE starelid IN (
		SELECT oid FROM pg_class WHERE relnamespace = 'lastseat'::regnamespace);
		UPDATE pg_class SET reltuples = -1, relpages = 0 ` + ours,
	"huge": `UPDATE pg_class SET reltuples = 1e9, relpages = 1e7 ` + ours,
}

const ours = `WHERE relnamespace = 'lastseat'::regnamespace AND relkind IN ('r', 'i')`

// everyKind asks for requests of every kind, whose names have a prefix in them. Some of the holds and authorizations
// run out at once, and some of the holds wait.
const everyKind = `
	SELECT count(*) FROM (SELECT jsonb_agg(r ORDER BY n, place) AS all_of_them FROM generate_series(1, %[2]d) n,
	LATERAL (SELECT '%[1]s-' || n AS id) AS k,
	LATERAL (VALUES
		(1, 'payment.transfer', 't', jsonb_build_object('from', 'bank', 'to', 'a' || n %% 50, 'amount', 100,
			'currency', 'EUR')),
		(2, 'payment.authorize', 'a', jsonb_build_object('payment', 'p' || id, 'from', 'bank', 'to', 'shop',
			'amount', 7, 'currency', 'EUR')),
		(3, 'payment.capture', 'c', jsonb_build_object('payment', 'p' || id)),
		(4, 'payment.refund', 'f', jsonb_build_object('payment', 'p' || id, 'amount', 1)),
		(5, 'payment.authorize', 'o', jsonb_build_object('payment', 'o' || id, 'from', 'bank', 'to', 'shop',
			'amount', 7, 'currency', 'EUR', 'expires_at', clock_timestamp() + '1 ms')),
		(6, 'payment.authorize', 'v', jsonb_build_object('payment', 'v' || id, 'from', 'bank', 'to', 'shop',
			'amount', 7, 'currency', 'EUR')),
		(7, 'payment.void', 'w', jsonb_build_object('payment', 'v' || id)),
		(8, 'payment.reverse', 'r', jsonb_build_object('transfer', 't' || id)),
		(9, 'reservation.hold', 'h', jsonb_build_object('reservation', 'h' || id, 'customer', 'ada',
			'items', jsonb_build_array(jsonb_build_object('resource', 'stock')))),
		(10, 'reservation.extend', 'x', jsonb_build_object('reservation', 'h' || id, 'expires_at',
			clock_timestamp() + '1 day')),
		(11, 'reservation.confirm', 'i', jsonb_build_object('reservation', 'h' || id)),
		(12, 'reservation.cancel', 'j', jsonb_build_object('reservation', 'h' || id)),
		(13, 'reservation.hold', 's', jsonb_build_object('reservation', 's' || id, 'wait', true,
			'expires_at', clock_timestamp() + '300 ms',
			'items', jsonb_build_array(jsonb_build_object('resource', 'seat')))),
		(14, 'booking.book', 'b', jsonb_build_object('reservation', 'b' || id, 'from', 'bank', 'to', 'shop',
			'amount', 7, 'currency', 'EUR', 'items', jsonb_build_array(jsonb_build_object('resource', 'room',
			'during', tstzrange(now() + n * interval '1 hour' + '%[3]d days',
				now() + n * interval '1 hour' + '%[3]d days 30 min')))))
	) AS asked(place, kind, letter, args),
	LATERAL (SELECT jsonb_build_object('kind', kind, 'key', letter || id, 'args', args) AS r) AS request) AS asked,
	lastseat.enqueue_many(asked.all_of_them)`

// Nothing that the worker does may depend on what Postgres believes of its tables: autovacuum analyzes a drained queue
// in every quiet hour, before the next burst. Each statement reads by key, and no more than its batch needs.
func TestPlansUnderHostileStatistics(t *testing.T) {
	t.Parallel()
	url := testdb.New(t)
	pool := testdb.Pool(t, url)
	told := &plansOf{}
	watched := told.pool(t, url)
	if err := watched.Ping(t.Context()); err != nil {
		t.Skipf("auto_explain can't be loaded, which takes a superuser: %v", err)
	}
	exec(t, pool, `SELECT lastseat.open_account('bank', 'EUR', NULL), lastseat.open_account('shop', 'EUR', NULL);
		SELECT lastseat.open_account('a' || n, 'EUR', NULL) FROM generate_series(0, 49) n;
		SELECT lastseat.define_resource('stock', 1000000), lastseat.define_resource('seat', 1),
			lastseat.define_resource('room', 1)`)
	exec(t, pool, `DO $$ DECLARE name text; BEGIN
		FOR name IN SELECT oid::regclass FROM pg_class WHERE relkind = 'r' AND relnamespace = 'lastseat'::regnamespace LOOP
			EXECUTE 'ALTER TABLE ' || name || ' SET (autovacuum_enabled = off)';
		END LOOP; END $$`)
	exec(t, pool, fmt.Sprintf(everyKind, "history", testdb.Soak(100, 2000), 0))
	drain(t, pool, outbox.Settings{})

	leading := leadingColumns(t, pool)
	seen := map[string]bool{}
	day := 1000
	for name, sql := range hostile {
		for _, keep := range []outbox.Settings{{}, {KeepCompleted: 1, Lanes: 2}} {
			const batch = 3
			day += 10
			exec(t, pool, fmt.Sprintf(everyKind, strings.ReplaceAll(name, " ", "-")+fmt.Sprint(day), batch, day))
			for _, raw := range []string{"payment.transfer", "failing"} { // they fail: one for good, one has another attempt
				exec(t, pool, `INSERT INTO lastseat.river_job (kind, queue, args, state, max_attempts)
					SELECT $1, 'lastseat', jsonb_build_object('key', $2 || n), 'available', n FROM generate_series(1, 2) n`,
					raw, fmt.Sprint(raw, name, day))
			}
			exec(t, pool, `UPDATE lastseat.river_job SET state = 'available', finalized_at = NULL WHERE state = 'discarded'`)
			// They are late, so that what the lane asks to say why is looked at, too.
			exec(t, pool, `UPDATE lastseat.river_job SET scheduled_at = scheduled_at - interval '1 h',
				created_at = created_at - interval '1 h' WHERE state = 'available'`)
			exec(t, pool, sql)
			drainWith(t, watched, keep)
			plans := told.take()
			if len(plans) == 0 {
				t.Fatal("auto_explain told nothing")
			}
			for i := range plans {
				seen[plans[i].Query] = true
				plans[i].Plan.check(leading, 15*batch, func(format string, args ...any) {
					t.Errorf("%s: %s\n%s", name, fmt.Sprintf(format, args...), plans[i].Query)
				})
			}
		}
	}
	if told.bad != nil {
		t.Error(told.bad)
	}
	t.Logf("%d different statements", len(seen))
}

type failing struct {
	Key string `json:"key,omitempty"`
}

func (failing) Kind() string { return "failing" }

func drainWith(t *testing.T, pool *pgxpool.Pool, settings outbox.Settings) {
	t.Helper()
	kinds := &outbox.Kinds{}
	jobs.Register(kinds)
	outbox.Register(kinds, func(context.Context, pgx.Tx, failing) (outbox.Result, error) {
		return outbox.Result{}, errors.New("it fails")
	})
	settings.Logger = slog.New(slog.DiscardHandler)
	if err := outbox.NewWorker(pool, kinds, settings).Drain(t.Context()); err != nil {
		t.Fatal(err)
	}
}

// leadingColumns are the first columns of all indexes, as an Index Cond has them.
func leadingColumns(t *testing.T, pool *pgxpool.Pool) map[string]string {
	t.Helper()
	rows, err := pool.Query(t.Context(), `SELECT c.relname, pg_get_indexdef(i.indexrelid, 1, true)
		FROM pg_index i JOIN pg_class c ON c.oid = i.indexrelid WHERE c.relnamespace = 'lastseat'::regnamespace`)
	if err != nil {
		t.Fatal(err)
	}
	leading := map[string]string{}
	word := regexp.MustCompile(`[a-z_0-9]+`)
	for rows.Next() {
		var index, column string
		if err := rows.Scan(&index, &column); err != nil {
			t.Fatal(err)
		}
		leading[index] = word.FindString(column)
	}
	return leading
}
