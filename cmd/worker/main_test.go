package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"net/url"
	"os"
	"strings"
	"sync"
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

// buffer may be written to by a program's goroutines while a test reads it.
type buffer struct {
	mu   sync.Mutex
	text bytes.Buffer
}

func (b *buffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.text.Write(p)
}

func (b *buffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.text.String()
}

// runIn runs the program in this process, with just this environment and only errors in its log.
func runIn(t *testing.T, environ []string, args ...string) result {
	t.Helper()
	var out, errs buffer
	code := run(t.Context(), args, cli.Streams{In: strings.NewReader(""), Out: &out, Err: &errs, Environ: environ})
	return result{code: code, out: out.String(), err: errs.String()}
}

// runWith is runIn on a database.
func runWith(t *testing.T, databaseURL string, args ...string) result {
	t.Helper()
	return runIn(t, []string{"DATABASE_URL=" + databaseURL, "LASTSEAT_LOG_LEVEL=error"}, args...)
}

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
	if !ended || !strings.HasPrefix(line, "worker: ") || strings.ContainsFunc(line, unicode.IsControl) {
		t.Errorf("stderr is %q, want one line", r.err)
	}
	for _, word := range words {
		if !strings.Contains(r.err, word) {
			t.Errorf("stderr is %q, want it to say %q", r.err, word)
		}
	}
}

// lines are the JSON objects of stdout.
func lines[T any](t *testing.T, r result) []T {
	t.Helper()
	var all []T
	for line := range strings.Lines(r.out) {
		var one T
		if err := json.Unmarshal([]byte(line), &one); err != nil {
			t.Fatalf("stdout has the line %q: %v", line, err)
		}
		all = append(all, one)
	}
	return all
}

// open opens accounts: bank (EUR, unlimited) and ada (EUR, not below zero).
func open(t *testing.T, url string) *pgxpool.Pool {
	t.Helper()
	pool := testdb.Pool(t, url)
	err := pgx.BeginFunc(t.Context(), pool, func(tx pgx.Tx) error {
		_, err := jobs.OpenAccount(t.Context(), tx, jobs.Account{ID: "bank", Currency: "EUR"})
		if err == nil {
			_, err = jobs.OpenAccount(t.Context(), tx, jobs.Account{ID: "ada", Currency: "EUR", OverdraftLimit: new(int64)})
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return pool
}

// give asks for a transfer from bank to ada.
func give(t *testing.T, pool *pgxpool.Pool, key string, amount int64) {
	t.Helper()
	_, err := outbox.EnqueueMany(t.Context(), pool, []outbox.Request{{Key: key, Args: jobs.Transfer{From: "bank", To: "ada", Amount: amount, Currency: "EUR"}}})
	if err != nil {
		t.Fatal(err)
	}
}

// as returns the URL of a login role of its own that is a member of role, if that is not empty, and of nothing else.
func as(t *testing.T, pool *pgxpool.Pool, role string) string {
	t.Helper()
	name := pool.Config().ConnConfig.Database + "_" + strings.TrimPrefix(role, "lastseat_")
	name = name[max(0, len(name)-63):]
	testdb.Exec(t, pool, fmt.Sprintf(`CREATE ROLE %q LOGIN PASSWORD 'secret'`, name))
	t.Cleanup(func() { _, _ = pool.Exec(context.Background(), fmt.Sprintf(`DROP ROLE %q`, name)) })
	if role != "" {
		testdb.Exec(t, pool, fmt.Sprintf(`GRANT %s TO %q`, role, name))
	}
	at, err := url.Parse(pool.Config().ConnString())
	if err != nil {
		t.Fatal(err)
	}
	at.User = url.UserPassword(name, "secret")
	return at.String()
}

// startWorker runs `worker run` in this process until the test, or stop, ends it.
func startWorker(t *testing.T, url string) (stop func()) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	var out, errs buffer
	done := make(chan int, 1)
	go func() {
		done <- run(ctx, []string{"run"}, cli.Streams{In: strings.NewReader(""), Out: &out, Err: &errs, Environ: []string{"DATABASE_URL=" + url}})
	}()
	stop = sync.OnceFunc(func() {
		cancel()
		if code := <-done; code != 0 {
			t.Errorf("worker run: exit code %d, stderr %q", code, errs.String())
		}
	})
	t.Cleanup(stop)
	eventually(t, "the worker to take the lane", func() bool { return strings.Contains(errs.String(), "lane taken") })
	return stop
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
