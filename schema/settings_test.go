package schema_test

import (
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/lastseat/lastseat/internal/testdb"
	"github.com/lastseat/lastseat/schema"
)

// inOtherWays are settings whose values Postgres does not list, with what changes how text is read or written.
var inOtherWays = []string{
	`DateStyle = 'SQL, DMY'`, `DateStyle = 'German'`, `DateStyle = 'Postgres, MDY'`, `TimeZone = 'Asia/Kathmandu'`,
	`TimeZone = 'America/New_York'`, `timezone_abbreviations = 'India'`, `timezone_abbreviations = 'Australia'`,
	`extra_float_digits = -15`, `search_path = ''`, `search_path = 'public, pg_catalog'`, `client_encoding = 'SQL_ASCII'`,
	`lc_messages = 'C'`, `lc_monetary = 'C'`, `lc_numeric = 'C'`, `lc_time = 'C'`, `geqo_threshold = 2`,
	`from_collapse_limit = 1`, `join_collapse_limit = 1`, `work_mem = '64kB'`, `gin_fuzzy_search_limit = 1`,
	`default_text_search_config = 'german'`, `cursor_tuple_fraction = 0`,
}

// notTried are settings that stop or change what any statement does, as their names say.
var notTried = []string{
	"default_transaction_read_only", "transaction_read_only", "transaction_isolation", "transaction_deferrable", "role",
	"exit_on_error", "ignore_checksum_failure", "zero_damaged_pages", "debug_discard_caches", "force_parallel_mode",
	"debug_parallel_query", "allow_in_place_tablespaces", "allow_system_table_mods", "is_superuser",
	"in_hot_standby", "ignore_invalid_pages", "wal_consistency_checking", "ignore_system_indexes",
}

// everyCall asks for, defines and reads with each public function. Each row says what came of it.
const everyCall = `
SELECT lastseat.open_account('bank', 'EUR', NULL)::text UNION ALL SELECT lastseat.open_account('ada', 'EUR')::text;
SELECT lastseat.define_limit('g', 400)::text;
SELECT lastseat.define_resource('seat', 40, 2, 'g')::text UNION ALL SELECT lastseat.define_resource('room', 1)::text;
SELECT lastseat.transfer('t', 'bank', 'ada', 5, 'EUR', E'a\\b', $j${"n": 1.50, "s": "x\\\\1.0"}$j$)::text;
SELECT lastseat.transfer('t', 'bank', 'ada', 5, 'EUR', E'a\\b', $j${"s": "x\\\\1.0", "n": 1.5}$j$)::text;
SELECT lastseat.authorize('a', 'p', 'bank', 'ada', 5, 'EUR', '2999-01-01T00:00:00.25+00')::text;
SELECT lastseat.capture('c', 'p')::text;
SELECT lastseat.void('v', 'p')::text;
SELECT lastseat.refund('f', 'p', 2)::text;
SELECT lastseat.reverse('b', 't')::text;
SELECT lastseat.hold('h', 'r', '[{"resource": "seat"}, {"resource": "room",
	"during": "[2026-12-01T10:00:00.1234567Z,2026-12-01t11:30:00z)"}]', '2999-01-01 00:00+00', 'kim', true)::text;
SELECT lastseat.hold('h', 'r',
  $j$[{"resource": "room", "during": "[\"2026-12-01 15:30:00.123456+05:30\",2026-12-01T11:30Z)"},
	{"resource": "seat", "quantity": 1}]$j$, '2999-01-01 00:00+00', 'kim', true)::text;
SELECT lastseat.extend('e', 'r', '2999-01-02 00:00:00.5+00')::text;
SELECT lastseat.enqueue('reservation.extend', 'e',
  '{"reservation": "r", "expires_at": "2999-01-02t01:00:00.50+01:00"}')::text;
SELECT lastseat.confirm('o', 'r')::text UNION ALL SELECT lastseat.cancel('x', 'r')::text;
SELECT lastseat.book('k', 'r2', '[{"resource": "seat"}]', 'bank', 'ada', 5, 'EUR')::text;
SELECT m::text FROM lastseat.enqueue_many($j$[{"kind": "toy", "key": "m1", "args": {"x": "\\"}},
	{"kind": "toy", "key": "m2", "args": {}, "queue": "q", "scheduled_at": "2999-01-01t00:00:00z"}]$j$) m;
SELECT lastseat.retry('t')::text;
SELECT key || status || kind FROM lastseat.outcomes('{t,a,h}') UNION ALL SELECT key || status
  FROM lastseat.outcome('t');
SELECT count(*)::text FROM lastseat.outcomes_since() UNION ALL SELECT (lastseat.outcomes_cursor() <> '')::text;
SELECT currency || balance || held FROM lastseat.account('bank');
SELECT status || amount || extract(epoch FROM expires_at) FROM lastseat.payment('p');
SELECT status || customer || items || extract(epoch FROM expires_at) FROM lastseat.reservation('r');
SELECT a::text FROM lastseat.availability('{seat,room}'::text[]) a UNION ALL SELECT a::text
  FROM lastseat.availability('se') a;
SELECT count(*)::text FROM lastseat.occupied('room', '2026-12-01Z', '2026-12-02Z');
SELECT count(*)::text FROM lastseat.statement('bank') UNION ALL SELECT lastseat.balance_at('bank', '2999-01-01Z')::text;
SELECT encode(fingerprint, 'hex') FROM lastseat.requests ORDER BY key;
SELECT args::text FROM lastseat.river_job ORDER BY id`

