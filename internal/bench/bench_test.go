package main

import (
	"bytes"
	"context"
	"os"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/lastseat/lastseat/internal/testdb"
)

func TestMain(m *testing.M) { os.Exit(testdb.Main(m, nil)) }

// TestShort runs the whole program. That every contestant leaves a whole ledger behind is checked by the program
// itself; how fast they were is nobody's business here.
func TestShort(t *testing.T) {
	t.Parallel()
	var stdout, stderr bytes.Buffer
	if err := run(t.Context(), []string{"-short"}, testdb.ServerURL(t), &stdout, &stderr); err != nil {
		t.Fatalf("%v\n%s", err, stderr.String())
	}
	t.Log("\n" + stdout.String())
	text, _, _ := strings.Cut(stdout.String(), "| WAL |") // as many rows as there are kinds of records
	rows := strings.Count(text, "\n| ") - 8               // without the headings
	want := len(courses()) + len(contestants(options{quick: true})) + len(askings()) + len(waiters())
	if rows != want {
		t.Errorf("%d rows in the tables, want %d", rows, want)
	}
	for _, word := range []string{"fsync", "synchronous_commit", "shared_buffers", "cores", "A commit takes"} {
		if !strings.Contains(stdout.String(), word) {
			t.Errorf("the heading says nothing of %s", word)
		}
	}
	pool := testdb.Pool(t, testdb.ServerURL(t))
	var left int
	if err := pool.QueryRow(t.Context(),
		`SELECT count(*) FROM pg_database WHERE datname LIKE 'lastseat\_bench\_%'`).Scan(&left); err != nil {
		t.Fatal(err)
	}
	if left > 0 && os.Getenv("DATABASE_URL") == "" { // elsewhere they may be somebody else's
		t.Errorf("%d databases were left behind", left)
	}
}

// TestNoNumberForAFailure: neither a worker that does nothing nor one that does half has a rate.
func TestNoNumberForAFailure(t *testing.T) {
	t.Parallel()
	server, err := openServer(t.Context(), testdb.ServerURL(t))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := server.close(context.Background()); err != nil {
			t.Error(err)
		}
	})
	idle := contestant{
		name: "idle", workload: hot, jobs: 10, verify: verifySettled,
		work: func(context.Context, *pgxpool.Pool, int) (tally, error) { return tally{elapsed: time.Second}, nil },
	}
	_, err = measure(t.Context(), server, options{accounts: 10, limit: time.Minute}, idle, idle.jobs)
	if err == nil || !strings.Contains(err.Error(), "requests applied: 0 instead of 10") {
		t.Errorf("error of a worker that does nothing: %v", err)
	}

	thief := idle
	thief.work = func(ctx context.Context, pool *pgxpool.Pool, n int) (tally, error) {
		if t, err := oneByOne(30, "").work(ctx, pool, n); err != nil {
			return t, err
		}
		_, err := pool.Exec(ctx, `UPDATE lastseat.accounts SET balance = balance - 1 WHERE id = $1`, hotAccount)
		return tally{elapsed: time.Second}, err
	}
	_, err = measure(t.Context(), server, options{accounts: 10, limit: time.Minute}, thief, thief.jobs)
	if err == nil || !strings.Contains(err.Error(), "sum of all balances: -1") {
		t.Errorf("error of a worker that takes a cent: %v", err)
	}
}

// TestNoAnswerForAFailure: who loses what was asked for, or asks for something else, has no rate.
func TestNoAnswerForAFailure(t *testing.T) {
	t.Parallel()
	server, err := openServer(t.Context(), testdb.ServerURL(t))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := server.close(context.Background()); err != nil {
			t.Error(err)
		}
	})
	o := options{accounts: 10, asks: 100, limit: time.Minute}
	for want, ask := range map[string]asker{
		"requests and jobs that belong together: 0 instead of": func([]ticket) (func(context.Context, pgx.Tx) error, error) {
			return func(context.Context, pgx.Tx) error { return nil }, nil
		},
		"wrong result": func(tickets []ticket) (func(context.Context, pgx.Tx) error, error) {
			tickets[0].fingerprint = []byte("another request's")
			return askByInsert(tickets)
		},
	} {
		a := &answer{asking: asking{name: "broken", connections: 1, worker: noWorker, batch: 1, ask: ask, beside: 1}}
		if err := measureAsking(t.Context(), server, o, []*answer{a}); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("error %v, want %q", err, want)
		}
	}
}

