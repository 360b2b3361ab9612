package processor_test

import (
	"errors"
	"fmt"
	"maps"
	"strings"
	"testing"
	"time"

	"github.com/lastseat/lastseat/processor"
)

func TestKey(t *testing.T) {
	t.Parallel()
	keys := make(map[string][]string)
	for _, parts := range [][]string{
		{}, {""}, {"", ""}, {"a", "bc"}, {"ab", "c"}, {"abc"}, {"abc", ""}, {"Zürich \x00 席"}, {strings.Repeat("k", 200)},
	} {
		key := processor.Key(parts...)
		if len(key) != 64 || strings.Trim(key, "0123456789abcdef") != "" {
			t.Errorf("Key(%q) = %q: want 64 hexadecimal digits", parts, key)
		}
		if other, found := keys[key]; found {
			t.Errorf("Key(%q) = Key(%q)", parts, other)
		}
		keys[key] = parts
	}
	if got, want := processor.Key("order-1", "charge"), processor.Key("order-1", "charge"); got != want {
		t.Errorf("the key of the same parts is %s and %s", got, want)
	}
	// It must never change: attempts of an older release carry it.
	const want = "c5b13ff34021ffe77050e2acc7aff26ebe4d3db3dd606e4f3932c74163e100f8"
	if got := processor.Key("order-1", "charge"); got != want {
		t.Errorf("Key(order-1, charge) = %s", got)
	}
}

// charge and capture are operations that are right.
func charge() processor.Operation {
	return processor.Operation{
		Kind: processor.Charge, Key: "k1", Payment: "order 1", Method: "pm_card_visa", Amount: 1250, Currency: "EUR",
	}
}

func about(kind processor.Kind, key string, amount int64) processor.Operation {
	return processor.Operation{
		Kind: kind, Key: key, Payment: "order 1", Reference: "pi_1", Amount: amount, Currency: "EUR",
	}
}

func TestCheck(t *testing.T) {
	t.Parallel()
	with := func(change func(*processor.Operation)) processor.Operation {
		op := charge()
		op.Metadata = map[string]string{"order": "1"}
		change(&op)
		return op
	}
	many := maps.Collect(func(yield func(string, string) bool) {
		for i := range 21 {
			yield(fmt.Sprint("name", i), "value")
		}
	})
	for _, c := range []struct {
		name string
		op   processor.Operation
		want string // part of the error; empty if it is right
	}{
		{"a charge", charge(), ""},
		{"a capture", about(processor.Capture, "k2", 1), ""},
		{"a void", about(processor.Void, "k2", 0), ""},
		{"a refund", about(processor.Refund, "k2", 1), ""},
		{"no kind", with(func(o *processor.Operation) { o.Kind = "" }), "kind"},
		{"no key", with(func(o *processor.Operation) { o.Key = "" }), "key"},
		{"a key of 256", with(func(o *processor.Operation) { o.Key = strings.Repeat("k", 256) }), "key"},
		{"a key with a line", with(func(o *processor.Operation) { o.Key = "a\r\nb" }), "key"},
		{"a key not of ASCII", with(func(o *processor.Operation) { o.Key = "Zürich" }), "key"},
		{"no payment", with(func(o *processor.Operation) { o.Payment = "" }), "payment"},
		{"a payment not of UTF-8", with(func(o *processor.Operation) { o.Payment = "\xff" }), "payment"},
		{"200 characters of payment", with(func(o *processor.Operation) { o.Payment = strings.Repeat("席", 200) }), ""},
		{"201 characters of payment", with(func(o *processor.Operation) { o.Payment = strings.Repeat("席", 201) }),
			"payment"},
		{"no method", with(func(o *processor.Operation) { o.Method = "" }), "token"},
		{"a charge of a charge", with(func(o *processor.Operation) { o.Reference = "pi_1" }), "reference"},
		{"a path as customer", with(func(o *processor.Operation) { o.Customer = "a b" }), "customer"},
		{"no amount", with(func(o *processor.Operation) { o.Amount = 0 }), "amount"},
		{"a negative amount", about(processor.Refund, "k2", -1), "amount"},
		{"a void of an amount", about(processor.Void, "k2", 5), "amount"},
		{"a refund of nothing named", with(func(o *processor.Operation) { o.Kind, o.Method = processor.Refund, "" }),
			"reference"},
		{"lower case", with(func(o *processor.Operation) { o.Currency = "eur" }), "currency"},
		{"metadata of ours", with(func(o *processor.Operation) { o.Metadata["lastseat_key"] = "x" }), "taken"},
		{"metadata without a value", with(func(o *processor.Operation) { o.Metadata["x"] = "" }), "value"},
		{"metadata with a bracket", with(func(o *processor.Operation) { o.Metadata["a[b"] = "1" }), "name"},
		{"21 metadata", with(func(o *processor.Operation) { o.Metadata = many }), "more than 20"},
	} {
		err := c.op.Check()
		switch {
		case c.want == "" && err != nil:
			t.Errorf("%s: %v", c.name, err)
		case c.want != "" && (!errors.Is(err, processor.ErrInvalid) || !strings.Contains(err.Error(), c.want)):
			t.Errorf("%s: %v, want an error of %q", c.name, err, c.want)
		}
	}
}

