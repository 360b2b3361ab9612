package main

import (
	"encoding/csv"
	"encoding/json"
	"fmt"
	"io"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/lastseat/lastseat/internal/cli"
	"github.com/lastseat/lastseat/jobs"
)

// history gives ada five entries of every sort, each with a time of its own.
func (s *shop) history(t *testing.T) {
	t.Helper()
	for _, step := range [][]string{
		{"transfer", "--key", "t1", "--from", "bank", "--to", "ada", "--amount", "50", "--currency", "EUR", "--description",
			`tip, "thanks"`},
		{"transfer", "--key", "t2", "--from", "bank", "--to", "ada", "--amount", "1.00", "--currency", "EUR",
			"--description", "=1+1\nnext \x1b[31mline"},
		{"reverse", "--key", "u", "--transfer", "t2"},
		{"authorize", "--key", "a", "--payment", "p", "--from", "ada", "--to", "ben", "--amount", "12.50", "--currency",
			"EUR"},
		{"capture", "--key", "key with blanks", "--payment", "p"},
		{"refund", "--key", "r", "--payment", "p", "--amount", "0.05"},
	} {
		s.enqueue(t, step...).Succeeds(t)
		s.drain(t)
	}
}

func (s *shop) entries(t *testing.T, args ...string) []jobs.Entry {
	t.Helper()
	got := s.enqueue(t, append([]string{"statement", "ada", "-o", "json"}, args...)...)
	got.Succeeds(t)
	var all []jobs.Entry
	for line := range strings.Lines(got.Out) {
		var e jobs.Entry
		if err := json.Unmarshal([]byte(line), &e); err != nil {
			t.Fatalf("%q: %v", line, err)
		}
		all = append(all, e)
	}
	return all
}

var timeOfDay = regexp.MustCompile(`\d{4}-\d\d-\d\d \d\d:\d\d:\d\d`)

func TestStatementText(t *testing.T) {
	t.Parallel()
	s := newShop(t)
	s.history(t)
	got := s.enqueue(t, "statement", "ada")
	got.Succeeds(t)
	const want = `
VERSION  AT (UTC)             AMOUNT  BALANCE EUR  COUNTERPARTY  KIND              KEY              PAYMENT  DESCRIPTION
         opening balance                     0.00
      1  2026-11-23 12:00:00   50.00        50.00  bank          payment.transfer  t1                        "tip, \"thanks\""
      2  2026-11-23 12:00:00    1.00        51.00  bank          payment.transfer  t2                        "=1+1\nnext \x1b[31mline"
      3  2026-11-23 12:00:00   -1.00        50.00  bank          payment.reverse   u
      4  2026-11-23 12:00:00  -12.50        37.50  ben           payment.capture   key with blanks  p
      5  2026-11-23 12:00:00    0.05        37.55  ben           payment.refund    r                p
         closing balance                    37.55
`
	if out := timeOfDay.ReplaceAllString(got.Out, "2026-11-23 12:00:00"); out != want[1:] {
		t.Errorf("printed\n%swant%s", out, want)
	}
}

func TestStatementJSON(t *testing.T) {
	t.Parallel()
	s := newShop(t)
	s.history(t)
	got := s.enqueue(t, "statement", "ada", "--output", "json", "--after-version", "3", "--limit", "1")
	got.Succeeds(t)
	expectMembers(t, got.Out, map[string]any{
		"version": 4, "amount": -1250, "balance_after": 3750, "currency": "EUR", "counterparty": "ben",
		"kind": "payment.capture", "key": "key with blanks", "payment": "p",
	})
	if all := s.entries(t); len(all) != 5 || all[1].Description != "=1+1\nnext \x1b[31mline" ||
		all[0].At.Location() != time.UTC {
		t.Errorf("the entries are %+v", all)
	}
}

