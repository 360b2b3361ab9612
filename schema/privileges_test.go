package schema_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/lastseat/lastseat/internal/clitest"
	"github.com/lastseat/lastseat/jobs"
	"github.com/lastseat/lastseat/outbox"
)

// as is a session that is a role from the beginning: with SET ROLE alone it would stay a superuser's.
func as(t *testing.T, pool *pgxpool.Pool, role string) *pgx.Conn {
	t.Helper()
	conn := connect(t, pool, "")
	exec(t, conn, "SET SESSION AUTHORIZATION "+pgx.Identifier{role}.Sanitize())
	return conn
}

// member makes a login of a service's own that is a member of a role, with a schema of its own.
func member(t *testing.T, pool *pgxpool.Pool, role string) (name, mine string) {
	t.Helper()
	mine = scalar[string](t, pool, `SELECT current_database()`)
	mine = mine[len(mine)-12:] // a cluster has the roles of all tests' databases
	name = "member_" + mine
	mine = "schema_" + mine
	exec(t, pool,
		fmt.Sprintf(`CREATE ROLE %[1]s LOGIN PASSWORD 'secret'; GRANT %[3]s TO %[1]s; CREATE SCHEMA %[2]s AUTHORIZATION %[1]s`, name, mine, role))
	t.Cleanup(func() {
		_, err := pool.Exec(context.WithoutCancel(t.Context()), fmt.Sprintf(`DROP OWNED BY %[1]s CASCADE; DROP ROLE %[1]s`,
			name))
		if err != nil {
			t.Error(err)
		}
	})
	return name, mine
}

// May do with each table: r SELECT, a INSERT, w UPDATE, d DELETE. Nobody has more (TRUNCATE, REFERENCES, TRIGGER); a
// viewer has r everywhere, a producer nothing.
var workerMay = map[string]string{
	"accounts": "r", "calls": "ra", "currencies": "r", "customer_counts": "ra", "entries": "ra", "limit_groups": "r",
	"history": "ra", "history_waiting": "rd", "lanes": "raw", "outcome_log": "r", "timelines": "r",
	"relays":   "raw",
	"payments": "ra", "taken_events": "r",
	"requests": "ra", "reservation_items": "ra", "reservations": "ra", "resources": "r", "schema_functions": "r",
	"schema_migrations": "r", "transfers": "ra", "waiting_items": "rad",
	"river_job": "rad", "river_leader": "rawd", "river_migration": "r", "river_notification": "rawd",
	"river_queue": "rawd",
	"retention":   "r", "removed": "r", "removed_ids": "r", "closings": "r",
}

// The columns that a worker may change, where it may not change all: what it settles, not what was asked for or
// defined.
var workerMayChange = map[string][]string{
	"accounts": {"balance", "held", "version", "entry_count", "updated_at"},
	"calls": {"attempt", "job_id", "result", "code", "detail", "not_before", "answered_at", "body",
		"ended_at"},
	"customer_counts": {"quantity", "version"},
	"payments": {"status", "amount_captured", "amount_refunded", "version", "updated_at",
		"reference", "calling", "in_flight"},
	"requests":          {"status", "code", "detail", "attempts", "place", "ordering", "settled_at"},
	"reservation_items": {"occupies"},
	"reservations":      {"status", "expires_at", "waiting_number", "version", "updated_at"},
	"resources":         {"held", "confirmed", "waiting", "grown", "version", "updated_at"},
	"river_job": {"state", "attempt", "max_attempts", "attempted_at", "attempted_by", "errors", "finalized_at",
		"scheduled_at", "metadata", "kind"},
}

// partlyInserted are the tables of which a worker inserts some columns; the others have their defaults.
var partlyInserted = []string{"calls", "customer_counts", "payments", "requests", "reservations"}

