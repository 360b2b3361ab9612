package outbox_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/lastseat/lastseat/outbox"
)

// A handler that ruins the lane's transaction or connection loses its attempt, at once and with a clear error.
// Nobody else does, and what came before it in its batch does not happen twice.
func TestHandlerThatRuinsTheTransaction(t *testing.T) {
	t.Parallel()
	exec := func(sqls ...string) way {
		return func(ctx context.Context, tx pgx.Tx) (outbox.Result, error) {
			for _, sql := range sqls {
				_, _ = tx.Exec(ctx, sql)
			}
			return solved, nil
		}
	}
	const ended = "the handler of puzzle ended the lane's transaction"
	for name, ruin := range map[string]struct {
		way  way
		says string
	}{
		"commits":            {exec(`COMMIT`), ended},
		"commits and chains": {exec(`COMMIT AND CHAIN`), ended},
		"commits and begins": {exec(`COMMIT`, `BEGIN`), ended},
		"runs a script":      {exec(`BEGIN; SELECT 1; COMMIT`), ended},
		"rolls back":         {exec(`ROLLBACK`), ended},
		"rolls back, begins": {exec(`ROLLBACK; BEGIN`), ended},
		"releases":           {exec(`RELEASE SAVEPOINT lastseat_handler`), ended},
		"past the savepoint": {func(ctx context.Context, tx pgx.Tx) (outbox.Result, error) {
			_, err := tx.Conn().Exec(ctx, `COMMIT`)
			return solved, err
		}, ended},
		"leaves rows": {func(ctx context.Context, tx pgx.Tx) (outbox.Result, error) {
			rows, err := tx.Query(ctx, `SELECT generate_series(1, 100000)`)
			rows.Next()
			return solved, err
		}, "left the rows of a query open"},
		"panics over rows": {func(ctx context.Context, tx pgx.Tx) (outbox.Result, error) {
			rows, _ := tx.Query(ctx, `SELECT generate_series(1, 100000)`)
			rows.Next()
			panic("index out of luck")
		}, "index out of luck"},
		"leaves a row": {func(ctx context.Context, tx pgx.Tx) (outbox.Result, error) {
			_ = tx.QueryRow(ctx, `SELECT 1`)
			return solved, nil
		}, "left the rows of a query open"},
		"has a deadline of its own": {func(ctx context.Context, tx pgx.Tx) (outbox.Result, error) {
			ctx, cancel := context.WithTimeout(ctx, 20*time.Millisecond)
			defer cancel()
			_, err := tx.Exec(ctx, `SELECT pg_sleep(60)`)
			return solved, err
		}, "context deadline exceeded"},
		"leaves a goroutine in a statement": {func(ctx context.Context, tx pgx.Tx) (outbox.Result, error) {
			entered := make(chan struct{})
			go func() {
				close(entered)
				_, _ = tx.Exec(context.WithoutCancel(ctx), `SELECT pg_sleep(60)`)
			}()
			<-entered
			time.Sleep(100 * time.Millisecond) // if it has not begun by then, it is refused: see the next test
			return solved, nil
		}, "goroutine"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := newEmptyBench(t)
			b.puzzles(map[string]way{"ruin": ruin.way})
			b.pose("a", "b", "ruin", "c")
			b.drain(outbox.Settings{})
			if !slices.Equal(b.played(), []string{"a", "b", "c"}) {
				t.Errorf("left: %q", b.played())
			}
			for _, key := range []string{"a", "b", "c"} {
				if o := b.outcome(key); o.Status != outbox.Applied || o.Attempts != 1 {
					t.Errorf("%+v", o)
				}
			}
			if o := b.outcome("ruin"); o.Status != outbox.Pending || o.Attempts != 1 || !strings.Contains(b.lastError("ruin"),
				ruin.says) {
				t.Errorf("%+v, %s", o, b.lastError("ruin"))
			}
		})
	}
}

