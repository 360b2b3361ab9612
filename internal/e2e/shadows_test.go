package e2e

import (
	"context"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/lastseat/lastseat/internal/clitest"
	"github.com/lastseat/lastseat/internal/testdb"
)

// nearerTypes are the types of the shadows' arguments: those that our SQL and River's have at hand, and those to which
// Postgres would rather resolve a call than to its own function.
const nearerTypes = `'{text,name,varchar,"char",int2,int4,int8,numeric,float8,bool,jsonb,"jsonb[]","text[]","int4[]",
	"int8[]",bytea,"bytea[]",timestamptz,"timestamptz[]",interval,tstzrange,oid,regclass,regrole,regproc,xid8}'::text[]`

// shadowsSQL creates functions in public that have the names of Postgres's own and arguments of other types, one
// argument changed at a time, and pairs for those that take any type. Each refuses to run, and says its name.
const shadowsSQL = `
SET check_function_bodies = off;
CREATE PROCEDURE public.make_shadows(names text[], operators text[]) LANGUAGE plpgsql AS $make$
DECLARE
    shadow record;
    made bigint := 0;
BEGIN
    FOR shadow IN
        WITH type AS (SELECT t::regtype AS oid FROM unnest(` + nearerTypes + `) t),
        own AS (
            SELECT DISTINCT p.proname, p.pronargs, p.proretset, p.proargtypes::oid[] AS args,
                   CASE WHEN r.typtype = 'p' OR p.proretset THEN 'text'::regtype
                     ELSE p.prorettype::regtype END AS result,
                   p.provariadic <> 0 AS many
            FROM pg_proc p JOIN pg_type r ON r.oid = p.prorettype
            WHERE p.pronamespace = 'pg_catalog'::regnamespace AND p.proname = ANY (names)
              AND p.pronargs BETWEEN 1 AND 5),
        candidate AS (
            SELECT proname, result, ARRAY[a.oid::oid] AS args FROM own, type a WHERE pronargs = 1
            UNION SELECT proname, result, ARRAY[a.oid::oid, b.oid::oid] FROM own, type a, type b
                  WHERE (pronargs = 2 OR many) AND (args[0] IN (a.oid, 2276, 2277, 2283)
                       OR args[1] IN (b.oid, 2276, 2277, 2283)) -- "any", anyarray, anyelement
            UNION SELECT proname, result, ARRAY(
                       SELECT CASE WHEN i = at THEN a.oid::oid WHEN t.typtype = 'p' THEN a.oid::oid ELSE t.oid END
                       FROM unnest(args) WITH ORDINALITY u(arg, i) JOIN pg_type t ON t.oid = u.arg ORDER BY i)
                  FROM own, type a, generate_series(1, 5) at WHERE at <= pronargs AND pronargs > 2)
        SELECT proname, (array_agg(result ORDER BY result))[1] AS result,
               (SELECT string_agg(format_type(t, NULL), ', ' ORDER BY i)
                 FROM unnest(args) WITH ORDINALITY u(t, i)) AS list
        FROM candidate c
        WHERE NOT EXISTS (SELECT FROM pg_proc p WHERE p.pronamespace = 'pg_catalog'::regnamespace
                          AND p.proname = c.proname AND p.proargtypes::oid[] = c.args)
        GROUP BY proname, args
    LOOP
        EXECUTE format('CREATE FUNCTION public.%I(%s) RETURNS %s LANGUAGE plpgsql AS %L', shadow.proname, shadow.list,
            shadow.result, format('BEGIN RAISE EXCEPTION ''SHADOW %s(%s)''; END', shadow.proname, shadow.list));
        made := made + 1;
        IF made % 1000 = 0 THEN COMMIT; END IF;
    END LOOP;
    COMMIT;
    FOR shadow IN
        WITH type AS (SELECT t::regtype AS oid FROM unnest(` + nearerTypes + `) t)
        SELECT a.oid AS l, b.oid AS r, name,
               coalesce((SELECT oprresult::regtype FROM pg_operator WHERE oprname = name AND oprleft = a.oid
                         AND oprresult <> 0 LIMIT 1),
                        (SELECT oprresult::regtype FROM pg_operator WHERE oprname = name AND oprresult <> 0
                         ORDER BY oprresult LIMIT 1)) AS result
        FROM unnest(operators) name, type a, type b
        WHERE NOT EXISTS (SELECT FROM pg_operator o WHERE o.oprnamespace = 'pg_catalog'::regnamespace AND oprname = name
                          AND oprleft = a.oid AND oprright = b.oid)
    LOOP
        IF shadow.result IN (SELECT oid FROM pg_type WHERE typtype = 'p') THEN
            shadow.result := shadow.l;
        END IF;
        IF to_regprocedure(format('public."shadow of %s"(%s,%s)', shadow.result, shadow.l, shadow.r)) IS NULL THEN
            EXECUTE format('CREATE FUNCTION public.%I(%s, %s) RETURNS %s LANGUAGE plpgsql AS %L',
                'shadow of ' || shadow.result, shadow.l, shadow.r, shadow.result, format(
                'BEGIN RAISE EXCEPTION ''SHADOW of an operator between %s and %s''; END', shadow.l, shadow.r));
        END IF;
        EXECUTE format('CREATE OPERATOR public.%s (LEFTARG = %s, RIGHTARG = %s, FUNCTION = public.%I)',
            shadow.name, shadow.l, shadow.r, 'shadow of ' || shadow.result);
        made := made + 1;
        IF made % 1000 = 0 THEN COMMIT; END IF;
    END LOOP;
END $make$`

