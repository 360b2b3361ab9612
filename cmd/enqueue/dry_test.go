package main

import (
	"strings"
	"testing"

	"github.com/lastseat/lastseat/internal/clitest"
	"github.com/lastseat/lastseat/internal/testdb"
	"github.com/lastseat/lastseat/jobs"
	"github.com/lastseat/lastseat/outbox"
)

// everything is a digest of all tables that a request could change.
const everything = `
	SELECT md5(concat_ws('|',
		(SELECT string_agg(t::text, ',' ORDER BY t.key) FROM lastseat.requests t),
		(SELECT string_agg(t::text, ',' ORDER BY t.id) FROM lastseat.river_job t),
		(SELECT string_agg(t::text, ',' ORDER BY t.id) FROM lastseat.accounts t),
		(SELECT string_agg(t::text, ',' ORDER BY t.id) FROM lastseat.payments t),
		(SELECT string_agg(t::text, ',' ORDER BY t.id) FROM lastseat.reservations t),
		(SELECT string_agg(t::text, ',' ORDER BY t.id) FROM lastseat.resources t),
		(SELECT string_agg(t::text, ',') FROM lastseat.reservation_items t),
		(SELECT count(*) FROM lastseat.entries), (SELECT count(*) FROM lastseat.transfers),
		(SELECT count(*) FROM lastseat.outcome_log), (SELECT count(*) FROM lastseat.history),
		(SELECT count(*) FROM lastseat.history_waiting), (SELECT count(*) FROM lastseat.customer_counts)))`

// dryRuns are a command of each kind, with what a dry run says of it. What came before is applied.
var dryRuns = []struct {
	kind, args string
	status     outbox.Status
	code       string
}{
	{"payment.transfer", "transfer --key t --from bank --to ada --amount 50 --currency EUR", "applied", "transferred"},
	{"payment.transfer", "transfer --key t2 --from ben --to ada --amount 50 --currency EUR", "rejected", "insufficient_funds"},
	{"payment.charge", "charge --key ch --payment pc --from ben --to ada --amount 50 --currency EUR --processor stripe " +
		"--method pm_card_visa", "rejected", "insufficient_funds"},
	{"payment.authorize", "authorize --key a --payment p --from ada --to bank --amount 20 --currency EUR", "applied", "authorized"},
	{"payment.capture", "capture --key c --payment p --amount 5", "applied", "captured"},
	{"payment.void", "void --key v --payment p", "rejected", "already_captured"},
	{"payment.refund", "refund --key f --payment p --amount 1", "applied", "refunded"},
	{"payment.reverse", "reverse --key u --transfer t", "rejected", "insufficient_funds"},
	{"reservation.hold", "hold --key h --reservation r --item seat", "applied", "held"},
	{"reservation.hold", "hold --key h2 --reservation r2 --item seat", "rejected", "sold_out"},
	{"reservation.hold", "hold --key h3 --reservation r3 --item seat --wait-in-line", "applied", "waiting"},
	{"reservation.extend", "extend --key e --reservation r --expires-in 1h", "applied", "extended"},
	{"reservation.confirm", "confirm --key k --reservation r", "applied", "confirmed"},
	{"reservation.cancel", "cancel --key x --reservation r", "applied", "cancelled"},
	{"booking.book", "book --key b --reservation r4 --item room --from bank --to ada --amount 1 --currency EUR", "applied", "booked"},
}

