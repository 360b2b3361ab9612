package main

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/riverqueue/river/riverdriver/riverpgxv5"
	"github.com/riverqueue/river/rivermigrate"

	"github.com/lastseat/lastseat/internal/localpg"
	"github.com/lastseat/lastseat/internal/pgsession"
	"github.com/lastseat/lastseat/schema"
)

// server is where the databases of a run are. Each filling is made once, as a template; a measurement gets a copy.
type server struct {
	url       string
	local     *localpg.Server // nil if it is not ours
	admin     *pgxpool.Pool
	prefix    string // of the names of this run's databases
	copies    int
	templates map[filling]string
	migrated  map[ground]string // what they are copied from: the tables, empty
	peersDir  string            // where npm has put the queues in JavaScript, if they are measured
}

func openServer(ctx context.Context, databaseURL string) (*server, error) {
	s := &server{
		url: databaseURL, prefix: "lastseat_bench_" + strings.ToLower(rand.Text()[:8]), templates: make(map[filling]string),
		migrated: make(map[ground]string),
	}
	if s.url == "" {
		var err error
		// Durable, as it is without settings: a benchmark without fsync is about something else.
		if s.local, err = localpg.Start(
			ctx,
			localpg.Options{Settings: map[string]string{"max_connections": "300"}},
		); err != nil {
			return nil, err
		}
		s.url = s.local.URL()
	}
	var err error
	if s.admin, err = pgsession.OpenPool(ctx, s.url); err == nil {
		err = s.admin.Ping(ctx)
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("connect to the server: %w", err), s.close(ctx))
	}
	return s, nil
}

// close drops what was made, also after an interrupt.
func (s *server) close(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Minute)
	defer cancel()
	var errs []error
	for _, name := range slices.AppendSeq(slices.Collect(maps.Values(s.templates)), maps.Values(s.migrated)) {
		errs = append(errs, s.drop(ctx, name))
	}
	if s.admin != nil {
		s.admin.Close()
	}
	if s.local != nil {
		errs = append(errs, s.local.Stop())
	}
	return errors.Join(errs...)
}

// copied makes a database of its own, filled, and returns its URL and what drops it.
func (s *server) copied(ctx context.Context, f filling) (databaseURL string, drop func(), err error) {
	template, err := s.template(ctx, f)
	if err != nil {
		return "", nil, fmt.Errorf("fill a database: %w", err)
	}
	s.copies++
	name := fmt.Sprintf("%s_%d", s.prefix, s.copies)
	if err := s.create(ctx, name, template); err != nil {
		return "", nil, err
	}
	return withDatabase(s.url, name), func() { _ = s.drop(context.WithoutCancel(ctx), name) }, nil
}

func (s *server) template(ctx context.Context, f filling) (string, error) {
	if name, made := s.templates[f]; made {
		return name, nil
	}
	name := fmt.Sprintf("%s_%s%s_%d_%d_%d", s.prefix, f.ground, f.workload, f.jobs, f.accounts, f.items)
	peer, is := strings.CutPrefix(string(f.ground), string(onPeer("")))
	from := "template0"
	if !is {
		var err error
		if from, err = s.tables(ctx, f.ground); err != nil {
			return "", err
		}
	}
	s.templates[f] = name // to be dropped, whatever comes
	if err := s.create(ctx, name, from); err != nil {
		return "", err
	}
	if is {
		_, err := runPeer(ctx, s.peersDir, peer, withDatabase(s.url, name), "fill", f.jobs)
		return name, err
	}
	conn, err := pgx.Connect(ctx, withDatabase(s.url, name))
	if err != nil {
		return "", err
	}
	return name, errors.Join(f.fill(ctx, conn), conn.Close(ctx))
}

// tables is a database that has them, and nothing in them: to migrate takes seconds, and to copy that does not.
func (s *server) tables(ctx context.Context, on ground) (string, error) {
	if on != plainRiver {
		on = ours // which all others have, too
	}
	if name, made := s.migrated[on]; made {
		return name, nil
	}
	name := fmt.Sprintf("%s_tables_%s", s.prefix, on)
	s.migrated[on] = name // to be dropped, whatever comes
	if err := s.create(ctx, name, "template0"); err != nil {
		return "", err
	}
	return name, migrate(ctx, withDatabase(s.url, name), on)
}

// migrate makes the tables.
func migrate(ctx context.Context, databaseURL string, on ground) error {
	if on != plainRiver {
		_, err := schema.Up(ctx, databaseURL, false)
		return err
	}
	pool, err := openPool(ctx, databaseURL)
	if err != nil {
		return err
	}
	defer pool.Close()
	migrator, err := rivermigrate.New(riverpgxv5.New(pool), &rivermigrate.Config{Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		return err
	}
	_, err = migrator.Migrate(ctx, rivermigrate.DirectionUp, nil)
	return err
}

// create waits for sessions of the template that were closed a moment ago: they linger.
func (s *server) create(ctx context.Context, name, template string) error {
	for {
		_, err := s.admin.Exec(ctx, fmt.Sprintf("CREATE DATABASE %s TEMPLATE %s", quote(name), quote(template)))
		if pgErr := (*pgconn.PgError)(nil); errors.As(err, &pgErr) && pgErr.Code == "55006" && ctx.Err() == nil {
			continue // Postgres itself has waited for 5 seconds
		}
		if err != nil {
			return fmt.Errorf("create database %s: %w", name, err)
		}
		return nil
	}
}

func (s *server) drop(ctx context.Context, name string) error {
	if _, err := s.admin.Exec(ctx, fmt.Sprintf("DROP DATABASE IF EXISTS %s WITH (FORCE)", quote(name))); err != nil {
		return fmt.Errorf("drop database %s: %w", name, err)
	}
	return nil
}

// openPool has room for the connections that ask, and for River's own for fetching, completing and leadership.
func openPool(ctx context.Context, databaseURL string) (*pgxpool.Pool, error) {
	return openPoolOf(ctx, databaseURL, mostConnections)
}

func openPoolOf(ctx context.Context, databaseURL string, connections int) (*pgxpool.Pool, error) {
	config, err := pgxpool.ParseConfig(databaseURL)
	if err != nil {
		return nil, err
	}
	config.MaxConns = int32(connections)
	return pgxpool.NewWithConfig(ctx, config)
}

// withDatabase points a connection string, of either form that pgx takes, to another database.
func withDatabase(conn, name string) string {
	u, err := url.Parse(conn)
	if err != nil || u.Scheme == "" {
		return conn + " dbname=" + name // of two, the last counts
	}
	u.Path = "/" + name
	query := u.Query()
	query.Del("dbname")
	query.Del("database")
	u.RawQuery = query.Encode()
	return u.String()
}

func quote(name string) string { return pgx.Identifier{name}.Sanitize() }
