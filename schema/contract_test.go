package schema_test

import (
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

const golden = "testdata/contract.golden"

// contract is what other services build on: what roles may call, with the names, types and defaults of the arguments
// and the columns of the answer; the columns of tables, with what the database refuses; SQLSTATEs; rights. One line
// for each.
var contract = []struct{ title, sql string }{
	{"functions that roles may call", `
		SELECT format('%s(%s) -> %s; %s', proname, pg_get_function_arguments(p.oid), pg_get_function_result(p.oid),
			(SELECT string_agg(replace(role, 'lastseat_', ''), ', ' ORDER BY role)
			  FROM unnest('{lastseat_producer,lastseat_viewer,lastseat_worker,lastseat_keeper}'::text[]) role
			    WHERE has_function_privilege(role, p.oid, 'EXECUTE')))
		FROM pg_proc p WHERE pronamespace = 'lastseat'::regnamespace AND prorettype <> 'trigger'::regtype
		  AND (has_function_privilege('lastseat_producer', oid, 'EXECUTE')
		    OR has_function_privilege('lastseat_viewer', oid, 'EXECUTE')
		      OR has_function_privilege('lastseat_worker', oid, 'EXECUTE')
		        OR has_function_privilege('lastseat_keeper', oid, 'EXECUTE'))`},
	{"SQLSTATEs, and the functions that raise them", `
		SELECT DISTINCT code[1] || ' ' || proname FROM pg_proc, regexp_matches(prosrc, 'LS[0-9]{3}', 'g') code
		  WHERE pronamespace = 'lastseat'::regnamespace`},
	{"columns", `
		SELECT format('%s.%s %s%s%s', relname, attname, format_type(atttypid, atttypmod), CASE WHEN attnotnull
		  THEN ' not null' END, ' default ' || pg_get_expr(adbin, adrelid))
		FROM pg_attribute a JOIN pg_class c ON c.oid = attrelid LEFT JOIN pg_attrdef d ON d.adrelid = attrelid
		  AND d.adnum = attnum
		WHERE relnamespace = 'lastseat'::regnamespace AND relkind IN ('r', 'v', 'm', 'c') AND relname !~ '^river_'
		  AND attnum > 0 AND NOT attisdropped ORDER BY relname COLLATE "C", attnum`},
	{"constraints", `
		SELECT format('%s %s %s', conrelid::regclass, conname, pg_get_constraintdef(oid)) FROM pg_constraint
		WHERE connamespace = 'lastseat'::regnamespace AND conrelid::regclass::text !~ '^lastseat.river_'
		  AND contype IN ('p', 'u', 'c', 'x', 'f')`},
	{"rights on tables and sequences", `
		SELECT format('%s %s: %s', replace(role, 'lastseat_', ''), relname, string_agg(kind, ', ' ORDER BY kind))
		FROM unnest('{lastseat_producer,lastseat_viewer,lastseat_worker,lastseat_keeper}'::text[]) role, pg_class c,
		  unnest('{DELETE,INSERT,REFERENCES,SELECT,TRIGGER,TRUNCATE,UPDATE,USAGE}'::text[]) kind
		WHERE relnamespace = 'lastseat'::regnamespace AND CASE
			WHEN relkind = 'S' AND kind IN ('SELECT', 'UPDATE', 'USAGE') THEN has_sequence_privilege(role, c.oid, kind)
			WHEN relkind IN ('r', 'v', 'm') AND kind <> 'USAGE' THEN has_table_privilege(role, c.oid, kind) END
		GROUP BY role, relname`},
	{"rights on the schema", `
		SELECT format('%s: %s', replace(role, 'lastseat_', ''), kind)
		  FROM unnest('{lastseat_producer,lastseat_viewer,lastseat_worker,lastseat_keeper}'::text[]) role,
		    unnest('{CREATE,USAGE}'::text[]) kind
		WHERE has_schema_privilege(role, 'lastseat', kind)`},
}

// A change of the contract is made on purpose: functions may gain arguments with defaults, at the end, and never lose
// or reorder them; tables may gain columns. UPDATE_GOLDEN=1 go test ./schema -run TestContract writes the file anew;
// the diff is to be read.
func TestContract(t *testing.T) {
	t.Parallel()
	pool := migrated(t)
	var got strings.Builder
	for _, part := range contract {
		got.WriteString("# " + part.title + "\n")
		lines := column[string](t, pool, part.sql)
		if part.title != "columns" { // they have an order of their own
			slices.Sort(lines) // not by the database's collation
		}
		for _, line := range lines {
			got.WriteString(line + "\n")
		}
		got.WriteString("\n")
	}
	if os.Getenv("UPDATE_GOLDEN") != "" {
		if err := os.WriteFile(golden, []byte(got.String()), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(golden)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(strings.Split(string(want), "\n"), strings.Split(got.String(), "\n")); diff != "" {
		t.Errorf("the contract has changed (-was +is). If that is wanted: UPDATE_GOLDEN=1 go test ./schema -run "+
			"TestContract\n%s", diff)
	}
}
