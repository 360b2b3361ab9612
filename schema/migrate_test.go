package schema_test

import (
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/lastseat/lastseat/internal/testdb"
	"github.com/lastseat/lastseat/schema"
)

func up(t *testing.T, url string) []schema.Step {
	t.Helper()
	steps, err := schema.Up(t.Context(), url, false)
	if err != nil {
		t.Fatalf("up: %v", err)
	}
	return steps
}

func down(t *testing.T, url string) []schema.Step {
	t.Helper()
	steps, err := schema.Down(t.Context(), url, false)
	if err != nil {
		t.Fatalf("down: %v", err)
	}
	return steps
}

func status(t *testing.T, url string) []schema.Step {
	t.Helper()
	steps, err := schema.Status(t.Context(), url)
	if err != nil {
		t.Fatalf("status: %v", err)
	}
	return steps
}

func names(steps []schema.Step) []string {
	var all []string
	for _, step := range steps {
		all = append(all, step.Name)
	}
	return all
}

func applied(steps []schema.Step) int {
	n := 0
	for _, step := range steps {
		if step.Applied {
			n++
		}
	}
	return n
}

// image is everything in the database that is not Postgres's own: tables, functions, types, rights and rows of the
// version tables.
func image(t *testing.T, pool *pgxpool.Pool) []string {
	t.Helper()
	objects := column[string](t, pool, `
		SELECT 'schema ' || nspname || coalesce(nspacl::text, '') FROM pg_namespace WHERE nspname !~ '^pg_'
		UNION ALL SELECT relkind::text || ' ' || oid::regclass || coalesce(relacl::text, '') FROM pg_class
		  WHERE relnamespace = to_regnamespace('lastseat')
		UNION ALL SELECT 'function ' || oid::regprocedure || coalesce(proacl::text, '') || md5(prosrc) FROM pg_proc
		  WHERE pronamespace = to_regnamespace('lastseat')
		UNION ALL SELECT 'type ' || oid::regtype FROM pg_type WHERE typnamespace = to_regnamespace('lastseat')
		UNION ALL SELECT 'trigger ' || tgname || tgrelid::regclass FROM pg_trigger WHERE NOT tgisinternal
		UNION ALL SELECT 'defaults ' || defaclobjtype::text || defaclacl::text FROM pg_default_acl
		ORDER BY 1`)
	for _, table := range []string{"lastseat.schema_migrations", "lastseat.schema_functions", "lastseat.river_migration"} {
		if scalar[bool](t, pool, `SELECT to_regclass($1) IS NOT NULL`, table) {
			objects = append(objects, column[string](t, pool, "SELECT to_jsonb(v)::text FROM "+table+" v ORDER BY 1")...)
		}
	}
	return objects
}

func TestUpThenNothingToDo(t *testing.T) {
	t.Parallel()
	url := testdb.Empty(t)
	before := status(t, url)
	if len(before) < 5 || applied(before) != 0 {
		t.Fatalf("the status of an empty database is %v, want every step and none applied", before)
	}
	steps := up(t, url)
	if !slices.Equal(names(steps), names(before)) || applied(steps) != len(steps) {
		t.Errorf("up took %v, want every step of %v", steps, names(before))
	}
	if !strings.HasPrefix(steps[0].Name, "river 0") || steps[len(steps)-1].Name != schema.FunctionsStep() {
		t.Errorf("the steps are %v, want River's, ours and then the functions", names(steps))
	}
	if again := up(t, url); len(again) != 0 {
		t.Errorf("up again took %v", again)
	}
	if after := status(t, url); !slices.Equal(after, steps) {
		t.Errorf("the status is %v, want %v", after, steps)
	}
	if err := schema.Check(t.Context(), testdb.Pool(t, url)); err != nil {
		t.Errorf("check: %v", err)
	}
}

func TestDownStepByStepAndUpAgain(t *testing.T) {
	t.Parallel()
	url := testdb.Empty(t)
	pool := testdb.Pool(t, url)
	up(t, url)
	first := image(t, pool)
	for _, want := range []string{schema.FunctionsStep(), newestName, "0003_payments", "0002_ledger", "0001_requests"} {
		if steps := down(t, url); len(steps) != 1 || steps[0].Name != want || steps[0].Applied {
			t.Fatalf("down took back %v, want %s", steps, want)
		}
	}
	rest := status(t, url)
	if steps := down(t, url); len(steps) != applied(rest) {
		t.Errorf("down took back %v of %v, want all of River's steps", steps, rest)
	}
	if steps := down(t, url); len(steps) != 0 || applied(status(t, url)) != 0 {
		t.Errorf("down of nothing took back %v, status %v", steps, status(t, url))
	}
	left := column[string](t, pool, `SELECT relname FROM pg_class WHERE relnamespace = 'lastseat'::regnamespace
		AND relkind = 'r'
		UNION ALL SELECT proname FROM pg_proc WHERE pronamespace = 'lastseat'::regnamespace`)
	slices.Sort(left)
	if !slices.Equal(left, []string{"schema_functions", "schema_migrations"}) {
		t.Errorf("down left %v, want the tables that note the version only", left)
	}
	if err := schema.Check(t.Context(), pool); err == nil || !strings.Contains(err.Error(), "worker migrate up") {
		t.Errorf("check of a database without tables: %v", err)
	}
	up(t, url)
	if second := image(t, pool); !slices.Equal(withoutTimes(first), withoutTimes(second)) {
		t.Errorf("after down and up again the schema is another:\n%s\nwas\n%s", strings.Join(second, "\n"),
			strings.Join(first, "\n"))
	}
}

