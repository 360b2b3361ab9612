package outbox_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/lastseat/lastseat/outbox"
)

// Real conflicts, made certain by barriers: the settler waits until the other session is where it has to be.

func (b *bench) counters(n int) {
	b.exec(`CREATE TABLE public.counters (id int PRIMARY KEY, n bigint NOT NULL DEFAULT 0)`)
	b.exec(`INSERT INTO public.counters SELECT generate_series(1, $1)`, n)
}

func bump(ctx context.Context, tx pgx.Tx, ids ...int) error {
	for _, id := range ids {
		if _, err := tx.Exec(ctx, `UPDATE public.counters SET n = n + 1 WHERE id = $1`, id); err != nil {
			return err
		}
	}
	return nil
}

// 40001: the lane has its snapshot, another session changes and commits a row, the lane changes it too.
func TestSerializationFailureIsRetried(t *testing.T) {
	t.Parallel()
	inBothForms(t, func(t *testing.T, b *bench) {
		b.counters(1)
		var interfere atomic.Int32
		interfere.Store(3)
		b.settler.set(func(ctx context.Context, tx pgx.Tx, job outbox.Job) error {
			// at the first job: the snapshot is taken, and no row is locked yet
			if job.Key == "k-0000" && interfere.Add(-1) >= 0 {
				b.exec(`UPDATE public.counters SET n = n + 1000`) // commits
			}
			return bump(ctx, tx, 1)
		})
		want := numbered("k", 50)
		b.enqueue(want...)
		stats := b.drain(outbox.Settings{})
		if stats.Conflicts != 3 || stats.Failures != 0 {
			t.Errorf("%+v, want 3 conflicts", stats)
		}
		if n := one[int](b, `SELECT n FROM public.counters`); n != 50+3000 {
			t.Errorf("counter %d", n)
		}
		if !slices.Equal(b.played(), want) {
			t.Error("out of order")
		}
		if n := one[int](b, `SELECT count(*) FROM lastseat.requests WHERE attempts = 1`); n != 50 {
			t.Errorf("%d requests have used one attempt, want all", n)
		}
	})
}

// 40P01: each of two sessions has the row that the other one wants.
func TestDeadlockIsRetried(t *testing.T) {
	t.Parallel()
	for name, level := range levels {
		t.Run(name, func(t *testing.T) {
			inBothForms(t, func(t *testing.T, b *bench) {
				b.counters(2)
				var once atomic.Bool
				other := make(chan error, 1)
				b.settler.set(func(ctx context.Context, tx pgx.Tx, job outbox.Job) error {
					if job.Key != "k-0003" {
						return nil
					}
					// Otherwise the lane would give up the wait before Postgres looks for a deadlock.
					if _, err := tx.Exec(ctx, `SET LOCAL lock_timeout = '20s'`); err != nil {
						return err
					}
					if err := bump(ctx, tx, 1); err != nil {
						return err
					}
					if once.CompareAndSwap(false, true) {
						has2 := make(chan struct{})
						go func() {
							other <- pgx.BeginFunc(context.WithoutCancel(t.Context()), b.pool, func(tx pgx.Tx) error {
								ctx := context.WithoutCancel(t.Context())
								// The lane's session looks for the deadlock first, and so is the one that gives way.
								if _, err := tx.Exec(ctx, `SET LOCAL deadlock_timeout = '20s'`); err != nil {
									return err
								}
								if err := bump(ctx, tx, 2); err != nil {
									return err
								}
								close(has2)
								return bump(ctx, tx, 1)
							})
						}()
						<-has2
						b.eventually("the other session waits", func() bool {
							return one[int](b, `SELECT count(*) FROM pg_locks WHERE NOT granted AND locktype = 'transactionid'`) > 0
						})
					}
					return bump(ctx, tx, 2)
				})
				b.enqueue(numbered("k", 10)...)
				stats := b.drain(outbox.Settings{Isolation: level})
				if err := <-other; err != nil {
					t.Errorf("the other session: %v", err)
				}
				if stats.Conflicts == 0 || stats.Failures != 0 || stats.Applied != 10 {
					t.Errorf("%+v", stats)
				}
				for id := 1; id <= 2; id++ {
					if n := one[int](b, `SELECT n FROM public.counters WHERE id = $1`, id); n != 2 {
						t.Errorf("counter %d is %d, want 2", id, n)
					}
				}
			})
		})
	}
}

