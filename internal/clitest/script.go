package clitest

import (
	"fmt"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/rogpeppe/go-internal/testscript"

	"github.com/lastseat/lastseat/internal/testdb"
)

// Main runs the tests of a program's package. Scripts run program as a process of this name.
func Main(m *testing.M, name string, program func()) {
	testscript.Main(migrated{m}, map[string]func(){name: program})
}

type migrated struct{ *testing.M }

func (m migrated) Run() int { return testdb.MainMigrated(m.M) }

// database is what a script's commands use.
type database struct {
	t     testing.TB
	pool  *pgxpool.Pool
	roles map[string]string // to the URL of a login role that is a member
}

type databaseKey struct{}

// Scripts runs the scripts of testdata, each with a migrated database of its own in DATABASE_URL. Beside the commands
// of testscript a script has these:
//
//	succeeds PROGRAM ARGS...         exits with 0, and says nothing on stderr
//	fails CODE TEXT PROGRAM ARGS...  exits with CODE, and stderr is one line that contains TEXT
//	exits CODE PROGRAM ARGS...       exits with CODE
//	misused TEXT PROGRAM ARGS...     exits with 64, prints nothing, and stderr contains TEXT
//	until PROGRAM ARGS...            runs again and again until it exits with 0
//	sql STATEMENT                    runs as the owner of the database; stdout has the rows, a blank between two cells
//	as ROLE                          DATABASE_URL is from now on that of a login role that is a member of ROLE alone;
//	                                 ROLE may also be nobody (a member of none) or owner (the database's own)
func Scripts(t *testing.T) {
	t.Helper()
	testscript.Run(t, testscript.Params{
		Dir: "testdata", RequireExplicitExec: true, RequireUniqueNames: true,
		Setup: func(env *testscript.Env) error {
			tb, ok := env.T().(testing.TB)
			if !ok {
				return fmt.Errorf("%T is no testing.TB", env.T())
			}
			url := testdb.New(tb)
			env.Values[databaseKey{}] = database{tb, testdb.Pool(tb, url), map[string]string{"owner": url}}
			env.Setenv("DATABASE_URL", url)
			return nil
		},
		Cmds: map[string]func(ts *testscript.TestScript, neg bool, args []string){
			"succeeds": positive(1, succeeds), "exits": positive(2, exits), "fails": positive(3, fails), "misused": positive(2,
				misused),
			"until": positive(1, until), "sql": positive(1, sql), "as": positive(1, as),
		},
	})
}

// positive is a command of a script that can't be negated and takes arguments.
func positive(
	least int, do func(ts *testscript.TestScript, args []string),
) func(ts *testscript.TestScript, neg bool, args []string) {
	return func(ts *testscript.TestScript, neg bool, args []string) {
		if neg || len(args) < least {
			ts.Fatalf("used wrongly: see clitest.Scripts")
		}
		do(ts, args)
	}
}

// exec runs a program and returns its exit code.
func exec(ts *testscript.TestScript, args []string) int {
	err := ts.Exec(args[0], args[1:]...)
	if err == nil {
		return 0
	}
	exited, ok := err.(interface{ ExitCode() int })
	if !ok {
		ts.Fatalf("%v: %v", args, err)
	}
	return exited.ExitCode()
}

func succeeds(ts *testscript.TestScript, args []string) {
	if code, errs := exec(ts, args), ts.ReadFile("stderr"); code != 0 || errs != "" {
		ts.Fatalf("exit code %d, stderr %q; want 0 and nothing", code, errs)
	}
}

func fails(ts *testscript.TestScript, args []string) {
	want, err := strconv.Atoi(args[0])
	ts.Check(err)
	code, errs := exec(ts, args[2:]), ts.ReadFile("stderr")
	if code != want || !oneLine(errs) || !strings.Contains(Told(errs), args[1]) {
		ts.Fatalf("exit code %d, stderr %q; want %d and one line that contains %q", code, errs, want, args[1])
	}
}

func exits(ts *testscript.TestScript, args []string) {
	want, err := strconv.Atoi(args[0])
	ts.Check(err)
	if code := exec(ts, args[1:]); code != want {
		ts.Fatalf("exit code %d, want %d", code, want)
	}
}

func misused(ts *testscript.TestScript, args []string) {
	code, out, errs := exec(ts, args[1:]), ts.ReadFile("stdout"), ts.ReadFile("stderr")
	if code != 64 || out != "" || !strings.HasPrefix(errs, args[1]+": ") || !strings.Contains(errs, args[0]) {
		ts.Fatalf("exit code %d, stdout %q, stderr %q; want 64 and %q", code, out, errs, args[0])
	}
}

func until(ts *testscript.TestScript, args []string) {
	for deadline := time.Now().Add(Patience); exec(ts, args) != 0; time.Sleep(20 * time.Millisecond) {
		if time.Now().After(deadline) {
			ts.Fatalf("waited in vain for %s: %s", strings.Join(args, " "), ts.ReadFile("stderr"))
		}
	}
}

func sql(ts *testscript.TestScript, args []string) {
	db := ts.Value(databaseKey{}).(database)
	rows, err := db.pool.Query(db.t.Context(), args[0])
	ts.Check(err)
	defer rows.Close()
	for rows.Next() {
		cells, err := rows.Values()
		ts.Check(err)
		_, err = fmt.Fprintln(ts.Stdout(), cells...)
		ts.Check(err)
	}
	ts.Check(rows.Err())
}

func as(ts *testscript.TestScript, args []string) {
	db := ts.Value(databaseKey{}).(database)
	if db.roles[args[0]] == "" {
		db.roles[args[0]] = testdb.As(db.t, db.pool, strings.TrimPrefix(args[0], "nobody"))
	}
	ts.Setenv("DATABASE_URL", db.roles[args[0]])
}
