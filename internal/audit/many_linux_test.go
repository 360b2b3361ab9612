package audit_test

import (
	"fmt"
	"os"
	"regexp"
	"runtime/debug"
	"strconv"
	"testing"
	"time"

	"github.com/lastseat/lastseat/internal/audit"
	"github.com/lastseat/lastseat/internal/testdb"
	"github.com/lastseat/lastseat/outbox"
)

// An audit reads page by page: what it takes in memory does not grow with the rows. make soak has a million entries.
func TestAuditOfMany(t *testing.T) { //nolint:paralleltest // the memory is that of the whole process
	transfers := testdb.Soak(3_000, 500_000)
	pool := testdb.Pool(t, testdb.New(t))
	exec(t, pool, `SELECT lastseat.open_account('bank', 'EUR', NULL)`)
	exec(t, pool, `SELECT lastseat.open_account('c' || n, 'EUR') FROM generate_series(0, 999) n`)
	const page = 20_000
	for done := 0; done < transfers; done += page {
		exec(t, pool, `SELECT count(lastseat.transfer('k' || n, 'bank', 'c' || n % 1000, 1 + n % 7, 'EUR'))
			FROM generate_series($1::int, $2::int) n`, done, min(done+page, transfers)-1)
	}
	began := time.Now()
	if err := worker(pool, outbox.Settings{}).Drain(t.Context()); err != nil {
		t.Fatal(err)
	}
	t.Logf("%d transfers settled in %v", transfers, time.Since(began).Round(time.Millisecond))

	debug.FreeOSMemory()
	resetPeak(t)
	before := memory(t, "VmRSS")
	began = time.Now()
	ok, err := audit.Run(t.Context(), pool, func(f audit.Finding) {
		if !f.OK {
			t.Errorf("%s: %v", f.Check, f.Violations)
		}
	})
	if err != nil || !ok {
		t.Fatalf("%t, %v", ok, err)
	}
	grown := memory(t, "VmHWM") - before
	t.Logf("%d entries audited in %v; the process grew by %d MB at most, from %d MB", 2*transfers,
		time.Since(began).Round(time.Millisecond), grown>>10, before>>10)
	if most := 256 << 10; grown > most {
		t.Errorf("the process grew by %d kB, want %d at most", grown, most)
	}
}

// resetPeak has VmHWM begin anew.
func resetPeak(t *testing.T) {
	t.Helper()
	if err := os.WriteFile("/proc/self/clear_refs", []byte("5"), 0); err != nil {
		t.Skipf("the peak of memory can't be measured here: %v", err)
	}
}

// memory is a figure of /proc/self/status, in kB.
func memory(t *testing.T, name string) int {
	t.Helper()
	status, err := os.ReadFile("/proc/self/status")
	if err != nil {
		t.Fatal(err)
	}
	parts := regexp.MustCompile(fmt.Sprintf(`(?m)^%s:\s+(\d+) kB`, name)).FindSubmatch(status)
	if parts == nil {
		t.Fatalf("no %s in %s", name, status)
	}
	kilobytes, err := strconv.Atoi(string(parts[1]))
	if err != nil {
		t.Fatal(err)
	}
	return kilobytes
}
