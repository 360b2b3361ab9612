// Package processortest is what every [processor.Gateway] has to do: [Run] sends each kind of operation through each
// fault, settles it as a caller would, and compares what the gateway says with what the processor really has.
package processortest

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/lastseat/lastseat/processor"
)

// Fault is what happens to the next request that asks for something to be done.
type Fault string

// The faults. internal/fakestripe has the same names for them, and says more about each.
const (
	CutBefore   Fault = "cut_before"
	CutAfter    Fault = "cut_after"
	Late        Fault = "late" // done after 50 milliseconds
	ErrorBefore Fault = "error_before"
	ErrorAfter  Fault = "error_after"
	Busy        Fault = "busy"
	BadGateway  Fault = "bad_gateway"
	Slow        Fault = "slow"
	Garbage     Fault = "garbage"
	Truncated   Fault = "truncated"
	Declined    Fault = "declined"
)

// Truth is what the processor really has under one operation's key.
type Truth struct {
	Charges    int   // made under this key
	Received   int64 // by charges that were made under this key, minor units
	Authorized int64 // by them, and neither captured nor let go of
	Refunds    int   // made under this key
	Refunded   int64
}

// Bench is a gateway and the processor behind it, a fake.
type Bench struct {
	Gateway processor.Gateway
	// Break is for the next request that asks for something.
	Break func(Fault)
	// ForgetKeys makes the processor forget all keys.
	ForgetKeys func()
	// Truth is what the processor has under a key.
	Truth func(key string) Truth
	// Method is the token of a card that is good, Refused of one that is not.
	Method, Refused string
}

// Run runs all tests, each on a bench of its own.
func Run(t *testing.T, open func(*testing.T) Bench) {
	t.Helper()
	for _, fault := range []Fault{
		"", CutBefore, CutAfter, Late, ErrorBefore, ErrorAfter, Busy, BadGateway, Slow, Garbage, Truncated, Declined,
	} {
		for _, kind := range []processor.Kind{
			processor.Authorize, processor.Charge, processor.Capture, processor.Void, processor.Refund,
			processor.Return,
		} {
			if fault == Declined && (kind == processor.Void || kind == processor.Return) {
				continue // nobody refuses to let go of money
			}
			t.Run(fmt.Sprint(kind, " ", fault), func(t *testing.T) {
				t.Parallel()
				b := bench{Bench: open(t)}
				b.throughFault(t, kind, fault)
			})
		}
	}
	for _, c := range []struct {
		name string
		test func(*testing.T, bench)
	}{
		{"the same operation again", testRepeat},
		{"another operation with the same key", testOtherContent},
		{"many at a time", testAtATime},
		{"keys are forgotten", testForgotten},
		{"refused", testRefused},
		{"not sent", testNotSent},
		{"done by others", testOthers},
		{"everything is given back", testReturn},
		{"a list", testList},
		{"a charge that there isn't", testMissing},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			c.test(t, bench{Bench: open(t)})
		})
	}
}

type bench struct{ Bench }

const (
	amount  = int64(1250)
	payment = "order 1/席"
)

func (b bench) charge(kind processor.Kind, key string) processor.Operation {
	return processor.Operation{
		Kind: kind, Key: key, Payment: payment, Method: b.Method, Amount: amount, Currency: "EUR",
		Metadata: map[string]string{"order": "1"},
	}
}

func about(kind processor.Kind, key, reference string, amount int64) processor.Operation {
	if kind == processor.Void || kind == processor.Return {
		amount = 0
	}
	return processor.Operation{
		Kind: kind, Key: key, Payment: payment, Reference: reference, Amount: amount, Currency: "EUR",
	}
}

// prepare makes what an operation is about, and the operation. base is the key of the charge.
func (b bench) prepare(t *testing.T, kind processor.Kind, key, base string) processor.Operation {
	t.Helper()
	first := processor.Authorize
	switch kind {
	case processor.Authorize, processor.Charge:
		return b.charge(kind, key)
	case processor.Refund:
		first = processor.Charge
	}
	answer := b.done(t, b.charge(first, base))
	if kind == processor.Void {
		return about(kind, key, answer.Reference, 0)
	}
	return about(kind, key, answer.Reference, amount/2)
}

