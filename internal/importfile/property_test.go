package importfile

import (
	"bytes"
	"encoding/csv"
	"encoding/json"
	"errors"
	"fmt"
	"reflect"
	"strconv"
	"strings"
	"testing"
	"unicode/utf8"

	"pgregory.net/rapid"

	"github.com/lastseat/lastseat/internal/money"
	"github.com/lastseat/lastseat/internal/naming"
)

// show prints records with what their pointers point to.
func show(records []Record) string {
	var b strings.Builder
	for _, r := range records {
		fmt.Fprintf(&b, "\n  line %d:", r.Line)
		switch {
		case r.Account != nil && r.Account.OverdraftLimit != nil:
			fmt.Fprintf(&b, " %+v %d", *r.Account, *r.Account.OverdraftLimit)
		case r.Account != nil:
			fmt.Fprintf(&b, " %+v", *r.Account)
		case r.Resource != nil:
			fmt.Fprintf(&b, " %+v", *r.Resource)
		case r.Request != nil:
			fmt.Fprintf(&b, " %s %q %s", r.Request.Kind, r.Request.Key, r.Request.Args)
		}
	}
	return b.String()
}

// ids and texts hold what CSV has to quote. No '\r': before a newline CSV drops it, see TestReader.
var (
	ids = rapid.StringOfN(rapid.OneOf(rapid.SampledFrom([]rune("ab \",'é😀#;{")), rapid.Rune().Filter(func(r rune) bool {
		return naming.Check("a"+string(r)) == ""
	})), 1, 200, -1).Filter(func(s string) bool { return naming.Check(s) == "" })
	texts = rapid.StringOfN(rapid.OneOf(rapid.SampledFrom([]rune("ab \",\n'é😀#;{")), rapid.Rune()), 0, 200,
		-1).Filter(storable)
	currencies = rapid.SampledFrom([]string{"EUR", "JPY", "KWD", "CLF"})
)

func storable(s string) bool { return !strings.ContainsAny(s, "\x00\r") }

// drawTable draws one of the three tables: its columns, its rows, and the records that they stand for.
func drawTable(t *rapid.T) (columns []string, rows [][]string, want []Record) {
	format := rapid.SampledFrom([]string{FormatTransfers, FormatAccounts, FormatResources}).Draw(t, "format")
	for range rapid.IntRange(0, 8).Draw(t, "rows") {
		var row []string
		var record Record
		id, currency := ids.Draw(t, "id"), currencies.Draw(t, "currency")
		switch format {
		case FormatTransfers:
			key, description := ids.Draw(t, "key"), texts.Draw(t, "description")
			to := ids.Filter(func(s string) bool { return s != id }).Draw(t, "to")
			amount := rapid.Int64Min(1).Draw(t, "amount")
			metadata := rapid.SampledFrom([]string{"", `{"order": 7}`, `{"a,b": ["\"", 1.50]}`}).Draw(t, "metadata")
			row = []string{key, id, to, money.Format(amount, currency), currency, description, metadata}
			args := map[string]any{"from": id, "to": to, "amount": amount, "currency": currency}
			if description != "" {
				args["description"] = description
			}
			if metadata != "" {
				args["metadata"] = json.RawMessage(metadata)
			}
			raw, err := json.Marshal(args)
			if err != nil {
				t.Fatal(err)
			}
			record.Request = &Request{Kind: "payment.transfer", Key: key, Args: raw}
		case FormatAccounts:
			minor := rapid.Int64Min(0).Draw(t, "overdraft")
			row = []string{id, currency, money.Format(minor, currency)}
			record.Account = &Account{id, currency, &minor}
			if rapid.Bool().Draw(t, "unlimited") {
				row[2], record.Account.OverdraftLimit = "unlimited", nil
			}
		case FormatResources:
			capacity := rapid.Int64Min(0).Draw(t, "capacity")
			overbook := rapid.Int64Range(0, 1<<62).Filter(func(n int64) bool { return capacity+n >= 0 }).Draw(t, "overbook")
			row = []string{id, strconv.FormatInt(capacity, 10), strconv.FormatInt(overbook, 10)}
			record.Resource = &Resource{id, capacity, &overbook}
			if rapid.Bool().Draw(t, "no overbook") {
				row[2], record.Resource.Overbook = "", nil
			}
		}
		rows, want = append(rows, row), append(want, record)
	}
	for _, s := range schemas {
		if s.format == format {
			columns = s.columns
		}
	}
	return columns, rows, want
}

