package main

import (
	"io"
	"strings"
	"testing"

	"github.com/lastseat/lastseat/internal/audit"
	"github.com/lastseat/lastseat/internal/cli"
	"github.com/lastseat/lastseat/internal/clitest"
	"github.com/lastseat/lastseat/internal/testdb"
)

// On a terminal an audit says what it is checking; that it says nothing elsewhere is what all the other tests see.
func TestAuditOnATerminal(t *testing.T) {
	t.Parallel()
	url := testdb.New(t)
	screen, tty := clitest.Terminal(t)
	seen := make(chan string)
	go func() {
		all, _ := io.ReadAll(screen) // EIO when the last writer is gone
		seen <- string(all)
	}()
	var out clitest.Buffer
	code := run(t.Context(), []string{"audit", "-o", "json"}, cli.Streams{In: strings.NewReader(""), Out: &out, Err: tty,
		Environ: []string{"DATABASE_URL=" + url}})
	_ = tty.Close()
	said := <-seen
	if code != 0 || strings.Count(out.String(), "\n") != len(audit.Checks) {
		t.Errorf("exit code %d, %q", code, out.String())
	}
	for _, check := range audit.Checks {
		if !strings.Contains(said, "checking "+check.Name+" ...\r\x1b[K") {
			t.Errorf("%s is not announced, or left on the screen: %q", check.Name, said)
		}
	}
}
