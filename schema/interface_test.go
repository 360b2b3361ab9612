package schema_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/lastseat/lastseat/internal/clitest"
)

// many calls enqueue_many.
func many(t *testing.T, db querier, requests string) ([]receipt, error) {
	t.Helper()
	rows, err := db.Query(t.Context(), `SELECT key, kind, status, duplicate FROM lastseat.enqueue_many($1)`, requests)
	if err != nil {
		return nil, err
	}
	return pgx.CollectRows(rows, pgx.RowToStructByPos[receipt])
}

func mustMany(t *testing.T, db querier, requests string) []receipt {
	t.Helper()
	receipts, err := many(t, db, requests)
	if err != nil {
		t.Fatalf("enqueue_many(%.200s): %v", requests, err)
	}
	return receipts
}

func TestEnqueueMany(t *testing.T) {
	t.Parallel()
	pool := migrated(t)
	producer := connect(t, pool, "lastseat_producer")
	openAccounts(t, producer)
	mustAsk(t, producer, `enqueue('toy', 'before', '{}')`)
	got := mustMany(t, producer, `[
		{"kind": "toy", "key": "z", "args": {"n": 1}},
		{"kind": "toy", "key": "before", "args": {}},
		{"kind": "payment.transfer", "key": "a", "args": {"from": "bank", "to": "ada", "amount": 5, "currency": "EUR"}, "queue": null},
		{"kind": "toy", "key": "z", "args": {"n": 1, "key": "z"}},
		{"kind": "toy", "key": "later", "args": {}, "scheduled_at": "2999-01-01T00:00:00Z"},
		{"kind": "toy", "key": "own", "args": {}, "queue": "mine", "scheduled_at": null}]`)
	want := []receipt{
		{"z", "toy", "pending", false}, {"before", "toy", "pending", true}, {"a", "payment.transfer", "pending", false},
		{"z", "toy", "pending", true}, {"later", "toy", "pending", false}, {"own", "toy", "pending", false},
	}
	if !slices.Equal(got, want) {
		t.Errorf("the receipts are %v, want %v", got, want)
	}
	jobs := column[string](t, pool, `SELECT concat_ws(' ', j.args ->> 'key', j.kind, j.queue, j.state,
		j.scheduled_at = r.requested_at, j.max_attempts, j.args)
		FROM lastseat.river_job j JOIN lastseat.requests r ON r.job_id = j.id AND r.key = j.args ->> 'key'
		  AND r.kind = j.kind ORDER BY j.id`)
	wantJobs := []string{
		`before toy lastseat available t 25 {"key": "before"}`, `z toy lastseat available t 25 {"n": 1, "key": "z"}`,
		`a payment.transfer lastseat available t 25 {"to": "ada", "key": "a", "from": "bank", "amount": 5, "currency": "EUR"}`,
		`later toy lastseat scheduled f 25 {"key": "later"}`, `own toy mine available t 25 {"key": "own"}`,
	}
	if !slices.Equal(jobs, wantJobs) {
		t.Errorf("the jobs are\n%s\nwant\n%s", strings.Join(jobs, "\n"), strings.Join(wantJobs, "\n"))
	}
	if n := scalar[int](t, pool, `SELECT count(*) FROM lastseat.requests`); n != 5 {
		t.Errorf("%d requests", n)
	}
	if got := mustMany(t, producer, `[]`); len(got) != 0 {
		t.Errorf("an empty array has receipts: %v", got)
	}
	// what enqueue would have made of them: each is a duplicate, both ways
	for _, call := range []string{`enqueue('toy', 'z', '{"n": 1}')`, `transfer('a', 'bank', 'ada', 5, 'EUR')`,
		`enqueue('toy', 'own', '{}', queue => 'mine')`} {
		if r := mustAsk(t, producer, call); !r.Duplicate {
			t.Errorf("%s is no duplicate", call)
		}
	}
}

// Elements may build on those before them, as calls of the functions one after the other may.
func TestEnqueueManyBuildsOnItself(t *testing.T) {
	t.Parallel()
	pool := migrated(t)
	openAccounts(t, pool)
	mustAsk(t, pool, `define_resource('seat', 1)`)
	money := `"from": "bank", "to": "ada", "amount": 5, "currency": "EUR"`
	mustMany(t, pool, `[
		{"kind": "payment.authorize", "key": "z", "args": {"payment": "p", `+money+`}},
		{"kind": "payment.capture", "key": "b", "args": {"payment": "p"}},
		{"kind": "reservation.hold", "key": "h", "args": {"reservation": "r", "items": [{"resource": "seat"}]}},
		{"kind": "reservation.confirm", "key": "c", "args": {"reservation": "r"}},
		{"kind": "payment.transfer", "key": "t", "args": {`+money+`}},
		{"kind": "payment.reverse", "key": "back", "args": {"transfer": "t"}}]`)
	if order := column[string](t, pool,
		`SELECT args ->> 'key' FROM lastseat.river_job ORDER BY priority, scheduled_at, id`); !slices.Equal(order,
		[]string{"z", "b", "h", "c", "t", "back"}) {
		t.Errorf("the lane would settle them as %v", order)
	}
	for _, requests := range []string{
		`[{"kind": "payment.capture", "key": "1", "args": {"payment": "new"}}, {"kind": "payment.authorize", "key": "2", "args": {"payment": "new", ` + money + `}}]`,
		`[{"kind": "payment.reverse", "key": "1", "args": {"transfer": "2"}}, {"kind": "payment.transfer", "key": "2", "args": {` + money + `}}]`,
		`[{"kind": "payment.reverse", "key": "1", "args": {"transfer": "1"}}]`,
	} {
		_, err := many(t, pool, requests)
		wantContract(t, err, "LS003", `request 1 (key "1"): `)
	}
}

