package main

import (
	"encoding/json"
	"strings"
	"testing"

	"github.com/lastseat/lastseat/internal/clitest"
	"github.com/lastseat/lastseat/internal/inspect"
	"github.com/lastseat/lastseat/internal/testdb"
)

func explained(t *testing.T, url, key string, says ...string) {
	t.Helper()
	got := runWith(t, url, "explain", key)
	got.Succeeds(t)
	for _, want := range says {
		if !strings.Contains(got.Out, want) {
			t.Errorf("%s is explained by\n%s\nwithout %q", key, got.Out, want)
		}
	}
}

// Each thing that a request may wait for is named, and what to do about it.
func TestExplain(t *testing.T) {
	t.Parallel()
	url := testdb.New(t)
	pool := open(t, url)
	give(t, pool, "first", 100)
	explained(t, url, "first", "first  payment.transfer  pending", "No worker has ever had the queue lastseat: worker run")
	runWith(t, url, "run", "--drain").Succeeds(t)
	explained(t, url, "first", "settled at", "applied, transferred")

	testdb.Exec(t, pool, `SELECT lastseat.transfer('poor', 'ada', 'bank', 101, 'EUR')`)
	testdb.Exec(t, pool, `SELECT lastseat.enqueue('payment.transfer', 'later',
		'{"from":"bank","to":"ada","amount":1,"currency":"EUR"}', now() + interval '2 hours')`)
	runWith(t, url, "run", "--drain").Succeeds(t)
	explained(t, url, "poor", "rejected  insufficient_funds", `"available": 100`, "ask again with a new key")
	explained(t, url, "later", "It is scheduled for",
		"No worker holds 1 of the 1 lanes of its queue: worker run")

	testdb.Exec(t, pool, `SELECT lastseat.charge('card', 'p', 'bank', 'ada', 1, 'EUR', 'stripe', 'pm_1')`)
	runWith(t, url, "run", "--drain").Succeeds(t)
	explained(t, url, "card", "it is to ask stripe (charge), and nothing was sent yet")
	testdb.Exec(t, pool, `SELECT lastseat.begin_call('card', 1, 1, '1 hour')`)
	testdb.Exec(t, pool, `SELECT lastseat.answer_call('card', 1, 1, 'unknown', '', '{"error": "cut"}', false, '1 hour')`)
	explained(t, url, "card", "stripe was asked (charge) first at", "What went wrong last: cut")
	testdb.Exec(t, pool, `UPDATE lastseat.river_job SET state = 'scheduled', scheduled_at = now() + interval '1 hour'
		WHERE args ->> 'key' = 'card'`)

	give(t, pool, "second", 1)
	give(t, pool, "third", 1)
	explained(t, url, "third", "Requests of its queue that come first: 1.")
	testdb.Exec(t, pool, `INSERT INTO lastseat.river_job (kind, queue, args) VALUES ('payment.transfer', 'lastseat',
		'{"key":"raw","from":"bank","to":"ada","amount":1,"currency":"EUR"}')`)
	explained(t, url, "raw", "raw  payment.transfer  pending", "come first: 2")

	tx, err := pool.Begin(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = tx.Rollback(t.Context()) }()
	if _, err := tx.Exec(t.Context(), `SELECT FROM lastseat.accounts WHERE id = 'ada' FOR UPDATE`); err != nil {
		t.Fatal(err)
	}
	explained(t, url, "third", `It needs accounts "ada", which process`, "idle in transaction")
	if err := tx.Rollback(t.Context()); err != nil {
		t.Fatal(err)
	}

	runWith(t, url, "pause").Succeeds(t)
	explained(t, url, "third", "has been paused since", "worker resume goes on")
	runWith(t, url, "resume").Succeeds(t)

	testdb.Exec(t, pool, `UPDATE lastseat.river_job SET state = 'retryable', scheduled_at = now() + interval '1 minute',
		attempt = 1, errors = ARRAY['{"attempt": 1, "error": "the ledger is out of paper"}'::jsonb]
		WHERE args ->> 'key' = 'third'`)
	explained(t, url, "third", "is tried again at", "Attempt 1 of 25 failed: the ledger is out of paper")
	testdb.Exec(t, pool, `UPDATE lastseat.river_job SET state = 'cancelled', finalized_at = now()
		WHERE args ->> 'key' = 'third'`)
	explained(t, url, "third", "failed", "enqueue retry third")

	got := runWith(t, url, "explain", "second", "-o", "json")
	got.Succeeds(t)
	var e inspect.Explanation
	if err := json.Unmarshal([]byte(got.Out), &e); err != nil || e.Key != "second" || e.Job == nil ||
		len(e.Reasons) == 0 || len(e.Lanes) != 1 {
		t.Errorf("as JSON it is %s (%v)", got.Out, err)
	}
	runWith(t, url, "explain", "secnod").Fails(t, 65, `"secnod"`, "check the key")
	for _, role := range []string{"lastseat_viewer", "lastseat_worker"} {
		runWith(t, testdb.As(t, pool, role), "explain", "second").Succeeds(t)
	}
	runWith(t, testdb.As(t, pool, "lastseat_producer"), "explain", "second").Fails(t, 77, "lastseat_viewer")
}

