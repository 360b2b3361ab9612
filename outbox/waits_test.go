package outbox_test

import (
	"context"
	"fmt"
	"slices"
	"testing"

	"github.com/jackc/pgx/v5"

	"github.com/lastseat/lastseat/outbox"
)

// stand is a second kind, which has rows of its own.
type stand struct {
	Key string `json:"key,omitempty"`
}

func (stand) Kind() string { return "stand" }

// lockCounter is another session that has a counter locked until it is told to commit.
func (b *bench) lockCounter(id int) (commit func()) {
	b.t.Helper()
	ctx := context.WithoutCancel(b.t.Context())
	tx, err := b.pool.Begin(ctx)
	if err != nil {
		b.t.Fatal(err)
	}
	if _, err := tx.Exec(ctx, `SELECT FROM public.counters WHERE id = $1 FOR UPDATE`, id); err != nil {
		b.t.Fatal(err)
	}
	b.t.Cleanup(func() { _ = tx.Rollback(ctx) })
	return func() {
		if err := tx.Commit(ctx); err != nil {
			b.t.Error(err)
		}
	}
}

// A row that one kind needs is locked by somebody: the jobs of that kind wait, in order, use up no attempt, and the
// jobs of another kind are settled meanwhile, with or without a Settler.
func TestLockHoldsUpItsKindOnly(t *testing.T) {
	t.Parallel()
	inBothForms(t, func(t *testing.T, b *bench) {
		b.counters(1)
		told := &lines{}
		outbox.Register(b.kinds, func(context.Context, pgx.Tx, stand) (outbox.Result, error) {
			return outbox.Result{Status: outbox.Applied, Code: "stood"}, nil
		})
		b.settler.set(func(ctx context.Context, tx pgx.Tx, job outbox.Job) error {
			if job.Key != "k-0002" {
				return nil
			}
			return bump(ctx, tx, 1)
		})
		commit := b.lockCounter(1)
		want := numbered("k", 6)
		b.enqueue(want...)
		var others []string
		for i := range 3 {
			key := fmt.Sprint("other", i)
			others = append(others, key)
			if _, err := outbox.EnqueueMany(t.Context(), b.pool, []outbox.Request{{Key: key, Args: stand{}}}); err != nil {
				t.Fatal(err)
			}
		}
		b.start(outbox.Settings{Logger: told.logger()})
		b.eventually("the other kind is settled", func() bool {
			return !slices.ContainsFunc(others, func(key string) bool { return b.outcome(key).Status == outbox.Pending })
		})
		for _, key := range want[2:] {
			if o := b.outcome(key); o.Status != outbox.Pending || o.Attempts != 0 {
				t.Errorf("%s: %+v, while the row is locked", key, o)
			}
		}
		b.eventually("the log names the row and its holder", func() bool {
			return told.with("waiting for a row that another session has locked", "counters (0,1)")
		})
		commit()
		b.eventually("all is settled", func() bool { return len(b.played()) == len(want) })
		if got := b.played(); !slices.Equal(got, want) {
			t.Errorf("played %v", got)
		}
		if n := one[int](b, `SELECT count(*) FROM lastseat.requests WHERE attempts <> 1`); n != 0 {
			t.Errorf("%d requests have not used one attempt", n)
		}
	})
}

// A pending request that somebody has locked by hand holds up itself only.
func TestLockedRequestHoldsUpItselfOnly(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	want := numbered("k", 6)
	b.enqueue(want...)
	ctx := context.WithoutCancel(t.Context())
	tx, err := b.pool.Begin(ctx)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = tx.Rollback(ctx) }()
	if _, err := tx.Exec(ctx, `SELECT FROM lastseat.requests WHERE key = 'k-0002' FOR UPDATE`); err != nil {
		t.Fatal(err)
	}
	b.start(outbox.Settings{})
	b.eventually("the others are settled", func() bool { return len(b.played()) == len(want)-1 })
	b.wantOutcome("k-0002", outbox.Pending, "")
	if err := tx.Rollback(ctx); err != nil {
		t.Fatal(err)
	}
	b.eventually("all is settled", func() bool { return len(b.played()) == len(want) })
}