// The number, the key and the argument stand in fields of the error: a program need not take the message apart. The
// argument does so in the errors of single requests, too.
func TestErrorsNameTheArgument(t *testing.T) {
	t.Parallel()
	pool := migrated(t)
	openAccounts(t, pool)
	mustAsk(t, pool, `define_resource('seat', 1)`)
	mustAsk(t, pool, `transfer('used', 'bank', 'ada', 5, 'EUR')`)
	mustAsk(t, pool, `authorize('p', 'p', 'bank', 'ada', 5, 'EUR')`)
	mustAsk(t, pool, `hold('h', 'r', '[{"resource": "seat"}]')`)
	transfer := func(given string) string {
		return `{"from": "bank", "to": "ada", "amount": 5, "currency": "EUR", ` + given + `}`
	}
	hold := func(given string) string {
		return `{"reservation": "new", "items": [{"resource": "seat"}], ` + given + `}`
	}
	const during = `"during": "[2026-12-01T10:00Z,2026-12-01T11:00Z)"`
	for _, c := range []struct{ kind, key, args, argument, more string }{
		{"payment.transfer", "k", transfer(`"amount": 0`), "amount", ""},
		{"payment.transfer", "k", transfer(`"amount": "5"`), "amount", ""},
		{"payment.transfer", "k", transfer(`"from": ""`), "from", ""},
		{"payment.transfer", "k", transfer(`"from": "nobody"`), "from", ""},
		{"payment.transfer", "k", transfer(`"to": "nobody"`), "to", ""},
		{"payment.transfer", "k", transfer(`"to": "a\u200bda"`), "to", ""},
		{"payment.transfer", "k", transfer(`"to": "bank"`), "to", ""},
		{"payment.transfer", "k", transfer(`"currency": "EURO"`), "currency", ""},
		{"payment.transfer", "k", transfer(`"description": 7`), "description", ""},
		{"payment.transfer", "k", transfer(`"metadata": []`), "metadata", ""},
		{"payment.transfer", "k", transfer(`"note": ""`), "note", ""},
		{"payment.transfer", "used", transfer(`"amount": 6`), "key", " It is pending."},
		{"payment.transfers", "k", `{}`, "kind", ""}, {"payment.transfer", "k", `[]`, "args", ""},
		{"payment.transfer", strings.Repeat("k", 201), transfer(`"amount": 5`), "key", ""},
		{"payment.reverse", "k", `{"transfer": "none"}`, "transfer", ""},
		{"payment.void", "k", `{"payment": "none"}`, "payment", ""},
		{"payment.authorize", "k", transfer(`"payment": "p"`), "payment", " It is pending."},
		{"payment.authorize", "k", transfer(`"payment": "q", "expires_at": "noon"`), "expires_at", ""},
		{"reservation.hold", "k", hold(`"reservation": "r"`), "reservation", " It is pending."},
		{"reservation.hold", "k", hold(`"wait": 1`), "wait", ""}, {"reservation.hold", "k", hold(`"items": []`), "items", ""},
		{"reservation.hold", "k", hold(`"items": [{"resource": "none"}]`), "items", ""},
		{"reservation.hold", "k", hold(`"items": [{"resource": "seat"}, 7]`), "item 2", ""},
		{"reservation.hold", "k", hold(`"items": [{"resource": "seat", "quantity": 0}]`), "quantity of item 1", ""},
		{"reservation.hold", "k", hold(`"items": [{"resource": "seat", "during": ""}]`), "during of item 1", ""},
		{"reservation.hold", "k", hold(`"wait": true, "items": [{"resource": "seat", ` + during + `}, {"resource": "seat", ` +
			during + `}]`), "items", ""},
		{"reservation.confirm", "k", `{"reservation": "none"}`, "reservation", ""},
		{"reservation.extend", "k", `{"reservation": "r"}`, "expires_at", ""},
	} {
		_, err := pool.Exec(t.Context(), `SELECT lastseat.enqueue($1, $2, $3::jsonb)`, c.kind, c.key, c.args)
		if got := pgError(t, err); got.ColumnName != c.argument || got.Detail != strings.TrimSpace(c.more) {
			t.Errorf("%s %s: argument %q, detail %q: %s", c.kind, c.args, got.ColumnName, got.Detail, got.Message)
		}
		_, err = many(t, pool, fmt.Sprintf(`[{"kind": "toy", "key": "good", "args": {}},
			{"kind": %q, "key": %q, "args": %s}]`, c.kind, c.key, c.args))
		want := fmt.Sprintf(`Request 2, key "%.50s", field %q.%s`, c.key, c.argument, c.more)
		if got := pgError(t, err); got.ColumnName != c.argument || got.Detail != want || got.Hint == "" {
			t.Errorf("%s %s: argument %q, detail %q, want %q", c.kind, c.args, got.ColumnName, got.Detail, want)
		}
	}
}

