package schema_test

import (
	run "os/exec"
	"slices"
	"strings"
	"testing"

	"github.com/lastseat/lastseat/internal/testdb"
	"github.com/lastseat/lastseat/schema"
)

func script(t *testing.T, url string) string {
	t.Helper()
	sql, err := schema.Script(t.Context(), url)
	if err != nil {
		t.Fatal(err)
	}
	return sql
}

// The SQL that a dry run prints, run by hand, makes the same schema as migrate up: from nothing, and from an older
// version.
func TestScriptRunByHand(t *testing.T) {
	t.Parallel()
	made := withoutTimes(image(t, migrated(t)))
	for name, prepare := range map[string]func(t *testing.T) string{
		"from nothing": func(t *testing.T) string { return testdb.Empty(t) },
		"without functions": func(t *testing.T) string {
			url := testdb.New(t)
			down(t, url)
			return url
		},
		"from an older migration, with rows": func(t *testing.T) string {
			url := testdb.New(t)
			pool := testdb.Pool(t, url)
			exec(t, pool, `SELECT lastseat.open_account('ada', 'EUR')`)
			down(t, url)
			down(t, url)
			return url
		},
		"other functions": func(t *testing.T) string {
			url := testdb.New(t)
			exec(t, testdb.Pool(t, url), `UPDATE lastseat.schema_functions
				SET digest = 'feed'; DROP FUNCTION lastseat.void(text, text);
				ALTER FUNCTION lastseat.capture(text, text, bigint) RENAME TO seize`)
			return url
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			url := prepare(t)
			pool := testdb.Pool(t, url)
			before := image(t, pool)
			sql := script(t, url)
			if !slices.Equal(before, image(t, pool)) {
				t.Error("printing has changed something")
			}
			exec(t, connect(t, pool, ""), sql) // without arguments pgx sends it as psql would: one string of many statements
			if err := schema.Check(t.Context(), pool); err != nil {
				t.Fatal(err)
			}
			if got := withoutTimes(image(t, pool)); !slices.Equal(got, made) {
				t.Errorf("the schema is\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(made, "\n"))
			}
			if again := script(t, url); again != "" {
				t.Errorf("there is still something to do:\n%s", again)
			}
			if steps := up(t, url); len(steps) != 0 {
				t.Errorf("up took %v", steps)
			}
		})
	}
}

// psql has rules of its own (backslashes, colons): it runs the script as well, where there is one.
func TestScriptInPsql(t *testing.T) {
	t.Parallel()
	psql, err := run.LookPath("psql")
	if err != nil {
		t.Skip("no psql")
	}
	url := testdb.Empty(t)
	command := run.CommandContext(t.Context(), psql, "--no-psqlrc", "--quiet", "--variable", "ON_ERROR_STOP=1", "--file",
		"-", url)
	command.Stdin = strings.NewReader(script(t, url))
	if out, err := command.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	if err := schema.Check(t.Context(), testdb.Pool(t, url)); err != nil {
		t.Error(err)
	}
}
