package e2e

import (
	"fmt"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/lastseat/lastseat/internal/clitest"
	"github.com/lastseat/lastseat/internal/relay"
	"github.com/lastseat/lastseat/internal/relay/natstest"
	"github.com/lastseat/lastseat/internal/relay/relaytest"
	"github.com/lastseat/lastseat/internal/relay/webhook"
	"github.com/lastseat/lastseat/internal/testdb"
)

var stream = jetstream.StreamConfig{Name: "LASTSEAT", Subjects: []string{"lastseat.>"}}

func relayed(t *testing.T, b *relaytest.Bank, names int) bool {
	t.Helper()
	all, err := relay.List(t.Context(), b.Pool)
	if err != nil {
		t.Fatal(err)
	}
	for _, status := range all {
		if status.Lag.Outcomes > 0 {
			return false
		}
	}
	return len(all) == names
}

// Workers that settle and relay, to a stream and to a webhook, are killed with SIGKILL at any moment, and others are
// started: the stream has every outcome once, in order, and so has the consumer that looks at ids.
func TestRelayKilled(t *testing.T) {
	t.Parallel()
	servers := natstest.Start(t, 1, "always")
	kept := servers.Stream(stream)
	var hook relaytest.Consumer
	endpoint := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		hook.Take(r.Header.Get("webhook-id"))
	}))
	t.Cleanup(endpoint.Close)
	b := relaytest.New(t)
	to := "LASTSEAT_RELAY=" + servers.URL("name=stream") + "," + endpoint.URL + "#name=hook&allow=private&secret=" +
		webhook.NewSecret()
	kills, n := testdb.Soak(5, 50), testdb.Soak(400, 4000)
	for i := range kills {
		worker := start(t, on(b.URL, to, "LASTSEAT_BATCH=50"), "worker", "run")
		b.Ask(n)
		goal := i*n + rand.IntN(n)
		clitest.Eventually(t, "the worker to relay", func() bool {
			taken, _ := hook.Count()
			return taken > goal || !worker.running()
		})
		worker.killed(t)
	}
	worker := start(t, on(b.URL, to), "worker", "run")
	clitest.Eventually(t, "everything to be settled", func() bool { return settled(t, b.Pool) == kills*n })
	clitest.Eventually(t, "everything to be relayed", func() bool { return relayed(t, b, 2) })
	worker.signal(t, syscall.SIGTERM)
	worker.exits(t, 0)
	feed := b.Feed()
	hook.Proves(t, feed)
	var consumer relaytest.Consumer
	for _, message := range servers.Read(kept) {
		if !consumer.Take(message.Headers().Get(nats.MsgIdHdr)) {
			t.Errorf("the stream has %s twice", message.Headers().Get(nats.MsgIdHdr))
		}
	}
	consumer.Proves(t, feed)
	_, repeats := hook.Count()
	t.Logf("%d outcomes, %d kills; the webhook got %d of them again", len(feed), kills, repeats)
}

// The broker is away under load: the lane settles all the same, and the relay catches up. The secrets of the URL are in
// no line.
func TestBrokerAwayUnderLoad(t *testing.T) {
	t.Parallel()
	servers := natstest.Start(t, 1, "always")
	kept := servers.Stream(stream)
	b := relaytest.New(t)
	url := strings.Replace(servers.URL("name=stream"), "//", "//user:hunter2@", 1)
	worker := start(t, on(b.URL, "LASTSEAT_RELAY="+url), "worker", "run")
	n := testdb.Soak(1000, 20_000)
	load := func() time.Duration {
		before, began := settled(t, b.Pool), time.Now()
		b.Ask(n)
		clitest.Eventually(t, "the lane to settle", func() bool { return settled(t, b.Pool) == before+n })
		return time.Since(began)
	}
	with := load()
	clitest.Eventually(t, "the relay to be at the end", func() bool { return relayed(t, b, 1) })
	servers.Servers[0].Kill()
	away := load()
	clitest.Eventually(t, "the failure to be told", func() bool {
		all, err := relay.List(t.Context(), b.Pool)
		return err == nil && len(all) == 1 && all[0].Lag.Outcomes == int64(n) && all[0].Failures > 0
	})
	status := start(t, on(b.URL), "worker", "relay", "status")
	status.exits(t, 0)
	if want := fmt.Sprintf(
		"failing   stream  %d delivered, %d to go",
		n,
		n,
	); !strings.HasPrefix(
		status.out.String(),
		want,
	) {
		t.Errorf("the status is %q, want %q", status.out.String(), want)
	}
	servers.Servers[0].Start()
	began := time.Now()
	clitest.Eventually(t, "the relay to catch up", func() bool { return relayed(t, b, 1) })
	t.Logf("%d requests: %v with the broker, %v without it; the relay caught up in %v", n, with, away, time.Since(began))
	var consumer relaytest.Consumer
	for _, message := range servers.Read(kept) {
		consumer.Take(message.Headers().Get(nats.MsgIdHdr))
	}
	consumer.Proves(t, b.Feed())
	worker.signal(t, syscall.SIGTERM)
	worker.exits(t, 0)
	if strings.Contains(worker.errs.String()+status.out.String(), "hunter2") {
		t.Errorf("the log tells the password: %q", worker.errs.String())
	}
}
