package outbox_test

import (
	"context"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/lastseat/lastseat/outbox"
)

// everyLevel are the isolation levels at which the fence has to hold, the one of a lane without predicate locks
// included.
var everyLevel = []pgx.TxIsoLevel{pgx.Serializable, pgx.RepeatableRead, pgx.ReadCommitted}

// dropLocks loses the session's advisory locks, the lane's among them: what a handler, a pooler or an operator may do.
func dropLocks(ctx context.Context, tx pgx.Tx) error {
	_, err := tx.Exec(ctx, `SELECT pg_advisory_unlock_all()`)
	return err
}

// A worker that has lost the lane's advisory lock in the middle of a batch: the next one gets that lock, but it
// settles nothing before the batch has ended, and from then on it alone does.
func TestNobodySettlesBesideABatchInHand(t *testing.T) {
	t.Parallel()
	for _, level := range everyLevel {
		t.Run(string(level), func(t *testing.T) {
			t.Parallel()
			inBothForms(t, func(t *testing.T, b *bench) {
				inHand, refused := make(chan struct{}), make(chan struct{})
				second := *b
				second.workers = hookedPool(b, "rollback", sync.OnceFunc(func() { close(refused) }))
				b.settler.set(func(ctx context.Context, tx pgx.Tx, job outbox.Job) error {
					if job.Key != "k-0002" {
						return nil
					}
					if err := dropLocks(ctx, tx); err != nil {
						return err
					}
					close(inHand)
					for played := false; !played; { // on a lane without a fence the second one settles
						select {
						case <-refused:
							return nil
						case <-time.After(5 * time.Millisecond):
							played = len(b.played()) > 0
						}
					}
					return nil
				})
				want := numbered("k", 20)
				b.enqueue(want...)
				told := &lines{}
				b.start(outbox.Settings{Batch: 5, Isolation: level, Logger: told.logger(), ID: "first"})
				<-inHand
				second.start(outbox.Settings{Batch: 5, Isolation: level, ID: "second"})
				b.eventually("all are played", func() bool { return len(b.played()) >= len(want) })
				if got := b.played(); !slices.Equal(got, want) {
					t.Errorf("played %v: each once, in order", got)
				}
				b.eventually("the second takes the lane", func() bool {
					return strings.HasPrefix(one[string](b, `SELECT coalesce(holder, '') FROM lastseat.lanes`), "second ")
				})
				b.enqueue("late")
				b.eventually("the late one is played", func() bool { return len(b.played()) > len(want) })
				b.eventually("the first stands by", func() bool { return told.with("another worker has the lane", "") })
			})
		})
	}
}

// Three workers, each of which loses its advisory lock after every few jobs: the lane changes hands again and again.
func TestLaneChangesHandsAgainAndAgain(t *testing.T) {
	t.Parallel()
	for _, level := range everyLevel {
		t.Run(string(level), func(t *testing.T) {
			t.Parallel()
			b := newBench(t)
			var inside, most, calls atomic.Int32
			b.settler.set(func(ctx context.Context, tx pgx.Tx, _ outbox.Job) error {
				most.Store(max(most.Load(), inside.Add(1)))
				defer inside.Add(-1)
				if calls.Add(1)%7 == 0 {
					return dropLocks(ctx, tx)
				}
				return nil
			})
			want := numbered("k", 300)
			b.enqueue(want...)
			for _, id := range []string{"a", "b", "c"} {
				b.start(outbox.Settings{Batch: 10, Isolation: level, ID: id})
			}
			b.eventually("all are played", func() bool { return len(b.played()) >= len(want) })
			if got := b.played(); !slices.Equal(got, want) {
				t.Errorf("played %v: each once, in order", got)
			}
			if most.Load() != 1 {
				t.Errorf("%d settlers at once", most.Load())
			}
		})
	}
}

// The rows of the lanes say who holds them, and that they were left in good order.
func TestLanesAreLeftInGoodOrder(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	stop := b.start(outbox.Settings{Lanes: 2, ID: "me"})
	held := `SELECT count(*) FROM lastseat.lanes WHERE lanes = 2 AND holder LIKE 'me %' AND unclean = 0
		AND pid IN (SELECT pid FROM pg_stat_activity WHERE application_name = 'lastseat lane')`
	b.eventually("both lanes are held", func() bool { return one[int](b, held) == 2 })
	stop()
	if n := one[int](b, `SELECT count(*) FROM lastseat.lanes WHERE holder IS NULL AND pid IS NULL`); n != 2 {
		t.Errorf("%d of 2 lanes were left", n)
	}
	// Split into fewer lanes, and again into more.
	for _, lanes := range []int{1, 3} {
		b.enqueue(numbered("k"+string(rune('0'+lanes)), 30)...)
		b.drain(outbox.Settings{Lanes: lanes})
		if n := one[int](b, `SELECT count(*) FROM lastseat.lanes WHERE lanes = $1`, lanes); n != max(2, lanes) {
			t.Errorf("%d rows know of %d lanes", n, lanes)
		}
	}
	if n := len(b.played()); n != 60 {
		t.Errorf("%d played", n)
	}
}
