package cli_test

import (
	"testing"

	"github.com/lastseat/lastseat/internal/cli"
)

func TestNearest(t *testing.T) {
	t.Parallel()
	names := []string{"transfer", "reverse", "void", "wait", "run", "insufficient_funds", "rejected"}
	for written, want := range map[string]string{
		"trasnfer": "transfer", "Transfer": "transfer", "revers": "reverse", "weit": "wait", "runn": "run", "rnu": "run",
		"insufficent_funds": "insufficient_funds", "reject": "rejected", "banana": "", "": "", "x": "",
	} {
		if got := cli.Nearest(written, names); got != want {
			t.Errorf("near %q is %q, want %q", written, got, want)
		}
	}
}
