package main

import (
	"context"
	"fmt"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/lastseat/lastseat/internal/clitest"
	"github.com/lastseat/lastseat/jobs"
	"github.com/lastseat/lastseat/outbox"
	"github.com/lastseat/lastseat/txn"
)

// pooled starts PgBouncer in transaction mode before the server of base, and returns the URL that leads through it.
func pooled(t *testing.T, base string) string {
	t.Helper()
	return clitest.PgBouncer(t, base, "transaction", "default_pool_size = 2")
}

// Behind a pooler in transaction mode each statement may meet another session. Commands of different programs share
// them here: 2 sessions, and the second command of a kind used to find its prepared statement taken (42P05).
func TestBehindAPooler(t *testing.T) {
	t.Parallel()
	s := newShop(t)
	s.enqueue(t, everyCommand["authorize"]...).Succeeds(t)
	url := pooled(t, s.url)
	for round := range 2 {
		for _, command := range askingCommands {
			if command == "retry" && round > 0 {
				continue // it is settled by then
			}
			runIn(t, url, strings.NewReader(oneRow), everyCommand[command]...).Succeeds(t)
		}
		s.drain(t)
		for _, command := range []string{"wait", "outcome", "balance", "payment", "statement", "reservation", "availability",
			"occupied"} {
			runIn(t, url, nil, everyCommand[command]...).Succeeds(t)
		}
	}
	s.expect(t, "5 accounts, 12 requests, 0 jobs")
}

// What docs/command-line.md says that a Go program must set is needed, and enough.
func TestProducersBehindAPooler(t *testing.T) {
	t.Parallel()
	s := newShop(t)
	url := pooled(t, s.url)
	ask := func(mode string, n int) error {
		pool, err := pgxpool.New(t.Context(), url+mode)
		if err != nil {
			return err
		}
		defer pool.Close()
		return txn.Run(t.Context(), pool, txn.Options{}, func(ctx context.Context, tx pgx.Tx) error {
			_, err := outbox.Enqueue(ctx, tx, fmt.Sprintf("k%d", n),
				jobs.Transfer{From: "bank", To: "ada", Amount: 1, Currency: "EUR"})
			return err
		})
	}
	joint := "?"
	if strings.Contains(url, "?") {
		joint = "&"
	}
	failed := 0
	for n := range 10 {
		if err := ask("", n); err != nil {
			failed++
		}
		if err := ask(joint+"default_query_exec_mode=exec", 100+n); err != nil {
			t.Error(err)
		}
	}
	if failed == 0 {
		t.Error("pgx's defaults work behind this pooler: then this test proves nothing")
	}
}