// TestAnswerOfRecord is what a look at the processor says of an operation.
func TestAnswerOfRecord(t *testing.T) {
	t.Parallel()
	authorize := charge()
	authorize.Kind = processor.Authorize
	record := func(status processor.Status, change ...func(*processor.Record)) processor.Record {
		r := processor.Record{Reference: "pi_1", Key: "k1", Status: status, Amount: 1250, Currency: "EUR"}
		for _, c := range change {
			c(&r)
		}
		return r
	}
	captured := func(amount int64) func(*processor.Record) {
		return func(r *processor.Record) { r.Captured = amount }
	}
	refund := func(key string, amount int64, result processor.Result, code string) func(*processor.Record) {
		return func(r *processor.Record) {
			r.Refunds = append(r.Refunds, processor.RefundRecord{
				Reference: "re_" + key, Key: key, Amount: amount, Result: result, Code: code,
			})
		}
	}
	type answer struct {
		result processor.Result
		code   string
		amount int64
	}
	const (
		done, declined, unknown = processor.Done, processor.Declined, processor.Unknown
		notDone, pending        = processor.CodeNotDone, processor.CodePending
	)
	for _, c := range []struct {
		name   string
		record processor.Record
		op     processor.Operation
		want   answer
	}{
		{"charged", record(processor.StatusCaptured), charge(), answer{done, "", 1250}},
		{"charge declined", record(processor.StatusDeclined, func(r *processor.Record) { r.Code = "card_declined" }),
			charge(), answer{declined, "card_declined", 0}},
		{"charge pending", record(processor.StatusPending), charge(), answer{unknown, pending, 0}},
		{"charge of another key", record(processor.StatusCaptured, func(r *processor.Record) { r.Key = "k9" }),
			charge(), answer{unknown, processor.CodeBadAnswer, 0}},
		{"a charge that only reserved", record(processor.StatusAuthorized), charge(), answer{declined, notDone, 0}},
		{"authorized", record(processor.StatusAuthorized), authorize, answer{done, "", 1250}},
		{"authorized and captured since", record(processor.StatusCaptured), authorize, answer{done, "", 1250}},
		{"authorized and let go since", record(processor.StatusVoided), authorize, answer{declined, notDone, 0}},
		{"captured in part", record(processor.StatusCaptured, captured(700)), about(processor.Capture, "k2", 700),
			answer{done, "", 700}},
		{"captured by hand", record(processor.StatusCaptured, captured(1250)), about(processor.Capture, "k2", 700),
			answer{done, "", 1250}},
		{"not captured", record(processor.StatusAuthorized), about(processor.Capture, "k2", 700),
			answer{declined, notDone, 0}},
		{"a capture after its time", record(processor.StatusVoided), about(processor.Capture, "k2", 700),
			answer{declined, notDone, 0}},
		{"voided", record(processor.StatusVoided), about(processor.Void, "k2", 0), answer{done, "", 0}},
		{"not voided", record(processor.StatusAuthorized), about(processor.Void, "k2", 0), answer{declined, notDone, 0}},
		{"a void after the capture", record(processor.StatusCaptured), about(processor.Void, "k2", 0),
			answer{declined, notDone, 0}},
		{"refunded", record(processor.StatusCaptured, refund("k3", 100, done, ""), refund("k4", 200, done, "")),
			about(processor.Refund, "k4", 200), answer{done, "", 200}},
		{"refunded by others", record(processor.StatusCaptured, refund("", 200, done, "")),
			about(processor.Refund, "k4", 200), answer{declined, notDone, 0}},
		{"refund pending", record(processor.StatusCaptured, refund("k4", 200, unknown, "")),
			about(processor.Refund, "k4", 200), answer{unknown, pending, 200}},
		{"refund failed", record(processor.StatusCaptured, refund("k4", 200, declined, "lost_or_stolen_card")),
			about(processor.Refund, "k4", 200), answer{declined, "lost_or_stolen_card", 0}},
		{"another charge", record(processor.StatusCaptured, func(r *processor.Record) { r.Reference = "pi_2" }),
			about(processor.Capture, "k2", 700), answer{unknown, processor.CodeBadAnswer, 0}},
	} {
		got := c.record.Answer(c.op)
		if (answer{got.Result, got.Code, got.Amount}) != c.want {
			t.Errorf("%s: %+v, want %+v", c.name, got, c.want)
		}
	}
	both := record(processor.StatusCaptured, refund("a", 100, done, ""), refund("b", 50, unknown, ""))
	if got := both.Refunded(); got != 100 {
		t.Errorf("refunded are %d, want 100", got)
	}
}

func TestNotSent(t *testing.T) {
	t.Parallel()
	reason := errors.New("connection refused")
	err := fmt.Errorf("charge: %w", &processor.NotSentError{Err: reason, After: time.Minute})
	if !errors.Is(err, processor.ErrNotSent) || !errors.Is(err, reason) || processor.RetryAfter(err) != time.Minute {
		t.Errorf("%v, again after %v", err, processor.RetryAfter(err))
	}
	_, err = processor.Send(t.Context(), nil, processor.Operation{Kind: "sell"})
	if !errors.Is(err, processor.ErrInvalid) {
		t.Errorf("Send of a kind that there isn't: %v", err)
	}
}
