package schema_test

import (
	"slices"
	"testing"

	"github.com/bojanz/currency"
	"github.com/jackc/pgx/v5"

	"github.com/lastseat/lastseat/internal/money"
)

// doors are the functions that ask for something, readings those that look.
var (
	doors = []string{
		"authorize(text,text,text,text,bigint,text,timestamp with time zone,text,text)",
		"charge(text,text,text,text,bigint,text,text,text)",
		"book(text,text,jsonb,text,text,bigint,text,text,text,jsonb)", "cancel(text,text)", "capture(text,text,bigint)",
		"confirm(text,text)",
		"define_currency(text,integer)", "define_limit(text,bigint)", "define_resource(text,bigint,bigint,text)",
		"extend(text,text,timestamp with time zone)",
		"hold(text,text,jsonb,timestamp with time zone,text,boolean)",
		"enqueue(text,text,jsonb,timestamp with time zone,text)", "enqueue_many(jsonb)",
		"open_account(text,text,bigint,boolean)", "refund(text,text,bigint,text)",
		"retry(text)", "reverse(text,text)", "take_event(text,text)",
		"transfer(text,text,text,bigint,text,text,jsonb)", "void(text,text)",
	}
	readings = []string{
		"account(text)", "availability(text,text,bigint)", "availability(text[])",
		"balance_at(text,timestamp with time zone)", "clearing()", "closing(text)", "currency(text)",
		"occupied(text,timestamp with time zone,timestamp with time zone)", "outcome(text)", "outcomes(text[])",
		"outcomes_cursor()", "outcomes_since(text,integer)", "payment(text)", "reservation(text)", "retention()",
		"schema_version()",
		"statement(text,timestamp with time zone,timestamp with time zone,bigint,bigint)",
	}
)

// executable are the functions of the schema that a role may execute.
const executable = `SELECT replace(oid::regprocedure::text, 'lastseat.', '') FROM pg_proc
	WHERE pronamespace = 'lastseat'::regnamespace AND has_function_privilege($1, oid, 'EXECUTE') ORDER BY 1`

// touchable are the tables, views and sequences on which a role has any of the rights given.
const touchable = `SELECT relname FROM pg_class WHERE relnamespace = 'lastseat'::regnamespace AND CASE relkind
	WHEN 'S' THEN has_sequence_privilege($1, oid, CASE WHEN $2 ~ 'SELECT' THEN 'USAGE, SELECT, UPDATE'
	  ELSE 'USAGE, UPDATE' END)
	WHEN 'r' THEN has_table_privilege($1, oid, $2)
	  OR has_any_column_privilege($1, oid, regexp_replace($2, ', (DELETE|TRUNCATE|TRIGGER)', '', 'g')) END ORDER BY 1`

const (
	anyRight = "SELECT, INSERT, UPDATE, DELETE, TRUNCATE, REFERENCES, TRIGGER"
	anyWrite = "INSERT, UPDATE, DELETE, TRUNCATE, REFERENCES, TRIGGER"
)

