package jobs_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"math/big"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/lastseat/lastseat/internal/testdb"
	"github.com/lastseat/lastseat/jobs"
	"github.com/lastseat/lastseat/outbox"
)

// A payment's whole life in one batch, and in one batch a step.
func TestPaymentLife(t *testing.T) {
	t.Parallel()
	pool := newPool(t)
	exec(t, pool, `SELECT lastseat.open_account('bank', 'EUR', NULL), lastseat.open_account('ada', 'EUR'),
		lastseat.open_account('shop', 'EUR')`)
	for _, size := range []int{1, 2000} {
		prefix := map[int]string{1: "one-", 2000: "all-"}[size]
		exec(t, pool, `SELECT lastseat.transfer($1 || 'top-up', 'bank', 'ada', 1000, 'EUR')`, prefix)
		exec(t, pool, `SELECT lastseat.authorize($1 || 'authorize', $1 || 'p', 'ada', 'shop', 700, 'EUR')`, prefix)
		exec(t, pool, `SELECT lastseat.capture($1 || 'capture', $1 || 'p', 500)`, prefix)
		exec(t, pool, `SELECT lastseat.refund($1 || 'refund', $1 || 'p', 200), lastseat.refund($1 || 'refund-rest', $1
			|| 'p'), lastseat.refund($1 || 'too-much', $1 || 'p')`, prefix)
		exec(t, pool, `SELECT lastseat.reverse($1 || 'reverse', $1 || 'top-up'), lastseat.reverse($1 || 'again', $1
			|| 'top-up')`, prefix)
		if stats := drain(t, pool, outbox.Settings{Batch: size}); stats.Failures != 0 || size > 1 && stats.Batches != 1 {
			t.Errorf("%+v", stats) // nor may the database refuse a step of a batch: it would be cut, and go through
		}
		for key, code := range map[string]string{
			"authorize": jobs.CodeAuthorized, "capture": jobs.CodeCaptured, "refund": jobs.CodeRefunded,
			"refund-rest": jobs.CodeRefunded,
			"too-much":    jobs.CodeAmountExceedsCaptured, "reverse": jobs.CodeReversed, "again": jobs.CodeAlreadyReversed,
		} {
			if o := outcome(t, pool, prefix+key); o.Code != code {
				t.Errorf("%s%s: %s %s, want %s", prefix, key, o.Code, o.Detail, code)
			}
		}
		p, err := jobs.PaymentOf(t.Context(), pool, prefix+"p")
		if err != nil || p.Status != "captured" || p.Captured != 500 || p.Refunded != 500 || p.Version != 4 {
			t.Errorf("%+v, %v", p, err)
		}
	}
	proven(t, pool)
}

func TestAuthorizationExpires(t *testing.T) {
	t.Parallel()
	pool := newPool(t)
	exec(t, pool, `SELECT lastseat.open_account('bank', 'EUR', NULL), lastseat.open_account('shop', 'EUR')`)
	exec(t, pool, `SELECT lastseat.authorize('a', 'p', 'bank', 'shop', 700, 'EUR', now() + interval '3 seconds')`)
	drain(t, pool, outbox.Settings{})
	if b, err := jobs.BalanceOf(t.Context(), pool, "bank"); err != nil || b.Held != 700 || b.Balance != 0 {
		t.Errorf("%+v, %v", b, err)
	}
	time.Sleep(3100 * time.Millisecond)
	if stats := drain(t, pool, outbox.Settings{}); stats.Swept != 1 {
		t.Errorf("%+v", stats)
	}
	if b, err := jobs.BalanceOf(t.Context(), pool, "bank"); err != nil || b.Held != 0 {
		t.Errorf("%+v, %v", b, err)
	}
	if o := outcome(t, pool, "lastseat:payment.expire:p"); o.Code != jobs.CodeExpired || o.Status != outbox.Applied {
		t.Errorf("%+v", o)
	}
	proven(t, pool)
}

