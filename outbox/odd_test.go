package outbox_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/lastseat/lastseat/outbox"
)

// Each of these has made the lane stand still for ever, or charged a job for what others did.

func TestOddRowsDoNotStopTheLane(t *testing.T) {
	t.Parallel()
	for name, columns := range map[string]string{
		"created at infinity":    `created_at) VALUES ('infinity'`,
		"created before time":    `created_at) VALUES ('-infinity'`,
		"attempts used up":       `attempt, max_attempts) VALUES (32767, 1`,
		"attempted by a square":  `attempted_by) VALUES (ARRAY[['a', 'b'], ['c', 'd']]`,
		"errors in a square":     `errors) VALUES (ARRAY[['{}', '{}'], ['{}', '{}']]::jsonb[]`,
		"more attempts than may": `attempt, max_attempts) VALUES (9, 3`,
	} {
		for _, keep := range []time.Duration{0, time.Hour} {
			t.Run(fmt.Sprint(name, " kept ", keep), func(t *testing.T) {
				inBothForms(t, func(t *testing.T, b *bench) {
					b.settler.set(misbehave(map[string]func(context.Context, pgx.Tx) error{"bad": failing}))
					b.enqueue("used")
					for _, args := range []string{`{"key": "good"}`, `{"key": "bad"}`, `{"key": "used", "note": "other"}`} {
						b.exec(`INSERT INTO lastseat.river_job (kind, queue, args, ` + strings.Replace(columns, ") VALUES (",
							fmt.Sprintf(") VALUES ('toy', 'lastseat', '%s', ", args), 1) + `)`)
					}
					b.enqueue("after")
					b.drain(outbox.Settings{KeepCompleted: keep})
					b.wantOutcome("good", outbox.Applied, "played")
					b.wantOutcome("after", outbox.Applied, "played")
					if o := b.outcome("bad"); o.Status == outbox.Applied || o.Attempts == 0 && o.Status == outbox.Pending {
						t.Errorf("%+v", o)
					}
				})
			})
		}
	}
}

// A job that takes the connection with it, in whichever way, is found and blamed.
func TestJobThatLosesTheConnection(t *testing.T) {
	t.Parallel()
	for name, way := range map[string]func(context.Context, pgx.Tx) error{
		"a deadline of its own": func(ctx context.Context, tx pgx.Tx) error {
			ctx, cancel := context.WithTimeout(ctx, 20*time.Millisecond)
			defer cancel()
			_, err := tx.Exec(ctx, `SELECT pg_sleep(5)`)
			return err
		},
		"a panic over open rows": func(ctx context.Context, tx pgx.Tx) error {
			rows, err := tx.Query(ctx, `SELECT generate_series(1, 100000)`)
			if err != nil {
				return err
			}
			rows.Next()
			panic("index out of luck")
		},
		"a cancelled statement": func(ctx context.Context, tx pgx.Tx) error {
			_, err := tx.Exec(ctx, `SELECT pg_cancel_backend(pg_backend_pid()), pg_sleep(1)`)
			return err
		},
	} {
		t.Run(name, func(t *testing.T) {
			inBothForms(t, func(t *testing.T, b *bench) {
				b.settler.set(misbehave(map[string]func(context.Context, pgx.Tx) error{"k-0005": way}))
				b.enqueue(numbered("k", 9)...)
				b.start(outbox.Settings{})
				b.eventually("the others are played", func() bool { return len(b.played()) == 8 })
				b.eventually("the job has its error", func() bool { return b.outcome("k-0005").Attempts > 0 })
				for _, key := range []string{"k-0004", "k-0006"} {
					if o := b.outcome(key); o.Attempts != 1 {
						t.Errorf("%+v", o)
					}
				}
			})
		})
	}
}

// Once is nobody's fault.
func TestCancelledOnceIsNoAttempt(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	once := true
	b.settler.set(func(ctx context.Context, tx pgx.Tx, _ outbox.Job) (err error) {
		if once {
			once = false
			_, err = tx.Exec(ctx, `SELECT pg_cancel_backend(pg_backend_pid()), pg_sleep(1)`)
		}
		return err
	})
	b.enqueue("a")
	b.drain(outbox.Settings{})
	b.enqueue("b")
	b.drain(outbox.Settings{})
	if o := b.outcome("a"); o.Attempts != 1 || !slices.Equal(b.played(), []string{"a", "b"}) {
		t.Errorf("%+v, played %v", o, b.played())
	}
}

