package e2e

import (
	"encoding/csv"
	"encoding/json"
	"fmt"
	"maps"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/lastseat/lastseat/internal/money"
	"github.com/lastseat/lastseat/internal/testdb"
)

// bank is a file of transfers, with what has to become of them when they are taken strictly in the file's order.
type bank struct {
	accounts  string // CSV file; "": --open-accounts
	transfers string // CSV file, or JSON Lines
	lines     int
	keys      []string          // in the order in which they are asked for first
	outcomes  map[string]string // "applied transferred", of every key
	payments  map[string]string // the status of every payment; nil: there are none
	balances  map[string]int64  // of every account, in minor units
}

// realBank is the data of a Czech bank, with balances that were computed apart from this project.
func realBank(t *testing.T) *bank {
	t.Helper()
	dir := filepath.Join("..", "..", "..", "shared", "data")
	b := &bank{transfers: filepath.Join(dir, "bank_transfers.csv"), outcomes: make(map[string]string),
		balances: make(map[string]int64)}
	if _, err := os.Stat(b.transfers); err != nil {
		t.Skipf("the real data is not here (%v); the generated bank stands in", err)
	}
	for _, row := range readCSV(t, b.transfers) {
		b.lines++
		b.keys = append(b.keys, row[0])
		b.outcomes[row[0]] = "applied transferred"
	}
	for _, row := range readCSV(t, filepath.Join(dir, "bank_balances.csv")) {
		minor, err := money.Parse(row[1], row[2])
		if err != nil {
			t.Fatal(err)
		}
		b.balances[row[0]] = minor
	}
	if b.lines != 25_000 || len(b.keys) != len(b.outcomes) {
		t.Fatalf("%d lines with %d keys, want 25,000", b.lines, len(b.outcomes))
	}
	return b
}

func readCSV(t *testing.T, name string) [][]string {
	t.Helper()
	file, err := os.Open(name)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = file.Close() }()
	rows, err := csv.NewReader(file).ReadAll()
	if err != nil {
		t.Fatal(err)
	}
	return rows[1:]
}