// done sends an operation that nothing is wrong with.
func (b bench) done(t *testing.T, op processor.Operation) processor.Answer {
	t.Helper()
	answer, err := processor.Send(t.Context(), b.Gateway, op)
	if err != nil || answer.Result != processor.Done || answer.Reference == "" || answer.Code != "" ||
		answer.Amount != op.Amount && op.Amount != 0 {
		t.Fatalf("%s %s: %+v, %v", op.Kind, op.Key, answer, err)
	}
	return answer
}

// throughFault breaks the first attempt, and settles the operation as a caller does.
func (b bench) throughFault(t *testing.T, kind processor.Kind, fault Fault) {
	t.Helper()
	key, base := processor.Key("the operation"), processor.Key("the charge")
	op := b.prepare(t, kind, key, base)
	if fault != "" {
		b.Break(fault)
	}
	began := time.Now()
	answer, err := processor.Send(t.Context(), b.Gateway, op)
	if problem := fault.fits(answer, err); problem != "" {
		t.Errorf("the first attempt: %+v, %v: %s", answer, err, problem)
	}
	answer = b.settle(t, op, began, answer, err)
	want := processor.Done
	if fault == ErrorBefore || fault == Declined {
		want = processor.Declined
	}
	if answer.Result != want {
		t.Errorf("it ends as %+v, want %s", answer, want)
	}
	if answer.Result == processor.Done && answer.Amount != op.Amount && op.Amount != 0 {
		t.Errorf("%d were moved, want %d", answer.Amount, op.Amount)
	}
	if got, want := b.Truth(key), truthOf(op, want); kind != processor.Capture && kind != processor.Void && got != want {
		t.Errorf("the processor has %+v under the key, want %+v", got, want)
	}
	if got, want := b.Truth(base), truthOfBase(op, answer.Result); got != want {
		t.Errorf("the processor has %+v of the charge, want %+v", got, want)
	}
}

// fits says what is wrong with the answer to an attempt that was broken.
func (f Fault) fits(answer processor.Answer, err error) string {
	if f == Busy {
		if !errors.Is(err, processor.ErrNotSent) || processor.RetryAfter(err) <= 0 {
			return "want an error that nothing was done, and when to try again"
		}
		return ""
	}
	want, stored := processor.Unknown, false
	switch f {
	case "", Slow:
		want, stored = processor.Done, true
	case Declined:
		want, stored = processor.Declined, answer.Stored // that matters to nobody
	case ErrorBefore, ErrorAfter:
		stored = true
	}
	if err != nil || answer.Result != want || answer.Stored != stored || (answer.Code == "") != (want == processor.Done) {
		return fmt.Sprintf("want %s, with a code unless it is done, stored %v", want, stored)
	}
	return ""
}

// settle goes on until the answer is known: the same again, or a look where sending again is no use.
func (b bench) settle(t *testing.T, op processor.Operation, began time.Time, answer processor.Answer,
	err error) processor.Answer {
	t.Helper()
	for range 100 {
		switch {
		case err != nil && !errors.Is(err, processor.ErrNotSent):
			t.Fatal(err)
		case err == nil && (answer.Result == processor.Done || answer.Result == processor.Declined):
			return answer
		case err == nil && answer.Stored:
			return b.look(t, op, began)
		}
		time.Sleep(10 * time.Millisecond) // somebody else may be working on it
		answer, err = processor.Send(t.Context(), b.Gateway, op)
	}
	t.Fatalf("it stays %+v, %v", answer, err)
	return answer
}

// look decides by what the processor has. Nothing of the operation is on its way here.
func (b bench) look(t *testing.T, op processor.Operation, began time.Time) processor.Answer {
	t.Helper()
	record, err := b.Gateway.LookUp(t.Context(), query(op, began))
	switch {
	case errors.Is(err, processor.ErrNotFound):
		return processor.Answer{Result: processor.Declined, Code: processor.CodeNotDone}
	case err != nil:
		t.Fatal(err)
	case record.Payment != payment:
		t.Errorf("the payment of the charge is %q, want %q", record.Payment, payment)
	}
	return record.Answer(op)
}

func query(op processor.Operation, began time.Time) processor.Query {
	if op.Reference != "" {
		return processor.Query{Reference: op.Reference}
	}
	return processor.Query{Key: op.Key, From: began, To: time.Now()}
}

