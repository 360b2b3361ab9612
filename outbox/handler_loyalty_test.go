package outbox_test

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"github.com/lastseat/lastseat/internal/testdb"
)

// examples/loyalty and examples/mail are what a user writes.
func TestLoyaltyExample(t *testing.T) {
	t.Parallel()
	testExample(t, "loyalty", "points.go", 80, "TestPoints")
}

func TestMailExample(t *testing.T) {
	t.Parallel()
	testExample(t, "mail", "mail.go", 100, "TestMail")
}

// testExample builds a module of examples in a directory of its own, with the line `replace` as its only tie, and sees
// its test pass.
func testExample(t *testing.T, name, file string, most int, passes string) {
	t.Helper()
	example := "../examples/" + name
	root, err := filepath.Abs("..")
	if err != nil {
		t.Fatal(err)
	}
	elsewhere, err := os.MkdirTemp("", name)
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
	if n := bytes.Count(read(file), []byte("\n")); n >= most {
		t.Errorf("the user's own code is %d lines, less than %d are promised", n, most)
	}
	test := exec.CommandContext(t.Context(), "go", "test", "-count=1", "-v", "./...")
	test.Dir = elsewhere
	test.Env = append(os.Environ(), "DATABASE_URL="+testdb.Empty(t), "GOWORK=off")
	out, err := test.CombinedOutput()
	if err != nil || !bytes.Contains(out, []byte("--- PASS: "+passes)) {
		t.Errorf("%v\n%s", err, out)
	}
}
