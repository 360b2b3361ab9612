package main

import (
	"context"
	"fmt"
	"log/slog"
	"slices"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/lastseat/lastseat/internal/relay"
	"github.com/lastseat/lastseat/internal/relay/natsjs"
	"github.com/lastseat/lastseat/internal/relay/webhook"
	"github.com/lastseat/lastseat/internal/retry"
	"github.com/lastseat/lastseat/jobs"
	"github.com/lastseat/lastseat/outbox"
)

// ask asks for n transfers among a thousand accounts.
func (b *bench) ask(ctx context.Context, n int) error {
	for n > 0 {
		chunk := make([]outbox.Request, min(n, 5000))
		for i := range chunk {
			b.asked++
			chunk[i] = outbox.Request{Key: fmt.Sprintf("k-%d", b.asked), Args: jobs.Transfer{
				From: fmt.Sprintf("bank-%d", b.asked%1000+1), To: fmt.Sprintf("bank-%d", (b.asked+7)%1000+1),
				Amount: 1, Currency: "EUR",
			}}
		}
		if _, err := outbox.EnqueueMany(ctx, b.pool, chunk); err != nil {
			return err
		}
		n -= len(chunk)
	}
	return nil
}

func (b *bench) worker() *outbox.Worker {
	kinds := &outbox.Kinds{}
	jobs.Register(kinds)
	return outbox.NewWorker(b.pool, kinds, outbox.Settings{})
}

// fullRate is how many requests a second the lane settles that has them all before it.
func (b *bench) fullRate(ctx context.Context) (float64, error) {
	if err := b.ask(ctx, *requests); err != nil {
		return 0, err
	}
	if _, err := b.pool.Exec(ctx, `VACUUM ANALYZE`); err != nil {
		return 0, err
	}
	began := time.Now()
	err := b.worker().Drain(ctx)
	return float64(*requests) / time.Since(began).Seconds(), err
}

// relay starts a relay. It begins with what is settled from now on.
func (b *bench) relay(ctx context.Context, to *target) (stop func(), err error) {
	targets, err := relay.ParseTargets(to.url + "&from=now")
	if err != nil {
		return nil, err
	}
	var sink relay.Sink
	if targets[0].URL.Scheme == "nats" {
		sink, err = natsjs.New(targets[0], slog.Default())
	} else {
		sink, err = webhook.New(targets[0])
	}
	if err != nil {
		return nil, err
	}
	holder := relay.NewHolder()
	config := b.pool.Config().Copy()
	config.ConnConfig.RuntimeParams["application_name"] = relay.SessionPrefix + holder
	pool, err := pgxpool.NewWithConfig(ctx, config)
	if err != nil {
		return nil, err
	}
	group := &relay.Group{Holder: holder, DB: pool, Logger: slog.Default()}
	group.Add(targets[0], sink)
	ctx, cancel := context.WithCancel(ctx)
	ended := make(chan struct{})
	go func() { defer close(ended); group.Run(ctx) }()
	stop = func() { cancel(); <-ended; pool.Close() }
	for { // until it has its row
		if all, err := relay.List(ctx, b.pool); err != nil || slices.ContainsFunc(all, func(s relay.Status) bool {
			return s.Running && s.Name == targets[0].Name
		}) {
			return stop, err
		}
		_ = retry.Sleep(ctx, 10*time.Millisecond)
	}
}

// caughtUp waits until every relay that runs is at the end.
func (b *bench) caughtUp(ctx context.Context) error {
	for {
		all, err := relay.List(ctx, b.pool)
		if err != nil {
			return err
		}
		if !slices.ContainsFunc(all, func(s relay.Status) bool { return s.Running && s.Lag.Outcomes > 0 }) {
			return nil
		}
		_ = retry.Sleep(ctx, 20*time.Millisecond)
	}
}

// lag settles and relays at a rate, and returns how long after it was settled each outcome reached a consumer, sorted.
func (b *bench) lag(ctx context.Context, rate float64, to *target) ([]time.Duration, error) {
	stopReading, err := to.read(ctx)
	if err != nil {
		return nil, err
	}
	defer stopReading()
	working, stop := context.WithCancel(ctx)
	ended := make(chan error, 1)
	go func() { ended <- b.worker().Run(working) }()
	to.mu.Lock()
	to.measuring = true
	to.mu.Unlock()
	const tick = 20 * time.Millisecond
	began := time.Now()
	for sent := 0; time.Since(began) < time.Duration(*seconds)*time.Second; {
		due := int(rate*time.Since(began).Seconds()) - sent
		if due > 0 {
			if err := b.ask(ctx, due); err != nil {
				stop()
				return nil, err
			}
			sent += due
		}
		_ = retry.Sleep(ctx, tick)
	}
	for {
		var left int
		err := b.pool.QueryRow(ctx, `SELECT count(*) FROM lastseat.river_job`).Scan(&left)
		if err != nil || left == 0 {
			break
		}
		_ = retry.Sleep(ctx, tick)
	}
	err = b.caughtUp(ctx)
	stop()
	if ended := <-ended; err == nil {
		err = ended
	}
	_ = retry.Sleep(ctx, time.Second) // for the consumer
	to.mu.Lock()
	defer to.mu.Unlock()
	to.measuring = false
	slices.Sort(to.lags)
	return to.lags, err
}

// read reads a stream as it grows. What a webhook gets, its endpoint takes.
func (t *target) read(ctx context.Context) (stop func(), err error) {
	targets, err := relay.ParseTargets(t.url)
	if err != nil || targets[0].URL.Scheme != "nats" {
		return func() {}, err
	}
	conn, err := nats.Connect(targets[0].URL.String())
	if err != nil {
		return nil, err
	}
	js, err := jetstream.New(conn)
	if err != nil {
		return nil, err
	}
	consumer, err := js.OrderedConsumer(ctx, "LASTSEAT", jetstream.OrderedConsumerConfig{
		DeliverPolicy: jetstream.DeliverNewPolicy,
	})
	if err != nil {
		return nil, err
	}
	consuming, err := consumer.Consume(func(message jetstream.Msg) { t.take(message.Data()) })
	if err != nil {
		return nil, err
	}
	return func() { consuming.Stop(); conn.Close() }, nil
}
