package outbox_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/lastseat/lastseat/outbox"
)

// letter is a kind whose requests are settled by a call.
type letter struct {
	Key  string `json:"key,omitempty"`
	Note string `json:"note,omitempty"` // what goes wrong, attempt by attempt
}

func (letter) Kind() string { return "test.letter" }

// office is the other side of a call: it does a thing once for each key.
type office struct {
	mu     sync.Mutex
	done   map[string]int // how often a key had its effect: 1, unless keys are forgotten
	of     map[string]string
	sends  map[string]int // attempts, by request
	looks  map[string]int
	bodies map[string]bool
	script map[string][]string
	held   chan struct{} // an attempt that hangs waits for this
}

func newOffice() *office {
	return &office{
		done: make(map[string]int), of: make(map[string]string), sends: make(map[string]int), looks: make(map[string]int),
		bodies: make(map[string]bool), script: make(map[string][]string), held: make(chan struct{}),
	}
}

// act takes the next word of the request's script; after the last one: done.
func (o *office) act(request string) string {
	script := o.script[request]
	if len(script) == 0 {
		return "done"
	}
	o.script[request] = script[1:]
	return script[0]
}

func (o *office) effect(call outbox.Call) {
	o.of[call.Key] = call.Request
	if o.done[call.Key] == 0 {
		o.done[call.Key] = 1
	}
}

func (o *office) send(ctx context.Context, call outbox.Call, _ letter) (outbox.Answer, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.sends[call.Request]++
	o.bodies[call.Key+string(call.Body)] = true
	switch act := o.act(call.Request); act {
	case "done":
		o.effect(call)
		return outbox.Answer{Result: outbox.Done, Code: "sent", Detail: json.RawMessage(`{"paper": "white"}`)}, nil
	case "declined":
		return outbox.Answer{Result: outbox.Declined, Code: "no_such_address"}, nil
	case "cut before":
		return outbox.Answer{}, errors.New("connection reset")
	case "cut after":
		o.effect(call)
		return outbox.Answer{}, errors.New("connection reset")
	case "stored before":
		return outbox.Answer{Result: outbox.Unknown, Code: "500", Stored: true}, nil
	case "stored after":
		o.effect(call)
		return outbox.Answer{Result: outbox.Unknown, Code: "500", Stored: true}, nil
	case "panic":
		panic("out of paper")
	case "nonsense":
		return outbox.Answer{Result: "maybe"}, nil
	case "hang":
		o.effect(call)
		o.mu.Unlock()
		defer o.mu.Lock()
		select {
		case <-o.held:
		case <-ctx.Done():
		}
		return outbox.Answer{Result: outbox.Unknown, Code: "late"}, nil
	default:
		panic(act)
	}
}

func (o *office) lookUp(_ context.Context, call outbox.Call, _ letter) (outbox.Answer, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.looks[call.Request]++
	switch {
	case o.act(call.Request) == "cut before":
		return outbox.Answer{}, errors.New("connection reset")
	case o.done[call.Key] > 0:
		return outbox.Answer{Result: outbox.Done, Code: "sent"}, nil
	}
	return outbox.Answer{Result: outbox.Absent}, nil
}

// effects counts what was done for a request.
func (o *office) effects(request string) (n int) {
	o.mu.Lock()
	defer o.mu.Unlock()
	for key, of := range o.of {
		if of == request {
			n += o.done[key]
		}
	}
	return n
}

func (o *office) sent(request string) int {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.sends[request]
}

func (o *office) calling() outbox.Calling[letter] {
	return outbox.Calling[letter]{Send: o.send, LookUp: o.lookUp, KeyWindow: time.Hour, Late: 50 * time.Millisecond}
}

// quickCalls tries again at once. An attempt that takes long, because the machine is busy, isn't given up.
var quickCalls = outbox.Settings{Calls: outbox.CallTimes{Pause: time.Millisecond, Poll: 10 * time.Millisecond}}

// lostCalls is quickCalls where attempts are lost, or seem to be.
var lostCalls = outbox.Settings{Calls: outbox.CallTimes{
	Watch: 200 * time.Millisecond, Pause: time.Millisecond, Poll: 10 * time.Millisecond,
}}

func (b *bench) write(keys ...string) {
	b.t.Helper()
	for _, key := range keys {
		request := outbox.Request{Key: key, Args: letter{Note: key}}
		if _, err := outbox.EnqueueMany(b.t.Context(), b.pool, []outbox.Request{request}); err != nil {
			b.t.Fatal(err)
		}
	}
}