// writeCSV writes a table with its columns in any order, blank lines anywhere between rows, and either line ending.
// It notes in want on which line each record starts.
func writeCSV(t *rapid.T, columns []string, rows [][]string, want []Record) string {
	order := rapid.Permutation(indices(len(columns))).Draw(t, "order")
	var b bytes.Buffer
	if rapid.Bool().Draw(t, "byte order mark") {
		b.WriteString("\ufeff")
	}
	w := csv.NewWriter(&b)
	w.UseCRLF = rapid.Bool().Draw(t, "CRLF")
	for i, row := range append([][]string{columns}, rows...) {
		for range rapid.IntRange(0, 2).Draw(t, "blank lines") {
			b.WriteString(rapid.SampledFrom([]string{"\n", "\r\n", " \t\n"}).Draw(t, "blank line"))
		}
		if i > 0 {
			want[i-1].Line = 1 + strings.Count(b.String(), "\n")
		}
		shuffled := make([]string, len(row))
		for to, from := range order {
			shuffled[to] = row[from]
		}
		if err := w.Write(shuffled); err != nil {
			t.Fatal(err)
		}
		w.Flush()
	}
	file := b.String()
	if rapid.Bool().Draw(t, "no last newline") {
		file = strings.TrimSuffix(strings.TrimSuffix(file, "\n"), "\r")
	}
	return file
}

func indices(n int) []int {
	all := make([]int, n)
	for i := range all {
		all[i] = i
	}
	return all
}

func TestWhatIsWrittenAsCSVComesBack(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		columns, rows, want := drawTable(t)
		file := writeCSV(t, columns, rows, want)
		_, records, err := readAllWith(strings.NewReader(file), Options{UnendedLastLine: true})
		if err != nil {
			t.Fatalf("%v\n%s", err, file)
		}
		if got, want := parsedArgs(t, records), parsedArgs(t, want); !reflect.DeepEqual(got, want) {
			t.Fatalf("\n got %v\nwant %v\n%s", show(records), show(want), file)
		}
	})
}

// Wherever a file is cut, what is left of it has the records of the whole, or is refused: no row changes its meaning.
func TestWhatIsCutChangesNoRecord(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		columns, rows, want := drawTable(t)
		file := writeCSV(t, columns, rows, want)
		cut := file[:rapid.IntRange(0, len(file)).Draw(t, "bytes")]
		_, records, err := readAll(strings.NewReader(cut))
		got, whole := parsedArgs(t, records), parsedArgs(t, want)
		if len(got) > len(whole) || len(got) > 0 && !reflect.DeepEqual(got, whole[:len(got)]) {
			t.Fatalf("%v\n got %v\nof %v\n%q", err, show(got), show(whole), cut)
		}
		if err == nil && len(got) > strings.Count(cut, "\n") {
			t.Fatalf("a row without a line end was taken\n%q", cut)
		}
	})
}

// parsedArgs makes arguments comparable whatever the order of their members.
func parsedArgs(t *rapid.T, records []Record) []Record {
	for _, r := range records {
		if r.Request == nil {
			continue
		}
		var args map[string]any
		dec := json.NewDecoder(bytes.NewReader(r.Request.Args))
		dec.UseNumber()
		if err := dec.Decode(&args); err != nil {
			t.Fatal(err)
		}
		raw, err := json.Marshal(args)
		if err != nil {
			t.Fatal(err)
		}
		r.Request.Args = raw
	}
	return records
}

