package outbox_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/lastseat/lastseat/internal/clitest"
	"github.com/lastseat/lastseat/outbox"
)

func TestWait(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	b.enqueue("a", "b")
	ctx, cancel := context.WithTimeout(t.Context(), time.Second)
	outcomes, err := outbox.Wait(ctx, b.pool, "a")
	cancel()
	if !errors.Is(err, context.DeadlineExceeded) || len(outcomes) != 1 || outcomes[0].Status != outbox.Pending {
		t.Errorf("%+v, %v", outcomes, err)
	}
	go func() {
		time.Sleep(50 * time.Millisecond)
		_ = b.worker(outbox.Settings{}).Drain(t.Context())
	}()
	outcomes, err = outbox.Wait(t.Context(), b.pool, "b", "a")
	if err != nil || len(outcomes) != 2 || outcomes[0].Key != "b" || outcomes[1].Status != outbox.Applied {
		t.Errorf("%+v, %v", outcomes, err)
	}
	if _, err = outbox.Wait(t.Context(), b.pool, "a", "nobody"); !errors.Is(err, outbox.ErrUnknown) ||
		!strings.Contains(err.Error(), `"nobody"`) {
		t.Errorf("%v", err)
	}
}

// Many wait at once on a pool that has two connections: one is their common ear, the other stays free. What one of
// them does wrong is told to nobody else.
func TestManyWaitOnOneConnection(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	config := b.pool.Config()
	config.MaxConns = 2
	pool, err := pgxpool.NewWithConfig(t.Context(), config)
	if err != nil {
		t.Fatal(err)
	}
	defer pool.Close()
	var keys []string
	for i := range 50 {
		keys = append(keys, fmt.Sprintf("w%d", i))
	}
	b.enqueue(keys...)
	many := slices.Repeat(keys, 3) // more than one may wait for on the common one
	type end struct {
		keys     []string
		outcomes []outbox.Outcome
		err      error
	}
	ends := make(chan end)
	calls := [][]string{many, {"w0", "nobody"}, {"w1", "a\x00b"}}
	for _, key := range keys {
		calls = append(calls, []string{key})
	}
	for _, call := range calls {
		go func() {
			outcomes, err := outbox.Wait(t.Context(), pool, call...)
			ends <- end{call, outcomes, err}
		}()
	}
	for range 2 { // those that nobody will ever settle
		if e := <-ends; len(e.keys) != 2 || e.err == nil {
			t.Fatalf("%v: %v", e.keys, e.err)
		}
	}
	for _, gone := range []int{1, 2} { // two go before they know anything
		ctx, cancel := context.WithCancel(t.Context())
		time.AfterFunc(time.Duration(gone)*time.Millisecond, cancel)
		if outcomes, err := outbox.Wait(ctx, pool, "w3"); !errors.Is(err, context.Canceled) || len(outcomes) > 1 {
			t.Errorf("%v, %v", outcomes, err)
		}
	}
	if err := b.worker(outbox.Settings{}).Drain(t.Context()); err != nil {
		t.Fatal(err)
	}
	for range len(calls) - 2 {
		e := <-ends
		if e.err != nil || len(e.outcomes) != len(e.keys) {
			t.Fatalf("%v: %d outcomes, %v", e.keys, len(e.outcomes), e.err)
		}
		for i, outcome := range e.outcomes {
			if outcome.Key != e.keys[i] || outcome.Status != outbox.Applied {
				t.Errorf("%s: %+v", e.keys[i], outcome)
			}
		}
	}
	clitest.Eventually(t, "the connections are free again", func() bool { return pool.Stat().AcquiredConns() == 0 })
}