// Right by right, tried out: what a role may not do is refused with 42501, before anything else is looked at.
func TestRightByRight(t *testing.T) {
	t.Parallel()
	pool := migrated(t)
	tables := column[string](t, pool, `SELECT relname FROM pg_class WHERE relnamespace = 'lastseat'::regnamespace
		AND relkind IN ('r', 'v', 'm', 'p') ORDER BY relname COLLATE "C"`)
	if known := slices.Sorted(maps.Keys(workerMay)); !slices.Equal(tables, known) {
		t.Fatalf("the tables are %v, the test knows %v", tables, known)
	}
	for _, role := range []string{"lastseat_producer", "lastseat_viewer", "lastseat_worker", "lastseat_keeper"} {
		conn := as(t, pool, role)
		for _, table := range tables {
			may := map[string]string{"lastseat_producer": "", "lastseat_viewer": "r", "lastseat_worker": workerMay[table],
				"lastseat_keeper": "r"}[role]
			first := scalar[string](t, pool, `SELECT quote_ident(attname) FROM pg_attribute
				WHERE attrelid = ('lastseat.' || $1)::regclass AND attnum > 0 AND attidentity = '' AND attgenerated = ''
				  ORDER BY attnum LIMIT 1`, table)
			for right, sql := range map[string]string{
				"r": `SELECT count(*) FROM lastseat.%[1]s`, "a": `INSERT INTO lastseat.%[1]s DEFAULT VALUES`,
				"w": `UPDATE lastseat.%[1]s SET %[2]s = DEFAULT`,
				"d": `DELETE FROM lastseat.%[1]s`, "truncate": `TRUNCATE lastseat.%[1]s`,
				"trigger": `CREATE TRIGGER x BEFORE INSERT ON lastseat.%[1]s EXECUTE FUNCTION suppress_redundant_updates_trigger()`,
				"alter":   `ALTER TABLE lastseat.%[1]s ADD x int`, "drop": `DROP TABLE lastseat.%[1]s`,
				"index":    `CREATE INDEX ON lastseat.%[1]s (%[2]s)`,
				"lock":     `LOCK TABLE lastseat.%[1]s IN ACCESS EXCLUSIVE MODE`,
				"policy":   `ALTER TABLE lastseat.%[1]s ENABLE ROW LEVEL SECURITY`,
				"comment":  `COMMENT ON TABLE lastseat.%[1]s IS 'mine'`,
				"copy out": `COPY lastseat.%[1]s TO STDOUT`, "copy in": `COPY lastseat.%[1]s FROM STDIN`,
			} {
				allowed := strings.Contains(may, right) && len(right) == 1
				switch right {
				case "copy out":
					allowed = strings.Contains(may, "r")
				case "copy in":
					allowed = strings.Contains(may, "a") && !slices.Contains(partlyInserted, table)
				case "lock": // Postgres grants it with any right to write more than rows that are new
					allowed = strings.ContainsAny(may, "wd")
				}
				err := attempt(t, conn, fmt.Sprintf(sql, table, first))
				if refused := sqlState(err) == "42501"; refused == allowed {
					t.Errorf("%s, %s of %s: allowed is %t, and it says %v", role, right, table, allowed, err)
				}
			}
		}
		for _, table := range tables {
			whole := role == "lastseat_worker" && strings.Contains(workerMay[table], "w")
			for _, name := range column[string](t, pool, `SELECT attname FROM pg_attribute
				WHERE attrelid = ('lastseat.' || $1)::regclass AND attnum > 0 AND NOT attisdropped AND attgenerated = ''`, table) {
				may := whole || role == "lastseat_worker" && slices.Contains(workerMayChange[table], name)
				err := attempt(t, conn, fmt.Sprintf(`UPDATE lastseat.%s SET %q = %[2]q WHERE false`, table, name))
				if refused := sqlState(err) == "42501"; refused == may {
					t.Errorf("%s, change of %s.%s: allowed is %t, and it says %v", role, table, name, may, err)
				}
			}
		}
		for _, sequence := range column[string](t, pool, `SELECT relname FROM pg_class
			WHERE relnamespace = 'lastseat'::regnamespace AND relkind = 'S'`) {
			for _, sql := range []string{`SELECT setval('lastseat.%s', 1)`, `ALTER SEQUENCE lastseat.%s RESTART`} {
				if err := attempt(t, conn, fmt.Sprintf(sql, sequence)); sqlState(err) != "42501" {
					t.Errorf("%s may %s: %v", role, fmt.Sprintf(sql, sequence), err)
				}
			}
			allowed := role == "lastseat_worker" && sequence != "outcome_log_number_seq" &&
				sequence != "history_waiting_number_seq"
			if err := attempt(t, conn, fmt.Sprintf(`SELECT nextval('lastseat.%s')`,
				sequence)); (sqlState(err) == "42501") == allowed {
				t.Errorf("%s, nextval of %s: %v", role, sequence, err)
			}
		}
	}
}