// Random histories through the real thing, in batches of any size: through SQL where that takes them, else straight
// into river_job, some jobs twice. What comes of them is what the model says.
func TestHistories(t *testing.T) {
	t.Parallel()
	for i := range testdb.Soak(6, 300) {
		seed := rand.IntN(1 << 30)
		settings := outbox.Settings{Batch: 1 + seed%50, Isolation: []pgx.TxIsoLevel{pgx.Serializable, pgx.ReadCommitted}[i%2]}
		t.Run(fmt.Sprintf("seed %d, batch %d, %s", seed, settings.Batch, settings.Isolation), func(t *testing.T) {
			t.Parallel()
			pool := newPool(t)
			m := jobs.NewModel()
			for id, a := range m.Accounts {
				exec(t, pool, `SELECT lastseat.open_account($1, $2, $3::text::bigint)`, id, a.Currency, text(a.Limit))
			}
			start := time.Now().Add(-time.Hour).Truncate(time.Second)
			steps := slices.DeleteFunc(jobs.Histories(start, 80).Example(seed), func(s jobs.Step) bool { return s.Args == nil })
			for i, step := range steps {
				door := []outbox.Request{{Key: step.Key, Args: step.Args}}
				_, err := outbox.EnqueueMany(t.Context(), pool, door)
				if a, ok := step.Args.(jobs.Authorize); ok && err == nil {
					m.Begin(step.Key, a)
				}
				if raw := errors.Is(err, outbox.ErrUnknown) || errors.Is(err, outbox.ErrKeyReused); err != nil && !raw {
					t.Fatal(err)
				} else if raw || (i+seed)%5 == 0 {
					insertJob(t, pool, step.Key, step.Args)
				}
				exec(t, pool, `UPDATE lastseat.river_job SET scheduled_at = $2 WHERE args ->> 'key' = $1`, step.Key,
					start.Add(step.After))
			}
			waiting := testdb.Scalar[int](t, pool, `SELECT count(*)::int FROM lastseat.river_job`)
			if stats := drain(t, pool, settings); stats.Failures != 0 || stats.Conflicts == 0 &&
				int(stats.Batches) > (waiting+settings.Batch-1)/settings.Batch {
				t.Errorf("%d jobs: %+v", waiting, stats) // more batches: the database has refused one, which was cut
			}
			for _, step := range steps {
				m.Expire(start.Add(step.After)) // in order with the requests, within a batch too
				if o, want := outcome(t, pool, step.Key), m.Do(step.Key, start.Add(step.After), step.Args); o.Code != want {
					t.Errorf("%s %+v: %s %s, the model says %s", step.Key, step.Args, o.Code, o.Detail, want)
				}
			}
			m.Expire(time.Now())
			compare(t, pool, m)
			proven(t, pool)
		})
	}
}

func text(n *big.Int) *string {
	if n == nil {
		return nil
	}
	return new(n.String())
}

// insertJob is what another River client does.
func insertJob(t *testing.T, pool *pgxpool.Pool, key string, args outbox.Args) {
	t.Helper()
	encoded, err := json.Marshal(args)
	if err != nil {
		t.Fatal(err)
	}
	exec(t, pool, `INSERT INTO lastseat.river_job (kind, queue, max_attempts, args) VALUES ($1, 'lastseat', 25, $2::jsonb
		|| jsonb_build_object('key', $3::text))`, args.Kind(), string(encoded), key)
}

func compare(t *testing.T, pool *pgxpool.Pool, m *jobs.Model) {
	t.Helper()
	for id, want := range m.Accounts {
		if b, err := jobs.BalanceOf(t.Context(), pool, id); err != nil || want.Balance.Cmp(big.NewInt(b.Balance)) != 0 ||
			want.Held.Cmp(big.NewInt(b.Held)) != 0 {
			t.Errorf("%+v (%v), the model says %v, %v held", b, err, want.Balance, want.Held)
		}
	}
	expired := 0
	for id, want := range m.Payments {
		p, err := jobs.PaymentOf(t.Context(), pool, id)
		if err != nil || p.Status != want.Status || want.Captured.Cmp(big.NewInt(p.Captured)) != 0 ||
			want.Refunded.Cmp(big.NewInt(p.Refunded)) != 0 ||
			!want.ExpiresAt.IsZero() && !p.ExpiresAt.Equal(want.ExpiresAt) {
			t.Errorf("%+v (%v), the model says %+v", p, err, *want)
		}
		if want.Status == "expired" {
			expired++
		}
	}
	if n := testdb.Scalar[int](t, pool, `SELECT count(*)::int FROM lastseat.payments`); n != len(m.Payments) {
		t.Errorf("%d payments, the model has %d", n, len(m.Payments))
	}
	if n := testdb.Scalar[int](t, pool, `SELECT count(*)::int FROM lastseat.requests WHERE kind = 'payment.expire'
		AND status = 'applied' AND code = 'expired' AND starts_with(key, 'lastseat:payment.expire:p')`); n != expired {
		t.Errorf("%d payments are recorded as expired, the model has %d", n, expired)
	}
}

