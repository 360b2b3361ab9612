// Package naming decides which text may be a key or an id, and says what is wrong with any other. Two keys that look
// alike are two requests, so every character of a key can be seen: none is invisible, unassigned, a control character,
// or changes the direction of what follows. The only spaces are U+0020 and U+3000, which look like what they are.
//
// Keys and ids are compared byte by byte. They are not normalized: é is U+00E9 or U+0065 U+0301, and these are two
// keys.
//
// The SQL functions have the same tables (schema/functions/names.sql). Both are generated from Go's Unicode tables, so
// that a newer Go does not change what a database takes.
package naming

import (
	"fmt"
	"unicode"
	"unicode/utf8"
)

//go:generate go run ./generate

// Longest is how many characters a key or an id may have.
const Longest = 200

// Rule is what a name has to obey, for messages.
const Rule = "keys and ids hold letters, digits, punctuation, symbols and spaces (U+0020), and no character that " +
	"can't be seen"

// Check says what is wrong with the characters of a name, or returns "". What it says continues a sentence that begins
// with what the name is: "the key" has U+200B as character 8, after "order-7". It does not look at the length.
func Check(name string) string {
	seen := false
	place := 0
	for i, r := range name {
		place++
		switch {
		case r > ' ' && r < 0x7f: // almost all are
			seen = true
		case r == utf8.RuneError && invalidAt(name[i:]):
			return fmt.Sprintf("has a byte that is not UTF-8 as character %d%s", place, after(name[:i]))
		case unicode.Is(visible, r):
			seen = true
		case r != ' ' && r != '\u3000' && !unicode.Is(marks, r):
			return fmt.Sprintf("has U+%04X as character %d%s", r, place, after(name[:i]))
		}
	}
	if !seen && name != "" {
		return "has nothing in it that can be seen"
	}
	return ""
}

func invalidAt(text string) bool {
	_, size := utf8.DecodeRuneInString(text)
	return size == 1
}

// after shows the end of what comes before a character.
func after(before string) string {
	const most = 20
	if before == "" {
		return ""
	}
	if runes := []rune(before); len(runes) > most {
		before = string(runes[len(runes)-most:])
	}
	return fmt.Sprintf(`, after "%s"`, before) // %q would escape what can be seen
}