// truthOf is what there has to be under an operation's key.
func truthOf(op processor.Operation, result processor.Result) Truth {
	done := result == processor.Done
	switch {
	case op.Kind == processor.Authorize && done:
		return Truth{Charges: 1, Authorized: op.Amount}
	case op.Kind == processor.Charge && done:
		return Truth{Charges: 1, Received: op.Amount}
	case op.Kind == processor.Refund && done:
		return Truth{Refunds: 1, Refunded: op.Amount}
	}
	return Truth{}
}

// truthOfBase is what there has to be under the key of the charge that an operation is about.
func truthOfBase(op processor.Operation, result processor.Result) Truth {
	done := result == processor.Done
	switch op.Kind {
	case processor.Capture:
		if done {
			return Truth{Charges: 1, Received: op.Amount}
		}
		return Truth{Charges: 1, Authorized: amount}
	case processor.Void, processor.Return:
		if done {
			return Truth{Charges: 1}
		}
		return Truth{Charges: 1, Authorized: amount}
	case processor.Refund:
		return Truth{Charges: 1, Received: amount}
	}
	return Truth{}
}

func testRepeat(t *testing.T, b bench) {
	for _, kind := range []processor.Kind{
		processor.Authorize, processor.Charge, processor.Capture, processor.Void, processor.Refund,
	} {
		key, base := processor.Key(string(kind)), processor.Key(string(kind), "charge")
		op := b.prepare(t, kind, key, base)
		first := b.done(t, op)
		again := b.done(t, op)
		if first.Replayed || !again.Replayed || !again.Stored || first.Reference != again.Reference {
			t.Errorf("%s: first %+v, again %+v", kind, first, again)
		}
		if got, want := b.Truth(key), truthOf(op, processor.Done); kind != processor.Capture && kind != processor.Void &&
			got != want {
			t.Errorf("%s twice: the processor has %+v, want %+v", kind, got, want)
		}
	}
}

func testOtherContent(t *testing.T, b bench) {
	op := b.charge(processor.Charge, processor.Key("a"))
	b.done(t, op)
	op.Amount++
	answer, err := processor.Send(t.Context(), b.Gateway, op)
	if err != nil || answer.Result != processor.Unknown || answer.Code != processor.CodeKeyReused || !answer.Stored {
		t.Errorf("%+v, %v: want unknown, key_reused and stored", answer, err)
	}
	if got := b.Truth(op.Key); got != (Truth{Charges: 1, Received: amount}) {
		t.Errorf("the processor has %+v", got)
	}
}

func testAtATime(t *testing.T, b bench) {
	op := b.charge(processor.Charge, processor.Key("a"))
	b.Break(Slow)
	began := time.Now()
	var group sync.WaitGroup
	answers := make([]processor.Answer, 8)
	for i := range answers {
		group.Go(func() {
			answer, err := processor.Send(t.Context(), b.Gateway, op)
			if err != nil || answer.Result == processor.Declined {
				t.Errorf("%+v, %v", answer, err)
			}
			answers[i] = answer
		})
	}
	group.Wait()
	for _, answer := range answers {
		if final := b.settle(t, op, began, answer, nil); final.Result != processor.Done {
			t.Errorf("%+v becomes %+v", answer, final)
		}
	}
	if got := b.Truth(op.Key); got != (Truth{Charges: 1, Received: amount}) {
		t.Errorf("the processor has %+v", got)
	}
}

// testForgotten is about an answer that is lost, and a key that the processor has forgotten when somebody asks.
func testForgotten(t *testing.T, b bench) {
	for _, kind := range []processor.Kind{
		processor.Authorize, processor.Charge, processor.Capture, processor.Void, processor.Refund,
	} {
		op := b.prepare(t, kind, processor.Key(string(kind)), processor.Key(string(kind), "charge"))
		began := time.Now()
		b.Break(CutAfter)
		if answer, err := processor.Send(t.Context(), b.Gateway, op); err != nil || answer.Result != processor.Unknown {
			t.Errorf("%s: %+v, %v", kind, answer, err)
		}
		b.ForgetKeys()
		if answer := b.look(t, op, began); answer.Result != processor.Done ||
			answer.Amount != op.Amount && op.Amount != 0 {
			t.Errorf("%s: a look says %+v", kind, answer)
		}
		if kind != processor.Capture && kind != processor.Void {
			continue
		}
		// These can't happen twice. Whoever sends them again all the same is told the truth.
		answer, err := processor.Send(t.Context(), b.Gateway, op)
		if err != nil || answer.Result != processor.Done || answer.Amount != op.Amount && op.Amount != 0 {
			t.Errorf("%s again: %+v, %v", kind, answer, err)
		}
	}
}

