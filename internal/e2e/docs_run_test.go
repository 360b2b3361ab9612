package e2e

import (
	"context"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/lastseat/lastseat/internal/clitest"
	"github.com/lastseat/lastseat/internal/fakestripe"
	"github.com/lastseat/lastseat/internal/testdb"
)

// TestDocsRun runs all blocks of each guide in their order on a fresh database, beside a worker. Then it runs them
// again, as a reader may: every key is a duplicate then.
func TestDocsRun(t *testing.T) {
	t.Parallel()
	for _, name := range guides {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			blocks := fence.FindAllStringSubmatch(document(t, name), -1)
			url := testdb.New(t)
			pool := testdb.Pool(t, url)
			reads := newReader(t, url)
			worker := docsWorker(t, url)

			var asked [2]int
			for round := range asked {
				for _, block := range blocks {
					reads.block(t, block[1], block[2])
				}
				allApplied(t, pool)
				asked[round] = testdb.Scalar[int](t, pool, `SELECT count(*) FROM lastseat.requests WHERE key NOT LIKE 'lastseat:%'`)
			}
			if asked[0] != asked[1] {
				t.Errorf("%d requests after the first round, %d after the second", asked[0], asked[1])
			}
			worker.signal(t, syscall.SIGTERM)
			worker.exits(t, 0)
		})
	}
}

// TestDocsRunTogether runs the guides that a newcomer reads first, one after the other on one database, as they are
// read beside one worker dev.
func TestDocsRunTogether(t *testing.T) {
	t.Parallel()
	url := testdb.New(t)
	pool := testdb.Pool(t, url)
	reads := newReader(t, url)
	worker := docsWorker(t, url)
	for _, name := range []string{"README", "docs/quickstart", "docs/payments", "docs/reservations", "docs/outcomes",
		"docs/checkout", "docs/command-line"} {
		for _, block := range fence.FindAllStringSubmatch(document(t, name+".md"), -1) {
			reads.block(t, block[1], block[2])
		}
		allApplied(t, pool)
		if t.Failed() {
			t.Fatalf("%s.md can't be run after the guides before it", name)
		}
	}
	worker.signal(t, syscall.SIGTERM)
	worker.exits(t, 0)
}

// docsWorker starts the worker of the guides, and waits until it works.
func docsWorker(t *testing.T, url string) *process {
	t.Helper()
	processor := httptest.NewServer(fakestripe.New(fakestripe.Options{})) // for docs/payments.md
	t.Cleanup(processor.Close)
	worker := start(t, on(url, "LASTSEAT_PROCESSOR_STRIPE_KEY=sk_test_docs",
		"LASTSEAT_PROCESSOR_STRIPE_URL="+processor.URL), "worker", "run")
	clitest.Eventually(t, "the worker to take its lane", func() bool {
		return strings.Contains(worker.errs.String(), "lane taken")
	})
	return worker
}

// allApplied waits until every request is settled, and fails the test if one was not applied.
func allApplied(t *testing.T, pool *pgxpool.Pool) {
	t.Helper()
	clitest.Eventually(t, "every request to be settled", func() bool {
		return testdb.Scalar[int](t, pool, `SELECT count(*) FROM lastseat.requests WHERE status = 'pending'`) == 0
	})
	if refused := testdb.Scalar[string](t, pool, `
		SELECT coalesce(string_agg(concat_ws(' ', key, status, code, detail), E'\n'), '')
		FROM lastseat.requests WHERE status <> 'applied'`); refused != "" {
		t.Errorf("not applied:\n%s", refused)
	}
}

// reader has what a guide says that its reader has: the programs, a database, and its logins.
type reader struct {
	url   string
	env   []string
	ports map[string]string
}

func newReader(t *testing.T, url string) *reader {
	t.Helper()
	dir, err := programs()
	if err != nil {
		t.Fatal(err)
	}
	pool := testdb.Pool(t, url)
	return &reader{url: url, ports: make(map[string]string), env: on(url,
		"PATH="+dir+string(filepath.ListSeparator)+os.Getenv("PATH"), "HOME="+os.Getenv("HOME"), "ADMIN_URL="+url,
		"WORKER_URL="+testdb.As(t, pool, "lastseat_worker"), "KEEPER_URL="+testdb.As(t, pool, "lastseat_keeper"))}
}

func (r *reader) block(t *testing.T, language, text string) {
	t.Helper()
	switch language {
	case "sql":
		runSQL(t, r.url, text)
	case "sh":
		r.shell(t, fixedPort.ReplaceAllStringFunc(text, func(port string) string {
			if r.ports[port] == "" {
				r.ports[port] = clitest.FreeAddress(t)
			}
			return r.ports[port]
		}))
	}
}

// fixedPort is an address of the guides. Other tests of this machine may run the same guide, so each run has another.
var fixedPort = regexp.MustCompile(`127\.0\.0\.1:[1-9]\d*`)

// runSQL sends one statement after the other, as psql does. A statement ends where a line ends with a semicolon.
func runSQL(t *testing.T, url, text string) {
	t.Helper()
	conn, err := pgx.Connect(t.Context(), url)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = conn.Close(context.WithoutCancel(t.Context())) }()
	var statement strings.Builder
	for line := range strings.Lines(text) {
		code, _, _ := strings.Cut(line, "--")
		statement.WriteString(code + "\n")
		if strings.HasSuffix(strings.TrimSpace(code), ";") {
			if _, err := conn.PgConn().Exec(t.Context(), statement.String()).ReadAll(); err != nil {
				t.Fatalf("%s: %v", statement.String(), err)
			}
			statement.Reset()
		}
	}
	if rest := strings.TrimSpace(statement.String()); rest != "" {
		t.Fatalf("a statement without an end: %s", rest)
	}
}

// shell runs a block from the repository's root. The block's programs don't outlive it.
func (r *reader) shell(t *testing.T, text string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), clitest.Patience)
	defer cancel()
	shell := exec.CommandContext(ctx, "sh", "-eux", "-c", text)
	shell.Dir, shell.Env = root, r.env
	shell.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	end := func() error { return syscall.Kill(-shell.Process.Pid, syscall.SIGKILL) }
	shell.Cancel = end
	var out clitest.Buffer
	shell.Stdout, shell.Stderr = &out, &out
	// What a block that failed has left in the background keeps the output open, and Wait would wait for it.
	shell.WaitDelay = time.Second
	err := shell.Start()
	if err == nil {
		defer func() { _ = end() }()
		err = shell.Wait()
	}
	if err != nil {
		t.Fatalf("%v\n%s", err, out.String())
	}
}
