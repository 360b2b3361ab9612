package schema_test

import (
	"strings"
	"testing"
	"unicode"
	"unicode/utf8"

	"github.com/jackc/pgx/v5"

	"github.com/lastseat/lastseat/internal/naming"
	"github.com/lastseat/lastseat/internal/testdb"
)

// SQL and Go let the same characters pass: of every code point the tables say the same, and what is said of a name is
// the same, at both sides of every place where the tables change.
func TestNamesInSQLAndGo(t *testing.T) {
	t.Parallel()
	pool := migrated(t)
	listed := func(function string) map[rune]bool {
		all := make(map[rune]bool)
		for _, r := range column[rune](t, pool, `SELECT generate_series(lower(r), upper(r) - 1)
			FROM unnest(lastseat.`+function+`()) r`) {
			all[r] = true
		}
		return all
	}
	visible, marks := listed("visible_characters"), listed("marks_characters")
	var names []string
	before := false
	for r := rune(1); r <= unicode.MaxRune; r++ {
		if !utf8.ValidRune(r) {
			continue
		}
		alone, behind := naming.Check(string(r)), naming.Check("a"+string(r))
		space := r == ' ' || r == '\u3000'
		if (alone == "") != visible[r] || (behind == "") != (visible[r] || marks[r] || space) {
			t.Fatalf(
				"U+%04X: SQL has it in visible: %t, in marks: %t; Go says %q and %q",
				r,
				visible[r],
				marks[r],
				alone,
				behind,
			)
		}
		if class := visible[r] || marks[r]; class != before || space {
			names = append(names, string(r-1), string(r), "a"+string(r-1), "a"+string(r), "  "+string(r),
				strings.Repeat("ü", 30)+string(r)+"b", string(r)+string(r))
			before = class
		}
	}
	if len(names) < 500 {
		t.Fatalf("%d names", len(names))
	}
	names = append(names, "", "a b", " a ", "\t", "a\x7f", "\u00a0", "order\u200b7", "\u202egro", "é", "e\u0301")
	rows, err := pool.Query(
		t.Context(),
		`SELECT name, coalesce(lastseat.name_fault(name), '') FROM unnest($1::text[]) name`,
		names,
	)
	if err != nil {
		t.Fatal(err)
	}
	var name, fault string
	if _, err := pgx.ForEachRow(rows, []any{&name, &fault}, func() error {
		if want := naming.Check(name); fault != want {
			t.Errorf("%q: SQL says %q, Go %q", name, fault, want)
		}
		return nil
	}); err != nil {
		t.Fatal(err)
	}
}

// badNames can be no key and no id, each for another reason.
var badNames = map[string]string{
	"order\u200b7": `has U+200B as character 6, after "order"`,
	"\ufeffa":      "has U+FEFF as character 1",
	"a\u202eb":     `has U+202E as character 2, after "a"`,
	"a\nb":         "has U+000A",
	"a\tb":         "has U+0009",
	"a\x7f":        "has U+007F",
	"a\u0085":      "has U+0085",
	"a\u00ad":      "has U+00AD",
	"a\u0378":      "has U+0378",
	"a\u00a0b":     "has U+00A0",
	"a\u2003b":     "has U+2003",
	"a\u2028":      "has U+2028",
	"a\ufe0f":      "has U+FE0F",
	"a\u034f":      "has U+034F",
	"\u3164":       "has U+3164",
	"\u2800":       "has U+2800",
	"a\ue000":      "has U+E000",
	"a\ufffd":      "has U+FFFD",
	"a\uffff":      "has U+FFFF",
	"a\U000e0041":  "has U+E0041",
	" ":            "has nothing in it that can be seen",
	"\u0301":       "has nothing in it that can be seen",
	"\u3000 ":      "has nothing",
}

// Every function that gives something a name refuses a bad one, and says which character it is.
func TestBadNames(t *testing.T) {
	t.Parallel()
	pool := migrated(t)
	openAccounts(t, pool)
	exec(t, pool, `SELECT lastseat.define_resource('seat', 9)`)
	for bad, why := range badNames {
		for what, call := range map[string]string{
			"the key":         `transfer($1, 'bank', 'ada', 1, 'EUR')`,
			"the account id":  `open_account($1, 'EUR')`,
			"the resource id": `define_resource($1, 1)`,
			`"limit_group"`:   `define_limit($1, 1)`,
			`"from"`:          `transfer('k', $1, 'ada', 1, 'EUR')`,
			`"to"`:            `transfer('k', 'bank', $1, 1, 'EUR')`,
			`"payment"`:       `authorize('k', $1, 'bank', 'ada', 1, 'EUR')`,
			`"reservation"`:   `hold('k', $1, '[{"resource": "seat"}]')`,
			`"customer"`:      `hold('k', 'r', '[{"resource": "seat"}]', customer => $1)`,
			`"resource of item 2"`: `hold('k', 'r', jsonb_build_array('{"resource": "seat"}'::jsonb,
				jsonb_build_object('resource', $1::text)))`,
			`"transfer"`:          `reverse('k', $1)`,
			"the kind":            `enqueue($1, 'k', '{}')`,
			`request 1 (bad key)`: `enqueue_many(jsonb_build_array(jsonb_build_object('kind', 'toy', 'key', $1::text, 'args', '{}'::jsonb)))`,
		} {
			_, err := ask(t, pool, call, bad)
			wantContract(t, err, "LS002", what, why)
		}
	}
	for _, good := range []string{"a b", " a", "a ", "東京\u3000駅", "é", "e\u0301", "😀", "нет", "مرحبا", "x\u0e31", "#",
		"~"} {
		mustAsk(t, pool, `transfer($1, 'bank', 'ada', 1, 'EUR')`, good)
	}
	if n := testdb.Scalar[int](t, pool, `SELECT count(*) FROM lastseat.requests WHERE key IN ('é', E'e\u0301')`); n != 2 {
		t.Errorf("é in two forms of Unicode is %d keys, want 2: keys are compared by bytes", n)
	}
}