func testRefused(t *testing.T, b bench) {
	refused := func(op processor.Operation) {
		t.Helper()
		answer, err := processor.Send(t.Context(), b.Gateway, op)
		if err != nil || answer.Result != processor.Declined || answer.Code == "" || answer.Amount != 0 {
			t.Errorf("%s %s: %+v, %v", op.Kind, op.Key, answer, err)
		}
	}
	bad := b.charge(processor.Charge, processor.Key("bad"))
	bad.Method = b.Refused
	refused(bad)
	refused(bad) // and again the same
	if got := b.Truth(bad.Key); got.Received != 0 || got.Authorized != 0 || got.Charges > 1 {
		t.Errorf("the processor has %+v of a card that it refused", got)
	}
	bad = b.charge(processor.Authorize, processor.Key("no card"))
	bad.Method = "nothing_of_the_kind"
	refused(bad)

	charged := b.done(t, b.charge(processor.Charge, processor.Key("good"))).Reference
	refused(about(processor.Void, processor.Key("void"), charged, 0))
	refused(about(processor.Refund, processor.Key("too much"), charged, amount+1))
	b.done(t, about(processor.Refund, processor.Key("all"), charged, amount))
	refused(about(processor.Refund, processor.Key("more"), charged, 1))
	authorized := b.done(t, b.charge(processor.Authorize, processor.Key("authorized"))).Reference
	refused(about(processor.Capture, processor.Key("too much to capture"), authorized, amount+1))
	refused(about(processor.Refund, processor.Key("not captured"), authorized, 1))
	b.done(t, about(processor.Void, processor.Key("void it"), authorized, 0))
	refused(about(processor.Capture, processor.Key("after the void"), authorized, amount))
	if got := b.Truth(processor.Key("good")); got != (Truth{Charges: 1, Received: amount}) {
		t.Errorf("the processor has %+v of the good card", got)
	}
}

func testNotSent(t *testing.T, b bench) {
	done, cancel := context.WithCancel(t.Context())
	cancel()
	op := b.charge(processor.Charge, processor.Key("a"))
	if answer, err := processor.Send(done, b.Gateway, op); !errors.Is(err, processor.ErrNotSent) {
		t.Errorf("with a context that is done: %+v, %v", answer, err)
	}
	wrong := op
	wrong.Currency = "XXX"
	if answer, err := processor.Send(t.Context(), b.Gateway, wrong); !errors.Is(err, processor.ErrInvalid) {
		t.Errorf("with a currency that there isn't: %+v, %v", answer, err)
	}
	if answer, err := b.Gateway.Refund(t.Context(), op); !errors.Is(err, processor.ErrInvalid) {
		t.Errorf("a charge as a refund: %+v, %v", answer, err)
	}
	unknown := about(processor.Refund, processor.Key("b"), "of_another_account", 1)
	if answer, err := processor.Send(t.Context(), b.Gateway, unknown); !errors.Is(err, processor.ErrNotSent) {
		t.Errorf("about a charge that the processor doesn't know: %+v, %v", answer, err)
	}
	if got := b.Truth(op.Key); got != (Truth{}) {
		t.Errorf("the processor has %+v", got)
	}
}

// testOthers is about charges that are captured and voided under other keys.
func testOthers(t *testing.T, b bench) {
	one := b.done(t, b.charge(processor.Authorize, processor.Key("one"))).Reference
	b.done(t, about(processor.Capture, processor.Key("somebody"), one, 500))
	answer, err := processor.Send(t.Context(), b.Gateway, about(processor.Capture, processor.Key("us"), one, 700))
	if err != nil || answer.Result != processor.Done || answer.Amount != 500 {
		t.Errorf("a capture of what is captured: %+v, %v; want done, and the 500 that were", answer, err)
	}
	two := b.done(t, b.charge(processor.Authorize, processor.Key("two"))).Reference
	b.done(t, about(processor.Void, processor.Key("somebody else"), two, 0))
	answer, err = processor.Send(t.Context(), b.Gateway, about(processor.Void, processor.Key("us too"), two, 0))
	if err != nil || answer.Result != processor.Done {
		t.Errorf("a void of what is voided: %+v, %v", answer, err)
	}
}

