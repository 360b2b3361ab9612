// Package webhooks is the worker's server for what card processors tell. Each has a path of its own,
// /webhooks/PROCESSOR; a [processor.Receiver] answers there.
package webhooks

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"time"

	"github.com/lastseat/lastseat/internal/httplimit"
	"github.com/lastseat/lastseat/processor"
)

// Path is where the webhooks of a processor come in.
func Path(name string) string { return "/webhooks/" + name }

// Server takes webhooks in.
type Server struct {
	http *http.Server
	ln   net.Listener
}

// Listen makes a server that listens; nobody is answered before [Server.Serve]. The names of the receivers are their
// Source. An address without a host is of this machine only.
func Listen(ctx context.Context, address string, receivers ...processor.Receiver) (*Server, error) {
	host, port, err := net.SplitHostPort(address)
	if err == nil && host == "" {
		address = net.JoinHostPort("127.0.0.1", port)
	}
	plain, err := (&net.ListenConfig{}).Listen(ctx, "tcp", address)
	if err != nil {
		return nil, fmt.Errorf("LASTSEAT_WEBHOOK_ADDR: %w: choose another address", err)
	}
	mux := http.NewServeMux()
	for _, receiver := range receivers {
		logger := cmp.Or(receiver.Logger, slog.Default())
		receiver.Logger = slog.New(&sparing{Handler: logger.Handler(), refused: &refusals{}})
		mux.Handle("POST "+Path(receiver.Source), taking(receiver))
	}
	limited := httplimit.Limit(plain)
	return &Server{http: httplimit.NewServer(limited, mux), ln: limited}, nil
}

// taking has the connection of a webhook kept as soon as its signature is proven: strangers don't push it out.
func taking(receiver processor.Receiver) http.Handler {
	verify := receiver.Verify
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		mine := receiver
		mine.Verify = func(header http.Header, body []byte, now time.Time) (processor.Event, error) {
			event, err := verify(header, body, now)
			if err == nil {
				httplimit.Keep(r)
			}
			return event, err
		}
		mine.ServeHTTP(w, r)
	})
}

// URL is where the server is reached on this machine.
func (s *Server) URL() string { return "http://" + s.ln.Addr().String() }

// Serve answers until ctx is done. Then it takes no more webhooks, and finishes those in hand for so long at most.
func (s *Server) Serve(ctx context.Context, patience time.Duration) error {
	finished := make(chan struct{})
	undo := context.AfterFunc(ctx, func() {
		defer close(finished)
		finishing, cancel := context.WithTimeout(context.WithoutCancel(ctx), patience)
		defer cancel()
		if s.http.Shutdown(finishing) != nil {
			_ = s.http.Close()
		}
	})
	err := s.http.Serve(s.ln)
	if errors.Is(err, http.ErrServerClosed) {
		<-finished
		return nil
	}
	undo()
	return fmt.Errorf("webhook server: %w", err)
}