func TestWhatIsWrittenAsJSONLinesComesBack(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		var file strings.Builder
		var want []Record
		for i := range rapid.IntRange(1, 8).Draw(t, "requests") {
			kind, key := ids.Draw(t, "kind"), ids.Draw(t, "key")
			// Written by hand: no JSON library writes numbers and spaces like these.
			args := fmt.Sprintf(`{%s"n":-%d.%de+%d ,"s":%s}`, rapid.SampledFrom([]string{"", " ", "\t"}).Draw(t, "space"),
				rapid.Uint64().Draw(t, "whole"), rapid.Uint64().Draw(t, "fraction"), rapid.Uint8().Draw(t, "exponent"),
				asJSON(t, texts.Draw(t, "s")))
			members := rapid.Permutation([]string{`"kind":` + asJSON(t, kind), `"key": ` + asJSON(t, key), `"args":` +
				args}).Draw(t, "members")
			file.WriteString("{" + strings.Join(members, ", ") + "}\n")
			want = append(want, Record{Line: i + 1, Request: &Request{Kind: kind, Key: key, Args: []byte(args)}})
		}
		_, records, err := readAll(strings.NewReader(file.String()))
		if err != nil || !reflect.DeepEqual(records, want) {
			t.Fatalf("%v\n got %s\nwant %s", err, show(records), show(want))
		}
	})
}

func asJSON(t *rapid.T, s string) string {
	raw, err := json.Marshal(s)
	if err != nil {
		t.Fatal(err)
	}
	return string(raw)
}

func FuzzReader(f *testing.F) {
	for _, seed := range []string{
		"", "\ufeff", "{", "[]", transfersHeader, transfersHeader + "k1,a,b,12.50,EUR,\"x\n\"\"y\"\r\n\n",
		transfersHeader + "k1,a,b,12.50,EUR,\"x", accountsHeader + "a,EUR,unlimited\nb,JPY,1\nc,KWD,\n", resourcesHeader +
			"r,1,\nq,0,2\n",
		`{"kind":"x","key":"k","args":{"n":1e2}}` + "\n" + `{"kind":"x","key":"\ud83d\ude00","args":{}}`,
		"currency,amount,to_account,from_account,key\nEUR,1,b,a,k",
	} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, file []byte) {
		_, records, err := readAll(bytes.NewReader(file))
		lines := bytes.Count(file, []byte("\n")) + 1
		if err != nil {
			var bad *Error
			if !errors.As(err, &bad) || bad.Line < 0 || bad.Line > lines || strings.Contains(bad.Msg, "\n") ||
				len(bad.Msg) > 1000 {
				t.Fatalf("%#v of %d lines", err, lines)
			}
		}
		last := 0
		for _, r := range records {
			if r.Line <= last || r.Line > lines {
				t.Fatalf("a record at line %d after one at line %d of %d", r.Line, last, lines)
			}
			last = r.Line
			if msg := brokenPromise(r); msg != "" {
				t.Fatalf("%s: %s", msg, show([]Record{r}))
			}
		}
	})
}

// brokenPromise says what a record lacks of what its documentation promises.
func brokenPromise(r Record) string {
	badID := func(id string) bool {
		n := utf8.RuneCountInString(id)
		return n < 1 || n > 200 || !utf8.ValidString(id) || strings.Contains(id, "\x00")
	}
	switch {
	case r.Account != nil && r.Resource == nil && r.Request == nil:
		if badID(r.Account.ID) || r.Account.OverdraftLimit != nil && *r.Account.OverdraftLimit < 0 {
			return "a bad account"
		}
	case r.Account == nil && r.Resource != nil && r.Request == nil:
		overbook := int64(0)
		if r.Resource.Overbook != nil {
			overbook = *r.Resource.Overbook
		}
		if badID(r.Resource.ID) || r.Resource.Capacity < 0 || overbook < 0 || r.Resource.Capacity+overbook < 0 {
			return "a bad resource"
		}
	case r.Account == nil && r.Resource == nil && r.Request != nil:
		if badID(r.Request.Kind) || badID(r.Request.Key) || json.Unmarshal(r.Request.Args,
			&map[string]json.RawMessage{}) != nil {
			return "a bad request"
		}
	default:
		return "not exactly one of account, resource and request"
	}
	return ""
}
