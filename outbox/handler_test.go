package outbox_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/lastseat/lastseat/outbox"
)

// puzzle is a kind whose handler does what a test has registered under its name.
type puzzle struct {
	Key string `json:"key,omitempty"`
	Way string `json:"way,omitempty"`
}

func (puzzle) Kind() string { return "puzzle" }

type way func(ctx context.Context, tx pgx.Tx) (outbox.Result, error)

var solved = outbox.Result{Status: outbox.Applied, Code: "solved"}

// puzzles registers ways, before each of which there is a write of the handler's.
func (b *bench) puzzles(ways map[string]way, options ...outbox.HandlerOption) {
	outbox.Register(b.kinds, func(ctx context.Context, tx pgx.Tx, args puzzle) (outbox.Result, error) {
		if _, err := tx.Exec(ctx, `INSERT INTO public.toy (key) VALUES ($1)`, args.Key); err != nil {
			return outbox.Result{}, err
		}
		if way := ways[args.Way]; way != nil {
			return way(ctx, tx)
		}
		return solved, nil
	}, options...)
}

// pose asks for a puzzle of each way, its name the key.
func (b *bench) pose(ways ...string) {
	b.t.Helper()
	for _, way := range ways {
		if _, err := outbox.EnqueueMany(b.t.Context(), b.pool, []outbox.Request{{Key: way,
			Args: puzzle{Way: way}}}); err != nil {
			b.t.Fatal(err)
		}
	}
}

func (b *bench) lastError(key string) string {
	b.t.Helper()
	return one[string](b, `SELECT coalesce(errors[cardinality(errors)] ->> 'error', '') FROM lastseat.river_job
		WHERE args ->> 'key' = $1`, key)
}

type unspeakable struct{}

func (unspeakable) MarshalJSON() ([]byte, error) { panic("there are no words") }

