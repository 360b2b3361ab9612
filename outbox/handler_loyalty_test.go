package outbox_test

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"github.com/lastseat/lastseat/internal/testdb"
)

// examples/loyalty is what a user writes. It builds in a directory of its own, with the line `replace` as its only
// tie, and its test passes.
func TestLoyaltyExample(t *testing.T) {
	t.Parallel()
	const example = "../examples/loyalty"
	root, err := filepath.Abs("..")
	if err != nil {
		t.Fatal(err)
	}
	elsewhere, err := os.MkdirTemp("", "loyalty")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = os.RemoveAll(elsewhere) }()
	if err := os.CopyFS(elsewhere, os.DirFS(example)); err != nil {
		t.Fatal(err)
	}
	read := func(name string) []byte {
		t.Helper()
		text, err := os.ReadFile(filepath.Join(elsewhere, name))
		if err != nil {
			t.Fatal(err)
		}
		return text
	}
	module := bytes.Replace(read("go.mod"), []byte("=> ../.."), []byte("=> "+root), 1)
	if err := os.WriteFile(filepath.Join(elsewhere, "go.mod"), module, 0o600); err != nil {
		t.Fatal(err)
	}
	if n := bytes.Count(read("points.go"), []byte("\n")); n >= 80 {
		t.Errorf("the user's own code is %d lines, less than 80 are promised", n)
	}
	test := exec.CommandContext(t.Context(), "go", "test", "-count=1", "-v", "./...")
	test.Dir = elsewhere
	test.Env = append(os.Environ(), "DATABASE_URL="+testdb.Empty(t), "GOWORK=off")
	out, err := test.CombinedOutput()
	if err != nil || !bytes.Contains(out, []byte("--- PASS: TestPoints")) {
		t.Errorf("%v\n%s", err, out)
	}
}
