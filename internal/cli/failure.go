package cli

import (
	"errors"
	"fmt"
	"io"
	"regexp"
	"strings"

	"github.com/jackc/pgx/v5/pgconn"

	"github.com/lastseat/lastseat/internal/config"
	"github.com/lastseat/lastseat/internal/importfile"
	"github.com/lastseat/lastseat/internal/jsonsafe"
	"github.com/lastseat/lastseat/outbox"
	"github.com/lastseat/lastseat/schema"
)

// failure is an error as it stands in JSON.
type failure struct {
	Code    string `json:"code"`
	Message string `json:"message"`
	Hint    string `json:"hint,omitempty"`
}

// exitNames are the codes in JSON of errors that are none of the SQL functions'.
var exitNames = map[int]string{
	ExitViolation: "error", ExitRefused: "refused", ExitUsage: "usage", ExitData: "data",
	ExitUnavailable: "unavailable", ExitUnknown: "unknown", ExitNoRight: "no_right", ExitConfig: "configuration",
}

// failureOf tells the code, the message and the hint of an error apart.
func failureOf(err error, exit int) failure {
	f := failure{Code: exitNames[exit], Message: Line(err)}
	refused := (*pgconn.PgError)(nil)
	if errors.As(err, &refused) && strings.HasPrefix(refused.Code, "LS") {
		f.Code = refused.Code
		hint := InCommands(printable(strings.TrimSuffix(refused.Hint, ".")))
		f.Message = strings.Replace(f.Message, " ("+refused.Code+")", "", 1)
		if before, after, found := strings.Cut(f.Message, ". "+hint); found && hint != "" {
			f.Message, f.Hint = before+after, hint
		}
		return f
	}
	coded, file := (*Error)(nil), (*importfile.Error)(nil)
	if errors.As(err, &coded) || errors.As(err, &file) || errors.As(err, new(*config.Error)) ||
		errors.As(err, new(*schema.VersionError)) || errors.As(err, new(*SilenceError)) ||
		errors.As(err, new(*pgconn.ConnectError)) || exit == ExitNoRight || exit == ExitUnknown ||
		errors.Is(err, outbox.ErrUnknown) {
		f.Message, f.Hint = splitHint(f.Message)
	}
	return f
}

var lineNumber = regexp.MustCompile(`^line \d+$`)

// splitHint divides "what is wrong: what to type" at the last colon that stands neither in quotes nor in brackets.
func splitHint(line string) (message, hint string) {
	quoted, depth, at := false, 0, -1
	for i := range len(line) {
		switch {
		case line[i] == '"' && (i == 0 || line[i-1] != '\\'):
			quoted = !quoted
		case quoted:
		case line[i] == '(' || line[i] == '{':
			depth++
		case line[i] == ')' || line[i] == '}':
			depth = max(0, depth-1)
		case depth == 0 && strings.HasPrefix(line[i:], ": "):
			at = i
		}
	}
	if at < 0 || lineNumber.MatchString(line[:at]) {
		return line, ""
	}
	return line[:at], line[at+2:]
}

// print writes the error on one line: as text after the program's name, or as JSON.
func (f failure) print(w io.Writer, program string, asJSON bool, text string) {
	if asJSON {
		_ = jsonsafe.Encode(w, map[string]failure{"error": f})
		return
	}
	_, _ = fmt.Fprintf(w, "%s: %s\n", program, text)
}

// wantsJSON tells whether the arguments ask for JSON, even if they can't be parsed.
func wantsJSON(args []string) bool {
	for i, arg := range args {
		switch arg {
		case "--":
			return false
		case "-ojson", "-o=json", "--output=json":
			return true
		case "-o", "--output":
			if i+1 < len(args) && args[i+1] == "json" {
				return true
			}
		}
	}
	return false
}

// sqlLiteral is a string as format('%L') writes it.
const sqlLiteral = `( ?E?'(?:[^'\\]|''|\\.)*')`

// commands are what the hints of the SQL functions mean on the command line.
var commands = []struct {
	sql *regexp.Regexp
	as  string // with the SQL's literal in place of %s
}{
	{regexp.MustCompile(`SELECT lastseat\.open_account\(` + sqlLiteral + `, 'EUR'\)`),
		"enqueue account --id %s --currency EUR"},
	{regexp.MustCompile(`SELECT lastseat\.define_resource\(` + sqlLiteral + `, 1\)`),
		"enqueue resource --id %s --capacity 1"},
	{regexp.MustCompile(`SELECT lastseat\.define_limit\(` + sqlLiteral + `, 4\)`),
		"enqueue limit --group %s --per-customer 4"},
	{regexp.MustCompile(`SELECT lastseat\.authorize\(\.\.\.\)`), "enqueue authorize --help says how"},
	{regexp.MustCompile(`SELECT lastseat\.hold\(\.\.\.\)`), "enqueue hold --help says how"},
	{regexp.MustCompile(`lastseat\.outcomes_since\(''\)`), "enqueue watch --from-beginning"},
	{regexp.MustCompile(`lastseat\.outcomes_since\(` + sqlLiteral + `\)`), "enqueue watch --after %s"},
	{regexp.MustCompile(`lastseat\.outcomes_cursor\(\)`), "enqueue watch"},
	{regexp.MustCompile(`null means (unbounded|without bound)`), "unlimited means without bound"},
	{regexp.MustCompile(`0 or more minor units`), "0 or more"},
}

// InCommands puts commands in the place of the SQL that a hint of our functions has.
func InCommands(text string) string {
	for _, c := range commands {
		text = c.sql.ReplaceAllStringFunc(text, func(found string) string {
			if !strings.Contains(c.as, "%s") {
				return c.as
			}
			return fmt.Sprintf(c.as, shellWord(unquoteSQL(c.sql.FindStringSubmatch(found)[1])))
		})
	}
	return text
}

func unquoteSQL(literal string) string {
	literal = strings.TrimLeft(literal, " ")
	body := strings.TrimPrefix(literal, "E")
	text := strings.ReplaceAll(body[1:len(body)-1], "''", "'")
	if body != literal {
		text = strings.ReplaceAll(text, `\\`, `\`)
	}
	return text
}

var plainWord = regexp.MustCompile(`^[\pL\pN_./:@%+,-]+$`)

// shellWord quotes a word for a shell, if it needs that.
func shellWord(word string) string {
	if plainWord.MatchString(word) {
		return word
	}
	return "'" + strings.ReplaceAll(word, "'", `'\''`) + "'"
}
