// Package kafka delivers outcomes to a topic of Kafka, with an idempotent producer and acknowledgements of all replicas
// in sync. In a partition the records are in the order in which the outcomes were settled, and none is missing.
package kafka

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/sasl/plain"
	"github.com/twmb/franz-go/pkg/sasl/scram"

	"github.com/lastseat/lastseat/internal/relay"
)

const (
	batch       = 500
	longestWait = 10 * time.Second
	ackTimeout  = 20 * time.Second
	bodyLimit   = 900_000 // of a broker that takes records of a megabyte, its default
)

// Sink is a topic.
type Sink struct {
	options []kgo.Opt
	topic   string
	spread  bool // over all partitions, by what requests are ordered by
	client  *kgo.Client
}

// New reads the options of a target: kafka://HOST:9092/TOPIC, or kafka+tls. Nothing is sent yet.
//
//   - spread=key: use all partitions, chosen by the record's key: what the request was ordered by, such as the account
//     that pays. Then order holds for one such key only. Without it every outcome goes to partition 0, in the
//     order of settling.
//   - server: another broker. sasl: plain (the default with a password in the URL), scram-sha-256 or scram-sha-512.
func New(target relay.Target) (*Sink, error) {
	s := &Sink{topic: strings.Trim(target.URL.Path, "/")}
	if s.topic == "" || strings.Contains(s.topic, "/") {
		return nil, errors.New("the path is the topic: kafka://HOST:9092/TOPIC")
	}
	switch target.Options.Get("spread") {
	case "":
	case "key":
		s.spread = true
	default:
		return nil, errors.New(`spread is "key"`)
	}
	partitioner := kgo.ManualPartitioner()
	if s.spread {
		partitioner = kgo.StickyKeyPartitioner(nil) // as Kafka's own clients choose by key
	}
	s.options = []kgo.Opt{
		kgo.ClientID("lastseat"), kgo.SeedBrokers(target.Servers("9092")...), kgo.DefaultProduceTopic(s.topic),
		kgo.RequiredAcks(kgo.AllISRAcks()), kgo.RecordPartitioner(partitioner), kgo.ProducerLinger(0),
		kgo.RecordDeliveryTimeout(ackTimeout), kgo.UnknownTopicRetries(2), kgo.MaxBufferedRecords(2 * batch),
		kgo.StopProducerOnDataLossDetected(),
	}
	if target.URL.Scheme == "kafka+tls" {
		s.options = append(s.options, kgo.DialTLS())
	}
	return s, s.authenticate(target)
}

func (s *Sink) authenticate(target relay.Target) error {
	method := target.Options.Get("sasl")
	if target.URL.User == nil {
		if method != "" {
			return errors.New("sasl needs a user and a password in the URL")
		}
		return nil
	}
	user := target.URL.User.Username()
	password, _ := target.URL.User.Password()
	switch method {
	case "", "plain":
		s.options = append(s.options, kgo.SASL(plain.Auth{User: user, Pass: password}.AsMechanism()))
	case "scram-sha-256":
		s.options = append(s.options, kgo.SASL(scram.Auth{User: user, Pass: password}.AsSha256Mechanism()))
	case "scram-sha-512":
		s.options = append(s.options, kgo.SASL(scram.Auth{User: user, Pass: password}.AsSha512Mechanism()))
	default:
		return errors.New("sasl is plain, scram-sha-256 or scram-sha-512")
	}
	return nil
}

// Limits implements [relay.Sink].
func (s *Sink) Limits() relay.Limits { return relay.Limits{Batch: batch, Backoff: longestWait} }

// Close implements [relay.Sink].
func (s *Sink) Close() {
	if s.client != nil {
		s.client.Close()
		s.client = nil
	}
}

// Deliver implements [relay.Sink]. After a failure the next attempt has a client of its own, so that nothing of this
// one is sent behind its back.
func (s *Sink) Deliver(ctx context.Context, _ string, events []relay.Event) (int, error) {
	if s.client == nil {
		client, err := kgo.NewClient(s.options...)
		if err != nil {
			return 0, err
		}
		s.client = client
	}
	records := make([]*kgo.Record, len(events))
	for i, event := range events {
		event, err := event.Within(bodyLimit)
		if err != nil {
			return 0, err
		}
		records[i] = &kgo.Record{
			Key: []byte(event.Ordering), Value: event.Body, Timestamp: *event.Outcome.SettledAt,
			Headers: []kgo.RecordHeader{
				{Key: "content-type", Value: []byte(relay.ContentType)}, {Key: "id", Value: []byte(event.ID)},
			},
		}
	}
	n, err := s.produce(ctx, records)
	if err != nil {
		s.Close()
	}
	return n, err
}

// produce sends records and returns how many, from the first, were acknowledged. A client whose broker is away may not
// give up a record that it has sent, for the sake of the sequence; so it is given up as a whole.
func (s *Sink) produce(ctx context.Context, records []*kgo.Record) (int, error) {
	results := make([]error, len(records))
	var waiting sync.WaitGroup
	for i, record := range records {
		waiting.Add(1)
		s.client.Produce(ctx, record, func(_ *kgo.Record, err error) { results[i] = err; waiting.Done() })
	}
	acknowledged := make(chan struct{})
	go func() { waiting.Wait(); close(acknowledged) }()
	timer := time.NewTimer(ackTimeout)
	defer timer.Stop()
	var failed error
	select {
	case <-acknowledged:
	case <-ctx.Done():
		failed = ctx.Err()
	case <-timer.C:
		failed = fmt.Errorf("the brokers did not acknowledge within %v", ackTimeout)
	}
	if failed != nil {
		s.client.Close() // ends every record that is left
		<-acknowledged
	}
	for i, err := range results {
		if err != nil {
			if failed == nil {
				failed = s.explain(err)
			}
			return i, failed
		}
	}
	return len(records), nil
}

func (s *Sink) explain(err error) error {
	switch {
	case errors.Is(err, kerr.UnknownTopicOrPartition):
		return fmt.Errorf("there is no topic %s: make it: %w", s.topic, err)
	case errors.Is(err, kerr.MessageTooLarge):
		return fmt.Errorf("the topic %s refuses the size of a record: raise its max.message.bytes: %w", s.topic, err)
	}
	return fmt.Errorf("the topic %s: %w", s.topic, err)
}
