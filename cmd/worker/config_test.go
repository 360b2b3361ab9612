package main

import (
	"net"
	"slices"
	"strings"
	"testing"

	"github.com/lastseat/lastseat/internal/testdb"
	"github.com/lastseat/lastseat/schema"
)

// everyCommand that needs a database.
var everyCommand = [][]string{
	{"run"}, {"run", "--drain"}, {"audit"}, {"doctor"}, {"migrate", "up"}, {"migrate", "down"}, {"migrate", "status"}, {"migrate", "up", "--dry-run"},
}

func TestUsage(t *testing.T) {
	t.Parallel()
	for _, args := range [][]string{
		{}, {"work"}, {"run", "now"}, {"run", "--fast"}, {"migrate"}, {"migrate", "sideways"}, {"migrate", "up", "5"}, {"audit", "all"},
		{"doctor", "--output", "xml"}, {"dev", "now"},
		{"dev", "--ui", "0.0.0.0:0"}, {"dev", "--ui", ":0"}, {"dev", "--ui", "[::]:0"}, {"dev", "--ui", "192.0.2.1:8080"},
		{"dev", "--ui", "example.com:80"}, {"dev", "--ui", "8080"}, {"dev", "--ui", ""}, {"dev", "--ui", "localhost.example.com:80"},
	} {
		t.Run(strings.Join(args, " "), func(t *testing.T) {
			t.Parallel()
			got := runIn(t, []string{"DATABASE_URL=postgres://nobody@127.0.0.1:1/none"}, args...)
			said := strings.Split(strings.TrimSuffix(got.err, "\n"), "\n")
			hinted := len(said) == 2 && strings.HasPrefix(said[1], "Try ")
			if got.code != 64 || !strings.HasPrefix(said[0], "worker: ") || len(said) > 1 && !hinted {
				t.Errorf("exit code %d, stderr %q; want 64 and a line that says what is wrong", got.code, got.err)
			}
		})
	}
}

// Every mistake is told at once, a line each, before anything is done.
func TestConfigurationMistakes(t *testing.T) {
	t.Parallel()
	mistakes := []string{
		"LASTSEAT_BATCH=many", "LASTSEAT_COLOUR=red", "LASTSEAT_ISOLATION=repeatable read", "LASTSEAT_KEEP_COMPLETED=-1h", "LASTSEAT_LANES=0",
		"LASTSEAT_LOG_FORMAT=xml", "LASTSEAT_LOG_LEVEL=loud", "LASTSEAT_POLL=1ms", "LASTSEAT_STOP_TIMEOUT=0s", "LASTSEAT_TX_RETRIES=0",
	}
	for _, args := range everyCommand {
		t.Run(strings.Join(args, " "), func(t *testing.T) {
			t.Parallel()
			got := runIn(t, mistakes, args...)
			var named []string
			for line := range strings.Lines(got.err) {
				for _, mistake := range append(mistakes, "DATABASE_URL=") {
					if name, _, _ := strings.Cut(mistake, "="); strings.Contains(line, "configuration: "+name+" ") {
						named = append(named, name)
						break
					}
				}
			}
			slices.Sort(named)
			if got.code != 78 || len(named) != 11 || len(slices.Compact(named)) != 11 || strings.Count(got.err, "\n") != 11 || got.out != "" {
				t.Errorf("exit code %d, %d mistakes named: %v; stderr %q; want 78 and 11 lines", got.code, len(named), named, got.err)
			}
		})
	}
}

func TestConfiguration(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		environ []string
		says    string
	}{
		"not set":    {nil, "DATABASE_URL is not set"},
		"empty":      {[]string{"DATABASE_URL="}, "DATABASE_URL is not set"},
		"malformed":  {[]string{"DATABASE_URL=postgres://shop:hunter2@localhost:port/shop"}, "DATABASE_URL"},
		"bad option": {[]string{"DATABASE_URL=postgres://shop:hunter2@localhost/shop?sslmode=perhaps"}, "DATABASE_URL"},
		"misspelt":   {[]string{"DATABASE_URL=postgres://shop:hunter2@localhost/shop", "LASTSEAT_LANE=2"}, "LASTSEAT_LANE is not a variable"},
	} {
		for _, args := range everyCommand {
			t.Run(name+"/"+strings.Join(args, " "), func(t *testing.T) {
				t.Parallel()
				got := runIn(t, c.environ, args...)
				got.fails(t, 78, c.says)
				if strings.Contains(got.err, "hunter2") {
					t.Errorf("stderr shows the password: %q", got.err)
				}
			})
		}
	}
	// dev makes a database only where none is named; a mistake in the name is not "none".
	runIn(t, []string{"DATABASE_URL=postgres://localhost:port/shop"}, "dev").fails(t, 78, "DATABASE_URL")
}

