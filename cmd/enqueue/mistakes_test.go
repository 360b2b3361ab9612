package main

import (
	"bytes"
	"compress/gzip"
	"encoding/json"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"unicode/utf16"

	"github.com/lastseat/lastseat/internal/testdb"
)

// mistake is a command line as somebody may type it, and what the error has to say: the value, and what to type.
type mistake struct {
	args string // words; '_' stands for a blank inside of one, FILE for the file
	file string // its content
	url  string // instead of the shop's DATABASE_URL; "-": none
	code int
	says []string
}

// goisms are what only a programmer of this program understands, and SQL that nobody types into a shell.
var goisms = regexp.MustCompile(`strconv|ParseInt|invalid syntax|unmarshal|json:|pflag|context (deadline|canceled)|\bnil\b|` +
	`%!|goroutine|SELECT |lastseat\.[a-z]+_?[a-z]*\(|\bEOF\b|sql:|arg\(s\)|flag\(s\)|invalid argument|dial tcp|LS00\d.*LS00\d`)

const pay = "transfer --key k --from bank --to ada --amount 1.00 --currency EUR "

func mistakes(t *testing.T, s *shop) map[string]mistake {
	t.Helper()
	const header = "key,from_account,to_account,amount,currency\n"
	changed := func(change func(*url.URL)) string {
		at, err := url.Parse(s.url)
		if err != nil {
			t.Fatal(err)
		}
		change(at)
		return at.String()
	}
	asRole := func(role string) string { return testdb.As(t, s.pool, role) }
	noPassword := changed(func(u *url.URL) { u.User = url.UserPassword("nobody_here", "wrong") })
	return map[string]mistake{
		"schema too old": {pay, "", schemaAt(t, -1), 78, []string{"this program needs version", `worker migrate up`}},
		// a newer schema has all functions that this program calls
		"schema too new": {pay, "", schemaAt(t, 1), 65, []string{`there is no account "bank"`, "enqueue account --id bank"}},
		// commands and flags
		"command mistyped":       {"trasnfer --key k --from a", "", "", 64, []string{`"trasnfer"`, "did you mean enqueue transfer?"}},
		"command of the other":   {"migrate up", "", "", 64, []string{`"migrate"`, "the commands are account"}},
		"no command":             {"", "", "", 64, []string{"a command is needed", "transfer"}},
		"plural":                 {"outcomes k", "", "", 64, []string{`"outcomes"`, "enqueue outcome?"}},
		"capitals":               {"Transfer --key k", "", "", 64, []string{`"Transfer"`, "enqueue transfer?"}},
		"flag mistyped":          {"transfer --kee k", "", "", 64, []string{"--kee", "did you mean --key?"}},
		"flag underscored":       {"authorize --key k --expires_in 1h", "", "", 64, []string{"--expires_in", "--expires-in?"}},
		"one hyphen":             {"transfer -key k", "", "", 64, []string{"-key", "write --key"}},
		"a dash":                 {"transfer —key k", "", "", 64, []string{"—key", "write --key"}},
		"flag of another":        {"void --key k --payment p --amount 1", "", "", 64, []string{"--amount", "the flags of enqueue void"}},
		"no value":               {"transfer --from bank --key", "", "", 64, []string{"--key", "write --key KEY"}},
		"flags missing":          {"transfer --key k", "", "", 64, []string{"--amount, --currency, --from and --to are missing", "--amount AMOUNT"}},
		"key missing":            {"void --payment p", "", "", 64, []string{"--key is missing", "enqueue void --key KEY"}},
		"word too many":          {pay + "now", "", "", 64, []string{`"now"`, "enqueue transfer --key KEY"}},
		"amount and currency":    {"transfer --key k --amount 12.50 EUR", "", "", 64, []string{`"EUR"`, "--amount", "its flag"}},
		"two where one belongs":  {"balance bank ada", "", "", 64, []string{"2 words", "enqueue balance ACCOUNT"}},
		"none where one belongs": {"statement", "", "", 64, []string{"ACCOUNT is missing", "enqueue statement ACCOUNT"}},
		"format unknown":         {"list --output yaml", "", "", 64, []string{`"yaml"`, `"text", "json" or "csv"`}},
		"status unknown":         {"list --status reject", "", "", 64, []string{`"reject"`, "did you mean rejected?"}},
		"both times": {"authorize --key k --payment p --from bank --to ada --amount 1 --currency EUR --expires-in 1h --expires-at " +
			"2026-12-01T00:00:00Z", "", "", 64, []string{"--expires-in and --expires-at", "give one"}},
		"neither time": {"extend --key k --reservation r", "", "", 64, []string{"--expires-in or --expires-at", "enqueue extend"}},

		// values
		"duration without unit":  {pay + "--wait 5", "", "", 64, []string{`--wait is "5"`, "10s"}},
		"duration in words":      {pay + "--wait soon", "", "", 64, []string{`--wait is "soon"`, "10s"}},
		"negative wait":          {pay + "--wait -5s", "", "", 64, []string{"--wait is -5s", "0s or longer"}},
		"limit in words":         {"list --limit all", "", "", 64, []string{`--limit is "all"`, "a whole number"}},
		"capacity beyond bigint": {"resource --id r --capacity 9223372036854775808", "", "", 64, []string{"9223372036854775808", "out of range"}},
		"capacity broken":        {"resource --id r --capacity 1.5", "", "", 64, []string{`--capacity is "1.5"`, "a whole number"}},
		"time without offset": {"extend --key k --reservation r --expires-at 2026-12-01T10:00:00", "", "", 64,
			[]string{`"2026-12-01T10:00:00"`, "2026-12-01T10:00:00Z for UTC"}},
		"time with a blank": {"extend --key k --reservation r --expires-at 2026-12-01_10:00:00", "", "", 64,
			[]string{"2026-12-01T10:00:00Z for UTC"}},
		"time in words":      {"extend --key k --reservation r --expires-at tomorrow", "", "", 64, []string{`"tomorrow"`, "2026-11-23T12:00:00Z"}},
		"range of one time":  {"hold --key k --reservation r --item seat --during 2026-12-01T10:00:00Z", "", "", 64, []string{`"2026-12-01T10:00:00Z"`, "/2026-12-01T11:30:00Z"}},
		"since in words":     {"list --since yesterday", "", "", 64, []string{`"yesterday"`, "1h or 7d"}},
		"three decimals":     {"transfer --key k --from bank --to ada --amount 1.005 --currency EUR", "", "", 65, []string{`"1.005"`, "never rounded"}},
		"exponent":           {"transfer --key k --from bank --to ada --amount 1e3 --currency EUR", "", "", 65, []string{`"1e3"`, "such as 12.50"}},
		"decimal comma":      {"transfer --key k --from bank --to ada --amount 12,50 --currency EUR", "", "", 65, []string{`"12,50"`, "such as 12.50"}},
		"thousands":          {"transfer --key k --from bank --to ada --amount 1.234,50 --currency EUR", "", "", 65, []string{`"1.234,50"`, "such as 12.50"}},
		"negative amount":    {"transfer --key k --from bank --to ada --amount=-1 --currency EUR", "", "", 65, []string{"--amount is -1", "swap the accounts"}},
		"amount zero":        {"transfer --key k --from bank --to ada --amount 0 --currency EUR", "", "", 65, []string{"--amount is 0", "more than 0"}},
		"yen with sen":       {"transfer --key k --from tokyo --to ada --amount 1.50 --currency JPY", "", "", 65, []string{`"1.50"`, "JPY has no decimals"}},
		"currency small":     {"transfer --key k --from bank --to ada --amount 1 --currency eur", "", "", 65, []string{`"eur"`, "upper case: write EUR"}},
		"currency a sign":    {"transfer --key k --from bank --to ada --amount 1 --currency €", "", "", 65, []string{`"€"`, "such as EUR"}},
		"currency unknown":   {"transfer --key k --from bank --to ada --amount 1 --currency EURO", "", "", 65, []string{`"EURO"`, "such as EUR"}},
		"swapped":            {"transfer --key k --from bank --to ada --amount EUR --currency 12.50", "", "", 65, []string{`"12.50"`, `"EUR"`, "swap them"}},
		"one account":        {"transfer --key k --from bank --to bank --amount 1 --currency EUR", "", "", 65, []string{"--from and --to", `"bank"`, "two accounts"}},
		"empty account":      {"transfer --key k --from= --to ada --amount 1 --currency EUR", "", "", 65, []string{"--from is empty", "1 to 200 characters"}},
		"empty key":          {"transfer --key= --from bank --to ada --amount 1 --currency EUR", "", "", 65, []string{"key", "1 to 200 characters"}},
		"account unknown":    {"transfer --key k --from bank --to 'adda --amount 1 --currency EUR", "", "", 65, []string{`"'adda"`, `enqueue account --id ''\''adda' --currency EUR`}},
		"payment unknown":    {"capture --key k --payment p-9", "", "", 65, []string{`"p-9"`, "enqueue authorize"}},
		"resource unknown":   {"hold --key k --reservation r --item hall/A9", "", "", 65, []string{`"hall/A9"`, "enqueue resource --id hall/A9 --capacity 1"}},
		"group unknown":      {"resource --id r --capacity 1 --group hall", "", "", 65, []string{`"hall"`, "enqueue limit --group hall --per-customer 4"}},
		"key unknown":        {"outcome order-9999", "", "", 65, []string{`"order-9999"`, "check the key"}},
		"key of a wait":      {"wait order-9999", "", "", 65, []string{`no request has the key "order-9999"`, "check the name"}},
		"account of none":    {"balance adda", "", "", 65, []string{`there is no account "adda"`, "check the name"}},
		"expired at once":    {"hold --key k --reservation r --item seat --expires-in -5m", "", "", 64, []string{"--expires-in is -5m0s", "give a time longer than 0s"}},
		"metadata no JSON":   {pay + "--metadata order=7", "", "", 65, []string{`"order=7"`, `'{"order": 7}'`}},
		"metadata a list":    {pay + "--metadata [7]", "", "", 65, []string{"--metadata is [7]", "a JSON object"}},
		"quantity none":      {"hold --key k --reservation r --item seat=0", "", "", 65, []string{`"seat=0"`, "from 1"}},
		"key reused":         {"transfer --key paid --from bank --to ada --amount 2 --currency EUR", "", "", 65, []string{`"paid"`, "Take a new key"}},
		"retry of a settled": {"retry paid", "", "", 65, []string{`"paid"`, "A new key"}},

		// database
		"no DATABASE_URL":     {"outcome k", "", "-", 78, []string{"DATABASE_URL", "postgres://USER:PASSWORD@HOST"}},
		"DATABASE_URL no URL": {"outcome k", "", "shop at localhost", 78, []string{"DATABASE_URL", "postgres://USER:PASSWORD@HOST"}},
		"password with an @":  {"outcome k", "", "postgres://u:p/w@x@localhost/shop", 78, []string{"DATABASE_URL", "%40"}},
		"nobody listens":      {"outcome k", "", "postgres://u@127.0.0.1:1/shop", 69, []string{"127.0.0.1:1", "refused", "DATABASE_URL"}},
		"no such host":        {"outcome k", "", "postgres://u@db.invalid/shop", 69, []string{"db.invalid", "DATABASE_URL"}},
		"wrong user":          {"outcome k", "", noPassword, 77, []string{"nobody_here", "password in DATABASE_URL"}},
		"no such database":    {"outcome k", "", changed(func(u *url.URL) { u.Path = "/shopp" }), 78, []string{`"shopp"`, "createdb"}},
		"schema not migrated": {"outcome k", "", testdb.Empty(t), 78, []string{`"lastseat"`, "worker migrate up"}},
		"no rights":           {pay, "", asRole("lastseat_viewer"), 77, []string{"permission denied", "lastseat_producer"}},
		"no rights to list":   {"list", "", asRole("lastseat_producer"), 77, []string{"permission denied", "lastseat_viewer"}},
		"member of none":      {"outcome k", "", asRole(""), 77, []string{"permission denied", "lastseat_producer"}},

		// files
		"no such file":     {"import nowhere.csv", "", "", 65, []string{`"nowhere.csv"`, "check the name"}},
		"a directory":      {"import .", "", "", 65, []string{`"."`, "a file in it"}},
		"empty":            {"import FILE", "\ufeff", "", 65, []string{"empty", "key,from_account"}},
		"semicolons":       {"import FILE", "key;from_account;to_account;amount;currency\nk;bank;ada;1,00;EUR\n", "", 65, []string{"semicolons", "write commas"}},
		"semicolons below": {"import FILE", header + "k;bank;ada;1.00;EUR\n", "", 65, []string{"line 2", "semicolons", "write commas"}},
		"tabs":             {"import FILE", "key\tfrom_account\tto_account\tamount\tcurrency\n", "", 65, []string{"tabs", "write commas"}},
		"UTF-16":           {"import FILE", utf16le(header + "k,bank,ada,1,EUR\n"), "", 65, []string{"UTF-16", "save it as UTF-8"}},
		"Windows-1252":     {"import FILE", header + "k,bank,caf\xe9,1,EUR\n", "", 65, []string{"line 2", "0xe9", "iconv -f WINDOWS-1252"}},
		"gzip":             {"import FILE", gzipped(t, header), "", 65, []string{"compressed", "gunzip -c FILE | enqueue import -"}},
		"a spreadsheet":    {"import FILE", "PK\x03\x04rest", "", 65, []string{"spreadsheet", "as CSV in UTF-8"}},
		"MT940":            {"import FILE", ":20:STARTUMS\n:25:1/2\n", "", 65, []string{"MT940", "header key,"}},
		"CAMT":             {"import FILE", "<?xml version=\"1.0\"?>\n<Document>\n", "", 65, []string{"XML", "header key,"}},
		"header twice":     {"import FILE", header + "k,bank,ada,1,EUR\n" + header, "", 65, []string{"line 3", "header", "leave this line out"}},
		"header unknown":   {"import FILE", "id,payer,payee,sum\n", "", 65, []string{`"id,payer,payee,sum"`, "key,from_account"}},
		"column unknown":   {"import FILE", "key,from_account,to_account,amount,currency,colour\n", "", 65, []string{`"colour"`, "description"}},
		"no header":        {"import FILE", "k,bank,ada,1,EUR\n", "", 65, []string{`"k,bank,ada,1,EUR"`, "key,from_account"}},
		"field missing":    {"import FILE", header + "k,bank,ada,1\n", "", 65, []string{"4 fields and the header 5", "currency"}},
		"field too many":   {"import FILE", header + "k,bank,ada,1,250.00,EUR\n", "", 65, []string{"6 fields", "a point in amounts"}},
		"comma in a field": {"import FILE", header + "k,bank,ada,1,EUR\nk2,Smith, Ann,ada,1,EUR\n", "", 65, []string{"line 3", `("Smith, Ann")`}},
		"quote left open":  {"import FILE", header + "k,\"bank,ada,1,EUR\nk2,a,b,1,EUR\n", "", 65, []string{"line 2", "never closed"}},
		"cut":              {"import FILE", header + "k,bank,ada,1,EUR", "", 65, []string{`"EUR"`, "--allow-missing-newline"}},
		"amount in words":  {"import FILE", header + "k,bank,ada,one,EUR\n", "", 65, []string{"line 2", `"one"`, "12.50"}},
		"a JSON array":     {"import FILE", "[{\"kind\":\"x\"}]\n", "", 65, []string{"array", "one object a line"}},
		"JSON broken":      {"import FILE", "{\"kind\":\"x\",\"key\":\"k\",\"args\":{},}\n", "", 65, []string{"line 1", "write {"}},
		"kind mistyped": {"import FILE", `{"kind":"payment.tranfer","key":"k","args":{}}` + "\n", "", 65,
			[]string{`"payment.tranfer"`, "did you mean payment.transfer?"}},
		"chunk none": {"import FILE --chunk 0", header, "", 64, []string{"--chunk is 0", "1 to 10000"}},
	}
}

