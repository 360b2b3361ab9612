package outbox_test

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/lastseat/lastseat/outbox"
)

// raw inserts a job as any River client may, past lastseat.enqueue.
func (b *bench) raw(args string) int64 {
	b.t.Helper()
	return one[int64](b, `INSERT INTO lastseat.river_job (kind, queue, args) VALUES ('toy', 'lastseat', $1::jsonb)
		RETURNING id`, args)
}

func TestRawJobIsHonoured(t *testing.T) {
	t.Parallel()
	inBothForms(t, func(t *testing.T, b *bench) {
		id := b.raw(`{"key": "raw", "note": "x"}`)
		b.drain(outbox.Settings{})
		b.wantOutcome("raw", outbox.Applied, "played")
		if o := b.outcome("raw"); o.JobID != id || o.Attempts != 1 {
			t.Errorf("%+v", o)
		}
		// What SQL asks for later with the same arguments is the same request.
		receipt, err := outbox.EnqueueMany(t.Context(), b.pool, []outbox.Request{{Key: "raw", Args: toy{Note: "x"}}})
		if err != nil || !receipt[0].Duplicate || receipt[0].Status != outbox.Applied {
			t.Errorf("%+v, %v", receipt, err)
		}
	})
}

func TestRawJobWithAUsedKey(t *testing.T) {
	t.Parallel()
	for name, batch := range map[string]int{"in one batch": 100, "one by one": 1} {
		t.Run(name, func(t *testing.T) {
			inBothForms(t, func(t *testing.T, b *bench) {
				b.enqueue("a")
				b.raw(`{"key": "a", "note": "a"}`)                     // the same: a duplicate
				misused := b.raw(`{"key": "a", "note": "other"}`)      // the key of another request
				b.raw(`{"key": "b", "note": "b"}`)                     // new
				b.raw(`{"key": "b", "note": "b", "nothing": null}`)    // the same
				misusedToo := b.raw(`{"key": "b", "note": "another"}`) // the key of another request
				b.drain(outbox.Settings{Batch: batch})
				if !slices.Equal(b.played(), []string{"a", "b"}) {
					t.Errorf("played %v", b.played())
				}
				left := b.keys(`SELECT id || ' ' || state || ' ' || (errors[1] ->> 'error') FROM lastseat.river_job ORDER BY id`)
				want := []string{
					fmt.Sprintf(`%d discarded key "a" was used for another request (LS001)`, misused),
					fmt.Sprintf(`%d discarded key "b" was used for another request (LS001)`, misusedToo),
				}
				if !slices.Equal(left, want) {
					t.Errorf("left: %q, want %q", left, want)
				}
			})
		})
	}
}

func TestRawJobWithoutAUsableKey(t *testing.T) {
	t.Parallel()
	inBothForms(t, func(t *testing.T, b *bench) {
		ids := make(map[string]int64)
		for _, args := range []string{`{}`, `[]`, `[1, 2]`, `"text"`, `7`, `null`, `{"key": 7}`, `{"key": ""}`,
			`{"key": null}`, `{"key": "` + strings.Repeat("x", 201) + `"}`, `{"key": "  "}`, `{"key": "order\u200b7"}`,
			`{"key": "order-7\n"}`, `{"key": "\u202e7-redro"}`} {
			ids[args] = b.raw(args)
		}
		b.enqueue("good")
		b.drain(outbox.Settings{})
		for args, id := range ids {
			b.wantOutcome(fmt.Sprintf("river_job:%d", id), outbox.Rejected, outbox.CodeInvalidArgs)
			if t.Failed() {
				t.Fatal(args)
			}
		}
		if !slices.Equal(b.played(), []string{"good"}) {
			t.Errorf("played %v", b.played())
		}
		large := b.raw(`{"key": "large", "note": "` + strings.Repeat("x", 65<<10) + `"}`)
		b.drain(outbox.Settings{})
		b.wantOutcome("large", outbox.Rejected, outbox.CodeInvalidArgs)
		if o := b.outcome("large"); o.JobID != large || !strings.Contains(string(o.Detail), "65536") {
			t.Errorf("%+v", o)
		}
	})
}

// Started again by hand after it was settled, a job without a key finds the request that was made for it.
func TestRawJobWithoutAKeyStartedAgain(t *testing.T) {
	t.Parallel()
	inBothForms(t, func(t *testing.T, b *bench) {
		id := b.raw(`{}`)
		b.drain(outbox.Settings{KeepCompleted: time.Hour})
		b.exec(`UPDATE lastseat.river_job SET state = 'available', finalized_at = NULL`)
		if stats := b.drain(outbox.Settings{}); stats.Duplicates != 1 || stats.Conflicts != 0 {
			t.Errorf("%+v", stats)
		}
		b.wantOutcome(fmt.Sprintf("river_job:%d", id), outbox.Rejected, outbox.CodeInvalidArgs)
	})
}

// Just below 64 KiB when it was asked for, a request is not too large when its job is started again by hand.
func TestLargeRequestStartedAgain(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	b.settler.set(misbehave(map[string]func(context.Context, pgx.Tx) error{"large": failing}))
	note := strings.Repeat("x", 65536-len(`{"note": ""}`))
	if _, err := outbox.EnqueueMany(t.Context(), b.pool, []outbox.Request{{Key: "large",
		Args: toy{Note: note}}}); err != nil {
		t.Fatal(err)
	}
	b.exec(`UPDATE lastseat.river_job SET max_attempts = 1`)
	b.drain(outbox.Settings{})
	b.wantOutcome("large", outbox.Failed, outbox.CodeRetriesExhausted)
	b.settler.set(nil)
	b.exec(`UPDATE lastseat.river_job SET state = 'available', finalized_at = NULL, max_attempts = 2`)
	b.drain(outbox.Settings{})
	b.wantOutcome("large", outbox.Applied, "played")
	b.raw(fmt.Sprintf(`{"key": "raw", "note": %q}`, note))
	b.drain(outbox.Settings{})
	b.wantOutcome("raw", outbox.Applied, "played")
}