// withoutTimes leaves out the rows of the version tables: they hold numbers and times of their own.
func withoutTimes(objects []string) []string {
	return slices.DeleteFunc(slices.Clone(objects), func(object string) bool { return strings.HasPrefix(object, "{") })
}

func TestDownRefusesWhereRowsAre(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		fill, stopsAt string
	}{
		"accounts": {`INSERT INTO lastseat.accounts (id, currency) VALUES ('ada', 'EUR')`, "0002_ledger"},
		"requests": {`SELECT lastseat.enqueue('toy', 'k', '{}')`, "0001_requests"},
		"settled requests": {`INSERT INTO lastseat.requests (key, kind, fingerprint, job_id, status, code, settled_at)
			VALUES ('k', 'toy', '', 1, 'applied', 'played', now())`, "0001_requests"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			url := testdb.New(t)
			pool := testdb.Pool(t, url)
			exec(t, pool, test.fill)
			for i := 0; ; i++ {
				newest := names(status(t, url))[applied(status(t, url))-1]
				before := image(t, pool)
				_, err := schema.Down(t.Context(), url, false)
				if newest != test.stopsAt {
					if err != nil || i > 20 {
						t.Fatalf("down of %s: %v", newest, err)
					}
					continue
				}
				if err == nil {
					t.Fatalf("down of %s took rows away", newest)
				}
				if refused := pgError(t, err); !strings.Contains(refused.Message, "not empty") || refused.Hint == "" {
					t.Errorf("down of %s: %v", newest, err)
				}
				if !slices.Equal(before, image(t, pool)) {
					t.Errorf("the refused down of %s has changed something", newest)
				}
				break
			}
			up(t, url) // and the way back is open
			if err := schema.Check(t.Context(), pool); err != nil {
				t.Error(err)
			}
		})
	}
}

// A step that was refused is not one that was taken back: the command line prints what Down returns.
func TestRefusedDownReturnsNoStep(t *testing.T) {
	t.Parallel()
	url := testdb.New(t)
	exec(t, testdb.Pool(t, url), `SELECT lastseat.enqueue('toy', 'k', '{}')`)
	for range ours - 1 {
		down(t, url)
	}
	if steps, err := schema.Down(t.Context(), url, false); err == nil || len(steps) != 0 {
		t.Errorf("down of a table with rows returned %v, %v", steps, err)
	}
}

func TestDownRefusesJobsWithoutRequest(t *testing.T) {
	t.Parallel()
	url := testdb.New(t)
	pool := testdb.Pool(t, url)
	// straight into river_job, as another River client does: it has no request before it is claimed
	exec(t, pool, `INSERT INTO lastseat.river_job (kind, queue, max_attempts, args)
		VALUES ('toy', 'lastseat', 25, '{"key": "k"}')`)
	for range ours {
		down(t, url)
	}
	if steps, err := schema.Down(t.Context(), url, false); err == nil {
		t.Errorf("down dropped a job that waits: %v", names(steps))
	}
}

func TestDryRunsChangeNothing(t *testing.T) {
	t.Parallel()
	url := testdb.Empty(t)
	pool := testdb.Pool(t, url)
	run := func(what string, migrate func() ([]schema.Step, error)) []string {
		t.Helper()
		before := image(t, pool)
		steps, err := migrate()
		if err != nil {
			t.Fatalf("dry run of %s: %v", what, err)
		}
		if !slices.Equal(before, image(t, pool)) {
			t.Errorf("the dry run of %s has changed something", what)
		}
		return names(steps)
	}
	dryUp := func() ([]schema.Step, error) { return schema.Up(t.Context(), url, true) }
	dryDown := func() ([]schema.Step, error) { return schema.Down(t.Context(), url, true) }

	if steps := run("down of nothing", dryDown); len(steps) != 0 {
		t.Errorf("it would take back %v", steps)
	}
	told := run("up", dryUp)
	if taken := names(up(t, url)); !slices.Equal(told, taken) {
		t.Errorf("the dry run of up told %v, and up took %v", told, taken)
	}
	if steps := run("up of nothing", dryUp); len(steps) != 0 {
		t.Errorf("it would take %v", steps)
	}
	for range ours + 1 { // ours, then River's
		told := run("down", dryDown)
		if taken := names(down(t, url)); !slices.Equal(told, taken) {
			t.Errorf("the dry run of down told %v, and down took %v", told, taken)
		}
	}
}

func TestConcurrentUp(t *testing.T) {
	t.Parallel()
	url := testdb.Empty(t)
	known := names(status(t, url))
	var mu sync.Mutex
	var taken []string
	var all sync.WaitGroup
	for range 8 {
		all.Go(func() {
			steps, err := schema.Up(t.Context(), url, false)
			mu.Lock()
			defer mu.Unlock()
			taken = append(taken, names(steps)...)
			if err != nil {
				t.Errorf("up: %v", err)
			}
		})
	}
	all.Wait()
	if !slices.Equal(taken, known) {
		t.Errorf("eight migrations at once took %v, want each of %v once", taken, known)
	}
}
