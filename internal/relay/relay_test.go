package relay_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"
	"time"

	"github.com/lastseat/lastseat/internal/clitest"
	"github.com/lastseat/lastseat/internal/relay"
	"github.com/lastseat/lastseat/internal/relay/relaytest"
	"github.com/lastseat/lastseat/internal/testdb"
)

// A target that takes some of a batch, loses what it was told, or fails after it has taken: whoever looks at ids takes
// every outcome once, in order, and the cursor never runs ahead of what was acknowledged.
func TestOnceInOrder(t *testing.T) {
	t.Parallel()
	b := relaytest.New(t)
	to := newSink()
	acknowledged := 0
	to.set(func(_ context.Context, events []relay.Event) (int, error) {
		taken := rand.IntN(len(events) + 1)
		to.take(events[:taken])
		acked := rand.IntN(taken + 1)
		acknowledged += acked
		if acked < len(events) && rand.IntN(3) > 0 {
			return acked, errBroker
		}
		return acked, nil
	})
	p := start(t, b, to, target(t, plain))
	for range 4 {
		b.Settle(testdb.Soak(60, 2000))
	}
	clitest.Eventually(t, "everything to come", func() bool { return status(t, b).Lag.Outcomes == 0 })
	p.stop()
	to.Proves(t, b.Feed())
	if got := status(t, b); got.Delivered != int64(acknowledged) || got.Running {
		t.Errorf("%+v, want %d delivered, and nobody at work", got, acknowledged)
	}
}

// Two processes have the same target. The one that holds it is cut off in the middle of a delivery, the other takes
// over, and then the first one's delivery ends well: its cursor must not count.
func TestTakenOverDuringADelivery(t *testing.T) {
	t.Parallel()
	b := relaytest.New(t)
	b.Settle(30)
	consumer := &relaytest.Consumer{}
	first, second := newSink(), newSink()
	first.Consumer, second.Consumer = consumer, consumer
	inside, goOn := make(chan struct{}), make(chan struct{})
	first.set(func(_ context.Context, events []relay.Event) (int, error) {
		select {
		case inside <- struct{}{}:
			<-goOn
		default:
		}
		return first.take(events), nil
	})
	one := start(t, b, first, target(t, plain))
	<-inside
	start(t, b, second, target(t, plain))
	// as after a network that is gone for longer than the lease: the holder is alive and does not know
	testdb.Exec(t, b.Pool, `UPDATE lastseat.relays SET seen_at = now() - interval '1 hour'`)
	clitest.Eventually(t, "the other to take over", func() bool { return status(t, b).Lag.Outcomes == 0 })
	delivered := status(t, b).Delivered
	close(goOn)
	b.Settle(10)
	clitest.Eventually(t, "the rest to come", func() bool { return status(t, b).Lag.Outcomes == 0 })
	one.stop()
	if got := status(t, b).Delivered; got != delivered+10 {
		t.Errorf("%d delivered, want %d: the delivery of whoever was taken over does not count", got, delivered+10)
	}
	consumer.Proves(t, b.Feed())
}

// A holder that was killed leaves its name in the row. Its sessions are gone, so the next one does not wait for the
// lease.
func TestKilledHolder(t *testing.T) {
	t.Parallel()
	b := relaytest.New(t)
	b.Settle(10)
	if err := drain(t, b, newSink(), target(t, plain)); err != nil {
		t.Fatal(err)
	}
	testdb.Exec(t, b.Pool, `UPDATE lastseat.relays SET holder = 'killed', seen_at = now() + interval '1 hour'`)
	b.Settle(3)
	to := newSink()
	if err := drain(t, b, to, target(t, plain)); err != nil {
		t.Fatal(err)
	}
	to.Proves(t, b.Feed()[10:])
}

// While one process serves a target, another one stands by.
func TestOneAtATime(t *testing.T) {
	t.Parallel()
	b := relaytest.New(t)
	start(t, b, newSink(), target(t, plain))
	clitest.Eventually(t, "the relay to run", func() bool {
		all, err := relay.List(t.Context(), b.Pool)
		return err == nil && len(all) == 1 && all[0].Running
	})
	if err := drain(t, b, newSink(), target(t, plain)); err == nil || !strings.Contains(err.Error(), "another process") {
		t.Errorf("a second one gets %v", err)
	}
}

