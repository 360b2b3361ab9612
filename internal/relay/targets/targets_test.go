package targets_test

import (
	"context"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"testing"

	"github.com/lastseat/lastseat/internal/clitest"
	"github.com/lastseat/lastseat/internal/relay"
	"github.com/lastseat/lastseat/internal/relay/relaytest"
	"github.com/lastseat/lastseat/internal/relay/targets"
	"github.com/lastseat/lastseat/internal/relay/webhook"
	"github.com/lastseat/lastseat/internal/testdb"
)

func TestMain(m *testing.M) { os.Exit(testdb.MainMigrated(m)) }

// Every scheme that a URL may have has a sink.
func TestOpen(t *testing.T) {
	t.Parallel()
	for _, url := range []string{
		"https://shop.example#secret=" + webhook.NewSecret(), "http://shop.example#allow=private&secret=" +
			webhook.NewSecret(),
		"nats://127.0.0.1:1", "tls://127.0.0.1:1", "kafka://127.0.0.1:1/outcomes", "kafka+tls://127.0.0.1:1/outcomes",
	} {
		named, err := relay.ParseTargets(url)
		if err != nil {
			t.Fatal(err)
		}
		sink, err := targets.Open(named[0], slog.New(slog.DiscardHandler))
		if err != nil {
			t.Fatalf("%s: %v", url, err)
		}
		sink.Close()
	}
}

// The doctor's check is right while the target is served, and says what to do otherwise.
func TestCheck(t *testing.T) {
	t.Parallel()
	b := relaytest.New(t)
	endpoint := httptest.NewServer(
		http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusGone) }),
	)
	t.Cleanup(endpoint.Close)
	variable := endpoint.URL + "#name=shop&allow=private&secret=" + webhook.NewSecret()
	says := func(want string) func() bool {
		return func() bool {
			told, err := targets.Check(t.Context(), b.Pool, variable)
			if err != nil {
				told = "wrong: " + err.Error()
			}
			return strings.HasPrefix(told, want)
		}
	}
	clitest.Eventually(t, "the lack of a relay to be told", says("wrong: no worker relays to shop"))
	group := relaytest.Group(b)
	named, err := relay.ParseTargets(variable)
	if err != nil {
		t.Fatal(err)
	}
	sink, err := targets.Open(named[0], slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	group.Add(named[0], sink)
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan struct{})
	go func() { defer close(ended); group.Run(ctx) }()
	clitest.Eventually(t, "the relay to be right", says("running   shop  0 delivered, 0 to go"))
	b.Settle(1)
	clitest.Eventually(t, "the target to be disabled", says("wrong: disabled  shop  0 delivered, 1 to go"))
	if !says("wrong: disabled")() {
		t.Error("it is no longer disabled")
	}
	cancel()
	<-ended
}
