package outbox_test

import (
	"bytes"
	"context"
	"fmt"
	"net"
	"net/url"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/lastseat/lastseat/internal/testdb"
	"github.com/lastseat/lastseat/outbox"
)

// asWorker has the bench's workers log in as a role of its own, with a worker's rights.
func (b *bench) asWorker() (role string) {
	b.t.Helper()
	at := testdb.As(b.t, b.pool, "lastseat_worker")
	parsed, err := url.Parse(at)
	if err != nil {
		b.t.Fatal(err)
	}
	role = parsed.User.Username()
	b.exec(fmt.Sprintf(`GRANT ALL ON public.toy, public.toy_n_seq TO %q`, role))
	b.url = at
	b.workers = testdb.Pool(b.t, at)
	b.t.Cleanup(func() {
		_, err := b.pool.Exec(context.Background(), fmt.Sprintf(`REVOKE ALL ON public.toy, public.toy_n_seq FROM %q`, role))
		if err != nil {
			b.t.Error(err)
		}
	})
	return role
}

const endLanesSQL = `SELECT pg_terminate_backend(pid) FROM pg_stat_activity
	WHERE datname = current_database() AND application_name = 'lastseat lane'`

// No login is possible for a moment: the role may not log in (28000), or has as many connections as it may (53300). The
// worker goes on when it is over; in the second case at once, with a connection that was River's.
func TestNoLoginForAMoment(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct{ forbid, allow, says string }{
		"may not log in":       {`ALTER ROLE %q NOLOGIN`, `ALTER ROLE %q LOGIN`, "28000"},
		"too many connections": {`ALTER ROLE %q CONNECTION LIMIT 0`, "", "53300"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := newBench(t)
			role, told := b.asWorker(), &lines{}
			b.start(outbox.Settings{Logger: told.logger()})
			b.enqueue("a")
			b.eventually("it works", func() bool { return len(b.played()) == 1 })
			b.exec(fmt.Sprintf(c.forbid, role))
			b.exec(endLanesSQL)
			b.enqueue("b")
			b.eventually("the log says why", func() bool { return told.with(c.says, "") })
			if c.allow != "" {
				b.exec(fmt.Sprintf(c.allow, role))
			}
			b.eventually("it goes on", func() bool { return slices.Equal(b.played(), []string{"a", "b"}) })
			b.enqueue("c")
			b.eventually("it goes on and on", func() bool { return len(b.played()) == 3 })
		})
	}
}

// renamed asks for another database than the one that it is told to.
type renamed struct {
	net.Conn
	database string
	on       *atomic.Bool
}

func (c *renamed) Write(p []byte) (int, error) {
	if asked := []byte("database\x00" + c.database + "\x00"); c.on.Load() && bytes.Contains(p, asked) {
		other := []byte("database\x00" + strings.Repeat("x", len(c.database)) + "\x00")
		if _, err := c.Conn.Write(bytes.Replace(p, asked, other, 1)); err != nil {
			return 0, err
		}
		return len(p), nil
	}
	return c.Conn.Write(p)
}

// The database is not there for a moment (3D000), as while it is restored under another name and renamed.
func TestNoDatabaseForAMoment(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	var gone atomic.Bool
	told, away := &lines{}, *b
	away.workers = wrappedPool(b, func(conn net.Conn) net.Conn {
		return &renamed{Conn: conn, database: b.pool.Config().ConnConfig.Database, on: &gone}
	})
	away.start(outbox.Settings{Logger: told.logger()})
	b.enqueue("a")
	b.eventually("it works", func() bool { return len(b.played()) == 1 })
	gone.Store(true)
	b.exec(endLanesSQL)
	b.enqueue("b")
	b.eventually("the log says why", func() bool { return told.with("3D000", "") })
	gone.Store(false)
	b.eventually("it goes on", func() bool { return slices.Equal(b.played(), []string{"a", "b"}) })
}

// A session that something has spoilt, so that each batch fails for a reason that no job explains: after three of them
// the lane goes on with another session.
func TestSpoiltSession(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	b.settler.set(func(ctx context.Context, tx pgx.Tx, job outbox.Job) error {
		if job.Key == "a" {
			_, err := tx.Exec(ctx, `SELECT set_config('test.spoilt', 'on', false)`)
			return err
		}
		_, err := tx.Exec(ctx, `DO $$ BEGIN IF current_setting('test.spoilt', true) = 'on' THEN
			RAISE 'no room' USING ERRCODE = '53100'; END IF; END $$`)
		return err
	})
	b.enqueue("a")
	b.start(outbox.Settings{})
	b.eventually("the session is spoilt", func() bool { return len(b.played()) == 1 })
	b.enqueue("b")
	b.eventually("the other is played", func() bool { return len(b.played()) == 2 })
	if o := b.outcome("b"); o.Attempts != 1 {
		t.Errorf("%+v", o)
	}
}

// stuckOpen swallows what is said from a certain message on, and stays open when it is closed: something in between has
// not told the server.
type stuckOpen struct{ swallower }

func (*stuckOpen) Close() error { return nil }

// The session whose last words were swallowed while it took the lane still holds the lane's lock. The next one ends it.
func TestSessionThatIsStuckInTheMiddle(t *testing.T) {
	t.Parallel()
	for _, text := range []string{"begin", "commit\x00"} {
		t.Run(text, func(t *testing.T) {
			t.Parallel()
			b := newBench(t)
			var left atomic.Int32
			left.Store(1)
			b.enqueue("a", "b")
			stuck := *b
			stuck.workers = wrappedPool(b, func(conn net.Conn) net.Conn {
				t.Cleanup(func() { _ = conn.Close() })
				return &stuckOpen{swallower{Conn: conn, text: text, left: &left}}
			})
			stuck.start(outbox.Settings{Poll: 100 * time.Millisecond, ReplyLimit: 400 * time.Millisecond})
			b.eventually("both are played", func() bool { return slices.Equal(b.played(), []string{"a", "b"}) })
			if left.Load() > 0 {
				t.Error("nothing was swallowed")
			}
		})
	}
}
