package e2e

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/lastseat/lastseat/internal/clitest"
	"github.com/lastseat/lastseat/internal/testdb"
)

// The line that says how far an import is, is for a terminal; that nothing of it goes elsewhere is what all the other
// tests see.
func TestProgressOnATerminal(t *testing.T) {
	t.Parallel()
	url := testdb.New(t)
	open(t, testdb.Pool(t, url))
	var file strings.Builder
	file.WriteString("key,from_account,to_account,amount,currency,description\n")
	for n := range 1000 {
		fmt.Fprintf(&file, "k%d,bank,ada,1,EUR,%s\n", n, strings.Repeat("d", 2000)) // some reads long
	}
	name := filepath.Join(t.TempDir(), "transfers.csv")
	if err := os.WriteFile(name, []byte(file.String()), 0o600); err != nil {
		t.Fatal(err)
	}
	dir, err := programs()
	if err != nil {
		t.Fatal(err)
	}
	screen, tty := clitest.Terminal(t)
	cmd := exec.Command(filepath.Join(dir, "enqueue"), "import", name, "--chunk", "10")
	cmd.Env = on(url, "TERM=xterm")
	cmd.Stderr = tty
	var out strings.Builder
	cmd.Stdout = &out
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	_ = tty.Close()
	seen := make(chan string, 1)
	go func() {
		var all []byte
		buf := make([]byte, 4096)
		for {
			n, err := screen.Read(buf)
			all = append(all, buf[:n]...)
			if err != nil { // EIO when the last writer is gone
				seen <- string(all)
				return
			}
		}
	}()
	if err := cmd.Wait(); err != nil {
		t.Error(err)
	}
	select {
	case bar := <-seen:
		if !strings.Contains(bar, "importing  ") || !strings.Contains(bar, "% ") || !strings.Contains(bar, "0 rows") ||
			strings.Contains(bar, "B/s") || !strings.HasSuffix(bar, "\r\x1b[K") {
			t.Errorf("the terminal shows %q, want rows, and nothing left at the end", bar)
		}
	case <-time.After(clitest.Patience):
		t.Error("the terminal is still open")
	}
	if !strings.HasPrefix(out.String(), "1000 requests: 1000 new") {
		t.Errorf("stdout is %q", out.String())
	}
}
