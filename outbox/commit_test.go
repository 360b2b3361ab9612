package outbox_test

import (
	"bytes"
	"context"
	"errors"
	"net"
	"slices"
	"sync/atomic"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgproto3"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/lastseat/lastseat/outbox"
)

func sqlState(err error) string {
	pgErr := (*pgconn.PgError)(nil)
	if errors.As(err, &pgErr) {
		return pgErr.Code
	}
	return ""
}

// cutter breaks a connection around a COMMIT: before it is sent, so that the server never sees it, or after, so that
// only the reply is lost. The client can't tell the two apart.
type cutter struct {
	left   atomic.Int32 // cuts to come
	late   bool         // after the COMMIT has been sent
	answer []byte       // what comes instead of the reply; nil: nothing does
	spared int          // COMMITs of each connection that are let by: its first one takes the lane
}

type cutConn struct {
	net.Conn
	*cutter
	commits int
	asked   atomic.Bool   // a COMMIT whose answer is lost is on its way
	reply   *bytes.Reader // what is left of the answer, once the connection is cut
}

// Read may have begun before the COMMIT was written: pgx reads beside a write that takes long.
func (c *cutConn) Read(p []byte) (int, error) {
	if c.reply != nil {
		return c.reply.Read(p)
	}
	n, err := c.Conn.Read(p)
	if !c.asked.Load() {
		return n, err
	}
	// The server answers, so it has committed; the answer goes nowhere.
	_ = c.Close()
	if c.answer == nil {
		return 0, net.ErrClosed
	}
	c.reply = bytes.NewReader(c.answer)
	return c.reply.Read(p)
}

func (c *cutConn) Write(p []byte) (int, error) {
	if !bytes.Contains(p, []byte("commit\x00")) {
		return c.Conn.Write(p)
	}
	if c.commits++; c.commits <= c.spared || c.left.Add(-1) < 0 {
		return c.Conn.Write(p)
	}
	if c.late {
		c.asked.Store(true)
		return c.Conn.Write(p)
	}
	_ = c.Close()
	if c.answer != nil {
		c.reply = bytes.NewReader(c.answer)
		return len(p), nil
	}
	return 0, net.ErrClosed
}

func (c *cutter) pool(b *bench) *pgxpool.Pool {
	return wrappedPool(b, func(conn net.Conn) net.Conn { return &cutConn{Conn: conn, cutter: c} })
}

// hookConn calls do just before it sends a message with a certain text in it.
type hookConn struct {
	net.Conn
	text string
	do   func()
}

func (c *hookConn) Write(p []byte) (int, error) {
	if bytes.Contains(p, []byte(c.text)) {
		c.do()
	}
	return c.Conn.Write(p)
}

func hookedPool(b *bench, text string, do func()) *pgxpool.Pool {
	return wrappedPool(b, func(conn net.Conn) net.Conn { return &hookConn{Conn: conn, text: text, do: do} })
}

// wrappedPool is a pool whose connections go through wrap.
func wrappedPool(b *bench, wrap func(net.Conn) net.Conn) *pgxpool.Pool {
	config, err := pgxpool.ParseConfig(b.url)
	if err != nil {
		b.t.Fatal(err)
	}
	dial := config.ConnConfig.DialFunc
	config.ConnConfig.DialFunc = func(ctx context.Context, network, addr string) (net.Conn, error) {
		conn, err := dial(ctx, network, addr)
		if err != nil {
			return nil, err
		}
		return wrap(conn), nil
	}
	pool, err := pgxpool.NewWithConfig(b.t.Context(), config)
	if err != nil {
		b.t.Fatal(err)
	}
	b.t.Cleanup(pool.Close)
	return pool
}

func TestLostReplyToCommit(t *testing.T) {
	t.Parallel()
	for name, late := range map[string]bool{"committed": true, "not committed": false} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := newBench(t)
			want := numbered("k", 100)
			b.enqueue(want...)
			cut := &cutter{late: late, spared: 1}
			cut.left.Store(3)
			cutBench := *b
			cutBench.workers = cut.pool(b)
			stats := cutBench.drain(outbox.Settings{Batch: 10})
			if cut.left.Load() >= 0 {
				t.Fatal("no connection was cut")
			}
			if !slices.Equal(b.played(), want) {
				t.Errorf("played %v: each once, in order", b.played())
			}
			if n := one[int](b, `SELECT count(*) FROM lastseat.requests WHERE status = 'applied' AND attempts = 1`); n != 100 {
				t.Errorf("%d requests are applied", n)
			}
			if late && stats.Applied != 70 { // the worker does not count what it does not know
				t.Errorf("%+v", stats)
			}
		})
	}
}

// A lane whose COMMIT was cut off while it was taken is taken again, also by a drain.
func TestLostReplyToTheTaking(t *testing.T) {
	t.Parallel()
	for name, late := range map[string]bool{"committed": true, "not committed": false} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := newBench(t)
			b.enqueue("a", "b")
			cut := &cutter{late: late}
			cut.left.Store(2)
			cutBench := *b
			cutBench.workers = cut.pool(b)
			cutBench.drain(outbox.Settings{})
			if cut.left.Load() >= 0 || len(b.played()) != 2 {
				t.Errorf("%d cuts to come, played %v", cut.left.Load(), b.played())
			}
		})
	}
}

// The server's last word may be somebody else's, or come after the commit.
func TestCommitTellsAnUnknownEnd(t *testing.T) {
	t.Parallel()
	ended := func(severity, code, text string) []byte {
		message := pgproto3.ErrorResponse{Severity: severity, SeverityUnlocalized: severity, Code: code, Message: text}
		encoded, err := message.Encode(nil)
		if err == nil && severity == "ERROR" {
			encoded, err = (&pgproto3.ReadyForQuery{TxStatus: 'I'}).Encode(encoded)
		}
		if err != nil {
			t.Fatal(err)
		}
		return encoded
	}
	crashed := ended("FATAL", "08P01", "server conn crashed?") // so says PgBouncer
	for name, test := range map[string]struct {
		late   bool
		answer []byte
	}{
		"committed": {true, nil}, "not committed": {false, nil},
		"committed, a pooler's answer": {true, crashed}, "not committed, a pooler's answer": {false, crashed},
		"committed, terminated":       {true, ended("FATAL", "57P01", "terminating connection")},
		"committed, panicked":         {true, ended("PANIC", "53100", "could not write to file")},
		"committed, a pooler's error": {true, ended("ERROR", "08006", "server closed the connection")},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b, late := newBench(t), test.late
			cut := &cutter{late: late, answer: test.answer}
			cut.left.Store(1)
			tx, err := cut.pool(b).Begin(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			if _, err := outbox.Enqueue(t.Context(), tx, "a", toy{}); err != nil {
				t.Fatal(err)
			}
			if err := outbox.Commit(t.Context(), tx); !errors.Is(err, outbox.ErrCommitUnknown) {
				t.Errorf("commit: %v", err)
			}
			b.eventually("the server has ended the session", func() bool {
				return one[int](b, `SELECT count(*) FROM pg_stat_activity WHERE datname = current_database()
					AND state = 'idle in transaction'`) == 0
			})
			// Asking again is safe, and tells which it was.
			err = pgx.BeginFunc(t.Context(), b.pool, func(tx pgx.Tx) error {
				receipt, err := outbox.Enqueue(t.Context(), tx, "a", toy{})
				if receipt.Duplicate != late {
					t.Errorf("%+v", receipt)
				}
				return err
			})
			if err != nil {
				t.Error(err)
			}
		})
	}
}
