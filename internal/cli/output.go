package cli

import (
	"encoding/json"
	"fmt"
	"io"
	"regexp"
	"strconv"
	"strings"
	"time"
	"unicode"

	"github.com/spf13/cobra"

	"github.com/lastseat/lastseat/internal/jsonsafe"
	"github.com/lastseat/lastseat/outbox"
)

// Output is the value of --output.
type Output string

// String, Set and Type make an Output a flag.
func (o *Output) String() string { return string(*o) }

// Set accepts text and json.
func (o *Output) Set(value string) error {
	if value != "text" && value != "json" {
		return fmt.Errorf(`it is "text" or "json"`)
	}
	*o = Output(value)
	return nil
}

// Type is what the help shows.
func (o *Output) Type() string { return "text|json" }

// AddOutput gives root and all its commands the flag --output.
func AddOutput(root *cobra.Command) *Output {
	output := Output("text")
	root.PersistentFlags().VarP(&output, "output", "o", "how to print results")
	_ = root.RegisterFlagCompletionFunc("output", cobra.FixedCompletions([]string{"text", "json"},
		cobra.ShellCompDirectiveNoFileComp))
	return &output
}

// Print writes value as one JSON object on a line, or text. Control and formatting characters in text are stored data
// of somebody's own, such as the error of a job: they are shown escaped, and don't move a terminal's cursor.
func (o *Output) Print(w io.Writer, value any, text string) error {
	if *o == "json" {
		return jsonsafe.Encode(w, value)
	}
	_, err := fmt.Fprintln(w, escaped(text))
	return err
}

func escaped(text string) string {
	if !strings.ContainsFunc(text, jsonsafe.Moves) {
		return text
	}
	var safe strings.Builder
	for _, r := range text {
		if jsonsafe.Moves(r) {
			safe.WriteString(strings.Trim(strconv.QuoteRune(r), "'"))
		} else {
			safe.WriteRune(r)
		}
	}
	return safe.String()
}

// Cell is a cell of a CSV file that a terminal and a spreadsheet only show: control and formatting characters are
// escaped, as in text, and what a spreadsheet would run as a formula gets an apostrophe in front. A number stays one.
func Cell(text string) string {
	if text = escaped(text); formulaStart.MatchString(text) && !plainNumber.MatchString(text) {
		return "'" + text
	}
	return text
}

var (
	formulaStart = regexp.MustCompile("^[=+@\t\n\uff1d\uff0b\uff0d\uff20-]")
	plainNumber  = regexp.MustCompile(`^[+-]?[0-9]+([.][0-9]+)?$`)
)

// outcome is an outcome as the commands print it: a missing code is null.
type outcome struct {
	Key         string          `json:"key"`
	Kind        string          `json:"kind"`
	Status      outbox.Status   `json:"status"`
	Code        *string         `json:"code"`
	Detail      json.RawMessage `json:"detail"`
	Attempts    int             `json:"attempts"`
	JobID       int64           `json:"job_id"`
	RequestedAt time.Time       `json:"requested_at"`
	SettledAt   *time.Time      `json:"settled_at"`
	Duplicate   bool            `json:"duplicate"`
}

// OutcomeLine is an outcome as it stands in JSON output.
func OutcomeLine(of outbox.Outcome, duplicate bool) any { return outcomeLine(of, duplicate) }

func outcomeLine(of outbox.Outcome, duplicate bool) outcome {
	line := outcome{
		Key: of.Key, Kind: of.Kind, Status: of.Status, Detail: of.Detail, Attempts: of.Attempts, JobID: of.JobID,
		RequestedAt: of.RequestedAt, SettledAt: of.SettledAt, Duplicate: duplicate,
	}
	if of.Code != "" {
		line.Code = &of.Code
	}
	return line
}

// PrintOutcome writes an outcome. duplicate says that the key had been used before, for the same request.
func (o *Output) PrintOutcome(w io.Writer, of outbox.Outcome, duplicate bool) error {
	text := fmt.Sprintf("%s  %s  %s", Word(of.Key), of.Kind, of.Status)
	if of.Code != "" {
		text += "  " + of.Code
	}
	if of.Detail != nil {
		text += "  " + string(of.Detail)
	}
	if duplicate {
		text += "  (duplicate)"
	}
	return o.Print(w, outcomeLine(of, duplicate), text)
}

// Word quotes an id that might look like two words, take a line of its own, or move a terminal's cursor.
func Word(id string) string {
	if strings.Contains(id, " ") {
		return strconv.Quote(id)
	}
	return OneLine(id)
}

// OneLine quotes a text with line breaks or control characters.
func OneLine(text string) string {
	if quoted := strconv.Quote(text); quoted != `"`+text+`"` {
		return quoted
	}
	return text
}

// printable keeps control characters away from the terminal, and leaves the rest as it is.
func printable(text string) string {
	return strings.Join(strings.FieldsFunc(strings.Map(func(r rune) rune {
		if unicode.IsControl(r) {
			return '\n'
		}
		return r
	}, text), func(r rune) bool { return r == '\n' }), " ")
}
