package main

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/lastseat/lastseat/internal/localpg"
	"github.com/lastseat/lastseat/internal/pgsession"
	"github.com/lastseat/lastseat/jobs"
	"github.com/lastseat/lastseat/outbox"
	"github.com/lastseat/lastseat/schema"
)

// server is where the databases of a run are: a template with all the accounts, one of the lane's and one of the
// others', and a copy of it for each measurement.
type server struct {
	url    string
	local  *localpg.Server // nil if it is not ours
	admin  *pgxpool.Pool
	prefix string // of the names of this run's databases
	copies int
}

func openServer(ctx context.Context, databaseURL string, accounts int) (*server, error) {
	s := &server{url: databaseURL, prefix: "lastseat_contention_" + strings.ToLower(rand.Text()[:8])}
	if s.url == "" {
		var err error
		// Durable, as it is without settings. A client of the lane that waits has two connections.
		if s.local, err = localpg.Start(ctx,
			localpg.Options{Settings: map[string]string{"max_connections": "400"}}); err != nil {
			return nil, err
		}
		s.url = s.local.URL()
	}
	var err error
	if s.admin, err = pgsession.OpenPool(ctx, s.url); err == nil {
		err = errors.Join(s.fill(ctx, false, accounts), s.fill(ctx, true, accounts))
	}
	if err != nil {
		return nil, errors.Join(err, s.close(ctx))
	}
	return s, nil
}

// close drops what was made, also after an interrupt.
func (s *server) close(ctx context.Context) (err error) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Minute)
	defer cancel()
	if s.admin != nil {
		err = errors.Join(s.drop(ctx, s.template(false)), s.drop(ctx, s.template(true)))
		s.admin.Close()
	}
	if s.local != nil {
		err = errors.Join(err, s.local.Stop())
	}
	return err
}

// The table has all the accounts, however few are in use: on a small one Postgres would read all of it, and at
// SERIALIZABLE everybody would be in conflict with everybody.
const tablesSQL = `
	CREATE TABLE accounts (id int PRIMARY KEY, balance bigint NOT NULL CHECK (balance >= 0),
	                       version bigint NOT NULL DEFAULT 1);
	CREATE TABLE movements (key text PRIMARY KEY, account int NOT NULL, amount bigint NOT NULL,
	                        balance_after bigint NOT NULL);
	CREATE TABLE asked (key text PRIMARY KEY, kind text NOT NULL, status text NOT NULL,
	                    requested_at timestamptz NOT NULL, settled_at timestamptz NOT NULL);
	CREATE TABLE entries (key text NOT NULL, account int NOT NULL, amount bigint NOT NULL, balance_after bigint,
	                      PRIMARY KEY (key, account));`

const accountsSQL = `INSERT INTO accounts (id, balance) SELECT n, $2 FROM generate_series(0, $1 - 1) AS n`

const (
	openBankSQL = `SELECT lastseat.open_account('bank', $1, NULL)`
	openSQL     = `SELECT count(*) FROM generate_series(0, $1 - 1) AS n, lastseat.open_account('account-' || n, $2)`
	topUpSQL    = `SELECT count(*) FROM generate_series(0, $1 - 1) AS n, lastseat.transfer('top-up-'
		|| n, 'bank', 'account-' || n, $2, $3)`
)

func (s *server) template(lane bool) string {
	if lane {
		return s.prefix + "_lane"
	}
	return s.prefix + "_tables"
}

// fill makes a template: the same accounts with the same balances for everybody.
func (s *server) fill(ctx context.Context, lane bool, accounts int) error {
	if err := s.create(ctx, s.template(lane), "template0"); err != nil {
		return err
	}
	at := localpg.WithDatabase(s.url, s.template(lane))
	steps := []step{{tablesSQL, nil}, {accountsSQL, []any{accounts, initial}}}
	if lane {
		if _, err := schema.Up(ctx, at, false); err != nil {
			return err
		}
		steps = []step{{openBankSQL, []any{currency}}, {openSQL, []any{accounts, currency}},
			{topUpSQL, []any{accounts, initial, currency}}}
	}
	pool, err := pgxpool.New(ctx, at)
	if err != nil {
		return err
	}
	defer pool.Close()
	for _, step := range steps {
		if _, err := pool.Exec(ctx, step.sql, step.args...); err != nil {
			return fmt.Errorf("fill a database: %w", err)
		}
	}
	if lane {
		if err := newWorker(pool).Drain(ctx); err != nil {
			return fmt.Errorf("top up the accounts: %w", err)
		}
	}
	_, err = pool.Exec(ctx, "VACUUM ANALYZE")
	return err
}

type step struct {
	sql  string
	args []any
}

func newWorker(pool *pgxpool.Pool) *outbox.Worker {
	kinds := &outbox.Kinds{}
	jobs.Register(kinds)
	return outbox.NewWorker(pool, kinds, outbox.Settings{Logger: slog.New(slog.DiscardHandler)})
}

// copied makes a database of its own, and returns its URL and what drops it.
func (s *server) copied(ctx context.Context, lane bool) (databaseURL string, drop func(), err error) {
	s.copies++
	name := fmt.Sprintf("%s_%d", s.prefix, s.copies)
	if err := s.create(ctx, name, s.template(lane)); err != nil {
		return "", nil, err
	}
	return localpg.WithDatabase(s.url, name), func() { _ = s.drop(context.WithoutCancel(ctx), name) }, nil
}

// create waits for sessions of the template that were closed a moment ago: they linger.
func (s *server) create(ctx context.Context, name, template string) error {
	for {
		_, err := s.admin.Exec(ctx, fmt.Sprintf("CREATE DATABASE %s TEMPLATE %s", name, template))
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
	_, err := s.admin.Exec(ctx, "DROP DATABASE IF EXISTS "+name+" WITH (FORCE)")
	return err
}

// connect opens a client's connection.
func connect(ctx context.Context, pool *pgxpool.Pool) (*pgx.Conn, error) {
	return pgx.ConnectConfig(ctx, pool.Config().ConnConfig)
}
