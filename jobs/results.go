package jobs

import (
	"time"

	"github.com/lastseat/lastseat/outbox"
)

// applied is the answer of an operation that did its work.
func applied(code string, detail any) (outbox.Result, error) {
	return outbox.Result{Status: outbox.Applied, Code: code, Detail: detail}, nil
}

// reject is a refusal. A function that may refuse returns nil if it does not.
func reject(code string, detail any) *outbox.Result {
	result := outbox.Reject(code, detail)
	return &result
}

// resultOf is a refusal as an operation's answer; without one, the empty answer that goes with an error.
func resultOf(refused *outbox.Result) outbox.Result {
	if refused == nil {
		return outbox.Result{}
	}
	return *refused
}

// inUTC writes a time for the detail of an outcome, the same wherever the worker runs. It is text, because a job that
// was inserted directly may have a time whose year JSON has no form for.
func inUTC(t time.Time) string { return t.UTC().Format(time.RFC3339Nano) }
