package pgsession

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/lastseat/lastseat/internal/retry"
)

// SharedError says that a connection is no session of its own: something in between gives each transaction another
// session of Postgres.
type SharedError struct{ Proof string }

func (e *SharedError) Error() string {
	return "a connection pooler changes the session between transactions (" + e.Proof + "): connect the worker to " +
		"Postgres directly, or through a pooler that pools by session"
}

const (
	// ownPatience bounds the look: a pooler has a client wait for a free session.
	ownPatience = 5 * time.Second
	// ownRounds is how often the look is repeated where something is in between. Another client of the pooler may get in
	// the way of one.
	ownRounds = 4
	// ownRivals is how many connections hold a transaction open while another one is watched.
	ownRivals = 3
)

// CheckOwn returns a [*SharedError] if connections of config are no sessions of their own, as behind PgBouncer in
// transaction mode. A lane behind such a pooler would lose what it has told its session, its locks among them.
//
// A pooler that pools by session says another process id than Postgres, too, so that proves nothing. What does: a
// connection rests between two transactions while others hold theirs open. If it is a session of its own, no other
// connection can be served by the same process of Postgres meanwhile, and its next transaction is served by the same
// process as the last. A pooler in transaction mode hands the session on at once, or has given it to somebody else.
func CheckOwn(ctx context.Context, config *pgx.ConnConfig) error {
	config = config.Copy()
	config.DefaultQueryExecMode = pgx.QueryExecModeSimpleProtocol
	if config.ConnectTimeout == 0 {
		config.ConnectTimeout = 2 * ownPatience
	}
	watched, err := pgx.ConnectConfig(ctx, config)
	if err != nil {
		return err
	}
	defer closeSoon(ctx, watched)
	bounded, cancel := context.WithTimeout(ctx, ownPatience)
	defer cancel()
	for range ownRounds {
		err := watch(bounded, config, watched)
		if bounded.Err() != nil && !errors.As(err, new(*SharedError)) {
			return ctx.Err() // too slow to prove anything
		}
		if err != nil {
			return err
		}
		pid, err := process(ctx, watched)
		if err != nil || pid == watched.PgConn().PID() {
			return err // nothing is in between
		}
	}
	return nil
}

// watch is one round: it looks at the process of watched while others hold transactions open.
func watch(ctx context.Context, config *pgx.ConnConfig, watched *pgx.Conn) error {
	before, err := process(ctx, watched)
	if err != nil {
		return err
	}
	for range ownRivals {
		rival, err := pgx.ConnectConfig(ctx, config)
		if err != nil {
			return noMore(ctx, err)
		}
		defer closeSoon(ctx, rival)
		if _, err := rival.Exec(ctx, "BEGIN READ ONLY"); err != nil {
			if refusesTransactions(err) {
				return &SharedError{Proof: "it refuses transactions of several statements"}
			}
			return noMore(ctx, err)
		}
		pid, err := process(ctx, rival)
		switch {
		case err != nil:
			return noMore(ctx, err)
		case pid == before:
			return &SharedError{Proof: fmt.Sprintf("process %d of Postgres served two open connections", pid)}
		}
	}
	after, err := process(ctx, watched)
	if err == nil && after != before {
		err = &SharedError{Proof: fmt.Sprintf("processes %d and %d of Postgres served one connection", before, after)}
	}
	return err
}

// noMore: no further connection can be had. That is no proof of anything: a pooler that pools by session may be full.
func noMore(ctx context.Context, err error) error {
	if ctx.Err() != nil || errors.As(err, new(*pgconn.ConnectError)) {
		return nil
	}
	return err
}

// refusesTransactions tells whether a pooler in statement mode refuses BEGIN.
func refusesTransactions(err error) bool { return retry.SQLState(err) == "08P01" }

// process is the id of the process of Postgres that serves a statement.
func process(ctx context.Context, conn *pgx.Conn) (pid uint32, err error) {
	err = conn.QueryRow(ctx, "SELECT pg_catalog.pg_backend_pid()").Scan(&pid)
	return pid, err
}

func closeSoon(ctx context.Context, conn *pgx.Conn) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Second)
	defer cancel()
	_ = conn.Close(ctx)
}
