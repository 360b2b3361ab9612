package kafka_test

import (
	"context"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/lastseat/lastseat/internal/clitest"
	"github.com/lastseat/lastseat/internal/relay"
	"github.com/lastseat/lastseat/internal/relay/kafka"
	"github.com/lastseat/lastseat/internal/relay/kafkatest"
	"github.com/lastseat/lastseat/internal/relay/relaytest"
	"github.com/lastseat/lastseat/internal/testdb"
	"github.com/lastseat/lastseat/jobs"
	"github.com/lastseat/lastseat/outbox"
)

func TestMain(m *testing.M) { os.Exit(testdb.MainMigrated(m)) }

func open(t *testing.T, text string) (relay.Target, *kafka.Sink) {
	t.Helper()
	targets, err := relay.ParseTargets(text)
	if err != nil {
		t.Fatal(err)
	}
	sink, err := kafka.New(targets[0])
	if err != nil {
		t.Fatal(err)
	}
	return targets[0], sink
}

func drain(ctx context.Context, t *testing.T, b *relaytest.Bank, text string) error {
	t.Helper()
	target, sink := open(t, text)
	group := relaytest.Group(b)
	defer group.DB.Close()
	group.Add(target, sink)
	return group.Drain(ctx)
}

// One request in three (ten under make soak) is answered with an error, or not at all; and the relay is cut off
// now and then. Whoever looks at ids has every outcome once, in order.
func TestFaults(t *testing.T) {
	t.Parallel()
	c := kafkatest.Start(t, 1)
	url := c.URL()
	b := relaytest.New(t)
	c.Break(int32(testdb.Soak(3, 10)))
	cuts := 0
	for range testdb.Soak(10, 100) {
		b.Settle(testdb.Soak(100, 2000))
		ctx, cancel := context.WithTimeout(t.Context(), time.Duration(rand.IntN(400)+20)*time.Millisecond)
		if drain(ctx, t, b, url) != nil {
			cuts++
		}
		cancel()
	}
	clitest.Eventually(t, "the relay to come to the end", func() bool { return drain(t.Context(), t, b, url) == nil })
	feed := b.Feed()
	var consumer relaytest.Consumer
	for _, record := range c.Read(len(feed))[0] {
		consumer.Take(kafkatest.ID(record))
	}
	consumer.Proves(t, feed)
	_, repeats := consumer.Count()
	t.Logf("%d faults, %d cuts, %d records that came again", c.Faults(), cuts, repeats)
	if c.Faults() == 0 || cuts == 0 {
		t.Error("nothing went wrong: the test has not tried it")
	}
}

// Spread over partitions by what requests are ordered by, all outcomes of an account that pays are in one, in order,
// refusals too; what time brought about is with the reservation's other outcomes.
func TestSpread(t *testing.T) {
	t.Parallel()
	c := kafkatest.Start(t, 4)
	url := c.URL()
	b := relaytest.New(t)
	ordered := ask(t, b)
	if err := drain(t.Context(), t, b, url+"&spread=key"); err != nil {
		t.Fatal(err)
	}
	feed := b.Feed()
	place := make(map[string]int)
	for i, id := range feed {
		place[id] = i
	}
	partitions, partitionOf, codes := c.Read(len(feed)), make(map[string]int32), make(map[string]int)
	for number, records := range partitions {
		last := -1
		for _, record := range records {
			at, known := place[kafkatest.ID(record)]
			if !known || at <= last {
				t.Errorf("partition %d has %s behind outcome %d", number, kafkatest.ID(record), last)
			}
			last = at
			var event struct {
				Data struct{ Key, Kind, Code string }
			}
			if err := json.Unmarshal(record.Value, &event); err != nil {
				t.Fatal(err)
			}
			codes[event.Data.Code]++
			key := string(record.Key)
			if before, known := partitionOf[key]; known && before != number {
				t.Errorf("the outcomes of %s are in the partitions %d and %d", key, before, number)
			}
			partitionOf[key] = number
			if want := ordered[event.Data.Key]; key != want {
				t.Errorf("the record of %s %s has the key %q, want %q", event.Data.Kind, event.Data.Key, key, want)
			}
		}
	}
	if len(partitions) != 4 || len(partitionOf) != 25 {
		t.Errorf("%d keys in %d partitions", len(partitionOf), len(partitions))
	}
	for code, n := range map[string]int{"transferred": 60, "insufficient_funds": 60, "held": 1, "sold_out": 11, "expired": 12} {
		if codes[code] != n {
			t.Errorf("%d outcomes %s, want %d of %v", codes[code], code, n, codes)
		}
	}
}

