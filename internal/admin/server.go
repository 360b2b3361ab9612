package admin

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/url"
	"strings"
	"sync"

	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/lastseat/lastseat/internal/httplimit"
)

// Options of a [Server].
type Options struct {
	Address       string // HOST:PORT
	ViewerToken   string
	OperatorToken string
	CertFile      string // with KeyFile: TLS
	KeyFile       string
	ProxyURL      string // where browsers reach the server through a proxy; its path is the server's subpath
	Version       string
	Logger        *slog.Logger

	// Examine says whether requests are being settled, and what is wrong or worth knowing.
	Examine func(context.Context) ([]Finding, error)
	// Pool is the server's own, of the database that the pages show.
	Pool *pgxpool.Pool
	// RiverPool is River UI's own, so that it keeps no session from the pages.
	RiverPool *pgxpool.Pool
	HideArgs  bool // viewers don't see the arguments of jobs
	// Audit says what the continuous audit has found; nil: it is turned off.
	Audit func() AuditStatus
	// Metrics answers /metrics.
	Metrics http.Handler
}

// The limits of the server, beside those of its connections.
const (
	mostAtATime = 8 // requests that may use the database; the others wait their turn
	mostBody    = 64 << 10
)

// Server is the worker's own server.
type Server struct {
	options Options
	guard   guard
	ready   *readiness
	slots   chan struct{}
	live    *live
	river   *riverPages
	http    *http.Server
	ln      net.Listener
}

// Listen makes a server that listens; nobody is answered before [Server.Serve].
func Listen(ctx context.Context, options Options) (*Server, error) {
	s := &Server{
		options: options, slots: make(chan struct{}, mostAtATime), live: newLive(options.Pool),
		ready: newReadiness(options.Examine),
	}
	plain, err := (&net.ListenConfig{}).Listen(ctx, "tcp", options.Address)
	if err != nil {
		return nil, fmt.Errorf("LASTSEAT_ADMIN_ADDR: %w: choose another address", err)
	}
	limited := httplimit.Limit(plain)
	s.ln = limited
	names, err := s.useTLS()
	if err != nil {
		_ = plain.Close()
		return nil, err
	}
	proxy, err := url.Parse(options.ProxyURL)
	if err != nil {
		_ = plain.Close()
		return nil, fmt.Errorf("LASTSEAT_ADMIN_PROXY_URL: %w", err)
	}
	s.guard = guard{
		viewer: digest(options.ViewerToken), operator: digest(options.OperatorToken),
		open: options.ViewerToken == "" && options.ProxyURL == "" && isLoopback(plain.Addr()),
		tls:  options.CertFile != "", names: names, proxy: proxy, subpath: strings.TrimRight(proxy.EscapedPath(), "/"),
	}
	if s.river, err = newRiverPages(options.RiverPool, s.guard.subpath); err != nil {
		_ = plain.Close()
		return nil, err
	}
	s.http = httplimit.NewServer(limited, s.handler())
	return s, nil
}

// useTLS has the listener speak TLS, if there is a certificate, and returns what tells its names.
func (s *Server) useTLS() (names func(string) bool, err error) {
	if s.options.CertFile == "" {
		return func(string) bool { return false }, nil
	}
	pair, err := tls.LoadX509KeyPair(s.options.CertFile, s.options.KeyFile)
	if err != nil {
		return nil, fmt.Errorf("LASTSEAT_ADMIN_TLS_CERT and LASTSEAT_ADMIN_TLS_KEY: %w", err)
	}
	s.ln = tls.NewListener(s.ln, &tls.Config{
		Certificates: []tls.Certificate{pair}, MinVersion: tls.VersionTLS12, NextProtos: []string{"http/1.1"},
	})
	return func(host string) bool { return pair.Leaf.VerifyHostname(host) == nil }, nil
}

func isLoopback(address net.Addr) bool {
	tcp, ok := address.(*net.TCPAddr)
	return ok && tcp.IP.IsLoopback()
}

// URL is where the server is reached on this machine.
func (s *Server) URL() string {
	scheme := "http"
	if s.guard.tls {
		scheme = "https"
	}
	return scheme + "://" + s.ln.Addr().String() + s.guard.subpath
}

// Serve answers until ctx is done.
func (s *Server) Serve(ctx context.Context) error {
	defer context.AfterFunc(ctx, func() { _ = s.http.Close() })()
	looking, stop := context.WithCancel(ctx)
	var looks sync.WaitGroup
	looks.Go(func() { s.live.run(looking) })
	looks.Go(func() { s.ready.run(looking) })
	go s.river.run(looking)
	defer func() { stop(); looks.Wait() }()
	if err := s.http.Serve(s.ln); !errors.Is(err, http.ErrServerClosed) {
		return fmt.Errorf("admin server: %w", err)
	}
	return nil
}

func (s *Server) handler() http.Handler {
	mux := http.NewServeMux()
	mux.Handle("GET /livez", http.HandlerFunc(livez))
	mux.Handle("GET /readyz", http.HandlerFunc(s.readyz))
	mux.Handle("GET /version", s.guard.viewers(http.HandlerFunc(s.version)))
	mux.Handle("GET /metrics", s.guard.viewers(s.limited(s.options.Metrics)))
	s.pages(mux)
	s.addRiver(mux)
	return s.guard.all(mux)
}

// limited has no more requests at the database than there are slots. The others wait for one, as long as they like.
func (s *Server) limited(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		select {
		case s.slots <- struct{}{}:
			defer func() { <-s.slots }()
			next.ServeHTTP(w, r)
		case <-r.Context().Done():
		}
	})
}