func TestEnqueueManyNamesTheElement(t *testing.T) {
	t.Parallel()
	pool := migrated(t)
	openAccounts(t, pool)
	mustAsk(t, pool, `transfer('used', 'bank', 'ada', 5, 'EUR')`)
	mustAsk(t, pool, `authorize('p', 'p', 'bank', 'ada', 5, 'EUR')`)
	const good = `{"kind": "toy", "key": "good", "args": {}}`
	money := `"from": "bank", "to": "ada", "amount": 5, "currency": "EUR"`
	for element, want := range map[string][]string{
		`{"kind": "toy", "key": "used", "args": {}}`: {"LS001", `key "used"`,
			"was used at 20", "payment.transfer"},
		`{"kind": "toy", "key": "good", "args": {"n": 1}}`:                                   {"LS001", `key "good"`},
		`{"kind": "payment.authorize", "key": "q", "args": {"payment": "p", ` + money + `}}`: {"LS001", `payment "p"`},
		`7`:                           {"LS002", "no key", "it is 7"},
		`null`:                        {"LS002", "it is null"},
		`[]`:                          {"LS002", "it is []"},
		`{}`:                          {"LS002", "the key is null"},
		`{"kind": "toy", "key": "k"}`: {"LS002", `key "k"`, "are null"},
		`{"kind": "toy", "key": "k", "args": null}`:                                       {"LS002", "a JSON null"},
		`{"kind": "toy", "key": "k", "args": []}`:                                         {"LS002", "a JSON array"},
		`{"kind": "toy", "key": 7, "args": {}}`:                                           {"LS002", `{"key": 7`},
		`{"kind": ["toy"], "key": "k", "args": {}}`:                                       {"LS002", `"kind": ["toy"]`},
		`{"kind": "toy", "key": "k", "args": {}, "queue": {}}`:                            {"LS002", `"queue": {}`},
		`{"kind": "toy", "key": "k", "args": {}, "queue": "a b"}`:                         {"LS002", `queue is "a b"`},
		`{"kind": "payment.void", "key": "k", "args": {"payment": "p"}, "queue": "mine"}`: {"LS002", `queue "mine"`},
		`{"kind": "toy", "key": "k", "args": {}, "priority": 1}`:                          {"LS002", "it is {"},
		`{"kind": "toy", "key": "k", "args": {}, "scheduled_at": "tomorrow"}`: {"LS002",
			`"scheduled_at" is "tomorrow"`},
		`{"kind": "toy", "key": "k", "args": {}, "scheduled_at": "2999-02-30T00:00:00Z"}`:  {"LS002", "no such day"},
		`{"kind": "toy", "key": "", "args": {}}`:                                           {"LS002", "key is empty"},
		`{"kind": "toy", "key": "lastseat:x", "args": {}}`:                                 {"LS002", "lastseat:"},
		`{"kind": "toy", "key": "k", "args": {"key": "j"}}`:                                {"LS002", `another key, "j"`},
		`{"kind": "payment.transfers", "key": "k", "args": {}}`:                            {"LS002", `"payment.transfers"`},
		`{"kind": "payment.void", "key": "k", "args": {"payment": "nobody"}}`:              {"LS003", `"nobody"`},
		`{"kind": "toy", "key": "k", "args": {"x": "` + strings.Repeat("x", 65536) + `"}}`: {"LS004", `key "k"`, "bytes"},
		`{"kind": "toy", "key": "%s %1$s {} \\ ''", "args": []}`: {"LS002",
			`(key "%s %1$s {} \ ''")`},
		`{"kind": "` + strings.Repeat("x", 1000) + `", "key": "k", "args": {}}`:            {"LS002", "the kind is"},
		`{"kind": "toy", "key": "k", "args": {}, "scheduled_at": "10000-01-01T00:00:00Z"}`: {"LS002", "scheduled_at"},
	} {
		_, err := many(t, pool, `[`+good+`, `+element+`]`)
		wantContract(t, err, want[0], append([]string{"request 2 ("}, want[1:]...)...)
		if refused := pgError(t, err); !strings.HasPrefix(refused.Detail, "Request 2, ") || len(refused.Message) > 400 ||
			want[0] == "LS001" != strings.HasSuffix(refused.Detail, ". It is pending.") {
			t.Errorf("%.100s: %q, detail %q", element, refused.Message, refused.Detail)
		}
	}
	for requests, says := range map[string]string{`{}`: "a JSON object", `null`: "a JSON null", `"x"`: "a JSON string"} {
		_, err := many(t, pool, requests)
		wantContract(t, err, "LS002", says)
	}
	_, err := pool.Exec(t.Context(), `SELECT lastseat.enqueue_many(NULL)`)
	wantContract(t, err, "LS002", "are null")
	if n := scalar[int](t, pool, `SELECT (SELECT count(*) FROM lastseat.requests) + (SELECT count(*)
		FROM lastseat.river_job)`); n != 4 {
		t.Errorf("what was refused left %d rows", n-4)
	}
}

