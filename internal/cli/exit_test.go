package cli_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/url"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/lastseat/lastseat/internal/cli"
	"github.com/lastseat/lastseat/internal/config"
	"github.com/lastseat/lastseat/internal/importfile"
	"github.com/lastseat/lastseat/internal/localpg"
	"github.com/lastseat/lastseat/internal/testdb"
	"github.com/lastseat/lastseat/outbox"
	"github.com/lastseat/lastseat/schema"
)

func TestMain(m *testing.M) {
	os.Exit(testdb.MainMigrated(m))
}

// query connects as the commands do and runs sql.
func query(t *testing.T, url, sql string) error {
	t.Helper()
	pool, err := cli.Connect(t.Context(), url, "test", 1)
	if err != nil {
		return err
	}
	defer pool.Close()
	_, err = pool.Exec(t.Context(), sql)
	return err
}

// with is a database URL with something changed.
func with(t *testing.T, base string, change func(*url.URL)) string {
	t.Helper()
	u, err := url.Parse(base)
	if err != nil {
		t.Fatal(err)
	}
	change(u)
	return u.String()
}

func parameter(name, value string) func(*url.URL) {
	return func(u *url.URL) {
		q := u.Query()
		q.Set(name, value)
		u.RawQuery = q.Encode()
	}
}

// listen accepts connections and hands each to serve, which owns it.
func listen(t *testing.T, serve func(net.Conn)) (host string) {
	t.Helper()
	listener, err := new(net.ListenConfig).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = listener.Close() })
	go func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			go serve(conn)
		}
	}()
	return listener.Addr().String()
}

// cutting is a proxy to the server of base that resets the connection when a query holds "SEVER".
func cutting(t *testing.T, base string) string {
	t.Helper()
	u, err := url.Parse(base)
	if err != nil {
		t.Fatal(err)
	}
	host := listen(t, func(client net.Conn) {
		defer func() { _ = client.Close() }()
		upstream, err := new(net.Dialer).DialContext(context.Background(), "tcp", u.Host)
		if err != nil {
			return
		}
		defer func() { _ = upstream.Close() }()
		go func() {
			_, _ = io.Copy(client, upstream)
			_ = client.Close()
		}()
		buffer := make([]byte, 64<<10)
		for {
			n, err := client.Read(buffer)
			if err != nil || strings.Contains(string(buffer[:n]), "SEVER") {
				return
			}
			if _, err := upstream.Write(buffer[:n]); err != nil {
				return
			}
		}
	})
	return with(t, base, func(u *url.URL) { u.Host = host })
}

// Real errors, made by a server or by the lack of one.
func TestExitCodeOfRealErrors(t *testing.T) {
	t.Parallel()
	database, empty := testdb.New(t), testdb.Empty(t)
	exitAdmin(t, database, `SELECT lastseat.open_account('bank', 'EUR', NULL), lastseat.open_account('ada', 'EUR'),
		lastseat.transfer('k', 'bank', 'ada', 5, 'EUR')`)
	for name, test := range map[string]struct {
		url, sql string
		code     int
		says     []string
	}{
		"nothing wrong": {database, `SELECT 1`, cli.ExitOK, nil},
		"refused": {"postgres://u:hunter2@127.0.0.1:1/shop?sslmode=disable", ``, cli.ExitUnavailable,
			[]string{`database "shop" at 127.0.0.1:1`, "can't be reached", "refused"}},
		"refused, by name": {"postgres://u:hunter2@localhost:1/shop?sslmode=disable", ``, cli.ExitUnavailable,
			[]string{`database "shop" at localhost:1`, "refused"}},
		"no socket": {"host=/nowhere user=u dbname=shop password=hunter2", ``, cli.ExitUnavailable,
			[]string{`database "shop" at /nowhere`}},
		"no such host": {"postgres://u:hunter2@db.invalid:5432/shop?sslmode=disable", ``, cli.ExitUnavailable,
			[]string{`database "shop" at db.invalid:5432`}},
		"accepts, and is mute": {"postgres://u:hunter2@" + listen(t, func(net.Conn) {}) +
			"/shop?sslmode=disable&connect_timeout=1", ``, cli.ExitUnavailable, []string{`database "shop" at 127.0.0.1:`,
			"can't be reached"}},
		"accepts, and hangs up": {"postgres://u:hunter2@" + listen(t, func(c net.Conn) { _ = c.Close() }) +
			"/shop?sslmode=disable", ``, cli.ExitUnavailable,
			[]string{`database "shop" at 127.0.0.1:`}},
		"server without TLS": {with(t, database, parameter("sslmode", "require")), ``, cli.ExitUnavailable, []string{"TLS"}},
		"wrong password": {with(t, database, func(u *url.URL) { u.User = url.UserPassword("postgres", "hunter2") }), ``,
			cli.ExitNoRight,
			[]string{`database "lastseat_t_`, "password authentication failed", "(28P01)"}},
		"no such database": {with(t, database, func(u *url.URL) { u.Path = "/shop" }), ``, cli.ExitConfig,
			[]string{`database "shop" at 127.0.0.1:`, "does not exist", "(3D000)"}},
		"no such schema": {empty, `SELECT lastseat.transfer('k', 'a', 'b', 1, 'EUR')`, cli.ExitConfig,
			[]string{`schema "lastseat" does not exist`}},
		"no such table":    {empty, `SELECT * FROM lastseat.requests`, cli.ExitConfig, []string{"lastseat.requests"}},
		"no such function": {database, `SELECT lastseat.hold('k')`, cli.ExitConfig, []string{"lastseat.hold"}},
		"no right": {database, `SET ROLE lastseat_producer; SELECT * FROM lastseat.requests`, cli.ExitNoRight,
			[]string{"permission denied"}},
		"killed": {database, `SELECT pg_terminate_backend(pg_backend_pid())`, cli.ExitUnavailable,
			[]string{"terminating connection"}},
		"a syntax error": {database, `SELEKT`, cli.ExitViolation, []string{"syntax error"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			err := query(t, test.url, test.sql)
			if code := cli.ExitCode(err); code != test.code {
				t.Errorf("exit %d, want %d: %v", code, test.code, err)
			}
			if err == nil {
				return
			}
			line := cli.Line(fmt.Errorf("some action: %w", err))
			for _, part := range test.says {
				if !strings.Contains(line, part) {
					t.Errorf("the line %q does not say %q", line, part)
				}
			}
			if strings.Contains(line, "\n") || strings.Contains(line, "hunter2") {
				t.Errorf("the line is not one line, or tells the password: %q", line)
			}
		})
	}
}

