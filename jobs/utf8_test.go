package jobs_test

import (
	"encoding/json"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/lastseat/lastseat/internal/testdb"
	"github.com/lastseat/lastseat/jobs"
	"github.com/lastseat/lastseat/outbox"
)

// remark is of a kind of somebody's own, with text in all places.
type remark struct {
	Lines []string          `json:"lines"`
	Named map[string]any    `json:"named,omitempty"`
	Next  *remark           `json:"next,omitempty"`
	At    time.Time         `json:"at"`
	Raw   json.RawMessage   `json:"raw,omitempty"`
	Plain map[string]string // without a tag
}

func (remark) Kind() string { return "toy" }

// encoding/json writes U+FFFD for a byte that is no character. Then two texts would be the same that are not, so the
// request is refused, and the error names the argument and its value.
func TestTextThatIsNotUTF8(t *testing.T) {
	t.Parallel()
	pool := newPool(t)
	exec(t, pool, `SELECT lastseat.open_account('a', 'EUR', NULL), lastseat.open_account('b', 'EUR')`)
	transfer := func(change func(*jobs.Transfer)) jobs.Transfer {
		args := jobs.Transfer{From: "a", To: "b", Amount: 1, Currency: "EUR"}
		change(&args)
		return args
	}
	for names, request := range map[string]outbox.Request{
		`key "k\xff"`:             {Key: "k\xff", Args: transfer(func(*jobs.Transfer) {})},
		`from is "a\xff"`:         {Key: "k", Args: transfer(func(t *jobs.Transfer) { t.From = "a\xff" })},
		`description is "caf\xe9`: {Key: "k", Args: transfer(func(t *jobs.Transfer) { t.Description = "caf\xe9" })},
		`"metadata" is`:           {Key: "k", Args: transfer(func(t *jobs.Transfer) { t.Metadata = json.RawMessage("{\"a\":\"\xe9\"}") })},
		`items[1].resource is`:    {Key: "k", Args: jobs.Hold{Reservation: "r", Items: []jobs.Item{{Resource: "x"}, {Resource: "\xc0"}}}},
		`lines[0] is`:             {Key: "k", Args: remark{Lines: []string{"\xed\xa0\x80"}}},
		`named.a[0] is`:           {Key: "k", Args: &remark{Named: map[string]any{"a": []any{"\xff"}}}},
		`named.a name is`:         {Key: "k", Args: remark{Named: map[string]any{"\xff": 1}}},
		`next.Plain.x is`:         {Key: "k", Args: remark{Next: &remark{Plain: map[string]string{"x": "\xff"}}}},
		`"raw" is`:                {Key: "k", Args: remark{Raw: json.RawMessage("\"\xff\"")}},
		`"x" is`:                  {Key: "k", Args: outbox.RawArgs{Of: "toy", JSON: json.RawMessage("{\"x\":\"\xff\"}")}},
	} {
		_, err := outbox.EnqueueMany(t.Context(), pool, []outbox.Request{request})
		if !errors.Is(err, outbox.ErrInvalid) || !strings.Contains(err.Error(), names) ||
			!strings.Contains(err.Error(), "not UTF-8") {
			t.Errorf("the error is %v, want one that says %q", err, names)
		}
	}
	// U+FFFD itself is text like any other, where it is no key and no id.
	for key, args := range map[string]outbox.Args{
		"raw": outbox.RawArgs{Of: "toy", JSON: json.RawMessage(`{"x":"\ufffd"}`)}, "text": remark{Lines: []string{"\ufffd"}},
		"description": transfer(func(t *jobs.Transfer) { t.Description, t.Metadata = "\ufffd", json.RawMessage(`{"a":"\ufffd"}`) }),
	} {
		if _, err := outbox.EnqueueMany(t.Context(), pool, []outbox.Request{{Key: key, Args: args}}); err != nil {
			t.Errorf("%s: %v", key, err)
		}
	}
	if n := testdb.Scalar[int](t, pool, `SELECT count(*) FROM lastseat.requests`); n != 3 {
		t.Errorf("%d requests, want 3", n)
	}
}
