package main

import (
	"encoding/json"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/riverqueue/river"
	"github.com/riverqueue/river/riverdriver/riverpgxv5"
	"github.com/riverqueue/river/rivertype"

	"github.com/lastseat/lastseat/internal/clitest"
	"github.com/lastseat/lastseat/internal/testdb"
)

// pay is what a service of somebody else's sends: a plain River job of our kind.
type pay struct {
	Key      string `json:"key,omitempty"`
	From     string `json:"from"`
	To       string `json:"to"`
	Amount   any    `json:"amount"`
	Currency string `json:"currency"`
	Tip      int    `json:"tip,omitempty"`
}

func (pay) Kind() string { return "payment.transfer" }

func insertRiver(t *testing.T, pool *pgxpool.Pool, args river.JobArgs) int64 {
	t.Helper()
	client, err := river.NewClient(riverpgxv5.New(pool), &river.Config{Schema: "lastseat"})
	if err != nil {
		t.Fatal(err)
	}
	inserted, err := client.Insert(t.Context(), args, &river.InsertOpts{Queue: "lastseat"})
	if err != nil {
		t.Fatal(err)
	}
	return inserted.Job.ID
}

// A job that a plain River client inserts is honoured if it is valid, and else rejected, invalid_args. Around each
// stand two good requests, which it must not hold up.
func TestRiverClientsJob(t *testing.T) {
	t.Parallel()
	url := testdb.New(t)
	pool := open(t, url)
	balance := int64(0)
	for name, c := range map[string]struct {
		args         pay
		status, code string
		recorded     string // its key, if another one
	}{
		"valid": {args: pay{"valid", "bank", "ada", 1000, "EUR", 0}, status: "applied", code: "transferred"},
		"unknown account": {args: pay{"unknown account", "bank", "nobody", 1, "EUR", 0}, status: "rejected",
			code: "account_not_found"},
		"too poor": {args: pay{"too poor", "ada", "bank", 1 << 60, "EUR", 0}, status: "rejected",
			code: "insufficient_funds"},
		"zero":     {args: pay{"zero", "bank", "ada", 0, "EUR", 0}, status: "rejected", code: "invalid_args"},
		"negative": {args: pay{"negative", "bank", "ada", -1, "EUR", 0}, status: "rejected", code: "invalid_args"},
		"fraction": {args: pay{"fraction", "bank", "ada", 1.5, "EUR", 0}, status: "rejected", code: "invalid_args"},
		"beyond int64": {args: pay{"beyond int64", "bank", "ada", json.Number("9223372036854775808"), "EUR", 0},
			status: "rejected", code: "invalid_args"},
		"text":      {args: pay{"text", "bank", "ada", "1", "EUR", 0}, status: "rejected", code: "invalid_args"},
		"no amount": {args: pay{"no amount", "bank", "ada", nil, "EUR", 0}, status: "rejected", code: "invalid_args"},
		"unknown currency": {args: pay{"unknown currency", "bank", "ada", 1, "XQQ", 0}, status: "rejected",
			code: "currency_mismatch"}, // whether there is one, the accounts tell
		"no currency": {args: pay{"no currency", "bank", "ada", 1, "euro", 0}, status: "rejected", code: "invalid_args"},
		"the same account": {args: pay{"the same account", "ada", "ada", 1, "EUR", 0}, status: "rejected",
			code: "invalid_args"},
		"empty account": {args: pay{"empty account", "", "ada", 1, "EUR", 0}, status: "rejected", code: "invalid_args"},
		"long account": {args: pay{"long account", strings.Repeat("x", 201), "ada", 1, "EUR", 0}, status: "rejected",
			code: "invalid_args"},
		"unknown argument": {args: pay{"unknown argument", "bank", "ada", 1, "EUR", 5}, status: "rejected",
			code: "invalid_args"},
		"more than 64 KiB": {args: pay{"more than 64 KiB", "bank", strings.Repeat("x", 64<<10), 1, "EUR", 0},
			status: "rejected", code: "invalid_args"},
		"no key": {args: pay{"", "bank", "ada", 1, "EUR", 0}, status: "rejected", code: "invalid_args",
			recorded: "river_job:"},
		"long key": {args: pay{strings.Repeat("k", 201), "bank", "ada", 1, "EUR", 0}, status: "rejected",
			code: "invalid_args", recorded: "river_job:"},
		"currency mismatch": {args: pay{"currency mismatch", "bank", "ada", 1, "USD", 0}, status: "rejected",
			code: "currency_mismatch"},
	} {
		t.Run(name, func(t *testing.T) {
			give(t, pool, "before "+name, 1)
			id := insertRiver(t, pool, c.args)
			give(t, pool, "after "+name, 1)
			runWith(t, url, "run", "--drain").Succeeds(t)
			balance += 2
			if c.status == "applied" {
				balance += 1000
			}
			got := testdb.Scalar[string](t, pool, `SELECT concat_ws(' ', status, code, CASE WHEN starts_with(key, $2)
				THEN 'key ok' END) FROM lastseat.requests WHERE job_id = $1`,
				id, max(c.recorded, c.args.Key[:min(len(c.args.Key), 1)]))
			if want := c.status + " " + c.code + " key ok"; got != want {
				t.Errorf("the job became %q, want %q", got, want)
			}
			if ada := testdb.Scalar[int64](t, pool, `SELECT balance FROM lastseat.accounts WHERE id = 'ada'`); ada != balance {
				t.Errorf("ada has %d, want %d", ada, balance)
			}
		})
	}
	runWith(t, url, "audit").Succeeds(t)
}

