package e2e

import (
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/lastseat/lastseat/internal/testdb"
)

// TestRestoreIsRehearsed: every command of docs/restore.md is one of the script that rehearses it.
func TestRestoreIsRehearsed(t *testing.T) {
	t.Parallel()
	script := document(t, "scripts/rehearse")
	have := make(map[string]bool)
	for line := range strings.Lines(script) {
		have[strings.TrimSpace(line)] = true
	}
	commands := 0
	for _, block := range fence.FindAllStringSubmatch(document(t, "docs/restore.md"), -1) {
		for line := range strings.Lines(block[2]) {
			line = strings.TrimSpace(line)
			if kind, ours := strings.CutPrefix(line, "scripts/rehearse "); ours {
				kind, _, _ = strings.Cut(kind, " ")
				if !regexp.MustCompile(`(?m)^` + kind + `\)$`).MatchString(script) {
					t.Errorf("scripts/rehearse has no %s", kind)
				}
				continue
			}
			commands++
			if !have[line] {
				t.Errorf("scripts/rehearse does not run this: %s", line)
			}
		}
	}
	if commands == 0 {
		t.Error("docs/restore.md has no commands")
	}
}

// TestRehearse runs them, with the installed Postgres and, where it can be had, Postgres 18.
func TestRehearse(t *testing.T) {
	t.Parallel()
	if !testdb.Soaks() {
		t.Skip("20 seconds each: SOAK=1")
	}
	dir, err := programs()
	if err == nil {
		err = os.Chmod(dir, 0o755) // the script's servers and programs run as the user postgres where root starts them
	}
	if err != nil {
		t.Fatal(err)
	}
	newer := ""
	whole := exec.CommandContext(t.Context(), filepath.Join(root, "scripts", "postgres-whole"))
	if out, err := whole.Output(); err == nil {
		newer = strings.TrimSpace(string(out))
	}
	found, _ := filepath.Glob("/usr/lib/postgresql/1[4-7]/bin")
	for _, what := range []string{"dump", "pitr", "upgrade", "logical"} {
		t.Run(what, func(t *testing.T) {
			if len(found) == 0 || newer == "" && (what == "upgrade" || what == "logical") {
				t.Skip("it takes a Postgres with all its programs, and a newer one")
			}
			args := []string{what, found[len(found)-1]}
			if newer != "" && what != "pitr" {
				args = append(args, newer)
			}
			script := exec.CommandContext(t.Context(), filepath.Join(root, "scripts", "rehearse"), args...)
			script.Env = append(os.Environ(), "PROGRAMS="+dir)
			out, err := script.CombinedOutput()
			if err != nil {
				t.Fatalf("%v\n%s", err, out)
			}
			t.Logf("%s", out)
		})
	}
}
