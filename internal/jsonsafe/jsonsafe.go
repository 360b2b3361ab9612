// Package jsonsafe writes JSON that comes through: numbers that JavaScript would round are text, and characters that
// can't be seen are escapes. What it writes means the same as before to whoever reads numbers of 64 bits and escapes.
package jsonsafe

import (
	"encoding/json"
	"fmt"
	"io"
	"unicode"
	"unicode/utf16"
	"unicode/utf8"
)

// exact is 2^53 - 1, the largest integer that JavaScript tells apart from its neighbours (Number.MAX_SAFE_INTEGER).
const exact = "9007199254740991"

// Numbers puts quotes around each integer of a JSON text that is beyond +-(2^53 - 1). A number with a fraction or an
// exponent stays as it is.
func Numbers(text []byte) []byte {
	var safe []byte // nil: nothing has changed
	from := 0
	for i := 0; i < len(text); {
		switch c := text[i]; {
		case c == '"':
			i = endOfString(text, i)
		case c == '-' || '0' <= c && c <= '9':
			end := endOfNumber(text, i)
			if isRounded(text[i:end]) {
				safe = append(append(append(append(safe, text[from:i]...), '"'), text[i:end]...), '"')
				from = end
			}
			i = end
		default:
			i++
		}
	}
	if from == 0 {
		return text
	}
	return append(safe, text[from:]...)
}

func endOfString(text []byte, i int) int {
	for i++; i < len(text) && text[i] != '"'; i++ {
		if text[i] == '\\' {
			i++
		}
	}
	return min(i+1, len(text))
}

func endOfNumber(text []byte, i int) int {
	for i++; i < len(text); i++ {
		switch c := text[i]; {
		case '0' <= c && c <= '9', c == '.', c == 'e', c == 'E', c == '+', c == '-':
		default:
			return i
		}
	}
	return i
}

func isRounded(number []byte) bool {
	if number[0] == '-' {
		number = number[1:]
	}
	for _, c := range number {
		if c < '0' || '9' < c {
			return false
		}
	}
	return len(number) > len(exact) || len(number) == len(exact) && string(number) > exact
}

// Visible writes every character of a JSON text as an escape that a terminal obeys, or that changes the order in which
// it shows others. Such characters stand in strings only.
func Visible(text []byte) []byte {
	var safe []byte
	from := 0
	for i := 0; i < len(text); {
		r, size := utf8.DecodeRune(text[i:])
		if Moves(r) {
			safe = append(safe, text[from:i]...)
			if high, low := utf16.EncodeRune(r); high != unicode.ReplacementChar {
				safe = fmt.Appendf(safe, `\u%04x\u%04x`, high, low)
			} else {
				safe = fmt.Appendf(safe, `\u%04x`, r)
			}
			from = i + size
		}
		i += size
	}
	if from == 0 {
		return text
	}
	return append(safe, text[from:]...)
}

// Moves tells whether a character can do something to a terminal, or to the order in which it shows others.
func Moves(r rune) bool {
	return r != '\n' && r != '\t' && (unicode.IsControl(r) || unicode.Is(unicode.Cf, r))
}

// Marshal is [json.Marshal], with [Numbers] and [Visible].
func Marshal(value any) ([]byte, error) {
	text, err := json.Marshal(value)
	if err != nil {
		return nil, err
	}
	return Visible(Numbers(text)), nil
}

// Encode writes a value on a line of its own.
func Encode(w io.Writer, value any) error {
	line, err := Marshal(value)
	if err != nil {
		return err
	}
	_, err = w.Write(append(line, '\n'))
	return err
}
