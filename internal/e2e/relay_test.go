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
	"github.com/lastseat/lastseat/internal/relay/kafkatest"
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

// Workers that settle and relay, to a stream, a topic and a webhook, are killed with SIGKILL at any moment, and others
// are started. NATS servers are killed meanwhile, and Kafka breaks one request in ten. The stream has every outcome
// once, in order, and so has whoever looks at the ids of the topic and of the webhook.
//
// SOAK makes that 200,000 outcomes and 50 kills, and runs three NATS servers: each in turn is killed and loses its
// disk, and the stream is whole again before the next one. Two of three that lose their disks at once would lose what
// they had acknowledged, by the nature of a majority.
func TestRelayKilled(t *testing.T) {
	t.Parallel()
	servers := natstest.Start(t, testdb.Soak(1, 3), "always")
	kept := servers.Stream(stream)
	topic := kafkatest.Start(t, 1)
	topic.Break(10)
	var hook relaytest.Consumer
	endpoint := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		hook.Take(r.Header.Get("webhook-id"))
	}))
	t.Cleanup(endpoint.Close)
	b := relaytest.New(t)
	to := "LASTSEAT_RELAY=" + servers.URL("name=stream") + "," + topic.URL() + "&name=topic," + endpoint.URL +
		"#name=hook&allow=private&secret=" + webhook.NewSecret()
	kills, n, lost := testdb.Soak(5, 50), testdb.Soak(400, 4000), 0
	for i := range kills {
		worker := start(t, on(b.URL, to, "LASTSEAT_BATCH=50"), "worker", "run")
		b.Ask(n)
		var server *natstest.Server
		if i%15 == 1 {
			server = servers.Servers[lost%len(servers.Servers)]
			server.Kill()
			lost++
		}
		goal := i*n + rand.IntN(n)
		clitest.Eventually(t, "the worker to relay", func() bool {
			taken, _ := hook.Count()
			return taken > goal || !worker.running()
		})
		worker.killed(t)
		if server != nil {
			revive(servers, kept, server)
		}
	}
	worker := start(t, on(b.URL, to), "worker", "run")
	clitest.Eventually(t, "everything to be settled", func() bool { return settled(t, b.Pool) == kills*n })
	clitest.Eventually(t, "everything to be relayed", func() bool { return relayed(t, b, 3) })
	worker.signal(t, syscall.SIGTERM)
	worker.exits(t, 0)
	feed := b.Feed()
	hook.Proves(t, feed)
	once(t, servers.Read(kept), feed)
	var ids relaytest.Consumer
	for _, record := range topic.Read(len(feed))[0] {
		ids.Take(kafkatest.ID(record))
	}
	ids.Proves(t, feed)
	_, posted := hook.Count()
	_, produced := ids.Count()
	t.Logf("%d outcomes, %d workers and %d NATS servers killed, %d requests to Kafka broken; again came %d to the "+
		"webhook and %d to the topic, none to the stream", len(feed), kills, lost, topic.Faults(), posted, produced)
}

// revive starts a server that was killed. One of three has lost its disk: another one takes its place, and gets all of
// the stream from the others.
func revive(servers *natstest.Cluster, kept jetstream.Stream, server *natstest.Server) {
	if len(servers.Servers) > 1 {
		server.Replace()
		servers.Whole(kept, server)
		return
	}
	server.Start()
}

// once demands that the stream itself has every outcome once, in order, with nobody looking at ids.
func once(t *testing.T, messages []jetstream.Msg, feed []string) {
	t.Helper()
	var consumer relaytest.Consumer
	for _, message := range messages {
		if !consumer.Take(message.Headers().Get(nats.MsgIdHdr)) {
			t.Errorf("the stream has %s twice", message.Headers().Get(nats.MsgIdHdr))
		}
	}
	consumer.Proves(t, feed)
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