// generatedBank is small, and harder than real life: most accounts may not go below zero, so that the order of two
// transfers decides which of them is refused, some are in another currency, and some lines come twice.
func generatedBank(t *testing.T) *bank {
	t.Helper()
	const accounts = 24
	lines := testdb.Soak(900, 9000)
	random := rand.New(rand.NewPCG(1993, 2))
	dir := t.TempDir()
	b := &bank{
		accounts: filepath.Join(dir, "accounts.csv"), transfers: filepath.Join(dir, "transfers.csv"),
		lines: lines, outcomes: make(map[string]string), balances: make(map[string]int64),
	}
	id := func(i int) string { return fmt.Sprintf("account %02d", i) }
	opened := "account,currency,overdraft\nmint,EUR,unlimited\nyen,JPY,unlimited\n"
	b.balances["mint"], b.balances["yen"] = 0, 0
	limits := make(map[string]int64)
	for i := range accounts {
		limits[id(i)] = int64(i%3) * 1000
		opened += fmt.Sprintf("%s,EUR,%d.00\n", id(i), i%3*10)
		b.balances[id(i)] = 0
	}
	file := "key,from_account,to_account,amount,currency,description\n"
	var rows []string
	for n := range lines {
		if n > 10 && random.IntN(30) == 0 { // a line once more
			file += rows[random.IntN(len(rows))]
			continue
		}
		// Keys in no order of their own: nothing may sort by them.
		key, from, to, cents := fmt.Sprintf("%08x-%d", random.Uint32(), n), id(random.IntN(accounts)),
			id(random.IntN(accounts)), int64(1+random.IntN(2000))
		switch {
		case random.IntN(12) == 0:
			from = "mint"
		case random.IntN(40) == 0:
			from, to = "mint", "yen"
		}
		if from == to {
			to = "mint"
		}
		row := fmt.Sprintf("%s,%s,%s,%d.%02d,EUR,%d\n", key, from, to, cents/100, cents%100, n)
		file, rows, b.keys = file+row, append(rows, row), append(b.keys, key)
		switch {
		case to == "yen":
			b.outcomes[key] = "rejected currency_mismatch"
		case from != "mint" && b.balances[from]+limits[from] < cents:
			b.outcomes[key] = "rejected insufficient_funds"
		default:
			b.outcomes[key] = "applied transferred"
			b.balances[from] -= cents
			b.balances[to] += cents
		}
	}
	for name, content := range map[string]string{b.accounts: opened, b.transfers: file} {
		if err := os.WriteFile(name, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return b
}

// byPayment is the same bank with every third transfer made in two steps, authorize and capture, as JSON Lines. Since
// the two stand one after the other, what is held never stands in anybody's way: every balance is the same.
func (b *bank) byPayment(t *testing.T) *bank {
	t.Helper()
	file, err := os.Create(filepath.Join(t.TempDir(), "payments.jsonl"))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = file.Close() }()
	paid := &bank{accounts: b.accounts, transfers: file.Name(), outcomes: make(map[string]string), balances: b.balances,
		payments: make(map[string]string)}
	third := make(map[string]bool)
	for i, key := range b.keys {
		third[key] = i%3 == 0
	}
	out := json.NewEncoder(file)
	for _, row := range readCSV(t, b.transfers) {
		key := row[0]
		minor, err := money.Parse(row[3], row[4])
		if err != nil {
			t.Fatal(err)
		}
		args := map[string]any{"from": row[1], "to": row[2], "amount": minor, "currency": row[4]}
		if !third[key] {
			paid.asks(t, out, "payment.transfer", key, args, b.outcomes[key])
			continue
		}
		captured, status := "applied captured", "captured"
		authorized, applied := strings.CutSuffix(b.outcomes[key], "transferred")
		if authorized += "authorized"; !applied {
			authorized, captured, status = b.outcomes[key], "rejected not_authorized", "declined"
		}
		payment := "payment " + key
		args["payment"] = payment
		paid.payments[payment] = status
		paid.asks(t, out, "payment.authorize", key, args, authorized)
		paid.asks(t, out, "payment.capture", "capture "+key, map[string]any{"payment": payment}, captured)
	}
	if len(paid.payments) < len(b.keys)/3 {
		t.Fatalf("%d of %d transfers are payments", len(paid.payments), len(b.keys))
	}
	return paid
}

// asks writes a line of the file, with what has to become of it.
func (b *bank) asks(t *testing.T, out *json.Encoder, kind, key string, args map[string]any, outcome string) {
	t.Helper()
	if err := out.Encode(map[string]any{"kind": kind, "key": key, "args": args}); err != nil {
		t.Fatal(err)
	}
	b.lines++
	if _, known := b.outcomes[key]; !known {
		b.keys = append(b.keys, key)
	}
	b.outcomes[key] = outcome
}

// Every third transfer made by authorize and capture: drained at once, by workers that are killed, and by four of them,
// every balance is what it was with transfers alone, and nothing is held.
func TestBankByPayment(t *testing.T) {
	t.Parallel()
	for name, build := range map[string]func(*testing.T) *bank{"generated": generatedBank, "real": realBank} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			if name == "real" && !testdb.Soaks() {
				t.Skip("TestBank has the real transfers, and the generated ones are paid as these would be: SOAK=1")
			}
			b := build(t).byPayment(t)
			url := testdb.New(t)
			if b.accounts != "" {
				enqueue(t, url, "import", b.accounts).exits(t, 0)
			}
			b.imports(t, url, importCounts{Requests: b.lines, Duplicates: b.lines - len(b.keys)})
			if b.lines > 10_000 { // once is enough
				b.killed("LASTSEAT_BATCH=200")(t, url, testdb.Pool(t, url))
				return
			}
			for name, prove := range map[string]func(*testing.T, string, *pgxpool.Pool){
				"drain": b.drained, "killed three times": b.killed("LASTSEAT_BATCH=10"),
				"four at once": b.shared("LASTSEAT_BATCH=20"),
			} {
				t.Run(name, func(t *testing.T) {
					t.Parallel()
					copied := copyOf(t, url)
					prove(t, copied, testdb.Pool(t, copied))
				})
			}
		})
	}
}

