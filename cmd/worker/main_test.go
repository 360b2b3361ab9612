package main

import (
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/lastseat/lastseat/internal/clitest"
	"github.com/lastseat/lastseat/internal/testdb"
	"github.com/lastseat/lastseat/jobs"
	"github.com/lastseat/lastseat/outbox"
)

var worker = clitest.Program{Name: "worker", Run: run}

func TestMain(m *testing.M) { clitest.Main(m, "worker", main) }

func TestScripts(t *testing.T) {
	t.Parallel()
	clitest.Scripts(t)
}

// runIn runs the program in this process, with just this environment.
func runIn(t *testing.T, environ []string, args ...string) clitest.Result {
	t.Helper()
	return worker.In(t, environ, nil, args...)
}

// runWith is runIn on a database, with only errors in its log.
func runWith(t *testing.T, databaseURL string, args ...string) clitest.Result {
	t.Helper()
	return runIn(t, []string{"DATABASE_URL=" + databaseURL, "LASTSEAT_LOG_LEVEL=error"}, args...)
}

// open opens accounts: bank (EUR, unlimited) and ada (EUR, not below zero).
func open(t *testing.T, url string) *pgxpool.Pool {
	t.Helper()
	pool := testdb.Pool(t, url)
	err := pgx.BeginFunc(t.Context(), pool, func(tx pgx.Tx) error {
		_, err := jobs.OpenAccount(t.Context(), tx, jobs.Account{ID: "bank", Currency: "EUR"})
		if err == nil {
			_, err = jobs.OpenAccount(t.Context(), tx, jobs.Account{ID: "ada", Currency: "EUR", OverdraftLimit: new(int64)})
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return pool
}

// give asks for a transfer from bank to ada.
func give(t *testing.T, pool *pgxpool.Pool, key string, amount int64) {
	t.Helper()
	_, err := outbox.EnqueueMany(t.Context(), pool, []outbox.Request{{Key: key, Args: jobs.Transfer{From: "bank",
		To: "ada", Amount: amount, Currency: "EUR"}}})
	if err != nil {
		t.Fatal(err)
	}
}

func TestHelp(t *testing.T) {
	t.Parallel()
	worker.Help(t, 9)
}
