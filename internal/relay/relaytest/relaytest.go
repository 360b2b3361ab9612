// Package relaytest is what the tests of the relays share: a database with outcomes, and a consumer that looks at ids.
package relaytest

import (
	"context"
	"fmt"
	"log/slog"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/lastseat/lastseat/internal/relay"
	"github.com/lastseat/lastseat/internal/testdb"
	"github.com/lastseat/lastseat/jobs"
	"github.com/lastseat/lastseat/outbox"
)

// Bank is a database with two accounts between which money moves.
type Bank struct {
	T    testing.TB
	URL  string
	Pool *pgxpool.Pool

	asked int
}

// New makes a bank.
func New(t testing.TB) *Bank {
	t.Helper()
	url := testdb.New(t)
	b := &Bank{T: t, URL: url, Pool: testdb.Pool(t, url)}
	err := pgx.BeginFunc(t.Context(), b.Pool, func(tx pgx.Tx) error {
		_, err := jobs.OpenAccount(t.Context(), tx, jobs.Account{ID: "bank", Currency: "EUR"})
		if err == nil {
			_, err = jobs.OpenAccount(t.Context(), tx, jobs.Account{ID: "ada", Currency: "EUR", OverdraftLimit: new(int64)})
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// Ask asks for n transfers. Every fifth is refused.
func (b *Bank) Ask(n int) {
	b.T.Helper()
	for n > 0 {
		chunk := make([]outbox.Request, min(n, 5000))
		for i := range chunk {
			b.asked++
			transfer := jobs.Transfer{From: "bank", To: "ada", Amount: 1, Currency: "EUR"}
			if b.asked%5 == 0 {
				transfer = jobs.Transfer{From: "ada", To: "bank", Amount: 1 << 40, Currency: "EUR"}
			}
			chunk[i] = outbox.Request{Key: fmt.Sprintf("k-%07d", b.asked), Args: transfer}
		}
		if _, err := outbox.EnqueueMany(b.T.Context(), b.Pool, chunk); err != nil {
			b.T.Fatal(err)
		}
		n -= len(chunk)
	}
}

// Worker is a worker of the built-in kinds that says nothing.
func (b *Bank) Worker(settings outbox.Settings) *outbox.Worker {
	kinds := &outbox.Kinds{}
	jobs.Register(kinds)
	settings.Logger = slog.New(slog.DiscardHandler)
	return outbox.NewWorker(b.Pool, kinds, settings)
}

// Settle asks for n transfers and settles them.
func (b *Bank) Settle(n int) {
	b.T.Helper()
	b.Ask(n)
	if err := b.Worker(outbox.Settings{Batch: 50}).Drain(b.T.Context()); err != nil {
		b.T.Fatal(err)
	}
}

// Feed are the ids of all outcomes, in the order in which they were settled.
func (b *Bank) Feed() []string {
	b.T.Helper()
	rows, err := b.Pool.Query(context.WithoutCancel(b.T.Context()), `
		SELECT concat('lastseat:', current_database(), ':', concat_ws('.', t.token, l.xid, l.number, k.n))
		FROM lastseat.outcome_log l JOIN lastseat.timelines t ON t.number = l.timeline,
		     unnest(l.keys) WITH ORDINALITY AS k(key, n)
		ORDER BY l.timeline, l.xid, l.number, k.n`)
	if err != nil {
		b.T.Fatal(err)
	}
	ids, err := pgx.CollectRows(rows, pgx.RowTo[string])
	if err != nil {
		b.T.Fatal(err)
	}
	return ids
}

// Consumer looks at ids: it takes each once.
type Consumer struct {
	mu      sync.Mutex
	seen    map[string]bool
	ids     []string
	repeats int
}

// Take takes an event; false: it was taken before.
func (c *Consumer) Take(id string) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.seen[id] {
		c.repeats++
		return false
	}
	if c.seen == nil {
		c.seen = make(map[string]bool)
	}
	c.seen[id] = true
	c.ids = append(c.ids, id)
	return true
}

// Count is how many it has taken, and how many came again.
func (c *Consumer) Count() (taken, repeats int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return len(c.ids), c.repeats
}

// IDs are those that it has taken, in the order in which they came.
func (c *Consumer) IDs() []string {
	c.mu.Lock()
	defer c.mu.Unlock()
	return append([]string(nil), c.ids...)
}

// Proves demands that the consumer has taken exactly these ids, in this order.
func (c *Consumer) Proves(t testing.TB, want []string) {
	t.Helper()
	got := c.IDs()
	for i := range min(len(got), len(want)) {
		if got[i] != want[i] {
			t.Fatalf("outcome %d of %d came as %s, want %s: the order is wrong, or one is missing", i, len(want), got[i],
				want[i])
		}
	}
	if len(got) != len(want) {
		t.Fatalf("%d outcomes came, want %d", len(got), len(want))
	}
}

// Group is a group on sessions of its own, as in cmd/worker. They end with the test.
func Group(b *Bank) *relay.Group {
	b.T.Helper()
	holder := relay.NewHolder()
	config, err := pgxpool.ParseConfig(b.URL)
	if err != nil {
		b.T.Fatal(err)
	}
	config.ConnConfig.RuntimeParams["application_name"] = relay.SessionPrefix + holder
	pool, err := pgxpool.NewWithConfig(b.T.Context(), config)
	if err != nil {
		b.T.Fatal(err)
	}
	b.T.Cleanup(pool.Close)
	return &relay.Group{
		Holder: holder, DB: pool, Poll: 20 * time.Millisecond, Logger: slog.New(slog.DiscardHandler),
	}
}