// What a handler answers, and what is left of its write: all in one transaction, in which no answer harms another.
func TestHandlersAnswers(t *testing.T) {
	t.Parallel()
	b := newEmptyBench(t)
	broken := func(ctx context.Context, tx pgx.Tx) error { _, err := tx.Exec(ctx, `SELECT 1/0`); return err }
	answers := map[string]struct {
		way    way
		status outbox.Status
		says   string // its code, or in the job's error
	}{
		"applied": {func(context.Context, pgx.Tx) (outbox.Result, error) { return solved, nil }, outbox.Applied,
			"solved"},
		"rejected": {func(context.Context, pgx.Tx) (outbox.Result, error) { return outbox.Reject("too_hard", 42), nil },
			outbox.Rejected, "too_hard"},
		"error": {func(context.Context, pgx.Tx) (outbox.Result, error) { return solved, errors.New("out of ideas") },
			outbox.Pending, "out of ideas"},
		"error of SQL": {func(ctx context.Context, tx pgx.Tx) (outbox.Result, error) { return solved, broken(ctx, tx) },
			outbox.Pending, "22012"},
		"swallowed": {func(ctx context.Context, tx pgx.Tx) (outbox.Result, error) {
			_ = broken(ctx, tx)
			return solved,
				nil
		}, outbox.Pending, "division by zero"},
		"swallowed reject": {func(ctx context.Context, tx pgx.Tx) (outbox.Result, error) {
			_ = broken(ctx, tx)
			return outbox.Reject("no", nil), nil
		}, outbox.Pending, "22012"},
		"panic": {func(context.Context, pgx.Tx) (outbox.Result, error) { panic("index out of luck") }, outbox.Pending,
			"index out of luck"},
		"exit": {func(context.Context, pgx.Tx) (outbox.Result, error) { runtime.Goexit(); return solved, nil },
			outbox.Pending, `returned status ""`},
		"pending": {func(context.Context, pgx.Tx) (outbox.Result, error) {
			return outbox.Result{Status: outbox.Pending, Code: "x"}, nil
		}, outbox.Pending, `returned status "pending"`},
		"no code": {func(context.Context, pgx.Tx) (outbox.Result, error) {
			return outbox.Result{Status: outbox.Applied}, nil
		}, outbox.Pending, `code ""`},
		"no detail": {func(context.Context, pgx.Tx) (outbox.Result, error) { return outbox.Reject("x", func() {}), nil },
			outbox.Pending, "unsupported type"},
		"detail panics": {func(context.Context, pgx.Tx) (outbox.Result, error) {
			return outbox.Reject("x", unspeakable{}),
				nil
		}, outbox.Pending, "there are no words"},
		"commits": {func(ctx context.Context, tx pgx.Tx) (outbox.Result, error) { return solved, tx.Commit(ctx) },
			outbox.Pending, "the transaction is the lane's"},
		"rolls back": {func(ctx context.Context, tx pgx.Tx) (outbox.Result, error) { return solved, tx.Rollback(ctx) },
			outbox.Pending, "the transaction is the lane's"},
		"nested": {func(ctx context.Context, tx pgx.Tx) (outbox.Result, error) {
			if err := pgx.BeginFunc(ctx, tx, func(tx pgx.Tx) error { return broken(ctx, tx) }); err == nil {
				return solved, errors.New("the error is lost")
			}
			return solved, pgx.BeginFunc(ctx, tx, func(tx pgx.Tx) error { _, err := tx.Exec(ctx, `SELECT`); return err })
		}, outbox.Applied, "solved"},
		"savepoint of the same name": {func(ctx context.Context, tx pgx.Tx) (outbox.Result, error) {
			_, err := tx.Exec(ctx, `SAVEPOINT handler; INSERT INTO public.toy (key) VALUES ('twice')`)
			return outbox.Reject("no", nil), err
		}, outbox.Rejected, "no"},
	}
	ways, names := make(map[string]way), []string{}
	for name, answer := range answers {
		ways[name], names = answer.way, append(names, name)
	}
	b.puzzles(ways)
	slices.Sort(names)
	b.pose(names...)
	stats := b.drain(outbox.Settings{})
	if stats.Batches != 1 || stats.Conflicts != 0 {
		t.Errorf("%+v, want one batch", stats)
	}
	for name, answer := range answers {
		o := b.outcome(name)
		says := o.Code
		if answer.status == outbox.Pending {
			says = b.lastError(name)
		}
		if o.Status != answer.status || o.Attempts != 1 || !strings.Contains(says, answer.says) {
			t.Errorf("%s: %+v, %s", name, o, says)
		}
	}
	if !slices.Equal(b.played(), []string{"applied", "nested"}) {
		t.Errorf("left: %q", b.played())
	}
	if trace := one[string](b,
		`SELECT errors[1] ->> 'trace' FROM lastseat.river_job WHERE args ->> 'key' = 'panic'`); !strings.Contains(trace,
		"handler_test.go") {
		t.Errorf("trace of the panic: %s", trace)
	}
}

// A conflict is nobody's fault, whatever the handler makes of its error; one of another database is the handler's
// own affair.
func TestConflictInAHandler(t *testing.T) {
	t.Parallel()
	b := newEmptyBench(t)
	var tries atomic.Int32
	conflicting := func(ctx context.Context, tx pgx.Tx) error {
		if tries.Add(1)%2 == 0 {
			return nil
		}
		_, err := tx.Exec(ctx, `DO $$ BEGIN RAISE 'made up' USING ERRCODE = '40001'; END $$`)
		return err
	}
	b.puzzles(map[string]way{
		"returned": func(ctx context.Context, tx pgx.Tx) (outbox.Result, error) { return solved, conflicting(ctx, tx) },
		"swallowed": func(ctx context.Context, tx pgx.Tx) (outbox.Result, error) {
			_ = conflicting(ctx, tx)
			return solved, nil
		},
		"flattened": func(ctx context.Context, tx pgx.Tx) (outbox.Result, error) {
			if err := conflicting(ctx, tx); err != nil {
				return solved, errors.New(err.Error())
			}
			return solved, nil
		},
		"nested": func(ctx context.Context, tx pgx.Tx) (outbox.Result, error) {
			return solved, pgx.BeginFunc(ctx, tx, func(tx pgx.Tx) error { return conflicting(ctx, tx) })
		},
		"elsewhere": func(context.Context, pgx.Tx) (outbox.Result, error) { return solved, &pgconn.PgError{Code: "40001"} },
		"down":      func(context.Context, pgx.Tx) (outbox.Result, error) { return solved, &pgconn.PgError{Code: "57P03"} },
	})
	good := []string{"returned", "swallowed", "flattened", "nested"}
	for _, name := range good {
		b.pose(name)
		if stats := b.drain(outbox.Settings{}); stats.Conflicts != 1 || stats.Failures != 0 || stats.Applied != 1 {
			t.Errorf("%s: %+v", name, stats)
		}
	}
	b.pose("elsewhere", "down", "good")
	if stats := b.drain(outbox.Settings{}); stats.Conflicts != 0 || stats.Failures != 2 || stats.Applied != 1 ||
		stats.Batches != 1 {
		t.Errorf("%+v", stats)
	}
	if !slices.Equal(b.played(), append(good, "good")) {
		t.Errorf("played %v", b.played())
	}
}

