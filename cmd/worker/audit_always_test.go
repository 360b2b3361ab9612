package main

import (
	"strings"
	"testing"

	"github.com/lastseat/lastseat/internal/clitest"
	"github.com/lastseat/lastseat/internal/testdb"
	"github.com/lastseat/lastseat/outbox"
)

// A running worker sees what somebody has made up past it, and tells it everywhere. The lane goes on.
func TestWorkerAuditsAlways(t *testing.T) {
	t.Parallel()
	url := testdb.New(t)
	pool := open(t, url)
	address, log := runAdmin(t, "DATABASE_URL="+testdb.As(t, pool, "lastseat_worker"), "LASTSEAT_AUDIT_EVERY=100ms")
	give(t, pool, "a", 100)
	if _, err := outbox.Wait(t.Context(), pool, "a"); err != nil {
		t.Fatal(err)
	}
	metrics := func(want ...string) func() bool {
		return func() bool {
			_, scraped := get(t, address+"/metrics")
			for _, line := range want {
				if !strings.Contains(scraped, "\n"+line+"\n") {
					return false
				}
			}
			return true
		}
	}
	settled := testdb.Scalar[int](t, pool, `SELECT sum(cardinality(keys)) FROM lastseat.history`)
	clitest.Eventually(t, "all to be audited", func() bool {
		_, scraped := get(t, address+"/metrics")
		return settled >= 4 && !strings.Contains(scraped, "lastseat_audited_rows_total 0\n") &&
			metrics("lastseat_invariant_violations 0", "lastseat_audit_behind_seconds 0")()
	})
	if _, page := get(t, address+"/"); !strings.Contains(page, "What was settled is as it was settled") {
		t.Errorf("the page does not say what the audit found: %s", page)
	}

	testdb.Exec(t, pool, `SET session_replication_role = replica;
		INSERT INTO lastseat.transfers (id, key, from_account, to_account, amount, currency)
		VALUES (nextval('lastseat.transfers_id_seq'), 'fraud', 'bank', 'ada', 1, 'EUR')`)
	clitest.Eventually(t, "the made-up transfer to be seen", metrics("lastseat_invariant_violations 1"))
	const told = "is not in the history: it was made up"
	if _, page := get(t, address+"/"); !strings.Contains(page, told) {
		t.Errorf("the page does not say what is violated: %s", page)
	}
	if n := strings.Count(log.String(), "invariant violated"); n != 1 || !strings.Contains(log.String(), told) {
		t.Errorf("the log tells it %d times: %s", n, log.String())
	}
	give(t, pool, "b", 100)
	if _, err := outbox.Wait(t.Context(), pool, "b"); err != nil {
		t.Errorf("the lane did not go on: %v", err)
	}
}

// It can be turned off.
func TestWorkerAuditIsTurnedOff(t *testing.T) {
	t.Parallel()
	address, _ := runAdmin(t, "DATABASE_URL="+testdb.New(t), "LASTSEAT_AUDIT_EVERY=0s")
	if _, scraped := get(t, address+"/metrics"); strings.Contains(scraped, "lastseat_invariant_violations") {
		t.Error("there are metrics of an audit that is turned off")
	}
	if _, page := get(t, address+"/"); !strings.Contains(page, "LASTSEAT_AUDIT_EVERY is 0s") {
		t.Errorf("the page does not say that it is off: %s", page)
	}
}
