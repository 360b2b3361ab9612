package e2e

import (
	"bytes"
	"io"
	"net"
	"net/url"
	"sync"
	"testing"
)

// proxy stands between a program and Postgres: a fixed address for a server that comes back on another port, and a
// cable that can be cut.
type proxy struct {
	listener net.Listener

	mu      sync.Mutex
	target  string // "": nobody is there
	pairs   map[net.Conn]net.Conn
	commits int // the reply to the commits'th COMMIT from now is lost, and its connection with it; 0: to none
}

func newProxy(t *testing.T) *proxy {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	p := &proxy{listener: listener, pairs: make(map[net.Conn]net.Conn)}
	t.Cleanup(func() { _ = listener.Close(); p.cut() })
	go func() {
		for {
			client, err := listener.Accept()
			if err != nil {
				return
			}
			go p.serve(client)
		}
	}()
	return p
}

// to makes the proxy lead to the server of a URL, and returns the URL that leads through it.
func (p *proxy) to(t *testing.T, server string) string {
	t.Helper()
	at, err := url.Parse(server)
	if err != nil {
		t.Fatal(err)
	}
	p.mu.Lock()
	p.target = at.Host
	p.mu.Unlock()
	at.Host = p.listener.Addr().String()
	return at.String()
}

// cut breaks every connection, and lets nobody in until the next call of to.
func (p *proxy) cut() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.target = ""
	for client, server := range p.pairs {
		_, _ = client.Close(), server.Close()
	}
}

func (p *proxy) loseReply(commits int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.commits = commits
}

func (p *proxy) serve(client net.Conn) {
	defer func() { _ = client.Close() }()
	p.mu.Lock()
	target := p.target
	p.mu.Unlock()
	if target == "" {
		return
	}
	server, err := net.Dial("tcp", target)
	if err != nil {
		return
	}
	p.mu.Lock()
	if p.target == "" { // cut meanwhile
		_ = client.Close()
	}
	p.pairs[client] = server
	p.mu.Unlock()
	defer func() {
		p.mu.Lock()
		delete(p.pairs, client)
		p.mu.Unlock()
	}()
	lost := make(chan struct{})
	go func() {
		defer func() { _ = server.Close() }()
		p.forward(client, server, lost)
	}()
	buf := make([]byte, 32<<10)
	for {
		n, err := server.Read(buf)
		select {
		case <-lost:
			_ = server.Close()
			return
		default:
		}
		if _, werr := client.Write(buf[:n]); err != nil || werr != nil {
			return
		}
	}
}

// forward passes on what the client says. A COMMIT whose reply is to be lost closes lost before the server hears it.
func (p *proxy) forward(client, server net.Conn, lost chan<- struct{}) {
	buf := make([]byte, 32<<10)
	for {
		n, err := client.Read(buf)
		if bytes.Equal(bytes.ToLower(buf[:n]), append([]byte{'q', 0, 0, 0, 11}, "commit\x00"...)) {
			p.mu.Lock()
			if p.commits > 0 {
				if p.commits--; p.commits == 0 {
					close(lost)
				}
			}
			p.mu.Unlock()
		}
		if _, werr := server.Write(buf[:n]); err != nil || werr != nil {
			return
		}
	}
}

// slowly is a reader that has what is written to it, and ends when it is closed.
func slowly(t *testing.T) (io.Reader, io.WriteCloser) {
	t.Helper()
	r, w := io.Pipe()
	t.Cleanup(func() { _ = w.Close() })
	return r, w
}