// chore is a kind that is settled in a queue of its own.
type chore struct {
	Key string `json:"key,omitempty"`
}

func (chore) Kind() string  { return "chore" }
func (chore) Queue() string { return "chores" }

// Follow-ups are asked for in the same commit, for the lane's own queue and for another one, whose worker has
// another isolation. Those of a handler that refuses or fails are gone.
func TestFollowUps(t *testing.T) {
	t.Parallel()
	b := newEmptyBench(t)
	levels := make(chan string, 10)
	ask := func(ctx context.Context, tx pgx.Tx, key string) error {
		_, err := outbox.Enqueue(ctx, tx, "puzzle/"+key, puzzle{})
		if err == nil {
			_, err = outbox.Enqueue(ctx, tx, "chore/"+key, chore{})
		}
		return err
	}
	b.puzzles(map[string]way{
		"applied": func(ctx context.Context, tx pgx.Tx) (outbox.Result, error) { return solved, ask(ctx, tx, "applied") },
		"rejected": func(ctx context.Context, tx pgx.Tx) (outbox.Result, error) {
			return outbox.Reject("no", nil), ask(ctx, tx, "rejected")
		},
		"failed": func(ctx context.Context, tx pgx.Tx) (outbox.Result, error) {
			return solved, errors.Join(ask(ctx, tx, "failed"), errors.New("after all"))
		},
		"used key": func(ctx context.Context, tx pgx.Tx) (outbox.Result, error) {
			_, err := outbox.Enqueue(ctx, tx, "applied", puzzle{Way: "another"})
			if !errors.Is(err, outbox.ErrKeyReused) {
				err = nil
			}
			return solved, err
		},
	})
	outbox.Register(b.kinds, func(ctx context.Context, tx pgx.Tx, args chore) (outbox.Result, error) {
		var level string
		err := tx.QueryRow(ctx,
			`INSERT INTO public.toy (key) VALUES ($1) RETURNING current_setting('transaction_isolation')`, args.Key).Scan(&level)
		levels <- level
		return solved, err
	})
	b.pose("applied", "rejected", "failed", "used key")
	for _, count := range []int{0, 1} { // before its lane is worked, and after
		if n := one[int](b, `SELECT count(*) FROM lastseat.requests WHERE key LIKE '%/%'`); n != 2*count {
			t.Errorf("%d follow-ups, want %d", n, 2*count)
		}
		b.drain(outbox.Settings{})
	}
	if !slices.Equal(b.played(), []string{"applied", "puzzle/applied"}) {
		t.Errorf("played %v", b.played())
	}
	b.wantOutcome("rejected", outbox.Rejected, "no")
	b.wantOutcome("chore/applied", outbox.Pending, "")
	if says := b.lastError("used key"); !strings.Contains(says, "LS001") {
		t.Error(says)
	}
	b.start(outbox.Settings{Queue: "chores", Isolation: pgx.ReadCommitted, Poll: time.Hour})
	b.eventually("the chore is done", func() bool { return b.outcome("chore/applied").Status == outbox.Applied })
	if level := <-levels; level != "read committed" {
		t.Errorf("the chores' queue is %s", level)
	}
	b.ring(t)
}

