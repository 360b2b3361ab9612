package natsjs_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/lastseat/lastseat/internal/clitest"
	"github.com/lastseat/lastseat/internal/relay"
	"github.com/lastseat/lastseat/internal/relay/natsjs"
	"github.com/lastseat/lastseat/internal/relay/natstest"
	"github.com/lastseat/lastseat/internal/relay/relaytest"
	"github.com/lastseat/lastseat/internal/testdb"
	"github.com/lastseat/lastseat/outbox"
)

func TestMain(m *testing.M) {
	natstest.Main()
	os.Exit(testdb.MainMigrated(m))
}

var quiet = slog.New(slog.DiscardHandler)

var outcomes = jetstream.StreamConfig{Name: "LASTSEAT", Subjects: []string{"lastseat.>"}}

func open(t *testing.T, text string) (relay.Target, *natsjs.Sink) {
	t.Helper()
	targets, err := relay.ParseTargets(text)
	if err != nil {
		t.Fatal(err)
	}
	sink, err := natsjs.New(targets[0], quiet)
	if err != nil {
		t.Fatal(err)
	}
	return targets[0], sink
}

// drain relays to the end, with a sink of its own.
func drain(t *testing.T, b *relaytest.Bank, text string) error {
	t.Helper()
	target, sink := open(t, text)
	group := relaytest.Group(b)
	defer group.DB.Close()
	group.Add(target, sink)
	return group.Drain(t.Context())
}

func status(t *testing.T, b *relaytest.Bank) relay.Status {
	t.Helper()
	all, err := relay.List(t.Context(), b.Pool)
	if err != nil || len(all) != 1 {
		t.Fatalf("%d relays, %v", len(all), err)
	}
	return all[0]
}

// proves demands that the stream itself has every outcome once, in order: with nobody looking at ids.
func proves(t *testing.T, b *relaytest.Bank, messages []jetstream.Msg) {
	t.Helper()
	var consumer relaytest.Consumer
	for _, message := range messages {
		if !consumer.Take(message.Headers().Get(nats.MsgIdHdr)) {
			t.Errorf("%s is in the stream twice", message.Headers().Get(nats.MsgIdHdr))
		}
	}
	consumer.Proves(t, b.Feed())
}

// What is in a message.
func TestMessage(t *testing.T) {
	t.Parallel()
	servers := natstest.Start(t, 1, "always")
	b := relaytest.New(t)
	b.Settle(10)
	testdb.Exec(t, b.Pool, `SELECT lastseat.enqueue('toy > * of "mine"..x', 'strange', '{}')`)
	testdb.Exec(t, b.Pool, `UPDATE lastseat.requests SET status = 'applied', code = 'a.b c', settled_at = now(),
		detail = jsonb_build_object('long', repeat('x', 100000)) WHERE key = 'strange'`)
	for { // the server comes up while the relay tries
		err := drain(t, b, servers.URL("replicas=1"))
		if err == nil {
			break
		}
		if !strings.Contains(err.Error(), "not connected") {
			t.Fatal(err)
		}
	}
	js := servers.JetStream()
	stream, err := js.Stream(t.Context(), "LASTSEAT")
	if err != nil {
		t.Fatal(err)
	}
	all := servers.Read(stream)
	proves(t, b, all)
	subjects := map[int]string{
		0: "lastseat.payment.transfer.transferred", 4: "lastseat.payment.transfer.insufficient_funds",
		10: `lastseat.toy_____of_"mine"._.x.a_b_c`,
	}
	for i, want := range subjects {
		var body struct {
			ID   string
			Data struct {
				Detail        map[string]any
				DetailLeftOut bool `json:"detail_left_out"`
			}
		}
		if err := json.Unmarshal(all[i].Data(), &body); err != nil {
			t.Fatal(err)
		}
		if all[i].Subject() != want || body.ID != all[i].Headers().Get(nats.MsgIdHdr) ||
			body.Data.DetailLeftOut != (i == 10) ||
			all[i].Headers().Get("Content-Type") != "application/cloudevents+json; charset=utf-8" {
			t.Errorf("message %d: %s %v %s", i, all[i].Subject(), all[i].Headers(), all[i].Data())
		}
	}
}

// A relay that is cut off at any point, and another one that goes on: the stream has every outcome once. The window in
// which JetStream looks for duplicates is over each time: only the chain of ids protects.
func TestCutOff(t *testing.T) {
	t.Parallel()
	servers := natstest.Start(t, 1, "always")
	short := outcomes
	short.Duplicates = 100 * time.Millisecond
	stream := servers.Stream(short)
	b := relaytest.New(t)
	last := uint64(0)
	for range testdb.Soak(6, 60) {
		b.Settle(100)
		group := relaytest.Group(b)
		target, sink := open(t, servers.URL(""))
		group.Add(target, sink)
		ctx, cancel := context.WithCancel(t.Context())
		ended := make(chan struct{})
		go func() { defer close(ended); _ = group.Drain(ctx) }()
		goal := last + uint64(rand.IntN(80)+1)
		clitest.Eventually(t, "the stream to grow", func() bool { last = end(t, stream); return last >= goal })
		cancel()
		<-ended
		group.DB.Close()
		// as if it had been killed before its cursor was noted
		testdb.Exec(t, b.Pool, `UPDATE lastseat.relays SET cursor = $1`, before(t, b, stream))
		time.Sleep(4 * short.Duplicates)
	}
	if err := drain(t, b, servers.URL("")); err != nil {
		t.Fatal(err)
	}
	proves(t, b, servers.Read(stream))
}