func TestProducerHasTheFunctionsAndNothingElse(t *testing.T) {
	t.Parallel()
	pool := migrated(t)
	got, want := column[string](t, pool, executable, "lastseat_producer"), slices.Concat(doors, readings)
	for _, function := range got {
		if !slices.Contains(want, function) {
			t.Errorf("it may execute %s, which doors and readings in schema/rights_test.go lack", function)
		}
	}
	for _, function := range want {
		if !slices.Contains(got, function) {
			t.Errorf("it may not execute %s", function)
		}
	}
	if got := column[string](t, pool, touchable, "lastseat_producer", anyRight); len(got) != 0 {
		t.Errorf("it has rights on %v", got)
	}
	if scalar[bool](t, pool, `SELECT has_schema_privilege('lastseat_producer', 'lastseat', 'CREATE')`) {
		t.Error("it may create in the schema")
	}
	producer := connect(t, pool, "lastseat_producer")
	openAccounts(t, producer)
	mustAsk(t, producer, transferCall, "k", "bank", "ada", 5, "EUR")
	mustAsk(t, producer, `enqueue('toy', 'own', '{}')`)
	mustAsk(t, producer, `retry('own')`)
	exec(t, producer, `SELECT * FROM lastseat.outcome('k')`)
	statements := []string{
		`SELECT lastseat.fingerprint('toy', '{}')`, `SELECT lastseat.ring('lastseat')`,
		`SELECT lastseat.doorbell('lastseat')`,
		`SELECT lastseat.lane_lock('lastseat', 0, 1)`, `SELECT lastseat.check_key('k')`,
		`SELECT lastseat.check_account('ada')`,
		`INSERT INTO lastseat.river_job (kind, args, max_attempts) VALUES ('toy', '{}', 1)`,
		`SELECT nextval('lastseat.river_job_id_seq')`,
		`INSERT INTO lastseat.requests (key, kind, fingerprint, job_id) VALUES ('x', 'toy', '', 1)`,
		`UPDATE lastseat.accounts SET overdraft_limit = NULL`, `CREATE TABLE lastseat.mine ()`, `DROP TABLE lastseat.entries`,
		`CREATE TRIGGER t BEFORE INSERT ON lastseat.requests EXECUTE FUNCTION lastseat.refuse_change()`,
		`SET ROLE lastseat_owner`,
	}
	for _, table := range column[string](t, pool, `SELECT tablename FROM pg_tables WHERE schemaname = 'lastseat'`) {
		statements = append(statements, `SELECT count(*) FROM lastseat.`+table)
	}
	if _, err := producer.Exec(t.Context(), `RESET ROLE; SET SESSION AUTHORIZATION lastseat_producer`); err != nil {
		t.Fatal(err)
	}
	for _, sql := range statements {
		if _, err := producer.Exec(t.Context(), sql); err == nil {
			t.Errorf("it may %s", sql)
		} else {
			wantRefusal(t, err, "42501")
		}
	}
}

func TestViewerReadsOnly(t *testing.T) {
	t.Parallel()
	pool := migrated(t)
	viewer := connect(t, pool, "lastseat_viewer")
	for _, table := range column[string](t, pool, `SELECT tablename FROM pg_tables WHERE schemaname = 'lastseat'`) {
		exec(t, viewer, `SELECT count(*) FROM lastseat.`+table)
	}
	exec(t, viewer, `SELECT * FROM lastseat.outcome('k')`)
	if got := column[string](t, pool, touchable, "lastseat_viewer", anyWrite); len(got) != 0 {
		t.Errorf("it may write to %v", got)
	}
	got := slices.Sorted(slices.Values(column[string](t, pool, executable, "lastseat_viewer")))
	want := slices.Sorted(
		slices.Values(append([]string{"lane_lock(text,integer,integer)", "server_history()"}, // the doctor's
			readings...)),
	)
	if !slices.Equal(got, want) {
		t.Errorf("it may execute %v", got)
	}
	for _, sql := range []string{
		`SELECT lastseat.enqueue('toy', 'k', '{}')`, `SELECT lastseat.transfer('k', 'a', 'b', 1, 'EUR')`,
		`SELECT lastseat.open_account('a', 'EUR')`,
		`SELECT lastseat.retry('k')`, `DELETE FROM lastseat.river_job`, `UPDATE lastseat.requests SET attempts = 1`,
		`SELECT count(*) FROM lastseat.accounts FOR UPDATE`,
	} {
		if _, err := viewer.Exec(t.Context(), sql); err == nil {
			t.Errorf("it may %s", sql)
		}
	}
}