// At the edges of 64 bits: refused with a code that says the figures, never wrapped around.
func TestEdgesOfBigint(t *testing.T) {
	t.Parallel()
	pool := newPool(t)
	exec(t, pool, `SELECT lastseat.open_account('top', 'EUR', NULL), lastseat.open_account('ada', 'EUR'),
		lastseat.open_account('full', 'EUR', NULL), lastseat.open_account('deep', 'EUR', 9223372036854775807)`)
	const most, half = math.MaxInt64, math.MaxInt64/2 + 1
	pay := func(from, to string, amount int64) jobs.Transfer {
		return jobs.Transfer{From: from, To: to, Amount: amount, Currency: "EUR"}
	}
	hold := func(payment, from, to string, amount int64) jobs.Authorize {
		return jobs.Authorize{Payment: payment, From: from, To: to, Amount: amount, Currency: "EUR"}
	}
	steps := []struct {
		args outbox.Args
		code string
	}{
		{pay("deep", "full", most), jobs.CodeTransferred}, // full is at the top
		{pay("deep", "full", 1), jobs.CodeInsufficientFunds},
		{pay("top", "full", 1), jobs.CodeOutOfRange},
		{hold("h1", "top", "ada", most), jobs.CodeAuthorized}, // as much as can be held
		{hold("h2", "top", "ada", 1), jobs.CodeOutOfRange},
		{hold("h3", "full", "ada", half), jobs.CodeAuthorized},
		{hold("h4", "full", "ada", half), jobs.CodeOutOfRange},
		{hold("h5", "full", "ada", half-1), jobs.CodeAuthorized}, // most is held
		{pay("top", "ada", 1), jobs.CodeTransferred},             // top: -1 - most is the least
		{pay("top", "ada", 1), jobs.CodeOutOfRange},
		{jobs.Capture{Payment: "h1"}, jobs.CodeOutOfRange}, // ada has 1
		{jobs.Capture{Payment: "h1", Amount: most - 1}, jobs.CodeCaptured},
		{jobs.Capture{Payment: "h3"}, jobs.CodeOutOfRange}, // ada is at the top
		{jobs.Void{Payment: "h3"}, jobs.CodeVoided},
		{pay("ada", "top", most), jobs.CodeTransferred},
		{jobs.Refund{Payment: "h1", Amount: most}, jobs.CodeAmountExceedsCaptured},
		{jobs.Refund{Payment: "h1"}, jobs.CodeInsufficientFunds}, // ada has spent it
		{hold("h6", "full", "ada", half), jobs.CodeAuthorized},
		{jobs.Capture{Payment: "h6"}, jobs.CodeCaptured},
		{pay("top", "full", half), jobs.CodeTransferred},  // full is at the top again
		{jobs.Refund{Payment: "h6"}, jobs.CodeOutOfRange}, // and can't be paid back
		{jobs.Reverse{Transfer: "t9"}, jobs.CodeReversed},
		{jobs.Reverse{Transfer: "t2"}, jobs.CodePaymentNotFound}, // it was refused
		{pay("full", "deep", 5), jobs.CodeTransferred},
		{jobs.Reverse{Transfer: "t1"}, jobs.CodeReversed}, // full: -5
		{pay("top", "ada", 5), jobs.CodeTransferred},
		{jobs.Void{Payment: "h5"}, jobs.CodeVoided},
		{pay("deep", "top", most), jobs.CodeTransferred},
		{pay("full", "top", half+4), jobs.CodeTransferred}, // top is at the top
		{jobs.Reverse{Transfer: "t26"}, jobs.CodeOutOfRange},
	}
	for i, step := range steps {
		if _, err := outbox.EnqueueMany(t.Context(), pool, []outbox.Request{{Key: fmt.Sprint("t", i+1),
			Args: step.args}}); err != nil {
			t.Fatal(err)
		}
	}
	if stats := drain(t, pool, outbox.Settings{Batch: 1 + rand.IntN(len(steps))}); stats.Failures != 0 {
		t.Errorf("%+v", stats)
	}
	for i, step := range steps {
		if o := outcome(t, pool, fmt.Sprint("t", i+1)); o.Code != step.code {
			t.Errorf("%d %+v: %s %s, want %s", i+1, step.args, o.Code, o.Detail, step.code)
		}
	}
	if b, err := jobs.BalanceOf(t.Context(), pool, "top"); err != nil || b.Balance != most || b.Held != 0 {
		t.Errorf("%+v, %v", b, err)
	}
	proven(t, pool)
}

