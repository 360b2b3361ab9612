package jobs_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/lastseat/lastseat/internal/testdb"
	"github.com/lastseat/lastseat/jobs"
	"github.com/lastseat/lastseat/outbox"
)

func statement(t *testing.T, pool *pgxpool.Pool, account string, period jobs.Period) []jobs.Entry {
	t.Helper()
	var entries []jobs.Entry
	err := jobs.Statement(t.Context(), pool, account, period, func(e jobs.Entry) error {
		entries = append(entries, e)
		return nil
	})
	if err != nil {
		t.Fatalf("%s %+v: %v", account, period, err)
	}
	return entries
}

// writeEntries gives two accounts entries at times of the test's choosing: the nth moves n. id is that of the first
// transfer.
func writeEntries(t *testing.T, pool *pgxpool.Pool, id int, from, to string, times []time.Time) {
	t.Helper()
	exec(t, pool, `SELECT lastseat.open_account($1, 'EUR', NULL), lastseat.open_account($2, 'EUR', NULL)`, from, to)
	exec(t, pool, `
		WITH given AS (SELECT at, n, n + $1 - 1 AS id FROM unnest($4::timestamptz[]) WITH ORDINALITY AS u(at, n)), moved AS (
			INSERT INTO lastseat.transfers (id, key, from_account, to_account, amount, currency) SELECT id, 'key '
			  || id, $2, $3, n, 'EUR' FROM given)
		INSERT INTO lastseat.entries (account_id, version, transfer_id, amount, balance_after, created_at)
		SELECT $2, n, id, -n, -n * (n + 1) / 2, at FROM given UNION ALL SELECT $3, n, id, n, n * (n + 1) / 2, at
		  FROM given`, id, from, to, times)
	exec(t, pool, `UPDATE lastseat.accounts SET entry_count = $3, version = $3, balance = CASE id WHEN $1 THEN -1
		ELSE 1 END * $3::bigint * ($3::bigint + 1) / 2 WHERE id IN ($1, $2)`, from, to, len(times))
}

// A statement's range is found by bisection: for any times, equal ones among them, it is what a look at every entry
// finds.
func TestStatementRange(t *testing.T) {
	t.Parallel()
	pool := newPool(t)
	start := time.Date(2026, 1, 31, 23, 59, 59, 999999000, time.UTC)
	for round := range testdb.Soak(4, 40) {
		from, to := fmt.Sprint("from", round), fmt.Sprint("to", round)
		times := make([]time.Time, []int{0, 1, 2, 23}[round%4])
		for i := range times {
			times[i] = start.Add(time.Duration(rand.IntN(12)) * time.Microsecond)
		}
		slices.SortFunc(times, time.Time.Compare)
		writeEntries(t, pool, 1+100*round, from, to, times)
		for range 40 {
			period := jobs.Period{AfterVersion: int64(max(0, rand.IntN(40)-12)), MaxEntries: int64(max(0, rand.IntN(30)-10))}
			if rand.IntN(4) > 0 {
				period.From = start.Add(time.Duration(rand.IntN(16)-2) * time.Microsecond)
			}
			if rand.IntN(4) > 0 {
				period.To = start.Add(time.Duration(rand.IntN(16)-2) * time.Microsecond)
			}
			var want, got []int64
			for i, at := range times {
				version := int64(i + 1)
				if !at.Before(period.From) && (period.To.IsZero() || at.Before(period.To)) && version > period.AfterVersion &&
					(period.MaxEntries == 0 || len(want) < int(period.MaxEntries)) {
					want = append(want, version)
				}
			}
			for _, e := range statement(t, pool, to, period) {
				got = append(got, e.Version)
				if e.BalanceAfter != e.Version*(e.Version+1)/2 || e.Amount != e.Version || e.Counterparty != from ||
					!e.At.Equal(times[e.Version-1]) {
					t.Fatalf("%+v", e)
				}
			}
			if !slices.Equal(got, want) {
				t.Fatalf("%v %+v: %v, want %v", times, period, got, want)
			}
			at := start.Add(time.Duration(rand.IntN(16)-2) * time.Microsecond)
			before := int64(len(slices.DeleteFunc(slices.Clone(times), func(entry time.Time) bool { return !entry.Before(at) })))
			if balance := testdb.Scalar[int64](t, pool, `SELECT lastseat.balance_at($1, $2)`, from,
				at); balance != -before*(before+1)/2 {
				t.Fatalf("%v: balance %d at %v", times, balance, at)
			}
		}
	}
}

