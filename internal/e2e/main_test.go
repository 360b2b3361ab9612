// Package e2e runs the two commands as processes: what signals, several workers, lost connections and terminals do to
// them can't be seen from inside.
package e2e

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"testing"

	"github.com/lastseat/lastseat/internal/relay/natstest"
	"github.com/lastseat/lastseat/internal/testdb"
)

func TestMain(m *testing.M) {
	natstest.Main()
	if url := os.Getenv(ownWorkerURL); url != "" {
		os.Exit(runOwnWorker(url))
	}
	if url := os.Getenv(cardWorkerURL); url != "" {
		os.Exit(runCardWorker(url))
	}
	if os.Getenv(buyersDatabase) == "" { // buyers start no programs, and building takes seconds
		_, _ = programs() // before any test: that takes longer than some of them give a worker; start tells the error
	}
	code := testdb.MainMigrated(m)
	if built != "" {
		_ = os.RemoveAll(built)
	}
	os.Exit(code)
}

var built string // the directory of the programs, once a test has asked for one

// programs builds both commands, once.
var programs = sync.OnceValues(func() (string, error) {
	dir, err := os.MkdirTemp("", "lastseat-e2e-bin-")
	if err != nil {
		return "", err
	}
	built = dir
	// Without what a debugger reads: that is a third of what linking costs.
	cmd := exec.Command("go", "build", "-ldflags=-s -w", "-o", dir+string(filepath.Separator),
		"github.com/lastseat/lastseat/cmd/worker", "github.com/lastseat/lastseat/cmd/enqueue")
	if out, err := cmd.CombinedOutput(); err != nil {
		return "", fmt.Errorf("go build: %w\n%s", err, out)
	}
	return dir, nil
})
