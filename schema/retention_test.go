package schema_test

import (
	"testing"

	"github.com/jackc/pgx/v5"

	"github.com/lastseat/lastseat/internal/clitest"
)

const removeCall = `SELECT lastseat.remove_requests($1, array_fill('\x00'::bytea, ARRAY[cardinality($1::text[])]),
	(SELECT count(*) + 1 FROM lastseat.history), now(), '\x00')`

// A keeper removes what the policy says is too old, and what nothing else needs; it can't change the policy. Nobody
// deletes past that while the triggers are in force, not even a superuser.
func TestOnlyWhatIsTooOldIsRemoved(t *testing.T) {
	t.Parallel()
	pool := migrated(t)
	keeper := connect(t, pool, "lastseat_keeper")
	enqueueToys(t, pool, "a", "b", "waits")
	settleKeys(t, pool, "a", "b")
	refused := func(code, sql string, args ...any) {
		t.Helper()
		trial(t, pool, func(tx pgx.Tx) {
			exec(t, tx, `SET LOCAL ROLE lastseat_keeper`)
			_, err := tx.Exec(t.Context(), sql, args...)
			wantRefusal(t, err, code)
		})
	}
	refused("42501", `SELECT lastseat.keep('requests', 0)`)
	refused("42501", `DELETE FROM lastseat.requests`)
	refused("42501", `DELETE FROM lastseat.outcome_log`)
	refused("42501", `INSERT INTO lastseat.removed (what, before) VALUES ('requests', now())`)
	refused("40001", removeCall, []string{"a"}) // no policy
	exec(t, pool, `SELECT lastseat.keep('requests', 1)`)
	exec(t, keeper, `SELECT lastseat.remove_outcomes(10)`)
	refused("40001", removeCall, []string{"a"}) // of today
	exec(t, pool, `SELECT lastseat.keep('requests', 0)`)
	refused("40001", removeCall, []string{"a"}) // the feed has it
	removeFeed(t, keeper, 1)
	refused("40001", removeCall, []string{"a"}) // its job is there
	exec(t, pool, `SET lastseat.lane = 'on'; DELETE FROM lastseat.river_job WHERE args ->> 'key' IN ('a', 'b')`)
	refused("40001", removeCall, []string{"a", "waits"}) // one waits
	exec(t, pool, `SELECT lastseat.keep('requests:toy', NULL)`)
	refused("40001", removeCall, []string{"a"}) // its kind is kept
	exec(t, pool, `SELECT lastseat.keep('requests:toy', 0)`)

	// a link is the next one, of this moment, and one that can be read: none that keeps another from following
	for code, of := range map[string][]string{
		"LS002": {`1, 'infinity'`, `1, '-infinity'`, `1, NULL`, `1, now() + interval '1 day'`, `1, clock_timestamp()`},
		"40001": {`2, now()`, `0, now()`, `-1, now()`, `9223372036854775807, now()`, `NULL, now()`},
	} {
		for _, link := range of {
			refused(code, `SELECT lastseat.remove_requests('{a}', ARRAY['\x00'::bytea], `+link+`, '\x00')`)
		}
	}
	for _, rows := range []string{`'{a}', ARRAY[NULL::bytea]`, `'{{a},{b}}', ARRAY['\x00'::bytea, '\x00']`,
		`'{a,b}', ARRAY[ARRAY['\x00'::bytea], ARRAY['\x00'::bytea]]`, `'{a,b}', ARRAY['\x00'::bytea]`} {
		refused("23514", `SELECT lastseat.remove_requests(`+rows+`, 1, now(), '\x00')`)
	}

	// one that is noted lets no other pass
	trial(t, pool, func(tx pgx.Tx) {
		exec(t, tx, `INSERT INTO lastseat.history (chain, number, at, relation, keys, digests, hash)
			VALUES ('retention', 1, now(), 'requests.removed', '{a}', ARRAY['\x00'::bytea], '\x00')`)
		_, err := tx.Exec(t.Context(), `DELETE FROM lastseat.requests WHERE key IN ('a', 'b')`)
		wantRefusal(t, err, integrity)
	})
	// nor does one of another transaction
	exec(t, keeper, removeCall, []string{"a"})
	enqueueToys(t, pool, "a")
	_, err := pool.Exec(t.Context(), `DELETE FROM lastseat.requests WHERE key = 'a'`)
	wantRefusal(t, err, integrity)
	if got := scalar[string](t, pool, `SELECT string_agg(key, ' ' ORDER BY key) FROM lastseat.requests`); got != "a b waits" {
		t.Errorf("the requests are %s", got)
	}
	for _, wrong := range []string{`keep('accounts', 1)`, `keep('requests', -1)`, `keep(NULL, 1)`, `keep('requests:', 1)`} {
		_, err := pool.Exec(t.Context(), `SELECT lastseat.`+wrong)
		wantContract(t, err, "LS002")
	}
}

