package main

import (
	"maps"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/lastseat/lastseat/internal/clitest"
	"github.com/lastseat/lastseat/internal/testdb"
	"github.com/lastseat/lastseat/schema"
)

// transferArgs are a command that nothing but the database can refuse.
var transferArgs = []string{"transfer", "--key", "k", "--from", "bank", "--to", "ada", "--amount", "1", "--currency",
	"EUR"}

// everyCommand talks to the database.
var everyCommand = map[string][]string{
	"account":  {"account", "--id", "a", "--currency", "EUR"},
	"transfer": transferArgs,
	"reverse":  {"reverse", "--key", "u", "--transfer", "k"},
	"authorize": {"authorize", "--key", "a", "--payment", "p", "--from", "bank", "--to", "ada", "--amount", "1",
		"--currency", "EUR", "--expires-in", "15m"},
	"capture":        {"capture", "--key", "c", "--payment", "p"},
	"capture a part": {"capture", "--key", "part", "--payment", "p", "--amount", "0.50"},
	"refund":         {"refund", "--key", "r", "--payment", "p", "--amount", "0.10"},
	"void":           {"void", "--key", "v", "--payment", "p"},
	"import":         {"import", "-", "--open-accounts"},
	"outcome":        {"outcome", "k"},
	"wait":           {"wait", "k", "--timeout", "5s"},
	"retry":          {"retry", "k"},
	"balance":        {"balance", "ada"},
	"payment":        {"payment", "p"},
	"statement":      {"statement", "ada"},
	"limit":          {"limit", "--group", "hall", "--per-customer", "9"},
	"resource":       {"resource", "--id", "seat", "--capacity", "9", "--group", "hall"},
	"hold": {"hold", "--key", "h", "--reservation", "r", "--item", "seat=2", "--customer", "ada",
		"--expires-in", "15m"},
	"extend":  {"extend", "--key", "e", "--reservation", "r", "--expires-at", "2099-01-01T00:00:00Z"},
	"confirm": {"confirm", "--key", "s", "--reservation", "r"},
	"cancel":  {"cancel", "--key", "x", "--reservation", "r"},
	"book": {"book", "--key", "b", "--reservation", "q", "--item", "seat", "--customer", "ada", "--from", "bank",
		"--to", "ada", "--amount", "1", "--currency", "EUR"},
	"reservation":  {"reservation", "r"},
	"availability": {"availability", "seat"},
	"occupied":     {"occupied", "seat", "--from", "2026-11-23"},
}

// askingCommands write, in an order in which each finds what it needs.
var askingCommands = []string{"account", "transfer", "import", "retry", "reverse", "authorize", "capture",
	"capture a part", "refund", "void",
	"limit", "resource", "hold", "extend", "confirm", "cancel", "book"}

const oneRow = "key,from_account,to_account,amount,currency\nk,bank,ada,1,EUR\n"

func TestUsage(t *testing.T) {
	t.Parallel()
	for name, args := range map[string][]string{
		"no command":           {},
		"unknown command":      {"pay"},
		"unknown flag":         {"outcome", "k", "--verbose"},
		"no key":               {"outcome"},
		"missing flags":        {"transfer", "--key", "k"},
		"superfluous argument": append([]string{"now"}, transferArgs...),
		"argument to transfer": append(transferArgs, "now"),
		"two files":            {"import", "a", "b"},
		"wait without unit":    append(transferArgs, "--wait", "10"),
		"unknown output":       {"outcome", "k", "--output", "yaml"},
		"chunk of 0":           {"import", "-", "--chunk", "0"},
		"chunk negative":       {"import", "-", "--chunk", "-1"},
		"chunk no number":      {"import", "-", "--chunk", "many"},
		"chunk too large":      {"import", "-", "--chunk", "1000000"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			got := runIn(t, "", strings.NewReader(oneRow), args...)
			lines := strings.Split(strings.TrimSuffix(got.Err, "\n"), "\n")
			hinted := len(lines) == 2 && strings.HasPrefix(lines[1], "Try ")
			if got.Code != 64 || !strings.HasPrefix(lines[0], "enqueue: ") || len(lines) > 1 && !hinted {
				t.Errorf("exit code %d, stderr %q; want 64 and a line that says what is wrong", got.Code, got.Err)
			}
		})
	}
}

func TestConfiguration(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct{ url, says string }{
		"not set":   {"", "DATABASE_URL is not set"},
		"malformed": {"postgres://shop:hunter2@localhost:port/shop", "DATABASE_URL"},
		"no URL":    {"localhost/shop", "DATABASE_URL"},
		"bad mode":  {"postgres://shop:hunter2@localhost/shop?sslmode=perhaps", "DATABASE_URL"},
	} {
		for command, args := range everyCommand {
			t.Run(name+"/"+command, func(t *testing.T) {
				t.Parallel()
				got := runIn(t, c.url, strings.NewReader(oneRow), args...)
				got.Fails(t, 78, c.says)
				if strings.Contains(got.Err, "hunter2") {
					t.Errorf("stderr shows the password: %q", got.Err)
				}
			})
		}
	}
}

