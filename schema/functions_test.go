package schema_test

import (
	"errors"
	"fmt"
	"io/fs"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"

	"github.com/lastseat/lastseat/internal/testdb"
	"github.com/lastseat/lastseat/jobs"
	"github.com/lastseat/lastseat/schema"
)

// A set of functions whose files have changed is another set: it needs another number, so that a database with the old
// one is told from one with the new one.
func TestFunctionsVersion(t *testing.T) {
	t.Parallel()
	version, noted, digest := schema.FunctionsVersion()
	if noted != digest {
		t.Errorf(
			"schema/functions has changed: raise functionsVersion (%d) in schema/release.go and note functionsDigest = %q",
			version, digest)
	}
}

// Every function stands in one place.
func TestFunctionsAreDefinedOnce(t *testing.T) {
	t.Parallel()
	paths, err := fs.Glob(schema.Files(), "*/*.sql")
	if err != nil {
		t.Fatal(err)
	}
	defined := make(map[string]string)
	for _, path := range paths {
		text, err := fs.ReadFile(schema.Files(), path)
		if err != nil {
			t.Fatal(err)
		}
		for _, match := range regexp.MustCompile(`CREATE (?:OR REPLACE )?FUNCTION lastseat\.(\w+\s*\([^)]*)`).FindAllStringSubmatch(string(text), -1) {
			if before, twice := defined[match[1]]; twice {
				t.Errorf("%s) is in %s and in %s", match[1], before, path)
			}
			if defined[match[1]] = path; strings.HasPrefix(path, "migrations/") {
				t.Errorf("%s defines %s): functions stand in functions/", path, match[1])
			}
		}
	}
	if n := scalar[int](t, migrated(t), `SELECT count(*)::int FROM pg_proc WHERE pronamespace = 'lastseat'::regnamespace
		AND proname !~ '^river_'`); n != len(defined) {
		t.Errorf("the files define %d functions, the database has %d", len(defined), n)
	}
}

// oids are the functions of a database that are not triggers', by their names and arguments.
const oids = `SELECT oid::regprocedure || ' ' || oid FROM pg_proc
	WHERE pronamespace = 'lastseat'::regnamespace AND prorettype <> 'trigger'::regtype AND proname !~ '^river_' ORDER BY 1`

// A set is put in place over another one without dropping a function whose arguments and result have stayed, so that
// views of somebody's own that call it stay as well.
func TestFunctionsAreReplaced(t *testing.T) {
	t.Parallel()
	url := testdb.New(t)
	pool := testdb.Pool(t, url)
	exec(t, pool, `CREATE VIEW public.mine AS SELECT o.* FROM lastseat.outcome('k') o`)
	before := column[string](t, pool, oids)
	files := changed(t, map[string]func(string) string{"functions/ledger.sql": replace(t, "Open it first",
		"First, open it")})
	if _, err := schema.UpTo(t.Context(), url, files, 99); err != nil {
		t.Fatal(err)
	}
	if after := column[string](t, pool, oids); !slices.Equal(before, after) {
		t.Errorf("the functions are %v, want the same as before: %v", after, before)
	}
	_, err := ask(t, pool, transferCall, "k", "bank", "ada", 1, "EUR")
	if refused := pgError(t, err); !strings.Contains(refused.Hint, "First, open it") {
		t.Errorf("the hint is %q, of the old set", refused.Hint)
	}
	exec(t, pool, `SELECT * FROM public.mine`)
}