// Every error names the value that is wrong and says what to type, on one line, in the words of the command line: as
// text, and as JSON with a code, a message and a hint.
func TestMistakes(t *testing.T) {
	t.Parallel()
	s := newShop(t)
	s.transfer(t, "paid").Succeeds(t)
	s.enqueue(t, "resource", "--id", "seat", "--capacity", "1").Succeeds(t)
	s.drain(t)
	all := mistakes(t, s)
	if len(all) < 60 {
		t.Errorf("%d mistakes, want 60", len(all))
	}
	before := s.census(t)
	for name, m := range all {
		t.Run(name, func(t *testing.T) {
			for _, asJSON := range []bool{false, true} {
				m.try(t, s, asJSON)
			}
		})
	}
	s.expect(t, before)
}

func (m mistake) try(t *testing.T, s *shop, asJSON bool) {
	t.Helper()
	var args []string
	for word := range strings.FieldsSeq(m.args) {
		if word == "FILE" {
			word = filepath.Join(t.TempDir(), "file.csv")
			if err := os.WriteFile(word, []byte(m.file), 0o600); err != nil {
				t.Fatal(err)
			}
		}
		if strings.HasPrefix(word, "2026-12-01_") {
			word = strings.ReplaceAll(word, "_", " ")
		}
		args = append(args, word)
	}
	if asJSON && m.args != "list --output yaml" {
		args = append([]string{"--output", "json"}, args...)
	}
	url := s.url
	switch m.url {
	case "":
	case "-":
		url = ""
	default:
		url = m.url
	}
	got := runIn(t, url, nil, args...)
	if got.Code != m.code {
		t.Errorf("exit code %d, want %d", got.Code, m.code)
	}
	if strings.Contains(got.Err, "unknown object") { // the words of Go's sentinel
		t.Errorf("stderr is %q", got.Err)
	}
	if got.Out != "" && !strings.HasPrefix(m.args, "import") {
		t.Errorf("stdout is %q, want nothing", got.Out)
	}
	told := got.Err
	if asJSON && m.args != "list --output yaml" {
		told = readFailure(t, got.Err)
	} else if lines := strings.Count(told, "\n"); lines != 1 &&
		(lines != 2 || m.code != 64 || !strings.Contains(told, "\nTry 'enqueue")) {
		t.Errorf("%d lines: %q", lines, told)
	}
	for _, want := range m.says {
		if !strings.Contains(told, want) {
			t.Errorf("JSON %v: it says %q, without %q", asJSON, told, want)
		}
	}
	if slip := goisms.FindString(told); slip != "" {
		t.Errorf("JSON %v: it says %q, in %q", asJSON, slip, told)
	}
}