// What a line of a statement says, of every kind of request; pages of it; what is not there.
func TestStatement(t *testing.T) {
	t.Parallel()
	pool := newPool(t)
	exec(t, pool, `SELECT lastseat.open_account('bank', 'EUR', NULL), lastseat.open_account('ada', 'EUR'),
		lastseat.open_account('shop', 'EUR'), lastseat.open_account('new', 'EUR')`)
	for _, call := range []string{
		`transfer('top-up', 'bank', 'ada', 1000, 'EUR', 'wages')`, `authorize('a', 'p', 'ada', 'shop', 700, 'EUR')`,
		`capture('c', 'p', 500)`, `refund('r', 'p', 200)`, `reverse('v', 'top-up')`,
		`transfer('more', 'bank', 'ada', 600, 'EUR')`, `reverse('w', 'top-up')`,
	} {
		exec(t, pool, "SELECT lastseat."+call)
	}
	drain(t, pool, outbox.Settings{Batch: 2})
	want := []jobs.Entry{
		{Version: 1, Amount: 1000, BalanceAfter: 1000, Counterparty: "bank", Kind: jobs.KindTransfer, Key: "top-up",
			Description: "wages"},
		{Version: 2, Amount: -500, BalanceAfter: 500, Counterparty: "shop", Kind: jobs.KindCapture, Key: "c", Payment: "p"},
		{Version: 3, Amount: 200, BalanceAfter: 700, Counterparty: "shop", Kind: jobs.KindRefund, Key: "r", Payment: "p"},
		{Version: 4, Amount: 600, BalanceAfter: 1300, Counterparty: "bank", Kind: jobs.KindTransfer, Key: "more"},
		{Version: 5, Amount: -1000, BalanceAfter: 300, Counterparty: "bank", Kind: jobs.KindReverse, Key: "w"},
	}
	got := statement(t, pool, "ada", jobs.Period{})
	for i := range got {
		if got[i].At.Location() != time.UTC || time.Since(got[i].At) > time.Hour {
			t.Errorf("%v", got[i].At)
		}
		got[i].At = time.Time{}
	}
	if !slices.Equal(got, want) {
		t.Errorf("%+v", got)
	}
	var pages []jobs.Entry
	for page := statement(t, pool, "ada", jobs.Period{MaxEntries: 2}); len(page) > 0; page = statement(t, pool, "ada",
		jobs.Period{MaxEntries: 2, AfterVersion: page[len(page)-1].Version}) {
		pages = append(pages, page...)
	}
	if len(pages) != len(want) {
		t.Errorf("%+v", pages)
	}
	if empty := statement(t, pool, "new", jobs.Period{From: time.Now().Add(-time.Hour), To: time.Now()}); len(empty) != 0 {
		t.Errorf("%+v", empty)
	}
	for call, want := range map[string]int64{ // null is what is left out
		`(SELECT count(*) FROM lastseat.statement('ada', NULL, NULL, NULL, NULL))`:                5,
		`(SELECT count(*) FROM lastseat.statement('ada', after_version => 9223372036854775807))`:  0,
		`(SELECT count(*) FROM lastseat.statement('ada', after_version => -7, max_entries => 3))`: 3,
		`(SELECT count(*) FROM lastseat.statement('ada', max_entries => 0))`:                      0,
		`(SELECT count(*) FROM lastseat.statement('ada', "from" => 'infinity'))`:                  0,
		`(SELECT count(*) FROM lastseat.statement('ada', "to" => '-infinity'))`:                   0,
		`lastseat.balance_at('ada', 'infinity')`:                                                  300,
		`lastseat.balance_at('ada', '-infinity')`:                                                 0,
		`lastseat.balance_at('new', now())`:                                                       0,
	} {
		if got := testdb.Scalar[int64](t, pool, "SELECT "+call); got != want {
			t.Errorf("%s is %d, want %d", call, got, want)
		}
	}
	for call, want := range map[string]error{
		`SELECT lastseat.balance_at('nobody', now())`:                outbox.ErrUnknown,
		`SELECT lastseat.balance_at('ada', NULL)`:                    outbox.ErrInvalid,
		`SELECT lastseat.balance_at(NULL, now())`:                    outbox.ErrUnknown,
		`SELECT * FROM lastseat.statement('nobody')`:                 outbox.ErrUnknown,
		`SELECT * FROM lastseat.statement('ada', max_entries => -1)`: outbox.ErrInvalid,
	} {
		if _, err := pool.Exec(t.Context(), call); !errors.Is(outbox.ContractError(err), want) {
			t.Errorf("%s: %v", call, err)
		}
	}
	never := func(jobs.Entry) error { t.Error("an entry of nobody"); return nil }
	if err := jobs.Statement(t.Context(), pool, "nobody", jobs.Period{}, never); !errors.Is(err, outbox.ErrUnknown) {
		t.Error(err)
	}
	stop, lines := errors.New("enough"), 0
	if err := jobs.Statement(t.Context(), pool, "ada", jobs.Period{},
		func(jobs.Entry) error { lines++; return stop }); !errors.Is(err, stop) || lines != 1 {
		t.Errorf("%v after %d lines", err, lines)
	}
	for _, read := range []func() error{
		func() error { _, err := jobs.BalanceOf(t.Context(), pool, "nobody"); return err },
		func() error { _, err := jobs.PaymentOf(t.Context(), pool, "nobody"); return err },
	} {
		if err := read(); !errors.Is(err, outbox.ErrUnknown) {
			t.Error(err)
		}
	}
	proven(t, pool)
}

