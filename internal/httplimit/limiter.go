package httplimit

import (
	"container/list"
	"context"
	"net"
	"net/http"
	"sync"
)

// Limiter is a listener that keeps at most so many connections. Where one more comes, the oldest that belongs to nobody
// known is closed for it: strangers push out each other, not somebody who has shown a token.
type Limiter struct {
	net.Listener
	most int

	mu    sync.Mutex
	conns list.List // *conn of nobody known, the oldest first
	kept  int
}

// conn is a connection of a Limiter.
type conn struct {
	net.Conn
	limiter *Limiter
	place   *list.Element // in Limiter.conns, unless it is kept or closed
	kept    bool
	closed  bool
}

// Limit has a listener keep at most [MostConnections].
func Limit(listener net.Listener) *Limiter {
	return &Limiter{Listener: listener, most: MostConnections}
}

// Open is how many connections are open, and how many of them are kept.
func (l *Limiter) Open() (all, kept int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.conns.Len() + l.kept, l.kept
}

// Accept implements net.Listener.
func (l *Limiter) Accept() (net.Conn, error) {
	accepted, err := l.Listener.Accept()
	if err != nil {
		return nil, err
	}
	c := &conn{Conn: accepted, limiter: l}
	var oldest *conn
	l.mu.Lock()
	c.place = l.conns.PushBack(c)
	if l.conns.Len()+l.kept > l.most {
		oldest, _ = l.conns.Front().Value.(*conn)
	}
	l.mu.Unlock()
	if oldest != nil {
		_ = oldest.Close()
	}
	return c, nil
}

// Close implements net.Conn.
func (c *conn) Close() error {
	l := c.limiter
	l.mu.Lock()
	switch {
	case c.closed:
	case c.kept:
		l.kept--
	default:
		l.conns.Remove(c.place)
	}
	c.closed = true
	l.mu.Unlock()
	return c.Conn.Close()
}

type connKey struct{}

// connContext has handlers find the connection.
func (l *Limiter) connContext(ctx context.Context, c net.Conn) context.Context {
	if wrapped, ok := c.(interface{ NetConn() net.Conn }); ok { // TLS
		c = wrapped.NetConn()
	}
	return context.WithValue(ctx, connKey{}, c)
}

// Keep says that a request's connection belongs to somebody known. Half of the connections at most are kept, so that a
// known one that opens too many shuts out nobody.
func Keep(r *http.Request) {
	c, ok := r.Context().Value(connKey{}).(*conn)
	if !ok {
		return
	}
	l := c.limiter
	l.mu.Lock()
	defer l.mu.Unlock()
	if !c.kept && !c.closed && l.kept < l.most/2 {
		c.kept = true
		l.kept++
		l.conns.Remove(c.place)
	}
}