// removeFeed removes n rows of the feed, as soon as no older transaction of the server, another test's, is in progress.
func removeFeed(t *testing.T, db querier, n int) {
	t.Helper()
	clitest.Eventually(t, "rows of the feed to be removed", func() bool {
		n -= scalar[int](t, db, `SELECT lastseat.remove_outcomes(10)`)
		return n <= 0
	})
}

// A reader behind what is gone is told so, and never gets the rest as if nothing were missing. A relay that is behind
// keeps its outcomes.
func TestCursorBeforeWhatIsKept(t *testing.T) {
	t.Parallel()
	pool := migrated(t)
	start := ""
	for _, key := range []string{"a", "b", "c"} {
		enqueueToys(t, pool, key)
		settleKeys(t, pool, key)
	}
	wantFeed(t, pool, &start, 1, "a played", "b played", "c played")
	cursors := column[string](t, pool, `SELECT cursor FROM lastseat.outcomes_since()`)
	exec(t, pool, `INSERT INTO lastseat.relays (name, cursor) VALUES ('slow', $1)`, cursors[1])
	exec(t, pool, `SELECT lastseat.keep('outcome_log', 0)`)
	removeFeed(t, pool, 1)
	for _, gone := range []string{cursors[0][:len(cursors[0])-1] + "0"} {
		_, err := pool.Exec(t.Context(), `SELECT lastseat.outcomes_since($1)`, gone)
		wantContract(t, err, "LS002", "no longer kept")
	}
	for cursor, want := range map[string][]string{
		cursors[0]: {"b played", "c played"}, cursors[1]: {"c played"}, "": {"b played", "c played"},
	} {
		wantFeed(t, pool, &cursor, 10, want...)
	}
	exec(t, pool, `UPDATE lastseat.relays SET disabled_at = now(), disabled_because = 'gone'`)
	removeFeed(t, pool, 2)
	_, err := pool.Exec(t.Context(), `SELECT lastseat.outcomes_since($1)`, cursors[1])
	wantContract(t, err, "LS002", "no longer kept")
	wantFeed(t, pool, &cursors[2], 10)
	_, err = pool.Exec(t.Context(), `DELETE FROM lastseat.outcome_log`)
	if err != nil {
		t.Error(err) // nothing is left
	}
	enqueueToys(t, pool, "d")
	settleKeys(t, pool, "d")
	wantFeed(t, pool, &cursors[2], 10, "d played")
	_, err = pool.Exec(t.Context(), `DELETE FROM lastseat.outcome_log`)
	wantRefusal(t, err, integrity)
}