// readFailure demands an error as JSON, with all that it has.
func readFailure(t *testing.T, errs string) (told string) {
	t.Helper()
	var got struct {
		Error struct{ Code, Message, Hint string } `json:"error"`
	}
	dec := json.NewDecoder(strings.NewReader(errs))
	dec.DisallowUnknownFields()
	if err := dec.Decode(&got); err != nil || strings.Count(errs, "\n") != 1 {
		t.Fatalf("%q is no error as JSON (%v)", errs, err)
	}
	if got.Error.Code == "" || got.Error.Message == "" || got.Error.Hint == "" {
		t.Errorf("it has no code, message or hint: %s", errs)
	}
	return got.Error.Message + ": " + got.Error.Hint
}

// schemaAt is a database whose schema is so many sets of functions ahead of this program.
func schemaAt(t *testing.T, ahead int) string {
	t.Helper()
	url := testdb.New(t)
	testdb.Exec(t, testdb.Pool(t, url), `UPDATE lastseat.schema_functions SET version = version + $1, digest = 'feed'`, ahead)
	return url
}

func utf16le(text string) string {
	var b bytes.Buffer
	b.WriteString("\xff\xfe")
	for _, unit := range utf16.Encode([]rune(text)) {
		b.WriteByte(byte(unit))
		b.WriteByte(byte(unit >> 8))
	}
	return b.String()
}

func gzipped(t *testing.T, text string) string {
	t.Helper()
	var b bytes.Buffer
	w := gzip.NewWriter(&b)
	if _, err := w.Write([]byte(text)); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return b.String()
}