// Callers with the same keys in another order wait for one another, and never both.
func TestEnqueueManyDoesNotDeadlock(t *testing.T) {
	t.Parallel()
	pool := migrated(t)
	for round := range 10 {
		var all sync.WaitGroup
		for session := range 4 {
			elements := make([]string, 50)
			for i := range elements {
				elements[i] = fmt.Sprintf(`{"kind": "toy", "key": "%d-%02d", "args": {}}`, round, i)
			}
			if session%2 == 1 {
				slices.Reverse(elements)
			}
			conn := connect(t, pool, "lastseat_producer")
			all.Go(func() {
				if _, err := conn.Exec(t.Context(), `SELECT lastseat.enqueue_many($1)`, `[`+strings.Join(elements, ",")+
					`]`); err != nil {
					t.Error(err)
				}
			})
		}
		all.Wait()
	}
	if n := scalar[int](t, pool, `SELECT count(*) FROM lastseat.requests r JOIN lastseat.river_job j ON j.id = r.job_id
		AND j.args ->> 'key' = r.key`); n != 500 {
		t.Errorf("%d requests with their job, want 500", n)
	}
}

// A key that somebody else is asking for waits for the end of that: a duplicate if it is committed, new if not, and a
// serialization failure for who can't see it.
func TestEnqueueManyWaitsForAKey(t *testing.T) {
	t.Parallel()
	pool := migrated(t)
	for name, test := range map[string]struct {
		level   pgx.TxIsoLevel
		commits bool
		want    string
	}{
		"committed":                    {pgx.ReadCommitted, true, "new,duplicate"},
		"rolled back":                  {pgx.ReadCommitted, false, "new,new"},
		"committed, repeatable read":   {pgx.RepeatableRead, true, "40001"},
		"rolled back, repeatable read": {pgx.RepeatableRead, false, "new,new"},
		"committed, serializable":      {pgx.Serializable, true, "40001"},
		"rolled back, with a snapshot": {pgx.Serializable, false, "new,new"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			ctx := t.Context()
			other, err := pool.Begin(ctx)
			if err != nil {
				t.Fatal(err)
			}
			defer func() { _ = other.Rollback(context.WithoutCancel(ctx)) }()
			if _, err := other.Exec(ctx, `SELECT lastseat.enqueue('toy', $1, '{}')`, name); err != nil {
				t.Fatal(err)
			}
			conn := connect(t, pool, "lastseat_producer")
			got := make(chan string, 1)
			tx, err := conn.BeginTx(ctx, pgx.TxOptions{IsoLevel: test.level})
			if err != nil {
				t.Fatal(err)
			}
			ask := func() string {
				defer func() { _ = tx.Rollback(context.WithoutCancel(ctx)) }()
				var answer string
				err := tx.QueryRow(ctx, `SELECT string_agg(CASE WHEN duplicate THEN 'duplicate' ELSE 'new' END, ',')
					FROM lastseat.enqueue_many(jsonb_build_array(
						jsonb_build_object('kind', 'toy', 'key', '0 ' || $1::text, 'args', '{}'::jsonb),
						jsonb_build_object('kind', 'toy', 'key', $1::text, 'args', '{}'::jsonb)))`, name).Scan(&answer)
				if failed := (*pgconn.PgError)(nil); errors.As(err, &failed) {
					return failed.Code
				} else if err == nil {
					err = tx.Commit(ctx)
				}
				if err != nil {
					return err.Error()
				}
				return answer
			}
			go func() { got <- ask() }()
			clitest.Eventually(t, "it waits", func() bool {
				return scalar[bool](t, pool, `SELECT cardinality(pg_blocking_pids($1)) > 0`, conn.PgConn().PID())
			})
			if test.commits {
				err = other.Commit(ctx)
			} else {
				err = other.Rollback(ctx)
			}
			if err != nil {
				t.Fatal(err)
			}
			if answer := <-got; answer != test.want {
				t.Errorf("the answer is %s, want %s", answer, test.want)
			}
			if n := scalar[int](t, pool, `SELECT count(*) FROM lastseat.requests r WHERE r.key = $1
				AND r.job_id = (SELECT id FROM lastseat.river_job j WHERE j.args ->> 'key' = $1)`, name); n != 1 {
				t.Errorf("%d requests with their job, want 1", n)
			}
		})
	}
}

