package importfile

import (
	"fmt"
	"strconv"
	"unicode/utf8"

	"github.com/lastseat/lastseat/internal/naming"
)

// Error says what is wrong with a file, in one line that names the value and what to do.
type Error struct {
	Line int    // from 1; in a record of several lines, that of the field at fault; 0: the file as a whole
	Msg  string // without the line
	Err  error  // where reading failed: the error of the io.Reader. nil: the file's content is wrong
}

// Error is "line 17: " and the message.
func (e *Error) Error() string {
	if e.Line == 0 {
		return e.Msg
	}
	return fmt.Sprintf("line %d: %s", e.Line, e.Msg)
}

// Unwrap returns Err, so that a caller can tell a broken pipe from broken content.
func (e *Error) Unwrap() error { return e.Err }

func errorf(line int, format string, args ...any) *Error {
	return &Error{Line: line, Msg: fmt.Sprintf(format, args...)}
}

// quote keeps an error to one line of bearable length whatever the value holds.
func quote(s string) string {
	const longest = 60
	if utf8.RuneCountInString(s) <= longest {
		return strconv.Quote(s)
	}
	return strconv.Quote(string([]rune(s)[:longest])) + fmt.Sprintf("... (%d characters)", utf8.RuneCountInString(s))
}

// checkID says what is wrong with an id or a key, or nothing. That it is UTF-8 without NUL is known: lines
// and checkEscapes see to that.
func checkID(name, id string) string {
	if id == "" {
		return fmt.Sprintf("%s is empty: give it 1 to %d characters", name, naming.Longest)
	}
	if n := utf8.RuneCountInString(id); n > naming.Longest {
		return fmt.Sprintf("%s %s is too long: give it 1 to %d characters", name, quote(id), naming.Longest)
	}
	if fault := naming.Check(id); fault != "" {
		return fmt.Sprintf("%s %s: %s", name, fault, naming.Rule)
	}
	return ""
}
