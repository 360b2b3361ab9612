package e2e

import (
	"errors"
	"os/exec"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/lastseat/lastseat/internal/testdb"
	"github.com/lastseat/lastseat/jobs"
	"github.com/lastseat/lastseat/outbox"
)

func newService(t *testing.T) (url string, pool *pgxpool.Pool) {
	t.Helper()
	url = testdb.New(t)
	pool = testdb.Pool(t, url)
	open(t, pool)
	testdb.Exec(t, pool, `CREATE TABLE public.orders (id text PRIMARY KEY)`)
	return url, pool
}

// traces says where a key has left rows.
func traces(t *testing.T, pool *pgxpool.Pool, key string) string {
	t.Helper()
	return testdb.Scalar[string](t, pool, `
		SELECT concat_ws(' ', (SELECT 'row' FROM public.orders WHERE id = $1),
		                 (SELECT 'request' FROM lastseat.requests WHERE key = $1),
		                 (SELECT 'job' FROM lastseat.river_job WHERE args ->> 'key' = $1))`, key)
}

// A service's own row, the request and its job are all there, or none of them is. From Go:
func TestServiceInGo(t *testing.T) {
	t.Parallel()
	url, pool := newService(t)
	refused := errors.New("the card was stolen")
	pay := func(tx pgx.Tx, key, to string, amount int64) error {
		_, err := outbox.Enqueue(t.Context(), tx, key, jobs.Transfer{From: "bank", To: to, Amount: amount, Currency: "EUR"})
		return err
	}
	write := func(key, to string, more func(pgx.Tx) error) error {
		return pgx.BeginFunc(t.Context(), pool, func(tx pgx.Tx) error {
			if _, err := tx.Exec(t.Context(), `INSERT INTO orders VALUES ($1)`, key); err != nil {
				return err
			}
			if err := pay(tx, key, to, 100); err != nil {
				return err
			}
			return more(tx)
		})
	}
	nothing := func(pgx.Tx) error { return nil }
	for _, c := range []struct {
		key, want string
		write     func(key string) error
		err       error
	}{
		{"committed", "row request job", func(key string) error { return write(key, "ada", nothing) }, nil},
		{"rolled back", "", func(key string) error {
			return write(key, "ada", func(pgx.Tx) error { return refused })
		}, refused},
		{"unknown account", "", func(key string) error { return write(key, "nobody", nothing) }, outbox.ErrUnknown},
		{"key taken", "", func(key string) error {
			return write(key, "ada", func(tx pgx.Tx) error { return pay(tx, "committed", "ada", 101) })
		}, outbox.ErrKeyReused},
		{"crashed", "", func(key string) error {
			conn, err := pgx.Connect(t.Context(), url)
			if err != nil {
				return err
			}
			batch := &pgx.Batch{}
			batch.Queue(`BEGIN`)
			batch.Queue(`INSERT INTO orders VALUES ($1)`, key)
			batch.Queue(`SELECT lastseat.transfer($1, 'bank', 'ada', 100, 'EUR')`, key)
			err = conn.SendBatch(t.Context(), batch).Close()
			return errors.Join(err, conn.PgConn().Conn().Close()) // without a farewell
		}, nil},
	} {
		if err := c.write(c.key); !errors.Is(err, c.err) {
			t.Errorf("%s: %v, want %v", c.key, err, c.err)
		}
		if got := traces(t, pool, c.key); got != c.want {
			t.Errorf("%s left %q, want %q", c.key, got, c.want)
		}
	}
	start(t, on(url), "worker", "run", "--drain").exits(t, 0)
	if got := balance(t, pool, "ada"); got != 100 {
		t.Errorf("ada has %d, want 100: of the one that committed", got)
	}
}

// The same from psql, which stands for every other language.
func TestServiceInPsql(t *testing.T) {
	t.Parallel()
	psql, err := exec.LookPath("psql")
	if err != nil {
		t.Skip("there is no psql on this machine")
	}
	url, pool := newService(t)
	const (
		row  = `INSERT INTO orders VALUES (:'key'); `
		both = row + `SELECT lastseat.transfer(:'key', 'bank', 'ada', 100, 'EUR'); `
	)
	asking := func(args string) string { return "BEGIN; " + row + "SELECT lastseat.transfer(" + args + "); COMMIT;" }
	for _, c := range []struct {
		key, script, want string
		fails             string // what psql says on stderr
	}{
		{"committed", "BEGIN; " + both + "COMMIT;", "row request job", ""},
		{"rolled back", "BEGIN; " + both + "ROLLBACK;", "", ""},
		{"left open", "BEGIN; " + both, "", ""},
		{"failed later", "BEGIN; " + both + "SELECT 1/0; COMMIT;", "", "division by zero"},
		{"rolled back to a savepoint", "BEGIN; SAVEPOINT s; " + both + "ROLLBACK TO s; " + row + "COMMIT;", "row", ""},
		{"unknown account", asking(`:'key', 'bank', 'nobody', 1, 'EUR'`), "", "LS003"},
		{"no amount", asking(`:'key', 'bank', 'ada', 0, 'EUR'`), "", "LS002"},
		{"key taken", "BEGIN; " + both +
			"SELECT lastseat.transfer('committed', 'bank', 'ada', 1, 'EUR'); COMMIT;", "", "LS001"},
		{"too large", asking(`:'key', 'bank', 'ada', 1, 'EUR', repeat('d', 65536)`), "", "LS004"},
	} {
		cmd := exec.CommandContext(t.Context(), psql, url, "-X", "-q", "-v", "ON_ERROR_STOP=1",
			"-v", "VERBOSITY=verbose", "-v", "key="+c.key)
		cmd.Stdin = strings.NewReader(c.script)
		var errs strings.Builder
		cmd.Stderr = &errs
		err := cmd.Run()
		if failed := err != nil; failed != (c.fails != "") || !strings.Contains(errs.String(), c.fails) {
			t.Errorf("%s: psql says %q (%v), want %q", c.key, errs.String(), err, c.fails)
		}
		if got := traces(t, pool, c.key); got != c.want {
			t.Errorf("%s left %q, want %q", c.key, got, c.want)
		}
	}
	start(t, on(url), "worker", "run", "--drain").exits(t, 0)
	if got := balance(t, pool, "ada"); got != 100 {
		t.Errorf("ada has %d, want 100: of the one that committed", got)
	}
}