// settled waits until all requests have their outcomes.
func (b *bench) settled(keys ...string) {
	b.t.Helper()
	ctx, cancel := context.WithTimeout(b.t.Context(), patience)
	defer cancel()
	if outcomes, err := outbox.Wait(ctx, b.pool, keys...); err != nil {
		b.t.Fatalf("%v: %+v", err, outcomes)
	}
}

// noCallIsOpen checks what has to hold when everything is settled.
func (b *bench) noCallIsOpen() {
	b.t.Helper()
	if open := b.keys(`SELECT key FROM lastseat.calls WHERE ended_at IS NULL OR body IS NOT NULL`); len(open) > 0 {
		b.t.Errorf("open calls: %v", open)
	}
	if waits := b.keys(`SELECT r.key FROM lastseat.requests r WHERE r.status = 'pending'
		OR (SELECT count(*) FROM lastseat.outcome_log l, unnest(l.keys) k WHERE k = r.key) <> 1`); len(waits) > 0 {
		b.t.Errorf("requests that are pending or have several outcomes: %v", waits)
	}
}

// Whatever the other side answers, a request has one outcome and the other side's effect happens at most once, and
// exactly once if the outcome says so.
func TestCallAnswers(t *testing.T) {
	t.Parallel()
	b, o := newEmptyBench(t), newOffice()
	outbox.RegisterCall(b.kinds, o.calling())
	cases := map[string]struct {
		script  []string
		status  outbox.Status
		code    string
		effects int
	}{
		"at once":                  {nil, outbox.Applied, "sent", 1},
		"declined":                 {[]string{"declined"}, outbox.Rejected, "no_such_address", 0},
		"cut before":               {[]string{"cut before", "cut before", "done"}, outbox.Applied, "sent", 1},
		"cut after":                {[]string{"cut after", "cut after", "done"}, outbox.Applied, "sent", 1},
		"cut, then declined":       {[]string{"cut before", "declined"}, outbox.Rejected, "no_such_address", 0},
		"stored after the effect":  {[]string{"stored after"}, outbox.Applied, "sent", 1},
		"stored before the effect": {[]string{"stored before"}, outbox.Rejected, outbox.CodeNotDone, 0},
		"stored, then cut":         {[]string{"cut after", "stored after", "cut before"}, outbox.Applied, "sent", 1},
		"panic":                    {[]string{"panic"}, outbox.Applied, "sent", 1},
		"nonsense":                 {[]string{"nonsense"}, outbox.Applied, "sent", 1},
	}
	for name, c := range cases {
		o.script[name] = c.script
		b.write(name)
	}
	b.start(quickCalls)
	for name, c := range cases {
		b.settled(name)
		b.wantOutcome(name, c.status, c.code)
		if n := o.effects(name); n != c.effects {
			t.Errorf("%s: it was done %d times", name, n)
		}
		if c.script != nil && c.script[0][0] == 's' && o.sent(name) != 1 {
			t.Errorf("%s: sent %d times, although the other side keeps its answer", name, o.sent(name))
		}
	}
	if got := string(b.outcome("at once").Detail); got != `{"paper": "white"}` {
		t.Errorf("the detail is %s", got)
	}
	if len(o.bodies) != len(cases) {
		t.Errorf("%d different keys or bodies were sent for %d calls", len(o.bodies), len(cases))
	}
	b.noCallIsOpen()
}

// A call that does not come back keeps nobody waiting: not its lane, and not other calls.
func TestSlowCallHoldsUpNobody(t *testing.T) {
	t.Parallel()
	b, o := newBench(t), newOffice()
	outbox.RegisterCall(b.kinds, o.calling())
	o.script["slow"] = []string{"hang"}
	b.write("slow")
	b.start(quickCalls)
	b.eventually("it hangs", func() bool { return o.sent("slow") == 1 })
	b.enqueue("toy")
	b.write("quick")
	b.settled("toy", "quick")
	close(o.held)
	b.settled("slow")
	b.wantOutcome("slow", outbox.Applied, "sent")
	b.noCallIsOpen()
}