func end(t *testing.T, stream jetstream.Stream) uint64 {
	t.Helper()
	info, err := stream.Info(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return info.State.LastSeq
}

// before is the cursor of an outcome some messages before the end of the stream.
func before(t *testing.T, b *relaytest.Bank, stream jetstream.Stream) string {
	t.Helper()
	if back := int(end(t, stream)) - 30; back > 0 {
		return relay.CursorOf(b.Feed()[back])
	}
	return ""
}

// Three servers; one after the other is killed while outcomes come, and the first one loses its disk, all of them with
// SOAK. The stream has each outcome once, and each replica has all of it, also what comes after it has caught up.
func TestServersKilled(t *testing.T) {
	t.Parallel()
	servers := natstest.Start(t, 3, "always")
	stream := servers.Stream(outcomes)
	b := relaytest.New(t)
	group := relaytest.Group(b)
	target, sink := open(t, servers.URL(""))
	group.Add(target, sink)
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan struct{})
	go func() { defer close(ended); group.Run(ctx) }()
	n := testdb.Soak(100, 5000)
	settle := func() {
		b.Settle(n)
		clitest.Eventually(t, "everything to be delivered", func() bool { return status(t, b).Lag.Outcomes == 0 })
	}
	for range testdb.Soak(1, 4) {
		for i, server := range servers.Servers {
			b.Settle(n)
			server.Kill()
			settle()
			if i == 0 || testdb.Soaks() {
				server.Replace()
			} else {
				server.Start()
			}
			servers.Whole(stream)
			settle()
			servers.Whole(stream)
		}
	}
	cancel()
	<-ended
	proves(t, b, servers.Read(stream))
}

// A server that acknowledged and then lost what it had: the relay sends again what is missing. One that is empty is
// left to its operator, who says what to send.
func TestServerLosesWhatItAcknowledged(t *testing.T) {
	t.Parallel()
	servers := natstest.Start(t, 1, "always")
	stream := servers.Stream(outcomes)
	b := relaytest.New(t)
	b.Settle(100)
	if err := drain(t, b, servers.URL("")); err != nil {
		t.Fatal(err)
	}
	one, saved := servers.Servers[0], filepath.Join(t.TempDir(), "saved")
	one.Kill()
	if err := os.CopyFS(saved, os.DirFS(one.Store())); err != nil {
		t.Fatal(err)
	}
	one.Start()
	b.Settle(50)
	relayed := func() { // until the server is up again
		t.Helper()
		clitest.Eventually(t, "the relay to come to the end", func() bool { return drain(t, b, servers.URL("")) == nil })
	}
	relayed()
	one.Kill()
	one.Wipe()
	if err := os.CopyFS(one.Store(), os.DirFS(saved)); err != nil {
		t.Fatal(err)
	}
	one.Start()
	b.Settle(1)
	relayed()
	proves(t, b, servers.Read(stream))

	one.Kill()
	one.Wipe()
	one.Start()
	stream = servers.Stream(outcomes)
	b.Settle(1)
	if err := drain(
		t,
		b,
		servers.URL(""),
	); err == nil ||
		!strings.Contains(err.Error(), "worker relay replay NAME --from beginning") {
		t.Fatalf("an empty stream: %v", err)
	}
	if err := relay.Replay(t.Context(), b.Pool, status(t, b).Name, ""); err != nil {
		t.Fatal(err)
	}
	relayed()
	proves(t, b, servers.Read(stream))
}

// Messages of others in the stream, and a replay, don't stop the relay.
func TestOthersInTheStream(t *testing.T) {
	t.Parallel()
	servers := natstest.Start(t, 1, "always")
	stream := servers.Stream(outcomes)
	js := servers.JetStream()
	b := relaytest.New(t)
	for i := range 4 {
		b.Settle(20)
		clitest.Eventually(t, "the relay to come to the end", func() bool { return drain(t, b, servers.URL("")) == nil })
		var options []jetstream.PublishOpt
		if i%2 == 0 {
			options = append(options, jetstream.WithMsgID("theirs"+string(rune('0'+i))))
		}
		if _, err := js.Publish(t.Context(), "lastseat.theirs", nil, options...); err != nil {
			t.Fatal(err)
		}
	}
	if err := relay.Replay(t.Context(), b.Pool, status(t, b).Name, ""); err != nil {
		t.Fatal(err)
	}
	clitest.Eventually(t, "the relay to come to the end", func() bool { return drain(t, b, servers.URL("")) == nil })
	var consumer relaytest.Consumer
	for _, message := range servers.Read(stream) {
		if message.Subject() != "lastseat.theirs" {
			consumer.Take(message.Headers().Get(nats.MsgIdHdr))
		}
	}
	consumer.Proves(t, b.Feed())
}