// What is done later runs out later: without a time of its own it is reckoned from when it may be done.
func TestScheduledRequestsRunOutLater(t *testing.T) {
	t.Parallel()
	pool := migrated(t)
	openAccounts(t, pool)
	mustAsk(t, pool, `define_resource('seat', 1)`)
	const at = "2999-01-01T00:00:00Z"
	mustAsk(t, pool, `enqueue('payment.authorize', 'p',
		'{"payment": "p", "from": "bank", "to": "ada", "amount": 5, "currency": "EUR"}', $1::timestamptz)`, at)
	mustAsk(t, pool, `enqueue('reservation.hold', 'r', '{"reservation": "r", "items": [{"resource": "seat"}]}',
		$1::timestamptz)`, at)
	mustMany(t, pool,
		`[{"kind": "payment.authorize", "key": "q", "args": {"payment": "q", "from": "bank", "to": "ada", "amount": 5, "currency": "EUR"}, "scheduled_at": "`+at+`"}]`)
	mustAsk(t, pool, `authorize('now', 'now', 'bank', 'ada', 5, 'EUR')`)
	for sql, want := range map[string]int{
		`SELECT count(*) FROM lastseat.payments WHERE expires_at = $1::timestamptz + interval '168 hours'`:      2,
		`SELECT count(*) FROM lastseat.reservations WHERE expires_at = $1::timestamptz + interval '15 minutes'`: 1,
		`SELECT count(*) FROM lastseat.payments WHERE expires_at BETWEEN now() + interval '167 hours'
			AND now() + interval '169 hours' AND $1 <> ''`: 1,
	} {
		if n := scalar[int](t, pool, sql, at); n != want {
			t.Errorf("%s: %d, want %d", sql, n, want)
		}
	}
	for _, at := range []string{"infinity", "10000-01-01Z", "294276-12-31Z"} {
		_, err := ask(t, pool, `enqueue('toy', 'k', '{}', $1::timestamptz)`, at)
		wantContract(t, err, "LS002", `request "k" is scheduled for`)
	}
}

func TestOutcomesOfManyKeys(t *testing.T) {
	t.Parallel()
	pool := migrated(t)
	mustMany(t, pool,
		`[{"kind": "toy", "key": "a", "args": {}}, {"kind": "toy", "key": "b", "args": {}}, {"kind": "toy", "key": "c", "args": {}}]`)
	settleKeys(t, pool, "b")
	viewer := connect(t, pool, "lastseat_viewer")
	if got := column[string](t, viewer, `SELECT concat_ws(' ', key, status, code)
		FROM lastseat.outcomes('{c,nobody,b,NULL,a}')`); !slices.Equal(got, []string{"c pending", "b applied played", "a pending"}) {
		t.Errorf("the outcomes are %q", got)
	}
	for _, none := range []string{"NULL", "'{}'"} {
		if got := column[string](t, viewer, `SELECT key FROM lastseat.outcomes(`+none+`)`); len(got) != 0 {
			t.Errorf("the outcomes of %s are %q", none, got)
		}
	}
}

// settleKeys settles requests with one statement, as the lane does.
func settleKeys(t *testing.T, db querier, keys ...string) {
	t.Helper()
	exec(t, db, `UPDATE lastseat.requests r SET status = 'applied', code = 'played', place = o.n, settled_at = now()
		FROM unnest($1::text[]) WITH ORDINALITY AS o(key, n)
		WHERE r.key = o.key AND r.status = 'pending'`, keys)
}

// feed reads pages of a size until one is empty, and returns keys with their codes.
func feed(t *testing.T, db querier, cursor *string, size int) []string {
	t.Helper()
	var all []string
	for {
		rows, err := db.Query(t.Context(), `SELECT cursor, concat_ws(' ', key, code) FROM lastseat.outcomes_since($1, $2)`,
			*cursor, size)
		if err != nil {
			t.Fatal(err)
		}
		n := 0
		var row string
		if _, err := pgx.ForEachRow(rows, []any{cursor, &row}, func() error {
			n++
			all = append(all,
				row)
			return nil
		}); err != nil {
			t.Fatal(err)
		}
		if n > size {
			t.Fatalf("a page of %d has %d rows", size, n)
		}
		if n == 0 {
			return all
		}
	}
}