// The three ways to take too long. The worker waits for none of them.
func TestHandlerThatTakesTooLong(t *testing.T) {
	t.Parallel()
	const limit = 100 * time.Millisecond
	forever := make(chan struct{})
	t.Cleanup(func() { close(forever) })
	for name, slow := range map[string]way{
		"sleeps, and heeds": func(ctx context.Context, _ pgx.Tx) (outbox.Result, error) {
			<-ctx.Done()
			return solved, ctx.Err()
		},
		"sleeps, and does not heed": func(context.Context, pgx.Tx) (outbox.Result, error) {
			<-forever
			return solved, nil
		},
		"in a statement": func(ctx context.Context, tx pgx.Tx) (outbox.Result, error) {
			_, err := tx.Exec(ctx, `SELECT pg_sleep(60)`)
			return solved, err
		},
		"in a statement, swallowed": func(ctx context.Context, tx pgx.Tx) (outbox.Result, error) {
			_, _ = tx.Exec(ctx, `SELECT pg_sleep(60)`)
			return solved, nil
		},
		"in a statement that does not heed": func(_ context.Context, tx pgx.Tx) (outbox.Result, error) {
			_, err := tx.Exec(context.Background(), `SELECT pg_sleep(60)`)
			return solved, err
		},
		// nobody reads what the server has to say
		"asleep over a statement": func(_ context.Context, tx pgx.Tx) (outbox.Result, error) {
			//nolint:sqlclosecheck // that is the point
			_, err := tx.Query(context.Background(), `SELECT repeat('x', 20000), CASE n WHEN 9 THEN pg_sleep(60) END
				FROM generate_series(1, 9) n`)
			<-forever
			return solved, err
		},
		"in a cursor that does not heed": func(_ context.Context, tx pgx.Tx) (outbox.Result, error) {
			rows, err := tx.Query(context.Background(), `SELECT pg_sleep(1), n FROM generate_series(1, 60) n`)
			if err != nil {
				return solved, err
			}
			for rows.Next() {
				continue
			}
			return solved, rows.Err()
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := newEmptyBench(t)
			b.puzzles(map[string]way{"slow": slow}, outbox.Timeout(limit))
			b.pose("a", "slow", "b")
			b.drain(outbox.Settings{})
			if !slices.Equal(b.played(), []string{"a", "b"}) {
				t.Errorf("left: %q", b.played())
			}
			if says := b.lastError("slow"); !strings.Contains(says, "the handler of puzzle took longer than 100ms") ||
				b.outcome("slow").Attempts != 1 {
				t.Errorf("%+v, %s", b.outcome("slow"), says)
			}
		})
	}
}

// A handler that was left behind comes back, and finds that it is too late.
func TestAbandonedHandlerComesBack(t *testing.T) {
	t.Parallel()
	b := newEmptyBench(t)
	back, said := make(chan struct{}), make(chan []error, 1)
	b.puzzles(map[string]way{"slow": func(ctx context.Context, tx pgx.Tx) (outbox.Result, error) {
		<-back
		said <- useAll(context.WithoutCancel(ctx), tx)
		return solved, nil
	}}, outbox.Timeout(50*time.Millisecond))
	b.pose("a", "slow", "b")
	b.drain(outbox.Settings{})
	close(back)
	for i, err := range <-said {
		if err == nil || !strings.Contains(err.Error(), "the handler has returned") {
			t.Errorf("use %d: %v", i, err)
		}
	}
	if !slices.Equal(b.played(), []string{"a", "b"}) {
		t.Errorf("left: %q", b.played())
	}
}

// A goroutine that a handler has left behind gets nowhere either, while the lane goes on.
func TestTransactionIsNoUseAfterTheHandler(t *testing.T) {
	t.Parallel()
	b := newEmptyBench(t)
	var left pgx.Tx
	b.puzzles(map[string]way{
		"leaves": func(_ context.Context, tx pgx.Tx) (outbox.Result, error) { left = tx; return solved, nil },
		"uses": func(ctx context.Context, _ pgx.Tx) (outbox.Result, error) {
			for i, err := range useAll(ctx, left) {
				if err == nil || !strings.Contains(err.Error(), "the handler has returned") {
					return solved, fmt.Errorf("use %d: %w", i, err)
				}
			}
			return solved, nil
		},
	})
	b.pose("leaves", "uses")
	b.drain(outbox.Settings{})
	b.wantOutcome("uses", outbox.Applied, "solved")
	if !slices.Equal(b.played(), []string{"leaves", "uses"}) {
		t.Errorf("left: %q", b.played())
	}
}

// useAll uses a transaction in all ways.
func useAll(ctx context.Context, tx pgx.Tx) []error {
	const sql = `INSERT INTO public.toy (key) VALUES ('stray')`
	_, begin := tx.Begin(ctx)
	_, exec := tx.Exec(ctx, sql)
	_, prepare := tx.Prepare(ctx, "stray", sql)
	_, copied := tx.CopyFrom(ctx, pgx.Identifier{"public", "toy"}, []string{"key"}, pgx.CopyFromRows([][]any{{"stray"}}))
	rows, query := tx.Query(ctx, sql)
	_, collect := pgx.CollectRows(rows, pgx.RowTo[int])
	batch := &pgx.Batch{}
	batch.Queue(sql)
	results := tx.SendBatch(ctx, batch)
	_, result := results.Exec()
	return []error{begin, exec, prepare, copied, query, collect, tx.QueryRow(ctx, sql).Scan(), result,
		results.QueryRow().Scan(), results.Close()}
}

// Goroutines of a handler may share its transaction while it waits for them.
func TestHandlersGoroutinesTakeTurns(t *testing.T) {
	t.Parallel()
	b := newEmptyBench(t)
	b.puzzles(map[string]way{"all": func(ctx context.Context, tx pgx.Tx) (outbox.Result, error) {
		done := make(chan error)
		for range 8 {
			go func() { _, err := tx.Exec(ctx, `INSERT INTO public.toy (key) VALUES ('g')`); done <- err }()
		}
		var all error
		for range 8 {
			all = errors.Join(all, <-done)
		}
		return solved, all
	}})
	b.pose("all")
	b.drain(outbox.Settings{})
	if n := len(b.played()); n != 9 {
		t.Errorf("%d rows, want 9", n)
	}
}

