// Package examples runs the programs of the directory examples, each against a fresh database, by a role of its own.
package examples

import (
	"context"
	"fmt"
	"log/slog"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/lastseat/lastseat/internal/testdb"
	"github.com/lastseat/lastseat/jobs"
	"github.com/lastseat/lastseat/outbox"
)

func TestMain(m *testing.M) { os.Exit(testdb.MainMigrated(m)) }

// example is a program and what it needs; probe tells whether the driver is there.
type example struct {
	dir, roles string
	probe, run []string
	install    string
	schema     string // more than shop.orders
}

// Debian's drivers belong to Debian's interpreters, which need not be the first on the PATH.
var all = []example{
	{dir: "psql", roles: "lastseat_producer", probe: []string{"psql", "--version"}, run: []string{"./order.sh"},
		install: "apt-get install postgresql-client"},
	{dir: "python", roles: "lastseat_producer", probe: []string{"python3", "-c", "import psycopg2"},
		run: []string{"python3", "order.py"}, install: "apt-get install python3-psycopg2"},
	{dir: "node", roles: "lastseat_producer", probe: []string{"node", "--input-type=module", "-e", "import 'pg'"},
		run: []string{"node", "order.js"}, install: "npm ci --prefix examples/node"},
	{dir: "java", roles: "lastseat_producer", probe: []string{"sh", "-c", "test -f /usr/share/java/postgresql.jar && " +
		"javac --version"}, run: []string{"java", "-cp", "/usr/share/java/postgresql.jar", "Order.java"},
		install: "apt-get install default-jdk-headless libpostgresql-jdbc-java"},
	{dir: "ruby", roles: "lastseat_producer", probe: []string{"ruby", "-e", "require 'pg'"}, run: []string{"ruby",
		"order.rb"}, install: "apt-get install ruby-pg"},
	{dir: "activerecord", roles: "lastseat_producer, lastseat_viewer", probe: []string{"ruby", "-e",
		"require 'logger'; require 'pg'; require 'active_record'"}, run: []string{"ruby", "order.rb"},
		install: "apt-get install ruby-pg ruby-activerecord", schema: "schema.sql"},
	{dir: "go-pgx", roles: "lastseat_producer", run: []string{"go", "run", "."}},
	{dir: "go-database-sql", roles: "lastseat_producer", run: []string{"go", "run", "."}},
	{dir: "go-river", roles: "lastseat_worker", run: []string{"go", "run", "."}},
}

const want = "committed: applied transferred\nrolled back: 0 requests\n"

func TestExamples(t *testing.T) {
	t.Parallel()
	for _, e := range all {
		t.Run(e.dir, func(t *testing.T) {
			t.Parallel()
			if e.probe != nil {
				e.usable(t)
			}
			address := testdb.New(t)
			pool := testdb.Pool(t, address)
			work(t, pool)
			shop := e.service(t, pool, address)
			ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
			defer cancel()
			command := e.command(ctx, e.run)
			command.Env = append(os.Environ(), "DATABASE_URL="+shop, "LC_ALL=C.UTF-8")
			var complaints strings.Builder
			command.Stderr = &complaints
			got, err := command.Output()
			if err != nil || string(got) != want {
				t.Errorf("it says\n%s%s(%v), want\n%s", got, &complaints, err, want)
			}
			if orders := testdb.Scalar[string](t, pool, `SELECT string_agg(id || ' ' || total::numeric(9, 2), ', ')
				FROM shop.orders`); orders != "1042 12.50" {
				t.Errorf("the orders are %s", orders)
			}
			if balance := testdb.Scalar[int](t, pool,
				`SELECT balance::int FROM lastseat.accounts WHERE id = 'shop'`); balance != 1250 {
				t.Errorf("the shop has %d", balance)
			}
		})
	}
}

// usable skips where the driver is missing, and finds Debian's interpreter where another one hides it.
func (e *example) usable(t *testing.T) {
	t.Helper()
	for _, dir := range []string{"", "/usr/bin/"} {
		probe := append([]string{dir + e.probe[0]}, e.probe[1:]...)
		if err := e.command(t.Context(), probe).Run(); err != nil {
			continue
		}
		if e.run[0] == e.probe[0] {
			e.run = append([]string{probe[0]}, e.run[1:]...)
		}
		return
	}
	t.Skipf("its driver is missing: %s", e.install)
}

func (e *example) command(ctx context.Context, args []string) *exec.Cmd {
	command := exec.CommandContext(ctx, args[0], args[1:]...)
	command.Dir = filepath.Join("..", "..", "examples", e.dir)
	return command
}

// work settles what is asked for, until the test ends.
func work(t *testing.T, pool *pgxpool.Pool) {
	t.Helper()
	kinds := &outbox.Kinds{}
	jobs.Register(kinds)
	worker := outbox.NewWorker(pool, kinds, outbox.Settings{Logger: slog.New(slog.DiscardHandler)})
	ctx, cancel := context.WithCancel(context.WithoutCancel(t.Context()))
	done := make(chan error)
	go func() { done <- worker.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
	testdb.Exec(t, pool, `SELECT lastseat.open_account('bank', 'EUR', NULL), lastseat.open_account('customer:7', 'EUR'),
		lastseat.open_account('shop', 'EUR')`)
	testdb.Exec(t, pool, `SELECT lastseat.transfer('top-up', 'bank', 'customer:7', 10000, 'EUR')`)
	for testdb.Scalar[string](t, pool, `SELECT status FROM lastseat.outcome('top-up')`) == "pending" {
		time.Sleep(10 * time.Millisecond)
	}
}

// service makes the service's own login, schema and table, and returns its URL.
func (e *example) service(t *testing.T, pool *pgxpool.Pool, address string) string {
	t.Helper()
	parsed, err := url.Parse(address)
	if err != nil {
		t.Fatal(err)
	}
	role := "shop_" + parsed.Path[len(parsed.Path)-12:] // a cluster has the roles of all its databases
	testdb.Exec(t, pool,
		fmt.Sprintf(`CREATE ROLE %[1]s LOGIN PASSWORD 'secret'; GRANT %[2]s TO %[1]s;
			CREATE SCHEMA shop AUTHORIZATION %[1]s`, role, e.roles))
	t.Cleanup(func() {
		ctx := context.WithoutCancel(t.Context())
		if _, err := pool.Exec(ctx, fmt.Sprintf(`DROP OWNED BY %[1]s CASCADE; DROP ROLE %[1]s`, role)); err != nil {
			t.Error(err)
		}
	})
	more := ""
	if e.schema != "" {
		file, err := os.ReadFile(filepath.Join("..", "..", "examples", e.dir, e.schema))
		if err != nil {
			t.Fatal(err)
		}
		more = string(file)
	}
	testdb.Exec(t, pool, `SET ROLE `+role+`; CREATE TABLE shop.orders (id text PRIMARY KEY, total numeric); `+more+
		`; RESET ROLE`)
	parsed.User = url.UserPassword(role, "secret")
	return parsed.String()
}