// ring has a handler ask for a chore while the chores' lane sleeps for an hour.
func (b *bench) ring(t *testing.T) {
	t.Helper()
	kinds := &outbox.Kinds{}
	outbox.Register(kinds, func(ctx context.Context, tx pgx.Tx, _ puzzle) (outbox.Result, error) {
		_, err := outbox.Enqueue(ctx, tx, "rung", chore{})
		return solved, err
	})
	b.pose("ring")
	if err := outbox.NewWorker(b.workers, kinds,
		outbox.Settings{Logger: slog.New(slog.DiscardHandler)}).Drain(t.Context()); err != nil {
		t.Fatal(err)
	}
	b.eventually("the chores' lane was rung for", func() bool { return slices.Contains(b.played(), "rung") })
}

// Handlers and a Settler in one batch: in order, and each sees what those before it have written.
func TestHandlersBesideASettler(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	var seen []int
	b.puzzles(map[string]way{"": func(ctx context.Context, tx pgx.Tx) (outbox.Result, error) {
		var n int
		err := tx.QueryRow(ctx, `SELECT count(*) FROM public.toy`).Scan(&n)
		seen = append(seen, n)
		return solved, err
	}, "no": func(context.Context, pgx.Tx) (outbox.Result, error) { return outbox.Reject("no", nil), nil }})
	want := numbered("k", 40)
	var requests []outbox.Request
	for i, key := range want {
		switch i % 4 {
		case 0, 1:
			requests = append(requests, outbox.Request{Key: key, Args: toy{}})
		case 2:
			requests = append(requests, outbox.Request{Key: key, Args: puzzle{}})
		case 3:
			requests = append(requests, outbox.Request{Key: key, Args: puzzle{Way: "no"}})
		}
	}
	if _, err := outbox.EnqueueMany(t.Context(), b.pool, requests); err != nil {
		t.Fatal(err)
	}
	stats := b.drain(outbox.Settings{})
	if stats.Batches != 1 || stats.Applied != 30 || stats.Rejected != 10 {
		t.Errorf("%+v", stats)
	}
	applied := slices.DeleteFunc(want, func(key string) bool { n, _ := strconv.Atoi(key[2:]); return n%4 == 3 })
	if !slices.Equal(b.played(), applied) {
		t.Errorf("played %v", b.played())
	}
	for i, n := range seen {
		if n != 3*(i+1) {
			t.Errorf("the handlers saw %v rows, want 3, 6, 9 ...", seen)
			break
		}
	}
}

// claims counts the rows that the lanes of a pool have claimed.
type claims struct{ rows atomic.Int64 }

func (*claims) TraceQueryStart(ctx context.Context, _ *pgx.Conn, _ pgx.TraceQueryStartData) context.Context {
	return ctx
}

func (*claims) TraceQueryEnd(context.Context, *pgx.Conn, pgx.TraceQueryEndData) {}

func (*claims) TraceBatchStart(ctx context.Context, _ *pgx.Conn, _ pgx.TraceBatchStartData) context.Context {
	return ctx
}

func (c *claims) TraceBatchQuery(_ context.Context, _ *pgx.Conn, data pgx.TraceBatchQueryData) {
	if strings.Contains(data.SQL, "WITH claimed") {
		c.rows.Add(data.CommandTag.RowsAffected())
	}
}

func (*claims) TraceBatchEnd(context.Context, *pgx.Conn, pgx.TraceBatchEndData) {}

