package e2e

import (
	"bytes"
	"os"
	"path/filepath"
	"testing"
)

// A release has neither points at which chaos ends it nor sabotages: not even the names of the variables that would ask
// for them, nor what only a sabotage calls.
func TestReleaseHasNoFaultpoints(t *testing.T) {
	t.Parallel()
	dir, err := programs()
	if err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile(filepath.Join(dir, "worker"))
	if err != nil {
		t.Fatal(err)
	}
	// The name of a function, too: the programs of the tests are linked without what a debugger reads.
	for _, name := range []string{"LASTSEAT_SEAL_KEY", "outbox.(*Worker).Run"} {
		if !bytes.Contains(text, []byte(name)) {
			t.Errorf("%s can't be found in the program: this test shows nothing", name)
		}
	}
	for _, name := range []string{"CHAOS_DIR", "CHAOS_SABOTAGE", "completeFirst"} {
		if bytes.Contains(text, []byte(name)) {
			t.Errorf("the worker has %s", name)
		}
	}
}
