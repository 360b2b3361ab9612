package stripe_test

import (
	"errors"
	"math"
	"net/http"
	"strings"
	"testing"
	"time"

	api "github.com/stripe/stripe-go/v85"

	"github.com/lastseat/lastseat/processor"
	"github.com/lastseat/lastseat/processor/stripe"
)

// TestJudge is the table of what Stripe's answers mean. Only what is certain is done or declined.
func TestJudge(t *testing.T) {
	t.Parallel()
	const (
		declined, unknown = processor.Declined, processor.Unknown
		stored, again     = true, false
	)
	card := func(code api.ErrorCode, decline api.DeclineCode) *api.Error {
		return &api.Error{Type: api.ErrorTypeCard, Code: code, DeclineCode: decline}
	}
	invalid := func(code api.ErrorCode, param string) *api.Error {
		return &api.Error{Type: api.ErrorTypeInvalidRequest, Code: code, Param: param}
	}
	broken := &api.Error{Type: api.ErrorTypeAPI}
	refund := processor.Operation{Kind: processor.Refund, Reference: "pi_1"}
	replay := http.Header{"Idempotent-Replayed": {"true"}}
	for _, c := range []struct {
		name   string
		op     processor.Operation
		status int
		header http.Header
		said   *api.Error
		want   processor.Result // empty: an error that nothing was done
		code   string
		stored bool
	}{
		{"the bank's no", charge("k"), 402, nil, card("card_declined", "generic_decline"), declined, "card_declined", stored},
		{"no money", charge("k"), 402, nil, card("card_declined", "insufficient_funds"), declined,
			"insufficient_funds", stored},
		{"the customer has to act", charge("k"), 402, nil, card("authentication_required", ""), declined,
			"authentication_required", stored},
		{"no such card", charge("k"), 404, nil, invalid("resource_missing", "payment_method"), declined,
			"resource_missing", again},
		{"a wrong parameter", charge("k"), 400, nil, invalid("", "currency"), declined, "invalid_request_error", again},
		{"the wrong state", refund, 400, nil, invalid("charge_already_refunded", ""), declined,
			"charge_already_refunded", again},
		{"the key of another operation", charge("k"), 400, nil, &api.Error{Type: api.ErrorTypeIdempotency}, unknown,
			processor.CodeKeyReused, stored},
		{"the key is in use", charge("k"), 409, nil,
			&api.Error{Type: api.ErrorTypeIdempotency, Code: "idempotency_key_in_use"}, unknown,
			processor.CodeKeyInUse, again},
		{"another conflict", charge("k"), 409, nil, invalid("", ""), unknown, processor.CodeKeyInUse, again},
		{"a dependency failed", charge("k"), 424, nil, broken, unknown, processor.CodeServer, again},
		{"an internal error", charge("k"), 500, nil, broken, unknown, processor.CodeServer, stored},
		{"an internal error again", charge("k"), 500, replay, broken, unknown, processor.CodeServer, stored},
		{"no service", charge("k"), 503, nil, broken, unknown, processor.CodeServer, again},
		{"no service, stored", charge("k"), 503, replay, broken, unknown, processor.CodeServer, stored},
		{"a status of the future", charge("k"), 418, nil, invalid("", ""), unknown, processor.CodeBadAnswer, again},
		{"not Stripe's JSON", charge("k"), 400, nil, &api.Error{}, unknown, processor.CodeBadAnswer, again},
		{"too many requests", charge("k"), 429, nil, invalid("rate_limit", ""), "", "", again},
		{"the object is locked", refund, 429, nil, invalid("lock_timeout", ""), "", "", again},
		{"a wrong API key", charge("k"), 401, nil, invalid("", ""), "", "", again},
		{"no right", charge("k"), 403, nil, invalid("", ""), "", "", again},
		{"another account's charge", refund, 404, nil, invalid("resource_missing", "payment_intent"), "", "", again},
	} {
		answer, err := stripe.JudgeError(c.op, c.status, c.header, c.said)
		switch {
		case c.want == "":
			if !errors.Is(err, processor.ErrNotSent) {
				t.Errorf("%s: %+v, %v: want an error that nothing was done", c.name, answer, err)
			}
		case err != nil || answer.Result != c.want || answer.Code != c.code || answer.Stored != c.stored:
			t.Errorf("%s: %+v, %v: want %s, %s, stored %v", c.name, answer, err, c.want, c.code, c.stored)
		}
	}
}

func TestNotSentSaysWhy(t *testing.T) {
	t.Parallel()
	said := &api.Error{Type: api.ErrorTypeInvalidRequest, Msg: strings.Repeat("é", 2000)}
	_, err := stripe.JudgeError(charge("k"), 429, http.Header{"Retry-After": {"7"}}, said)
	notSent := (*processor.NotSentError)(nil)
	if !errors.As(err, &notSent) || notSent.After != 7*time.Second || notSent.Misconfigured || len(err.Error()) > 1200 {
		t.Errorf("%v", err)
	}
	_, err = stripe.JudgeError(charge("k"), 401, http.Header{"Retry-After": {"-7"}}, said)
	if !errors.As(err, &notSent) || notSent.After != 0 || !notSent.Misconfigured {
		t.Errorf("%v", err)
	}
}

func TestAmounts(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		ours     int64
		currency string
		theirs   int64 // 0: Stripe can't have it
	}{
		{1250, "EUR", 1250}, {500, "JPY", 500}, {1230, "KWD", 1230}, {1, "HUF", 1}, {1, "TWD", 1},
		{5, "ISK", 500}, {5, "UGX", 500}, {500, "MGA", 5}, {501, "MGA", 0}, {math.MaxInt64, "ISK", 0}, {1, "XXX", 0},
		{math.MaxInt64, "EUR", math.MaxInt64},
	} {
		got, err := stripe.ToStripe(c.ours, c.currency)
		if c.theirs == 0 {
			if err == nil {
				t.Errorf("%d %s is %d at Stripe, want an error", c.ours, c.currency, got)
			}
			continue
		}
		back, currency, backErr := stripe.FromStripe(c.theirs, strings.ToLower(c.currency))
		if err != nil || got != c.theirs || backErr != nil || back != c.ours || currency != c.currency {
			t.Errorf("%d %s is %d (%v) at Stripe, want %d, and back %d %s (%v)",
				c.ours, c.currency, got, err, c.theirs, back, currency, backErr)
		}
	}
	if got, _, err := stripe.FromStripe(4010, "isk"); err == nil {
		t.Errorf("a tenth of a krona is %d", got)
	}
	if got, _, err := stripe.FromStripe(math.MaxInt64, "mga"); err == nil {
		t.Errorf("too many ariary are %d", got)
	}
}
