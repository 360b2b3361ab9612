package main

import (
	"fmt"
	"io"
	"log/slog"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/lastseat/lastseat/internal/clitest"
	"github.com/lastseat/lastseat/internal/testdb"
	"github.com/lastseat/lastseat/jobs"
	"github.com/lastseat/lastseat/outbox"
)

var command = clitest.Program{Name: "enqueue", Run: run}

func TestMain(m *testing.M) { clitest.Main(m, "enqueue", main) }

func TestScripts(t *testing.T) {
	t.Parallel()
	clitest.Scripts(t)
}

// runIn runs the program in this process, with an environment that holds DATABASE_URL and nothing else.
func runIn(t *testing.T, databaseURL string, stdin io.Reader, args ...string) clitest.Result {
	t.Helper()
	var environ []string
	if databaseURL != "" {
		environ = []string{"DATABASE_URL=" + databaseURL}
	}
	return command.In(t, environ, stdin, args...)
}

// badInput is a command line, one blank between its arguments, and what stderr says of it.
type badInput struct{ args, says string }

// refuses demands exit code 65 of each, its reason on one line, and that nothing is written.
func (s *shop) refuses(t *testing.T, inputs map[string]badInput) {
	t.Helper()
	before := s.census(t)
	for name, bad := range inputs {
		t.Run(name, func(t *testing.T) {
			got := s.enqueue(t, strings.Split(strings.TrimSpace(bad.args), " ")...)
			got.Fails(t, 65, "enqueue: ", bad.says)
			if got.Out != "" || len(got.Err) > 1000 {
				t.Errorf("stdout is %q, stderr %d bytes long", got.Out, len(got.Err))
			}
			s.expect(t, before)
		})
	}
}

// shop is a migrated database with accounts: bank (EUR, unlimited), ada and ben (EUR, not below zero), tokyo (JPY,
// unlimited).
type shop struct {
	url  string
	pool *pgxpool.Pool
}

func newShop(t *testing.T) *shop {
	t.Helper()
	s := &shop{url: testdb.New(t)}
	s.pool = testdb.Pool(t, s.url)
	err := pgx.BeginFunc(t.Context(), s.pool, func(tx pgx.Tx) error {
		for _, account := range []jobs.Account{
			{ID: "bank", Currency: "EUR"}, {ID: "tokyo", Currency: "JPY"},
			{ID: "ada", Currency: "EUR", OverdraftLimit: new(int64)}, {ID: "ben", Currency: "EUR", OverdraftLimit: new(int64)},
		} {
			if _, err := jobs.OpenAccount(t.Context(), tx, account); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func (s *shop) enqueue(t *testing.T, args ...string) clitest.Result {
	t.Helper()
	return runIn(t, s.url, strings.NewReader(""), args...)
}

// transfer asks for 1.00 EUR from bank to ada, but for what change, of pairs like "--amount", "2.00", says.
func (s *shop) transfer(t *testing.T, key string, change ...string) clitest.Result {
	t.Helper()
	args := []string{"transfer", "--key", key, "--from", "bank", "--to", "ada", "--amount", "1.00", "--currency", "EUR"}
	return s.enqueue(t, append(args, change...)...)
}

func (s *shop) worker() *outbox.Worker {
	kinds := &outbox.Kinds{}
	jobs.Register(kinds)
	return outbox.NewWorker(s.pool, kinds, outbox.Settings{Logger: slog.New(slog.DiscardHandler)})
}

func (s *shop) drain(t *testing.T) {
	t.Helper()
	if err := s.worker().Drain(t.Context()); err != nil {
		t.Fatal(err)
	}
}

// census is everything that a command could have written.
func (s *shop) census(t *testing.T) string {
	t.Helper()
	var accounts, requests, waiting int
	err := s.pool.QueryRow(t.Context(), `
		SELECT (SELECT count(*) FROM lastseat.accounts), (SELECT count(*) FROM lastseat.requests), (SELECT count(*)
		  FROM lastseat.river_job)`).
		Scan(&accounts, &requests, &waiting)
	if err != nil {
		t.Fatal(err)
	}
	return fmt.Sprintf("%d accounts, %d requests, %d jobs", accounts, requests, waiting)
}

func (s *shop) expect(t *testing.T, want string) {
	t.Helper()
	if got := s.census(t); got != want {
		t.Errorf("the database has %s, want %s", got, want)
	}
}

func (s *shop) balance(t *testing.T, account string) (balance int64) {
	t.Helper()
	if err := s.pool.QueryRow(t.Context(), `SELECT balance FROM lastseat.accounts WHERE id = $1`,
		account).Scan(&balance); err != nil {
		t.Fatal(err)
	}
	return balance
}

func (s *shop) exec(t *testing.T, sql string, args ...any) {
	t.Helper()
	testdb.Exec(t, s.pool, sql, args...)
}

// waiting returns once a command waits for outcomes: it has read them after its LISTEN, and sits idle.
func (s *shop) waiting(t *testing.T) {
	t.Helper()
	const idle = `
		SELECT EXISTS (SELECT FROM pg_stat_activity WHERE datname = current_database() AND state = 'idle'
		               AND application_name = 'lastseat enqueue' AND query LIKE '%lastseat.outcomes(%')`
	clitest.Eventually(t, "the command to wait", func() bool { return testdb.Scalar[bool](t, s.pool, idle) })
}

func TestHelp(t *testing.T) {
	t.Parallel()
	command.Help(t, 25)
}
