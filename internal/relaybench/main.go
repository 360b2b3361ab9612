// Command relaybench measures what relaying costs the lane, and how far a relay is behind: the rate at which a worker
// settles transfers without a relay, with one to NATS JetStream (one server, sync_interval always), and with one to a
// webhook; then the lag at half of the first rate, from settled_at to the consumer. Everything works on the same
// machine, Postgres with fsync on.
package main

import (
	"context"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"slices"
	"sync"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/nats-io/nats-server/v2/server"
	"github.com/tidwall/gjson"

	"github.com/lastseat/lastseat/internal/localpg"
	"github.com/lastseat/lastseat/internal/relay/webhook"
	"github.com/lastseat/lastseat/schema"
)

var (
	requests = flag.Int("jobs", 50_000, "requests that are settled at full rate")
	seconds  = flag.Int("seconds", 20, "how long the lag is measured")
)

func main() {
	flag.Parse()
	slog.SetDefault(slog.New(slog.DiscardHandler))
	if err := run(context.Background(), os.Stdout); err != nil {
		fmt.Fprintln(os.Stderr, "relaybench:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, out io.Writer) error {
	b, err := setUp(ctx)
	if err != nil {
		return err
	}
	defer b.close()
	plain, err := b.fullRate(ctx)
	if err != nil {
		return err
	}
	_, _ = fmt.Fprintf(out, "without a relay: %.0f requests/s\n", plain)
	for _, to := range b.targets {
		stop, err := b.relay(ctx, to)
		if err != nil {
			return err
		}
		with, err := b.fullRate(ctx)
		if err != nil {
			return err
		}
		began := time.Now()
		if err := b.caughtUp(ctx); err != nil {
			return err
		}
		_, _ = fmt.Fprintf(out, "%s: %.0f requests/s (%.0f%%); at the end %.1f s later\n", to.name, with, 100*with/plain,
			time.Since(began).Seconds())
		lags, err := b.lag(ctx, plain/2, to)
		stop()
		if err != nil {
			return err
		}
		_, _ = fmt.Fprintf(out, "%s at %.0f requests/s: %d outcomes, lag p50 %v, p99 %v, most %v\n", to.name, plain/2,
			len(lags), percentile(lags, 50), percentile(lags, 99), percentile(lags, 100))
	}
	return nil
}

// target is where a relay delivers, with what arrives there.
type target struct {
	name, url string
	mu        sync.Mutex
	lags      []time.Duration // nil: not measured
	measuring bool
}

// take notes how long after it was settled an event is acknowledged.
func (t *target) take(body []byte) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.measuring {
		t.lags = append(t.lags, time.Since(gjson.GetBytes(body, "time").Time()))
	}
}

func percentile(sorted []time.Duration, p int) time.Duration {
	if len(sorted) == 0 {
		return 0
	}
	return sorted[(len(sorted)-1)*p/100].Round(100 * time.Microsecond)
}

type bench struct {
	pool    *pgxpool.Pool
	targets []*target
	asked   int
	undo    []func()
}

func (b *bench) close() {
	for _, undo := range slices.Backward(b.undo) {
		undo()
	}
}

func setUp(ctx context.Context) (*bench, error) {
	b := &bench{}
	postgres, err := localpg.Start(ctx, localpg.Options{})
	if err != nil {
		return nil, err
	}
	b.undo = append(b.undo, func() { _ = postgres.Stop() })
	if _, err = schema.Up(ctx, postgres.URL(), false); err == nil {
		b.pool, err = pgxpool.New(ctx, postgres.URL())
	}
	if err != nil {
		return nil, err
	}
	b.undo = append(b.undo, b.pool.Close)
	err = pgx.BeginFunc(ctx, b.pool, func(tx pgx.Tx) error {
		_, err := tx.Exec(ctx, `SELECT lastseat.open_account('bank-' || n, 'EUR', overdraft_limit => NULL)
			FROM generate_series(1, 1000) n`)
		return err
	})
	if err != nil {
		return nil, err
	}
	return b, b.setUpTargets()
}

func (b *bench) setUpTargets() error {
	dir, err := os.MkdirTemp("", "lastseat-relaybench-")
	if err != nil {
		return err
	}
	b.undo = append(b.undo, func() { _ = os.RemoveAll(dir) })
	broker, err := server.NewServer(&server.Options{
		Host: "127.0.0.1", Port: server.RANDOM_PORT, JetStream: true, StoreDir: dir, SyncAlways: true, NoSigs: true,
	})
	if err != nil {
		return err
	}
	broker.Start()
	b.undo = append(b.undo, broker.Shutdown)
	if !broker.ReadyForConnections(time.Minute) {
		return fmt.Errorf("the NATS server does not start")
	}
	hook := &target{name: "webhook"}
	endpoint := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		if body, err := io.ReadAll(r.Body); err == nil {
			hook.take(body)
		}
	}))
	b.undo = append(b.undo, endpoint.Close)
	hook.url = endpoint.URL + "#name=hook&allow=private&secret=" + webhook.NewSecret()
	b.targets = []*target{{name: "JetStream", url: broker.ClientURL() + "#name=stream&replicas=1"}, hook}
	return nil
}