// A request that fails for technical reasons leaves its payment pending: nothing can be captured, others go through,
// and a retry authorizes it as if nothing had been.
func TestFailedAuthorizeIsRetried(t *testing.T) {
	t.Parallel()
	pool := newPool(t)
	exec(t, pool, `SELECT lastseat.open_account('bank', 'EUR', NULL), lastseat.open_account('shop', 'EUR')`)
	exec(t, pool,
		`CREATE FUNCTION public.broken() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE 'disk on fire'; END $$`)
	exec(t, pool, `CREATE TRIGGER broken BEFORE UPDATE ON lastseat.payments FOR EACH ROW
		WHEN (NEW.id LIKE 'bad%') EXECUTE FUNCTION public.broken()`)
	for _, p := range []string{"good1", "bad", "good2"} {
		exec(t, pool, `SELECT lastseat.authorize($1, $1, 'bank', 'shop', 100, 'EUR', now() + interval '1 hour')`, p)
	}
	insertJob(t, pool, "bad-raw", jobs.Authorize{Payment: "bad-raw", From: "bank", To: "shop", Amount: 100,
		Currency: "EUR"})
	exec(t, pool, `UPDATE lastseat.river_job SET max_attempts = 1`)
	exec(t, pool, `SELECT lastseat.capture('capture', 'bad')`)
	drain(t, pool, outbox.Settings{})
	for key, code := range map[string]string{"good1": jobs.CodeAuthorized, "bad": outbox.CodeRetriesExhausted,
		"good2": jobs.CodeAuthorized, "bad-raw": outbox.CodeRetriesExhausted, "capture": jobs.CodeNotAuthorized} {
		if o := outcome(t, pool, key); o.Code != code {
			t.Errorf("%s: %s %s, want %s", key, o.Code, o.Detail, code)
		}
	}
	if p, err := jobs.PaymentOf(t.Context(), pool, "bad"); err != nil || p.Status != "pending" || p.Version != 0 {
		t.Errorf("%+v, %v", p, err)
	}
	if p, err := jobs.PaymentOf(t.Context(), pool, "bad-raw"); !errors.Is(err, outbox.ErrUnknown) {
		t.Errorf("%+v, %v", p, err)
	}
	exec(t, pool, `DROP TRIGGER broken ON lastseat.payments`)
	for _, p := range []string{"bad", "bad-raw"} {
		exec(t, pool, `SELECT lastseat.retry($1)`, p)
		exec(t, pool, `SELECT lastseat.enqueue('payment.capture', $1 || '-again', jsonb_build_object('payment', $1::text))`,
			"bad")
		drain(t, pool, outbox.Settings{})
		if got, err := jobs.PaymentOf(t.Context(), pool, p); err != nil || outcome(t, pool, p).Code != jobs.CodeAuthorized ||
			got.Amount != 100 {
			t.Errorf("%+v, %v", got, err)
		}
	}
	if b, err := jobs.BalanceOf(t.Context(), pool, "bank"); err != nil || b.Held != 300 || b.Balance != -100 ||
		outcome(t, pool, "bad-again").Code != jobs.CodeCaptured {
		t.Errorf("%+v, %v", b, err)
	}
	proven(t, pool)
}

