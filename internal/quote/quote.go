// Package quote quotes names for statements and commands that somebody is told to type. Whoever has chosen the name may
// mean ill: it must not become a second command.
package quote

import (
	"fmt"
	"regexp"
	"strings"
	"unicode"
)

var plainWord = regexp.MustCompile(`^[A-Za-z0-9_./:@-]+$`)

// Word is text as one word of a shell.
func Word(text string) string {
	if plainWord.MatchString(text) {
		return text
	}
	return "'" + strings.ReplaceAll(text, "'", `'\''`) + "'"
}

// Literal is text as a string constant of Postgres, in characters that can be seen.
func Literal(text string) string {
	text = strings.ReplaceAll(text, "'", "''")
	if !strings.ContainsFunc(text, func(r rune) bool { return !unicode.IsPrint(r) || r == '\\' }) {
		return "'" + text + "'"
	}
	var quoted strings.Builder
	for _, r := range text {
		switch {
		case r == '\\':
			quoted.WriteString(`\\`)
		case unicode.IsPrint(r):
			quoted.WriteRune(r)
		default:
			fmt.Fprintf(&quoted, `\+%06X`, r)
		}
	}
	return "U&'" + quoted.String() + "'"
}
