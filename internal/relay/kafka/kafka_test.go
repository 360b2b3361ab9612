package kafka_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/lastseat/lastseat/internal/clitest"
	"github.com/lastseat/lastseat/internal/relay"
	"github.com/lastseat/lastseat/internal/relay/kafka"
	"github.com/lastseat/lastseat/internal/relay/relaytest"
	"github.com/lastseat/lastseat/internal/testdb"
	"github.com/lastseat/lastseat/jobs"
	"github.com/lastseat/lastseat/outbox"
)

func TestMain(m *testing.M) { os.Exit(testdb.MainMigrated(m)) }

func cluster(t *testing.T, partitions int32) (*kfake.Cluster, string) {
	t.Helper()
	c, err := kfake.NewCluster(kfake.NumBrokers(3), kfake.SeedTopics(partitions, "outcomes"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	addresses := c.ListenAddrs()
	return c, "kafka://" + addresses[0] + "/outcomes#server=" + addresses[1] + "&server=" + addresses[2]
}

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

// read returns the records of the topic, by partition.
func read(t *testing.T, c *kfake.Cluster, n int) map[int32][]*kgo.Record {
	t.Helper()
	client, err := kgo.NewClient(kgo.SeedBrokers(c.ListenAddrs()...), kgo.ConsumeTopics("outcomes"),
		kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()), kgo.FetchMaxWait(100*time.Millisecond))
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	ctx, cancel := context.WithTimeout(t.Context(), clitest.Patience)
	defer cancel()
	byPartition, seen := make(map[int32][]*kgo.Record), make(map[string]bool)
	for len(seen) < n {
		fetched := client.PollFetches(ctx)
		if ctx.Err() != nil {
			t.Fatalf("%d different records came, want %d", len(seen), n)
		}
		fetched.EachRecord(func(r *kgo.Record) {
			byPartition[r.Partition] = append(byPartition[r.Partition], r)
			seen[id(r)] = true
		})
	}
	return byPartition
}

func id(r *kgo.Record) string {
	for _, header := range r.Headers {
		if header.Key == "id" {
			return string(header.Value)
		}
	}
	return ""
}

// One request in three (ten under make soak) is answered with an error, or not at all; and the relay is cut off
// now and then. Whoever looks at ids has every outcome once, in order.
func TestFaults(t *testing.T) {
	t.Parallel()
	c, url := cluster(t, 1)
	b := relaytest.New(t)
	var requests, faults atomic.Int32
	every := int32(testdb.Soak(3, 10))
	c.ControlKey(int16(kmsg.Produce), func(request kmsg.Request) (kmsg.Response, error, bool) {
		c.KeepControl()
		produce, ok := request.(*kmsg.ProduceRequest)
		if !ok || requests.Add(1)%every != 2 {
			return nil, nil, false
		}
		switch faults.Add(1) % 2 {
		case 0:
			return nil, errors.New("cut"), true
		default:
			return refusal(produce), nil, true
		}
	})
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
	for _, record := range read(t, c, len(feed))[0] {
		consumer.Take(id(record))
	}
	consumer.Proves(t, feed)
	_, repeats := consumer.Count()
	t.Logf("%d faults, %d cuts, %d records that came again", faults.Load(), cuts, repeats)
	if faults.Load() == 0 || cuts == 0 {
		t.Error("nothing went wrong: the test has not tried it")
	}
}

// refusal answers a request with an error that a broker may give.
func refusal(produce *kmsg.ProduceRequest) kmsg.Response {
	response, _ := produce.ResponseKind().(*kmsg.ProduceResponse)
	codes := []int16{kerr.NotLeaderForPartition.Code, kerr.NotEnoughReplicas.Code, kerr.RequestTimedOut.Code}
	for _, topic := range produce.Topics {
		answer := kmsg.NewProduceResponseTopic()
		answer.Topic, answer.TopicID = topic.Topic, topic.TopicID
		for _, partition := range topic.Partitions {
			part := kmsg.NewProduceResponseTopicPartition()
			part.Partition, part.ErrorCode = partition.Partition, codes[rand.IntN(len(codes))]
			answer.Partitions = append(answer.Partitions, part)
		}
		response.Topics = append(response.Topics, answer)
	}
	return response
}

// Spread over partitions by what requests are ordered by, all outcomes of an account that pays are in one, in order,
// refusals too; what time brought about is with the reservation's other outcomes.
func TestSpread(t *testing.T) {
	t.Parallel()
	c, url := cluster(t, 4)
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
	partitions, partitionOf, codes := read(t, c, len(feed)), make(map[string]int32), make(map[string]int)
	for number, records := range partitions {
		last := -1
		for _, record := range records {
			at, known := place[id(record)]
			if !known || at <= last {
				t.Errorf("partition %d has %s behind outcome %d", number, id(record), last)
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
	c, url := cluster(t, 1)
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