// A connection that breaks ends the wait of all who share it; the next one who waits gets another.
func TestWaitsConnectionBreaks(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	config := b.pool.Config()
	config.ConnConfig.RuntimeParams["application_name"] = "who waits"
	pool, err := pgxpool.NewWithConfig(t.Context(), config)
	if err != nil {
		t.Fatal(err)
	}
	defer pool.Close()
	b.enqueue("a", "b")
	ends := make(chan error)
	for _, key := range []string{"a", "b"} {
		go func() {
			_, err := outbox.Wait(t.Context(), pool, key)
			ends <- err
		}()
	}
	clitest.Eventually(t, "both are looked for", func() bool {
		return one[int](b, `SELECT count(*) FROM pg_stat_activity WHERE application_name = 'who waits'
			AND datname = current_database() AND query ~ 'lastseat.outcomes' AND state = 'idle'`) == 1
	})
	b.exec(`SELECT pg_terminate_backend(pid) FROM pg_stat_activity
		WHERE application_name = 'who waits' AND datname = current_database()`)
	for range 2 {
		if err := <-ends; err == nil {
			t.Error("it goes on without a connection")
		}
	}
	if err := b.worker(outbox.Settings{}).Drain(t.Context()); err != nil {
		t.Fatal(err)
	}
	if outcomes, err := outbox.Wait(t.Context(), pool, "a", "b"); err != nil || len(outcomes) != 2 {
		t.Errorf("%v, %v", outcomes, err)
	}
}

func TestEnqueueErrors(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	b.enqueue("used")
	long := strings.Repeat("k", 201)
	for name, test := range map[string]struct {
		request outbox.Request
		want    error
		says    string
	}{
		"reused": {outbox.Request{Key: "used", Args: toy{Note: "other"}}, outbox.ErrKeyReused, `key "used"`},
		"other kind": {outbox.Request{Key: "used", Args: outbox.RawArgs{Of: "toy2", JSON: []byte(`{"note":"used"}`)}},
			outbox.ErrKeyReused, `key "used"`},
		"empty key":  {outbox.Request{Key: "", Args: toy{}}, outbox.ErrInvalid, "the key is empty"},
		"long key":   {outbox.Request{Key: long, Args: toy{}}, outbox.ErrInvalid, "201 characters"},
		"NUL in key": {outbox.Request{Key: "a\x00b", Args: toy{}}, outbox.ErrInvalid, "NUL byte"},
		"NUL inside": {outbox.Request{Key: "nul", Args: toy{Note: "a\x00b"}}, outbox.ErrInvalid, `"nul"`},
		"too large": {outbox.Request{Key: "large", Args: toy{Note: strings.Repeat("x", 64<<10)}}, outbox.ErrTooLarge,
			"65536"},
		"no args": {outbox.Request{Key: "none"}, outbox.ErrInvalid, "no arguments"},
		"array": {outbox.Request{Key: "array", Args: outbox.RawArgs{Of: "toy", JSON: []byte(`[1]`)}}, outbox.ErrInvalid,
			"a JSON array"},
		"other key": {outbox.Request{Key: "x", Args: outbox.RawArgs{Of: "toy", JSON: []byte(`{"key":"y"}`)}},
			outbox.ErrInvalid, `another key, "y"`},
		"our kind": {outbox.Request{Key: "x", Args: outbox.RawArgs{Of: "payment.tranfer", JSON: []byte(`{}`)}},
			outbox.ErrInvalid, "payment.tranfer"},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := outbox.EnqueueMany(t.Context(), b.pool, []outbox.Request{{Key: "fine-" + name, Args: toy{}}, test.request})
			refused := (*outbox.RequestError)(nil)
			if !errors.Is(err, test.want) || !errors.As(err, &refused) || refused.Index != 1 {
				t.Fatalf("%v, want %v of request 1", err, test.want)
			}
			if !strings.Contains(err.Error(), test.says) || strings.Contains(err.Error(), "\n") {
				t.Errorf("%q does not say %q on one line", err, test.says)
			}
			if n := one[int](b, `SELECT count(*) FROM lastseat.requests WHERE key LIKE 'fine%'`); n != 0 {
				t.Error("half of it was enqueued")
			}
			err = pgx.BeginFunc(t.Context(), b.pool, func(tx pgx.Tx) error {
				_, err := outbox.Enqueue(t.Context(), tx, test.request.Key, test.request.Args)
				return err
			})
			if !errors.Is(err, test.want) {
				t.Errorf("Enqueue: %v", err)
			}
		})
	}
}