// wantFeed reads on until there are as many as wanted: the transactions of other tests, in other databases of the
// server, hold up the feed too.
func wantFeed(t *testing.T, db querier, cursor *string, size int, want ...string) {
	t.Helper()
	var got []string
	for deadline := time.Now().Add(30 * time.Second); len(got) < len(want) &&
		time.Now().Before(deadline); time.Sleep(2 * time.Millisecond) {
		got = append(got, feed(t, db, cursor, size)...)
	}
	if got = append(got, feed(t, db, cursor, size)...); !slices.Equal(got, want) {
		t.Fatalf("in pages of %d: %v, want %v", size, got, want)
	}
}

func enqueueToys(t *testing.T, db querier, keys ...string) {
	t.Helper()
	for _, key := range keys {
		mustAsk(t, db, `enqueue('toy', $1, '{}')`, key)
	}
}

func TestOutcomesSinceInSettledOrder(t *testing.T) {
	t.Parallel()
	pool := migrated(t)
	lane := connect(t, pool, "")
	var want []string
	for batch := range 5 {
		// Whatever plan the UPDATE has, and so whatever order it meets the rows in, the order is that of their places.
		for i, join := range []string{"nestloop", "hashjoin", "mergejoin"} {
			exec(t, lane, fmt.Sprintf(`SET enable_%s = %t`, join, batch%3 == i))
		}
		var keys []string
		for i := range 1 + batch*3 {
			keys = append(keys, fmt.Sprintf("%02d-%d", (i*7+3)%13, batch)) // not in the order of keys, nor of asking
		}
		enqueueToys(t, pool, slices.Sorted(slices.Values(keys))...)
		settleKeys(t, lane, keys...)
		for _, key := range keys {
			want = append(want, key+" played")
		}
	}
	enqueueToys(t, pool, "waits")
	for size := 1; size <= len(want)+1; size++ {
		for _, begin := range []string{"", "0.0.0.0"} {
			wantFeed(t, pool, &begin, size, want...)
		}
	}
	now := scalar[string](t, pool, `SELECT lastseat.outcomes_cursor()`)
	if got := feed(t, pool, &now, 10); len(got) != 0 {
		t.Errorf("from now on: %v", got)
	}
	settleKeys(t, pool, "waits")
	wantFeed(t, pool, &now, 10, "waits played")
	// what is removed was read, and a cursor that points at one goes on
	exec(t, pool, `SELECT lastseat.keep('outcome_log', 0), lastseat.remove_outcomes(1000)`)
	enqueueToys(t, pool, "next")
	settleKeys(t, pool, "next")
	wantFeed(t, pool, &now, 10, "next played")
	for _, wrong := range []string{
		"x", "1.2", "1.2.3", "1.2.3.4", "-1.0.0.0", "0.1.0.0 ", "0.99999999999999999999.0.0", "0.1.1.1\n",
	} {
		_, err := pool.Exec(t.Context(), `SELECT * FROM lastseat.outcomes_since($1)`, wrong)
		wantRefusal(t, err, "LS002", "is no cursor")
	}
	_, err := pool.Exec(t.Context(), `SELECT * FROM lastseat.outcomes_since(
		(SELECT token FROM lastseat.timelines) || '.9000000000.0.0')`)
	wantContract(t, err, "LS002", "is ahead of this database")
	_, err = pool.Exec(t.Context(), `SELECT * FROM lastseat.outcomes_since('0123456789ab.1.1.1')`)
	wantContract(t, err, "LS002", "of a database that this one does not come from")
	for _, most := range []string{"0", "-1", "NULL"} {
		_, err := pool.Exec(t.Context(), `SELECT * FROM lastseat.outcomes_since('', `+most+`)`)
		wantContract(t, err, "LS002", "max_rows")
	}
}