// A worker may see what other sessions do, so that its log can say who has locked a row; nobody else may.
func TestWhoSeesOthersStatements(t *testing.T) {
	t.Parallel()
	pool := migrated(t)
	name, _ := member(t, pool, "lastseat_worker")
	stranger := connect(t, pool, "")
	exec(t, stranger, `SELECT 'a secret'`)
	for role, may := range map[string]bool{
		"lastseat_worker": true, name: true, "lastseat_producer": false, "lastseat_viewer": false,
	} {
		seen := scalar[bool](t, as(t, pool, role), `SELECT state IS NOT NULL AND query LIKE '%a secret%'
			FROM pg_stat_activity WHERE pid = $1`, stranger.PgConn().PID())
		if seen != may {
			t.Errorf("%s sees another's statement: %t", role, seen)
		}
	}
}

// attempt runs sql in a transaction that is rolled back, and returns its error.
func attempt(t *testing.T, conn *pgx.Conn, sql string) error {
	t.Helper()
	tx, err := conn.Begin(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = tx.Rollback(t.Context()) }()
	if strings.HasPrefix(sql, "COPY") {
		if strings.HasSuffix(sql, "STDOUT") {
			_, err = conn.PgConn().CopyTo(t.Context(), &strings.Builder{}, sql)
		} else {
			_, err = conn.PgConn().CopyFrom(t.Context(), strings.NewReader(""), sql)
		}
		return err
	}
	_, err = tx.Exec(t.Context(), sql)
	return err
}

func sqlState(err error) string {
	if refused := (*pgconn.PgError)(nil); errors.As(err, &refused) {
		return refused.Code
	}
	return ""
}

// A service that is a member of lastseat_producer, has a schema of its own and means ill gets no further than the
// functions.
func TestHostileProducerIsRefused(t *testing.T) {
	t.Parallel()
	pool := migrated(t)
	openAccounts(t, pool)
	exec(t, pool, `CREATE SCHEMA neighbour; CREATE TABLE neighbour.secrets (word text)`)
	mallory, mine := member(t, pool, "lastseat_producer")
	config := pool.Config().ConnConfig.Copy()
	// a login, not a superuser's session: it can't change its session's user
	config.User, config.Password = mallory, "secret"
	conn, err := pgx.ConnectConfig(t.Context(), config)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = conn.Close(context.WithoutCancel(t.Context())) }()
	mustAsk(t, conn, `transfer('works', 'bank', 'ada', 5, 'EUR')`)
	exec(t, conn, `CREATE VIEW `+mine+`.peep AS SELECT 1 AS one`)
	for _, sql := range []string{
		`SET ROLE lastseat_owner`, `SET ROLE lastseat_worker`, `SET ROLE lastseat_viewer`,
		`SET SESSION AUTHORIZATION lastseat_owner`, `SELECT set_config('role', 'lastseat_owner', true)`,
		`GRANT lastseat_worker TO ` + mallory, `GRANT SELECT ON lastseat.accounts TO ` + mallory,
		`ALTER ROLE lastseat_producer SUPERUSER`, `ALTER ROLE lastseat_worker PASSWORD 'x'`,
		`ALTER FUNCTION lastseat.transfer SECURITY INVOKER`, `ALTER FUNCTION lastseat.transfer RESET ALL`,
		`ALTER FUNCTION lastseat.transfer OWNER TO ` + mallory,
		`CREATE FUNCTION lastseat.mine() RETURNS int LANGUAGE sql RETURN 1`,
		`CREATE OR REPLACE FUNCTION lastseat.check_key(key text) RETURNS void LANGUAGE plpgsql AS 'BEGIN END'`,
		`CREATE FUNCTION lastseat.transfer(text) RETURNS int LANGUAGE sql RETURN 1`, `DROP FUNCTION lastseat.transfer`,
		`DROP SCHEMA lastseat CASCADE`, `ALTER SCHEMA lastseat RENAME TO gone`,
		`CREATE TYPE lastseat.mine AS (x int)`,
		`CREATE OPERATOR lastseat.= (FUNCTION = texteq, LEFTARG = text, RIGHTARG = text)`,
		`CREATE CAST (lastseat.receipt AS text) WITH INOUT`,
		`CREATE EVENT TRIGGER x ON ddl_command_start EXECUTE FUNCTION lastseat.refuse_change()`,
		`CREATE PUBLICATION x FOR TABLE lastseat.accounts`,
		`CREATE RULE x AS ON SELECT TO lastseat.accounts DO INSTEAD SELECT 1`, `CREATE STATISTICS ` + mine +
			`.x ON id, currency FROM lastseat.accounts`,
		`SELECT * FROM neighbour.secrets`, `SELECT lastseat.record('a', 'b', 'c', '{d}')`,
		`SELECT lastseat.fingerprint('a', '{}')`, `SELECT lastseat.begin_request('payment.authorize', 'k', '{}', now())`,
		`SELECT lastseat.refuse_reuse(NULL)`, `SELECT lastseat.ring('lastseat')`, `SELECT lastseat.current_timeline()`,
		`SELECT lastseat.check_account('ada')`, `SELECT lastseat.doorbell('x')`,
		`CREATE TRIGGER x BEFORE INSERT ON ` + mine + `.peep EXECUTE FUNCTION lastseat.log_outcomes()`,
		`SET session_replication_role = replica`, `SELECT pg_read_file('/etc/passwd')`, `COPY (SELECT 1) TO PROGRAM 'true'`,
		`COPY (SELECT 1) TO '/tmp/x'`,
		`COPY (SELECT * FROM lastseat.requests) TO STDOUT`, `SELECT lo_import('/etc/passwd')`,
		`DO LANGUAGE plpgsql $x$ BEGIN PERFORM * FROM lastseat.river_job; END $x$`,
		`SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = 'postgres'
			AND pid <> pg_backend_pid() LIMIT 1`,
	} {
		err := attempt(t, conn, sql)
		if state := sqlState(err); state != "42501" {
			t.Errorf("%s: %v", sql, err)
		}
	}
	// what a view or a function of its own does, it does in its own name
	exec(t, conn, `CREATE FUNCTION `+mine+
		`.peep() RETURNS bigint LANGUAGE plpgsql SECURITY DEFINER AS 'BEGIN RETURN (SELECT count(*) FROM lastseat.accounts); END'`)
	if err := attempt(t, conn, `SELECT `+mine+`.peep()`); sqlState(err) != "42501" {
		t.Errorf("by a function of its own: %v", err)
	}
	if n := scalar[int](t, pool, `SELECT count(*) FROM lastseat.requests`); n != 1 {
		t.Errorf("%d requests", n)
	}
}

