package quote_test

import (
	"os/exec"
	"strings"
	"testing"

	"github.com/lastseat/lastseat/internal/quote"
)

// What is quoted is one word, and means itself.
func TestWord(t *testing.T) {
	t.Parallel()
	for _, word := range []string{"order-1042", "", "two words", "it's", "$(touch /tmp/owned)", "`id`", "a;b", "-x", `\`, "*",
		"a\nb", "'; id; '", "ключ"} {
		//nolint:gosec // that is what is tried
		got, err := exec.CommandContext(t.Context(), "sh", "-c", "printf %s "+quote.Word(word)).Output()
		if err != nil || string(got) != word {
			t.Errorf("%q is %s, which means %q: %v", word, quote.Word(word), got, err)
		}
	}
}

func TestLiteral(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]string{
		"x": "'x'", "": "''", "it's": "'it''s'", "x'; DROP ROLE a; --": "'x''; DROP ROLE a; --'",
		`back\slash`: `U&'back\\slash'`, "\x1b[31m'": `U&'\+00001B[31m'''`, "\u202ex": `U&'\+00202Ex'`,
	} {
		if got := quote.Literal(text); got != want || strings.ContainsAny(got, "\x1b\u202e") {
			t.Errorf("%q is %s, want %s", text, got, want)
		}
	}
}
