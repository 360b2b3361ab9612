// Package testdb gives every test a database of its own, so that all of them may run in parallel and none has to clean
// up after another.
//
// A test package which uses it calls Main from its TestMain:
//
//	func TestMain(m *testing.M) { os.Exit(testdb.MainMigrated(m)) }
//
// The databases live on the server of DATABASE_URL, if that is set, and otherwise on a private one, started at the
// first use and stopped at the end. The migration runs once per process, into a template; each database is a copy of
// that, which takes tens of milliseconds.
package testdb

import (
	"context"
	"fmt"
	"net/url"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/lastseat/lastseat/schema"
)

// Migrate brings the empty database at url to the schema under test. It must not return with a connection still open.
type Migrate func(ctx context.Context, url string) error

// timeout bounds each thing done to the server. They take milliseconds; a test should not hang for ten minutes where
// one does not.
const timeout = 2 * time.Minute

// closeTimeout is how long Pool waits at the end of a test for connections to be given back.
const closeTimeout = 10 * time.Second

// current is set by Main, before any test runs.
var current *host

// Main runs the tests of a package and returns its exit code for os.Exit. No server is started, and migrate does not
// run, before the first test asks for a database. Where Main is called with a nil migrate, New is the same as Empty.
//
// Of a DATABASE_URL only the server and the credentials are used, which must allow CREATE DATABASE; the database it
// names stays untouched.
func Main(m *testing.M, migrate Migrate) int {
	current = newHost(os.Getenv("DATABASE_URL"), migrate)
	code := m.Run()
	if err := current.close(); err != nil {
		fmt.Fprintln(os.Stderr, "testdb:", err)
		if code == 0 {
			code = 1
		}
	}
	return code
}

// MainMigrated is Main with the schema of this module.
func MainMigrated(m *testing.M) int {
	return Main(m, func(ctx context.Context, url string) error {
		_, err := schema.Up(ctx, url, false)
		return err
	})
}

// New returns the URL of a fresh migrated database, dropped when the test ends, sessions and all.
func New(t testing.TB) string {
	t.Helper()
	return create(t, (*host).templateName)
}

// Empty is New without the migration.
func Empty(t testing.TB) string {
	t.Helper()
	return create(t, func(*host, context.Context) (string, error) { return pristine, nil })
}

// Pool returns a pool of connections to url, closed when the test ends. A connection which the test has not given back
// by then fails it.
func Pool(t testing.TB, url string) *pgxpool.Pool {
	t.Helper()
	pool, err := pgxpool.New(t.Context(), url)
	if err != nil {
		t.Fatalf("testdb: open a pool: %v", err)
	}
	t.Cleanup(func() {
		// Close waits for every connection; for one that was leaked, until go test kills us all.
		closed := make(chan struct{})
		go func() { pool.Close(); close(closed) }()
		select {
		case <-closed:
		case <-time.After(closeTimeout):
			t.Errorf("testdb: %d connections were not given back to the pool", pool.Stat().AcquiredConns())
		}
	})
	return pool
}

// ServerURL returns the URL of the server's maintenance database, postgres, for tests which need to act on the server.
// On the private server its user is a superuser.
func ServerURL(t testing.TB) string {
	t.Helper()
	srv, err := mustHost(t).server()
	if err != nil {
		t.Fatalf("testdb: %v", err)
	}
	return srv.url
}

func mustHost(t testing.TB) *host {
	t.Helper()
	if current == nil {
		t.Fatal("testdb: TestMain does not call testdb.Main")
	}
	return current
}

func create(t testing.TB, template func(*host, context.Context) (string, error)) string {
	t.Helper()
	url, drop, err := mustHost(t).database(t.Context(), t.Name(), template)
	if err != nil {
		t.Fatalf("testdb: %v", err)
	}
	t.Cleanup(func() {
		if err := drop(); err != nil {
			t.Errorf("testdb: %v", err)
		}
	})
	return url
}

// ForExample is New for an Example, which has no testing.TB: it panics where a test would fail.
func ForExample() (url string, drop func()) {
	url, dropped, err := current.database(context.Background(), "example", (*host).templateName)
	if err != nil {
		panic(err)
	}
	return url, func() {
		if err := dropped(); err != nil {
			panic(err)
		}
	}
}

// database copies a template to a database of its own.
func (h *host) database(ctx context.Context, label string, template func(*host, context.Context) (string,
	error)) (url string, drop func() error, err error) {
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	from, err := template(h, ctx)
	if err != nil {
		return "", nil, err
	}
	srv, err := h.server()
	if err != nil {
		return "", nil, err
	}
	name := uniqueName("t", label)
	if err := srv.create(ctx, name, from); err != nil {
		return "", nil, err
	}
	return srv.databaseURL(name), func() error {
		// Not the test's context, which is over.
		ctx, cancel := context.WithTimeout(context.Background(), timeout)
		defer cancel()
		return srv.drop(ctx, name)
	}, nil
}

// Exec runs sql, which has to succeed.
func Exec(t testing.TB, pool *pgxpool.Pool, sql string, args ...any) {
	t.Helper()
	if _, err := pool.Exec(t.Context(), sql, args...); err != nil {
		t.Fatal(err)
	}
}

// Scalar returns the one value that sql selects.
func Scalar[T any](t testing.TB, pool *pgxpool.Pool, sql string, args ...any) T {
	t.Helper()
	rows, err := pool.Query(t.Context(), sql, args...)
	if err != nil {
		t.Fatal(err)
	}
	got, err := pgx.CollectExactlyOneRow(rows, pgx.RowTo[T])
	if err != nil {
		t.Fatal(err)
	}
	return got
}

// As returns the URL of a login role of its own that is a member of role, if that is not empty, and of nothing else.
// The role is dropped when the test ends.
func As(t testing.TB, pool *pgxpool.Pool, role string) string {
	t.Helper()
	name := pool.Config().ConnConfig.Database + "_" + strings.TrimPrefix(role, "lastseat_")
	name = name[max(0, len(name)-63):]
	Exec(t, pool, fmt.Sprintf(`CREATE ROLE %q LOGIN PASSWORD 'secret'`, name))
	t.Cleanup(func() { _, _ = pool.Exec(context.Background(), fmt.Sprintf(`DROP ROLE %q`, name)) })
	if role != "" {
		Exec(t, pool, fmt.Sprintf(`GRANT %s TO %q`, role, name))
	}
	at, err := url.Parse(pool.Config().ConnString())
	if err != nil {
		t.Fatalf("testdb: %v", err)
	}
	at.User = url.UserPassword(name, "secret")
	return at.String()
}

// Soak is how often a test that injects faults does so: short in a run of the tests, long under make soak.
func Soak(short, long int) int {
	if Soaks() {
		return long
	}
	return short
}

// Soaks is whether this is make soak: then each test runs in all its forms.
func Soaks() bool { return os.Getenv("SOAK") != "" }