// A process that ends at any point between intent, call and answer leaves what the next one needs: the end is the same.
func TestCallsOutliveTheirProcess(t *testing.T) {
	t.Parallel()
	b, o := newEmptyBench(t), newOffice()
	outbox.RegisterCall(b.kinds, o.calling())
	kinds := b.kinds
	onlyLane := &outbox.Kinds{} // the same kind, and nobody who calls
	outbox.Register(onlyLane, func(_ context.Context, _ pgx.Tx, args letter) (outbox.Result, error) {
		return outbox.Calls(outbox.Intent{
			Target: args.Kind(), Operation: "call", Body: json.RawMessage(fmt.Sprintf(`{"key": %q}`, args.Key)),
		}), nil
	})

	b.kinds = onlyLane
	b.write("intent", "deleted", "discarded", "cancelled", "running", "answered")
	b.drain(lostCalls)
	b.exec(`DELETE FROM lastseat.river_job WHERE kind = 'lastseat.call' AND args ->> 'call' = 'deleted'`)
	b.exec(`UPDATE lastseat.river_job SET state = 'discarded', finalized_at = now()
		WHERE kind = 'lastseat.call' AND args ->> 'call' = 'discarded'`)
	b.exec(`UPDATE lastseat.river_job SET state = 'cancelled', finalized_at = now()
		WHERE kind = 'lastseat.call' AND args ->> 'call' = 'cancelled'`)
	// one that was killed after it had sent, and one that was killed when it had noted the answer
	b.exec(`UPDATE lastseat.river_job SET state = 'running', attempt = 1, attempted_at = now(), attempted_by = '{gone}'
		WHERE kind = 'lastseat.call' AND args ->> 'call' = 'running'`)
	b.exec(`SELECT lastseat.begin_call('running', 1, 1, '1 hour'), lastseat.begin_call('answered', 1, 1, '1 hour')`)
	b.exec(`SELECT lastseat.answer_call('answered', 1, 1, 'done', 'sent', NULL, false, '0')`)
	key := one[string](b, `SELECT call_key FROM lastseat.calls WHERE key = 'running'`)
	o.effect(outbox.Call{Key: key, Request: "running"})

	b.kinds = kinds
	b.start(lostCalls)
	for _, name := range []string{"intent", "deleted", "discarded", "cancelled", "running", "answered"} {
		b.settled(name)
		b.wantOutcome(name, outbox.Applied, "sent")
		want := 1
		if name == "answered" {
			want = 0 // the test has answered for the office
		}
		if n := o.effects(name); n != want {
			t.Errorf("%s: it was done %d times", name, n)
		}
	}
	b.noCallIsOpen()
}

// A worker that is stopped in the middle of an attempt comes back with its answer too late: the next attempt's counts.
func TestLateAnswerChangesNothing(t *testing.T) {
	t.Parallel()
	b, o := newEmptyBench(t), newOffice()
	outbox.RegisterCall(b.kinds, o.calling())
	o.script["late"] = []string{"hang", "done"}
	b.write("late")
	b.start(lostCalls)
	b.eventually("it hangs", func() bool { return o.sent("late") == 1 })
	b.settled("late")
	b.wantOutcome("late", outbox.Applied, "sent")
	close(o.held)
	b.eventually("both attempts have ended", func() bool {
		return one[int](b, `SELECT count(*) FROM lastseat.river_job
			WHERE kind = 'lastseat.call' AND state <> 'completed'`) == 0
	})
	b.wantOutcome("late", outbox.Applied, "sent")
	b.noCallIsOpen()
	for _, sql := range []string{
		`SELECT lastseat.answer_call('late', 1, 1, 'declined', 'x', NULL, false, '0')`,
		`SELECT lastseat.answer_call('late', 1, 2, 'declined', 'x', NULL, false, '0')`,
		`SELECT EXISTS (SELECT FROM lastseat.begin_call('late', 1, 2, '1 hour'))`,
	} {
		if one[bool](b, sql) {
			t.Errorf("%s is heard", sql)
		}
	}
}

// The answer of an attempt that is not the current one is not taken, nor a second answer.
func TestAnswersAreFenced(t *testing.T) {
	t.Parallel()
	b := newEmptyBench(t)
	outbox.Register(b.kinds, func(_ context.Context, _ pgx.Tx, args letter) (outbox.Result, error) {
		return outbox.Calls(outbox.Intent{Target: args.Kind(), Operation: "call", Body: json.RawMessage(`{}`)}), nil
	})
	b.write("a")
	b.drain(quickCalls)
	b.exec(`SELECT lastseat.begin_call('a', 1, 1, '1 hour')`)
	b.exec(`SELECT lastseat.answer_call('a', 1, 1, 'unknown', NULL, '{"error": "cut"}', false, '0')`)
	b.drain(quickCalls) // attempt 2
	for _, c := range []struct {
		sql  string
		want bool
	}{
		{`SELECT lastseat.answer_call('a', 1, 1, 'declined', NULL, NULL, false, '0')`, false},
		{`SELECT lastseat.answer_call('a', 1, 3, 'declined', NULL, NULL, false, '0')`, false},
		{`SELECT lastseat.answer_call('a', 2, 2, 'declined', NULL, NULL, false, '0')`, false},
		{`SELECT EXISTS (SELECT FROM lastseat.begin_call('a', 1, 1, '1 hour'))`, false},
		{`SELECT lastseat.answer_call('a', 1, 2, 'done', NULL, NULL, false, '0')`, true},
		{`SELECT lastseat.answer_call('a', 1, 2, 'declined', NULL, NULL, false, '0')`, false},
		{`SELECT EXISTS (SELECT FROM lastseat.begin_call('a', 1, 2, '1 hour'))`, false},
		{`SELECT result = 'done' AND attempt = 2 FROM lastseat.calls WHERE key = 'a'`, true},
	} {
		if got := one[bool](b, c.sql); got != c.want {
			t.Errorf("%s is %t", c.sql, got)
		}
	}
}

