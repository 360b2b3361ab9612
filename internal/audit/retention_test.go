package audit_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/lastseat/lastseat/internal/archive"
	"github.com/lastseat/lastseat/internal/audit"
	"github.com/lastseat/lastseat/internal/history"
	"github.com/lastseat/lastseat/internal/retention"
)

// removeOld runs a pass of retention as the role that has no other right.
func removeOld(t *testing.T, pool *pgxpool.Pool, rows int) retention.Removed {
	t.Helper()
	keeper := retention.New(as(t, pool, "lastseat_keeper"), retention.Settings{Rows: rows, Pause: 1})
	removed, err := keeper.Pass(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return removed
}

func count(t *testing.T, pool *pgxpool.Pool, what string) (n int64) {
	t.Helper()
	if err := pool.QueryRow(t.Context(), `SELECT count(*) FROM lastseat.`+what).Scan(&n); err != nil {
		t.Fatal(err)
	}
	return n
}

// What retention removes, the audit finds missing nowhere; what is changed or taken away beside it is named as before.
func TestRetentionIsNoTampering(t *testing.T) {
	t.Parallel()
	pool := filled(t)
	drain(t, pool)
	// two cancelled jobs are still there: their requests can be retried, so they stay
	const old = `requests r WHERE status <> 'pending'
		AND NOT EXISTS (SELECT FROM lastseat.river_job j WHERE j.id = r.job_id)`
	if removed := removeOld(t, pool, 7); removed != (retention.Removed{}) {
		t.Fatalf("nothing says how long, and %+v was removed", removed)
	}
	all := count(t, pool, old)
	refunds := count(t, pool, old+` AND kind = 'payment.refund'`)
	call(t, pool, `keep('requests', 0)`, `keep('requests:payment.refund', NULL)`)
	if removed := removeOld(t, pool, 7); removed.Requests != all-refunds || removed.Outcomes == 0 {
		t.Fatalf("removed %+v of %d, of which %d are kept", removed, all, refunds)
	}
	if n := count(t, pool, old); n != refunds || refunds == 0 {
		t.Errorf("%d requests are left, want %d refunds", n, refunds)
	}
	wantClean(t, pool)
	call(t, pool, `transfer('afterwards', 'bank', 'ada', 5, 'EUR')`, `reverse('back', 't2')`,
		`enqueue('toy', 'refused', '{}')`) // a key that is free again
	drain(t, pool)
	wantClean(t, pool)
	roundIsClean(t, &audit.Continuous{}, pool)
	for _, c := range []tampering{
		{"one that was removed comes back", settled("t3", "payment.transfer", "applied", "transferred", ""), "request t3"},
		{"a kept one is deleted", `DELETE FROM lastseat.requests WHERE key = 'refund'`, "request refund"},
		{"a kept one is changed", `UPDATE lastseat.requests SET attempts = 9 WHERE key = 'refund'`, "request refund"},
		{"one that came later is deleted", `DELETE FROM lastseat.requests WHERE key = 'afterwards'`, "request afterwards"},
		{"an old transfer is changed", `UPDATE lastseat.transfers SET description = 'x' WHERE key = 't3'`, "(key t3)"},
		{"a removal is taken back", `DELETE FROM lastseat.history WHERE chain = 'retention' AND number = 1`, "link 1"},
		{"a removal has other digests", `UPDATE lastseat.history SET digests[1] = digests[2] WHERE chain = 'retention'
			AND number = 1`, `link 1 of chain "retention"`},
		{"a removal of a row that was changed", `UPDATE lastseat.history SET digests[1] = digests[2]
			WHERE chain = 'retention' AND number = 1`, "was changed before it was removed"},
		{"the end of what was removed", `DELETE FROM lastseat.history WHERE chain = 'retention'
			AND number = (SELECT max(number) FROM lastseat.history WHERE chain = 'retention')`, "was deleted, or set back"},
		{"the time up to which", `UPDATE lastseat.removed SET before = 'infinity' WHERE what = 'requests'`,
			"removal of requests"},
		{"how long", `UPDATE lastseat.retention SET days = 1 WHERE what = 'requests'`, "retention of requests"},
	} {
		var told []string
		_, err := audit.Run(t.Context(), past{pool, c.sql}, func(f audit.Finding) { told = append(told, f.Violations...) })
		if err != nil || !strings.Contains(strings.Join(told, "\n"), c.row) {
			t.Errorf("%s: %q is not named: %v %v", c.name, c.row, told, err)
		}
	}
}

// What is archived is proven from the files to the database; a file that was changed, cut or taken away is named, and
// what can't be archived is not removed.
func TestArchiveIsProven(t *testing.T) {
	t.Parallel()
	pool := filled(t)
	drain(t, pool)
	call(t, pool, `keep('requests', 0)`)
	dir := t.TempDir()
	pass := func(dir, format string, rows int) (retention.Removed, error) {
		return retention.New(as(t, pool, "lastseat_keeper"),
			retention.Settings{Rows: rows, Pause: 1, Archive: dir, Format: format}).Pass(t.Context())
	}
	all := count(t, pool, "requests")
	if removed, err := pass(filepath.Join(dir, "none"), "csv.gz", 5); err == nil || removed.Requests != 0 ||
		count(t, pool, "requests") != all {
		t.Fatalf("without a directory %+v was removed, %v", removed, err)
	}
	call(t, pool, `keep('requests:payment.authorize', NULL)`)
	if _, err := pass(dir, "csv.gz", 20); err != nil {
		t.Fatal(err)
	}
	call(t, pool, `keep('requests:payment.authorize', 0)`)
	if _, err := pass(dir, "parquet", 1000); err != nil {
		t.Fatal(err)
	}
	if left := count(t, pool, "requests"); left >= all/2 {
		t.Fatalf("%d of %d requests are left", left, all)
	}
	prove := func() string {
		var told []string
		_, err := audit.RunObserved(t.Context(), pool, audit.Observer{
			Archive: dir, Report: func(f audit.Finding) { told = append(told, f.Violations...) },
		})
		if err != nil {
			t.Fatal(err)
		}
		return strings.Join(told, "\n")
	}
	if told := prove(); told != "" {
		t.Fatal(told)
	}
	for _, pattern := range []string{"*000001.csv.gz", "*.parquet"} {
		files, _ := filepath.Glob(filepath.Join(dir, pattern))
		if len(files) != 1 {
			t.Fatalf("%s: %v", pattern, files)
		}
		whole, err := os.ReadFile(files[0])
		if err != nil {
			t.Fatal(err)
		}
		changed := append([]byte{}, whole...)
		changed[len(changed)/3] ^= 1
		for what, content := range map[string][]byte{"changed": changed, "cut": whole[:len(whole)/2], "empty": {}} {
			if err := os.WriteFile(files[0], content, 0o600); err != nil {
				t.Fatal(err)
			}
			if told := prove(); !strings.Contains(told, files[0]) || strings.Contains(told, "\n") {
				t.Errorf("%s was %s, and it says %q", files[0], what, told)
			}
		}
		if err := os.Remove(files[0]); err != nil {
			t.Fatal(err)
		}
		if told := prove(); !strings.Contains(told, "is missing") {
			t.Errorf("%s is gone, and it says %q", files[0], told)
		}
		if err := os.WriteFile(files[0], whole, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	// the rows of another link, under this one's name
	files, _ := filepath.Glob(filepath.Join(dir, "*.csv.gz"))
	other, err := os.ReadFile(files[1])
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(files[0], other, 0o600); err != nil {
		t.Fatal(err)
	}
	if told := prove(); !strings.Contains(told, files[0]+" was changed") {
		t.Errorf("another link's rows: %q", told)
	}
}

// Two databases with one directory would write over each other's files, whose numbers are the same. What only a file
// has is never written over; what a transaction that was rolled back has left there is.
func TestArchiveIsNotOverwritten(t *testing.T) {
	t.Parallel()
	pool, dir := filled(t), t.TempDir()
	drain(t, pool)
	call(t, pool, `keep('requests', 0)`)
	pass := func(format string) error {
		_, err := retention.New(as(t, pool, "lastseat_keeper"),
			retention.Settings{Rows: 1000, Pause: 1, Archive: dir, Format: format}).Pass(t.Context())
		return err
	}
	here := &history.Request{}
	err := pool.QueryRow(t.Context(), `SELECT min(key) FROM lastseat.requests WHERE status <> 'pending'`).Scan(&here.Key)
	if err != nil {
		t.Fatal(err)
	}
	leave := func(requests ...*history.Request) {
		t.Helper()
		if err := archive.Write(dir, "csv.gz", 1, requests); err != nil {
			t.Fatal(err)
		}
	}
	leave(here, &history.Request{Key: "of another database"})
	all := count(t, pool, "requests")
	for _, format := range archive.Formats {
		if err := pass(format); err == nil || !strings.Contains(err.Error(), "000001.csv.gz is there already") {
			t.Errorf("%s: %v", format, err)
		}
	}
	if left := count(t, pool, "requests"); left != all {
		t.Errorf("%d of %d requests are left", left, all)
	}
	leave(here)
	part := filepath.Join(dir, archive.Name("requests", 1, "parquet")+".part")
	if err := os.Symlink(filepath.Join(dir, "elsewhere"), part); err != nil {
		t.Fatal(err)
	}
	if err := pass("parquet"); err != nil {
		t.Error(err)
	}
	if _, err := os.Stat(filepath.Join(dir, "elsewhere")); err == nil {
		t.Error("it wrote where a link leads")
	}
}
