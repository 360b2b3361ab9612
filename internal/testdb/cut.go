package testdb

import (
	"bytes"
	"net"
	"sync/atomic"
)

// CutConn is a connection that breaks at a COMMIT: before it is sent, or late, so that only the reply is lost. The
// client can't tell the two apart.
type CutConn struct {
	net.Conn
	Late bool

	asked atomic.Bool
}

func (c *CutConn) Write(p []byte) (int, error) {
	if bytes.Contains(p, []byte("commit\x00")) {
		if !c.Late {
			_ = c.Close()
			return 0, net.ErrClosed
		}
		c.asked.Store(true)
	}
	return c.Conn.Write(p)
}

// Read may have begun before the COMMIT was written: pgx reads beside a write that takes long.
func (c *CutConn) Read(p []byte) (int, error) {
	n, err := c.Conn.Read(p)
	if c.asked.Load() { // the server answers, so it has committed
		_ = c.Close()
		return 0, net.ErrClosed
	}
	return n, err
}
