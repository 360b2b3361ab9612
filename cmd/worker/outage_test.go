package main

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/url"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/lastseat/lastseat/internal/cli"
	"github.com/lastseat/lastseat/internal/clitest"
	"github.com/lastseat/lastseat/internal/pgsession"
	"github.com/lastseat/lastseat/internal/testdb"
)

// severable is a proxy to a database that can be cut and mended.
type severable struct {
	t        *testing.T
	passes   func() // if not nil, it is called before a connection is made and before a message is passed to the server
	server   string
	address  string
	mu       sync.Mutex
	listener net.Listener
	conns    []net.Conn
}

func newSeverable(t *testing.T, base string, passes func()) (*severable, string) {
	t.Helper()
	at, err := url.Parse(base)
	if err != nil {
		t.Fatal(err)
	}
	s := &severable{t: t, passes: passes, server: at.Host, address: "127.0.0.1:0"}
	s.mend()
	t.Cleanup(s.cut)
	at.Host = s.address
	return s, at.String()
}

func (s *severable) mend() {
	s.t.Helper()
	listener, err := new(net.ListenConfig).Listen(context.Background(), "tcp", s.address)
	if err != nil {
		s.t.Fatal(err)
	}
	s.mu.Lock()
	s.listener, s.address = listener, listener.Addr().String()
	s.mu.Unlock()
	go func() {
		for {
			client, err := listener.Accept()
			if err != nil {
				return
			}
			if s.passes != nil {
				s.passes()
			}
			upstream, err := new(net.Dialer).Dial("tcp", s.server)
			if err != nil {
				_ = client.Close()
				return
			}
			s.mu.Lock()
			s.conns = append(s.conns, client, upstream)
			s.mu.Unlock()
			go func() { _, _ = io.Copy(client, upstream); _ = client.Close() }()
			go func() { _, _ = io.Copy(passing{upstream, s.passes}, client); _ = upstream.Close() }()
		}
	}()
}

// passing is a connection that tells of each message before it is written.
type passing struct {
	net.Conn
	passes func()
}

// Write makes io.Copy read and write a message at a time.
func (p passing) Write(message []byte) (int, error) {
	if p.passes != nil {
		p.passes()
	}
	return p.Conn.Write(message)
}

func (s *severable) cut() {
	s.mu.Lock()
	defer s.mu.Unlock()
	_ = s.listener.Close()
	for _, conn := range s.conns {
		_ = conn.Close()
	}
	s.conns = nil
}

// An outage of the database is one line in the log when it begins and one when it is over. Each part of River reports
// it as well, again and again, and the lane twice a second.
func TestOutageInTheLog(t *testing.T) {
	t.Parallel()
	proxy, proxied := newSeverable(t, testdb.New(t), nil)
	var out, log clitest.Buffer
	ctx, stop := context.WithCancel(t.Context())
	ended := make(chan int, 1)
	go func() {
		ended <- run(ctx, []string{"run"}, cli.Streams{In: strings.NewReader(""), Out: &out, Err: &log,
			Environ: []string{"DATABASE_URL=" + proxied}})
	}()
	taken := func(times int) func() bool {
		return func() bool { return strings.Count(log.String(), `"lane taken"`) == times }
	}
	clitest.Eventually(t, "the lane to be taken", taken(1))
	before := len(log.String())
	proxy.cut()
	time.Sleep(4500 * time.Millisecond) // the outage, not a wait for something
	proxy.mend()
	clitest.Eventually(t, "the lane to be taken again", taken(2))
	clitest.Eventually(t, "the end of the outage", func() bool { return strings.Contains(log.String(), "answers again") })
	time.Sleep(2 * time.Second) // for River's parts to say what they have met
	said := strings.Split(strings.TrimSpace(log.String()[before:]), "\n")
	if len(said) != 3 {
		t.Errorf("%d lines, want one at the beginning, one at the end, and that the lane is taken:\n%s", len(said),
			strings.Join(said, "\n"))
	}
	stop()
	if code := <-ended; code != 0 {
		t.Errorf("exit code %d: %s", code, log.String())
	}
}

// A worker that is told to stop while it starts has not failed, at whatever message to the server it is: every third
// is tried.
func TestStopWhileStarting(t *testing.T) {
	t.Parallel()
	base := testdb.New(t)
	for last, began := 1, false; !began; last += 3 {
		ctx, stop := context.WithCancel(t.Context())
		var messages atomic.Int64
		_, proxied := newSeverable(t, base, func() {
			if messages.Add(1) == int64(last) {
				stop()
			}
		})
		var out, log clitest.Buffer
		stopAll := time.AfterFunc(time.Minute, stop)
		code := run(ctx, []string{"run"}, cli.Streams{In: strings.NewReader(""), Out: &out, Err: &log,
			Environ: []string{"DATABASE_URL=" + proxied}})
		stopAll.Stop()
		stop()
		if code != 0 || !strings.Contains(out.String(), "0 applied") || strings.Contains(log.String(), "worker: ") {
			t.Errorf("stopped at message %d: exit code %d, %q, %s", last, code, out.String(), log.String())
		}
		began = strings.Contains(log.String(), `"lane taken"`)
	}
}

// An outage is not over while nobody can log in, even though a session of before answers.
func TestLogInTakesANewSession(t *testing.T) {
	t.Parallel()
	admin := open(t, testdb.New(t))
	login := testdb.As(t, admin, "lastseat_worker")
	pool := testdb.Pool(t, login)
	if err := pgsession.LogIn(t.Context(), pool); err != nil {
		t.Fatal(err)
	}
	testdb.Exec(t, admin, fmt.Sprintf(`ALTER ROLE %q NOLOGIN`, pool.Config().ConnConfig.User))
	if err := pool.Ping(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := pgsession.LogIn(t.Context(), pool); err == nil {
		t.Error("nobody can log in, and it says that somebody can")
	}
}
