package e2e

import (
	"encoding/json"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/lastseat/lastseat/internal/clitest"
	"github.com/lastseat/lastseat/internal/testdb"
)

// A file of transfers is imported once. On copies of that database a worker drains it, workers that are killed drain
// it, and four workers at once: each time every balance and every outcome is what the file says, in its order.
func TestBank(t *testing.T) {
	t.Parallel()
	for name, build := range map[string]func(*testing.T) *bank{"generated": generatedBank, "real": realBank} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := build(t)
			url := testdb.New(t)
			if b.accounts != "" {
				enqueue(t, url, "import", b.accounts).exits(t, 0)
			}
			b.imports(t, url, importCounts{Requests: b.lines, Duplicates: b.lines - len(b.keys)})
			small, few := "LASTSEAT_BATCH=20", "LASTSEAT_BATCH=10"
			if b.lines > 10_000 {
				small, few = "LASTSEAT_BATCH=200", "LASTSEAT_BATCH=50"
			}
			for name, prove := range map[string]func(*testing.T, string, *pgxpool.Pool){
				"drain":                        b.drained,
				"killed three times":           b.killed(few),
				"killed at read committed":     b.killed(few, "LASTSEAT_ISOLATION=read committed"),
				"four at once":                 b.shared(small),
				"four at once, jobs are kept":  b.shared(small, "LASTSEAT_KEEP_COMPLETED=1h"),
				"four at once, read committed": b.shared(small, "LASTSEAT_ISOLATION=read committed"),
			} {
				if b.lines > 10_000 && name != "killed three times" && !testdb.Soaks() {
					continue // the generated one is enough
				}
				t.Run(name, func(t *testing.T) {
					t.Parallel()
					copied := copyOf(t, url)
					prove(t, copied, testdb.Pool(t, copied))
				})
			}
		})
	}
}

type importCounts struct{ Requests, Duplicates int }

func (b *bank) imports(t *testing.T, url string, want importCounts) {
	t.Helper()
	args := []string{"import", b.transfers, "-o", "json"}
	if b.accounts == "" {
		args = append(args, "--open-accounts")
	}
	began := time.Now()
	p := enqueue(t, url, args...)
	p.exits(t, 0)
	t.Logf("imported %d lines in %v", b.lines, time.Since(began).Round(time.Millisecond))
	var got importCounts
	if err := json.Unmarshal([]byte(p.out.String()), &got); err != nil || got != want {
		t.Errorf("import prints %q (%v), want %+v", p.out.String(), err, want)
	}
	if p.errs.String() != "" {
		t.Errorf("import writes to stderr, which is no terminal: %q", p.errs.String())
	}
}

// fingerprint is the content of all tables that matter.
const fingerprint = `
	SELECT md5(concat((SELECT string_agg(r::text, '' ORDER BY key) FROM lastseat.requests r),
	  (SELECT string_agg(a::text, '' ORDER BY id) FROM lastseat.accounts a),
	                  (SELECT string_agg(e::text, '' ORDER BY account_id, version) FROM lastseat.entries e),
	                    (SELECT count(*) FROM lastseat.river_job)))`

func (b *bank) drained(t *testing.T, url string, pool *pgxpool.Pool) {
	began := time.Now()
	p := start(t, on(url), "worker", "run", "--drain", "-o", "json")
	p.exits(t, 0)
	p.quiet(t)
	t.Logf("drained in %v", time.Since(began).Round(time.Millisecond))
	if got := p.did(t); got.Applied+got.Rejected != len(b.keys) {
		t.Errorf("the worker says %+v, want %d in all", got, len(b.keys))
	}
	b.proves(t, url, pool)

	before := testdb.Scalar[string](t, pool, fingerprint) // and again, after which nothing is new
	b.imports(t, url, importCounts{Requests: b.lines, Duplicates: b.lines})
	start(t, on(url), "worker", "run", "--drain").exits(t, 0)
	if testdb.Scalar[string](t, pool, fingerprint) != before {
		t.Error("the same import once more has changed something")
	}
	b.proves(t, url, pool)
}

// killed drains with workers that are killed with SIGKILL, three times (more under make soak), in the middle.
func (b *bank) killed(environ ...string) func(*testing.T, string, *pgxpool.Pool) {
	return func(t *testing.T, url string, pool *pgxpool.Pool) {
		batch := 50 // at least LASTSEAT_BATCH
		kills := testdb.Soak(3, 25)
		p := start(t, on(url, environ...), "worker", "run", "--drain")
		for n := range kills {
			goal := (n + 1) * len(b.keys) / (kills + 2)
			clitest.Eventually(t, "the worker to get ahead", func() bool { return settled(t, pool) >= goal || !p.running() })
			p.killed(t)
			had := settled(t, pool)
			if had >= len(b.keys) {
				t.Fatal("the worker was done before it was killed")
			}
			began := time.Now()
			p = start(t, on(url, environ...), "worker", "run", "--drain")
			// What is beyond one batch is not the last commit of the killed one. There is no stuck-job timeout to wait
			// for: River's own would be an hour, and patience ends long before.
			clitest.Eventually(t, "work to go on", func() bool { return settled(t, pool) > had+batch })
			t.Logf("killed at %d of %d; work went on within %v of the next start", had, len(b.keys),
				time.Since(began).Round(time.Millisecond))
		}
		p.exits(t, 0)
		b.proves(t, url, pool)
	}
}

// shared drains with four workers at once. Whoever holds the lane is told to stop, twice, so that others take over.
func (b *bank) shared(environ ...string) func(*testing.T, string, *pgxpool.Pool) {
	return func(t *testing.T, url string, pool *pgxpool.Pool) {
		workers := make([]*process, 4)
		for i := range workers {
			workers[i] = start(t, on(url, environ...), "worker", "run", "-o", "json")
		}
		for n := range 2 {
			goal := (n + 1) * len(b.keys) / 3
			clitest.Eventually(t, "the workers to get ahead", func() bool { return settled(t, pool) >= goal })
			holder := slices.IndexFunc(workers, func(w *process) bool {
				return w.running() && strings.Contains(w.errs.String(),
					"lane taken")
			})
			if holder < 0 {
				t.Fatal("nobody says that he has taken the lane")
			}
			workers[holder].signal(t, syscall.SIGTERM)
			workers[holder].exits(t, 0)
		}
		clitest.Eventually(t, "everything to be settled", func() bool { return settled(t, pool) == len(b.keys) })
		total, busy := 0, 0
		for _, w := range workers {
			w.signal(t, syscall.SIGTERM)
			w.exits(t, 0)
			w.quiet(t)
			got := w.did(t)
			total += got.Applied + got.Rejected
			if got.Batches > 0 {
				busy++
			}
		}
		if total != len(b.keys) || busy < 2 {
			t.Errorf("%d workers settled %d, want %d by two or more", busy, total, len(b.keys))
		}
		nobodyLeft(t, pool)
		testdb.Exec(t, pool, `DELETE FROM lastseat.river_job WHERE state = 'completed'`) // where they are kept
		b.proves(t, url, pool)
	}
}

type stats struct{ Batches, Applied, Rejected, Duplicates, Failures int }

// did is what a worker says that it did.
func (p *process) did(t *testing.T) (s stats) {
	t.Helper()
	if err := json.Unmarshal([]byte(p.out.String()), &s); err != nil {
		t.Fatalf("the worker prints %q: %v", p.out.String(), err)
	}
	return s
}
