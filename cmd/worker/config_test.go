package main

import (
	"slices"
	"strings"
	"testing"

	"github.com/lastseat/lastseat/internal/clitest"
	"github.com/lastseat/lastseat/internal/testdb"
	"github.com/lastseat/lastseat/schema"
)

// everyCommand that needs a database.
var everyCommand = [][]string{
	{"run"}, {"run", "--drain"}, {"audit"}, {"doctor"}, {"migrate", "up"}, {"migrate", "down"}, {"migrate", "status"},
	{"migrate", "up", "--dry-run"},
}

// Every mistake is told at once, a line each, before anything is done.
func TestConfigurationMistakes(t *testing.T) {
	t.Parallel()
	mistakes := []string{
		"LASTSEAT_BATCH=many", "LASTSEAT_COLOUR=red", "LASTSEAT_HOLD_LIMIT=1ms",
		"LASTSEAT_ISOLATION=repeatable read", "LASTSEAT_KEEP_COMPLETED=-1h", "LASTSEAT_LANES=0",
		"LASTSEAT_LOG_FORMAT=xml", "LASTSEAT_LOG_LEVEL=loud", "LASTSEAT_POLL=1ms", "LASTSEAT_REPLY_LIMIT=0s",
		"LASTSEAT_STOP_TIMEOUT=0s", "LASTSEAT_TX_RETRIES=0",
	}
	for _, args := range everyCommand {
		t.Run(strings.Join(args, " "), func(t *testing.T) {
			t.Parallel()
			got := runIn(t, mistakes, args...)
			var named []string
			for line := range strings.Lines(got.Err) {
				for _, mistake := range append(mistakes, "DATABASE_URL=") {
					if name, _, _ := strings.Cut(mistake, "="); strings.Contains(line, "configuration: "+name+" ") {
						named = append(named, name)
						break
					}
				}
			}
			slices.Sort(named)
			want := len(mistakes) + 1 // and DATABASE_URL is missing
			if got.Code != 78 || len(named) != want || len(slices.Compact(named)) != want ||
				strings.Count(got.Err, "\n") != want || got.Out != "" {
				t.Errorf("exit code %d, %d mistakes named: %v; stderr %q; want 78 and %d lines", got.Code, len(named), named,
					got.Err, want)
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
		"misspelt": {[]string{"DATABASE_URL=postgres://shop:hunter2@localhost/shop", "LASTSEAT_LANE=2"},
			"LASTSEAT_LANE is not a variable"},
	} {
		for _, args := range everyCommand {
			t.Run(name+"/"+strings.Join(args, " "), func(t *testing.T) {
				t.Parallel()
				got := runIn(t, c.environ, args...)
				got.Fails(t, 78, c.says)
				if strings.Contains(got.Err, "hunter2") {
					t.Errorf("stderr shows the password: %q", got.Err)
				}
			})
		}
	}
	// dev makes a database only where none is named; a mistake in the name is not "none".
	runIn(t, []string{"DATABASE_URL=postgres://localhost:port/shop"}, "dev").Fails(t, 78, "DATABASE_URL")
}

func TestDatabaseDown(t *testing.T) {
	t.Parallel()
	url := "postgres://shop:hunter2@" + clitest.FreeAddress(t) + "/shop?sslmode=disable"
	for _, args := range append(everyCommand, []string{"dev"}) {
		t.Run(strings.Join(args, " "), func(t *testing.T) {
			t.Parallel()
			runWith(t, url, args...).Fails(t, 69, `database "shop"`, "127.0.0.1:", "refused")
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
				runWith(t, url, args...).Fails(t, 78, c.says)
			}
			doctor := runWith(t, url, "doctor")
			doctor.Fails(t, 78, c.says)
			if !strings.HasPrefix(doctor.Out, "WRONG") {
				t.Errorf("doctor prints %q", doctor.Out)
			}
			if c.says == "newer" {
				runWith(t, url, "migrate", "up").Fails(t, 78, c.says)
			}
		})
	}
}
