package testdb

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"strings"
	"sync"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/lastseat/lastseat/internal/localpg"
	"github.com/lastseat/lastseat/internal/pgsession"
)

// maintenance is the database one connects to in order to act on others.
const maintenance = "postgres"

// pristine is what empty databases are copied from. Nobody can connect to template0, so that copying it never fails for
// that, and nobody has put anything into it, which for template1 is not sure.
const pristine = "template0"

// host is what a process has: a server, and on it the template, each made once and when first needed.
type host struct {
	external string // DATABASE_URL
	migrate  Migrate

	server   func() (*server, error)
	template func() (string, error)

	started *server // nil until server has succeeded
	made    string  // the template to be dropped
}

func newHost(external string, migrate Migrate) *host {
	h := &host{external: external, migrate: migrate}
	h.server = sync.OnceValues(h.startServer)
	h.template = sync.OnceValues(h.makeTemplate)
	return h
}

// settings trade away what only a crash of the machine could take: tests do not outlive it. The many connections are
// for as many tests as there are processors, each with a pool or two.
var settings = map[string]string{"fsync": "off", "full_page_writes": "off", "max_connections": "500"}

func (h *host) startServer() (*server, error) {
	ctx, cancel := context.WithTimeout(context.Background(), timeout)
	defer cancel()
	base := h.external
	var local *localpg.Server
	if base == "" {
		var err error
		if local, err = localpg.Start(ctx, localpg.Options{Settings: settings}); err != nil {
			return nil, err
		}
		base = local.URL()
	}
	srv := &server{url: localpg.WithDatabase(base, maintenance), local: local}
	var err error
	if srv.admin, err = pgsession.OpenPool(ctx, srv.url); err == nil {
		err = srv.admin.Ping(ctx)
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("connect to the server: %w", err), srv.close())
	}
	h.started = srv
	return srv, nil
}

// templateName is not bound to the context of the test which happens to come first: its end must not be that of the
// template for all the others.
func (h *host) templateName(context.Context) (string, error) {
	if h.migrate == nil {
		return pristine, nil
	}
	return h.template()
}

func (h *host) makeTemplate() (string, error) {
	srv, err := h.server()
	if err != nil {
		return "", err
	}
	ctx, cancel := context.WithTimeout(context.Background(), timeout)
	defer cancel()
	name := uniqueName("template", "")
	if err := srv.create(ctx, name, pristine); err != nil {
		return "", err
	}
	h.made = name
	if err := h.migrate(ctx, srv.databaseURL(name)); err != nil {
		return "", fmt.Errorf("migrate the template: %w", err)
	}
	if err := srv.seal(ctx, name); err != nil {
		return "", fmt.Errorf("seal the template: %w", err)
	}
	return name, nil
}

func (h *host) close() error {
	if h.started == nil {
		return nil
	}
	var err error
	if h.made != "" && h.started.local == nil {
		ctx, cancel := context.WithTimeout(context.Background(), timeout)
		defer cancel()
		err = h.started.drop(ctx, h.made)
	}
	return errors.Join(err, h.started.close())
}

// server is where the databases are.
type server struct {
	url   string // of the maintenance database
	admin *pgxpool.Pool
	local *localpg.Server // nil if it is not ours
}

func (s *server) close() error {
	if s.admin != nil {
		s.admin.Close()
	}
	if s.local == nil {
		return nil
	}
	return s.local.Stop()
}

func (s *server) databaseURL(name string) string { return localpg.WithDatabase(s.url, name) }

// copyTries bounds the attempts at copying a template which somebody is connected to; Postgres waits five seconds in
// each.
const copyTries = 3

// objectInUse is the SQLSTATE of a template with sessions. Sealed, ours can only have those of autovacuum.
const objectInUse = "55006"

func (s *server) create(ctx context.Context, name, template string) error {
	sql := "create database " + quote(name) + " template " + quote(template)
	for try := 1; ; try++ {
		_, err := s.admin.Exec(ctx, sql)
		if err == nil {
			return nil
		}
		var pgErr *pgconn.PgError
		if try == copyTries || !errors.As(err, &pgErr) || pgErr.Code != objectInUse {
			return fmt.Errorf("create the database %s: %w", name, err)
		}
	}
}

func (s *server) drop(ctx context.Context, name string) error {
	if _, err := s.admin.Exec(ctx, "drop database if exists "+quote(name)+" with (force)"); err != nil {
		return fmt.Errorf("drop the database %s: %w", name, err)
	}
	return nil
}

// sealWait is how long a session may take to be gone after the migration has closed it.
const sealWait = 5 * time.Second

// seal shuts the template to connections, then waits for those of the migration to be gone: a closed one lingers for
// some milliseconds, and would have the first copy wait for a hundred.
func (s *server) seal(ctx context.Context, name string) error {
	if _, err := s.admin.Exec(ctx, "alter database "+quote(name)+" allow_connections false"); err != nil {
		return err
	}
	const sessions = `select count(*) from pg_stat_activity where datname = $1 and backend_type = 'client backend'`
	for deadline := time.Now().Add(sealWait); ; time.Sleep(2 * time.Millisecond) {
		var n int
		if err := s.admin.QueryRow(ctx, sessions, name).Scan(&n); err != nil {
			return err
		}
		if n == 0 {
			return nil
		}
		if time.Now().After(deadline) {
			return fmt.Errorf("the migration left %d connections open", n)
		}
	}
}

// uniqueName says in pg_stat_activity whose database it is. Postgres cuts names off at 63 bytes, so the part which
// tells them apart must not come too late.
func uniqueName(prefix, test string) string {
	readable := strings.Map(func(r rune) rune {
		if r >= 'a' && r <= 'z' || r >= '0' && r <= '9' {
			return r
		}
		return '_'
	}, strings.ToLower(test))
	readable = readable[:min(len(readable), 36)]
	var random [6]byte
	_, _ = rand.Read(random[:]) // does not fail
	return strings.Join([]string{"lastseat", prefix, readable, hex.EncodeToString(random[:])}, "_")
}

func quote(name string) string { return pgx.Identifier{name}.Sanitize() }