// Who stops a program while it connects is not told that the database is down.
func TestStoppedWhileConnecting(t *testing.T) {
	t.Parallel()
	ctx, stop := context.WithCancel(t.Context())
	mute := listen(t, func(net.Conn) { stop() })
	_, err := pgconn.Connect(ctx, "postgres://u@"+mute+"/shop?sslmode=disable")
	if code := cli.ExitCode(err); code != cli.ExitUnknown {
		t.Errorf("exit %d, want %d: %v", code, cli.ExitUnknown, err)
	}
	if line := cli.Line(err); line != `stopped before it was connected to database "shop" at `+mute {
		t.Errorf("the line is %q", line)
	}
	if line := cli.Line(fmt.Errorf("remove rows: %w", ctx.Err())); line != "remove rows: stopped before the end" {
		t.Errorf("the line is %q", line)
	}
}

// Without a word from the server, in whatever call the program is: the database can't be reached any more.
func TestConnectionIsCut(t *testing.T) {
	t.Parallel()
	database := testdb.New(t)
	for name, do := range map[string]func(*pgxpool.Pool) error{
		"statement": func(pool *pgxpool.Pool) error { _, err := pool.Exec(t.Context(), `SELECT 'SEVER'`); return err },
		"query": func(pool *pgxpool.Pool) error {
			return pool.QueryRow(t.Context(),
				`SELECT 'SEVER'`).Scan(new(string))
		},
		"outcomes":    func(pool *pgxpool.Pool) error { _, err := outbox.Outcomes(t.Context(), pool, "SEVER"); return err },
		"transaction": func(pool *pgxpool.Pool) error { return pgx.BeginFunc(t.Context(), pool, enqueueCut(t)) },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			pool := testdb.Pool(t, cutting(t, database))
			if err := do(pool); cli.ExitCode(err) != cli.ExitUnavailable {
				t.Errorf("exit %d, want %d: %v", cli.ExitCode(err), cli.ExitUnavailable, err)
			}
		})
	}
}

func enqueueCut(t *testing.T) func(pgx.Tx) error {
	t.Helper()
	return func(tx pgx.Tx) error {
		_, err := outbox.Enqueue(t.Context(), tx, "SEVER", outbox.RawArgs{Of: "toy", JSON: []byte(`{}`)})
		return err
	}
}

func exitAdmin(t *testing.T, url, sql string) {
	t.Helper()
	if err := query(t, url, sql); err != nil {
		t.Fatal(err)
	}
}

