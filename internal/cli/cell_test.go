package cli_test

import (
	"testing"

	"github.com/lastseat/lastseat/internal/cli"
)

// A cell of a CSV file is a formula for no spreadsheet, and nothing that a terminal obeys. A number stays one.
func TestCell(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]string{
		"": "", "rent": "rent", "a=b": "a=b", "two\nlines": "two\nlines", "-12.50": "-12.50", "+7": "+7", "-1": "-1",
		"=1+1": "'=1+1", "+1+1": "'+1+1", "-1+1": "'-1+1", "@SUM(A1)": "'@SUM(A1)", "\t=1": "'\t=1", "\n=1": "'\n=1",
		"=cmd|' /C calc'!A0": "'=cmd|' /C calc'!A0", "-": "'-", "-1e5": "'-1e5", "＝1": "'＝1", "＠x": "'＠x",
		"\x1b[31m=1": `\x1b[31m=1`, "\r=1": `\r=1`, "\u202e=1": `\u202e=1`, "\u009b2J": `\u009b2J`,
	} {
		if got := cli.Cell(text); got != want {
			t.Errorf("%q: %q, want %q", text, got, want)
		}
	}
}