// ask settles 120 transfers of 12 payers, half of them refused, and outcomes of 12 reservations and of a kind that is
// not ordered. It returns by which key each outcome is to be spread.
func ask(t *testing.T, b *relaytest.Bank) map[string]string {
	t.Helper()
	ordered := map[string]string{"none": "none"}
	var requests []outbox.Request
	var reservations []string
	for i := range 120 {
		key, payer := fmt.Sprintf("t-%d", i), fmt.Sprintf("payer-%d", i%12)
		if i < 12 {
			account := jobs.Account{ID: payer, Currency: "EUR", OverdraftLimit: new(int64(5))}
			err := pgx.BeginFunc(t.Context(), b.Pool, func(tx pgx.Tx) error {
				_, err := jobs.OpenAccount(t.Context(), tx, account)
				if err == nil && i == 0 {
					_, err = jobs.DefineResource(t.Context(), tx, jobs.Resource{ID: "seat", Capacity: 1})
				}
				return err
			})
			if err != nil {
				t.Fatal(err)
			}
			reservation := fmt.Sprintf("r-%d", i)
			reservations = append(reservations, reservation)
			hold := jobs.Hold{Reservation: reservation, Items: []jobs.Item{{Resource: "seat"}}}
			requests = append(requests, outbox.Request{Key: "h-" + reservation, Args: hold})
			ordered["h-"+reservation], ordered["lastseat:reservation.expire:"+reservation] = reservation, reservation
		}
		transfer := jobs.Transfer{From: payer, To: "bank", Amount: 1, Currency: "EUR"}
		requests = append(requests, outbox.Request{Key: key, Args: transfer})
		ordered[key] = payer
	}
	if _, err := outbox.EnqueueMany(t.Context(), b.Pool, requests); err != nil {
		t.Fatal(err)
	}
	b.Settle(0)
	testdb.Exec(t, b.Pool, `SELECT lastseat.record('reservation.expire', 'reservation', 'expired', $1)`, reservations)
	testdb.Exec(t, b.Pool, `SELECT lastseat.enqueue('toy', 'none', '{}')`)
	testdb.Exec(t, b.Pool, `UPDATE lastseat.requests SET status = 'applied', code = 'played', settled_at = now()
		WHERE key = 'none'`)
	return ordered
}

// What a broker may lack or refuse, with a line that says what to do.
func TestRefused(t *testing.T) {
	t.Parallel()
	b := relaytest.New(t)
	b.Settle(1)
	c := kafkatest.Start(t, 1)
	url := c.URL()
	if err := drain(t.Context(), t, b, strings.Replace(url, "/outcomes", "/missing", 1)); err == nil ||
		!strings.Contains(err.Error(), "there is no topic missing") {
		t.Errorf("a topic that is missing: %v", err)
	}
	c.Close()
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Second)
	defer cancel()
	if err := drain(ctx, t, b, url); err == nil {
		t.Error("delivered to brokers that are down")
	}
}

func TestConfiguration(t *testing.T) {
	t.Parallel()
	for text, says := range map[string]string{
		"kafka://broker":                                         "the path is the topic",
		"kafka://broker/a/b":                                     "the path is the topic",
		"kafka://broker/a#spread=all":                            "spread is",
		"kafka://broker/a#sasl=plain":                            "sasl needs",
		"kafka://u:hunter2@broker/a#sasl=md5":                    "sasl is plain",
		"kafka://u:hunter2@broker/a":                             "",
		"kafka+tls://u:hunter2@broker/a#sasl=scram-sha-512":      "",
		"kafka+tls://u:hunter2@broker:9093/a#sasl=scram-sha-256": "",
	} {
		targets, err := relay.ParseTargets(text)
		if err != nil {
			t.Fatal(err)
		}
		_, err = kafka.New(targets[0])
		if (err == nil) != (says == "") || err != nil && !strings.Contains(err.Error(), says) {
			t.Errorf("%s: %v, want %q", text, err, says)
		}
	}
}
