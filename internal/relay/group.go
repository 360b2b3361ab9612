package relay

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/lastseat/lastseat/internal/retry"
)

// NewHolder is a name for the relays of this process. Their sessions bear it: see [SessionPrefix].
func NewHolder() string {
	var random [6]byte
	_, _ = rand.Read(random[:]) // it never fails
	return hex.EncodeToString(random[:])
}

// Group is the relays of a process.
type Group struct {
	Holder string        // from [NewHolder]
	DB     *pgxpool.Pool // its sessions have the application_name SessionPrefix + Holder
	Poll   time.Duration // how often a relay looks without being told; default 1s
	Logger *slog.Logger

	relays []*Relay
}

// Add puts a target into the group, which closes its sink in the end.
func (g *Group) Add(target Target, sink Sink) {
	if g.Poll == 0 {
		g.Poll = time.Second
	}
	g.relays = append(g.relays, &Relay{
		target: target, sink: sink, limits: sink.Limits(), db: g.DB, holder: g.Holder, poll: g.Poll,
		wake: make(chan struct{}, 1), log: g.Logger.With(slog.String("relay", target.Name)),
	})
}

// Run relays until ctx is done.
func (g *Group) Run(ctx context.Context) {
	var running sync.WaitGroup
	running.Go(func() { g.listen(ctx) })
	for _, relay := range g.relays {
		running.Go(func() { relay.run(ctx) })
	}
	running.Wait()
	g.close()
}

// Drain relays what is settled by now, one target after the other. A target that fails ends it.
func (g *Group) Drain(ctx context.Context) error {
	defer g.close()
	for _, relay := range g.relays {
		if err := relay.drain(ctx); err != nil {
			return fmt.Errorf("relay %s: %w", relay.target.Name, err)
		}
	}
	return nil
}

func (g *Group) close() {
	for _, relay := range g.relays {
		relay.sink.Close()
	}
}

// listen wakes the relays when something was settled. A notification may be lost with its connection: they poll, too.
func (g *Group) listen(ctx context.Context) {
	for ctx.Err() == nil {
		if conn, err := g.DB.Acquire(ctx); err == nil {
			_, err = conn.Exec(ctx, "LISTEN lastseat_outcome")
			for err == nil {
				g.wakeAll()
				_, err = conn.Conn().WaitForNotification(ctx)
			}
			_ = conn.Conn().Close(context.WithoutCancel(ctx)) // a session that listens goes back to no pool
			conn.Release()
		}
		_ = retry.Sleep(ctx, g.Poll)
	}
}

func (g *Group) wakeAll() {
	for _, relay := range g.relays {
		select {
		case relay.wake <- struct{}{}:
		default:
		}
	}
}
