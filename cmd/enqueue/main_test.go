package main

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"log/slog"
	"net/url"
	"os"
	"strings"
	"testing"
	"time"
	"unicode"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/lastseat/lastseat/internal/cli"
	"github.com/lastseat/lastseat/internal/testdb"
	"github.com/lastseat/lastseat/jobs"
	"github.com/lastseat/lastseat/outbox"
)

func TestMain(m *testing.M) {
	os.Exit(testdb.MainMigrated(m))
}

// result is what a run of the program left.
type result struct {
	code     int
	out, err string
}

// runIn runs the program in this process, with an environment that holds DATABASE_URL and nothing else.
func runIn(t *testing.T, databaseURL string, stdin io.Reader, args ...string) result {
	t.Helper()
	var out, errs bytes.Buffer
	var environ []string
	if databaseURL != "" {
		environ = []string{"DATABASE_URL=" + databaseURL}
	}
	code := run(t.Context(), args, cli.Streams{In: stdin, Out: &out, Err: &errs, Environ: environ})
	return result{code: code, out: out.String(), err: errs.String()}
}

// succeeds demands exit code 0 and a silent error stream.
func (r result) succeeds(t *testing.T) {
	t.Helper()
	if r.code != 0 || r.err != "" {
		t.Fatalf("exit code %d, stderr %q; want 0 and nothing", r.code, r.err)
	}
}

// fails demands an exit code, and one line on stderr that has all the words and no control character.
func (r result) fails(t *testing.T, code int, words ...string) {
	t.Helper()
	if r.code != code {
		t.Errorf("exit code %d, want %d; stderr %q", r.code, code, r.err)
	}
	line, ended := strings.CutSuffix(r.err, "\n")
	if !ended || line == "" || strings.ContainsFunc(line, unicode.IsControl) {
		t.Errorf("stderr is %q, want one line", r.err)
	}
	for _, word := range words {
		if !strings.Contains(r.err, word) {
			t.Errorf("stderr is %q, want it to say %q", r.err, word)
		}
	}
}

// misuses demands exit code 64 of command lines, which holds without a database, and what stderr says.
func misuses(t *testing.T, lines map[string]string) {
	t.Helper()
	for line, says := range lines {
		t.Run(line, func(t *testing.T) {
			t.Parallel()
			got := runIn(t, "", nil, strings.Fields(line)...)
			if got.code != 64 || got.out != "" || !strings.HasPrefix(got.err, "enqueue: ") || !strings.Contains(got.err, says) {
				t.Errorf("exit code %d, stdout %q, stderr %q; want 64 and %q", got.code, got.out, got.err, says)
			}
		})
	}
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
			got.fails(t, 65, "enqueue: ", bad.says)
			if got.out != "" || len(got.err) > 1000 {
				t.Errorf("stdout is %q, stderr %d bytes long", got.out, len(got.err))
			}
			s.expect(t, before)
		})
	}
}

// shop is a migrated database with accounts: bank (EUR, unlimited), ada and ben (EUR, not below zero), tokyo (JPY, unlimited).
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

func (s *shop) enqueue(t *testing.T, args ...string) result {
	t.Helper()
	return runIn(t, s.url, strings.NewReader(""), args...)
}

// transfer asks for 1.00 EUR from bank to ada, but for what change, of pairs like "--amount", "2.00", says.
func (s *shop) transfer(t *testing.T, key string, change ...string) result {
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
		SELECT (SELECT count(*) FROM lastseat.accounts), (SELECT count(*) FROM lastseat.requests), (SELECT count(*) FROM lastseat.river_job)`).
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
	if err := s.pool.QueryRow(t.Context(), `SELECT balance FROM lastseat.accounts WHERE id = $1`, account).Scan(&balance); err != nil {
		t.Fatal(err)
	}
	return balance
}

func (s *shop) exec(t *testing.T, sql string, args ...any) {
	t.Helper()
	if _, err := s.pool.Exec(t.Context(), sql, args...); err != nil {
		t.Fatal(err)
	}
}

// as returns the URL of a login role of its own that is a member of role and of nothing else.
func (s *shop) as(t *testing.T, role string) string {
	t.Helper()
	name := s.pool.Config().ConnConfig.Database + "_" + strings.TrimPrefix(role, "lastseat_")
	name = name[max(0, len(name)-63):]
	s.exec(t, fmt.Sprintf(`CREATE ROLE %[1]q LOGIN PASSWORD 'secret'; GRANT %[2]s TO %[1]q`, name, role))
	t.Cleanup(func() { _, _ = s.pool.Exec(context.Background(), fmt.Sprintf(`DROP ROLE %q`, name)) })
	at, err := url.Parse(s.url)
	if err != nil {
		t.Fatal(err)
	}
	at.User = url.UserPassword(name, "secret")
	return at.String()
}

// waiting returns once a command waits for outcomes: it has read them after its LISTEN, and sits idle.
func (s *shop) waiting(t *testing.T) {
	t.Helper()
	const idle = `
		SELECT EXISTS (SELECT FROM pg_stat_activity WHERE datname = current_database() AND state = 'idle'
		               AND application_name = 'lastseat enqueue' AND query LIKE '%lastseat.outcomes(%')`
	eventually(t, "the command to wait", func() bool { return testdb.Scalar[bool](t, s.pool, idle) })
}

// eventually waits for what must come, as long as the slowest machine may take.
func eventually(t *testing.T, what string, come func() bool) {
	t.Helper()
	for deadline := time.Now().Add(30 * time.Second); !come(); time.Sleep(10 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("waited in vain for %s", what)
		}
	}
}