// What is not in the new set is gone, what has other arguments is there once, and the rights are those of the files.
// A right that the files no longer grant is taken away; what others were granted by hand stays.
func TestFunctionsThatGoAreDropped(t *testing.T) {
	t.Parallel()
	url := testdb.New(t)
	pool := testdb.Pool(t, url)
	exec(t, pool, `GRANT EXECUTE ON FUNCTION lastseat.void(text, text), lastseat.ring(text) TO lastseat_producer,
		lastseat_viewer`)
	exec(t, pool, `GRANT EXECUTE ON FUNCTION lastseat.void(text, text) TO pg_monitor`)
	rename := func(text string) string {
		text = strings.ReplaceAll(text, "lastseat.occupied", "lastseat.taken")
		return strings.ReplaceAll(text, "occupied.", "taken.")
	}
	files := changed(t, map[string]func(string) string{
		"functions/resources.sql": rename,
		"functions/requests.sql": replace(t, "queue text DEFAULT 'lastseat'",
			"queue text DEFAULT 'lastseat', note text DEFAULT NULL"),
		"functions/outcomes.sql": replace(t, "max_rows integer DEFAULT 1000", "max_rows integer DEFAULT 500"),
		"functions/payments.sql": replace(t, "lastseat.capture(key text, payment text, amount bigint DEFAULT NULL)",
			"lastseat.capture(key text, payment text, amount bigint)"),
	})
	if _, err := schema.UpTo(t.Context(), url, files, 99); err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]string{
		"occupied": "", "taken": "(resource text, \"from\" timestamp with time zone, \"to\" timestamp with time zone)",
		"enqueue": "(kind text, key text, args jsonb, scheduled_at timestamp with time zone DEFAULT now(), queue " +
			"text DEFAULT 'lastseat'::text, note text DEFAULT NULL::text)",
		"outcomes_since": "(since text DEFAULT ''::text, max_rows integer DEFAULT 500)", "capture": "(key text, payment " +
			"text, amount bigint)",
	} {
		got := column[string](t, pool, `SELECT format('(%s)', pg_get_function_arguments(oid)) FROM pg_proc
			WHERE pronamespace = 'lastseat'::regnamespace AND proname = $1`, name)
		if strings.Join(got, " and ") != want {
			t.Errorf("%s has the arguments %v, want %s", name, got, want)
		}
	}
	for right, want := range map[[2]string]bool{
		{"lastseat_producer", "lastseat.enqueue(text,text,jsonb,timestamptz,text,text)"}: true, {"lastseat_viewer",
			"lastseat.taken(text,timestamptz,timestamptz)"}: true,
		{"lastseat_viewer", "lastseat.void(text,text)"}: false, {"lastseat_producer", "lastseat.void(text,text)"}: true,
		{"pg_monitor", "lastseat.void(text,text)"}:   true,
		{"lastseat_producer", "lastseat.ring(text)"}: false, {"public", "lastseat.capture(text,text,bigint)"}: false,
	} {
		if got := scalar[bool](t, pool, `SELECT has_function_privilege($1, $2, 'EXECUTE')`, right[0], right[1]); got != want {
			t.Errorf("%s may call %s: %t, want %t", right[0], right[1], got, want)
		}
	}
}

// A view of somebody's own that calls a function stands in the way of dropping it: nothing changes, and the error
// names the view.
func TestFunctionInUseIsNotDropped(t *testing.T) {
	t.Parallel()
	url := testdb.New(t)
	pool := testdb.Pool(t, url)
	exec(t, pool, `CREATE VIEW public.mine AS SELECT o.* FROM lastseat.outcomes_since('', 10) o`)
	before := image(t, pool)
	files := changed(t, map[string]func(string) string{"functions/outcomes.sql": replace(t,
		"max_rows integer DEFAULT 1000", "max_rows integer DEFAULT 500")})
	_, err := schema.UpTo(t.Context(), url, files, 99)
	if wantRefusal(t, err, "2BP01"); !strings.Contains(pgError(t, err).Detail, "view public.mine") {
		t.Errorf("the detail is %q", pgError(t, err).Detail)
	}
	if after := image(t, pool); !slices.Equal(before, after) {
		t.Error("something has changed")
	}
}

// A session that has prepared a call goes on when the function gets another argument: what it may see is an error
// that goes away when the transaction is repeated.
func TestPreparedCallOfOldArguments(t *testing.T) {
	t.Parallel()
	url := testdb.New(t)
	pool := testdb.Pool(t, url)
	openAccounts(t, pool)
	positional, named := connect(t, pool, "lastseat_producer"), connect(t, pool, "lastseat_producer")
	calls := map[*pgx.Conn]string{
		positional: `SELECT r.status FROM lastseat.enqueue($1, $2, $3::jsonb, $4, $5) r`,
		named: `SELECT r.status FROM lastseat.enqueue(kind => $1, key => $2, args => $3::jsonb, scheduled_at => $4,
			queue => $5) r`,
	}
	n := 0
	call := func(conn *pgx.Conn) error {
		n++
		_, err := conn.Exec(t.Context(), "ask", "payment.transfer", fmt.Sprint("k", n),
			`{"from": "bank", "to": "ada", "amount": 1, "currency": "EUR"}`, nil, "lastseat")
		return err
	}
	for conn, sql := range calls {
		if _, err := conn.Prepare(t.Context(), "ask", sql); err != nil {
			t.Fatal(err)
		}
		for range 6 { // from the sixth time on Postgres may use one plan for all calls
			if err := call(conn); err != nil {
				t.Fatal(err)
			}
		}
	}
	if _, err := schema.UpTo(t.Context(), url, newer(t), 99); err != nil {
		t.Fatal(err)
	}
	for conn, sql := range calls {
		err := call(conn)
		if err != nil && !slices.Contains([]string{"0A000", "XX000"}, sqlState(err)) {
			t.Errorf("%s: %v, want none or one that passes", sql, err)
		}
		if err = call(conn); err != nil {
			t.Errorf("%s, repeated: %v", sql, err)
		}
	}
}

