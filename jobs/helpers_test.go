package jobs_test

import (
	"log/slog"
	"os"
	"testing"

	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/lastseat/lastseat/internal/audit"
	"github.com/lastseat/lastseat/internal/testdb"
	"github.com/lastseat/lastseat/jobs"
	"github.com/lastseat/lastseat/outbox"
)

func TestMain(m *testing.M) {
	os.Exit(testdb.MainMigrated(m))
}

func newPool(t *testing.T) *pgxpool.Pool {
	t.Helper()
	return testdb.Pool(t, testdb.New(t))
}

func exec(t *testing.T, pool *pgxpool.Pool, sql string, args ...any) {
	t.Helper()
	if _, err := pool.Exec(t.Context(), sql, args...); err != nil {
		t.Fatalf("%s: %v", sql, err)
	}
}

func drain(t *testing.T, pool *pgxpool.Pool, settings outbox.Settings) outbox.Snapshot {
	t.Helper()
	kinds := &outbox.Kinds{}
	jobs.Register(kinds)
	settings.Logger = slog.New(slog.DiscardHandler)
	config := pool.Config()
	config.ConnConfig.RuntimeParams["role"] = "lastseat_worker" // with no more rights than it needs
	workers, err := pgxpool.NewWithConfig(t.Context(), config)
	if err != nil {
		t.Fatal(err)
	}
	defer workers.Close()
	worker := outbox.NewWorker(workers, kinds, settings)
	if err := worker.Drain(t.Context()); err != nil {
		t.Fatal(err)
	}
	return worker.Stats()
}

// proven is the last line of every test that moves money.
func proven(t *testing.T, pool *pgxpool.Pool) {
	t.Helper()
	if _, err := audit.Run(t.Context(), pool, func(f audit.Finding) {
		if !f.OK {
			t.Errorf("audit: %s: %v", f.Check, f.Violations)
		}
	}); err != nil {
		t.Fatal(err)
	}
}

func outcome(t *testing.T, pool *pgxpool.Pool, key string) outbox.Outcome {
	t.Helper()
	outcomes, err := outbox.Outcomes(t.Context(), pool, key)
	if err != nil || len(outcomes) != 1 {
		t.Fatalf("outcome of %s: %v, %v", key, outcomes, err)
	}
	return outcomes[0]
}
