package e2e

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// consoles are the blocks of commands that TestDocsRun does not run, by document and first line, and what runs their
// commands instead, or why nothing does. Make a new block sh, and TestDocsRun runs it; or give a reason here.
var consoles = map[string]string{
	"README.md: make demo": "TestDemo and TestDemoCrash run it",
	"docs/deploy.md: DATABASE_URL=$ADMIN_URL worker migrate up": "the roles belong to the server, and not to a database " +
		"of the test; scripts/rehearse makes the same ones on a server of its own",
	`docs/deploy.md: psql $ADMIN_URL -c "CREATE SCHEMA shop"`: "its role is that of the block before it",
	`docs/deploy.md: echo "DATABASE_URL=postgres://`:          "it takes systemd, as root; scripts/release-check installs the deb",
	"docs/monitoring.md: OTEL_EXPORTER_OTLP_ENDPOINT=": "it takes a collector, and runs until it is stopped: TestTraces " +
		"(cmd/worker)",
	"docs/operations.md: DATABASE_URL=$ADMIN_URL bin/worker migrate up": "worker run runs until it is stopped: " +
		"TestDocsRun runs every guide beside one; a later block of the page has the migration",
	"docs/operations.md: docker-compose up --build": "it takes Docker: make compose-check",
	"docs/outside.md: LASTSEAT_RELAY=": "its targets are on the internet; two blocks of the page relay to a webhook " +
		"and to NATS",
	"docs/outside.md: worker reconcile": "it compares with an account at a processor, where the page's other blocks " +
		"have charged at two: TestDifferences (internal/reconcile), TestReconcile (cmd/worker)",
	"docs/outside.md: SOAK=1":                                        "it runs a test: TestDocsTests",
	"docs/quickstart.md: make build":                                 "worker dev runs until it is stopped: TestDev",
	"docs/restore.md: scripts/rehearse":                              "TestRehearse",
	"docs/restore.md: pg_dumpall":                                    "TestRehearse; see TestRestoreIsRehearsed",
	"docs/restore.md: psql -Xq --set":                                "TestRehearse",
	"docs/restore.md: IDENTITIES":                                    "TestRehearse",
	`docs/restore.md: psql -Xq --dbname="$ADMIN_URL" -c "ALTER ROLE`: "TestRehearse",
	"docs/restore.md: pg_basebackup":                                 "TestRehearse",
	"docs/restore.md: pg_upgrade":                                    "TestRehearse",
	"examples/README.md: apt-get":                                    "it installs packages",
}

// TestDocsConsole: each block of commands that is not run has a reason.
func TestDocsConsole(t *testing.T) {
	t.Parallel()
	there := make(map[string]int)
	for _, name := range documents(t) {
		for _, block := range fence.FindAllStringSubmatch(document(t, name), -1) {
			if block[1] != "console" {
				continue
			}
			known := 0
			for begin := range consoles {
				if strings.HasPrefix(name+": "+block[2], begin) {
					there[begin]++
					known++
				}
			}
			if known != 1 {
				t.Errorf("%s has a block that no test runs, and %d reasons for that:\n%s", name, known, block[2])
			}
		}
	}
	for begin := range consoles {
		if there[begin] != 1 {
			t.Errorf("%d blocks begin with %s", there[begin], begin)
		}
	}
}

// TestDocsTests: every test that a document tells its reader to run is in the package that it names, and so is every
// test that consoles names.
func TestDocsTests(t *testing.T) {
	t.Parallel()
	command := regexp.MustCompile(`go test ([^\n` + "`" + `]*?)-run '?([\w|$./]+)`)
	found := 0
	for _, name := range documents(t) {
		for _, test := range command.FindAllStringSubmatch(document(t, name), -1) {
			for part := range strings.SplitSeq(strings.TrimSuffix(test[2], "$"), "|") {
				part, _, _ = strings.Cut(part, "/")
				if directory, _, _ := strings.Cut(test[1], " "); !hasTest(t, directory, part) {
					t.Errorf("%s: go test %s-run %s: there is no such test", name, test[1], part)
				}
				found++
			}
		}
	}
	if found == 0 {
		t.Error("no document names a test")
	}
}

// hasTest tells whether a package has a test whose name holds a text.
func hasTest(t *testing.T, directory, text string) bool {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(root, directory, "*_test.go"))
	if err != nil {
		t.Fatal(err)
	}
	named := regexp.MustCompile(`(?m)^func (Test|Example|Fuzz|Benchmark)?\w*` + regexp.QuoteMeta(text))
	for _, name := range files {
		code, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		if named.Match(code) {
			return true
		}
	}
	return false
}
