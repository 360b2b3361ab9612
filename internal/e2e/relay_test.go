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
// SOAK makes that 200,000 outcomes and 50 kills, and runs three NATS servers: each in turn is killed, four times it
// also loses its disk, and the stream is whole again before the next one. Two of three that lose their disks at once
// would lose what they had acknowledged, by the nature of a majority.
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
	kills, n, down, lost := testdb.Soak(5, 50), testdb.Soak(400, 4000), 0, 0
	for i := range kills {
		worker := start(t, on(b.URL, to, "LASTSEAT_BATCH=50"), "worker", "run")
		b.Ask(n)
		var server *natstest.Server
		wiped := len(servers.Servers) > 1 && i%15 == 1
		if wiped || i%3 == 0 {
			server = servers.Servers[down%len(servers.Servers)]
			server.Kill()
			down++
		}
		goal := i*n + rand.IntN(n)
		clitest.Eventually(t, "the worker to relay", func() bool {
			taken, _ := hook.Count()
			return taken > goal || !worker.running()
		})
		worker.killed(t)
		switch {
		case wiped:
			server.Replace()
			lost++
		case server != nil:
			server.Start()
		}
		if server != nil && len(servers.Servers) > 1 {
			servers.Whole(kept)
		}
	}
	worker := start(t, on(b.URL, to), "worker", "run")
	clitest.Eventually(t, "everything to be settled", func() bool { return settled(t, b.Pool) == kills*n })
	clitest.Eventually(t, "everything to be relayed", func() bool { return relayed(t, b, 3) })
	connected(t, b.Pool, 1)
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
	t.Logf("%d outcomes, %d workers and %d NATS servers killed, of which %d lost their disks, %d requests to Kafka "+
		"broken; again came %d to the webhook and %d to the topic, none to the stream",
		len(feed), kills, down, lost, topic.Faults(), posted, produced)
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

// The broker is away under load, for two minutes under SOAK: the lane settles all the same, also while the relay
// catches up. The secrets of the URL are in no line.
func TestBrokerAwayUnderLoad(t *testing.T) {
	t.Parallel()
	servers := natstest.Start(t, 1, "always")
	kept := servers.Stream(stream)
	b := relaytest.New(t)
	url := strings.Replace(servers.URL("name=stream"), "//", "//user:hunter2@", 1)
	worker := start(t, on(b.URL, "LASTSEAT_RELAY="+url), "worker", "run")
	phase := time.Duration(testdb.Soak(0, 30)) * time.Second
	with, before := load(t, b, phase)
	clitest.Eventually(t, "the relay to be at the end", func() bool { return relayed(t, b, 1) })
	servers.Servers[0].Kill()
	missed, away := load(t, b, 4*phase)
	clitest.Eventually(t, "the failure to be told", func() bool {
		all, err := relay.List(t.Context(), b.Pool)
		return err == nil && len(all) == 1 && all[0].Lag.Outcomes == int64(missed) && all[0].Failures > 0
	})
	status := start(t, on(b.URL), "worker", "relay", "status")
	status.exits(t, 0)
	want := fmt.Sprintf("failing   stream  %d delivered, %d to go", with, missed)
	if !strings.HasPrefix(status.out.String(), want) {
		t.Errorf("the status is %q, want %q", status.out.String(), want)
	}
	servers.Servers[0].Start()
	began := time.Now()
	_, after := load(t, b, phase)
	clitest.Eventually(t, "the relay to catch up", func() bool { return relayed(t, b, 1) })
	t.Logf("%.0f a second with the broker, %.0f without it, %.0f when it was back; the relay was %d behind and had "+
		"caught up after %v", before, away, after, missed, time.Since(began))
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

// load asks for many transfers at a time, and for more when they are settled, until so much time has passed. It returns
// how many they were, and how many were settled a second.
func load(t *testing.T, b *relaytest.Bank, least time.Duration) (n int, rate float64) {
	t.Helper()
	began := time.Now()
	for n == 0 || time.Since(began) < least {
		b.Ask(testdb.Soak(500, 5000))
		n += testdb.Soak(500, 5000)
		clitest.Eventually(t, "the lane to settle", func() bool { return idle(t, b) })
	}
	return n, float64(n) / time.Since(began).Seconds()
}

func idle(t *testing.T, b *relaytest.Bank) bool {
	t.Helper()
	return testdb.Scalar[bool](t, b.Pool, `SELECT NOT EXISTS (SELECT FROM lastseat.requests WHERE status = 'pending')`)
}