// Arguments that are no object at all can't come from a struct; from SQL they can.
func TestRawJobs(t *testing.T) {
	t.Parallel()
	for name, args := range map[string]string{
		"array": `[1]`, "array of the key": `["key"]`, "empty object": `{}`, "number": `7`, "text": `"key"`, "null": `null`,
		"true":         `true`,
		"key a number": `{"key": 7}`, "key an object": `{"key": {"a": 1}}`, "key null": `{"key": null}`,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			url := testdb.New(t)
			pool := open(t, url)
			give(t, pool, "before", 1)
			testdb.Exec(t, pool, `INSERT INTO lastseat.river_job (kind, queue, args)
				VALUES ('payment.transfer', 'lastseat', $1::jsonb)`, args)
			give(t, pool, "after", 1)

			done := make(chan clitest.Result, 1)
			go func() { done <- runWith(t, url, "run", "--drain") }()
			clitest.Eventually(t, "the requests around it to be settled", func() bool {
				return testdb.Scalar[int](t, pool, `SELECT count(*)::int FROM lastseat.requests WHERE status = 'applied'`) == 2
			})
			clitest.Eventually(t, "the drain to end", func() bool { return len(done) > 0 })
			(<-done).Succeeds(t)
			got := testdb.Scalar[string](t, pool, `SELECT coalesce(string_agg(concat_ws(' ', status, code), '; '), 'nothing')
				FROM lastseat.requests WHERE key NOT IN ('before', 'after')`)
			if got != "rejected invalid_args" {
				t.Errorf("the job became %q, want rejected invalid_args", got)
			}
		})
	}
}