func TestNoRoomForPredicateLocks(t *testing.T) {
	t.Parallel()
	inBothForms(t, func(t *testing.T, b *bench) {
		var seen []string
		b.settler.set(func(ctx context.Context, tx pgx.Tx, _ outbox.Job) error {
			var level string
			if err := tx.QueryRow(ctx, `SHOW transaction_isolation`).Scan(&level); err != nil {
				return err
			}
			if seen = append(seen, level); len(seen) == 1 {
				_, err := tx.Exec(ctx, `DO $$ BEGIN RAISE 'out of shared memory' USING ERRCODE = '53200'; END $$`)
				return err
			}
			return nil
		})
		b.enqueue("a")
		b.drain(outbox.Settings{})
		b.enqueue("b")
		b.drain(outbox.Settings{})
		if !slices.Equal(seen, []string{"serializable", "repeatable read", "serializable"}) {
			t.Errorf("%v", seen)
		}
	})
}

func TestDefaultsOfTheDatabase(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	b.exec(`DO $$ BEGIN EXECUTE format('ALTER DATABASE %I SET default_transaction_read_only = on', current_database());
		EXECUTE format('ALTER DATABASE %I SET statement_timeout = ''50ms''', current_database()); END $$`)
	b.settler.set(func(ctx context.Context, tx pgx.Tx, _ outbox.Job) error {
		_, err := tx.Exec(ctx, `SELECT pg_sleep(0.2)`)
		return err
	})
	b.enqueue("a") // on a connection from before
	b.drain(outbox.Settings{})
	b.wantOutcome("a", outbox.Applied, "played")
}

// Who asks to retry a pending request does not keep the lane from it.
func TestRetryOfAPendingRequestLocksNothing(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	b.enqueue("a")
	tx, err := b.pool.Begin(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = tx.Rollback(context.WithoutCancel(t.Context())) }()
	if receipt, err := outbox.Retry(t.Context(), tx, "a"); err != nil || !receipt.Duplicate {
		t.Fatalf("%+v, %v", receipt, err)
	}
	if stats := b.drain(outbox.Settings{}); stats.Applied != 1 || stats.Conflicts != 0 {
		t.Errorf("%+v", stats)
	}
}

// A raw job whose key somebody is just about to ask for waits for him; the others do not.
func TestRawJobWithAKeyThatIsBeingAskedFor(t *testing.T) {
	t.Parallel()
	for _, commits := range []bool{true, false} {
		t.Run(fmt.Sprint("he commits: ", commits), func(t *testing.T) {
			inBothForms(t, func(t *testing.T, b *bench) {
				tx, err := b.pool.Begin(t.Context())
				if err != nil {
					t.Fatal(err)
				}
				if _, err := outbox.Enqueue(t.Context(), tx, "k", toy{Note: "x"}); err != nil {
					t.Fatal(err)
				}
				b.raw(`{"key": "k", "note": "x"}`)
				b.start(outbox.Settings{})
				b.enqueue("other")
				b.eventually("the other is played", func() bool { return slices.Equal(b.played(), []string{"other"}) })
				if commits {
					err = tx.Commit(t.Context())
				} else {
					err = tx.Rollback(t.Context())
				}
				if err != nil {
					t.Fatal(err)
				}
				b.eventually("it is played once", func() bool { return slices.Equal(b.played(), []string{"other", "k"}) })
				b.eventually("no job is left",
					func() bool { return one[int](b, `SELECT count(*) FROM lastseat.river_job WHERE kind = 'toy'`) == 0 })
			})
		})
	}
}

// River discards a unique job itself, when another one like it is there.
func TestJobDiscardedByRiver(t *testing.T) {
	t.Parallel()
	inBothForms(t, func(t *testing.T, b *bench) {
		b.enqueue("a")
		b.exec(`UPDATE lastseat.river_job SET state = 'discarded', finalized_at = now()`)
		b.wantOutcome("a", outbox.Failed, outbox.CodeJobCancelled)
		if err := pgx.BeginFunc(t.Context(), b.pool, func(tx pgx.Tx) error {
			_, err := outbox.Retry(t.Context(), tx, "a")
			return err
		}); err != nil {
			t.Fatal(err)
		}
		b.drain(outbox.Settings{})
		b.wantOutcome("a", outbox.Applied, "played")
	})
}