// The functions mean what they say, whatever stands first in the caller's search_path and whatever the session's
// settings are.
func TestSessionsChangeNothing(t *testing.T) {
	t.Parallel()
	pool := migrated(t)
	openAccounts(t, pool)
	mallory, mine := member(t, pool, "lastseat_producer")
	conn := as(t, pool, mallory)
	trap := `LANGUAGE plpgsql AS $x$ BEGIN RAISE EXCEPTION 'trapped as %', current_user; END $x$`
	for _, function := range []string{
		"jsonb_typeof(jsonb) RETURNS text", "char_length(text) RETURNS int", "octet_length(text) RETURNS int",
		"clock_timestamp() RETURNS timestamptz", "now() RETURNS timestamptz", "sha256(bytea) RETURNS bytea",
		"convert_to(text, name) RETURNS bytea", "nextval(regclass) RETURNS bigint", "jsonb_build_object(VARIADIC \"any\") " +
			"RETURNS jsonb", "pg_notify(text, text) RETURNS void", "starts_with(text, text) RETURNS bool",
		"check_key(text) RETURNS void", "check_args(text, jsonb) RETURNS void", "enqueue(text, text, jsonb) RETURNS int",
		"ring(text) RETURNS void", "fingerprint(text, jsonb) RETURNS bytea", "requests(text) RETURNS int",
		"pg_try_advisory_xact_lock_shared(bigint) RETURNS bool", "hashtextextended(text, bigint) RETURNS bigint",
		"texteq2(text, text) RETURNS bool", "array_agg2(text) RETURNS text",
	} {
		if strings.Contains(function, `"any"`) {
			continue // only C can have such
		}
		exec(t, conn, `CREATE FUNCTION `+mine+`.`+function+` `+trap)
		exec(t, conn, `CREATE FUNCTION pg_temp.`+function+` `+trap)
	}
	exec(t, conn, `CREATE OPERATOR `+mine+`.= (FUNCTION = `+mine+
		`.texteq2, LEFTARG = text, RIGHTARG = text); CREATE OPERATOR `+mine+`.<> (FUNCTION = `+mine+
		`.texteq2, LEFTARG = text, RIGHTARG = text)`)
	for _, schema := range []string{mine, "pg_temp"} {
		for _, table := range []string{"requests", "river_job", "accounts", "payments", "resources", "reservations",
			"currencies", "outcome_log", "timelines"} {
			exec(t, conn, fmt.Sprintf(`CREATE TABLE %s.%s (id text, key text, kind text)`, schema, table))
		}
		exec(t, conn, `CREATE TYPE `+schema+`.receipt AS ENUM ('x')`)
	}
	for i, setting := range []string{
		`SELECT 1`, `SET search_path = ` + mine + `, pg_temp, pg_catalog`, `SET search_path = ''`,
		`SET search_path = pg_temp, ` + mine, `SET datestyle = 'SQL, DMY'`, `SET timezone = 'Pacific/Kiritimati'`,
		`SET intervalstyle = 'sql_standard'`, `SET bytea_output = 'escape'`, `SET standard_conforming_strings = off`,
		`SET backslash_quote = on`, `SET transform_null_equals = on`, `SET array_nulls = off`,
		`SET quote_all_identifiers = on`, `SET lastseat.lane = 'on'`, `SET enable_indexscan = off`,
		`SET force_parallel_mode = on`, `SET plan_cache_mode = force_generic_plan`, `SET row_security = off`,
		`SET extra_float_digits = -15`, `SET client_encoding = 'LATIN1'`, `SET xmloption = document`,
		`SET check_function_bodies = off`, `SET plpgsql.print_strict_params = on`, `SET lc_numeric = 'C'`,
		`SET default_transaction_deferrable = on`, `SET default_transaction_isolation = 'serializable'`,
		`SET default_tablespace = ''`, `SET default_table_access_method = 'heap'`, `SET default_toast_compression = 'pglz'`,
	} {
		if _, err := conn.Exec(t.Context(), setting); err != nil {
			if sqlState(err) == "42704" { // this version of Postgres has no such setting
				continue
			}
			t.Fatalf("%s: %v", setting, err)
		}
		key := fmt.Sprintf("k%d", i)
		for _, sql := range []string{
			`SELECT (lastseat.open_account($1, 'EUR', NULL)).key`, `SELECT (lastseat.transfer($1, 'bank', 'ada', 5, 'EUR', 'd',
				'{"a": 1}')).key`, `SELECT (lastseat.define_resource($1, 1)).key`,
			`SELECT (lastseat.authorize('p' || $1, $1, 'bank', 'ada', 5, 'EUR', '2999-02-01T12:00:00Z')).key`,
			`SELECT (lastseat.capture('c' || $1, $1)).key`, `SELECT (lastseat.void('v' || $1, $1)).key`,
			`SELECT (lastseat.reverse('b' || $1, $1)).key`, `SELECT (lastseat.hold('h' || $1, $1,
				jsonb_build_array(jsonb_build_object('resource', $1::text)),
				  '2999-02-01T12:00:00Z')).key`, `SELECT (lastseat.cancel('x' || $1, $1)).key`,
			`SELECT key FROM lastseat.enqueue_many(jsonb_build_array(jsonb_build_object('kind', 'toy', 'key', 'm'
				|| $1, 'args', '{}'::jsonb, 'scheduled_at', '2999-02-01T12:00:00Z')))`,
			`SELECT key FROM lastseat.outcome($1)`, `SELECT currency FROM lastseat.account($1)`,
			`SELECT key FROM lastseat.outcomes(ARRAY[$1])`, `SELECT lastseat.outcomes_cursor() || $1`,
		} {
			var got string
			// without a prepared statement: the session's settings hold for the statement itself too, and so names are qualified
			if err := conn.QueryRow(t.Context(), strings.NewReplacer("jsonb_build", "pg_catalog.jsonb_build", " || $1",
				" operator(pg_catalog.||) $1").Replace(sql), pgx.QueryExecModeExec, key).Scan(&got); err != nil {
				t.Errorf("%s; %s: %v", setting, sql, err)
			}
		}
		exec(t, conn, `RESET ALL`)
	}
	// all sessions have written the same rows
	for what, sql := range map[string]string{
		"fingerprints": `SELECT count(DISTINCT fingerprint) FROM lastseat.requests WHERE kind = 'payment.transfer'`,
		"arguments":    `SELECT count(DISTINCT args - 'key') FROM lastseat.river_job WHERE kind = 'payment.transfer'`,
		"times": `SELECT count(DISTINCT expires_at)
			FROM (SELECT expires_at FROM lastseat.payments UNION ALL SELECT expires_at
			  FROM lastseat.reservations UNION ALL SELECT scheduled_at FROM lastseat.river_job WHERE kind = 'toy') x`,
		"JSON's times": `SELECT count(DISTINCT args -> 'expires_at') FROM lastseat.river_job WHERE args ? 'expires_at'`,
	} {
		if n := scalar[int](t, pool, sql); n != 1 {
			t.Errorf("%d different %s", n, what)
		}
	}
	for _, schema := range []string{mine, "pg_temp"} {
		for _, table := range []string{"requests", "river_job", "accounts", "payments", "resources", "reservations",
			"outcome_log", "timelines"} {
			if n := scalar[int](t, conn, fmt.Sprintf(`SELECT count(*) FROM %s.%s`, schema, table)); n != 0 {
				t.Errorf("the caller's own %s.%s has caught %d rows", schema, table, n)
			}
		}
	}
}

