// Command jetstream prints what is in the stream LASTSEAT of the NATS server in NATS_URL, one outcome a line, and exits
// at its end. A service would use a durable consumer, and acknowledge a message when it has done its work.
package main

import (
	"context"
	"fmt"
	"os"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

func main() {
	if err := run(); err != nil {
		fmt.Fprintln(os.Stderr, "jetstream:", err)
		os.Exit(1)
	}
}

func run() error {
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	conn, err := nats.Connect(os.Getenv("NATS_URL"))
	if err != nil {
		return err
	}
	defer conn.Close()
	js, err := jetstream.New(conn)
	if err != nil {
		return err
	}
	stream, err := js.Stream(ctx, "LASTSEAT")
	if err != nil {
		return err
	}
	consumer, err := stream.OrderedConsumer(ctx, jetstream.OrderedConsumerConfig{})
	if err != nil {
		return err
	}
	messages, err := consumer.FetchNoWait(int(stream.CachedInfo().State.Msgs))
	if err != nil {
		return err
	}
	for message := range messages.Messages() {
		fmt.Println(message.Subject(), string(message.Data()))
	}
	return messages.Error()
}
