package schema_test

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/lastseat/lastseat/internal/testdb"
	"github.com/lastseat/lastseat/schema"
)

func TestCheckTellsVersionsApart(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		make string
		down int
		says []string
	}{
		"missing": {make: `DROP SCHEMA lastseat CASCADE`, says: []string{`no schema "lastseat"`, `run "worker migrate up"`}},
		"no functions": {down: 1, says: []string{
			fmt.Sprintf("is at version %d, river ", newest), ", no functions", "needs version ", ", functions ",
			`run "worker migrate up"`}},
		"older": {down: 2, says: []string{
			fmt.Sprintf("is at version %d, river ", newest-1), fmt.Sprintf("needs version %d, river ", newest),
			`run "worker migrate up"`}},
		"much older": {down: ours, says: []string{"is at version 0, river ", `run "worker migrate up"`}},
		"newer": {make: fmt.Sprintf(`INSERT INTO lastseat.schema_migrations (version, name) VALUES (%d, 'later')`, newest+1),
			says: []string{
				fmt.Sprintf("is newer (version %d,", newest+1), fmt.Sprintf("than this program (version %d,", newest),
				"run a newer release"}},
		"newer functions": {make: `UPDATE lastseat.schema_functions SET version = 99, digest = 'feed'`, says: []string{
			"is newer (version ", "functions 99 (feed)", "than this program (version ", schema.FunctionsStep(),
			"run a newer release"}},
		"older functions": {make: `UPDATE lastseat.schema_functions SET version = 0, digest = 'feed'`, says: []string{
			"is at version ", "functions 0 (feed)", "this program needs version ", schema.FunctionsStep(),
			`run "worker migrate up"`}},
		"another set with the same number": {make: `UPDATE lastseat.schema_functions SET digest = 'feed'`, says: []string{
			"is at version ", " (feed)", "this program needs version ", schema.FunctionsStep(), `run "worker migrate up"`}},
		"set of functions unknown": {make: `DELETE FROM lastseat.schema_functions`, says: []string{
			", no functions", "this program needs version ", `run "worker migrate up"`}},
		"newer river": {make: `INSERT INTO lastseat.river_migration (line, version) SELECT 'main', max(version) + 1
			FROM lastseat.river_migration`, says: []string{"is newer", "run a newer release"}},
		"older river": {make: `DELETE FROM lastseat.river_migration WHERE version = (SELECT max(version)
			FROM lastseat.river_migration)`, says: []string{`run "worker migrate up"`}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			url := testdb.New(t)
			pool := testdb.Pool(t, url)
			for range test.down {
				down(t, url)
			}
			if test.make != "" {
				exec(t, pool, test.make)
			}
			producers := testdb.Pool(t, testdb.As(t, pool, "lastseat_producer"))
			if err := schema.Check(t.Context(), producers); test.down < ours && !errors.As(err, new(*schema.VersionError)) {
				t.Errorf("check as a producer: %v, want a VersionError: another role would not help", err)
			}
			err := schema.Check(t.Context(), pool)
			if !errors.As(err, new(*schema.VersionError)) {
				t.Fatalf("check: %v, want an VersionError", err)
			}
			for _, part := range test.says {
				if !strings.Contains(err.Error(), part) {
					t.Errorf("%q does not say %q", err, part)
				}
			}
			if strings.Contains(err.Error(), "\n") {
				t.Errorf("%q is more than one line", err)
			}
		})
	}
}

func TestCheckCompletesAnOlderDatabase(t *testing.T) {
	t.Parallel()
	url := testdb.New(t)
	down(t, url)
	down(t, url)
	if steps := up(t, url); !slices.Equal(names(steps), []string{newestName, schema.FunctionsStep()}) {
		t.Errorf("up took %v", steps)
	}
	if err := schema.Check(t.Context(), testdb.Pool(t, url)); err != nil {
		t.Error(err)
	}
}

// A database that a newer release has migrated is left alone, in both directions and also on a dry run.
func TestNewerDatabaseIsLeftAlone(t *testing.T) {
	t.Parallel()
	for name, newer := range map[string]string{
		"ours":      `INSERT INTO lastseat.schema_migrations (version, name) VALUES (99, 'later')`,
		"functions": `UPDATE lastseat.schema_functions SET version = 99`,
		"river": `INSERT INTO lastseat.river_migration (line, version) SELECT 'main', max(version) + 1
			FROM lastseat.river_migration`,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			url := testdb.New(t)
			pool := testdb.Pool(t, url)
			exec(t, pool, newer)
			before := image(t, pool)
			for _, dryRun := range []bool{true, false} {
				if _, err := schema.Up(t.Context(), url, dryRun); !errors.As(err, new(*schema.VersionError)) {
					t.Errorf("up (dry run: %t): %v, want an VersionError", dryRun, err)
				}
				if steps, err := schema.Down(t.Context(), url, dryRun); err == nil {
					t.Errorf("down (dry run: %t) of a newer database took back %v", dryRun, names(steps))
				}
			}
			if after := image(t, pool); !slices.Equal(before, after) {
				t.Errorf("something has changed: %d objects, now %d", len(before), len(after))
			}
		})
	}
}

func TestCheckAsRole(t *testing.T) {
	t.Parallel()
	pool := migrated(t)
	for _, role := range []string{"lastseat_worker", "lastseat_viewer", "lastseat_keeper", "lastseat_owner"} {
		if err := schema.Check(t.Context(), connect(t, pool, role)); err != nil {
			t.Errorf("%s: %v", role, err)
		}
	}
	for _, role := range []string{"lastseat_worker", "lastseat_viewer"} {
		conn := connect(t, testdb.Pool(t, testdb.Empty(t)), role)
		if err := schema.Check(t.Context(), conn); !errors.As(err, new(*schema.VersionError)) {
			t.Errorf("%s in an empty database: %v, want an VersionError", role, err)
		}
	}
}

func TestUnusableURL(t *testing.T) {
	t.Parallel()
	for _, url := range []string{"postgres://127.0.0.1:1/none?sslmode=disable", "postgres://h:port/x", "port=x"} {
		if _, err := schema.Up(t.Context(), url, false); err == nil {
			t.Errorf("%s: no error", url)
		}
	}
}