// A transaction has 60 savepoints of handlers at most, and the lane learns to claim no more jobs than that.
func TestTransactionsHaveFewSavepoints(t *testing.T) {
	t.Parallel()
	for name, want := range map[string]struct {
		options []outbox.HandlerOption
		most    int
	}{"plain": {nil, 60}, "with two of its own": {[]outbox.HandlerOption{outbox.Savepoints(2)}, 20}} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := newHandlerBench(t, want.options...)
			config, err := pgxpool.ParseConfig(b.url)
			if err != nil {
				t.Fatal(err)
			}
			claimed := &claims{}
			config.ConnConfig.Tracer = claimed
			if b.workers, err = pgxpool.NewWithConfig(t.Context(), config); err != nil {
				t.Fatal(err)
			}
			defer b.workers.Close()
			all := numbered("k", 600)
			b.enqueue(all...)
			stats := b.drain(outbox.Settings{Batch: 200})
			if !slices.Equal(b.played(), all) {
				t.Errorf("%d played, or out of order", len(b.played()))
			}
			if most := one[int](b,
				`SELECT max(n) FROM (SELECT count(*) AS n FROM lastseat.requests GROUP BY settled_at) batch`); most != want.most {
				t.Errorf("a transaction had %d jobs, want %d", most, want.most)
			}
			// A batch that is repeated claims its jobs again.
			if n := claimed.rows.Load(); n < 600 || n > 600+200*(1+stats.Conflicts) {
				t.Errorf("%d rows were claimed for 600 jobs and a first batch of 200, with %d conflicts", n, stats.Conflicts)
			}
		})
	}
}

// What comes after handlers gets whole batches again.
func TestBatchesGrowAfterHandlers(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	b.puzzles(nil)
	var puzzles []outbox.Request
	for _, key := range numbered("p", 100) {
		puzzles = append(puzzles, outbox.Request{Key: key, Args: puzzle{}})
	}
	if _, err := outbox.EnqueueMany(t.Context(), b.pool, puzzles); err != nil {
		t.Fatal(err)
	}
	b.enqueue(numbered("k", 900)...)
	if stats := b.drain(outbox.Settings{}); stats.Batches > 8 || stats.Applied != 1000 {
		t.Errorf("%+v", stats)
	}
}

// Slow handlers share no transaction: what they lock is free after about a second.
func TestSlowHandlersHaveTransactionsOfTheirOwn(t *testing.T) {
	t.Parallel()
	b := newHandlerBench(t)
	var calls []string
	b.settler.set(func(_ context.Context, _ pgx.Tx, job outbox.Job) error {
		calls = append(calls, job.Key)
		if strings.HasPrefix(job.Key, "slow") {
			time.Sleep(550 * time.Millisecond)
		}
		return nil
	})
	b.enqueue("slow-1", "slow-2", "k-3")
	b.raw(`{"key": 7}`) // rejected without a handler, in its place all the same
	b.enqueue("k-5")
	stats := b.drain(outbox.Settings{})
	if stats.Failures != 0 || !slices.Equal(b.played(), []string{"slow-1", "slow-2", "k-3", "k-5"}) {
		t.Errorf("%+v, played %v", stats, b.played())
	}
	if len(calls) != 4 {
		t.Errorf("called for %v, want one call each", calls)
	}
	first, second := b.outcome("slow-2"), b.outcome("k-3")
	if !first.SettledAt.Before(*second.SettledAt) {
		t.Errorf("settled at %v and %v, want two transactions", first.SettledAt, second.SettledAt)
	}
}

func TestHandlersArguments(t *testing.T) {
	t.Parallel()
	b := newHandlerBench(t)
	b.raw(`{"key": "bad", "note": 7}`)
	b.raw(`{"key": "more", "note": "x", "more": 7}`)
	b.drain(outbox.Settings{})
	b.wantOutcome("bad", outbox.Rejected, outbox.CodeInvalidArgs)
	b.wantOutcome("more", outbox.Applied, "played")
}

func TestRegisterRefuses(t *testing.T) {
	t.Parallel()
	for name, option := range map[string]outbox.HandlerOption{
		"no time": outbox.Timeout(0), "60 savepoints": outbox.Savepoints(60), "fewer than none": outbox.Savepoints(-1),
	} {
		t.Run(name, func(t *testing.T) {
			defer func() {
				if said := fmt.Sprint(recover()); !strings.Contains(said, `kind "puzzle"`) {
					t.Error(said)
				}
			}()
			outbox.Register(&outbox.Kinds{}, func(context.Context, pgx.Tx, puzzle) (outbox.Result, error) {
				return solved,
					nil
			}, option)
		})
	}
}