// sources are the directories whose SQL runs in the sessions of our programs.
func sources(t *testing.T) []string {
	t.Helper()
	out, err := exec.Command("go", "list", "-m", "-f", "{{.Dir}}", "github.com/lastseat/lastseat",
		"github.com/riverqueue/river", "github.com/riverqueue/river/riverdriver/riverpgxv5", "github.com/jackc/pgx/v5",
		"riverqueue.com/riverui").Output()
	if err != nil {
		t.Fatal(err)
	}
	return strings.Fields(string(out))
}

var (
	calls  = regexp.MustCompile(`\b([a-z][a-z0-9_]*)\s*\(`)
	symbol = regexp.MustCompile(`[-+*/<>=~!@#%^&|?]+`)
)

// used are the words before a parenthesis and the symbols in all sources: the names of all functions and operators
// that our SQL may use, and many more.
func used(t *testing.T) (functions, operators []string) {
	t.Helper()
	words, symbols := make(map[string]bool), make(map[string]bool)
	for _, root := range sources(t) {
		err := filepath.WalkDir(root, func(path string, entry fs.DirEntry, err error) error {
			sql := strings.HasSuffix(path, ".sql") || strings.HasSuffix(path, ".go") && !strings.HasSuffix(path, "_test.go")
			if err != nil || entry.IsDir() || !sql {
				return err
			}
			text, err := os.ReadFile(path)
			for _, match := range calls.FindAllStringSubmatch(string(text), -1) {
				words[match[1]] = true
			}
			for _, match := range symbol.FindAllString(string(text), -1) {
				symbols[match] = true
			}
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	return slices.Sorted(maps.Keys(words)), slices.Sorted(maps.Keys(symbols))
}

// shadowed is an empty database in which everybody has created what they may: as on Postgres 14, and in databases that
// come from it.
func shadowed(t *testing.T) (string, *pgxpool.Pool) {
	t.Helper()
	url := testdb.Empty(t)
	config, err := pgxpool.ParseConfig(url)
	if err != nil {
		t.Fatal(err)
	}
	config.AfterConnect = func(ctx context.Context, conn *pgx.Conn) error { // or the test would fall for them
		_, err := conn.Exec(ctx, "SET search_path = pg_catalog, pg_temp")
		return err
	}
	pool, err := pgxpool.NewWithConfig(t.Context(), config)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(pool.Close)
	testdb.Exec(t, pool, shadowsSQL)
	functions, symbols := used(t)
	operators := testdb.Scalar[[]string](t, pool, `SELECT array_agg(DISTINCT oprname::text) FROM pg_operator
		WHERE oprname = ANY ($1) AND oprleft <> 0 AND oprright <> 0`, symbols)
	testdb.Exec(t, pool, `CALL public.make_shadows($1, $2)`, functions, operators)
	made := testdb.Scalar[int](t, pool, `SELECT count(*)::int FROM pg_catalog.pg_proc
		WHERE pronamespace = 'public'::pg_catalog.regnamespace`)
	t.Logf("%d functions and %d names of operators have shadows", made, len(operators))
	for _, name := range []string{"cardinality(jsonb[])", "set_config(text, name, boolean)", "count(bigint)",
		"hashtextextended(text, integer)"} {
		if testdb.Scalar[*string](t, pool, `SELECT pg_catalog.to_regprocedure($1)::pg_catalog.text`, "public."+name) == nil {
			t.Fatalf("there is no public.%s: the test would prove nothing", name)
		}
	}
	return url, pool
}

// unshadowed runs a program to its end. It must exit with the code, and no shadow may have stopped a statement.
func unshadowed(t *testing.T, url string, code int, program string, args ...string) {
	t.Helper()
	p := start(t, on(url, "LASTSEAT_POLL=100ms"), program, args...)
	if got := p.wait(t); got != code || strings.Contains(p.errs.String(), "SHADOW") {
		t.Errorf("%s %v: exit code %d, want %d; %s", program, args, got, code, p.errs.String())
	}
}

// Whoever may create in public can define functions and operators that are nearer to the types of a call than
// Postgres's own. None of them may run in a session of our programs, as whatever role those connect.
func TestNothingOfSomebodyElsesRuns(t *testing.T) {
	t.Parallel()
	owner, pool := shadowed(t)
	unshadowed(t, owner, 0, "worker", "migrate", "up", "--dry-run")
	unshadowed(t, owner, 0, "worker", "migrate", "up")
	unshadowed(t, owner, 0, "worker", "migrate", "status")
	worker, producer := testdb.As(t, pool, "lastseat_worker"), testdb.As(t, pool, "lastseat_producer")
	viewer := testdb.As(t, pool, "lastseat_viewer")
	for round, urls := range [][3]string{{worker, producer, viewer}, {owner, owner, owner}} {
		running := start(t, on(urls[0], "LASTSEAT_POLL=100ms"), "worker", "run")
		t.Cleanup(func() {
			if t.Failed() {
				t.Logf("worker run: %s", running.errs.String())
			}
		})
		ask := func(args ...string) {
			for i := range args {
				args[i] = strings.ReplaceAll(args[i], "#", fmt.Sprint(round))
			}
			unshadowed(t, urls[1], 0, "enqueue", args...)
		}
		money := []string{"--from", "bank#", "--to", "ada#", "--amount", "1", "--currency", "EUR", "--wait", "1m"}
		ask("account", "--id", "bank#", "--currency", "EUR", "--overdraft", "unlimited")
		ask("account", "--id", "ada#", "--currency", "EUR")
		ask(append([]string{"transfer", "--key", "t#"}, money...)...)
		if round == 0 || testdb.Soaks() { // the same statements, as a role that is nearer to a producer's
			ask("reverse", "--key", "u#", "--transfer", "t#", "--wait", "1m")
			ask(append([]string{"authorize", "--key", "a#", "--payment", "p#", "--expires-in", "15m"}, money...)...)
			ask("capture", "--key", "c#", "--payment", "p#", "--wait", "1m")
			ask("refund", "--key", "r#", "--payment", "p#", "--amount", "0.10", "--wait", "1m")
			ask("resource", "--id", "seat#", "--capacity", "1")
			ask("hold", "--key", "h#", "--reservation", "r#", "--item", "seat#", "--expires-in", "15m", "--wait", "1m")
			ask("confirm", "--key", "s#", "--reservation", "r#", "--wait", "1m")
			ask("cancel", "--key", "x#", "--reservation", "r#", "--wait", "1m")
			ask("outcome", "t#")
			ask("balance", "ada#")
			ask("statement", "ada#")
			ask("availability", "seat#")
			ask("reservation", "r#")
		}
		clitest.Eventually(t, "river's part to be at work", func() bool {
			return testdb.Scalar[bool](t, pool, `SELECT pg_catalog.count(*) OPERATOR(pg_catalog.>) 0 FROM lastseat.river_queue`)
		})
		unshadowed(t, urls[0], 0, "worker", "doctor")
		unshadowed(t, urls[2], 0, "worker", "audit")
		running.signal(t, os.Interrupt)
		running.exits(t, 0)
		if strings.Contains(running.errs.String(), "SHADOW") {
			t.Errorf("worker run: %s", running.errs.String())
		}
		unshadowed(t, urls[0], 0, "worker", "run", "--drain")
	}
	unshadowed(t, owner, 0, "worker", "migrate", "down")
}
