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
	limit time.Duration

	mu     sync.Mutex
	theirs bool // pgx has set a deadline
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
	if !c.theirs {
		_ = set(time.Now().Add(c.limit))
	}
	return !c.theirs
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

// explain turns a timeout of ours into an error that ends the connection: pgx would go on after a timeout.
func (c *replyConn) explain(ours bool, err error) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if ours && !c.theirs && errors.Is(err, os.ErrDeadlineExceeded) {
		return fmt.Errorf("the server has not answered for %v: the connection is given up", c.limit)
	}
	return err
}

// limitReplies has every connection of config give up on a server that does not answer.
func (l *lane) limitReplies(config *pgx.ConnConfig) {
	limit := l.settings.ReplyLimit
	for _, registered := range l.kinds.byName {
		if h, ok := (*registered.settler).(*handling); ok {
			limit = max(limit, h.timeout+2*handlerGrace)
		}
	}
	limit += l.settings.Poll // an idle lane hears nothing for so long
	dial := config.DialFunc
	config.DialFunc = func(ctx context.Context, network, addr string) (net.Conn, error) {
		conn, err := dial(ctx, network, addr)
		if err != nil {
			return nil, err
		}
		return &replyConn{Conn: conn, limit: limit}, nil
	}
}

// endLastSQL ends the lane's last session, as the lane's row has it. Not while it waits for a standby server: what it
// commits would become visible before it is safe.
const endLastSQL = `
	SELECT pg_terminate_backend(a.pid) FROM lastseat.lanes l JOIN pg_stat_activity a ON a.pid = l.pid
	WHERE l.queue = $1 AND l.lane = $2 AND l.holder = $3 AND a.pid <> pg_backend_pid()
	  AND a.datname = current_database() AND a.application_name = '` + laneName + `'
	  AND a.wait_event IS DISTINCT FROM 'SyncRep'`

// endLast ends the lane's last session, which the server may not have missed yet.
func (l *lane) endLast(ctx context.Context) {
	if l.holder == "" {
		return
	}
	if _, err := l.conn.Exec(ctx, endLastSQL, l.settings.Queue, l.number, l.holder); err != nil {
		l.log.DebugContext(ctx, "the lane's last session could not be ended", slog.String("error", err.Error()))
	}
}