// A dry run says of each kind what then becomes of it, and writes nothing.
func TestDryRun(t *testing.T) {
	t.Parallel()
	s := newShop(t)
	s.enqueue(t, "resource", "--id", "seat", "--capacity", "1").Succeeds(t)
	s.enqueue(t, "resource", "--id", "room", "--capacity", "1").Succeeds(t)
	worker := testdb.As(t, s.pool, "lastseat_worker")
	seen := make(map[string]bool)
	for _, c := range dryRuns {
		seen[c.kind] = true
		args := strings.Fields(c.args)
		before := testdb.Scalar[string](t, s.pool, everything)
		got := runIn(t, worker, nil, append(args, "--dry-run", "-o", "json")...)
		if code := map[outbox.Status]int{"applied": 0, "rejected": 3}[c.status]; got.Code != code || got.Err != "" {
			t.Fatalf("%s --dry-run: exit code %d, %q", c.args, got.Code, got.Err)
		}
		told := clitest.Lines[preview](t, got)[0]
		if told.Kind != c.kind || told.Status != c.status || told.Code == nil || *told.Code != c.code || !told.DryRun {
			t.Errorf("%s --dry-run: %s, want %s %s", c.args, got.Out, c.status, c.code)
		}
		if after := testdb.Scalar[string](t, s.pool, everything); after != before {
			t.Errorf("%s --dry-run has written something", c.args)
		}
		s.enqueue(t, args...).Succeeds(t)
		s.drain(t)
		outcome := s.outcomes(t, args[2])[0]
		if outcome["code"] != c.code || outcome["status"] != string(c.status) {
			t.Errorf("%s: it became %v %v, and the dry run said %s", c.args, outcome["status"], outcome["code"], c.code)
		}
	}
	for _, kind := range jobs.Kinds() {
		if !seen[kind.Name] {
			t.Errorf("no dry run of %s", kind.Name)
		}
	}
}

// A dry run tells of what there is already, of what comes first, and of what holds it up.
func TestDryRunTells(t *testing.T) {
	t.Parallel()
	s := newShop(t)
	s.transfer(t, "k").Succeeds(t)
	if got := s.transfer(t, "k", "--dry-run"); !strings.Contains(got.Out, "k  payment.transfer  pending  (duplicate)") {
		t.Errorf("a duplicate: %q, %q", got.Out, got.Err)
	}
	const behind = "would be applied  transferred  (1 requests wait before it)"
	if got := s.transfer(t, "new", "--dry-run"); !strings.Contains(got.Out, behind) {
		t.Errorf("behind another: %q, %q", got.Out, got.Err)
	}
	s.transfer(t, "k", "--amount", "2.00", "--dry-run").Fails(t, 65, `key "k" was used`)
	s.transfer(t, "new", "--to", "nobody", "--dry-run").Fails(t, 65, "enqueue account --id nobody")
	got := s.transfer(t, "new", "--dry-run", "--wait", "1s")
	if got.Code != 64 || !strings.Contains(got.Err, "--dry-run") {
		t.Errorf("with --wait: exit code %d, %q", got.Code, got.Err)
	}
	if got := s.enqueue(t, "charge", "--key", "card", "--payment", "p", "--from", "bank", "--to", "ada", "--amount", "1",
		"--currency", "EUR", "--processor", "stripe", "--method", "pm_1", "--dry-run"); got.Code != 0 ||
		!strings.Contains(got.Out, "card  payment.charge  would ask its processor") {
		t.Errorf("by card: exit code %d, %q, %q", got.Code, got.Out, got.Err)
	}
	authorize := []string{"authorize", "--key", "card", "--payment", "p", "--from", "bank", "--to", "ada", "--amount", "1",
		"--currency", "EUR", "--dry-run", "--processor", "stripe"}
	if got := s.enqueue(t, append(authorize, "--method", "pm_1")...); got.Code != 0 ||
		!strings.Contains(got.Out, "card  payment.authorize  would ask its processor") {
		t.Errorf("authorized by card: exit code %d, %q, %q", got.Code, got.Out, got.Err)
	}
	s.enqueue(t, authorize...).Fails(t, 65, "--method is missing")
	tx, err := s.pool.Begin(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = tx.Rollback(t.Context()) }()
	if _, err := tx.Exec(t.Context(), `SELECT FROM lastseat.accounts WHERE id = 'ada' FOR UPDATE`); err != nil {
		t.Fatal(err)
	}
	const held = "would wait: another session has a row"
	if got := s.transfer(t, "new", "--dry-run"); got.Code != 0 || !strings.Contains(got.Out, held) {
		t.Errorf("with a row locked: exit code %d, %q, %q", got.Code, got.Out, got.Err)
	}
	args := []string{"transfer", "--key", "new", "--from", "bank", "--to", "ben", "--amount", "1", "--currency", "EUR", "--dry-run"}
	runIn(t, testdb.As(t, s.pool, "lastseat_producer"), nil, args...).Fails(t, 77, "connect as lastseat_worker")
	s.expect(t, "4 accounts, 1 requests, 1 jobs")
}
