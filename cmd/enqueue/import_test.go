package main

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/lastseat/lastseat/internal/clitest"
)

const transfersHeader = "key,from_account,to_account,amount,currency,description\n"

// transfers is a CSV of n good transfers of 0.01, with the keys k2, k3 ... on lines 2 to n+1, but for the lines in bad.
func transfers(n int, bad map[int]string) string {
	var file strings.Builder
	file.WriteString(transfersHeader)
	for line := 2; line <= n+1; line++ {
		row, isBad := bad[line]
		if !isBad {
			row = fmt.Sprintf("k%d,bank,ada,0.01,EUR,", line)
		}
		file.WriteString(row + "\n")
	}
	return file.String()
}

func (s *shop) importFile(t *testing.T, content string, flags ...string) clitest.Result {
	t.Helper()
	name := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(name, []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
	return s.enqueue(t, append([]string{"import", name, "--output", "json"}, flags...)...)
}

type importCounts struct {
	Lines, Requests, Duplicates int
	Accounts                    int `json:"accounts_opened"`
	Resources                   int `json:"resources_defined"`
}

func counted(t *testing.T, r clitest.Result, want importCounts) {
	t.Helper()
	var got importCounts
	if err := json.Unmarshal([]byte(r.Out), &got); err != nil || got != want {
		t.Errorf("printed %q (%v), want %+v", r.Out, err, want)
	}
}

// Line 17 is wrong, in every way: it is named, and nothing of its chunk is written. With chunks of 5 the three before
// are in, the message says so, and the same file, mended, brings the rest.
func TestImportBadLine(t *testing.T) {
	t.Parallel()
	s := newShop(t)
	cases := 0
	for name, bad := range map[string]struct{ row, says string }{
		"amount zero":        {"@17,bank,ada,0,EUR,", `"0"`},
		"amount negative":    {"@17,bank,ada,-1.00,EUR,", `"-1.00"`},
		"amount out of int":  {"@17,bank,ada,92233720368547758.08,EUR,", "out of range"},
		"too many decimals":  {"@17,bank,ada,1.005,EUR,", "3 decimals"},
		"no amount":          {"@17,bank,ada,,EUR,", `""`},
		"unknown currency":   {"@17,bank,ada,1,XQQ,", `"XQQ"`},
		"unknown account":    {"@17,nobody,ada,1,EUR,", `there is no account "nobody"`},
		"the same account":   {"@17,ada,ada,1,EUR,", "two accounts"},
		"empty key":          {",bank,ada,1,EUR,", "key is empty"},
		"long key":           {strings.Repeat("k", 201) + ",bank,ada,1,EUR,", "too long"},
		"key reused":         {"@3,bank,ada,0.02,EUR,", `@3" `},
		"key reused in it":   {"@16,bank,ada,0.02,EUR,", `@16" `},
		"NUL":                {"@17,bank,ada,1,EUR,a\x00b", "NUL"},
		"not UTF-8":          {"@17,bank,ada,1,EUR,\xff", "UTF-8"},
		"64 KiB":             {"@17,bank,ada,1,EUR," + strings.Repeat("d", 64<<10), "64 KiB"},
		"2 MiB":              {"@17,bank,ada,1,EUR," + strings.Repeat("d", 2<<20), "1 MiB"},
		"a field too few":    {"@17,bank,ada,1", "fields"},
		"a field too many":   {"@17,bank,ada,1,EUR,a,b", "fields"},
		"a stray quote":      {`@17,ba"nk,ada,1,EUR,`, "quote"},
		"JSON in a CSV file": {`{"kind":"payment.transfer"}`, ""},
	} {
		cases++
		prefix := fmt.Sprintf("case-%d-", cases)
		t.Run(name, func(t *testing.T) {
			named := func(rows string) string { return strings.ReplaceAll(rows, "@", prefix) }
			file := named(strings.ReplaceAll(transfers(30, map[int]string{17: bad.row}), "\nk", "\n@"))
			before := s.balance(t, "ada")

			whole := s.importFile(t, file)
			whole.Fails(t, 65, "line 17: ", named(bad.says))
			counted(t, whole, importCounts{})
			s.asked(t, prefix, 0)

			chunks := s.importFile(t, file, "--chunk", "5")
			chunks.Fails(t, 65, "line 17: ", named(bad.says), "everything up to line 16 is in")
			counted(t, chunks, importCounts{Lines: 16, Requests: 15})
			s.asked(t, prefix, 15)

			mended := s.importFile(t, named(strings.ReplaceAll(transfers(30, nil), "\nk", "\n@")), "--chunk", "7")
			mended.Succeeds(t)
			counted(t, mended, importCounts{Lines: 31, Requests: 30, Duplicates: 15})
			s.drain(t)
			if got := s.balance(t, "ada") - before; got != 30 {
				t.Errorf("ada got %d, want 30", got)
			}
		})
	}
}

// asked demands a number of requests whose keys begin with prefix, and as many jobs.
func (s *shop) asked(t *testing.T, prefix string, want int) {
	t.Helper()
	var requests, jobs int
	err := s.pool.QueryRow(t.Context(), `
		SELECT (SELECT count(*) FROM lastseat.requests WHERE starts_with(key, $1)), (SELECT count(*) FROM lastseat.river_job
		  WHERE starts_with(args ->> 'key', $1))`, prefix).Scan(&requests, &jobs)
	if err != nil || requests != want || jobs != want {
		t.Errorf("%d requests and %d jobs are in (%v), want %d", requests, jobs, err, want)
	}
}

// A chunk that fails opens no account either.
func TestImportOpensNothingInVain(t *testing.T) {
	t.Parallel()
	s := newShop(t)
	file := transfers(20, map[int]string{3: "k3,new,newer,1,EUR,", 17: "k3,new,newest,2,EUR,"})
	s.importFile(t, file, "--open-accounts").Fails(t, 65, "line 17: ", `line 3 has used the key "k3" already`)
	s.expect(t, "4 accounts, 0 requests, 0 jobs")
	s.importFile(t, file, "--open-accounts", "--chunk", "15").Fails(t, 65, "line 17: ", "up to line 16 is in")
	s.expect(t, "6 accounts, 15 requests, 15 jobs")
	var limit *int64
	if err := s.pool.QueryRow(t.Context(),
		`SELECT overdraft_limit FROM lastseat.accounts WHERE id = 'newer'`).Scan(&limit); err != nil || limit != nil {
		t.Errorf("newer's limit is %v, %v; want none", limit, err)
	}
}

// A file that is not what it should be stops the import before anything is written.
func TestImportBadFile(t *testing.T) {
	t.Parallel()
	s := newShop(t)
	const line = `{"kind":"payment.transfer","key":"k","args":{"from":"bank","to":"ada","amount":1,"currency":"EUR"}}` +
		"\n"
	wide := strings.Replace(line, `"amount"`, `"description":"`+strings.Repeat("d", 64<<10)+`","amount"`, 1)
	for name, bad := range map[string]struct{ content, says string }{
		"empty":     {"", "empty"},
		"of blanks": {"\n \n", "empty"},
		"unknown column": {"key,from_account,to_account,amount,currency,colour\n",
			`line 1: column "colour" is unknown`},
		"missing column": {"key,from_account,to_account,amount\n", `line 1: column "currency" is missing`},
		"column twice": {"key,key,from_account,to_account,amount,currency\n",
			"line 1: column \"key\" is there twice"},
		"no header":        {"k,bank,ada,1,EUR,\n", "line 1: the header"},
		"binary":           {"\x7fELF\x00\x01\x02", "line 1: "},
		"UTF-16":           {"\xff\xfek\x00e\x00y\x00", "line 1: "},
		"cut in a row":     {transfers(3, nil) + "k9,bank,a", "line 5: the row has 3 fields"},
		"cut in a quote":   {transfers(3, nil) + `k9,bank,ada,1,EUR,"and`, "line 5: a quote in this row is never closed"},
		"cut in an object": {line + line[:40], "line 2: the file ends inside a JSON object"},
		"a JSON array":     {"[" + line + "]", "line 1: a JSON array"},
		"args an array":    {line + `{"kind":"payment.transfer","key":"l","args":[1]}`, "line 2: args"},
		"args a number":    {line + `{"kind":"payment.transfer","key":"l","args":7}`, "line 2: args"},
		"args null":        {line + `{"kind":"payment.transfer","key":"l","args":null}`, "line 2: args"},
		"no args":          {line + `{"kind":"payment.transfer","key":"l"}`, `line 2: member "args" is missing`},
		"unknown member": {line + `{"kind":"payment.transfer","key":"l","args":{},"at":1}`,
			`line 2: member "at" is unknown`},
		"unknown kind": {line + `{"kind":"payment.gift","key":"l","args":{}}`,
			`line 2: there is no kind "payment.gift"`},
		"unknown argument": {line + strings.Replace(line, `"amount"`, `"tip":1,"amount"`, 1),
			`line 2: payment.transfer has no argument "tip"`},
		"argument in capitals": {line + strings.Replace(line, `"amount"`, `"Amount"`, 1),
			`line 2: payment.transfer has no argument "Amount"`},
		"amount as text":       {strings.Replace(line, ":1,", `:"1",`, 1), `line 1: "amount" is "1"`},
		"amount with decimals": {strings.Replace(line, ":1,", `:1.5,`, 1), `line 1: "amount" is 1.5`},
		"amount beyond int64": {strings.Replace(line, ":1,", `:9223372036854775808,`, 1),
			`line 1: "amount" is 9223372036854775808`},
		"amount beyond float": {strings.Replace(line, ":1,", `:1e400,`, 1), `line 1: `},
		"another key in args": {strings.Replace(line, `"amount"`, `"key":"other","amount"`, 1), "line 1: the arguments"},
		"NUL in a key":        {strings.Replace(line, `"k"`, `"\u0000"`, 1), "line 1: the escape"},
		"NUL in an argument":  {strings.Replace(line, `"ada"`, `"a\u0000"`, 1), "line 1: the escape"},
		"64 KiB of arguments": {line + strings.Replace(wide, `"k"`, `"l"`, 1), "64 KiB"},
		"key in line break":   {strings.Replace(line, `"bank"`, `"a\nb"`, 1), `line 1: "from" has U+000A`},
	} {
		t.Run(name, func(t *testing.T) {
			before := s.census(t)
			got := s.importFile(t, bad.content)
			got.Fails(t, 65, bad.says)
			s.expect(t, before)
			if len(got.Err) > 1000 {
				t.Errorf("the line is %d bytes long", len(got.Err))
			}
		})
	}
	s.enqueue(t, "import", filepath.Join(t.TempDir(), "none.csv")).Fails(t, 65, "none.csv")
	s.enqueue(t, "import", t.TempDir()).Fails(t, 65, "is a directory")
}

// What works: each format, from a file and from stdin, with the accounts' file first; and again, which changes nothing.
func TestImportFormats(t *testing.T) {
	t.Parallel()
	s := newShop(t)
	const accounts = "account,currency,overdraft\r\n" + `"Smith, Ann",EUR,100.00` +
		"\r\nshop,EUR,\r\nmint,EUR,unlimited\r\n"
	const lines = `{"kind":"payment.transfer","key":"j1","args":{"from":"Smith, Ann","to":"shop","amount":250,"currency":"EUR","metadata":{"order":7}}}
{"kind":"own.kind","key":"j2","args":{}}`
	const rows = "\xef\xbb\xbfamount,currency,key,to_account,from_account\n1.50,EUR,c1,shop,mint\n\n2,EUR,c2,\"Smith, " +
		"Ann\",shop\n"
	for _, want := range []struct {
		file          string
		first, second importCounts
	}{
		{accounts, importCounts{Lines: 4, Accounts: 3}, importCounts{Lines: 4}},
		{lines, importCounts{Lines: 2, Requests: 2}, importCounts{Lines: 2, Requests: 2, Duplicates: 2}},
		{rows, importCounts{Lines: 4, Requests: 2}, importCounts{Lines: 4, Requests: 2, Duplicates: 2}},
		{transfersHeader, importCounts{}, importCounts{}},
	} {
		first := runIn(t, s.url, strings.NewReader(want.file), "import", "-", "-o", "json")
		first.Succeeds(t)
		counted(t, first, want.first)
		second := s.importFile(t, want.file)
		second.Succeeds(t)
		counted(t, second, want.second)
	}
	// nobody here settles it
	s.exec(t, `UPDATE lastseat.river_job SET state = 'cancelled', finalized_at = now() WHERE kind = 'own.kind'`)
	s.drain(t)
	for account, want := range map[string]int64{"Smith, Ann": -50, "shop": 200, "mint": -150} {
		if got := s.balance(t, account); got != want {
			t.Errorf("%s has %d, want %d", account, got, want)
		}
	}
}
