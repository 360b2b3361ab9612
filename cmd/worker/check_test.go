package main

import (
	"fmt"
	"strings"
	"testing"

	"github.com/lastseat/lastseat/internal/audit"
	"github.com/lastseat/lastseat/internal/testdb"
)

type verdict struct {
	Check string
	OK    bool
	Told  string
}

func wrong(t *testing.T, r result) (names []string) {
	t.Helper()
	for _, v := range lines[verdict](t, r) {
		if !v.OK {
			names = append(names, v.Check)
		}
	}
	return names
}

// doctor is a health check: 0 only while requests are being settled.
func TestDoctor(t *testing.T) {
	t.Parallel()
	url := testdb.New(t)
	pool := open(t, url)
	doctor := func() result { return runWith(t, url, "doctor", "-o", "json") }

	got := doctor()
	got.fails(t, 1, "no worker holds lane 0")
	if names := wrong(t, got); len(names) != 1 || names[0] != "lane" {
		t.Errorf("without a worker, wrong is %v, want the lane", names)
	}

	stop := startWorker(t, url)
	got = doctor()
	got.succeeds(t)
	if names := wrong(t, got); len(names) != 0 || len(lines[verdict](t, got)) < 4 {
		t.Errorf("with a worker it prints %q", got.out)
	}
	runWith(t, as(t, pool, "lastseat_worker"), "doctor").succeeds(t)
	if viewer := runWith(t, as(t, pool, "lastseat_viewer"), "doctor"); viewer.code != 77 || !strings.Contains(viewer.err, "may not work: connect as lastseat_worker") {
		t.Errorf("as a viewer: exit code %d, stderr %q; want 77", viewer.code, viewer.err)
	}
	if other := runIn(t, []string{"DATABASE_URL=" + url, "LASTSEAT_LANES=2"}, "doctor"); other.code == 0 {
		t.Errorf("with other lanes than the worker's: exit code 0, %q", other.out)
	}

	testdb.Exec(t, pool, `INSERT INTO lastseat.river_queue (name, paused_at) VALUES ('lastseat', now()) ON CONFLICT (name) DO UPDATE SET paused_at = now()`)
	got = doctor()
	got.fails(t, 1, "paused")
	testdb.Exec(t, pool, `UPDATE lastseat.river_queue SET paused_at = NULL`)
	doctor().succeeds(t)

	stop()
	doctor().fails(t, 1, "no worker")
}

// An audit of a sound database is exit code 0; of a broken one 1, and it names the row.
func TestAudit(t *testing.T) {
	t.Parallel()
	url := testdb.New(t)
	pool := open(t, url)
	give(t, pool, "k", 100)
	runWith(t, url, "audit").succeeds(t) // also while a request waits
	runWith(t, url, "run", "--drain").succeeds(t)
	sound := runWith(t, url, "audit", "--verbose")
	sound.succeeds(t)
	if strings.Count("\n"+sound.out, "\nok ") != len(audit.Checks) || !strings.Contains(sound.out, "money.conserved") {
		t.Errorf("a sound database: %s", sound.out)
	}
	_, last, _ := strings.Cut(strings.TrimSuffix(sound.out, "\n"), "requests.logged")
	_, summary, _ := strings.Cut(last, "\n")
	want := fmt.Sprintf("%d invariants hold over 2 accounts, 1 transfers, 2 entries, 0 payments, 0 resources, "+
		"0 reservations and 1 requests", len(audit.Checks))
	if brief := runWith(t, url, "audit"); brief.out != want+"\n" || summary != want {
		t.Errorf("the summary is %q, after the list %q; want %q", brief.out, summary, want)
	}

	testdb.Exec(t, pool, `UPDATE lastseat.accounts SET balance = 101 WHERE id = 'ada'`)
	text := runWith(t, url, "audit")
	text.fails(t, 1, "audit")
	if !strings.Contains(text.out, "BROKEN  accounts.balance") || !strings.Contains(text.out, "account ada: balance 101, entries sum to 100") {
		t.Errorf("ada has a cent too much: %s", text.out)
	}
	type finding struct {
		Check, Rule string
		OK          bool
		Violations  []string
	}
	broken := make(map[string]int)
	for _, f := range lines[finding](t, runWith(t, url, "audit", "-o", "json")) {
		if f.Check == "" || f.Rule == "" || f.Violations == nil || f.OK != (len(f.Violations) == 0) {
			t.Errorf("a finding is %+v", f)
		}
		if !f.OK {
			broken[f.Check] = len(f.Violations)
		}
	}
	if len(broken) != 2 || broken["accounts.balance"] != 1 || broken["money.conserved"] != 1 {
		t.Errorf("broken: %v, want accounts.balance and money.conserved", broken)
	}
}
