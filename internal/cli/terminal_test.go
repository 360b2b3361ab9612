package cli_test

import (
	"bytes"
	"testing"

	"github.com/lastseat/lastseat/internal/cli"
)

func TestFit(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		line  string
		width int
		want  string
	}{
		{"abcdef", 0, "abcdef"}, {"abcdef", 6, "abcdef"}, {"abcdef", 5, "abcd…"}, {"äöüß", 4, "äöüß"}, {"äöüß", 3, "äö…"}, {"ab", 1, "…"},
	} {
		if got := cli.Fit(c.line, c.width); got != c.want {
			t.Errorf("%q in %d is %q, want %q", c.line, c.width, got, c.want)
		}
	}
	if cli.Width(&bytes.Buffer{}) != 0 {
		t.Error("a buffer has a width")
	}
}
