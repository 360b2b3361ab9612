package e2e

import (
	"context"
	"crypto/rand"
	"errors"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/lastseat/lastseat/internal/clitest"
	"github.com/lastseat/lastseat/internal/testdb"
	"github.com/lastseat/lastseat/jobs"
	"github.com/lastseat/lastseat/outbox"
)

// open opens accounts: bank (EUR, unlimited) and ada (EUR, not below zero).
func open(t *testing.T, pool *pgxpool.Pool) {
	t.Helper()
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
}

// give asks for transfers of one cent from bank to ada, one for each key.
func give(t *testing.T, pool *pgxpool.Pool, keys ...string) {
	t.Helper()
	var requests []outbox.Request
	for _, key := range keys {
		requests = append(requests, outbox.Request{Key: key, Args: jobs.Transfer{From: "bank", To: "ada", Amount: 1,
			Currency: "EUR"}})
	}
	if _, err := outbox.EnqueueMany(t.Context(), pool, requests); err != nil {
		t.Fatal(err)
	}
}

func settled(t *testing.T, pool *pgxpool.Pool) int {
	t.Helper()
	return testdb.Scalar[int](t, pool, `SELECT count(*)::int FROM lastseat.requests WHERE status <> 'pending'`)
}

func balance(t *testing.T, pool *pgxpool.Pool, account string) int64 {
	t.Helper()
	return testdb.Scalar[int64](t, pool, `SELECT balance FROM lastseat.accounts WHERE id = $1`, account)
}

// nobodyLeft demands that no session of the programs stays in the database.
func nobodyLeft(t *testing.T, pool *pgxpool.Pool) {
	t.Helper()
	clitest.Eventually(t, "the programs' sessions to be gone", func() bool {
		return testdb.Scalar[int](t, pool, `SELECT count(*)::int FROM pg_stat_activity WHERE datname = current_database()
			AND application_name LIKE 'lastseat%'`) == 0
	})
}

// copyOf returns the URL of a copy of a database, dropped when the test ends. Nobody may be connected to the original.
func copyOf(t *testing.T, original string) string {
	t.Helper()
	at, err := url.Parse(original)
	if err != nil {
		t.Fatal(err)
	}
	source := strings.TrimPrefix(at.Path, "/")
	name := "lastseat_copy_" + strings.ToLower(rand.Text())
	admin := testdb.Pool(t, testdb.ServerURL(t))
	const objectInUse = "55006"
	clitest.Eventually(t, "the original to be free", func() bool {
		_, err := admin.Exec(t.Context(), `CREATE DATABASE `+name+` TEMPLATE `+source)
		if busy := (*pgconn.PgError)(nil); err != nil && (!errors.As(err, &busy) || busy.Code != objectInUse) {
			t.Fatal(err)
		}
		return err == nil
	})
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
		defer cancel()
		if _, err := admin.Exec(ctx, `DROP DATABASE IF EXISTS `+name+` WITH (FORCE)`); err != nil {
			t.Error(err)
		}
	})
	at.Path = "/" + name
	return at.String()
}