func TestWorkerCannotRewrite(t *testing.T) {
	t.Parallel()
	pool := migrated(t)
	exec(t, pool, ledger)
	worker := connect(t, pool, "lastseat_worker")
	for _, sql := range []string{
		`UPDATE lastseat.transfers SET amount = 1`, `DELETE FROM lastseat.transfers`, `TRUNCATE lastseat.transfers`,
		`UPDATE lastseat.entries SET amount = 1`, `DELETE FROM lastseat.entries`, `TRUNCATE lastseat.entries`,
		`UPDATE lastseat.river_job SET args = '{}'`, `UPDATE lastseat.river_job SET queue = 'elsewhere'`,
		`UPDATE lastseat.accounts SET overdraft_limit = NULL`, `UPDATE lastseat.resources SET capacity = 9`,
		`UPDATE lastseat.requests SET fingerprint = ''`, `UPDATE lastseat.payments SET to_account = 'mallory'`,
		`INSERT INTO lastseat.requests (key, kind, fingerprint, job_id, status) VALUES ('x', 'toy', '', 1, 'applied')`,
		`DELETE FROM lastseat.requests`, `TRUNCATE lastseat.requests`, `DELETE FROM lastseat.accounts`,
		`TRUNCATE lastseat.accounts`,
		`INSERT INTO lastseat.accounts (id, currency) VALUES ('x', 'EUR')`, `UPDATE lastseat.currencies SET minor_units = 0`,
		`TRUNCATE lastseat.river_job`,
		`ALTER TABLE lastseat.entries DISABLE TRIGGER ALL`, `SET session_replication_role = replica`,
		`CREATE TABLE lastseat.mine ()`,
		`DELETE FROM lastseat.schema_migrations`, `INSERT INTO lastseat.river_migration (line, version) VALUES ('main', 99)`,
	} {
		if _, err := worker.Exec(t.Context(), sql); err == nil {
			t.Errorf("it may %s", sql)
		} else if sql != `SET session_replication_role = replica` { // SET ROLE alone leaves a superuser's session one
			wantRefusal(t, err, "42501")
		}
	}
	mustAsk(t, worker, `enqueue('toy', 'k', '{}')`)
	exec(t, worker, `SELECT lastseat.fingerprint('toy', '{}'), lastseat.doorbell('lastseat'),
		lastseat.lane_lock('lastseat', 0, 1)`)
}

func TestFunctionsAreShut(t *testing.T) {
	t.Parallel()
	pool := migrated(t)
	open := `SELECT oid::regprocedure::text FROM pg_proc WHERE pronamespace = 'lastseat'::regnamespace AND `
	for what, condition := range map[string]string{
		"PUBLIC may execute": `EXISTS (SELECT FROM aclexplode(coalesce(proacl, acldefault('f', proowner)))
			WHERE grantee = 0)`,
		"SECURITY DEFINER, search_path open": `prosecdef AND NOT coalesce('search_path=lastseat, pg_temp' = ANY (proconfig), false)`,
		// Those of plain.sql become part of the functions that use them, which nobody else may: they can't have a
		// search_path.
		"ours, search_path open": `proname !~ '^river_' AND NOT coalesce('search_path=lastseat, pg_temp' = ANY (proconfig),
			false)
			AND NOT (prolang = (SELECT oid FROM pg_language WHERE lanname = 'sql') AND provolatile <> 'v' AND NOT prosecdef
			         AND proconfig IS NULL AND NOT EXISTS (SELECT FROM aclexplode(coalesce(proacl, acldefault('f', proowner)))
			         WHERE grantee <> 'lastseat_owner'::regrole))`,
		"not the owner's": `proowner <> 'lastseat_owner'::regrole`,
	} {
		if got := column[string](t, pool, open+condition); len(got) != 0 {
			t.Errorf("%s: %v", what, got)
		}
	}
	for _, door := range doors {
		if !scalar[bool](t, pool, `SELECT prosecdef FROM pg_proc WHERE oid = $1::text::regprocedure`, "lastseat."+door) {
			t.Errorf("%s is not SECURITY DEFINER", door)
		}
	}
	if got := column[string](t, pool, `SELECT relname FROM pg_class WHERE relnamespace = 'lastseat'::regnamespace
		AND relowner <> 'lastseat_owner'::regrole
		UNION ALL SELECT typname FROM pg_type WHERE typnamespace = 'lastseat'::regnamespace
		  AND typowner <> 'lastseat_owner'::regrole`); len(got) != 0 {
		t.Errorf("not the owner's: %v", got)
	}
	// what a later migration makes is shut and readable by default
	trial(t, pool, func(tx pgx.Tx) {
		exec(
			t,
			tx,
			`SET LOCAL ROLE lastseat_owner; CREATE FUNCTION lastseat.later() RETURNS int LANGUAGE sql RETURN 1; CREATE TABLE lastseat.later ()`,
		)
		for _, role := range []string{"lastseat_producer", "lastseat_viewer", "lastseat_worker", "lastseat_keeper"} {
			if scalar[bool](t, tx, `SELECT has_function_privilege($1, 'lastseat.later()', 'EXECUTE')`, role) {
				t.Errorf("%s may execute a function that a later migration makes", role)
			}
			if got := scalar[bool](t, tx, `SELECT has_table_privilege($1, 'lastseat.later', 'SELECT')`,
				role); got != (role != "lastseat_producer") {
				t.Errorf("%s may read a table that a later migration makes: %t", role, got)
			}
		}
	})
}