func TestExitCodeOfTheContract(t *testing.T) {
	t.Parallel()
	pool := testdb.Pool(t, testdb.New(t))
	if _, err := pool.Exec(t.Context(), `SELECT lastseat.enqueue('toy', 'k', '{}')`); err != nil {
		t.Fatal(err)
	}
	for name, request := range map[string]outbox.Request{
		"key reused": {Key: "k", Args: outbox.RawArgs{Of: "toy", JSON: []byte(`{"a": 1}`)}},
		"invalid":    {Key: "", Args: outbox.RawArgs{Of: "toy", JSON: []byte(`{}`)}},
		"no JSON":    {Key: "x", Args: outbox.RawArgs{Of: "toy", JSON: []byte(`{`)}},
		"unknown": {Key: "x", Args: outbox.RawArgs{Of: "payment.transfer",
			JSON: []byte(`{"from": "a", "to": "b", "amount": 1, "currency": "EUR"}`)}},
		"too large": {Key: "x", Args: outbox.RawArgs{Of: "toy", JSON: []byte(`{"a": "` + strings.Repeat("x", 70_000) +
			`"}`)}},
	} {
		_, err := outbox.EnqueueMany(t.Context(), pool, []outbox.Request{request})
		if code := cli.ExitCode(err); code != cli.ExitData {
			t.Errorf("%s: exit %d, want %d: %v", name, code, cli.ExitData, err)
		}
		if line := cli.Line(err); strings.Contains(line, "\n") {
			t.Errorf("%s: %q is not one line", name, line)
		}
	}
	if _, err := outbox.Wait(t.Context(), pool, "never used"); cli.ExitCode(err) != cli.ExitData {
		t.Errorf("wait for a key that was never used: exit %d", cli.ExitCode(err))
	}
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	if _, err := outbox.Wait(ctx, pool, "k"); cli.ExitCode(err) != cli.ExitUnknown {
		t.Errorf("wait that ran out: exit %d, %v", cli.ExitCode(err), err)
	}
}

func TestExitCode(t *testing.T) {
	t.Parallel()
	_, badConfig := config.Load([]string{"LASTSEAT_X=1"}, false)
	_, badFile := importfile.NewReader(strings.NewReader("a,b\n"), importfile.Options{})
	noSchema := schema.Check(t.Context(), testdb.Pool(t, testdb.Empty(t)))
	for name, test := range map[string]struct {
		err  error
		code int
	}{
		"none":                    {nil, cli.ExitOK},
		"any other":               {errors.New("x"), cli.ExitViolation},
		"its own":                 {&cli.Error{Code: cli.ExitRefused}, cli.ExitRefused},
		"its own, before others":  {&cli.Error{Code: cli.ExitRefused, Err: outbox.ErrKeyReused}, cli.ExitRefused},
		"usage":                   {cli.Usage("--x is %q", "y"), cli.ExitUsage},
		"bad data":                {cli.BadData("line %d", 7), cli.ExitData},
		"file":                    {badFile, cli.ExitData},
		"configuration":           {badConfig, cli.ExitConfig},
		"no schema":               {noSchema, cli.ExitConfig},
		"no Postgres installed":   {localpg.ErrNotInstalled, cli.ExitConfig},
		"commit unknown":          {outbox.ErrCommitUnknown, cli.ExitUnknown},
		"commit lost, conn gone":  {fmt.Errorf("%w: %w", outbox.ErrCommitUnknown, pgconn.ErrConnClosed), cli.ExitUnknown},
		"time ran out":            {context.DeadlineExceeded, cli.ExitUnknown},
		"cancelled":               {context.Canceled, cli.ExitUnknown},
		"connection closed":       {pgconn.ErrConnClosed, cli.ExitUnavailable},
		"too many connections":    {&pgconn.PgError{Code: "53300"}, cli.ExitUnavailable},
		"disk full":               {&pgconn.PgError{Code: "53100"}, cli.ExitUnavailable},
		"starting up":             {&pgconn.PgError{Code: "57P03"}, cli.ExitUnavailable},
		"shutting down":           {&pgconn.PgError{Code: "57P01"}, cli.ExitUnavailable},
		"I/O":                     {&pgconn.PgError{Code: "58030"}, cli.ExitUnavailable},
		"role is not allowed":     {&pgconn.PgError{Code: "28000"}, cli.ExitNoRight},
		"a constraint":            {&pgconn.PgError{Code: "23514"}, cli.ExitViolation},
		"statement was cancelled": {&pgconn.PgError{Code: "57014"}, cli.ExitViolation},
	} {
		for _, err := range []error{test.err, fmt.Errorf("some action: %w", test.err), errors.Join(errors.New("first"),
			test.err)} {
			if test.err == nil {
				err = nil
			}
			if code := cli.ExitCode(err); code != test.code {
				t.Errorf("%s: exit %d, want %d (%v)", name, code, test.code, err)
			}
		}
	}
}

func TestConnectNamesItself(t *testing.T) {
	t.Parallel()
	database := testdb.New(t)
	for url, want := range map[string]string{database: "test", with(t, database, parameter("application_name",
		"mine")): "mine"} {
		pool, err := cli.Connect(t.Context(), url, "test", 3)
		if err != nil {
			t.Fatal(err)
		}
		var got string
		err = pgx.BeginFunc(t.Context(), pool, func(tx pgx.Tx) error {
			return tx.QueryRow(t.Context(),
				`SHOW application_name`).Scan(&got)
		})
		if err != nil || got != want || pool.Config().MaxConns != 3 {
			t.Errorf("application_name is %q, want %q (%v); %d connections", got, want, err, pool.Config().MaxConns)
		}
		pool.Close()
	}
}
