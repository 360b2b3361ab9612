package schema

import (
	"fmt"
	"strings"
)

// signatureSQL is the signature of a function as our files write it.
const signatureSQL = `format('%s(%s) -> %s', p.proname,
            regexp_replace(replace(pg_get_function_arguments(p.oid), 'timestamp with time zone', 'timestamptz'),
                '::[a-z]+', '', 'g'),
            replace(pg_get_function_result(p.oid), 'timestamp with time zone', 'timestamptz'))`

// dropSQL drops functions of ours whose signature is not among those to keep, and takes the roles' rights on the
// others: what remains is granted by the files. CREATE OR REPLACE can't rename an argument, change a result or take
// a default away, and would leave the old function beside one whose arguments have other types. River's functions
// and those of triggers, which the migrations drop, stay. A view of somebody's own that calls a dropped function
// makes this fail.
func dropSQL(keep []string) string {
	return `DO $$
DECLARE
    ours record;
BEGIN
    FOR ours IN
        SELECT p.oid::regprocedure AS name, ` + signatureSQL + ` AS signature
        FROM pg_proc p
        WHERE p.pronamespace = 'lastseat'::regnamespace AND p.proowner = 'lastseat_owner'::regrole
          AND p.prorettype <> 'trigger'::regtype AND p.proname !~ '^river_'
    LOOP
        IF ours.signature = ANY (ARRAY[` + quoted(keep) + `]::text[]) THEN
            EXECUTE format('REVOKE ALL ON FUNCTION %s FROM PUBLIC, lastseat_producer, lastseat_worker, '
                           'lastseat_viewer, lastseat_keeper', ours.name);
        ELSE
            EXECUTE format('DROP FUNCTION %s', ours.name);
        END IF;
    END LOOP;
END $$;
`
}

func quoted(list []string) string {
	if len(list) == 0 {
		return ""
	}
	literals := make([]string, len(list))
	for i, text := range list {
		literals[i] = quote(text)
	}
	return "\n            " + strings.Join(literals, ",\n            ")
}

func quote(text string) string { return "'" + strings.ReplaceAll(text, "'", "''") + "'" }

// part is a piece of SQL with the step that it stands for, if it is one.
type part struct {
	about string // one line for the reader of a script
	step  string
	sql   string
}

// parts are the SQL that brings a database from have to this release, in its order. All of it runs in one
// transaction of the owner's; there is none if nothing is to be done.
func (r *release) parts(have versions) []part {
	want := r.functions
	if have.own == len(r.migrations) && have.functions == want.version && have.digest == want.digest {
		return nil
	}
	all := []part{
		// Nobody's search_path matters: objects of somebody's own in public can't take the place of Postgres's.
		{about: "the session", sql: "SET LOCAL search_path = pg_catalog, pg_temp;\n" +
			"SET LOCAL standard_conforming_strings = on;\nSET LOCAL quote_all_identifiers = off;\n"},
		{about: "the tables that note the version", sql: versionTables},
		{about: "the functions of the triggers", sql: want.triggers},
	}
	for _, m := range r.migrations[min(have.own, len(r.migrations)):] {
		noted := fmt.Sprintf("INSERT INTO lastseat.schema_migrations (version, name) VALUES (%d, %s);\n",
			m.number, quote(m.name))
		all = append(all, part{about: "migration " + m.name, step: m.name, sql: m.up + noted})
	}
	return append(all,
		part{about: "functions that are gone or have other arguments", sql: dropSQL(want.signatures)},
		part{about: want.step(), step: want.step(), sql: want.rest + fmt.Sprintf(`
DELETE FROM lastseat.schema_functions;
INSERT INTO lastseat.schema_functions (version, digest) VALUES (%d, %s);
`, want.version, quote(want.digest))})
}

func (f *functionSet) step() string { return functionsStep(f.version, f.digest) }

func functionsStep(version int, digest string) string {
	return fmt.Sprintf("functions %d (%s)", version, short(digest))
}

// short is enough of a digest to tell two sets apart.
func short(digest string) string { return digest[:min(len(digest), 8)] }
