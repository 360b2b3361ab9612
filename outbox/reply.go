package outbox

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"sync"
	"time"

	"github.com/jackc/pgx/v5"
)

// replyConn is a connection on which no answer is awaited for ever: something between the worker and Postgres may
// swallow what they say while the connection stays up. A deadline that pgx has set itself goes first.
type replyConn struct {
	net.Conn

	mu     sync.Mutex
	limit  time.Duration // 0: none
	theirs bool          // pgx has set a deadline
}

// limitTo sets the limit of a connection that was made without one.
func (c *replyConn) limitTo(limit time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.limit = limit
}

func (c *replyConn) SetDeadline(t time.Time) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.theirs = !t.IsZero()
	return c.Conn.SetDeadline(t)
}

// arm sets the deadline of what comes next, unless pgx has set one.
func (c *replyConn) arm(set func(time.Time) error) (ours bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	ours = !c.theirs && c.limit > 0
	if ours {
		_ = set(time.Now().Add(c.limit))
	}
	return ours
}

func (c *replyConn) Read(p []byte) (int, error) {
	ours := c.arm(c.SetReadDeadline)
	n, err := c.Conn.Read(p)
	return n, c.explain(ours, err)
}

func (c *replyConn) Write(p []byte) (int, error) {
	ours := c.arm(c.SetWriteDeadline)
	n, err := c.Conn.Write(p)
	return n, c.explain(ours, err)
}

// explain turns a timeout of ours into an error that ends the connection: pgx would go on after a timeout. It closes
// the connection, for pgx would wait for a last answer for 15 s, and the session may hold the lane so long.
func (c *replyConn) explain(ours bool, err error) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if ours && !c.theirs && errors.Is(err, os.ErrDeadlineExceeded) {
		_ = c.Close()
		return fmt.Errorf("the server has not answered for %v: the connection is given up", c.limit)
	}
	return err
}

// replyLimit is how long the lane waits for an answer.
func (l *lane) replyLimit() time.Duration {
	limit := l.settings.ReplyLimit
	for _, registered := range l.kinds.byName {
		if h, ok := (*registered.settler).(*handling); ok {
			limit = max(limit, h.timeout+2*handlerGrace)
		}
	}
	return limit + l.settings.Poll // an idle lane hears nothing for so long
}

// limitReplies has every connection of config give up on a server that does not answer for so long.
func limitReplies(config *pgx.ConnConfig, limit time.Duration) {
	dial := config.DialFunc
	config.DialFunc = func(ctx context.Context, network, addr string) (net.Conn, error) {
		conn, err := dial(ctx, network, addr)
		if err != nil {
			return nil, err
		}
		return &replyConn{Conn: conn, limit: limit}, nil
	}
}

// replyConnOf is the part of a connection that limits replies, or nil.
func replyConnOf(conn *pgx.Conn) *replyConn {
	switch c := conn.PgConn().Conn().(type) {
	case *replyConn:
		return c
	case interface{ NetConn() net.Conn }: // TLS
		inner, _ := c.NetConn().(*replyConn)
		return inner
	}
	return nil
}

// backend is a session of the server: a pid alone may be another one's by now.
type backend struct {
	pid   int
	began time.Time
}

const (
	// After SET ROLE a session may not see its own start; what nobody may see is nobody's.
	ownBackendSQL = `SELECT pid, coalesce(backend_start, 'epoch') FROM pg_stat_activity WHERE pid = pg_backend_pid()`

	// endLastSQL ends the lane's last session. Not while it waits for a standby server: what it commits would become
	// visible before it is safe.
	endLastSQL = `
	SELECT pg_terminate_backend(a.pid) FROM pg_stat_activity a
	WHERE a.pid = $1 AND a.backend_start = $2 AND a.pid <> pg_backend_pid()
	  AND a.datname = current_database() AND a.application_name = '` + laneName + `'
	  AND a.wait_event IS DISTINCT FROM 'SyncRep'`
)

// endLast ends the lane's last session, which the server may not have missed yet: it may hold the lane's lock, or be in
// the middle of taking the lane.
func (l *lane) endLast(ctx context.Context) error {
	if last := l.backend; last.pid != 0 {
		if _, err := l.conn.Exec(ctx, endLastSQL, last.pid, last.began); err != nil {
			l.log.DebugContext(ctx, "the lane's last session could not be ended", slog.String("error", err.Error()))
		}
	}
	if err := l.conn.QueryRow(ctx, ownBackendSQL).Scan(&l.backend.pid, &l.backend.began); err != nil {
		return fmt.Errorf("find the lane's session: %w", err)
	}
	return nil
}
