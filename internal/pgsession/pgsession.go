// Package pgsession makes every connection of the programs, and pins its search_path. Anybody who may create in a
// schema of a session's search_path can define functions and operators there that are nearer to the types of a call
// than Postgres's own, and they run with the session's rights.
package pgsession

import (
	"context"
	"maps"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/lastseat/lastseat/internal/retry"
)

// Path is the search_path of our sessions: nothing in it belongs to anybody else. A temporary object belongs to the
// session itself.
const Path = "pg_catalog, pg_temp"

// PinSQL is a session's first statement. SET calls no function, so nothing can take its place.
const PinSQL = "SET search_path = " + Path

// Pin has connections of config pin their search_path before any other statement. RESET brings back the one that the
// role, the database or the URL asks for.
func Pin(config *pgconn.Config) {
	next := config.AfterConnect
	config.AfterConnect = func(ctx context.Context, conn *pgconn.PgConn) error {
		err := conn.Exec(ctx, PinSQL).Close()
		if err == nil && next != nil {
			err = next(ctx, conn)
		}
		return err
	}
}

// Connect opens a pinned connection.
func Connect(ctx context.Context, config *pgx.ConnConfig) (*pgx.Conn, error) {
	config = config.Copy()
	Pin(&config.Config)
	return pgx.ConnectConfig(ctx, config)
}

// Open opens a pinned connection to a URL.
func Open(ctx context.Context, url string) (*pgx.Conn, error) {
	config, err := pgx.ParseConfig(url)
	if err != nil {
		return nil, err
	}
	return Connect(ctx, config)
}

// OpenPool makes a pool of pinned connections to a URL.
func OpenPool(ctx context.Context, url string) (*pgxpool.Pool, error) {
	config, err := pgxpool.ParseConfig(url)
	if err != nil {
		return nil, err
	}
	return NewPool(ctx, config)
}

// LogIn opens a session as a pool does, and closes it: a session that the pool has may answer while nobody can log in.
func LogIn(ctx context.Context, pool *pgxpool.Pool) error {
	if err := pool.Ping(ctx); err != nil {
		return err // that the pool is closed, too
	}
	conn, err := Connect(ctx, pool.Config().ConnConfig)
	if err != nil {
		return err
	}
	return conn.Close(ctx)
}

// NewPool makes a pool of pinned connections.
func NewPool(ctx context.Context, config *pgxpool.Config) (*pgxpool.Pool, error) {
	config = config.Copy()
	Pin(&config.ConnConfig.Config)
	return pgxpool.NewWithConfig(ctx, config)
}

// NewPoolBeside makes a pool for the database of another one, and takes no connection from that one. Its sessions have
// a name and the given settings. It connects when it is used, and keeps an unused session for idle; 0: as like does.
func NewPoolBeside(
	ctx context.Context, like *pgxpool.Pool, name string, sessions int32, idle time.Duration, settings map[string]string,
) (*pgxpool.Pool, error) {
	config := like.Config()
	config.MaxConns, config.MinConns = sessions, 0
	if idle > 0 {
		config.MaxConnIdleTime = idle
	}
	maps.Copy(config.ConnConfig.RuntimeParams, settings)
	config.ConnConfig.RuntimeParams["application_name"] = name
	return NewPool(ctx, config)
}

// NewSharedPool makes a pool whose sessions may belong to others, too: those of a pooler in transaction mode, where a
// SET would stay in the session of whoever comes next. They are pinned by a parameter of the connection. PgBouncer
// refuses that one or ignores it; then the statements themselves must be proof against any search_path.
func NewSharedPool(ctx context.Context, config *pgxpool.Config) (*pgxpool.Pool, error) {
	pinned := config.Copy()
	pinned.ConnConfig.RuntimeParams["search_path"] = Path
	pool, err := pgxpool.NewWithConfig(ctx, pinned)
	if err != nil {
		return nil, err
	}
	if err = pool.Ping(ctx); err == nil {
		return pool, nil
	}
	pool.Close()
	if !refusesParameter(err) {
		return nil, err
	}
	return pgxpool.NewWithConfig(ctx, config)
}

// refusesParameter tells whether a pooler refuses search_path as a parameter of the connection.
func refusesParameter(err error) bool {
	return retry.SQLState(err) == "08P01" && strings.Contains(err.Error(), "search_path")
}