// tricks are texts that would do something if they ever became a part of a statement, a format or a pattern.
var tricks = []string{
	`'; DROP TABLE lastseat.accounts; --`, `' OR ''='`, `"; DELETE FROM lastseat.accounts; --`, `$$; SELECT 1; $$`, `$x$`,
	`\'; SELECT 1; --`, `\\`, `\`, `E'\x27'`, `U&'\0027'`, `%s %L %I %1$s %n %`, `{0}`, `{"a": 1}`, `[]`,
	`lastseat.requests`, `pg_temp.requests`, `"accounts"`, `(SELECT 1)`, `a%`, `_`, `.*`, "tab\tnew\nline\r",
	"\u0001\u007f", "\u202eright to left", "e\u0301", "ﷺ", "😀", "\U0010FFFF", " ", "NULL", "null", "-1", "1e400", "NaN",
	"{a,b}", "river_job:1", "lastseat:x", strings.Repeat("'", 200), strings.Repeat("x", 100_000), "\u00a0", "２０２６",
	"now()", "infinity",
}

// benign are arguments with which every function does something, by their names. Any other text is benignText.
var benign = map[string]string{
	"key": `'k'`, "kind": `'toy'`, "args": `'{}'`, "from_account": `'bank'`, "to_account": `'ada'`, "amount": `5`,
	"currency": `'EUR'`, "payment": `'p'`, "transfer_key": `'t'`, "reservation": `'r'`,
	"items": `'[{"resource": "seat"}]'`, "expires_at": `now()`, "id": `'new'`, "capacity": `1`, "limit_group": `NULL`,
	"per_customer": `1`, "keys": `'{k}'`, "account": `'ada'`, "at": `now()`, "resources": `'{seat}'`, "prefix": `'s'`,
	"resource": `'seat'`, "from": `now()`, "to": `now()`, "requests": `'[]'`,
	"digits": `2`, "processor": `'stripe'`, "method": `'pm_card_visa'`,
}

const benignText = `'some text'`

// benignArgument makes ", name => value" of an argument's name and type.
func benignArgument(t *testing.T, function, argument string) string {
	t.Helper()
	name, typ, _ := strings.Cut(argument, " ")
	value := benign[name]
	if value == "" && typ == "text" {
		value = benignText
	}
	if value == "" {
		t.Fatalf("%s: benign in schema/privileges_test.go lacks a value for the argument %s", function, argument)
	}
	return fmt.Sprintf(", %q => %s", name, value)
}

// In every argument that is text or JSON, of every function that a producer may call.
func TestTricksInEveryArgument(t *testing.T) {
	t.Parallel()
	pool := migrated(t)
	openAccounts(t, pool)
	mustAsk(t, pool, `transfer('t', 'bank', 'ada', 5, 'EUR')`)
	mustAsk(t, pool, `authorize('p', 'p', 'bank', 'ada', 5, 'EUR')`)
	mustAsk(t, pool, `define_resource('seat', 1)`)
	mustAsk(t, pool, `hold('r', 'r', '[{"resource": "seat"}]')`)
	conn := as(t, pool, "lastseat_producer")
	type argument struct{ Function, Name, Type, Call string }
	rows, err := pool.Query(t.Context(), `SELECT p.oid::regproc::text, a.name, format_type(a.type, NULL),
			(SELECT string_agg(i.name || ' ' || format_type(i.type, NULL), ',' ORDER BY i.n)
			  FROM unnest(p.proargnames[1:p.pronargs], p.proargtypes::oid[]) WITH ORDINALITY AS i(name, type, n)
			  WHERE i.n <= p.pronargs - p.pronargdefaults AND i.name <> a.name)
		FROM pg_proc p, unnest(p.proargnames[1:p.pronargs], p.proargtypes::oid[]) AS a(name, type)
		WHERE pronamespace = 'lastseat'::regnamespace AND has_function_privilege('lastseat_producer', p.oid, 'EXECUTE')
		  AND pronargs > 0 AND a.type IN ('text'::regtype, 'jsonb'::regtype, 'text[]'::regtype)`)
	if err != nil {
		t.Fatal(err)
	}
	arguments, err := pgx.CollectRows(rows, func(row pgx.CollectableRow) (argument, error) {
		var a argument
		var others *string
		err := row.Scan(&a.Function, &a.Name, &a.Type, &others)
		value := map[string]string{"text": "$1", "jsonb": "to_jsonb($1::text)", "text[]": "ARRAY[$1]"}[a.Type]
		call := fmt.Sprintf("%q => %s", a.Name, value)
		if others != nil {
			for other := range strings.SplitSeq(*others, ",") {
				call += benignArgument(t, a.Function, other)
			}
		}
		a.Call = fmt.Sprintf("SELECT count(*) FROM lastseat.%s(%s)", strings.TrimPrefix(a.Function, "lastseat."), call)
		return a, err
	})
	if err != nil {
		t.Fatal(err)
	}
	if len(arguments) < 50 {
		t.Errorf("only %d arguments", len(arguments))
	}
	before := image(t, pool)
	for _, a := range arguments {
		calls := map[string]string{"": a.Call}
		if a.Type == "jsonb" { // the trick as a value, and as a name, inside of what is expected
			calls["value"] = strings.Replace(a.Call, "to_jsonb($1::text)",
				`jsonb_build_array(jsonb_build_object('resource', $1::text, 'kind', $1::text, 'key', $1::text, 'args', '{}'::jsonb))`, 1)
			calls["object"] = strings.Replace(a.Call, "to_jsonb($1::text)", `jsonb_build_object($1::text, $1::text)`, 1)
		}
		for _, trick := range tricks {
			for _, call := range calls {
				tx, err := conn.Begin(t.Context())
				if err != nil {
					t.Fatal(err)
				}
				if _, err = tx.Exec(t.Context(), call, trick); err != nil {
					if refused := pgError(t, err); !strings.HasPrefix(refused.Code, "LS") || refused.Hint == "" ||
						len(refused.Message) > 150_000 {
						t.Errorf("%s with %.40q: %v", call, trick, err)
					}
				}
				_ = tx.Rollback(t.Context())
			}
		}
		// Postgres's own refusals: text has no NUL byte and no surrogate halves
		if _, err := conn.Exec(t.Context(), a.Call, "a\x00b"); sqlState(err) != "22021" {
			t.Errorf("%s with a NUL: %v", a.Call, err)
		}
		if _, err := conn.Exec(t.Context(), a.Call, "\xff"); sqlState(err) != "22021" {
			t.Errorf("%s with bytes that are no text: %v", a.Call, err)
		}
	}
	if after := image(t, pool); !slices.Equal(before, after) {
		t.Error("a trick has changed the schema")
	}
	// what is accepted is kept to the letter
	for _, trick := range tricks[:len(tricks)-8] {
		if _, err := ask(t, conn, `enqueue('toy', $1, jsonb_build_object('note', $1))`, trick); err == nil {
			if n := scalar[int](t, pool, `SELECT count(*) FROM lastseat.requests r JOIN lastseat.river_job j ON j.id = r.job_id
				WHERE r.key = $1 AND j.args = jsonb_build_object('key', $1, 'note', $1)`, trick); n != 1 {
				t.Errorf("%q is kept %d times", trick, n)
			}
		}
	}
	for _, args := range []string{`{"a": "\u0000"}`, `{"a": "\ud800"}`, `{"a": }`} {
		if _, err := ask(t, conn, `enqueue('toy', 'json', $1)`, args); !strings.HasPrefix(sqlState(err), "22") {
			t.Errorf("arguments %s: %v", args, err)
		}
	}
}

// Advisory locks and channels are everybody's: Postgres has no rights for them. With the doorbell in a stranger's hand
// producers ring each time, and nothing is lost; the lane's lock in his hand is a lane that stands still, and outbox
// says who it is (warnOfStranger). docs/roles.md tells so.
func TestStrangersLocks(t *testing.T) {
	t.Parallel()
	pool := migrated(t)
	mallory, producer := as(t, pool, "lastseat_producer"), as(t, pool, "lastseat_producer")
	listener := connect(t, pool, "")
	exec(t, listener, `LISTEN "lastseat.river_insert"; LISTEN lastseat_outcome`)
	// the name of the lock is no secret
	if !scalar[bool](t, mallory, `SELECT pg_try_advisory_lock(hashtextextended('lastseat doorbell lastseat', 0))`) {
		t.Fatal("the doorbell is taken")
	}
	mustAsk(t, producer, `enqueue('toy', 'k', '{}')`)
	if n, err := listener.WaitForNotification(t.Context()); err != nil || n.Channel != "lastseat.river_insert" ||
		n.Payload != `{"queue": "lastseat"}` {
		t.Errorf("the producer rang %v, %v", n, err)
	}
	// he may ring too: a lane then looks, and sleeps again
	exec(t, mallory, `NOTIFY "lastseat.river_insert", 'rubbish'; NOTIFY lastseat_outcome`)
	if n, err := listener.WaitForNotification(t.Context()); err != nil || n.Payload != "rubbish" {
		t.Errorf("%v, %v", n, err)
	}
}

// Strangers with the lane's advisory lock, and with that of another number of lanes, who call themselves workers: the
// work goes on, and the worker says whose sessions they are. The row that decides they can't lock.
func TestStrangersHoldTheLane(t *testing.T) {
	t.Parallel()
	pool := migrated(t)
	openAccounts(t, pool)
	name, _ := member(t, pool, "lastseat_producer")
	config := pool.Config().ConnConfig
	config.User, config.Password = name, "secret"
	config.RuntimeParams["application_name"] = "lastseat lane"
	for _, lane := range []string{"0/1", "0/2"} {
		mallory, err := pgx.ConnectConfig(t.Context(), config)
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = mallory.Close(context.WithoutCancel(t.Context())) }()
		// the name of the lock is no secret
		if !scalar[bool](t, mallory, `SELECT pg_try_advisory_lock(hashtextextended('lastseat lane lastseat `+lane+`', 0))`) {
			t.Fatal("the lane is taken")
		}
		for _, sql := range []string{`SELECT FROM lastseat.lanes FOR UPDATE`, `SELECT FROM lastseat.lanes FOR KEY SHARE`,
			`DO 'BEGIN LOCK TABLE lastseat.lanes IN SHARE MODE; END'`, `UPDATE lastseat.lanes SET holder = 'mallory'`} {
			if _, err := mallory.Exec(t.Context(), sql); err == nil {
				t.Errorf("mallory may %s", sql)
			} else {
				wantRefusal(t, err, "42501")
			}
		}
	}
	kinds, said := &outbox.Kinds{}, &syncWriter{}
	jobs.Register(kinds)
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() {
		defer close(done)
		_ = outbox.NewWorker(pool, kinds, outbox.Settings{Logger: slog.New(slog.NewTextHandler(said, nil))}).Run(ctx)
	}()
	defer func() { cancel(); <-done }()
	for _, key := range []string{"k", "l"} {
		mustAsk(t, pool, `transfer('`+key+`', 'bank', 'ada', 5, 'EUR')`)
		clitest.Eventually(t, "the request is settled", func() bool {
			return scalar[string](t, pool, `SELECT status FROM lastseat.outcome('`+key+`')`) == "applied"
		})
	}
	if n := strings.Count(said.text(), "held by a session that is no worker"); n != 1 {
		t.Errorf("the worker names the stranger %d times: once a minute", n)
	}
	if !strings.Contains(said.text(), "role="+name) {
		t.Errorf("no role is named: %s", said.text())
	}
}

type syncWriter struct {
	mu  sync.Mutex
	all strings.Builder
}

func (w *syncWriter) Write(line []byte) (int, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.all.Write(line)
}

func (w *syncWriter) text() string {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.all.String()
}
