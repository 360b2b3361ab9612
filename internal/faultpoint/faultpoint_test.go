package faultpoint_test

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
)

// A release has neither points nor sabotages: not even the names of the variables that would ask for them, nor what
// only a sabotage calls.
func TestReleaseHasNone(t *testing.T) {
	t.Parallel()
	program := filepath.Join(t.TempDir(), "worker")
	if out, err := exec.Command("go", "build", "-o", program, "github.com/lastseat/lastseat/cmd/worker").
		CombinedOutput(); err != nil {
		t.Fatalf("go build: %v\n%s", err, out)
	}
	text, err := os.ReadFile(program)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Contains(text, []byte("LASTSEAT_SEAL_KEY")) {
		t.Error("names of variables can't be found in the program: this test shows nothing")
	}
	for _, name := range []string{"CHAOS_DIR", "CHAOS_SABOTAGE", "completeFirst"} {
		if bytes.Contains(text, []byte(name)) {
			t.Errorf("the worker has %s", name)
		}
	}
}
