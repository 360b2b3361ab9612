package cli

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"sync"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
)

// Asking is an option of [Connect] for a program that asks and reads, and needs no session of its own.
//
// It works behind PgBouncer in transaction mode: there the next statement may run in another session, where a prepared
// statement is unknown or has been taken. So none is prepared, unless DATABASE_URL asks for a mode of its own
// (default_query_exec_mode). A command line runs each statement once or twice, so preparing would gain nothing.
//
// It gives up when the server has been silent for as long as patience says: a network that swallows what is sent
// makes a COMMIT wait for its reply for ever.
//
// onSilence is called before it gives up: pgx may say no more than that the connection is closed.
func Asking(patience time.Duration, onSilence func()) func(*pgxpool.Config) {
	return func(config *pgxpool.Config) {
		if config.ConnConfig.DefaultQueryExecMode == pgx.QueryExecModeCacheStatement {
			config.ConnConfig.DefaultQueryExecMode = pgx.QueryExecModeExec
			config.ConnConfig.StatementCacheCapacity, config.ConnConfig.DescriptionCacheCapacity = 0, 0
		}
		config.ConnConfig.ConnectTimeout = min(config.ConnConfig.ConnectTimeout, patience)
		dial := config.ConnConfig.DialFunc
		config.ConnConfig.DialFunc = func(ctx context.Context, network, address string) (net.Conn, error) {
			conn, err := dial(ctx, network, address)
			if err != nil {
				return nil, err
			}
			return &patientConn{Conn: conn, patience: patience, onSilence: onSilence}, nil
		}
	}
}

// SilenceError says that the server did not answer in time. Whether it has done what it was told is not known.
type SilenceError struct{ After time.Duration }

// Error names the time.
func (e *SilenceError) Error() string {
	return fmt.Sprintf("the database has not answered for %v", e.After)
}

// patientConn is a connection on which no read and no write waits longer than patience. pgx sets deadlines of its own
// when a context ends; the earlier one counts.
type patientConn struct {
	net.Conn
	patience  time.Duration
	onSilence func()

	mu          sync.Mutex
	read, write time.Time // deadlines that pgx has set; zero: none
}

func (c *patientConn) Read(p []byte) (int, error) {
	c.limit(&c.read, c.Conn.SetReadDeadline)
	n, err := c.Conn.Read(p)
	return n, c.explain(&c.read, err)
}

func (c *patientConn) Write(p []byte) (int, error) {
	c.limit(&c.write, c.Conn.SetWriteDeadline)
	n, err := c.Conn.Write(p)
	return n, c.explain(&c.write, err)
}

func (c *patientConn) limit(theirs *time.Time, set func(time.Time) error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	ours := time.Now().Add(c.patience)
	if !theirs.IsZero() && theirs.Before(ours) {
		ours = *theirs
	}
	_ = set(ours) // a connection that is closed says so when it is used
}

// explain tells our deadline from pgx's, which it expects to find in the error.
func (c *patientConn) explain(theirs *time.Time, err error) error {
	if !errors.Is(err, os.ErrDeadlineExceeded) {
		return err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if !theirs.IsZero() && !theirs.After(time.Now()) {
		return err
	}
	c.onSilence()
	return &SilenceError{c.patience}
}

func (c *patientConn) SetDeadline(t time.Time) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.read, c.write = t, t
	return c.Conn.SetDeadline(t)
}

func (c *patientConn) SetReadDeadline(t time.Time) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.read = t
	return c.Conn.SetReadDeadline(t)
}

func (c *patientConn) SetWriteDeadline(t time.Time) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.write = t
	return c.Conn.SetWriteDeadline(t)
}
