package e2e

import (
	"encoding/json"
	"slices"
	"syscall"
	"testing"
	"time"

	"github.com/lastseat/lastseat/internal/clitest"
	"github.com/lastseat/lastseat/internal/relay/natstest"
	"github.com/lastseat/lastseat/internal/relay/relaytest"
	"github.com/lastseat/lastseat/internal/testdb"
)

// What a relay to NATS costs the lane: the rates with and without it, in turn, and how late the outcomes are at half of
// the full rate. It measures, so it runs under SOAK only. The broker runs on the same machine and takes its share.
func TestRelayCost(t *testing.T) { //nolint:paralleltest // it measures
	if !testdb.Soaks() {
		t.Skip("a measurement: under SOAK only")
	}
	servers := natstest.Start(t, 1, "always")
	var full float64
	for pair := range 3 {
		var rate [2]float64 // without and with
		for turn := range 2 {
			with := (pair + turn) % 2
			rate[with] = fullRate(t, servers, with == 1)
		}
		t.Logf("pair %d: %.0f a second without a relay, %.0f with it: %.3f", pair, rate[0], rate[1], rate[1]/rate[0])
		full = max(full, rate[1])
	}
	lags := lagsAt(t, servers, full/2)
	at := func(part float64) time.Duration { return lags[int(part*float64(len(lags)-1))] }
	t.Logf("at %.0f a second, %d outcomes: p50 %v, p90 %v, p99 %v, at most %v", full/2, len(lags), at(0.5), at(0.9),
		at(0.99), at(1))
}

// fullRate is how many transfers of a backlog are settled a second.
func fullRate(t *testing.T, servers *natstest.Cluster, with bool) float64 {
	t.Helper()
	const n = 8_000
	servers.Stream(stream)
	b := relaytest.New(t)
	b.Ask(n)
	var target []string
	if with {
		target = append(target, "LASTSEAT_RELAY="+servers.URL("name=stream"))
	}
	worker := start(t, on(b.URL, target...), "worker", "run")
	clitest.Eventually(t, "the first to be settled", func() bool { return settled(t, b.Pool) > 0 })
	began, before := time.Now(), settled(t, b.Pool)
	clitest.Eventually(t, "all to be settled", func() bool { return idle(t, b) })
	rate := float64(n-before) / time.Since(began).Seconds()
	if with {
		clitest.Eventually(t, "all to be relayed", func() bool { return relayed(t, b, 1) })
		t.Logf("the relay was at the end %v after the first was settled", time.Since(began))
	}
	worker.signal(t, syscall.SIGTERM)
	worker.exits(t, 0)
	return rate
}

// lagsAt are the times from the start of the transaction that settles an outcome until the stream has it, in ascending
// order.
func lagsAt(t *testing.T, servers *natstest.Cluster, rate float64) []time.Duration {
	t.Helper()
	kept := servers.Stream(stream)
	if err := kept.Purge(t.Context()); err != nil {
		t.Fatal(err)
	}
	b := relaytest.New(t)
	worker := start(t, on(b.URL, "LASTSEAT_RELAY="+servers.URL("name=stream")), "worker", "run")
	b.Ask(100)
	clitest.Eventually(t, "the relay to be at the end", func() bool { return idle(t, b) && relayed(t, b, 1) })
	began := time.Now()
	for asked := 0; time.Since(began) < 15*time.Second; time.Sleep(10 * time.Millisecond) {
		due := int(rate * time.Since(began).Seconds())
		b.Ask(due - asked)
		asked = due
	}
	clitest.Eventually(t, "the relay to be at the end", func() bool { return idle(t, b) && relayed(t, b, 1) })
	worker.signal(t, syscall.SIGTERM)
	worker.exits(t, 0)
	var lags []time.Duration
	for _, message := range servers.Read(kept)[100:] {
		about, err := message.Metadata()
		var event struct {
			Data struct {
				SettledAt time.Time `json:"settled_at"`
			} `json:"data"`
		}
		if err == nil {
			err = json.Unmarshal(message.Data(), &event)
		}
		if err != nil {
			t.Fatal(err)
		}
		lags = append(lags, about.Timestamp.Sub(event.Data.SettledAt))
	}
	slices.Sort(lags)
	return lags
}