// A key is free again when its request is gone, unless the ledger still has what it moved.
func TestExpiredKey(t *testing.T) {
	t.Parallel()
	pool := migrated(t)
	openAccounts(t, pool)
	mustAsk(t, pool, transferCall, "moved", "bank", "ada", 5, "EUR")
	enqueueToys(t, pool, "played")
	settleKeys(t, pool, "moved", "played")
	exec(t, pool, `INSERT INTO lastseat.transfers (id, key, from_account, to_account, amount, currency)
		VALUES (1, 'moved', 'bank', 'ada', 5, 'EUR')`)
	exec(t, pool, `SET lastseat.lane = 'on'; DELETE FROM lastseat.river_job`)
	exec(t, pool, `SELECT lastseat.keep('requests', 0)`)
	removeFeed(t, pool, 1)
	exec(t, pool, removeCall, []string{"moved", "played"})
	if n := scalar[int](t, pool, `SELECT count(*) FROM lastseat.outcomes('{moved,played}')`); n != 0 {
		t.Errorf("%d outcomes", n)
	}
	if got := mustAsk(t, pool, `enqueue('toy', 'played', '{}')`); got.Duplicate || got.Status != "pending" {
		t.Errorf("an expired key: %+v", got)
	}
	for _, call := range []string{
		`transfer('moved', 'bank', 'ada', 5, 'EUR')`, `enqueue('toy', 'moved', '{}')`,
		`enqueue('payment.transfer', 'moved', '{"from": "bank", "to": "ada", "amount": 5, "currency": "EUR"}')`,
		`enqueue_many('[{"kind": "payment.transfer", "key": "moved", "args":
			{"from": "bank", "to": "ada", "amount": 5, "currency": "EUR"}}]')`,
	} {
		_, err := ask(t, pool, call)
		wantContract(t, err, "LS001", "moved", "no longer kept")
	}
	mustAsk(t, pool, `reverse('back', 'moved')`)
	if got := scalar[string](t, pool, `SELECT string_agg(concat_ws(' ', what, days, removed_before < 'infinity'), ', ')
		FROM lastseat.retention()`); got != "outcome_log t, requests 0 t" {
		t.Errorf("retention() says %s", got)
	}
}

// Ids of webhooks go by age, the oldest first and no more at a time than asked for. How long they are kept says nothing
// about the feed of outcomes. An event whose id is gone is new again.
func TestTakenEventsAreRemovedByAge(t *testing.T) {
	t.Parallel()
	pool := migrated(t)
	keeper := connect(t, pool, "lastseat_keeper")
	enqueueToys(t, pool, "a")
	settleKeys(t, pool, "a")
	exec(t, pool, `SELECT lastseat.take_event('stripe', 'evt_' || n) FROM generate_series(0, 9) AS n`)
	exec(t, pool, `UPDATE lastseat.taken_events SET taken_at = now() - (right(id, 1)::int - 0.5) * interval '1 day'`)
	remove := func(want, rest int) {
		t.Helper()
		if n := scalar[int](t, keeper, `SELECT lastseat.remove_events(3)`); n != want {
			t.Errorf("%d events were removed, want %d", n, want)
		}
		if n := scalar[int](t, pool, `SELECT count(*)::int FROM lastseat.taken_events
			WHERE right(id, 1)::int < $1`, rest); n != rest {
			t.Errorf("of the %d youngest events %d are there", rest, n)
		}
	}
	remove(0, 10) // no policy
	exec(t, pool, `SELECT lastseat.keep('taken_events', 5)`)
	remove(3, 7)
	remove(1, 6)
	remove(0, 6)
	if !scalar[bool](t, pool, `SELECT lastseat.take_event('stripe', 'evt_9')`) ||
		scalar[bool](t, pool, `SELECT lastseat.take_event('stripe', 'evt_1')`) {
		t.Error("an event is new if its id is gone, and only then")
	}
	exec(t, pool, `SELECT lastseat.keep('taken_events', 0)`)
	if n := scalar[int](t, keeper, `SELECT lastseat.remove_outcomes(10)`); n != 0 {
		t.Errorf("%d rows of the feed went with the events", n)
	}
	trial(t, pool, func(tx pgx.Tx) {
		exec(t, tx, `SET LOCAL ROLE lastseat_keeper`)
		_, err := tx.Exec(t.Context(), `DELETE FROM lastseat.taken_events`)
		wantRefusal(t, err, "42501")
	})
}
