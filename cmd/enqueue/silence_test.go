package main

import (
	"bytes"
	"io"
	"net"
	"net/url"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/lastseat/lastseat/internal/clitest"
)

// swallowing returns the URL of a proxy to the server of base. From the moment at which a client says trigger, its
// connection stays open and carries no answer any more; the server hears all. An empty trigger: from the beginning.
func swallowing(t *testing.T, base, trigger string) string {
	t.Helper()
	return proxied(t, base, func(client net.Conn, server string) {
		swallow(client, server, []byte(strings.ToLower(trigger)))
	})
}

// proxied returns the URL of a proxy to the server of base, which serves each connection with serve.
func proxied(t *testing.T, base string, serve func(client net.Conn, server string)) string {
	t.Helper()
	at, err := url.Parse(base)
	if err != nil {
		t.Fatal(err)
	}
	listener, err := new(net.ListenConfig).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = listener.Close() })
	server := at.Host
	at.Host = listener.Addr().String()
	go func() {
		for {
			client, err := listener.Accept()
			if err != nil {
				return
			}
			go serve(client, server)
		}
	}()
	return at.String()
}

func swallow(client net.Conn, server string, trigger []byte) {
	defer func() { _ = client.Close() }()
	upstream, err := new(net.Dialer).Dial("tcp", server)
	if err != nil {
		return
	}
	defer func() { _ = upstream.Close() }()
	var silent atomic.Bool
	go func() {
		buf := make([]byte, 64<<10)
		for {
			n, err := upstream.Read(buf)
			if err != nil {
				return // the client's end stays open
			}
			if !silent.Load() {
				_, _ = client.Write(buf[:n])
			}
		}
	}()
	buf := make([]byte, 64<<10)
	for {
		n, err := client.Read(buf)
		if err != nil {
			return
		}
		if bytes.Contains(bytes.ToLower(buf[:n]), trigger) {
			silent.Store(true)
		}
		if _, err := upstream.Write(buf[:n]); err != nil {
			_, _ = io.Copy(io.Discard, client)
			return
		}
	}
}

// inTime runs a command that would otherwise wait for ever.
func inTime(t *testing.T, databaseURL string, args ...string) clitest.Result {
	t.Helper()
	ended := make(chan clitest.Result, 1)
	go func() { ended <- runIn(t, databaseURL, strings.NewReader(oneRow), args...) }()
	select {
	case got := <-ended:
		return got
	case <-time.After(clitest.Patience):
		t.Fatalf("%q waits for ever", args)
		return clitest.Result{}
	}
}

// A network that swallows the answers keeps no command waiting for longer than its --wait. What came of the request
// is unknown then, exit code 75, and the same command again makes it once.
func TestSilence(t *testing.T) {
	t.Parallel()
	s := newShop(t)
	s.transfer(t, "pending").Succeeds(t)
	asking := func(key string) []string {
		return []string{"transfer", "--key", key, "--from", "bank", "--to", "ada", "--amount", "1.00", "--currency", "EUR",
			"--wait", "1s"}
	}
	for name, c := range map[string]struct {
		trigger string
		args    []string
		code    int
		says    string
	}{
		"the reply to COMMIT": {"commit\x00", asking("a"), 75, "the reply to COMMIT was lost"},
		"before COMMIT":       {"lastseat.enqueue(", asking("b"), 75, "the database has not answered for 1s"},
		"while it waits":      {"listen", asking("c"), 75, "again"},
		"wait":                {"listen", []string{"wait", "pending", "--timeout", "1s"}, 75, "again"},
		"wait, later":         {"lastseat.outcomes(", []string{"wait", "pending", "--timeout", "1s"}, 75, "again"},
		"from the beginning":  {"", asking("d"), 69, "can't be reached"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			got := inTime(t, swallowing(t, s.url, c.trigger), c.args...)
			got.Fails(t, c.code, c.says)
			if c.args[0] != "transfer" {
				return
			}
			again := s.enqueue(t, c.args[:len(c.args)-2]...) // without --wait
			again.Succeeds(t)
			s.asked(t, c.args[2], 1)
		})
	}
}

// A link on which each answer comes just in time does not make --wait last many times as long: the command gives up in
// the middle of asking, and the same command again asks once.
func TestWaitIsForAll(t *testing.T) {
	t.Parallel()
	s := newShop(t)
	args := []string{"transfer", "--key", "k", "--from", "bank", "--to", "ada", "--amount", "1.00", "--currency", "EUR"}
	slow := proxied(
		t,
		s.url,
		func(client net.Conn, server string) { delay(client, server, "begin", 700*time.Millisecond) },
	)
	got := inTime(t, slow, append(args, "--wait", "1s")...)
	got.Fails(t, 75, "has not answered", "run the same command again")
	s.enqueue(t, args...).Succeeds(t)
	s.asked(t, "k", 1)
}

// delay passes on what client and server say. From the moment at which the client says trigger, each answer takes long.
func delay(client net.Conn, server, trigger string, long time.Duration) {
	defer func() { _ = client.Close() }()
	upstream, err := new(net.Dialer).Dial("tcp", server)
	if err != nil {
		return
	}
	defer func() { _ = upstream.Close() }()
	var slow atomic.Bool
	go func() {
		heard := readerFunc(func(b []byte) (int, error) {
			n, err := client.Read(b)
			if bytes.Contains(bytes.ToLower(b[:n]), []byte(trigger)) {
				slow.Store(true)
			}
			return n, err
		})
		_, _ = io.Copy(upstream, heard)
		_ = upstream.Close()
	}()
	buf := make([]byte, 64<<10)
	for {
		n, err := upstream.Read(buf)
		if err != nil {
			return
		}
		if slow.Load() {
			time.Sleep(long)
		}
		if _, err := client.Write(buf[:n]); err != nil {
			return
		}
	}
}

type readerFunc func(b []byte) (int, error)

func (f readerFunc) Read(b []byte) (int, error) { return f(b) }