// answers runs everyCall under settings, and rolls it back.
func answers(t *testing.T, pool *pgxpool.Pool, settings []string) (all []string) {
	t.Helper()
	trial(t, pool, func(tx pgx.Tx) {
		for _, setting := range settings {
			exec(t, tx, "SET LOCAL "+setting)
		}
		for call := range strings.SplitSeq(everyCall, ";\n") {
			rows, err := tx.Query(t.Context(), call, pgx.QueryExecModeExec)
			if err != nil {
				t.Fatalf("%v: %s: %v", settings, call, err)
			}
			got, err := pgx.CollectRows(rows, pgx.RowTo[string])
			if err != nil {
				t.Errorf("%v: %s: %v", settings, call, err)
				return
			}
			all = append(all, got...)
		}
	})
	return all
}

// No setting of the caller's session changes what a function does or returns.
func TestNoSettingChangesAFunction(t *testing.T) {
	t.Parallel()
	pool := migrated(t)
	want := answers(t, pool, []string{"TimeZone = 'UTC'"})
	if called := strings.Join(want, ""); !strings.Contains(called, "(h,reservation.hold,pending,t)") {
		t.Fatalf("the second hold is no duplicate: %v", want)
	}
	// every setting that is on or off, or one of a list, has another value
	all := column[string](t, pool, `
		SELECT name || ' = ' || quote_literal(CASE vartype WHEN 'bool' THEN CASE setting WHEN 'on' THEN 'off' ELSE 'on' END
		       ELSE (SELECT max(v) FROM unnest(enumvals) v WHERE v <> setting) END)
		FROM pg_settings WHERE vartype IN ('bool', 'enum') AND context IN ('user', 'superuser') AND name <> ALL ($1)
		  AND name !~ '^(log_|debug_|trace_|wal_|sync|client_min)' AND (vartype = 'bool' OR cardinality(enumvals) > 1)
		ORDER BY name = 'session_replication_role', name`, notTried)
	if len(all) < 40 || !slices.Contains(all, "standard_conforming_strings = 'off'") {
		t.Fatalf("only %d settings: %v", len(all), all)
	}
	tried := [][]string{all, {"standard_conforming_strings = off"}, {"session_replication_role = replica"}}
	for _, setting := range inOtherWays {
		tried = append(tried, []string{setting})
	}
	for _, settings := range tried {
		got := answers(t, pool, settings)
		if diff := cmp.Diff(want, got, cmpopts.EquateEmpty()); diff != "" {
			t.Errorf("%v (-default +with it):\n%s", settings, diff)
		}
	}
}

// A text constant with a backslash would mean something else under standard_conforming_strings = off.
func TestFunctionsHaveNoBareBackslash(t *testing.T) {
	t.Parallel()
	for _, bad := range column[string](t, migrated(t), `
		SELECT proname FROM pg_proc WHERE pronamespace = 'lastseat'::regnamespace AND proname !~ '^river_'
		  AND regexp_replace(prosrc, E'\\mE\'[^\']*\'', '', 'g') LIKE E'%\\\\%'`) {
		t.Errorf("%s has a backslash outside E'...'", bad)
	}
}

// A database whose encoding can't keep every text is refused before anything is done.
func TestUpRefusesAnotherEncoding(t *testing.T) {
	t.Parallel()
	url := testdb.Empty(t)
	admin := testdb.Pool(t, url)
	exec(t, admin, `CREATE DATABASE "latin one" TEMPLATE template0 ENCODING 'LATIN1' LC_COLLATE 'C' LC_CTYPE 'C'`)
	config := admin.Config().ConnConfig.Copy()
	latin := strings.Replace(url, "/"+config.Database, "/latin%20one", 1)
	_, err := schema.Up(t.Context(), latin, false)
	if err == nil || !strings.Contains(err.Error(), "LATIN1") || !strings.Contains(err.Error(), "UTF8") {
		t.Errorf("%v", err)
	}
	config.Database = "latin one"
	conn, err := pgx.ConnectConfig(t.Context(), config)
	if err != nil {
		t.Fatal(err)
	}
	if scalar[bool](t, conn, `SELECT to_regnamespace('lastseat') IS NOT NULL`) {
		t.Error("the schema is there")
	}
	_ = conn.Close(t.Context())
	exec(t, admin, `DROP DATABASE "latin one"`)
}