// Entries never go back in time, though the clock does: bisection relies on it.
func TestEntriesNeverGoBackInTime(t *testing.T) {
	t.Parallel()
	pool := newPool(t)
	exec(t, pool, `SELECT lastseat.open_account('bank', 'EUR', NULL), lastseat.open_account('shop', 'EUR')`)
	// as a clock did that was ahead
	exec(t, pool, `UPDATE lastseat.accounts SET updated_at = '2999-01-01Z' WHERE id = 'shop'`)
	exec(t, pool, `SELECT lastseat.transfer('a', 'bank', 'shop', 1, 'EUR'), lastseat.authorize('b', 'p', 'bank', 'shop',
		2, 'EUR'), lastseat.capture('c', 'p')`)
	drain(t, pool, outbox.Settings{Batch: 1})
	for account, year := range map[string]int{"shop": 2999, "bank": time.Now().UTC().Year()} {
		for _, e := range statement(t, pool, account, jobs.Period{}) {
			if e.At.Year() != year {
				t.Errorf("%s: %+v", account, e)
			}
		}
	}
}

// An hour of an account with 100,000 entries is found by reading a few pages, however often it is asked for in a
// session: the first plans are made for the arguments, later ones for any.
func TestStatementOfHotAccount(t *testing.T) {
	t.Parallel()
	pool := newPool(t)
	const entries = 100_000
	start := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	times := make([]time.Time, entries)
	for i := range times {
		times[i] = start.Add(time.Duration(i) * time.Second)
	}
	// they take longer than the test
	exec(t, pool,
		`ALTER TABLE lastseat.entries DISABLE TRIGGER chain; ALTER TABLE lastseat.transfers DISABLE TRIGGER one_currency`)
	writeEntries(t, pool, 1, "customers", "shop", times)
	conn, err := pool.Acquire(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Release()
	for _, analyzed := range []bool{false, true} {
		if analyzed {
			exec(t, pool, `ANALYZE lastseat.entries, lastseat.transfers, lastseat.accounts, lastseat.requests`)
		}
		for range 8 {
			for _, sql := range []string{
				`SELECT * FROM lastseat.statement('shop', '2026-01-01 13:00:00Z', '2026-01-01 13:01:00Z')`,
				`SELECT * FROM lastseat.statement('shop', after_version => 77777, max_entries => 50)`,
				`SELECT * FROM lastseat.statement('shop', '2027-01-01Z')`,
				`SELECT lastseat.balance_at('shop', '2026-01-02 01:00:00Z')`,
			} {
				var plan []struct {
					Plan struct {
						Hit  int         `json:"Shared Hit Blocks"`
						Read int         `json:"Shared Read Blocks"`
						Rows json.Number `json:"Actual Rows"` // from 18 on 1.00
					}
				}
				var encoded []byte
				if err := conn.QueryRow(t.Context(), "EXPLAIN (ANALYZE, BUFFERS, TIMING OFF, FORMAT JSON) "+
					sql).Scan(&encoded); err != nil {
					t.Fatal(err)
				}
				if err := json.Unmarshal(encoded, &plan); err != nil {
					t.Fatal(err)
				}
				// the tables have 5,000; a session's first query reads the catalog, too
				if pages := plan[0].Plan.Hit + plan[0].Plan.Read; pages > 1000 {
					t.Errorf("%s reads %d pages for %s rows (analyzed: %t)", sql, pages, plan[0].Plan.Rows, analyzed)
				}
			}
		}
	}
}