// A database that was restored to an earlier time refuses the cursor. The relay says what to type, and nothing is
// passed over.
func TestRestoredDatabase(t *testing.T) {
	t.Parallel()
	b := relaytest.New(t)
	b.Settle(20)
	at := target(t, plain)
	if err := drain(t, b, newSink(), at); err != nil {
		t.Fatal(err)
	}
	// the restored one is known to have the first half, and has begun another timeline
	var half string
	if err := b.Pool.QueryRow(t.Context(), `SELECT cursor FROM lastseat.outcomes_since('', 10) OFFSET 9`).
		Scan(&half); err != nil {
		t.Fatal(err)
	}
	testdb.Exec(t, b.Pool, `INSERT INTO lastseat.timelines (number, token, server, last_xid, last_number)
		SELECT 2, 'aaaaaaaaaaaa', 'another', split_part($1, '.', 2)::xid8, split_part($1, '.', 3)::bigint - 1`, half)
	refused := drain(t, b, newSink(), at)
	if refused == nil || !strings.Contains(refused.Error(), "does not have") {
		t.Fatalf("the cursor is accepted: %v", refused)
	}
	_, command, found := strings.Cut(status(t, b).LastError, "worker relay replay https://shop.example --from ")
	if !found {
		t.Fatalf("the status does not say what to type: %q", status(t, b).LastError)
	}
	if err := relay.Replay(t.Context(), b.Pool, at.Name, command); err != nil {
		t.Errorf("what it says to type is refused: %v", err)
	}
	if err := relay.Replay(t.Context(), b.Pool, at.Name, "bbbbbbbbbbbb.1.1.1"); err == nil {
		t.Error("a cursor of another database is accepted")
	}
}

// Replay and resume.
func TestReplay(t *testing.T) {
	t.Parallel()
	b := relaytest.New(t)
	b.Settle(20)
	at := target(t, plain)
	to := newSink()
	p := start(t, b, to, at)
	clitest.Eventually(t, "everything to come", func() bool { n, _ := to.Count(); return n == 20 })
	clitest.Eventually(t, "the cursor to move", func() bool { return status(t, b).Lag.Outcomes == 0 })
	if err := relay.Replay(t.Context(), b.Pool, at.Name, ""); err != nil {
		t.Fatal(err)
	}
	clitest.Eventually(t, "everything to come again", func() bool { _, repeats := to.Count(); return repeats == 20 })
	p.stop()
	to.Proves(t, b.Feed())

	var settled time.Time
	if err := b.Pool.QueryRow(t.Context(), `SELECT max(settled_at) FROM lastseat.requests`).Scan(&settled); err != nil {
		t.Fatal(err)
	}
	for since, want := range map[time.Time]int{settled.Add(-time.Hour): 20, settled.Add(time.Hour): 0} {
		cursor, err := relay.CursorSince(t.Context(), b.Pool, since)
		if err == nil {
			err = relay.Replay(t.Context(), b.Pool, at.Name, cursor)
		}
		again := newSink()
		if err == nil {
			err = drain(t, b, again, at)
		}
		if n, _ := again.Count(); err != nil || n != want {
			t.Errorf("since %v: %d outcomes, %v; want %d", since, n, err, want)
		}
	}
	if err := relay.Replay(t.Context(), b.Pool, "nobody", ""); !errors.Is(err, relay.ErrUnknownRelay) {
		t.Errorf("a relay that is not there: %v", err)
	}
}

// A target that is gone is disabled at once, one that fails for long after that time; the status says so, nothing is
// lost, and resume goes on where it was.
func TestDisabled(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		err   error
		since string // the first failure
		says  string
	}{
		"gone":              {&relay.GoneError{Err: errors.New("410 Gone")}, "0", "410 Gone"},
		"failing for long":  {errBroker, "2 hours", "it has failed since"},
		"not yet that long": {errBroker, "30 minutes", ""},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := relaytest.New(t)
			b.Settle(10)
			to, at := newSink(), target(t, plain)
			to.limits.GiveUp = time.Hour
			to.set(func(context.Context, []relay.Event) (int, error) { return 0, errBroker })
			if err := drain(t, b, to, at); err == nil || err.Error() != "relay https://shop.example: "+errBroker.Error() {
				t.Fatalf("the drain says %v", err)
			}
			testdb.Exec(t, b.Pool, `UPDATE lastseat.relays SET failing_since = now() - $1::interval`, c.since)
			to.set(func(context.Context, []relay.Event) (int, error) { return 0, c.err })
			_ = drain(t, b, to, at)
			got := status(t, b)
			if (got.DisabledAt != nil) != (c.says != "") || !strings.Contains(got.DisabledBecause, c.says) ||
				got.Failures != 2 ||
				got.Lag.Outcomes != 10 ||
				got.Lag.Seconds <= 0 {
				t.Errorf("the status is %+v", got)
			}
			to.set(nil)
			err := drain(t, b, to, at)
			if c.says == "" {
				if err != nil {
					t.Fatal(err)
				}
			} else if err == nil || !strings.Contains(err.Error(), "worker relay resume https://shop.example") {
				t.Fatalf("while it is disabled: %v", err)
			} else if err = errors.Join(relay.Resume(t.Context(), b.Pool, at.Name), drain(t, b, to, at)); err != nil {
				t.Fatal(err)
			}
			to.Proves(t, b.Feed())
			if got := status(t, b); got.Failures != 0 || got.DisabledAt != nil || got.LastError == "" || got.Lag.Outcomes != 0 {
				t.Errorf("after it was resumed: %+v", got)
			}
		})
	}
}

