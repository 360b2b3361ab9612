package outbox_test

import (
	"context"
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/lastseat/lastseat/outbox"
)

// misbehave makes the jobs with these keys fail, each in its way.
func misbehave(ways map[string]func(ctx context.Context, tx pgx.Tx) error) func(context.Context, pgx.Tx,
	outbox.Job) error {
	return func(ctx context.Context, tx pgx.Tx, job outbox.Job) error {
		if way := ways[job.Key]; way != nil {
			return way(ctx, tx)
		}
		return nil
	}
}

func failing(context.Context, pgx.Tx) error { return errors.New("the printer is on fire") }

// dueNow makes the next attempt of all jobs due, whatever River's policy says.
func (b *bench) dueNow() {
	b.t.Helper()
	b.exec(`UPDATE lastseat.river_job SET state = 'available', scheduled_at = now()
		WHERE state IN ('available', 'retryable')`)
}

func TestBadJobsAreIsolated(t *testing.T) {
	t.Parallel()
	for name, level := range levels {
		t.Run(name, func(t *testing.T) {
			inBothForms(t, func(t *testing.T, b *bench) {
				b.settler.set(misbehave(map[string]func(context.Context, pgx.Tx) error{
					"k-0123": failing,
					"k-0124": func(context.Context, pgx.Tx) error { panic("index out of luck") },
					"k-0400": func(ctx context.Context, tx pgx.Tx) error {
						_, err := tx.Exec(ctx, `SELECT 1/0`)
						return err
					},
					"k-0499": func(ctx context.Context, tx pgx.Tx) error { // swallows the database's error
						_, _ = tx.Exec(ctx, `SELECT 1/0`)
						return nil
					},
				}))
				all := numbered("k", 500)
				b.enqueue(all...)
				bad := []string{"k-0123", "k-0124", "k-0400", "k-0499"}
				good := slices.DeleteFunc(slices.Clone(all), func(key string) bool { return slices.Contains(bad, key) })

				stats := b.drain(outbox.Settings{Batch: 500, Isolation: level})
				if !slices.Equal(b.played(), good) {
					t.Errorf("%d played, want the %d good ones in order", len(b.played()), len(good))
				}
				attempts := 0 // on a slow machine the first of them are due again before the batch has been divided to the end
				for _, key := range bad {
					b.wantOutcome(key, outbox.Pending, "")
					attempts += b.outcome(key).Attempts
				}
				if stats.Failures != int64(attempts) || stats.Conflicts != 0 {
					t.Errorf("%+v after %d attempts", stats, attempts)
				}
				// River's times: about a second after the first error, 16 after the second.
				if n := one[int](b, `SELECT count(*) FROM lastseat.river_job WHERE attempt >= 1 AND cardinality(errors) = attempt
				AND scheduled_at - attempted_at BETWEEN attempt ^ 4 * interval '0.85 s' AND attempt ^ 4 * interval '1.15 s'`,
				); n != 4 {
					t.Errorf("%d of 4 bad jobs have an error an attempt and River's next time", n)
				}
				trace := one[string](b, `SELECT errors[1] ->> 'trace' FROM lastseat.river_job WHERE args ->> 'key' = 'k-0124'`)
				if !strings.Contains(trace, "failure_test.go") {
					t.Errorf("trace of the panic: %s", trace)
				}
			})
		})
	}
}

func TestLastAttemptFailsTheRequestAndRetryRunsItAgain(t *testing.T) {
	t.Parallel()
	inBothForms(t, func(t *testing.T, b *bench) {
		ways := map[string]func(context.Context, pgx.Tx) error{"bad": failing}
		b.settler.set(misbehave(ways))
		b.enqueue("before", "bad", "after")
		b.exec(`UPDATE lastseat.river_job SET max_attempts = 3`)
		for range 3 {
			b.drain(outbox.Settings{})
			b.dueNow()
		}
		b.wantOutcome("bad", outbox.Failed, outbox.CodeRetriesExhausted)
		if o := b.outcome("bad"); o.Attempts != 3 || !strings.Contains(string(o.Detail), "printer is on fire") {
			t.Errorf("%d attempts, detail %s", o.Attempts, o.Detail)
		}
		if by := b.keys(`SELECT ordering FROM lastseat.requests WHERE key = 'bad'`); !slices.Equal(by, []string{"bad"}) {
			t.Errorf("the failed request is ordered by %q", by)
		}
		if state := one[string](b,
			`SELECT state || ' ' || attempt || ' ' || cardinality(errors) FROM lastseat.river_job`); state != "discarded 3 3" {
			t.Errorf("the job is %s", state)
		}

		retry := func() outbox.Receipt {
			var receipt outbox.Receipt
			err := pgx.BeginFunc(t.Context(), b.pool, func(tx pgx.Tx) (err error) {
				receipt, err = outbox.Retry(t.Context(), tx, "bad")
				return err
			})
			if err != nil {
				t.Fatal(err)
			}
			return receipt
		}
		if r := retry(); r.Status != outbox.Pending || r.Duplicate {
			t.Errorf("%+v", r)
		}
		if r := retry(); !r.Duplicate {
			t.Errorf("a second retry while pending: %+v", r)
		}
		b.drain(outbox.Settings{}) // fails once more
		b.wantOutcome("bad", outbox.Failed, outbox.CodeRetriesExhausted)
		retry()
		b.settler.set(nil)
		b.drain(outbox.Settings{})
		b.wantOutcome("bad", outbox.Applied, "played")
		if o := b.outcome("bad"); o.Attempts != 5 {
			t.Errorf("%d attempts, want 5", o.Attempts)
		}

		err := pgx.BeginFunc(t.Context(), b.pool, func(tx pgx.Tx) error {
			_, err := outbox.Retry(t.Context(), tx, "bad")
			return err
		})
		if !errors.Is(err, outbox.ErrInvalid) {
			t.Errorf("retry of an applied request: %v", err)
		}
	})
}

