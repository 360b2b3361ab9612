package main

import (
	"bytes"
	"context"
	"os"
	"strings"
	"testing"
	"time"

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
	rows := strings.Count(stdout.String(), "\n| ") - 2 // without the heading
	if want := len(contestants(options{})); rows != want {
		t.Errorf("%d rows in the table, want %d", rows, want)
	}
	for _, word := range []string{"fsync", "synchronous_commit", "shared_buffers", "cores"} {
		if !strings.Contains(stdout.String(), word) {
			t.Errorf("the heading says nothing of %s", word)
		}
	}
	pool := testdb.Pool(t, testdb.ServerURL(t))
	var left int
	if err := pool.QueryRow(t.Context(), `SELECT count(*) FROM pg_database WHERE datname LIKE 'lastseat\_bench\_%'`).Scan(&left); err != nil {
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
		if t, err := handWritten("")(ctx, pool, n); err != nil {
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

func TestThousands(t *testing.T) {
	t.Parallel()
	for n, want := range map[float64]string{0: "0", 999: "999", 1000: "1,000", 50_000: "50,000", 1_234_567.4: "1,234,567"} {
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
		{contestant{name: "other", workload: spread, baseline: handWrittenBaseline}, runs(100)},
		{contestant{name: "hand", workload: hot, baseline: handWrittenBaseline}, runs(20)},
		{contestant{name: "noop", workload: spread, baseline: noopBaseline}, runs(4)},
	})
	want := "| lane | hot | 100 | 2.00 | 50 | 0.00 | 0 | 10.00 | 2.00 |\n"
	if !strings.Contains(text, want) {
		t.Errorf("table:\n%s\nwant in it: %s", text, want)
	}
}