// Payments that other clients ask for straight in river_job: the first who asks for an id has it, and who asks with the
// same key again changes nothing, in one batch or in several.
func TestRawAuthorize(t *testing.T) {
	t.Parallel()
	for _, size := range []int{1, 100} {
		t.Run(fmt.Sprint("batch ", size), func(t *testing.T) {
			t.Parallel()
			pool := newPool(t)
			exec(t, pool, `SELECT lastseat.open_account('bank', 'EUR', NULL), lastseat.open_account('shop', 'EUR')`)
			of := func(payment string, amount int64, lasts time.Duration) jobs.Authorize {
				return jobs.Authorize{Payment: payment, From: "bank", To: "shop", Amount: amount, Currency: "EUR",
					ExpiresAt: time.Now().Add(lasts)}
			}
			insertJob(t, pool, "a", of("p", 1, time.Hour))
			insertJob(t, pool, "a", of("p", 1, 2*time.Hour)) // the same: its time is no part of it
			insertJob(t, pool, "a", of("p", 2, time.Hour))   // another request under that key
			insertJob(t, pool, "b", of("p", 4, time.Hour))   // another request for that payment
			insertJob(t, pool, "nobody's", jobs.Authorize{Payment: "q", From: "nobody", To: "shop", Amount: 8, Currency: "EUR"})
			insertJob(t, pool, "late", of("late", 16, -time.Hour))
			insertJob(t, pool, "soon", of("soon", 32, 0)) // ran out since
			insertJob(t, pool, "capture", jobs.Capture{Payment: "p"})
			exec(t, pool, `UPDATE lastseat.river_job SET scheduled_at = now() - interval '1 minute'
				WHERE args ->> 'key' = 'soon'`)
			// of no time that JSON can tell
			exec(t, pool, `INSERT INTO lastseat.river_job (kind, queue, max_attempts, scheduled_at, args)
				VALUES ('payment.authorize', 'lastseat', 25, '4000-01-01 BC',
				  '{"key": "old", "payment": "old", "from": "bank", "to": "shop", "amount": 64, "currency": "EUR"}')`)
			insertJob(t, pool, "old-capture", jobs.Capture{Payment: "old"})
			insertJob(t, pool, "old-void", jobs.Void{Payment: "old"})
			stats := drain(t, pool, outbox.Settings{Batch: size})
			if stats.Failures != 0 {
				t.Errorf("%+v", stats)
			}
			for key, code := range map[string]string{
				"a": jobs.CodeAuthorized, "b": outbox.CodeInvalidArgs, "nobody's": jobs.CodeAccountNotFound,
				"late": jobs.CodeAuthorizationExpired, "soon": jobs.CodeAuthorized,
				"capture": jobs.CodeCaptured, "old": jobs.CodeAuthorized, "old-capture": jobs.CodeAuthorizationExpired,
				"old-void": jobs.CodeAuthorizationExpired,
			} {
				if o := outcome(t, pool, key); o.Code != code {
					t.Errorf("%s: %s %s, want %s", key, o.Code, o.Detail, code)
				}
			}
			for id, want := range map[string]string{"p": "captured", "q": "declined", "late": "declined", "soon": "expired",
				"old": "expired"} {
				if p, err := jobs.PaymentOf(t.Context(), pool, id); err != nil || p.Status != want {
					t.Errorf("%+v, %v", p, err)
				}
			}
			if b, err := jobs.BalanceOf(t.Context(), pool, "bank"); err != nil || b.Balance != -1 || b.Held != 0 {
				t.Errorf("%+v, %v", b, err)
			}
			if n := testdb.Scalar[int](t, pool,
				`SELECT count(*)::int FROM lastseat.river_job WHERE state = 'discarded'`); n != 1 {
				t.Errorf("%d jobs were discarded, want the one that reuses a key", n)
			}
			proven(t, pool)
		})
	}
}

// A job in river_job and a service's transaction ask for the same payment, and neither has seen the other: the one that
// is committed first has it, no attempt is used up, and the lane goes on.
func TestRawAuthorizeAgainstOpenTransaction(t *testing.T) {
	t.Parallel()
	for name, level := range levels {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			pool := newPool(t)
			exec(t, pool, `SELECT lastseat.open_account('bank', 'EUR', NULL), lastseat.open_account('shop', 'EUR')`)
			tx, err := pool.Begin(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			defer func() { _ = tx.Rollback(context.WithoutCancel(t.Context())) }()
			if _, err := tx.Exec(t.Context(),
				`SELECT lastseat.authorize('service', 'p', 'bank', 'shop', 1, 'EUR')`); err != nil {
				t.Fatal(err)
			}
			insertJob(t, pool, "raw", jobs.Authorize{Payment: "p", From: "bank", To: "shop", Amount: 2, Currency: "EUR"})
			exec(t, pool, `UPDATE lastseat.river_job SET max_attempts = 1`)
			drained := make(chan outbox.Snapshot)
			go func() { drained <- drain(t, pool, outbox.Settings{Isolation: level}) }()
			for testdb.Scalar[int](t, pool, `SELECT count(*)::int FROM pg_stat_activity WHERE wait_event_type = 'Lock'
				AND application_name = 'lastseat lane' AND datname = current_database()`) == 0 {
				time.Sleep(time.Millisecond)
			}
			if err := tx.Commit(t.Context()); err != nil {
				t.Fatal(err)
			}
			if stats := <-drained; stats.Failures != 0 || stats.Conflicts == 0 {
				t.Errorf("%+v", stats)
			}
			drain(t, pool, outbox.Settings{Isolation: level})
			for key, code := range map[string]string{"service": jobs.CodeAuthorized, "raw": outbox.CodeInvalidArgs} {
				if o := outcome(t, pool, key); o.Code != code || o.Attempts != 1 {
					t.Errorf("%s: %s %s, want %s", key, o.Code, o.Detail, code)
				}
			}
			proven(t, pool)
		})
	}
}