// River UI retries a discarded job by making it available: that counts as a retry of its request.
func TestRetryThroughRiver(t *testing.T) {
	t.Parallel()
	inBothForms(t, func(_ *testing.T, b *bench) {
		b.settler.set(misbehave(map[string]func(context.Context, pgx.Tx) error{"bad": failing}))
		b.enqueue("bad")
		b.exec(`UPDATE lastseat.river_job SET max_attempts = 1`)
		b.drain(outbox.Settings{})
		b.wantOutcome("bad", outbox.Failed, outbox.CodeRetriesExhausted)
		b.settler.set(nil)
		b.exec(`UPDATE lastseat.river_job SET state = 'available', finalized_at = NULL, max_attempts = 2`)
		b.drain(outbox.Settings{})
		b.wantOutcome("bad", outbox.Applied, "played")
	})
}

// A settler that keeps no promise: its results are refused, not recorded.
func TestNonsenseFromASettler(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	for kind, results := range map[string][]outbox.Result{
		"short": {}, "pending": {{Status: outbox.Pending, Code: "x"}}, "nocode": {{Status: outbox.Applied}},
		"detail": {{Status: outbox.Applied, Code: "x", Detail: func() {}}},
	} {
		b.kinds.Register(settlerFunc(func() []outbox.Result { return results }), outbox.Kind{Name: kind})
		if _, err := outbox.EnqueueMany(t.Context(), b.pool, []outbox.Request{{Key: kind, Args: outbox.RawArgs{Of: kind,
			JSON: []byte(`{}`)}}}); err != nil {
			t.Fatal(err)
		}
	}
	b.enqueue("good")
	b.drain(outbox.Settings{})
	if n := one[int](b, `SELECT count(*) FROM lastseat.requests WHERE status = 'pending' AND attempts = 1`); n != 4 {
		t.Errorf("%d of 4 are pending", n)
	}
	b.wantOutcome("good", outbox.Applied, "played")
}

type settlerFunc func() []outbox.Result

func (f settlerFunc) Settle(context.Context, pgx.Tx, outbox.Batch) ([]outbox.Result, error) {
	return f(), nil
}

// The database's own troubles use up no attempt of any job.
func TestNobodyIsBlamedForTheDatabase(t *testing.T) {
	t.Parallel()
	inBothForms(t, func(t *testing.T, b *bench) {
		full := 2
		b.settler.set(func(ctx context.Context, tx pgx.Tx, _ outbox.Job) error {
			if full--; full >= 0 {
				_, err := tx.Exec(ctx, `DO $$ BEGIN RAISE 'no space left on device' USING ERRCODE = '53100'; END $$`)
				return err
			}
			return nil
		})
		b.enqueue("a")
		began := time.Now()
		b.drain(outbox.Settings{})
		b.wantOutcome("a", outbox.Applied, "played")
		if o := b.outcome("a"); o.Attempts != 1 {
			t.Errorf("%d attempts, want 1", o.Attempts)
		}
		if took := time.Since(began); took < 2*time.Second {
			t.Errorf("two pauses of a second took %v", took)
		}
	})
}

// A job that holds the lane's transaction for too long is cut off and fails; the lane goes on.
func TestJobThatTakesTooLong(t *testing.T) {
	t.Parallel()
	inBothForms(t, func(t *testing.T, b *bench) {
		b.settler.set(misbehave(map[string]func(context.Context, pgx.Tx) error{
			"k-0003": func(context.Context, pgx.Tx) error { time.Sleep(600 * time.Millisecond); return nil },
		}))
		b.enqueue(numbered("k", 8)...)
		b.drain(outbox.Settings{HoldLimit: 200 * time.Millisecond})
		if len(b.played()) != 7 {
			t.Errorf("played %v", b.played())
		}
		if message := one[string](b, `SELECT errors[1] ->> 'error' FROM lastseat.river_job`); !strings.Contains(message,
			"more than 200ms") {
			t.Error(message)
		}
	})
}
