package importfile

import (
	"bytes"
	"encoding/json"
	"errors"
	"strconv"
	"strings"
	"time"
	"unicode/utf16"
)

// jsonLines reads requests, one JSON object a line.
type jsonLines struct{ lines *lines }

func (j *jsonLines) read() (Record, error) {
	line, err := j.lines.skipBlank()
	if err != nil {
		return Record{}, err
	}
	if err := j.checkJSON(line); err != nil {
		return Record{}, err
	}
	request, msg := parseRequest(line)
	if msg != "" {
		return Record{}, errorf(j.lines.n, "%s", msg)
	}
	return Record{Line: j.lines.n, Request: request}, nil
}

// checkJSON makes sure that line is one JSON object that Postgres can store.
func (j *jsonLines) checkJSON(line []byte) error {
	if !json.Valid(line) {
		return j.syntaxError(line)
	}
	if bytes.TrimLeft(line, " \t\r")[0] != '{' {
		return errorf(j.lines.n, `%s is not a JSON object: write {"kind":...,"key":...,"args":{...}}`, quote(string(line)))
	}
	if msg := checkEscapes(line); msg != "" {
		return errorf(j.lines.n, "%s", msg)
	}
	return nil
}

func (j *jsonLines) syntaxError(line []byte) error {
	err := json.Unmarshal(line, new(json.RawMessage)) // says what json.Valid doesn't
	var syntax *json.SyntaxError
	switch {
	case !errors.As(err, &syntax):
		return errorf(j.lines.n, "not a JSON object: %v", err)
	case syntax.Error() != "unexpected end of JSON input":
		found, _, _ := strings.Cut(syntax.Error(), " looking for")
		return errorf(j.lines.n, "not one JSON object, at byte %d %s: write {\"kind\":...,\"key\":...,\"args\":{...}}",
			syntax.Offset, found)
	case j.lines.cut:
		return errorf(j.lines.n, "the file ends inside a JSON object: is it complete?")
	}
	return errorf(j.lines.n, "the line ends inside a JSON object: write each object on one line")
}

// parseRequest reads the envelope of a line that checkJSON let pass, token by token: unmarshalling into a struct
// would take "KEY" for "key" and the last of two keys for the one that was meant.
func parseRequest(line []byte) (request *Request, msg string) {
	request = &Request{}
	seen := map[string]bool{}
	dec := json.NewDecoder(bytes.NewReader(line))
	if _, err := dec.Token(); err != nil {
		return nil, err.Error()
	}
	for dec.More() {
		token, err := dec.Token()
		if err != nil {
			return nil, err.Error()
		}
		name, _ := token.(string)
		var value json.RawMessage
		if err := dec.Decode(&value); err != nil {
			return nil, err.Error()
		}
		if seen[name] {
			return nil, "member " + quote(name) + " is there twice: leave one"
		}
		seen[name] = true
		if msg := request.set(name, value); msg != "" {
			return nil, msg
		}
	}
	for _, name := range []string{"kind", "key", "args"} {
		if !seen[name] {
			return nil, "member " + quote(name) + " is missing: " + members
		}
	}
	return request, ""
}

const members = "a request has kind, key, args and, if need be, queue and scheduled_at"

// set takes one member of the envelope, and says what is wrong with it, or nothing.
func (r *Request) set(name string, value json.RawMessage) string {
	var text *string
	switch name {
	case "kind":
		text = &r.Kind
	case "key":
		text = &r.Key
	case "args":
		if value[0] != '{' {
			return "args " + quote(string(value)) + " is not an object: write {\"name\":value,...}"
		}
		r.Args = value
		return ""
	case "queue":
		if string(value) == "null" {
			return ""
		}
		text = &r.Queue
	case "scheduled_at":
		return r.schedule(value)
	default:
		return "member " + quote(name) + " is unknown: " + members
	}
	if value[0] != '"' || json.Unmarshal(value, text) != nil {
		return name + " " + quote(string(value)) + " is not a string: put it in quotes"
	}
	return checkID(name, *text)
}

// schedule takes the time before which the request is not done.
func (r *Request) schedule(value json.RawMessage) string {
	var text string
	if string(value) == "null" {
		return ""
	}
	if value[0] == '"' && json.Unmarshal(value, &text) == nil {
		if at, err := time.Parse(time.RFC3339, strings.ToUpper(text)); err == nil {
			r.ScheduledAt = at.UTC()
			return ""
		}
	}
	return "scheduled_at " + quote(string(value)) + ` is not a time: write it like "2026-11-23T12:00:00Z"`
}

// checkEscapes finds what JSON can escape but Postgres can't store as text, and says so while the line is
// known: jsonb would refuse it later. encoding/json would replace a half of a pair in a key, silently.
func checkEscapes(line []byte) string {
	for {
		i := bytes.IndexByte(line, '\\')
		if i < 0 {
			return ""
		}
		line = line[i:]
		code, ok := unicodeEscape(line)
		switch {
		case !ok:
			line = line[2:] // any other escape, such as \" or \\
			continue
		case code == 0:
			return `the escape \u0000 is NUL, which Postgres can't store: leave it out`
		case utf16.IsSurrogate(code):
			low, _ := unicodeEscape(line[6:])
			if utf16.DecodeRune(code, low) == '\uFFFD' {
				return "the escape " + string(line[:6]) + " is half of a surrogate pair: write the whole character"
			}
			line = line[6:]
		}
		line = line[6:]
	}
}

// unicodeEscape reads the \uXXXX that s starts with, if it does.
func unicodeEscape(s []byte) (code rune, ok bool) {
	if len(s) < 6 || s[0] != '\\' || s[1] != 'u' {
		return 0, false
	}
	n, err := strconv.ParseUint(string(s[2:6]), 16, 16)
	return rune(n), err == nil
}