func TestCheckSync(t *testing.T) {
	t.Parallel()
	for sync, want := range map[string]string{"always": "", "2m": "before they are on disk"} {
		servers := natstest.Start(t, 1, sync)
		targets, err := relay.ParseTargets(servers.URL("monitor=" + servers.Servers[0].Monitor()))
		if err != nil {
			t.Fatal(err)
		}
		told, err := natsjs.CheckSync(t.Context(), targets[0])
		if (err == nil) != (want == "") || errors.Is(err, natsjs.ErrNotSynced) != (want != "") ||
			err == nil && !strings.Contains(told, "2.15.3 syncs") {
			t.Errorf("sync_interval %s: %q, %v", sync, told, err)
		}
	}
}

func TestConfiguration(t *testing.T) {
	t.Parallel()
	for text, says := range map[string]string{
		"nats://127.0.0.1:1#stream=A.B":                "stream is a name",
		"nats://127.0.0.1:1#subject=a.*":               "subject without wildcards",
		"nats://127.0.0.1:1#replicas=0":                "replicas is a number",
		"nats://127.0.0.1:1#stream=A&subject=a.b":      "",
		"nats://u:p%40@127.0.0.1:1#server=127.0.0.1:2": "",
		"nats://token@127.0.0.1":                       "",
	} {
		targets, err := relay.ParseTargets(text)
		if err != nil {
			t.Fatal(err)
		}
		sink, err := natsjs.New(targets[0], quiet)
		if (err == nil) != (says == "") || err != nil && !strings.Contains(err.Error(), says) {
			t.Errorf("%s: %v, want %q", text, err, says)
		}
		if err == nil {
			if n, err := sink.Deliver(
				t.Context(),
				"",
				make([]relay.Event, 1),
			); n != 0 || err == nil ||
				!strings.Contains(err.Error(), "not connected") {
				t.Errorf("%s: %d delivered, %v", text, n, err)
			}
			sink.Close()
		}
	}
}

// events are those of these numbers; the big ones have a detail of so many bytes.
func events(big int, numbers ...int) (all []relay.Event) {
	settled := time.Now().UTC()
	for _, n := range numbers {
		cursor := fmt.Sprintf("0a1b2c3d4e5f.7.1.%d", n)
		event := relay.Event{ID: "lastseat:shop:" + cursor, Cursor: cursor, Body: []byte(`{}`), Outcome: outbox.Outcome{
			Key: "k", Kind: "toy", Status: outbox.Applied, Code: "played", SettledAt: &settled,
		}}
		if n == big {
			event.Body = bytes.Repeat([]byte(" "), 10_000)
		}
		all = append(all, event)
	}
	return all
}

// The stream takes no message whose predecessor it has not: neither behind one that it refused, nor from a relay that
// was taken over and does not know.
func TestChain(t *testing.T) {
	t.Parallel()
	servers := natstest.Start(t, 1, "always")
	config := outcomes
	config.Duplicates = 100 * time.Millisecond
	stream := servers.Stream(config)
	_, sink := open(t, servers.URL(""))
	defer sink.Close()
	deliver := func(want int, by *natsjs.Sink, big int, numbers ...int) {
		t.Helper()
		n, err := by.Deliver(t.Context(), "", events(big, numbers...))
		if n != want || (err == nil) != (want == len(numbers)) {
			t.Errorf("%v: %d delivered, want %d: %v", numbers, n, want, err)
		}
	}
	deliver(1, sink, 0, 1)
	config.MaxMsgSize = 4 << 10
	servers.Stream(config)
	deliver(1, sink, 3, 2, 3, 4) // it refuses the second of them, and must not take the third
	deliver(2, sink, 3, 3, 4)    // by now the sink knows the size, and leaves the detail out

	_, other := open(t, servers.URL(""))
	defer other.Close()
	deliver(2, other, 0, 5, 6)
	time.Sleep(3 * config.Duplicates) // JetStream no longer knows them
	deliver(0, sink, 0, 5, 6)
	deliver(2, sink, 0, 5, 6) // after it was refused, it looks, and finds both
	var got []string
	for _, message := range servers.Read(stream) {
		id := message.Headers().Get(nats.MsgIdHdr)
		got = append(got, id[len(id)-1:])
	}
	if ids := strings.Join(got, ""); ids != "123456" {
		t.Errorf("the stream has %s", ids)
	}
}
