package main

import (
	"fmt"
	"strings"
	"testing"

	"github.com/lastseat/lastseat/internal/audit"
	"github.com/lastseat/lastseat/internal/clitest"
	"github.com/lastseat/lastseat/internal/testdb"
)

// As JSON an audit has one finding for each invariant, with the rows that break it.
func TestAuditJSON(t *testing.T) {
	t.Parallel()
	url := testdb.New(t)
	pool := open(t, url)
	give(t, pool, "k", 100)
	runWith(t, url, "run", "--drain").Succeeds(t)
	type finding struct {
		Check, Rule string
		OK          bool
		Violations  []string
	}
	audited := func() (broken map[string]int) {
		broken = make(map[string]int)
		findings := clitest.Lines[finding](t, runWith(t, url, "audit", "-o", "json"))
		if len(findings) != len(audit.Checks) {
			t.Errorf("%d findings, want one for each of %d checks", len(findings), len(audit.Checks))
		}
		for _, f := range findings {
			if f.Check == "" || f.Rule == "" || f.Violations == nil || f.OK != (len(f.Violations) == 0) {
				t.Errorf("a finding is %+v", f)
			}
			if !f.OK {
				broken[f.Check] = len(f.Violations)
			}
		}
		return broken
	}
	if broken := audited(); len(broken) != 0 {
		t.Errorf("broken: %v, want nothing", broken)
	}
	testdb.Exec(t, pool, `UPDATE lastseat.accounts SET balance = 101 WHERE id = 'ada'`)
	broken := audited()
	if len(broken) != 2 || broken["accounts.balance"] != 1 || broken["money.conserved"] != 1 {
		t.Errorf("broken: %v, want accounts.balance and money.conserved", broken)
	}
}

// The list of --verbose has a line for each invariant, and ends with the summary.
func TestAuditVerbose(t *testing.T) {
	t.Parallel()
	url := testdb.New(t)
	brief, verbose := runWith(t, url, "audit"), runWith(t, url, "audit", "--verbose")
	brief.Succeeds(t)
	verbose.Succeeds(t)
	if strings.Count("\n"+verbose.Out, "\nok ") != len(audit.Checks) || !strings.HasSuffix(verbose.Out, "\n"+brief.Out) {
		t.Errorf("it prints %q, without --verbose %q", verbose.Out, brief.Out)
	}
	if want := fmt.Sprintf("%d invariants hold over 0 accounts", len(audit.Checks)); !strings.HasPrefix(brief.Out, want) {
		t.Errorf("it prints %q, want %q", brief.Out, want)
	}
}

func TestThousands(t *testing.T) {
	t.Parallel()
	for n, want := range map[int64]string{0: "0", 999: "999", 1000: "1,000", 25_014: "25,014", 1_234_567: "1,234,567"} {
		if got := thousands(n); got != want {
			t.Errorf("%d is written %s, want %s", n, got, want)
		}
	}
}
