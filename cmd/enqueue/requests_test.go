package main

import (
	"encoding/csv"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"

	"github.com/lastseat/lastseat/internal/clitest"
	"github.com/lastseat/lastseat/internal/testdb"
	"github.com/lastseat/lastseat/jobs"
	"github.com/lastseat/lastseat/outbox"
)

// listed are the keys of enqueue list in JSON, in its order.
func (s *shop) listed(t *testing.T, args ...string) (keys []string) {
	t.Helper()
	got := s.enqueue(t, append([]string{"list", "--output", "json"}, args...)...)
	got.Succeeds(t)
	for _, o := range clitest.Lines[outbox.Outcome](t, got) {
		keys = append(keys, o.Key)
	}
	return keys
}

// age makes what was settled so far as old as an interval says.
func (s *shop) age(t *testing.T, by string) {
	t.Helper()
	err := pgx.BeginFunc(t.Context(), s.pool, func(tx pgx.Tx) error {
		_, err := tx.Exec(t.Context(), `SET LOCAL session_replication_role = replica;
			UPDATE lastseat.requests
			  SET settled_at = settled_at - interval '`+by+`', requested_at = requested_at - interval '`+by+`';
			UPDATE lastseat.outcome_log SET settled_at = settled_at - interval '`+by+`'`)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
}

func TestList(t *testing.T) {
	t.Parallel()
	s := newShop(t)
	s.transfer(t, "old").Succeeds(t)
	s.transfer(t, "old poor", "--from", "ben", "--amount", "7").Succeeds(t)
	s.drain(t)
	s.age(t, "2 hours")
	s.transfer(t, "paid").Succeeds(t)
	s.transfer(t, "poor", "--from", "ben", "--amount", "0.01").Succeeds(t)
	s.transfer(t, "failed").Succeeds(t)
	s.enqueue(t, "hold", "--key", "held", "--reservation", "r", "--item", "none").Fails(t, 65, "none")
	s.exec(t, `UPDATE lastseat.river_job SET state = 'cancelled', finalized_at = now() WHERE args ->> 'key' = 'failed'`)
	s.drain(t)
	s.transfer(t, "first waits").Succeeds(t)
	s.transfer(t, "waits").Succeeds(t)

	for name, c := range map[string]struct {
		args string
		want []string
	}{
		"all":         {"", []string{"waits", "first waits", "poor", "paid", "failed", "old poor", "old"}},
		"rejected":    {"--status rejected", []string{"poor", "old poor"}},
		"its code":    {"--status rejected --code insufficient_funds --since 1h", []string{"poor"}},
		"codes":       {"--code insufficient_funds,job_cancelled", []string{"poor", "failed", "old poor"}},
		"two flags":   {"--code insufficient_funds --code transferred", []string{"poor", "paid", "old poor", "old"}},
		"kind":        {"--kind payment.transfer --status applied", []string{"paid", "old"}},
		"other kind":  {"--kind payment.capture", nil},
		"pending":     {"--status pending", []string{"waits", "first waits"}},
		"since":       {"--since 1h --status applied", []string{"paid"}},
		"days":        {"--since 1d --status applied", []string{"paid", "old"}},
		"since ever":  {"--since 2001-01-01 --status applied", []string{"paid", "old"}},
		"since later": {"--since 2999-01-01T00:00:00Z", nil},
		"limit":       {"--limit 3", []string{"waits", "first waits", "poor"}},
		"no limit":    {"--limit 0 --status failed", []string{"failed"}},
		"settled":     {"--status applied,rejected,failed --limit 2", []string{"poor", "paid"}},
	} {
		t.Run(name, func(t *testing.T) {
			if got := s.listed(t, strings.Fields(c.args)...); !slices.Equal(got, c.want) {
				t.Errorf("enqueue list %s is %q, want %q", c.args, got, c.want)
			}
		})
	}

	got := s.enqueue(t, "list", "--status", "rejected", "--since", "1h")
	if got.Succeeds(t); strings.Count(got.Out, "\n") != 2 || !strings.Contains(got.Out, `insufficient_funds  {"asked": `) ||
		!strings.HasPrefix(got.Out, "SETTLED_AT") {
		t.Errorf("as text it is\n%s", got.Out)
	}
	got = s.enqueue(t, "list", "--status", "rejected", "-o", "csv")
	got.Succeeds(t)
	if rows, err := csv.NewReader(strings.NewReader(got.Out)).
		ReadAll(); err != nil || len(rows) != 3 ||
		rows[1][2] != "poor" {
		t.Errorf("as CSV it is %q (%v)", rows, err)
	}
}

// What was settled again by a retry is listed once, as it is now.
func TestListAfterRetry(t *testing.T) {
	t.Parallel()
	s := newShop(t)
	s.transfer(t, "k").Succeeds(t)
	s.exec(t, `UPDATE lastseat.river_job SET state = 'cancelled', finalized_at = now()`)
	s.enqueue(t, "retry", "k").Succeeds(t)
	if got := s.listed(t); !slices.Equal(got, []string{"k"}) {
		t.Errorf("while it is pending again: %q", got)
	}
	s.drain(t)
	if got := s.listed(t); !slices.Equal(got, []string{"k"}) {
		t.Errorf("after it was settled again: %q", got)
	}
	if got := s.listed(t, "--status", "failed"); got != nil {
		t.Errorf("it is listed as failed: %q", got)
	}
}

// Over many pages of the log nothing is missing, and nothing twice.
func TestListOverPages(t *testing.T) {
	t.Parallel()
	s := newShop(t)
	const requests = 3000
	s.exec(t, `SELECT lastseat.transfer('k' || n, CASE WHEN n % 7 = 0 THEN 'ben' ELSE 'bank' END, 'ada', 100, 'EUR')
		FROM generate_series(1, $1) n`, requests)
	kinds := &outbox.Kinds{}
	jobs.Register(kinds)
	settings := outbox.Settings{Logger: slog.New(slog.DiscardHandler), Batch: 13}
	if err := outbox.NewWorker(s.pool, kinds, settings).Drain(t.Context()); err != nil {
		t.Fatal(err)
	}
	for code, want := range map[string]int{"insufficient_funds": requests / 7, "transferred": requests - requests/7} {
		got := s.listed(t, "--code", code, "--limit", "0")
		slices.Sort(got)
		if all := len(slices.Compact(slices.Clone(got))); all != len(got) || all != want {
			t.Errorf("%s: %d lines, %d keys, want %d", code, len(got), all, want)
		}
	}
	got := s.listed(t, "--limit", "150")
	for i, key := range got {
		if key != fmt.Sprintf("k%d", requests-i) {
			t.Fatalf("request %d is %s: they are not the newest first", i, key)
		}
	}
	if len(got) != 150 {
		t.Errorf("%d lines, want 150", len(got))
	}
}

// What could be taken for an answer is explained on the error stream, and the exit code is 0.
func TestListNotes(t *testing.T) {
	t.Parallel()
	s := newShop(t)
	for args, says := range map[string]string{
		"--code insufficent_funds":                      `--code is "insufficent_funds", did you mean insufficient_funds?`,
		"--kind payment.tranfer --code some_code":       `--kind is "payment.tranfer", did you mean payment.transfer?`,
		"--kind loyalty.earn":                           "",
		"--code insufficient_funds --kind payment.void": "",
	} {
		got := s.enqueue(t, append([]string{"list"}, strings.Fields(args)...)...)
		if got.Code != 0 || !strings.Contains(got.Err, says) || says == "" && got.Err != "" {
			t.Errorf("enqueue list %s: exit code %d, %q, want %q", args, got.Code, got.Err, says)
		}
	}
	s.exec(t, `SELECT lastseat.transfer('k' || n, 'bank', 'ada', 1, 'EUR') FROM generate_series(1, 101) n`)
	if got := s.enqueue(t, "list"); got.Code != 0 || !strings.Contains(got.Err, "the newest 100 are shown") {
		t.Errorf("a list that is cut: exit code %d, %q", got.Code, got.Err)
	}
	s.enqueue(t, "list", "--limit", "100").Succeeds(t)
}

func TestListRights(t *testing.T) {
	t.Parallel()
	s := newShop(t)
	s.transfer(t, "k").Succeeds(t)
	for _, role := range []string{"lastseat_viewer", "lastseat_worker"} {
		if got := runIn(t, testdb.As(t, s.pool, role), nil, "list"); got.Code != 0 || !strings.Contains(got.Out, "pending") {
			t.Errorf("%s: exit code %d, %q, %q", role, got.Code, got.Out, got.Err)
		}
	}
	runIn(t, testdb.As(t, s.pool, "lastseat_producer"), nil, "list").Fails(t, 77, "lastseat_viewer")
}