// testReturn gives back what is left of charges, whoever has given the rest back.
func testReturn(t *testing.T, b bench) {
	charge := b.done(t, b.charge(processor.Charge, processor.Key("charge"))).Reference
	b.done(t, about(processor.Refund, processor.Key("a part"), charge, 500))
	for _, key := range []string{"back", "back", "another request for it"} {
		if answer := b.done(t, about(processor.Return, processor.Key(key), charge, 0)); answer.Amount != amount {
			t.Errorf("%s: %+v, want %d given back in all", key, answer, amount)
		}
	}
	record, err := b.Gateway.LookUp(t.Context(), processor.Query{Reference: charge})
	if err != nil || record.Refunded() != amount || len(record.Refunds) != 2 {
		t.Errorf("%+v, %v: want two refunds of %d in all", record, err, amount)
	}
	reserved := b.done(t, b.charge(processor.Authorize, processor.Key("reserved"))).Reference
	b.done(t, about(processor.Return, processor.Key("let go"), reserved, 0))
	if record, err = b.Gateway.LookUp(t.Context(), processor.Query{Reference: reserved}); err != nil ||
		record.Status != processor.StatusVoided {
		t.Errorf("%+v, %v: want it voided", record, err)
	}
	others := about(processor.Return, processor.Key("of another payment"), charge, 0)
	others.Payment = "order 2"
	for op, code := range map[*processor.Operation]string{
		&others: processor.CodeOtherPayment,
		new(about(processor.Return, processor.Key("of nothing"), charge+"x", 0)): processor.CodeNoCharge,
	} {
		if answer, err := processor.Send(t.Context(), b.Gateway, *op); err != nil ||
			answer.Result != processor.Declined || answer.Code != code {
			t.Errorf("%+v: %+v, %v; want declined, %s", op, answer, err, code)
		}
	}
}

func testList(t *testing.T, b bench) {
	began := time.Now().Add(-time.Minute)
	var keys []string
	for i := range 205 {
		op := b.charge(processor.Charge, processor.Key("list", fmt.Sprint(i)))
		charged := b.done(t, op)
		keys = append(keys, op.Key)
		if i == 3 {
			b.done(t, about(processor.Refund, processor.Key("refund"), charged.Reference, 50))
		}
	}
	var found []string
	for cursor := ""; ; {
		page, err := b.Gateway.List(t.Context(), began, cursor)
		if err != nil || len(found) > len(keys) {
			t.Fatal(err, len(found))
		}
		for _, record := range page.Records {
			found = append(found, record.Key)
			b.fitsList(t, record, record.Key == keys[3])
		}
		if cursor = page.Next; cursor == "" {
			break
		}
	}
	slices.Reverse(found)
	if !slices.Equal(found, keys) {
		t.Errorf("the list has %d charges, want all %d, the newest first", len(found), len(keys))
	}
	page, err := b.Gateway.List(t.Context(), time.Now().Add(24*time.Hour), "")
	if err != nil || len(page.Records) != 0 || page.Next != "" {
		t.Errorf("since tomorrow: %+v, %v", page, err)
	}
}

func (b bench) fitsList(t *testing.T, record processor.Record, refunded bool) {
	t.Helper()
	want := int64(0)
	if refunded {
		want = 50
	}
	if record.Refunded() != want || record.Status != processor.StatusCaptured || record.Captured != amount {
		t.Errorf("%+v, want it captured, and %d refunded", record, want)
	}
	if record.Payment != payment || record.Currency != "EUR" || time.Since(record.Created).Abs() > time.Hour {
		t.Errorf("%+v", record)
	}
}

func testMissing(t *testing.T, b bench) {
	b.done(t, b.charge(processor.Charge, processor.Key("another")))
	now := time.Now()
	for _, q := range []processor.Query{
		{Key: processor.Key("none"), From: now, To: now}, {Reference: "none"},
	} {
		if record, err := b.Gateway.LookUp(t.Context(), q); !errors.Is(err, processor.ErrNotFound) {
			t.Errorf("%+v: %+v, %v", q, record, err)
		}
	}
	for _, q := range []processor.Query{{}, {Key: processor.Key("none")}, {Key: processor.Key("none"), From: now}} {
		if record, err := b.Gateway.LookUp(t.Context(), q); err == nil || errors.Is(err, processor.ErrNotFound) {
			t.Errorf("%+v: %+v, %v: want an error that proves nothing", q, record, err)
		}
	}
}