// Begin's writes stand with the intent, Record's with the outcome; an error of Record does not call again.
func TestBeginAndRecord(t *testing.T) {
	t.Parallel()
	b, o := newEmptyBench(t), newOffice()
	calling := o.calling()
	calling.Begin = func(ctx context.Context, tx pgx.Tx, args letter) (outbox.Result, error) {
		if args.Note == "no stamp" {
			return outbox.Reject("no_stamp", nil), nil
		}
		_, err := tx.Exec(ctx, `INSERT INTO public.toy (key) VALUES ('begun ' || $1)`, args.Key)
		return outbox.Result{}, err
	}
	failures := 1
	calling.Record = func(ctx context.Context, tx pgx.Tx, args letter, answer outbox.Answer) (outbox.Result, error) {
		if failures > 0 {
			failures--
			return outbox.Result{}, errors.New("no ink")
		}
		_, err := tx.Exec(ctx, `INSERT INTO public.toy (key) VALUES ('recorded ' || $1 || ' ' || $2)`,
			args.Key, string(answer.Result))
		return outbox.Result{Status: outbox.Applied, Code: "filed"}, err
	}
	outbox.RegisterCall(b.kinds, calling)
	b.write("no stamp", "a")
	b.start(quickCalls)
	b.settled("no stamp", "a")
	b.wantOutcome("no stamp", outbox.Rejected, "no_stamp")
	b.wantOutcome("a", outbox.Applied, "filed")
	if got := fmt.Sprint(b.played()); got != "[begun a recorded a done]" {
		t.Errorf("written: %s", got)
	}
	if n := o.sent("a"); n != 1 {
		t.Errorf("sent %d times", n)
	}
	b.noCallIsOpen()
}

// Without keys on the other side, and without a way to look, what may have been sent is not sent again. The request
// fails and says so; a person may have it tried again, as a new call.
func TestAnswerUnknown(t *testing.T) {
	t.Parallel()
	b, o := newEmptyBench(t), newOffice()
	outbox.RegisterCall(b.kinds, outbox.Calling[letter]{Send: o.send})
	o.script["a"] = []string{"cut after"}
	b.write("a")
	b.start(quickCalls)
	b.settled("a")
	b.wantOutcome("a", outbox.Failed, outbox.CodeAnswerUnknown)
	if n := o.sent("a"); n != 1 {
		t.Errorf("sent %d times", n)
	}
	if err := pgx.BeginFunc(t.Context(), b.pool, func(tx pgx.Tx) error {
		_, err := outbox.Retry(t.Context(), tx, "a")
		return err
	}); err != nil {
		t.Fatal(err)
	}
	b.settled("a")
	b.wantOutcome("a", outbox.Applied, "sent")
	if keys := one[int](b, `SELECT count(DISTINCT call_key) FROM lastseat.calls WHERE key = 'a'`); keys != 2 {
		t.Errorf("%d keys", keys)
	}
}

// Nobody cancels or deletes the job of a request whose call is under way: what was sent has to be recorded.
func TestCallingRequestIsNotCancelled(t *testing.T) {
	t.Parallel()
	b, o := newEmptyBench(t), newOffice()
	outbox.RegisterCall(b.kinds, o.calling())
	o.script["a"] = []string{"hang", "done"}
	b.write("a")
	b.start(quickCalls)
	b.eventually("it hangs", func() bool { return o.sent("a") == 1 })
	for _, sql := range []string{
		`UPDATE lastseat.river_job SET state = 'cancelled', finalized_at = now() WHERE args ->> 'key' = 'a'`,
		`DELETE FROM lastseat.river_job WHERE args ->> 'key' = 'a'`,
		`DELETE FROM lastseat.calls`, `UPDATE lastseat.calls SET body = '{}'`,
		`UPDATE lastseat.calls SET call_key = repeat('0', 64)`,
	} {
		if _, err := b.pool.Exec(t.Context(), sql); err == nil {
			t.Errorf("%s is allowed", sql)
		}
	}
	close(o.held)
	b.settled("a")
	b.noCallIsOpen()
}
