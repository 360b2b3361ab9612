package relay_test

import (
	"context"
	"errors"
	"os"
	"sync"
	"testing"
	"time"

	"github.com/lastseat/lastseat/internal/relay"
	"github.com/lastseat/lastseat/internal/relay/relaytest"
	"github.com/lastseat/lastseat/internal/testdb"
)

func TestMain(m *testing.M) { os.Exit(testdb.MainMigrated(m)) }

// sink hands events to a consumer, as far as behave lets it.
type sink struct {
	*relaytest.Consumer
	limits relay.Limits

	mu     sync.Mutex
	behave func(ctx context.Context, events []relay.Event) (n int, err error)
}

func newSink() *sink {
	return &sink{Consumer: &relaytest.Consumer{}, limits: relay.Limits{Batch: 7, Backoff: time.Millisecond}}
}

func (s *sink) Deliver(ctx context.Context, _ string, events []relay.Event) (int, error) {
	s.mu.Lock()
	behave := s.behave
	s.mu.Unlock()
	if behave != nil {
		return behave(ctx, events)
	}
	return s.take(events), nil
}

func (s *sink) take(events []relay.Event) int {
	for _, event := range events {
		s.Take(event.ID)
	}
	return len(events)
}

func (s *sink) set(behave func(ctx context.Context, events []relay.Event) (int, error)) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.behave = behave
}

func (s *sink) Limits() relay.Limits { return s.limits }

func (s *sink) Close() {}

var errBroker = errors.New("the broker is away")

func target(t *testing.T, text string) relay.Target {
	t.Helper()
	targets, err := relay.ParseTargets(text)
	if err != nil || len(targets) != 1 {
		t.Fatalf("%d targets, %v", len(targets), err)
	}
	return targets[0]
}

const plain = "https://shop.example#secret=x"

// process is a worker's relays on sessions of their own, as in cmd/worker.
type process struct {
	group  *relay.Group
	cancel context.CancelFunc
	ended  chan struct{}
}

func start(t *testing.T, b *relaytest.Bank, to relay.Sink, at relay.Target) *process {
	t.Helper()
	p := &process{ended: make(chan struct{})}
	p.group = relaytest.Group(b)
	p.group.Add(at, to)
	ctx, cancel := context.WithCancel(context.WithoutCancel(t.Context()))
	p.cancel = cancel
	go func() { defer close(p.ended); p.group.Run(ctx) }()
	t.Cleanup(p.stop)
	return p
}

func (p *process) stop() {
	p.cancel()
	<-p.ended
	p.group.DB.Close()
}

func drain(t *testing.T, b *relaytest.Bank, to relay.Sink, at relay.Target) error {
	t.Helper()
	group := relaytest.Group(b)
	defer group.DB.Close()
	group.Add(at, to)
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
