package main

import (
	"context"
	"encoding/json"
	"slices"
	"strings"
	"testing"

	"github.com/lastseat/lastseat/internal/clitest"
)

// members are those of an outcome in JSON, in their order: design.md, section 6.
var members = []string{"key", "kind", "status", "code", "detail", "attempts", "job_id", "requested_at", "settled_at",
	"duplicate"}

// outcome reads a line of JSON, and demands that it has just these members.
func decodeOutcome(t *testing.T, line string) map[string]any {
	t.Helper()
	dec := json.NewDecoder(strings.NewReader(line))
	if _, err := dec.Token(); err != nil {
		t.Fatalf("%q: %v", line, err)
	}
	got := make(map[string]any)
	var names []string
	for dec.More() {
		name, err := dec.Token()
		if err != nil {
			t.Fatalf("%q: %v", line, err)
		}
		var value any
		if err := dec.Decode(&value); err != nil {
			t.Fatalf("%q: %v", line, err)
		}
		names = append(names, name.(string))
		got[name.(string)] = value
	}
	if !slices.Equal(names, members) {
		t.Errorf("the members are %q, want %q", names, members)
	}
	return got
}

func (s *shop) outcomes(t *testing.T, keys ...string) []map[string]any {
	t.Helper()
	got := s.enqueue(t, append([]string{"outcome", "--output", "json"}, keys...)...)
	got.Succeeds(t)
	var all []map[string]any
	for line := range strings.Lines(got.Out) {
		all = append(all, decodeOutcome(t, line))
	}
	if len(all) != len(keys) {
		t.Fatalf("%d lines for %d keys: %q", len(all), len(keys), got.Out)
	}
	return all
}

func TestOutcomeJSON(t *testing.T) {
	t.Parallel()
	s := newShop(t)
	s.transfer(t, "paid").Succeeds(t)
	s.transfer(t, "poor", "--from", "ben", "--amount", "0.01").Succeeds(t)
	s.transfer(t, "failed").Succeeds(t)
	s.exec(t, `UPDATE lastseat.river_job SET state = 'cancelled', finalized_at = now() WHERE args ->> 'key' = 'failed'`)
	s.drain(t)
	s.transfer(t, "waits").Succeeds(t)

	all := s.outcomes(t, "waits", "poor", "paid", "failed") // in the order of the keys
	for i, want := range []struct{ key, status, code string }{
		{"waits", "pending", ""}, {"poor", "rejected", "insufficient_funds"}, {"paid", "applied", "transferred"},
		{"failed", "failed", ""},
	} {
		got := all[i]
		if got["key"] != want.key || got["kind"] != "payment.transfer" || got["status"] != want.status ||
			got["duplicate"] != false {
			t.Errorf("outcome %d is %v, want %v", i, got, want)
		}
		if want.code != "" && got["code"] != want.code {
			t.Errorf("%s: code %v, want %s", want.key, got["code"], want.code)
		}
		if settled := got["settled_at"] != nil; settled != (want.status != "pending") || (got["code"] != nil) != settled {
			t.Errorf("%s: settled at %v, code %v", want.key, got["settled_at"], got["code"])
		}
		for _, at := range []any{got["requested_at"], got["settled_at"]} {
			if text, _ := at.(string); at != nil && !strings.HasSuffix(text, "Z") {
				t.Errorf("%s: the time %v is not UTC", want.key, at)
			}
		}
		if id, _ := got["job_id"].(float64); id <= 0 {
			t.Errorf("%s: job_id %v", want.key, got["job_id"])
		}
	}
	detail, _ := all[1]["detail"].(map[string]any)
	if detail["asked"] != 1.0 || detail["available"] != 0.0 || all[1]["attempts"] != 1.0 {
		t.Errorf("detail %v after %v attempts, want asked 1, available 0, after 1", detail, all[1]["attempts"])
	}
	if all[0]["detail"] != nil || all[0]["attempts"] != 0.0 {
		t.Errorf("pending: detail %v, attempts %v", all[0]["detail"], all[0]["attempts"])
	}

	asked := s.transfer(t, "paid", "-o", "json")
	if got := decodeOutcome(t, asked.Out); got["duplicate"] != true || got["status"] != "applied" {
		t.Errorf("asked again: %v, want a duplicate, applied", got)
	}
}

func TestOutcomeOfUnknownKeys(t *testing.T) {
	t.Parallel()
	s := newShop(t)
	s.transfer(t, "k").Succeeds(t)
	got := s.enqueue(t, "outcome", "k", "K")
	got.Fails(t, 65, `no request has the key "K"`)
	if !strings.HasPrefix(got.Out, "k  payment.transfer  pending") {
		t.Errorf("stdout is %q, want the outcome that is known", got.Out)
	}
	for _, command := range []string{"outcome", "wait", "retry"} {
		for _, key := range []string{"", "none", strings.Repeat("k", 201), "a\x00b", "a\xff", "a\nb", "a\x1b[31m"} {
			s.enqueue(t, command, key).Fails(t, 65)
		}
	}
}