// A kind is found by the names of its functions: nothing else has to be touched.
func TestKindIsFoundByName(t *testing.T) {
	t.Parallel()
	url := testdb.New(t)
	pool := testdb.Pool(t, url)
	openAccounts(t, pool)
	const mint = `
CREATE OR REPLACE FUNCTION lastseat.check_payment_mint(args jsonb)
RETURNS void
LANGUAGE plpgsql STABLE SECURITY DEFINER SET search_path = lastseat, pg_temp AS $$
BEGIN
    PERFORM check_known_args('payment.mint', args, '{key,to,expires_at}');
    PERFORM check_account(args ->> 'to');
END $$;

CREATE OR REPLACE FUNCTION lastseat.begin_payment_mint(key text, args jsonb, asked timestamptz)
RETURNS void
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = lastseat, pg_temp AS $$
BEGIN
    PERFORM set_config('test.begun', key, false);
END $$;

CREATE OR REPLACE FUNCTION lastseat.canonical_payment_mint(args jsonb)
RETURNS jsonb
LANGUAGE plpgsql IMMUTABLE SECURITY DEFINER SET search_path = lastseat, pg_temp AS $$
BEGIN
    RETURN args - 'expires_at';
END $$;
`
	wantContract(t, second(ask(t, pool, `enqueue('payment.mint', 'k', '{}')`)), "LS002", `there is no kind "payment.mint"`)
	files := changed(t, map[string]func(string) string{"functions/mint.sql": func(string) string { return mint }})
	if _, err := schema.UpTo(t.Context(), url, files, 99); err != nil {
		t.Fatal(err)
	}
	conn := connect(t, pool, "lastseat_producer")
	wantContract(t, second(ask(t, conn, `enqueue('payment.mint', 'k', '{"to": "nobody"}')`)), "LS003", "nobody")
	wantContract(t, second(ask(t, conn, `enqueue('payment.mint', 'k', '{"from": "ada"}')`)), "LS002", "from")
	mustAsk(t, conn, `enqueue('payment.mint', 'k', '{"to": "ada", "expires_at": "2030-01-01T00:00:00Z"}')`)
	if got := scalar[string](t, conn, `SELECT current_setting('test.begun')`); got != "k" {
		t.Errorf("its row was begun for %q, want k", got)
	}
	// what its canonical form leaves out makes no other request: the first expiry is kept
	if r := mustAsk(t, conn,
		`enqueue('payment.mint', 'k', '{"to": "ada", "expires_at": "2031-01-01T00:00:00Z"}')`); !r.Duplicate {
		t.Error("the same with another expiry is no duplicate")
	}
	_, err := ask(t, conn, `enqueue('payment.mint.x', 'k2', '{}')`)
	want := []string{"payment.mint"}
	for _, kind := range jobs.Kinds() {
		want = append(want, kind.Name)
	}
	slices.Sort(want)
	if wantContract(t, err, "LS002", "there is no kind"); !strings.Contains(pgError(t, err).Hint,
		"The kinds are "+strings.Join(want, ", ")+". ") {
		t.Errorf("the hint says %q, want the kinds %v", pgError(t, err).Hint, want)
	}
}

func second[T any](_ T, err error) error { return err }

// A database from before the first release is refused, with what to do, and left as it is.
func TestUnreleasedDatabaseIsRefused(t *testing.T) {
	t.Parallel()
	url := testdb.Empty(t)
	pool := testdb.Pool(t, url)
	exec(t, pool, `CREATE SCHEMA lastseat AUTHORIZATION lastseat_owner;
		SET ROLE lastseat_owner; CREATE TABLE lastseat.schema_migrations (id int GENERATED BY DEFAULT AS IDENTITY,
		  version_id bigint, is_applied boolean, tstamp timestamp DEFAULT now());
		INSERT INTO lastseat.schema_migrations (version_id, is_applied)
		  VALUES (0, true), (7, true); CREATE TABLE lastseat.requests (key text);
		CREATE FUNCTION lastseat.schema_version(OUT own bigint, OUT river bigint) LANGUAGE sql AS 'SELECT 7, 8'; RESET ROLE`)
	before := image(t, pool)
	for what, run := range map[string]func() error{
		"check":  func() error { return schema.Check(t.Context(), pool) },
		"up":     func() error { return second(schema.Up(t.Context(), url, false)) },
		"dry up": func() error { return second(schema.Up(t.Context(), url, true)) },
		"down":   func() error { return second(schema.Down(t.Context(), url, false)) },
		"status": func() error { return second(schema.Status(t.Context(), url)) },
		"script": func() error { return second(schema.Script(t.Context(), url)) },
	} {
		version := (*schema.VersionError)(nil)
		if err := run(); !errors.As(err, &version) || version.Newer() || !strings.Contains(err.Error(),
			"before the first release") || !strings.Contains(err.Error(), "make a new database") {
			t.Errorf("%s: %v", what, err)
		}
	}
	if after := image(t, pool); !slices.Equal(before, after) {
		t.Error("something has changed")
	}
}