// A conflict that does not go away: the batch is halved down to one job, the lane pauses, no attempt is used up and
// nothing overtakes the job that is stuck.
func TestStubbornConflictKeepsTheOrder(t *testing.T) {
	t.Parallel()
	inBothForms(t, func(t *testing.T, b *bench) {
		var stuck atomic.Int32
		var sizes []int
		stuck.Store(30)
		b.settler.set(func(ctx context.Context, tx pgx.Tx, job outbox.Job) error {
			if job.Key != "k-0020" {
				return nil
			}
			if left := stuck.Add(-1); left >= 0 {
				sizes = append(sizes, one[int](b, `SELECT count(*) FROM public.toy`))
				_, err := tx.Exec(ctx, `DO $$ BEGIN RAISE 'made up' USING ERRCODE = '40001'; END $$`)
				return err
			}
			return nil
		})
		want := numbered("k", 64)
		b.enqueue(want...)
		stats := b.drain(outbox.Settings{TxRetries: 2, Batch: 64})
		if !slices.Equal(b.played(), want) {
			t.Error("out of order")
		}
		if stats.Conflicts != 30 || stats.Failures != 0 {
			t.Errorf("%+v", stats)
		}
		if sizes[0] != 0 || sizes[29] != 20 {
			t.Errorf("settled before each conflict: %v, want all 20 that come first by the end", sizes)
		}
		if n := one[int](b, `SELECT max(attempts) FROM lastseat.requests`); n != 1 {
			t.Errorf("a request has used %d attempts", n)
		}
	})
}

// Producers that are SERIALIZABLE themselves and read what the lane writes: all of it settles, nothing is lost.
func TestSerializableProducers(t *testing.T) {
	t.Parallel()
	inBothForms(t, func(t *testing.T, b *bench) {
		b.counters(4)
		b.settler.set(func(ctx context.Context, tx pgx.Tx, job outbox.Job) error {
			return bump(ctx, tx, int(job.Key[len(job.Key)-1]%4)+1)
		})
		b.start(outbox.Settings{})
		const producers, each = 4, 50
		atOnce(t, producers, func(p int) error {
			for _, key := range numbered(fmt.Sprint("p", p), each) {
				for {
					err := pgx.BeginTxFunc(t.Context(), b.pool, pgx.TxOptions{IsoLevel: pgx.Serializable}, func(tx pgx.Tx) error {
						var n int
						if err := tx.QueryRow(t.Context(), `SELECT sum(n) FROM public.counters`).Scan(&n); err != nil {
							return err
						}
						_, err := outbox.Enqueue(t.Context(), tx, key, toy{})
						return err
					})
					if err == nil {
						break
					}
					if state := sqlState(err); state != "40001" && state != "40P01" {
						return err
					}
				}
			}
			return nil
		})
		b.eventually("all are settled", func() bool {
			return one[int](b, `SELECT count(*) FROM lastseat.requests WHERE status = 'applied'`) == producers*each
		})
		if n := one[int](b, `SELECT sum(n)::int FROM public.counters`); n != producers*each {
			t.Errorf("counters sum to %d", n)
		}
	})
}

// A session that holds a lock for long costs no job an attempt. What else it holds up: see waits_test.go.
func TestLockHeldForLong(t *testing.T) {
	t.Parallel()
	inBothForms(t, func(t *testing.T, b *bench) {
		b.counters(1)
		b.settler.set(func(ctx context.Context, tx pgx.Tx, _ outbox.Job) error {
			_, err := tx.Exec(ctx, `SET LOCAL lock_timeout = '50ms'`)
			return errors.Join(err, bump(ctx, tx, 1))
		})
		b.enqueue("a", "b")
		other, err := b.pool.Begin(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if err := bump(t.Context(), other, 1); err != nil {
			t.Fatal(err)
		}
		time.AfterFunc(500*time.Millisecond, func() { _ = other.Commit(context.WithoutCancel(t.Context())) })
		stats := b.drain(outbox.Settings{})
		if stats.Failures != 0 || stats.Applied != 2 {
			t.Errorf("%+v", stats)
		}
	})
}