func TestKeysOfJobsAreReserved(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	if _, err := outbox.EnqueueMany(t.Context(), b.pool, []outbox.Request{{Key: "river_job:7",
		Args: toy{}}}); !errors.Is(err, outbox.ErrInvalid) {
		t.Errorf("%v", err)
	}
	next := b.raw(`{}`) + 2
	b.raw(fmt.Sprintf(`{"key": "river_job:%d"}`, next))
	if id := b.raw(`[]`); id != next {
		t.Fatalf("id %d, want %d", id, next)
	}
	b.drain(outbox.Settings{})
	for id := next - 2; id <= next; id++ {
		b.wantOutcome(fmt.Sprintf("river_job:%d", id), outbox.Rejected, outbox.CodeInvalidArgs)
	}
}

// Workers that disagree about the number of lanes do not work at the same time.
func TestDifferentNumbersOfLanes(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	stop := b.start(outbox.Settings{Lanes: 1})
	b.enqueue("a")
	b.eventually("the first works", func() bool { return len(b.played()) == 1 })
	told := &lines{}
	b.start(outbox.Settings{Lanes: 3, Logger: slog.New(slog.NewTextHandler(told, nil))})
	b.eventually("each lane of the second waits", func() bool {
		return told.with("another number of lanes", "lane=0") && told.with("another number of lanes", "lane=1") &&
			told.with("another number of lanes", "lane=2")
	})
	if told.with("lane taken", "") {
		t.Error("the second has taken a lane beside the first")
	}
	stop()
	b.enqueue("b", "c", "d")
	b.eventually("the second goes on", func() bool { return len(b.played()) == 4 })
}

// lines are those of a log.
type lines struct {
	mu  sync.Mutex
	all []string
}

func (l *lines) logger() *slog.Logger { return slog.New(slog.NewTextHandler(l, nil)) }

func (l *lines) Write(line []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.all = append(l.all, string(line))
	return len(line), nil
}

// with tells whether a line says both.
func (l *lines) with(this, that string) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return slices.ContainsFunc(l.all, func(line string) bool {
		return strings.Contains(line, this) &&
			strings.Contains(line, that)
	})
}

// A job that is cut off twice, and whose row can't take a failed attempt: it is discarded with what can be said of
// it, and the lane goes on.
func TestJobThatIsCutOffAndCannotBeCharged(t *testing.T) {
	t.Parallel()
	for name, way := range map[string]func(context.Context, pgx.Tx) error{
		"a cancelled statement": func(ctx context.Context, tx pgx.Tx) error {
			_, err := tx.Exec(ctx, `SELECT pg_cancel_backend(pg_backend_pid()), pg_sleep(1)`)
			return err
		},
		"a deadline of its own": func(ctx context.Context, tx pgx.Tx) error {
			ctx, cancel := context.WithTimeout(ctx, 20*time.Millisecond)
			defer cancel()
			_, err := tx.Exec(ctx, `SELECT pg_sleep(5)`)
			return err
		},
	} {
		t.Run(name, func(t *testing.T) {
			inBothForms(t, func(t *testing.T, b *bench) {
				b.exec(`ALTER TABLE lastseat.river_job ADD CONSTRAINT no_errors CHECK (errors IS NULL)`)
				b.settler.set(misbehave(map[string]func(context.Context, pgx.Tx) error{"bad": way}))
				b.enqueue("before", "bad", "after")
				b.start(outbox.Settings{})
				b.eventually("the others are played", func() bool { return slices.Equal(b.played(), []string{"before", "after"}) })
				b.eventually("the job is given up", func() bool { return b.outcome("bad").Status == outbox.Failed })
				if o := b.outcome("bad"); o.Code != outbox.CodeRetriesExhausted || !strings.Contains(string(o.Detail),
					"no_errors") {
					t.Errorf("%+v, detail %s", o, o.Detail)
				}
				if state := one[string](b, `SELECT state::text FROM lastseat.river_job WHERE kind = 'toy'`); state != "discarded" {
					t.Errorf("the job is %s", state)
				}
			})
		})
	}
}
