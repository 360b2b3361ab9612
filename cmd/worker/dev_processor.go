package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/url"
	"time"

	"github.com/lastseat/lastseat/internal/cli"
	"github.com/lastseat/lastseat/internal/config"
	"github.com/lastseat/lastseat/internal/fakestripe"
)

// fakeProcessor are the flags of worker dev for a card processor that moves no money.
type fakeProcessor struct{ address, webhooks string }

// The secrets of the fake: they open nothing.
const (
	fakeKey           = "sk_test_fake"
	fakeWebhookSecret = "whsec_of_the_fake_processor"
)

func (f fakeProcessor) check() error {
	if f.address == "" {
		if f.webhooks != "" {
			return cli.Usage("--processor-webhooks is for a --processor")
		}
		return nil
	}
	if host, _, err := net.SplitHostPort(f.address); err != nil || !loopback(host) {
		return cli.Usage("--processor is %q: an address of this machine, 127.0.0.1:12111", f.address)
	}
	if to, err := url.Parse(f.webhooks); f.webhooks != "" && (err != nil || to.Host == "") {
		return cli.Usage("--processor-webhooks is %q: a URL, http://127.0.0.1:12112/", f.webhooks)
	}
	return nil
}

// listen makes the worker of a configuration call the processor, if there is to be one, unless it has another.
func (f fakeProcessor) listen(ctx context.Context, c *config.Config) (net.Listener, error) {
	if f.address == "" {
		return nil, nil
	}
	listener, err := (&net.ListenConfig{}).Listen(ctx, "tcp", f.address)
	if err != nil {
		return nil, fmt.Errorf("the card processor: %w: choose another address with --processor", err)
	}
	if c.StripeKey == "" {
		c.StripeKey, c.StripeURL = fakeKey, "http://"+listener.Addr().String()
	}
	return listener, nil
}

// serve serves the processor until ctx is done, if there is one.
func (f fakeProcessor) serve(ctx context.Context, listener net.Listener, say io.Writer, logger *slog.Logger) error {
	if listener == nil {
		return nil
	}
	fake := fakestripe.New(fakestripe.Options{
		WebhookURL: f.webhooks, WebhookSecret: fakeWebhookSecret, Logger: logger,
	})
	defer fake.Close()
	server := &http.Server{Handler: guardLocal("the card processor", fake), ReadHeaderTimeout: 10 * time.Second}
	defer context.AfterFunc(ctx, func() { _ = server.Close() })()
	_, _ = fmt.Fprintf(say, `A card processor is up that speaks Stripe's API and moves no money:
  export STRIPE_URL='http://%[1]s' STRIPE_KEY='%[2]s' STRIPE_WEBHOOK_SECRET='%[3]s'
Break its next request after it was carried out, and look at what it has really charged:
  curl http://%[1]s/_fake/faults -d '{"fault": "error_after"}'
  curl http://%[1]s/_fake/charges
`, listener.Addr(), fakeKey, fakeWebhookSecret)
	if err := server.Serve(listener); !errors.Is(err, http.ErrServerClosed) {
		return fmt.Errorf("the card processor: %w", err)
	}
	return nil
}