// A plain River job with a key that is taken is a duplicate, or a misuse that is discarded; the request stays as it is.
func TestRiverClientsKeys(t *testing.T) {
	t.Parallel()
	url := testdb.New(t)
	pool := open(t, url)
	give(t, pool, "k", 100)
	same := insertRiver(t, pool, pay{"k", "bank", "ada", 100, "EUR", 0})
	other := insertRiver(t, pool, pay{"k", "bank", "ada", 200, "EUR", 0})
	fresh := insertRiver(t, pool, pay{"f", "bank", "ada", 10, "EUR", 0})
	insertRiver(t, pool, pay{"f", "bank", "ada", 10, "EUR", 0})
	for range 2 {
		runWith(t, url, "run", "--drain").Succeeds(t)
		if got := testdb.Scalar[int64](t, pool, `SELECT balance FROM lastseat.accounts WHERE id = 'ada'`); got != 110 {
			t.Errorf("ada has %d, want 110", got)
		}
		insertRiver(t, pool, pay{"k", "bank", "ada", 100, "EUR", 0}) // and once more, after it was settled
	}
	state := func(id int64) string {
		return testdb.Scalar[string](t, pool, `SELECT coalesce((SELECT state::text || ' '
			|| coalesce(errors[1] ->> 'error', '') FROM lastseat.river_job WHERE id = $1), 'gone')`, id)
	}
	if got := state(other); !strings.HasPrefix(got, string(rivertype.JobStateDiscarded)) || !strings.Contains(got,
		"LS001") {
		t.Errorf("the job with another amount is %q, want discarded with LS001", got)
	}
	if got := state(same) + ", " + state(fresh); got != "gone, gone" {
		t.Errorf("the duplicate and the fresh job are %s", got)
	}
	if got := testdb.Scalar[int](t, pool,
		`SELECT count(*)::int FROM lastseat.requests WHERE status = 'applied'`); got != 2 {
		t.Errorf("%d applied requests, want k and f", got)
	}
	if got := runWith(t, url, "audit"); got.Code != 0 {
		t.Errorf("audit: %s", got.Out)
	}
}

// A completed job that is kept shows its outcome as River's output: to River a refusal is a success like any other.
func TestKeptJobsShowTheirOutcome(t *testing.T) {
	t.Parallel()
	url := testdb.New(t)
	pool := open(t, url)
	give(t, pool, "k", 100)
	testdb.Exec(t, pool, `SELECT lastseat.transfer('refused', 'ada', 'bank', 101, 'EUR')`)
	testdb.Exec(t, pool, `UPDATE lastseat.river_job SET metadata = '{"mine": 1}'`)
	insertRiver(t, pool, pay{"k", "bank", "ada", 100, "EUR", 0}) // a duplicate
	runIn(t, []string{"DATABASE_URL=" + url, "LASTSEAT_LOG_LEVEL=error", "LASTSEAT_KEEP_COMPLETED=1h"}, "run",
		"--drain").Succeeds(t)
	got := testdb.Scalar[string](t, pool, `SELECT string_agg(concat_ws(' ', metadata -> 'mine',
		metadata -> 'output' ->> 'status', metadata -> 'output' ->> 'code',
		metadata -> 'output' -> 'detail' = (SELECT r.detail FROM lastseat.requests r WHERE r.key = j.args ->> 'key')),
		', ' ORDER BY id) FROM lastseat.river_job j WHERE state = 'completed'`)
	want := "1 applied transferred, 1 rejected insufficient_funds t, applied transferred"
	if got != want {
		t.Errorf("the outcomes are %s, want %s", got, want)
	}
}

// A completed job that is kept and started again by hand, in River UI say, does nothing a second time.
func TestKeptJobStartedAgain(t *testing.T) {
	t.Parallel()
	url := testdb.New(t)
	pool := open(t, url)
	give(t, pool, "k", 100)
	drain := func() {
		t.Helper()
		runIn(t, []string{"DATABASE_URL=" + url, "LASTSEAT_LOG_LEVEL=error", "LASTSEAT_KEEP_COMPLETED=1h"}, "run",
			"--drain").Succeeds(t)
		if got := testdb.Scalar[string](t, pool, `SELECT state::text FROM lastseat.river_job`); got != "completed" {
			t.Errorf("the job is %s", got)
		}
		if got := testdb.Scalar[int64](t, pool, `SELECT balance FROM lastseat.accounts WHERE id = 'ada'`); got != 100 {
			t.Errorf("ada has %d, want 100", got)
		}
	}
	drain()
	testdb.Exec(t, pool, `UPDATE lastseat.river_job SET state = 'available', scheduled_at = now(), finalized_at = NULL`)
	drain()
	runWith(t, url, "audit").Succeeds(t)
}