// Exit codes of --wait and of wait: 0 applied, 3 rejected or failed, 75 not known yet.
func TestWait(t *testing.T) {
	t.Parallel()
	s := newShop(t)
	waited := s.transfer(t, "early", "--wait", "200ms", "-o", "json")
	waited.Fails(t, 75, "not settled after 200ms")
	if got := decodeOutcome(t, waited.Out); got["status"] != "pending" {
		t.Errorf("printed %v, want it pending", got)
	}
	s.enqueue(t, "wait", "early", "--timeout", "200ms").Fails(t, 75, "not settled after 200ms")
	noTime := s.enqueue(t, "wait", "early", "--timeout", "1ns", "-o", "json")
	noTime.Fails(t, 75, "not settled after 1ns")
	if got := decodeOutcome(t, noTime.Out); got["status"] != "pending" {
		t.Errorf("printed %v, want it pending, although there was no time to look", got)
	}

	// A wait that has time left goes on until the outcome is there.
	patient := make(chan clitest.Result, 1)
	go func() { patient <- s.enqueue(t, "wait", "early", "--timeout", "30s") }()
	s.waiting(t)
	if len(patient) > 0 {
		t.Fatalf("gave up before its time: %+v", <-patient)
	}
	ctx, stop := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- s.worker().Run(ctx) }()
	defer func() {
		stop()
		if err := <-done; err != nil {
			t.Error(err)
		}
	}()
	(<-patient).Succeeds(t)
	s.transfer(t, "paid", "--wait", "30s").Succeeds(t)
	s.transfer(t, "paid", "--wait", "30s").Succeeds(t)
	s.enqueue(t, "wait", "early", "paid").Succeeds(t)
	if got := decodeOutcome(t, s.transfer(t, "paid", "--wait", "30s", "-o", "json").Out); got["duplicate"] != true {
		t.Errorf("asked again with --wait: %v, want a duplicate", got)
	}

	poor := s.transfer(t, "poor", "--from", "ben", "--wait", "30s")
	if poor.Code != 3 || poor.Err != "" || !strings.Contains(poor.Out, "insufficient_funds") {
		t.Errorf("rejected: exit code %d, stdout %q, stderr %q; want 3", poor.Code, poor.Out, poor.Err)
	}
	if mixed := s.enqueue(t, "wait", "paid", "poor"); mixed.Code != 3 || strings.Count(mixed.Out, "\n") != 2 {
		t.Errorf("applied and rejected: exit code %d, stdout %q; want 3", mixed.Code, mixed.Out)
	}
	s.enqueue(t, "wait", "paid", "none").Fails(t, 65, `"none"`)
	// A future request is still open when the others are settled.
	s.exec(t, `SELECT lastseat.enqueue('payment.transfer', 'later',
		'{"from":"bank","to":"ada","amount":1,"currency":"EUR"}', now() + interval '1 hour')`)
	s.enqueue(t, "wait", "paid", "later", "--timeout", "100ms").Fails(t, 75)
}

// A request fails when its job is given up; retry gives it one more try, under its key, and nothing else.
func TestRetry(t *testing.T) {
	t.Parallel()
	s := newShop(t)
	for _, key := range []string{"cancelled", "exhausted", "poor", "paid"} {
		s.transfer(t, key).Succeeds(t)
	}
	s.transfer(t, "rejected", "--from", "ben").Succeeds(t)
	s.exec(t, `UPDATE lastseat.river_job SET state = 'cancelled', finalized_at = now() WHERE args ->> 'key' = 'cancelled'`)
	// A transfer that the database refuses is a technical error: here a currency of the account that only it knows.
	s.exec(t, `UPDATE lastseat.river_job SET max_attempts = 1 WHERE args ->> 'key' = 'exhausted'`)
	s.exec(t, `ALTER TABLE lastseat.transfers ADD CONSTRAINT broken CHECK (key <> 'exhausted')`)
	s.drain(t)
	s.exec(t, `ALTER TABLE lastseat.transfers DROP CONSTRAINT broken`)

	if got := s.enqueue(t, "wait", "exhausted"); got.Code != 3 || !strings.Contains(got.Out, "failed  retries_exhausted") {
		t.Errorf("failed: exit code %d, stdout %q; want 3 and retries_exhausted", got.Code, got.Out)
	}
	for _, other := range []string{"paid", "rejected", "none"} { // all of them or none
		s.enqueue(t, "retry", "cancelled", other).Fails(t, 65, `"`+other+`"`)
	}
	if got := s.outcomes(t, "cancelled")[0]["status"]; got != "failed" {
		t.Errorf("cancelled is %v after a retry that was refused, want failed", got)
	}
	again := s.enqueue(t, "retry", "cancelled", "exhausted", "-o", "json")
	again.Succeeds(t)
	for line := range strings.Lines(again.Out) {
		if got := decodeOutcome(t, line); got["status"] != "pending" || got["code"] != nil || got["settled_at"] != nil {
			t.Errorf("after retry: %v, want it pending", got)
		}
	}
	s.enqueue(t, "retry", "cancelled").Succeeds(t) // pending already
	s.drain(t)
	for _, got := range s.outcomes(t, "cancelled", "exhausted") {
		if got["status"] != "applied" {
			t.Errorf("%v, want applied", got)
		}
	}
	if got := s.balance(t, "ada"); got != 400 {
		t.Errorf("ada has %d, want 400: each once", got)
	}
}