// The order of commits is not that of transactions: nothing is shown before all that has to come first has ended.
func TestOutcomesSinceWaitsForOpenTransactions(t *testing.T) {
	t.Parallel()
	pool := migrated(t)
	exec(t, pool, `SELECT lastseat.current_timeline()`) // as a lane does when it begins
	enqueueToys(t, pool, "first", "second", "third", "cancelled", "rolled back")
	begin := func() pgx.Tx {
		tx, err := connect(t, pool, "").Begin(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		return tx
	}
	end := func(err error) {
		if err != nil {
			t.Fatal(err)
		}
	}
	cursor := ""
	read := func() []string { return feed(t, pool, &cursor, 2) }

	long, early, late, undone := begin(), begin(), begin(), begin()
	exec(t, long, `SELECT pg_current_xact_id()`) // it has written, somewhere
	settleKeys(t, early, "first")
	settleKeys(t, undone, "rolled back")
	settleKeys(t, late, "second")
	end(late.Commit(t.Context()))
	settleKeys(t, pool, "third")
	if got := read(); len(got) != 0 {
		t.Errorf("while those before are open: %v", got)
	}
	end(undone.Rollback(t.Context()))
	end(early.Commit(t.Context()))
	exec(t, pool, `UPDATE lastseat.river_job SET state = 'cancelled', finalized_at = now()
		WHERE args ->> 'key' = 'cancelled'`)
	if got := read(); len(got) != 0 {
		t.Errorf("beside a long transaction: %v", got)
	}
	end(long.Rollback(t.Context()))
	wantFeed(t, pool, &cursor, 2, "first played", "second played", "third played", "cancelled job_cancelled")
	settleKeys(t, pool, "rolled back")
	wantFeed(t, pool, &cursor, 2, "rolled back played")
}

func TestOutcomesSinceAndRetry(t *testing.T) {
	t.Parallel()
	pool := migrated(t)
	enqueueToys(t, pool, "a", "b", "c")
	cursor, fromTheStart := "", ""
	breakRequest(t, pool, "a", "discarded")
	breakRequest(t, pool, "b", "cancelled")
	wantFeed(t, pool, &cursor, 1, "a retries_exhausted", "b job_cancelled")
	mustAsk(t, pool, `retry('a')`)
	mustAsk(t, pool, `retry('b')`)
	settleKeys(t, pool, "c")
	settleKeys(t, pool, "a")
	wantFeed(t, pool, &cursor, 1, "c played", "a played")
	wantFeed(t, pool, &fromTheStart, 1, "c played", "a played")
	// all of it in one transaction: one outcome
	tx, err := pool.Begin(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	breakRequest(t, tx, "b", "cancelled")
	mustAsk(t, tx, `retry('b')`)
	breakRequest(t, tx, "b", "cancelled")
	if err := tx.Commit(t.Context()); err != nil {
		t.Fatal(err)
	}
	wantFeed(t, pool, &cursor, 5, "b job_cancelled")
}

// What time brought about, and nobody asked for, is in the feed too.
func TestOutcomesSinceHasRecords(t *testing.T) {
	t.Parallel()
	pool := migrated(t)
	cursor := ""
	worker := connect(t, pool, "lastseat_worker")
	exec(t, worker, `SELECT lastseat.record('payment.expire', 'payment', 'expired', '{p2,p1}'),
		lastseat.record('reservation.grant', 'reservation', 'held', '{r}'),
		lastseat.record('reservation.expire', 'reservation', 'expired', '{}')`)
	exec(t, worker, `SELECT lastseat.record('payment.expire', 'payment', 'expired', '{p1}')`) // once
	want := []string{"lastseat:payment.expire:p2 expired", "lastseat:payment.expire:p1 expired",
		"lastseat:reservation.grant:r held"}
	wantFeed(t, pool, &cursor, 1, want...)
}

// Eight settlers commit as they please, cancellations and rollbacks among them, while a reader reads on: each outcome
// comes once.
func TestOutcomesSinceMissesAndRepeatsNothing(t *testing.T) {
	t.Parallel()
	pool := migrated(t)
	const settlers, rounds = 8, 15
	var all sync.WaitGroup
	for s := range settlers {
		conn := connect(t, pool, "")
		all.Go(func() {
			for r := range rounds {
				keys := []string{fmt.Sprintf("%d-%d-b", s, r), fmt.Sprintf("%d-%d-a", s, r), fmt.Sprintf("%d-%d-c", s, r)}
				enqueueToys(t, conn, keys...)
				tx, err := conn.Begin(t.Context())
				if err != nil {
					t.Error(err)
					return
				}
				settleKeys(t, tx, keys[:2]...)
				exec(t, tx, `SELECT pg_sleep(random() / 200)`)
				if r%5 == 4 {
					_ = tx.Rollback(t.Context())
					settleKeys(t, conn, keys[:2]...)
				} else if err := tx.Commit(t.Context()); err != nil {
					t.Error(err)
				}
				exec(t, conn, `UPDATE lastseat.river_job SET state = 'cancelled', finalized_at = now() WHERE args ->> 'key' = $1`,
					keys[2])
			}
		})
	}
	done := make(chan struct{})
	go func() { all.Wait(); close(done) }()
	cursor, seen, size := "", map[string]int{}, 0
	var order []string
	deadline := time.Now().Add(time.Minute)
	for running := true; running || len(order) < settlers*rounds*3 && time.Now().Before(deadline); {
		select {
		case <-done:
			running = false
		default:
		}
		size = size%7 + 1
		for _, row := range feed(t, pool, &cursor, size) {
			seen[row]++
			order = append(order, row)
		}
	}
	if len(seen) != settlers*rounds*3 || len(order) != len(seen) {
		t.Errorf("%d outcomes, %d different ones, of %d", len(order), len(seen), settlers*rounds*3)
	}
	again := ""
	if replay := feed(t, pool, &again, 1000); !slices.Equal(replay, order) {
		t.Error("who reads later reads another order")
	}
}

func TestQueueOfOnesOwn(t *testing.T) {
	t.Parallel()
	pool := migrated(t)
	openAccounts(t, pool)
	mustAsk(t, pool, `enqueue('toy', 'k', '{}', queue => 'mine')`)
	for call, says := range map[string]string{
		`enqueue('toy', 'q', '{}', queue => NULL)`:            "the queue is null",
		`enqueue('toy', 'q', '{}', queue => '')`:              `the queue is ""`,
		`enqueue('toy', 'q', '{}', queue => 'a b')`:           `the queue is "a b"`,
		`enqueue('toy', 'q', '{}', queue => '-a')`:            `the queue is "-a"`,
		`enqueue('toy', 'q', '{}', queue => repeat('a', 65))`: `the queue is "aaa`,
		`enqueue('payment.transfer', 'q', '{"from": "bank", "to": "ada", "amount": 5, "currency": "EUR"}', queue => 'mine')`: `can't go to the queue "mine"`,
	} {
		_, err := ask(t, pool, call)
		wantContract(t, err, "LS002", says)
	}
	// its lane is the one that a retry wakes
	breakRequest(t, pool, "k", "cancelled")
	listener, lane := connect(t, pool, ""), connect(t, pool, "")
	exec(t, listener, `LISTEN "lastseat.river_insert"`)
	exec(t, lane, `SELECT pg_advisory_lock(lastseat.doorbell('mine'))`)
	mustAsk(t, pool, `retry('k')`)
	notification, err := listener.WaitForNotification(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	var ring struct{ Queue string }
	if err := json.Unmarshal([]byte(notification.Payload), &ring); err != nil || ring.Queue != "mine" {
		t.Errorf("the retry rang %s", notification.Payload)
	}
}

// \df+ and \d+ read like documentation: every function of ours has a comment that explains each argument, every table,
// column and type has one.
func TestEverythingIsCommented(t *testing.T) {
	t.Parallel()
	pool := migrated(t)
	for what, sql := range map[string]string{
		"functions": `SELECT oid::regprocedure::text FROM pg_proc WHERE pronamespace = 'lastseat'::regnamespace
			AND proname !~ '^river_' AND obj_description(oid) IS NULL`,
		"arguments": `SELECT p.oid::regprocedure || ': ' || a.name
			FROM pg_proc p, unnest(p.proargnames,
			  coalesce(p.proargmodes, array_fill('i'::"char", ARRAY[p.pronargs]))) AS a(name, mode)
			WHERE pronamespace = 'lastseat'::regnamespace AND proname !~ '^river_' AND a.mode <> 't'
			  AND obj_description(p.oid) !~ ('(?n)^' || a.name || ': .+[.]$')`,
		"arguments without a name": `SELECT oid::regprocedure::text FROM pg_proc
			WHERE pronamespace = 'lastseat'::regnamespace AND proname !~ '^river_' AND pronargs > 0 AND proargnames IS NULL`,
		"comments on arguments that are not there": `SELECT p.oid::regprocedure || ': ' || said[1]
			FROM pg_proc p, regexp_matches(obj_description(p.oid), '(?n)^([a-z_]+): ', 'g') said
			WHERE pronamespace = 'lastseat'::regnamespace AND NOT said[1] = ANY (p.proargnames)`,
		"tables": `SELECT oid::regclass::text FROM pg_class WHERE relnamespace = 'lastseat'::regnamespace
			AND relkind IN ('r', 'v', 'm') AND relname !~ '^river_' AND obj_description(oid) IS NULL`,
		"columns": `SELECT attrelid::regclass || '.' || attname FROM pg_attribute JOIN pg_class c
			ON c.oid = attrelid WHERE relnamespace = 'lastseat'::regnamespace AND relkind IN ('r', 'v', 'm', 'c')
			  AND relname !~ '^river_' AND attnum > 0 AND NOT attisdropped AND col_description(attrelid, attnum) IS NULL`,
		"types": `SELECT oid::regtype::text FROM pg_type t WHERE typnamespace = 'lastseat'::regnamespace
			AND typname !~ '^_?river_' AND (typtype IN ('e', 'd') OR EXISTS (SELECT FROM pg_class c WHERE c.oid = t.typrelid
			  AND relkind = 'c')) AND obj_description(oid) IS NULL`,
		"one-line answers": `SELECT oid::regprocedure::text FROM pg_proc WHERE pronamespace = 'lastseat'::regnamespace
			AND proname !~ '^river_' AND obj_description(oid) !~ '^[^\n]+[.](\n\n|$)'`,
	} {
		if got := column[string](t, pool, sql); len(got) != 0 {
			t.Errorf("%s without a comment: %v", what, strings.Join(got, ", "))
		}
	}
}