// A job that has cost the connection is cancelled before that can be recorded: nobody else is charged, and started
// again it is done.
func TestStuckJobIsCancelledMeanwhile(t *testing.T) {
	t.Parallel()
	b := newEmptyBench(t)
	forever := make(chan struct{})
	defer close(forever)
	var stuck atomic.Bool
	began := make(chan struct{}, 10)
	b.puzzles(map[string]way{"slow": func(context.Context, pgx.Tx) (outbox.Result, error) {
		if stuck.CompareAndSwap(false, true) {
			began <- struct{}{}
			<-forever
		}
		return solved, nil
	}}, outbox.Timeout(50*time.Millisecond))
	b.pose("a", "slow", "b")
	b.start(outbox.Settings{})
	<-began
	// waits for the lane's lock of the row, and has it before the lane is back
	b.exec(`UPDATE lastseat.river_job SET state = 'cancelled', finalized_at = now() WHERE args ->> 'key' = 'slow'`)
	b.eventually("the others are played", func() bool { return slices.Equal(b.played(), []string{"a", "b"}) })
	b.wantOutcome("slow", outbox.Failed, outbox.CodeJobCancelled)
	if err := pgx.BeginFunc(t.Context(), b.pool, func(tx pgx.Tx) error {
		_, err := outbox.Retry(t.Context(), tx, "slow")
		return err
	}); err != nil {
		t.Fatal(err)
	}
	b.eventually("it is played", func() bool { return slices.Equal(b.played(), []string{"a", "b", "slow"}) })
	if o := b.outcome("a"); o.Attempts != 1 {
		t.Errorf("%+v", o)
	}
}

// A worker that is stopped does not wait for a handler that doesn't come back, and charges it nothing.
func TestStopDuringAHandler(t *testing.T) {
	t.Parallel()
	b := newEmptyBench(t)
	forever, began := make(chan struct{}), make(chan struct{})
	defer close(forever)
	b.puzzles(map[string]way{"slow": func(context.Context, pgx.Tx) (outbox.Result, error) {
		close(began)
		<-forever
		return solved, nil
	}})
	b.pose("a", "slow")
	stop := b.start(outbox.Settings{StopTimeout: 50 * time.Millisecond})
	<-began
	stop()
	if n := one[int](b, `SELECT count(*) FROM lastseat.river_job WHERE kind = 'puzzle' AND state = 'available'
		AND attempt = 0 AND errors IS NULL`); n != 2 || len(b.played()) != 0 {
		t.Errorf("%d of 2 jobs are as they were, played %v", n, b.played())
	}
}

// Workers whose sessions are killed again and again, requests that are asked for twice, a job that fails: each
// effect and its follow-up once, in order.
func TestHandlersUnderFire(t *testing.T) {
	t.Parallel()
	b := newEmptyBench(t)
	var calls atomic.Int32
	b.puzzles(map[string]way{"": func(ctx context.Context, tx pgx.Tx) (outbox.Result, error) {
		if n := calls.Add(1); n%97 == 0 && n < 400 {
			_, _ = tx.Exec(ctx, `SELECT pg_terminate_backend(pg_backend_pid()), pg_sleep(5)`)
		}
		var key string
		err := tx.QueryRow(ctx, `SELECT key FROM public.toy ORDER BY n DESC LIMIT 1`).Scan(&key)
		if err == nil && !strings.HasPrefix(key, "next") {
			_, err = outbox.Enqueue(ctx, tx, "next "+key, puzzle{})
		}
		return solved, err
	}, "bad": func(context.Context, pgx.Tx) (outbox.Result, error) { panic("index out of luck") }})
	want := numbered("k", 200)
	b.start(outbox.Settings{})
	b.start(outbox.Settings{})
	for i, key := range want {
		request := outbox.Request{Key: key, Args: puzzle{}}
		if _, err := outbox.EnqueueMany(t.Context(), b.pool, []outbox.Request{request, request}); err != nil {
			t.Fatal(err)
		}
		if i%50 == 0 {
			b.pose("bad")
		}
	}
	b.eventually("all are settled", func() bool {
		return one[int](b, `SELECT count(*) FROM lastseat.requests WHERE status = 'applied'`) == 2*len(want)
	})
	if got := b.keys(`SELECT key FROM public.toy WHERE key LIKE 'k%' ORDER BY n`); !slices.Equal(got, want) {
		t.Errorf("%d of %d, or out of order", len(got), len(want))
	}
	if n := one[int](b, `SELECT count(DISTINCT key) FROM public.toy WHERE key LIKE 'next%'`); n != len(want) ||
		len(b.played()) != 2*len(want) {
		t.Errorf("%d follow-ups, %d effects", n, len(b.played()))
	}
	if n := one[int](b, `SELECT max(attempts) FROM lastseat.requests WHERE key <> 'bad'`); n != 1 {
		t.Errorf("%d attempts", n)
	}
}