// A payment in several lanes: its steps share one, whatever else goes on at its accounts.
func TestPaymentsInLanes(t *testing.T) {
	t.Parallel()
	for name, level := range levels {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			pool := newPool(t)
			exec(t, pool, `SELECT lastseat.open_account('bank', 'EUR', NULL), lastseat.open_account('shop', 'EUR'),
				lastseat.open_account('ada', 'EUR', NULL)`)
			var requests []outbox.Request
			payments := testdb.Soak(60, 600)
			for i := range payments {
				p, from := fmt.Sprint("p", i), []string{"bank", "ada"}[i%2]
				requests = append(requests, outbox.Request{Key: p + "0", Args: jobs.Authorize{Payment: p, From: from, To: "shop",
					Amount: 100, Currency: "EUR"}})
				if i%3 == 0 {
					requests = append(requests, outbox.Request{Key: p + "void", Args: jobs.Void{Payment: p}})
					continue
				}
				requests = append(requests,
					outbox.Request{Key: p + "1", Args: jobs.Capture{Payment: p, Amount: 60}},
					outbox.Request{Key: p + "2", Args: jobs.Refund{Payment: p, Amount: 20}},
					outbox.Request{Key: p + "3", Args: jobs.Transfer{From: "ada", To: "bank", Amount: 1, Currency: "EUR"}})
			}
			if _, err := outbox.EnqueueMany(t.Context(), pool, requests); err != nil {
				t.Fatal(err)
			}
			stats := drain(t, pool, outbox.Settings{Batch: 7, Lanes: 3, Isolation: level})
			if stats.Applied != int64(len(requests)) || stats.Failures != 0 {
				t.Errorf("%+v", stats)
			}
			captured := payments - payments/3
			if b, err := jobs.BalanceOf(t.Context(), pool, "shop"); err != nil || b.Balance != int64(captured*40) {
				t.Errorf("%+v, %v", b, err)
			}
			proven(t, pool)
		})
	}
}

// A reversal whose transfer is scheduled for later is not refused: it waits for it.
func TestReversalWaitsForItsTransfer(t *testing.T) {
	t.Parallel()
	pool := newPool(t)
	exec(t, pool, `SELECT lastseat.open_account('bank', 'EUR', NULL), lastseat.open_account('ada', 'EUR')`)
	exec(t, pool, `SELECT lastseat.enqueue('payment.transfer', 'later',
		'{"from": "bank", "to": "ada", "amount": 5, "currency": "EUR"}', now() + interval '1 hour')`)
	exec(t, pool, `SELECT lastseat.transfer('other', 'bank', 'ada', 7, 'EUR'), lastseat.reverse('reverse', 'later')`)
	if stats := drain(t, pool, outbox.Settings{}); stats.Applied != 1 || stats.Failures != 1 || stats.Batches != 1 {
		t.Errorf("%+v", stats)
	}
	if o := outcome(t, pool, "reverse"); o.Status != outbox.Pending || o.Attempts != 1 {
		t.Errorf("%+v", o)
	}
	exec(t, pool, `UPDATE lastseat.river_job SET state = 'available', scheduled_at = now() - CASE args ->> 'key'
		WHEN 'later' THEN interval '2 seconds' ELSE interval '1 second' END`)
	drain(t, pool, outbox.Settings{})
	if o := outcome(t, pool, "reverse"); o.Code != jobs.CodeReversed {
		t.Errorf("%+v", o)
	}
	proven(t, pool)
}