// proves demands that the database is what it has to be after all of the bank's transfers.
func (b *bank) proves(t *testing.T, url string, pool *pgxpool.Pool) {
	t.Helper()
	if got := pairs[int64](t, pool, `SELECT id, balance FROM lastseat.accounts`); !maps.Equal(got, b.balances) {
		wrong := 0
		for id, want := range b.balances {
			if got[id] != want {
				if wrong++; wrong <= 5 {
					t.Errorf("%s has %d, want %d", id, got[id], want)
				}
			}
		}
		t.Errorf("%d of %d balances are wrong, %d accounts are there", wrong, len(b.balances), len(got))
	}
	if got := pairs[string](t, pool, `SELECT key, concat_ws(' ', status, code) FROM lastseat.requests`); !maps.Equal(got,
		b.outcomes) {
		wrong := 0
		for key, want := range b.outcomes {
			if got[key] != want {
				if wrong++; wrong <= 5 {
					t.Errorf("%s is %q, want %q", key, got[key], want)
				}
			}
		}
		t.Errorf("%d of %d outcomes are wrong, %d requests are there", wrong, len(b.outcomes), len(got))
	}
	if got := pairs[string](t, pool, `SELECT id, status FROM lastseat.payments`); !maps.Equal(got, b.payments) {
		t.Errorf("the payments are not what they have to be: %d are there, want %d", len(got), len(b.payments))
	}
	if n := testdb.Scalar[int64](t, pool, `SELECT sum(held)::bigint FROM lastseat.accounts`); n != 0 {
		t.Errorf("%d is still held", n)
	}
	b.provesOrder(t, pool)
	if n := testdb.Scalar[int](t, pool, `SELECT count(*)::int FROM lastseat.river_job WHERE queue = 'lastseat'`); n != 0 {
		t.Errorf("%d jobs are left", n)
	}
	audit := start(t, on(url), "worker", "audit")
	if audit.wait(t) != 0 {
		t.Errorf("audit: exit code %d\n%s%s", audit.wait(t), audit.out.String(), audit.errs.String())
	}
}

// provesOrder demands that requests were enqueued in the file's order, and that every account's entries stand in it.
func (b *bank) provesOrder(t *testing.T, pool *pgxpool.Pool) {
	t.Helper()
	rows, err := pool.Query(t.Context(), `SELECT key FROM lastseat.requests ORDER BY job_id, requested_at`)
	if err != nil {
		t.Fatal(err)
	}
	keys, err := pgx.CollectRows(rows, pgx.RowTo[string])
	if err != nil || !slices.Equal(keys, b.keys) {
		t.Errorf("the requests' order is not the file's (%v)", err)
	}
	moved := 0
	for _, outcome := range b.outcomes {
		if outcome == "applied transferred" || outcome == "applied captured" {
			moved++
		}
	}
	got := testdb.Scalar[string](t, pool, `
		SELECT format('%s entries, %s out of order', count(*), count(*) FILTER (WHERE job_id <= job_before
		  OR requested_at < asked_before))
		FROM (SELECT r.job_id, r.requested_at, lag(r.job_id) OVER w AS job_before, lag(r.requested_at) OVER w AS asked_before
		      FROM lastseat.entries e JOIN lastseat.transfers t ON t.id = e.transfer_id JOIN lastseat.requests r
		        ON r.key = t.key
		      WINDOW w AS (PARTITION BY e.account_id ORDER BY e.version)) entry`)
	if want := fmt.Sprintf("%d entries, 0 out of order", 2*moved); got != want {
		t.Errorf("%s, want %s", got, want)
	}
}

func pairs[V any](t *testing.T, pool *pgxpool.Pool, sql string) map[string]V {
	t.Helper()
	rows, err := pool.Query(t.Context(), sql)
	if err != nil {
		t.Fatal(err)
	}
	all := make(map[string]V)
	var key string
	var value V
	if _, err := pgx.ForEachRow(rows, []any{&key, &value}, func() error { all[key] = value; return nil }); err != nil {
		t.Fatal(err)
	}
	return all
}
