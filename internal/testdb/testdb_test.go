package testdb

import (
	"context"
	"fmt"
	"os"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/lastseat/lastseat/internal/localpg"
)

var migrations atomic.Int32

func migrate(ctx context.Context, url string) error {
	migrations.Add(1)
	// A pool, as the real one might use: its connections end somewhat after Close.
	pool, err := pgxpool.New(ctx, url)
	if err != nil {
		return err
	}
	defer pool.Close()
	_, err = pool.Exec(ctx, "create table seat (n int); insert into seat values (42)")
	return err
}

func TestMain(m *testing.M) { os.Exit(Main(m, migrate)) }

func TestNewIsMigratedAndIsolated(t *testing.T) {
	t.Parallel()
	for i := range 10 {
		t.Run(fmt.Sprint(i), func(t *testing.T) {
			t.Parallel()
			pool := Pool(t, New(t))
			if got := Scalar[int](t, pool, "select n from seat"); got != 42 {
				t.Errorf("the template's row is %d in the copy, want 42", got)
			}
			if _, err := pool.Exec(t.Context(), "insert into seat values ($1)", i); err != nil {
				t.Fatal(err)
			}
			if got := Scalar[int](t, pool, "select count(*)::int from seat"); got != 2 {
				t.Errorf("%d rows, want the template's and our own", got)
			}
			if n := migrations.Load(); n != 1 {
				t.Errorf("the migration ran %d times", n)
			}
		})
	}
}

func TestEmpty(t *testing.T) {
	t.Parallel()
	pool := Pool(t, Empty(t))
	if Scalar[bool](t, pool, "select to_regclass('seat') is not null") {
		t.Error("the empty database has the migration's table")
	}
}

func TestDroppedAtTheEnd(t *testing.T) {
	t.Parallel()
	const exists = "select exists (select from pg_database where datname = $1)"
	server := Pool(t, ServerURL(t))
	var name string
	t.Run("a test which leaves a session open", func(t *testing.T) {
		conn, err := pgx.Connect(t.Context(), New(t))
		if err != nil {
			t.Fatal(err)
		}
		name = conn.Config().Database
		if !Scalar[bool](t, server, exists, name) {
			t.Fatalf("%s does not exist during the test", name)
		}
	})
	if Scalar[bool](t, server, exists, name) {
		t.Errorf("%s exists after the test", name)
	}
}

// The other way to get a server: somebody else's, on which nothing may stay behind.
func TestExternalServerIsLeftAsFound(t *testing.T) {
	t.Parallel()
	pool := Pool(t, Empty(t))
	ctx, url := t.Context(), pool.Config().ConnString()
	h := newHost(url, func(ctx context.Context, url string) error {
		conn, err := pgx.Connect(ctx, url)
		if err != nil {
			return err
		}
		defer conn.Close(ctx)
		_, err = conn.Exec(ctx, "create table seat ()")
		return err
	})
	template, err := h.templateName(ctx)
	if err != nil {
		t.Fatal(err)
	}
	const exists = "select exists (select from pg_database where datname = $1)"
	if !Scalar[bool](t, pool, exists, template) {
		t.Errorf("the template %s is not on the server given", template)
	}
	if err := h.close(); err != nil {
		t.Fatal(err)
	}
	if Scalar[bool](t, pool, exists, template) {
		t.Errorf("the template %s stayed on the server", template)
	}
	if Scalar[bool](t, pool, "select to_regclass('seat') is not null") {
		t.Error("the database of the URL was migrated")
	}
}

func TestNothingStartsUnasked(t *testing.T) {
	t.Parallel()
	h := newHost("postgres://nobody@127.0.0.1:1/none", migrate)
	if err := h.close(); err != nil {
		t.Errorf("close of a host never used: %v", err)
	}
	if h.started != nil {
		t.Error("a server was started")
	}
}

func TestWithDatabase(t *testing.T) {
	t.Parallel()
	for conn, want := range map[string]string{
		"postgres://u:p%40@h:5/shop?sslmode=disable": "postgres://u:p%40@h:5/x?sslmode=disable",
		"postgresql://h":                   "postgresql://h/x",
		"postgres://h/?dbname=shop&user=u": "postgres://h/x?user=u",
		"host=h dbname=shop":               "host=h dbname=shop dbname=x",
	} {
		got := localpg.WithDatabase(conn, "x")
		if got != want {
			t.Errorf("%s: %s, want %s", conn, got, want)
		}
		config, err := pgx.ParseConfig(got)
		if err != nil || config.Database != "x" {
			t.Errorf("pgx reads %s as another database than x (%v)", got, err)
		}
	}
}

func TestUniqueName(t *testing.T) {
	t.Parallel()
	test := "TestSeat/Größe_" + strings.Repeat("x", 80)
	a, b := uniqueName("t", test), uniqueName("t", test)
	if a == b {
		t.Errorf("twice the same name %s", a)
	}
	if len(a) > 63 || !strings.HasPrefix(a, "lastseat_t_testseat_gr") {
		t.Errorf("%s is too long or says nothing", a)
	}
}