// What a payment or a reservation needs beyond what it names is looked at, too.
func TestExplainNeeds(t *testing.T) {
	t.Parallel()
	url := testdb.New(t)
	pool := open(t, url)
	testdb.Exec(t, pool, `SELECT lastseat.define_resource('seat', 1)`)
	testdb.Exec(t, pool, `SELECT lastseat.authorize('a', 'p', 'bank', 'ada', 5, 'EUR')`)
	testdb.Exec(t, pool, `SELECT lastseat.hold('h', 'r', '[{"resource":"seat"}]')`)
	runWith(t, url, "run", "--drain").Succeeds(t)
	testdb.Exec(t, pool, `SELECT lastseat.capture('c', 'p')`)
	testdb.Exec(t, pool, `SELECT lastseat.confirm('k', 'r')`)
	tx, err := pool.Begin(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = tx.Rollback(t.Context()) }()
	for _, sql := range []string{
		`SELECT FROM lastseat.accounts WHERE id = 'bank' FOR UPDATE`, `SELECT FROM lastseat.resources WHERE id = 'seat' FOR UPDATE`,
	} {
		if _, err := tx.Exec(t.Context(), sql); err != nil {
			t.Fatal(err)
		}
	}
	explained(t, url, "c", `It needs accounts "bank"`)
	explained(t, url, "k", `It needs resources "seat"`)
}

// A pause is in the database: no worker settles until it is over, and nothing is lost.
func TestPause(t *testing.T) {
	t.Parallel()
	url := testdb.New(t)
	pool := open(t, url)
	got := runWith(t, url, "pause")
	if got.Succeeds(t); !strings.Contains(got.Out, "lastseat is paused; requests that are due: 0; worker resume goes on") {
		t.Errorf("it says %q", got.Out)
	}
	give(t, pool, "k", 100)
	got = runWith(t, url, "pause", "-o", "json")
	got.Succeeds(t)
	if told := clitest.Lines[paused](t, got)[0]; !told.Paused || told.Changed || told.PausedAt == nil || told.Due != 1 {
		t.Errorf("once more it says %+v", told)
	}
	runWith(t, url, "run", "--drain").Succeeds(t)
	const statusSQL = `SELECT status FROM lastseat.requests WHERE key = 'k'`
	if status := testdb.Scalar[string](t, pool, statusSQL); status != "pending" {
		t.Errorf("while the queue is paused the request is %s", status)
	}
	got = runWith(t, testdb.As(t, pool, "lastseat_worker"), "resume")
	if got.Succeeds(t); !strings.Contains(got.Out, "lastseat goes on; requests that are due: 1") {
		t.Errorf("it says %q", got.Out)
	}
	runWith(t, url, "run", "--drain").Succeeds(t)
	if status := testdb.Scalar[string](t, pool, statusSQL); status != "applied" {
		t.Errorf("after the pause the request is %s", status)
	}
	if got = runWith(t, url, "resume"); !strings.Contains(got.Out, "was not paused") {
		t.Errorf("it says %q", got.Out)
	}
	runWith(t, url, "pause", "--queue", "lastsaet").Fails(t, 65, `"lastsaet"`, "did you mean lastseat?")
	runWith(t, testdb.As(t, pool, "lastseat_viewer"), "pause").Fails(t, 77, "permission denied")
}

// The overview has what was settled, what waits, who holds the lanes and the codes. It is data where it goes to no
// terminal.
func TestTop(t *testing.T) {
	t.Parallel()
	url := testdb.New(t)
	pool := open(t, url)
	const none = "no worker has run here yet: worker run"
	if got := runWith(t, url, "top"); got.Code != 0 || !strings.Contains(got.Out, none) {
		t.Errorf("before the first worker: %d, %q, %q", got.Code, got.Out, got.Err)
	}
	give(t, pool, "k1", 100)
	testdb.Exec(t, pool, `SELECT lastseat.transfer('k2', 'ada', 'bank', 101, 'EUR')`)
	runWith(t, url, "run", "--drain").Succeeds(t)
	give(t, pool, "k3", 100)
	testdb.Exec(t, pool, `SELECT lastseat.enqueue('payment.transfer', 'k4',
		'{"from":"bank","to":"ada","amount":1,"currency":"EUR"}', now() + interval '1 hour')`)
	got := runWith(t, testdb.As(t, pool, "lastseat_viewer"), "top", "--times", "2", "--every", "100ms", "-o", "json")
	got.Succeeds(t)
	seen := clitest.Lines[inspect.Overview](t, got)
	if len(seen) != 2 {
		t.Fatalf("%d looks, want 2: %s", len(seen), got.Out)
	}
	o := seen[1]
	if o.Due != 1 || o.Scheduled != 1 || o.Retrying != 0 || o.Oldest <= 0 || len(o.Lanes) != 1 || o.Lanes[0].PID != nil {
		t.Errorf("it sees %+v", o)
	}
	if o.Settled > 0 && len(o.Codes) != 2 { // unless the machine took ten seconds for it
		t.Errorf("the codes are %+v", o.Codes)
	}
	runWith(t, url, "pause").Succeeds(t)
	if got := runWith(t, url, "top"); strings.Contains(got.Out, "\x1b") || !strings.Contains(got.Out, "paused since") ||
		!strings.Contains(got.Out, "1 due") {
		t.Errorf("as text it is %q", got.Out)
	}
	runWith(t, testdb.As(t, pool, "lastseat_producer"), "top").Fails(t, 77, "lastseat_viewer")
}
