package history_test

import (
	"testing"

	"github.com/lastseat/lastseat/internal/history"
)

// What Go encodes and what Postgres prints of it as jsonb have one form, and other values another.
func TestCanonical(t *testing.T) {
	t.Parallel()
	for _, same := range [][]string{
		{`{"a":1,"bb":[true,null]}`, `{"bb": [true, null], "a": 1}`, `{"a":2,"bb":[true,null],"a":1}`},
		{`1.50`, `15e-1`, `1.5`}, {`-0`, `0`, `0.00`}, {`1e21`, `1000000000000000000000`}, {`100`, `1E+2`},
		{`"\u003c\u00e9"`, `"<é"`}, {`{}`, ` { } `},
	} {
		for _, text := range same[1:] {
			if a, b := history.Canonical([]byte(same[0])), history.Canonical([]byte(text)); string(a) != string(b) {
				t.Errorf("%s is %s, %s is %s", same[0], a, text, b)
			}
		}
	}
	for _, other := range [][2]string{
		{`1`, `"1"`}, {`[1,2]`, `[12]`}, {`{"a":null}`, `{}`}, {`10`, `1`}, {`0.1`, `0.01`}, {`-1`, `1`},
		{`["a,b"]`, `["a","b"]`},
		{`9007199254740993`, `9007199254740992`},
	} {
		if string(history.Canonical([]byte(other[0]))) == string(history.Canonical([]byte(other[1]))) {
			t.Errorf("%s and %s are one", other[0], other[1])
		}
	}
}

// A link's hash depends on all that it says, and on the link before.
func TestHash(t *testing.T) {
	t.Parallel()
	base := history.Link{Chain: "c", Number: 1, Relation: "r", Keys: []string{"ab", "c"}, Digests: [][]byte{{1}, {2}}}
	seen := map[string]string{}
	for name, change := range map[string]func(*history.Link){
		"nothing":  func(*history.Link) {},
		"chain":    func(l *history.Link) { l.Chain = "d" },
		"number":   func(l *history.Link) { l.Number = 2 },
		"relation": func(l *history.Link) { l.Relation = "s" },
		"keys":     func(l *history.Link) { l.Keys = []string{"a", "bc"} },
		"digests":  func(l *history.Link) { l.Digests = [][]byte{{2}, {1}} },
		"fewer":    func(l *history.Link) { l.Keys, l.Digests = l.Keys[:1], l.Digests[:1] },
	} {
		changed := base
		change(&changed)
		hash := string(changed.Hash(nil))
		if other, twice := seen[hash]; twice {
			t.Errorf("%s and %s have one hash", name, other)
		}
		seen[hash] = name
	}
	if string(base.Hash(nil)) == string(base.Hash([]byte{1})) {
		t.Error("the link before does not matter")
	}
}
