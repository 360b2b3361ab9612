package jobs_test

import (
	"bytes"
	"log/slog"
	"strings"
	"testing"
	"time"

	"github.com/lastseat/lastseat/internal/testdb"
	"github.com/lastseat/lastseat/jobs"
	"github.com/lastseat/lastseat/outbox"
)

// Many jobs that somebody has inserted straight into river_job stand in front of a good one: of kinds that nobody has,
// and with arguments that no function would accept. The good one is settled, and the log says how many stood there, in
// a line each.
func TestPoisonInFront(t *testing.T) {
	t.Parallel()
	for name, poison := range map[string][2]string{
		"unknown kinds":   {"no.such", "whose kind this worker lacks"},
		"wrong arguments": {"payment.transfer", "bypassing the SQL functions"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			pool := newPool(t)
			n := testdb.Soak(3000, 100_000)
			exec(t, pool, `SELECT lastseat.open_account('bank', 'EUR', NULL), lastseat.open_account('ada', 'EUR')`)
			exec(t, pool, `INSERT INTO lastseat.river_job (kind, queue, args)
				SELECT $1, 'lastseat', jsonb_build_object('key', 'poison-' || n, 'from', 7) FROM generate_series(1, $2) n`,
				poison[0], n)
			exec(t, pool, `SELECT lastseat.transfer('good', 'bank', 'ada', 5, 'EUR')`)
			var told bytes.Buffer
			began := time.Now()
			kinds := &outbox.Kinds{}
			jobs.Register(kinds)
			settings := outbox.Settings{Logger: slog.New(slog.NewTextHandler(&told, nil))}
			if err := outbox.NewWorker(pool, kinds, settings).Drain(t.Context()); err != nil {
				t.Fatal(err)
			}
			t.Logf("%d in front: %v", n, time.Since(began))
			began = time.Now()
			exec(t, pool, `SELECT lastseat.transfer('again', 'bank', 'ada', 5, 'EUR')`)
			drain(t, pool, outbox.Settings{})
			t.Logf("another: %v", time.Since(began))
			if got := outcome(t, pool, "good"); got.Code != "transferred" {
				t.Errorf("%+v", got)
			}
			if lines := strings.Count(told.String(), poison[1]); lines < 1 || lines > 2 {
				t.Errorf("%d lines about it:\n%s", lines, told.String())
			}
		})
	}
}