// A new relay begins at the beginning, unless it is to begin now.
func TestFrom(t *testing.T) {
	t.Parallel()
	b := relaytest.New(t)
	all, late := newSink(), newSink()
	deliver := func(to *sink, text string) {
		t.Helper()
		if err := drain(t, b, to, target(t, text)); err != nil {
			t.Fatal(err)
		}
	}
	const fromNow = "https://late.example#secret=x&from=now"
	b.Settle(10)
	// Once these are delivered, no transaction of another test's database overlaps with theirs.
	deliver(all, plain)
	deliver(late, fromNow)
	b.Settle(5)
	deliver(all, plain)
	deliver(late, fromNow)
	all.Proves(t, b.Feed())
	late.Proves(t, b.Feed()[10:])
}

// A sink that hangs, and a relay that is told to stop: what was acknowledged by then is noted.
func TestStopDuringADelivery(t *testing.T) {
	t.Parallel()
	b := relaytest.New(t)
	b.Settle(10)
	to := newSink()
	inside := make(chan struct{}, 1)
	to.set(func(ctx context.Context, events []relay.Event) (int, error) {
		to.take(events[:3])
		inside <- struct{}{}
		<-ctx.Done()
		return 3, ctx.Err()
	})
	p := start(t, b, to, target(t, plain))
	<-inside
	p.stop()
	if got := status(t, b); got.Delivered != 3 || got.Lag.Outcomes != 7 || got.Failures != 0 {
		t.Errorf("the status is %+v", got)
	}
}

// The lane does not know of a relay: with one that hangs, requests are settled.
func TestLaneGoesOn(t *testing.T) {
	t.Parallel()
	b := relaytest.New(t)
	to := newSink()
	to.set(func(ctx context.Context, _ []relay.Event) (int, error) { <-ctx.Done(); return 0, ctx.Err() })
	start(t, b, to, target(t, plain))
	for i := range 5 {
		b.Settle(20)
		if got := len(b.Feed()); got != (i+1)*20 {
			t.Fatalf("%d settled", got)
		}
	}
	clitest.Eventually(t, "the lag to be told", func() bool { return status(t, b).Lag.Outcomes == 100 })
}

func TestParseTargets(t *testing.T) {
	t.Parallel()
	const secrets = "hunter2"
	for text, want := range map[string]string{
		"": "", " , ": "",
		"https://u:hunter2@shop.example/hooks/hunter2?token=hunter2#secret=hunter2": "https://shop.example/",
		"https://shop.example#secret=hunter2":                                       "https://shop.example",
		"https://shop.example/a#name=billing":                                       "billing",
		"nats://u:hunter2@broker:4222":                                              "nats://broker:4222",
		"kafka://u:hunter2@broker:9092/outcomes":                                    "kafka://broker:9092/outcomes",
		"nats://a:4222,nats://b:4222":                                               "nats://a:4222 nats://b:4222",
		"ftp://hunter2@host":                                                        `error: URL 1: the scheme "ftp"`,
		"nats://a:4222,https://u:hunter2@sho p":                                     "error: URL 2: can't be read",
		"https://shop.example#secert=hunter2":                                       `error: URL 1: https has no option "secert"`,
		"https://shop.example#from=hunter2":                                         `error: URL 1: from is`,
		"nats://a:4222,nats://a:4222#stream=X":                                      `error: URL 2: another one has the name`,
		"https:///path":                                                             "error: URL 1: can't be read",
		"https://shop.example#name=" + strings.Repeat("x", 201):                     "error: URL 1: its name is longer",
	} {
		targets, err := relay.ParseTargets(text)
		var names []string
		for _, target := range targets {
			names = append(names, target.Name)
		}
		got := strings.Join(names, " ")
		if err != nil {
			got = "error: " + err.Error()
		}
		if !strings.HasPrefix(got, want) || want == "" && got != "" {
			t.Errorf("%q is %q, want %q", text, got, want)
		}
		if strings.Contains(got, secrets) || strings.Contains(fmt.Sprintf("%v", err), secrets) {
			t.Errorf("%q tells the secret: %q, %v", text, got, err)
		}
	}
}
