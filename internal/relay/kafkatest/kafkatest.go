// Package kafkatest runs a Kafka for tests, in their process, that breaks requests on demand.
package kafkatest

import (
	"context"
	"errors"
	"math/rand/v2"
	"sync/atomic"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/lastseat/lastseat/internal/clitest"
)

// Cluster is three brokers with the topic outcomes.
type Cluster struct {
	t      testing.TB
	fake   *kfake.Cluster
	faults atomic.Int32
}

// Start starts them. They end with the test.
func Start(t testing.TB, partitions int32) *Cluster {
	t.Helper()
	fake, err := kfake.NewCluster(kfake.NumBrokers(3), kfake.SeedTopics(partitions, "outcomes"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(fake.Close)
	return &Cluster{t: t, fake: fake}
}

// Close ends the brokers.
func (c *Cluster) Close() { c.fake.Close() }

// URL is what a relay is given. Options may follow with an & before each.
func (c *Cluster) URL() string {
	addresses := c.fake.ListenAddrs()
	return "kafka://" + addresses[0] + "/outcomes#server=" + addresses[1] + "&server=" + addresses[2]
}

// Break answers one of so many requests to produce with an error, or not at all.
func (c *Cluster) Break(every int32) {
	var requests atomic.Int32
	c.fake.ControlKey(int16(kmsg.Produce), func(request kmsg.Request) (kmsg.Response, error, bool) {
		c.fake.KeepControl()
		produce, ok := request.(*kmsg.ProduceRequest)
		if !ok || requests.Add(1)%every != 2 {
			return nil, nil, false
		}
		if c.faults.Add(1)%2 == 0 {
			return nil, errors.New("cut"), true
		}
		return refusal(produce), nil, true
	})
}

// Faults is how many requests were broken.
func (c *Cluster) Faults() int { return int(c.faults.Load()) }

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

// Read returns the records of the topic by partition, once it has so many with different ids.
func (c *Cluster) Read(n int) map[int32][]*kgo.Record {
	c.t.Helper()
	client, err := kgo.NewClient(kgo.SeedBrokers(c.fake.ListenAddrs()...), kgo.ConsumeTopics("outcomes"),
		kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()), kgo.FetchMaxWait(100*time.Millisecond))
	if err != nil {
		c.t.Fatal(err)
	}
	defer client.Close()
	ctx, cancel := context.WithTimeout(c.t.Context(), clitest.Patience)
	defer cancel()
	byPartition, seen := make(map[int32][]*kgo.Record), make(map[string]bool)
	for len(seen) < n {
		fetched := client.PollFetches(ctx)
		if ctx.Err() != nil {
			c.t.Fatalf("%d different records came, want %d", len(seen), n)
		}
		fetched.EachRecord(func(r *kgo.Record) {
			byPartition[r.Partition] = append(byPartition[r.Partition], r)
			seen[ID(r)] = true
		})
	}
	return byPartition
}

// ID is the id of an event in a record's headers.
func ID(r *kgo.Record) string {
	for _, header := range r.Headers {
		if header.Key == "id" {
			return string(header.Value)
		}
	}
	return ""
}