func TestDatabaseDown(t *testing.T) {
	t.Parallel()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	url := "postgres://shop:hunter2@" + listener.Addr().String() + "/shop?sslmode=disable"
	_ = listener.Close()
	for _, args := range append(everyCommand, []string{"dev"}) {
		t.Run(strings.Join(args, " "), func(t *testing.T) {
			t.Parallel()
			runWith(t, url, args...).fails(t, 69, `database "shop"`, "127.0.0.1:", "refused")
		})
	}
}

// Another schema than this binary's is exit code 78 with what to do about it, and nothing is settled.
func TestSchemaVersion(t *testing.T) {
	t.Parallel()
	down := func(steps int) func(*testing.T, string) {
		return func(t *testing.T, url string) {
			for range steps {
				if _, err := schema.Down(t.Context(), url, false); err != nil {
					t.Fatal(err)
				}
			}
		}
	}
	for name, c := range map[string]struct {
		change func(*testing.T, string)
		says   string
	}{
		"missing":      {nil, "worker migrate up"},
		"one older":    {down(1), "worker migrate up"},
		"only river's": {down(5), "worker migrate up"},
		"newer": {func(t *testing.T, url string) {
			testdb.Exec(t, testdb.Pool(t, url), `INSERT INTO lastseat.schema_migrations (version, name) VALUES (999, 'later')`)
		}, "newer"},
		"newer river": {func(t *testing.T, url string) {
			testdb.Exec(t, testdb.Pool(t, url), `INSERT INTO lastseat.river_migration (line, version) VALUES ('main', 999)`)
		}, "newer"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			url := testdb.Empty(t)
			if c.change != nil {
				url = testdb.New(t)
				c.change(t, url)
			}
			for _, args := range [][]string{{"run"}, {"run", "--drain"}, {"audit"}} {
				runWith(t, url, args...).fails(t, 78, c.says)
			}
			doctor := runWith(t, url, "doctor")
			doctor.fails(t, 78, c.says)
			if !strings.HasPrefix(doctor.out, "WRONG") {
				t.Errorf("doctor prints %q", doctor.out)
			}
			if c.says == "newer" {
				runWith(t, url, "migrate", "up").fails(t, 78, c.says)
			}
		})
	}
}

func TestRoles(t *testing.T) {
	t.Parallel()
	pool := open(t, testdb.New(t))
	give(t, pool, "k", 100)
	producer, viewer, stranger, worker := as(t, pool, "lastseat_producer"), as(t, pool, "lastseat_viewer"), as(t, pool, ""), as(t, pool, "lastseat_worker")
	for name, url := range map[string]string{"producer": producer, "stranger": stranger} {
		for _, args := range [][]string{{"run"}, {"run", "--drain"}, {"migrate", "down"}, {"audit"}} {
			if runWith(t, url, args...).fails(t, 77); t.Failed() {
				t.Fatalf("%v as %s", args, name)
			}
		}
	}
	// A viewer gets as far as River, which logs its own errors too.
	for _, args := range [][]string{{"run"}, {"run", "--drain"}} {
		if got := runWith(t, viewer, args...); got.code != 77 || !strings.Contains(got.err, "\nworker: ") && !strings.HasPrefix(got.err, "worker: ") {
			t.Errorf("%v as viewer: exit code %d, stderr %q; want 77", args, got.code, got.err)
		}
	}
	runWith(t, stranger, "doctor").fails(t, 77, "permission denied")
	if got := testdb.Scalar[string](t, pool, `SELECT status FROM lastseat.requests`); got != "pending" {
		t.Errorf("the request is %s", got)
	}
	runWith(t, worker, "run", "--drain").succeeds(t)
	runWith(t, viewer, "audit").succeeds(t)
	if got := testdb.Scalar[string](t, pool, `SELECT status FROM lastseat.requests`); got != "applied" {
		t.Errorf("the request is %s after lastseat_worker's drain", got)
	}
}