// TestWorkloadsAreTheSame every time, in their order, and have all the steps.
func TestWorkloadsAreTheSame(t *testing.T) {
	t.Parallel()
	for _, workload := range []string{spread, hot, mixed, holds, stays, hotHold} {
		f := filling{workload: workload, jobs: 500, accounts: 20}
		first, again := f.requests(), f.requests()
		if len(first) != f.jobs || !reflect.DeepEqual(first, again) {
			t.Errorf("%s: %d requests, the same again: %t", workload, len(first), reflect.DeepEqual(first, again))
		}
		steps := make(map[string]int)
		for i, r := range first {
			steps[r.args.Kind()]++
			if i > 0 && r.turn < first[i-1].turn {
				t.Errorf("%s: request %d comes before its turn", workload, i)
			}
		}
		t.Log(workload, steps)
		if workload == mixed && len(steps) != 4 || slices.Contains([]string{holds, stays, hotHold}, workload) &&
			len(steps) != 2 {
			t.Errorf("%s: kinds %v", workload, steps)
		}
	}
}

func TestAnswersTable(t *testing.T) {
	t.Parallel()
	first := &answer{asking: asking{name: "INSERT", connections: 1, worker: noWorker, beside: 1}, requests: 100,
		elapsed: time.Second}
	second := &answer{asking: asking{name: "function", connections: 1, worker: noWorker, beside: 1}, requests: 100,
		elapsed: 2 * time.Second}
	second.each.end(40, time.Second)
	second.each.end(100, 2*time.Second)
	for i := range 100 {
		first.waits = append(first.waits, time.Duration(100-i)*time.Millisecond)
		second.waits = append(second.waits, 2*time.Duration(1+i)*time.Millisecond)
	}
	leftOut := &answer{asking: asking{name: "left out", beside: 1}}
	text := answersTable([]*answer{first, second, leftOut})
	want := "| 2 | function | 1 | none | 100 | 50 | 102.00 | 200.00 | 200.00 | 1 | 0.50 | 2.00 | 2.00 | 40 to 60 |\n"
	if !strings.Contains(text, want) || strings.Contains(text, "left out") {
		t.Errorf("table:\n%s\nwant in it: %s", text, want)
	}
}

func TestThousands(t *testing.T) {
	t.Parallel()
	for n, want := range map[float64]string{0: "0", 999: "999", 1000: "1,000", 50_000: "50,000",
		1_234_567.4: "1,234,567"} {
		if got := thousands(n); got != want {
			t.Errorf("thousands(%v) = %s, want %s", n, got, want)
		}
	}
}

func TestTableRatios(t *testing.T) {
	t.Parallel()
	runs := func(seconds ...time.Duration) (runs []measurement) {
		for _, s := range seconds {
			runs = append(runs, measurement{jobs: 100, tally: tally{elapsed: s * time.Second}})
		}
		return runs
	}
	text := table([]result{
		{contestant{name: "lane", workload: hot}, runs(9, 1, 2)}, // the median is 2 s
		{contestant{name: "other", workload: spread, baseline: oneByOneBaseline}, runs(1)},
		{contestant{name: "hand, 10", workload: hot, baseline: oneByOneBaseline}, runs(40)},
		{contestant{name: "hand, 30", workload: hot, baseline: oneByOneBaseline}, runs(20)}, // the best one counts
		{contestant{name: "noop", workload: spread, baseline: noopBaseline}, runs(4)},
	})
	want := "| lane | hot | 100 | 2.00 | 50 | 0.00 | 0 | 10.00 | - | 2.00 | - | 11 to 100 |\n"
	if !strings.Contains(text, want) {
		t.Errorf("table:\n%s\nwant in it: %s", text, want)
	}
}

// TestGrowth runs the curves and the years, small: each has its points, and the databases are gone.
func TestGrowth(t *testing.T) {
	t.Parallel()
	for flag, want := range map[string][]string{
		"-curves":       {"| requests that wait | 100 |", "| accounts | 50 |", "| jobs in a batch | 10 |", "| items of a reservation | 2 |"},
		"-settled=1500": {"| 0 |", "| 1,500 |"},
	} {
		var stdout, stderr bytes.Buffer
		if err := run(t.Context(), []string{"-short", flag}, testdb.ServerURL(t), &stdout, &stderr); err != nil {
			t.Fatalf("%s: %v\n%s", flag, err, stderr.String())
		}
		for _, row := range want {
			if !strings.Contains(stdout.String(), row) {
				t.Errorf("%s prints no %q:\n%s", flag, row, stdout.String())
			}
		}
	}
}