// CSV is read back as it was: the description is data, whatever a spreadsheet would make of it.
func TestStatementCSV(t *testing.T) {
	t.Parallel()
	s := newShop(t)
	s.history(t)
	got := s.enqueue(t, "statement", "ada", "--output", "csv")
	got.Succeeds(t)
	rows, err := csv.NewReader(strings.NewReader(got.Out)).ReadAll()
	if err != nil {
		t.Fatal(err)
	}
	for i := range rows {
		if i > 0 {
			if _, err := time.Parse(time.RFC3339Nano, rows[i][1]); err != nil || !strings.HasSuffix(rows[i][1], "Z") {
				t.Errorf("the time %q is not UTC (%v)", rows[i][1], err)
			}
			rows[i][1] = ""
		}
	}
	want := [][]string{
		strings.Split("version,at,amount,balance_after,currency,counterparty,kind,key,payment,description", ","),
		{"1", "", "50.00", "50.00", "EUR", "bank", "payment.transfer", "t1", "", `tip, "thanks"`},
		{"2", "", "1.00", "51.00", "EUR", "bank", "payment.transfer", "t2", "", "'=1+1\nnext \\x1b[31mline"},
		{"3", "", "-1.00", "50.00", "EUR", "bank", "payment.reverse", "u", "", ""},
		{"4", "", "-12.50", "37.50", "EUR", "ben", "payment.capture", "key with blanks", "p", ""},
		{"5", "", "0.05", "37.55", "EUR", "ben", "payment.refund", "r", "p", ""},
	}
	if !slices.EqualFunc(rows, want, slices.Equal) {
		t.Errorf("the rows are %q, want %q", rows, want)
	}
	if got := s.enqueue(t, "statement", "tokyo", "-o", "csv").Out; got != strings.Join(want[0], ",")+"\n" {
		t.Errorf("without entries it is %q, want the header", got)
	}
}

// Amounts have the decimals of the account's currency.
func TestStatementDecimals(t *testing.T) {
	t.Parallel()
	s := newShop(t)
	for id, currency := range map[string]string{"osaka": "JPY", "kuwait": "KWD", "dinar": "KWD"} {
		s.enqueue(t, "account", "--id", id, "--currency", currency, "--overdraft", "unlimited").Succeeds(t)
	}
	s.transfer(t, "jpy", "--from", "tokyo", "--to", "osaka", "--amount", "1200", "--currency", "JPY").Succeeds(t)
	s.transfer(t, "kwd", "--from", "kuwait", "--to", "dinar", "--amount", "0.005", "--currency", "KWD").Succeeds(t)
	s.drain(t)
	for account, want := range map[string][]string{
		"osaka": {",1200,1200,JPY,", " 1200         1200  tokyo", "closing balance                     1200\n"},
		"tokyo": {",-1200,-1200,JPY,", " -1200        -1200  osaka", " 0\n"},
		"dinar": {",0.005,0.005,KWD,", "0.005        0.005  kuwait", " 0.000\n"}, "kuwait": {",-0.005,-0.005,KWD,",
			"-0.005       -0.005  dinar", " 0.000\n"},
	} {
		if got := s.enqueue(t, "statement", account, "-o", "csv").Out; !strings.Contains(got, want[0]) {
			t.Errorf("%s: %q does not have %q", account, got, want[0])
		}
		for _, part := range want[1:] {
			if got := s.enqueue(t, "statement", account).Out; !strings.Contains(got, part) {
				t.Errorf("%s: %q does not have %q", account, got, part)
			}
		}
	}
}

// From one time, included, to another, not included; page by page.
func TestStatementPeriod(t *testing.T) {
	t.Parallel()
	s := newShop(t)
	s.history(t)
	all := s.entries(t)
	at := func(i int) string { return all[i].At.In(time.FixedZone("", 2*60*60)).Format(time.RFC3339Nano) }
	day := func(days int) string { return all[0].At.AddDate(0, 0, days).Format(time.DateOnly) }
	for name, c := range map[string]struct {
		args             string
		versions         []int64
		opening, closing string
	}{
		"from":               {"--from " + at(2), []int64{3, 4, 5}, "51.00", "37.55"},
		"to":                 {"--to " + at(2), []int64{1, 2}, "0.00", "51.00"},
		"from, to":           {"--from " + at(1) + " --to " + at(3), []int64{2, 3}, "50.00", "50.00"},
		"from a date":        {"--from " + day(0), []int64{1, 2, 3, 4, 5}, "0.00", "37.55"},
		"to a date":          {"--to " + day(0), nil, "0.00", "0.00"},
		"from a later date":  {"--from " + day(3), nil, "37.55", "37.55"},
		"to a later date":    {"--to " + day(3), []int64{1, 2, 3, 4, 5}, "0.00", "37.55"},
		"nothing in between": {"--from " + at(2) + " --to " + at(2), nil, "51.00", "51.00"},
		"first page":         {"--limit 2", []int64{1, 2}, "0.00", "51.00"},
		"second page":        {"--limit 2 --after-version 2", []int64{3, 4}, "51.00", "37.50"},
		"after the last":     {"--after-version 5", nil, "37.55", "37.55"},
		"page of a period":   {"--limit 1 --after-version 3 --to " + at(4), []int64{4}, "50.00", "37.50"},
		"beyond a period":    {"--after-version 4 --to " + at(4), nil, "37.50", "37.50"},
	} {
		var versions []int64
		for _, e := range s.entries(t, strings.Fields(c.args)...) {
			versions = append(versions, e.Version)
		}
		if !slices.Equal(versions, c.versions) {
			t.Errorf("%s: versions %d, want %d", name, versions, c.versions)
		}
		text := s.enqueue(t, append([]string{"statement", "ada"}, strings.Fields(c.args)...)...)
		text.Succeeds(t)
		var got []string
		for _, balance := range regexp.MustCompile(`(?:opening|closing) balance +(\S+)\n`).FindAllStringSubmatch(text.Out,
			-1) {
			got = append(got, balance[1])
		}
		if !slices.Equal(got, []string{c.opening, c.closing}) || strings.Count(text.Out, "\n") != len(versions)+3 {
			t.Errorf("%s: balances %q, want %s and %s:\n%s", name, got, c.opening, c.closing, text.Out)
		}
	}
}

