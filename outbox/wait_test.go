package outbox_test

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/lastseat/lastseat/outbox"
)

func TestWait(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	b.enqueue("a", "b")
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
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
