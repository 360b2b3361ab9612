package cli_test

import (
	"strings"
	"testing"

	"github.com/lastseat/lastseat/internal/cli"
	"github.com/lastseat/lastseat/outbox"
)

// What a terminal would obey is shown, wherever it was stored: here as a kind and as a text of somebody's own.
func TestTextMovesNoCursor(t *testing.T) {
	t.Parallel()
	output := cli.Output("text")
	for character, shown := range map[string]string{
		"\x1b": `\x1b`, "\r": `\r`, "\a": `\a`, "\x00": `\x00`, "\x7f": `\x7f`, "\u009b": `\u009b`, "\u202e": `\u202e`,
		"\u2066": `\u2066`, "\u200b": `\u200b`, "\ufeff": `\ufeff`, "é": "é", "世": "世", "\n": "\n", "\\": `\`, "'": "'",
	} {
		var printed strings.Builder
		if err := output.Print(&printed, nil, "a"+character+"z"); err != nil {
			t.Fatal(err)
		}
		if want := "a" + shown + "z\n"; printed.String() != want {
			t.Errorf("%q: %q, want %q", character, printed.String(), want)
		}
	}
	var printed strings.Builder
	if err := output.PrintOutcome(
		&printed,
		outbox.Outcome{Key: "k", Kind: "a\x1b[2J", Status: "pending"},
		false,
	); err != nil {
		t.Fatal(err)
	}
	if got, want := printed.String(), "k  a\\x1b[2J  pending\n"; got != want {
		t.Errorf("%q, want %q", got, want)
	}
}