// lineCount counts what is written and forgets it.
type lineCount int

func (n *lineCount) Write(p []byte) (int, error) {
	*n += lineCount(strings.Count(string(p), "\n"))
	return len(p), nil
}

// Entries are written as they come: of a million, no more than a block is in memory.
func TestStatementHoldsLittleBack(t *testing.T) {
	t.Parallel()
	for _, format := range []listFormat{"text", "json", "csv"} {
		var written lineCount
		w := newStatement(format, &written, "EUR", 0)
		const entries = 20_000
		for n := range int64(entries) {
			if err := w.entry(jobs.Entry{Version: n + 1, Amount: 1, BalanceAfter: n + 1, Counterparty: "bank",
				Kind: "payment.transfer", Key: fmt.Sprint(n)}); err != nil {
				t.Fatal(err)
			}
			if held := int(n) - int(written); held > tableBlock {
				t.Fatalf("%s: %d entries are held back after %d", format, held, n)
			}
		}
		if err := w.end(entries); err != nil || written < entries {
			t.Errorf("%s: %d lines were written (%v)", format, written, err)
		}
	}
}

// A statement of many blocks, whole: the columns stay where they are, or move to the right.
func TestStatementOfManyEntries(t *testing.T) {
	t.Parallel()
	s := newShop(t)
	const entries = 3*tableBlock + 1
	s.importFile(t, transfers(entries, nil)).Succeeds(t)
	s.drain(t)
	got := s.enqueue(t, "statement", "ada")
	got.Succeeds(t)
	lines := strings.Split(strings.TrimSuffix(got.Out, "\n"), "\n")
	if len(lines) != entries+3 || !strings.HasSuffix(lines[len(lines)-1], " 6.01") {
		t.Fatalf("%d lines, the last %q", len(lines), lines[len(lines)-1])
	}
	for n, line := range lines[2 : entries+2] {
		if fields := strings.Fields(line); fields[0] != fmt.Sprint(n+1) || fields[3] != "0.01" || strings.Index(line,
			"bank") != strings.Index(lines[0], "COUNTERPARTY") {
			t.Fatalf("line %d is %q", n+2, line)
		}
	}
	if all := s.entries(t); len(all) != entries {
		t.Errorf("%d objects, want %d", len(all), entries)
	}
}

type fullDisk struct{}

func (fullDisk) Write([]byte) (int, error) { return 0, io.ErrShortWrite }

// What could not be written is an error, be it the first byte or the last.
func TestStatementWriteFails(t *testing.T) {
	t.Parallel()
	for _, format := range []listFormat{"text", "json", "csv"} {
		for _, entries := range []int64{1, 1000} {
			w := newStatement(format, fullDisk{}, "EUR", 0)
			var err error
			for n := int64(1); err == nil && n <= entries; n++ {
				err = w.entry(jobs.Entry{Version: n, Amount: 1, BalanceAfter: n, Key: "k"})
			}
			if err == nil {
				err = w.end(0)
			}
			if err == nil {
				t.Errorf("%s of %d entries: no error", format, entries)
			}
		}
	}
	s := newShop(t)
	streams := cli.Streams{Out: fullDisk{}, Err: io.Discard, Environ: []string{"DATABASE_URL=" + s.url}}
	if code := run(t.Context(), []string{"statement", "ada"}, streams); code != cli.ExitViolation {
		t.Errorf("exit code %d, want %d", code, cli.ExitViolation)
	}
}
