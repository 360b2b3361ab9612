package jobs_test

import (
	"testing"
	"time"

	"github.com/lastseat/lastseat/jobs"
	"github.com/lastseat/lastseat/outbox"
)

// A payment's whole life in one batch, and in one batch a step.
func TestPaymentLife(t *testing.T) {
	pool := newPool(t)
	exec(t, pool, `SELECT lastseat.open_account('bank', 'EUR', NULL), lastseat.open_account('ada', 'EUR'), lastseat.open_account('shop', 'EUR')`)
	for _, size := range []int{1, 2000} {
		prefix := map[int]string{1: "one-", 2000: "all-"}[size]
		exec(t, pool, `SELECT lastseat.transfer($1 || 'top-up', 'bank', 'ada', 1000, 'EUR')`, prefix)
		exec(t, pool, `SELECT lastseat.authorize($1 || 'authorize', $1 || 'p', 'ada', 'shop', 700, 'EUR')`, prefix)
		exec(t, pool, `SELECT lastseat.capture($1 || 'capture', $1 || 'p', 500)`, prefix)
		exec(t, pool, `SELECT lastseat.refund($1 || 'refund', $1 || 'p', 200), lastseat.refund($1 || 'refund-rest', $1 || 'p'), lastseat.refund($1 || 'too-much', $1 || 'p')`, prefix)
		exec(t, pool, `SELECT lastseat.reverse($1 || 'reverse', $1 || 'top-up'), lastseat.reverse($1 || 'again', $1 || 'top-up')`, prefix)
		drain(t, pool, outbox.Settings{Batch: size})
		for key, code := range map[string]string{
			"authorize": jobs.CodeAuthorized, "capture": jobs.CodeCaptured, "refund": jobs.CodeRefunded, "refund-rest": jobs.CodeRefunded,
			"too-much": jobs.CodeAmountExceedsCaptured, "reverse": jobs.CodeReversed, "again": jobs.CodeAlreadyReversed,
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
	pool := newPool(t)
	exec(t, pool, `SELECT lastseat.open_account('bank', 'EUR', NULL), lastseat.open_account('shop', 'EUR')`)
	exec(t, pool, `SELECT lastseat.authorize('a', 'p', 'bank', 'shop', 700, 'EUR', now() + interval '300 milliseconds')`)
	drain(t, pool, outbox.Settings{})
	if b, err := jobs.BalanceOf(t.Context(), pool, "bank"); err != nil || b.Held != 700 || b.Balance != 0 {
		t.Errorf("%+v, %v", b, err)
	}
	time.Sleep(400 * time.Millisecond)
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