// A caller's temporary tables come first in an open search_path, and their triggers would run as the owner.
func TestTemporaryTablesCatchNothing(t *testing.T) {
	t.Parallel()
	pool := migrated(t)
	openAccounts(t, pool)
	producer := connect(t, pool, "lastseat_producer")
	exec(t, producer, `SET search_path = pg_temp, public`)
	tables := []string{"requests", "river_job", "accounts", "currencies"}
	for _, table := range tables {
		exec(t, producer, `CREATE TEMPORARY TABLE `+table+
			` (id text, key text, kind text, fingerprint bytea, job_id bigint, requested_at timestamptz,
			queue text, args jsonb, state text, scheduled_at timestamptz, code text, currency text, overdraft_limit bigint)`)
	}
	mustAsk(t, producer, `open_account('new', 'EUR')`)
	mustAsk(t, producer, transferCall, "k", "bank", "new", 5, "EUR")
	mustAsk(t, producer, transferCall, "k", "bank", "new", 5, "EUR")
	exec(t, producer, `SELECT * FROM lastseat.outcome('k')`)
	mustAsk(t, producer, `retry('k')`)
	for _, table := range tables {
		if n := scalar[int](t, producer, `SELECT count(*) FROM pg_temp.`+table); n != 0 {
			t.Errorf("the caller's own %s has caught %d rows", table, n)
		}
	}
	if n := scalar[int](t, pool, `SELECT count(*) FROM lastseat.requests r JOIN lastseat.river_job j ON j.id = r.job_id
		JOIN lastseat.accounts a ON a.id = 'new'`); n != 1 {
		t.Errorf("%d requests with their job", n)
	}
}

func TestCurrenciesAreTheLibrarys(t *testing.T) {
	t.Parallel()
	pool := migrated(t)
	type row struct {
		Code       string
		MinorUnits uint8
	}
	rows, err := pool.Query(t.Context(), `SELECT code, minor_units FROM lastseat.currencies ORDER BY code`)
	if err != nil {
		t.Fatal(err)
	}
	got, err := pgx.CollectRows(rows, pgx.RowToStructByPos[row])
	if err != nil {
		t.Fatal(err)
	}
	var want []row
	want = append(want, row{"XAD", 2}, row{"XCG", 2}) // newer than the library
	for _, code := range currency.GetCurrencyCodes() {
		digits, _ := currency.GetDigits(code)
		want = append(want, row{code, digits})
	}
	for _, known := range got {
		if digits, err := money.Digits(known.Code); err != nil || digits != int(known.MinorUnits) {
			t.Errorf("%s has %d digits in the table, the command line has %d, %v", known.Code, known.MinorUnits, digits, err)
		}
	}
	slices.SortFunc(want, func(a, b row) int { return slices.Compare([]byte(a.Code), []byte(b.Code)) })
	if !slices.Equal(got, want) {
		t.Errorf("the table has\n%v, the library\n%v", got, want)
	}
}