func TestDatabaseDown(t *testing.T) {
	t.Parallel()
	url := "postgres://shop:hunter2@" + clitest.FreeAddress(t) + "/shop?sslmode=disable"
	for command, args := range everyCommand {
		t.Run(command, func(t *testing.T) {
			t.Parallel()
			runIn(t, url, strings.NewReader(oneRow), args...).Fails(t, 69, `database "shop"`, "127.0.0.1:", "refused")
		})
	}
}

func TestNotLetIn(t *testing.T) {
	t.Parallel()
	config, err := pgx.ParseConfig(testdb.Empty(t))
	if err != nil {
		t.Fatal(err)
	}
	url := func(password, database string) string {
		return "postgres://" + config.User + ":" + password + "@127.0.0.1:" + portOf(config) + "/" + database +
			"?sslmode=disable"
	}
	if config.Password != "" {
		runIn(t, url("wrong", config.Database), nil, "outcome", "k").Fails(t, 77, "password authentication failed")
	}
	runIn(t, url(config.Password, "nowhere"), nil, "outcome", "k").Fails(t, 78, `"nowhere" does not exist`)
}

func portOf(config *pgx.ConnConfig) string { return strconv.Itoa(int(config.Port)) }

// A database without the schema, or with an older one, is exit code 78, with the command that mends it. Nothing is
// written: an older schema has not all the rules.
func TestSchema(t *testing.T) {
	t.Parallel()
	all := slices.Sorted(maps.Keys(everyCommand))
	for name, c := range map[string]struct {
		has      int // migrations; -1: no schema
		commands []string
	}{
		"missing": {-1, all}, "only river's": {0, all}, "without requests": {1, all}, "without transfers": {2, all},
		"without payments":     {4, all},
		"without reservations": {5, all}, "without the interface": {6, all},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			url := testdb.Empty(t)
			if c.has >= 0 {
				url = older(t, c.has)
			}
			pool := testdb.Pool(t, url)
			for _, command := range c.commands {
				t.Run(command, func(t *testing.T) {
					runIn(t, url, strings.NewReader(oneRow), everyCommand[command]...).Fails(t, 78, "worker migrate up")
					if rows := written(t, pool); rows > 0 {
						t.Errorf("%d rows were written by this or an earlier command", rows)
					}
				})
			}
		})
	}
}

// older returns the URL of a database that has so many of the migrations.
func older(t *testing.T, has int) string {
	t.Helper()
	url := testdb.New(t)
	steps, err := schema.Status(t.Context(), url)
	if err != nil {
		t.Fatal(err)
	}
	for _, step := range steps {
		number, err := strconv.Atoi(strings.Split(step.Name, "_")[0])
		if functions := strings.HasPrefix(step.Name, "functions"); !functions && (err != nil || number <= has) {
			continue // River's, or one to keep
		}
		if _, err := schema.Down(t.Context(), url, false); err != nil {
			t.Fatal(err)
		}
	}
	return url
}

// written counts rows in tables that may be missing.
func written(t *testing.T, pool *pgxpool.Pool) (rows int) {
	t.Helper()
	for _, table := range []string{"lastseat.requests", "lastseat.accounts", "lastseat.river_job", "lastseat.resources",
		"lastseat.limit_groups", "lastseat.reservations"} {
		var there bool
		err := pool.QueryRow(t.Context(), `SELECT to_regclass($1) IS NOT NULL`, table).Scan(&there)
		if err == nil && there {
			var n int
			err = pool.QueryRow(t.Context(), `SELECT count(*) FROM `+table).Scan(&n)
			rows += n
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	return rows
}

// Who may only look may not ask, and who may ask needs no other right.
func TestRoles(t *testing.T) {
	t.Parallel()
	s := newShop(t)
	s.enqueue(t, everyCommand["authorize"]...).Succeeds(t) // who names an amount has looked at the payment first
	before := s.census(t)
	viewer := testdb.As(t, s.pool, "lastseat_viewer")
	for _, command := range askingCommands {
		runIn(t, viewer, strings.NewReader(oneRow), everyCommand[command]...).Fails(t, 77, "permission denied")
		s.expect(t, before)
	}

	producer := testdb.As(t, s.pool, "lastseat_producer")
	for _, command := range askingCommands {
		runIn(t, producer, strings.NewReader(oneRow), everyCommand[command]...).Succeeds(t)
	}
	s.expect(t, "5 accounts, 12 requests, 12 jobs")
	s.drain(t)
	runIn(t, producer, nil, "wait", "k").Succeeds(t)
	for _, command := range []string{"outcome", "balance", "payment", "statement", "reservation", "availability",
		"occupied"} {
		runIn(t, producer, nil, everyCommand[command]...).Succeeds(t)
		runIn(t, viewer, nil, everyCommand[command]...).Succeeds(t)
	}
}
