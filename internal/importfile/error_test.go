package importfile

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/lastseat/lastseat/internal/naming"
)

const (
	transfersHeader = "key,from_account,to_account,amount,currency,description\n"
	accountsHeader  = "account,currency,overdraft\n"
	resourcesHeader = "resource,capacity,overbook\n"
	columnsKnown    = "the columns of transfers are " +
		"key, from_account, to_account, amount, currency, description, metadata"
	headers = "key,from_account,to_account,amount,currency,description,metadata or account,currency,overdraft or " +
		"resource,capacity,overbook"
)

const (
	toCSV     = "convert it to a CSV file with the header key,from_account,to_account,amount,currency,description,metadata"
	mt940Hint = "this looks like MT940, a bank's statement: " + toCSV
	notWhole  = "the file ends without a line end, so this row may be cut: its last field is %q; " +
		"if that is the whole of it, add a line end or pass --allow-missing-newline"
)

type badFile struct {
	file string
	line int // 0: of the file as a whole
	want string
}

const withMetadata = "key,from_account,to_account,amount,currency,metadata\n"

func commas(between string) string {
	return "the file has " + between + " between its columns: write commas between them, and a point in amounts (12.50)"
}

const (
	emptyFile = "the file is empty: it begins with a header such as " +
		"key,from_account,to_account,amount,currency,description,metadata"
	orConvert = ", or iconv -f WINDOWS-1252 -t UTF-8 FILE"
	asObject  = `: write {"kind":...,"key":...,"args":{...}}`
)

func TestErrorsOfFiles(t *testing.T) {
	t.Parallel()
	checkErrors(t, []badFile{
		{"", 0, emptyFile},
		{"\ufeff", 0, emptyFile},
		{"\ufeff\r\n \n\n", 0, emptyFile},
		{"[{\"kind\":\"x\"}]", 1,
			"a JSON array can't be read as a stream: write one object a line, without [ ] around them or commas between"},
		{"\x1f\x8b\x08", 1, "the file is compressed: gunzip -c FILE | enqueue import -"},
		{"PK\x03\x04\x14\x00", 1, "the file is a spreadsheet or a ZIP archive: save the table as CSV in UTF-8"},
		{"\xff\xfek\x00e\x00", 1, "the file is UTF-16: save it as UTF-8"},
		{"\xfe\xff\x00k\x00e", 1, "the file is UTF-16: save it as UTF-8"},
		{"{1:F01BANKDEFFAXXX0000000000}{2:I940}{4:\n:20:STATEMENT\n", 1, mt940Hint},
		{":20:STATEMENT\r\n:25:DE1234\r\n", 1, mt940Hint},
		{"<?xml version=\"1.0\"?>\n<Document>", 1, "this looks like XML (camt.053 and pain.001 are): " + toCSV},
		{transfersHeader + "k1,a,b,1,EUR,caf\xe9\n", 2, "byte 17 (0xe9) is not UTF-8: save the file as UTF-8" + orConvert},
		{transfersHeader + "k1,a,b,1,EUR,\"é\n\xc3\"\n", 3, "byte 1 (0xc3) is not UTF-8: save the file as UTF-8" + orConvert},
		{transfersHeader + "k1,a\x00,b,1,EUR,\n", 2,
			"byte 5 is NUL, which Postgres can't store: is this a text file in UTF-8?"},
		{`{"kind":"x","key":"` + "\xff" + `","args":{}}`, 1, "byte 20 (0xff) is not UTF-8: save the file as UTF-8" + orConvert},
	})
}

func TestErrorsOfHeaders(t *testing.T) {
	t.Parallel()
	checkErrors(t, []badFile{
		{"id,name\n1,x\n", 1, `the header "id,name" is of no known table: write ` + headers},
		{"\n\nhello\n", 3, `the header "hello" is of no known table: write ` + headers},
		{"currency\n", 1, `the header "currency" is of no known table: write ` + headers},
		{"key;from_account;to_account\n", 1, commas("semicolons")},
		{"key;from_account;to_account;amount;currency\nk1;a;b;1,00;EUR\n", 1, commas("semicolons")},
		{"account\tcurrency\toverdraft\na\tEUR\t\n", 1, commas("tabs")},
		{"resource|capacity\n", 1, commas("bars")},
		{"Buchungstag;Betrag;Waehrung\n", 1, commas("semicolons") + "; the header is then " + headers},
		{"a;b,c,d\n", 1, `the header "a;b,c,d" is of no known table: write ` + headers},
		{"key, from_account,to_account,amount,currency\n", 1, `column " from_account" is unknown: ` + columnsKnown},
		{"key,from_account,to_account,amount,currency,note\n", 1, `column "note" is unknown: ` + columnsKnown},
		{"key,from_account,to_account,amount,currency,\n", 1, `column "" is unknown: ` + columnsKnown},
		{"key,from_account,to_account,amount,currency,key\n", 1, `column "key" is there twice: ` + columnsKnown},
		{"\nkey,from_account,to_account,currency,description\n", 2, `column "amount" is missing: ` + columnsKnown},
		{"account,currency\n", 1, `column "overdraft" is missing: the columns of accounts are account, currency, overdraft`},
		{"resource\n", 1, `column "capacity" is missing: the columns of resources are resource, capacity, overbook`},
		{"resource,capa\"city\n", 1,
			"the quote at byte 14 stands inside a field without quotes: quote the whole field and double the quotes in it"},
	})
}

func TestErrorsOfRows(t *testing.T) {
	t.Parallel()
	long := strings.Repeat("x", 201)
	checkErrors(t, []badFile{
		{transfersHeader + "k1,a,b,1,EUR\n", 2,
			"the row has 5 fields and the header 6: nothing stands for description; a field that is empty needs its comma, too"},
		{transfersHeader + "k1,a,b\n", 2, "the row has 3 fields and the header 6: nothing stands for amount, currency, " +
			"description; a field that is empty needs its comma, too"},
		{transfersHeader + "k1;a;b;1,00;EUR;\n", 2,
			"the row has 2 fields and the header 6: it has semicolons between its fields, write commas"},
		{transfersHeader + "k1,a,b,1,50,EUR,\n", 2, "the row has 7 fields and the header 6: " +
			`quote a field that holds a comma ("Smith, Ann"), and write a point in amounts (12.50)`},
		{transfersHeader + "k1,a,b,1,EUR,\nk2,a,b,1", 3,
			"the row has 4 fields and the header 6: the file ends here, is it complete?"},
		{"key,from_account,to_account,currency,amount\nk1,a,b,EUR,1", 2, fmt.Sprintf(notWhole, "1")},
		{"resource,capacity\na,1\nb,1\r", 3, fmt.Sprintf(notWhole, "1")},
		{transfersHeader + "k1,a,b,1,EUR,\"x\"", 2, fmt.Sprintf(notWhole, "x")},
		{withMetadata + "k1,a,b,1,EUR,[1]\n", 2,
			`metadata "[1]" is not a JSON object: write "{""order"": 7}", with the quotes doubled`},
		{withMetadata + "k1,a,b,1,EUR,order 7\n", 2,
			`metadata "order 7" is not a JSON object: write "{""order"": 7}", with the quotes doubled`},
		{withMetadata + `k1,a,b,1,EUR,"{""a"":""\u0000""}"` + "\n", 2,
			`metadata: the escape \u0000 is NUL, which Postgres can't store: leave it out`},
		{transfersHeader + "k1,a,b,1,EUR,\n\nk2,a,b,1,EUR,\"x\ny\nz", 4,
			"a quote in this row is never closed: is the file complete?"},
		{transfersHeader + "k1,a,b,1,EUR,\"x\n", 2, "a quote in this row is never closed: is the file complete?"},
		{transfersHeader + "k1,a,b,1,EUR,\"", 2, "a quote in this row is never closed: is the file complete?"},
		{transfersHeader + `k1,a,b,1,EUR,"x"y`, 2,
			"the quote at byte 16 is followed by neither a comma nor the end of the line: double the quotes inside a field"},
		{transfersHeader + "k1,a,b,1,EUR,\"x\ny\"z\n", 3, "the quote at byte 2 is followed by neither a comma nor the end " +
			"of the line, in the row that starts at line 2: double the quotes inside a field"},
		{transfersHeader + "k1,a,b,1,EUR,x\"y\n", 2,
			"the quote at byte 15 stands inside a field without quotes: quote the whole field and double the quotes in it"},
		{transfersHeader + ",a,b,1,EUR,\n", 2, "key is empty: give it 1 to 200 characters"},
		{transfersHeader + "k1,,b,1,EUR,\n", 2, "from_account is empty: give it 1 to 200 characters"},
		{transfersHeader + "k1,a," + long + ",1,EUR,\n", 2, `to_account "` + long[:60] +
			`"... (201 characters) is too long: give it 1 to 200 characters`},
		{transfersHeader + "k1,a,a,1,EUR,\n", 2, `from_account and to_account are both "a": a transfer needs two accounts`},
		{transfersHeader + "k1,a,b,1,ZZZ,\n", 2, `currency "ZZZ" is not an ISO 4217 code: write three letters, such as EUR`},
		{transfersHeader + "k1,a,b,1,eur,\n", 2, `currency "eur" is not in upper case: write EUR`},
		{transfersHeader + "k1,a,b,\"1,50\",EUR,\n", 2,
			`amount "1,50" is not a plain decimal: write digits and at most one '.' between them, such as 12.50 for EUR`},
		{transfersHeader + "k1,a,b,0.00,EUR,\n", 2,
			`amount "0.00" is not more than 0: to move money the other way, swap from_account and to_account`},
		{transfersHeader + "k1,a,b,-1,EUR,\n", 2,
			`amount "-1" is not more than 0: to move money the other way, swap from_account and to_account`},
		{transfersHeader + "k1,a,b,1.001,EUR,\n", 2,
			`amount "1.001" has 3 decimals and EUR has 2 decimals: amounts are never rounded, write the one you mean`},
		// The amount stands two lines below the start of its row.
		{"description,metadata,key,from_account,to_account,amount,currency\n\n\"x\n\",\"{\n}\",k1,a,b,?,EUR\n", 5,
			`amount "?" is not a plain decimal: write digits and at most one '.' between them, such as 12.50 for EUR`},
		{accountsHeader + ",EUR,\n", 2, "account is empty: give it 1 to 200 characters"},
		{accountsHeader + "shop\u200b,EUR,\n", 2, `account has U+200B as character 5, after "shop": ` + naming.Rule},
		{"{\"kind\":\"x\",\"key\":\"\\u202ek\",\"args\":{}}\n", 1, "key has U+202E as character 1: " + naming.Rule},
		{"{\"kind\":\"x\",\"key\":\" \",\"args\":{}}\n", 1, "key has nothing in it that can be seen: " + naming.Rule},
		{accountsHeader + "a,EURO,\n", 2, `currency "EURO" is not an ISO 4217 code: write three letters, such as EUR`},
		{accountsHeader + "a,EUR,-1.00\n", 2,
			`overdraft "-1.00" is less than 0: write how far below zero the account may go`},
		{accountsHeader + "a,JPY,Unlimited\n", 2,
			`overdraft: amount "Unlimited" is not a plain decimal: write digits and at most one '.' between them, such as 12 for JPY, or "unlimited", or nothing for none`},
		{resourcesHeader + ",1,\n", 2, "resource is empty: give it 1 to 200 characters"},
		{resourcesHeader + "r,,\n", 2, `capacity "" is not a whole number from 0 to 9223372036854775807: write digits only`},
		{resourcesHeader + "r,-1,\n", 2,
			`capacity "-1" is not a whole number from 0 to 9223372036854775807: write digits only`},
		{resourcesHeader + "r,+1,\n", 2,
			`capacity "+1" is not a whole number from 0 to 9223372036854775807: write digits only`},
		{resourcesHeader + "r,1.0,\n", 2,
			`capacity "1.0" is not a whole number from 0 to 9223372036854775807: write digits only`},
		{resourcesHeader + "r,9223372036854775808,\n", 2,
			`capacity "9223372036854775808" is not a whole number from 0 to 9223372036854775807: write digits only`},
		{resourcesHeader + "r,1,x\n", 2,
			`overbook "x" is not a whole number from 0 to 9223372036854775807: write digits only`},
		{resourcesHeader + "r,9223372036854775807,1\n", 2, "capacity 9223372036854775807 and overbook 1 are more than " +
			"9223372036854775807 together: write what is really there"},
	})
}

func TestErrorsOfJSONLines(t *testing.T) {
	t.Parallel()
	good := `{"kind":"x","key":"k","args":{}}` + "\n"
	checkErrors(t, []badFile{
		{good + `{"kind":"x","key":"k","args":{"a`, 2, "the file ends inside a JSON object: is it complete?"},
		{good + "\n{\n\"kind\":\"x\"}\n", 3, "the line ends inside a JSON object: write each object on one line"},
		{good + "{\"kind\"\n", 2, "the line ends inside a JSON object: write each object on one line"},
		{good + good[:len(good)-1] + good, 2,
			"not one JSON object, at byte 33 invalid character '{' after top-level value" + asObject},
		{good + "{'kind':1}\n", 2,
			`not one JSON object, at byte 2 invalid character '\''` + asObject},
		{good + "[1]\n", 2, `"[1]" is not a JSON object: write {"kind":...,"key":...,"args":{...}}`},
		{good + " null", 2, `" null" is not a JSON object: write {"kind":...,"key":...,"args":{...}}`},
		{good + transfersHeader, 2, "not one JSON object, at byte 1 invalid character 'k'" + asObject},
		{`{}`, 1, `member "kind" is missing: ` + members},
		{`{"kind":"x","key":"k"}`, 1, `member "args" is missing: ` + members},
		{`{"kind":"x","args":{}}`, 1, `member "key" is missing: ` + members},
		{`{"kind":"x","KEY":"k","args":{}}`, 1, `member "KEY" is unknown: ` + members},
		{`{"kind":"x","key":"k","args":{},"key":"l"}`, 1, `member "key" is there twice: leave one`},
		{`{"kind":"x","key":"k","args":{},"at":null}`, 1, `member "at" is unknown: ` + members},
		{`{"kind":"x","key":"k","args":{},"scheduled_at":"tomorrow"}`, 1,
			`scheduled_at "\"tomorrow\"" is not a time: write it like "2026-11-23T12:00:00Z"`},
		{`{"kind":"x","key":"k","args":{},"scheduled_at":"2026-11-23T12:00:00"}`, 1,
			`scheduled_at "\"2026-11-23T12:00:00\"" is not a time: write it like "2026-11-23T12:00:00Z"`},
		{`{"kind":"x","key":"k","args":{},"scheduled_at":1764000000}`, 1,
			`scheduled_at "1764000000" is not a time: write it like "2026-11-23T12:00:00Z"`},
		{`{"kind":"x","key":"k","args":{},"queue":""}`, 1, `queue is empty: give it 1 to 200 characters`},
		{`{"kind":"x","key":"k","args":{},"queue":7}`, 1, `queue "7" is not a string: put it in quotes`},
		{`{"kind":"x","key":"k","args":null}`, 1, `args "null" is not an object: write {"name":value,...}`},
		{`{"kind":"x","key":"k","args":"{}"}`, 1, `args "\"{}\"" is not an object: write {"name":value,...}`},
		{`{"kind":7,"key":"k","args":{}}`, 1, `kind "7" is not a string: put it in quotes`},
		{`{"kind":"x","key":null,"args":{}}`, 1, `key "null" is not a string: put it in quotes`},
		{`{"kind":"","key":"k","args":{}}`, 1, `kind is empty: give it 1 to 200 characters`},
		{`{"kind":"x","key":"` + strings.Repeat("é", 201) + `","args":{}}`, 1, `key "` + strings.Repeat("é", 60) +
			`"... (201 characters) is too long: give it 1 to 200 characters`},
		{`{"kind":"x","key":"a\\\u0000","args":{}}`, 1, `the escape \u0000 is NUL, which Postgres can't store: leave it out`},
		{`{"kind":"x","key":"k","args":{"a":["\u0000"]}}`, 1,
			`the escape \u0000 is NUL, which Postgres can't store: leave it out`},
		{`{"kind":"x","key":"k","args":{"a":"\ud83d"}}`, 1,
			`the escape \ud83d is half of a surrogate pair: write the whole character`},
		{`{"kind":"x","key":"\uDE00\ud83d","args":{}}`, 1,
			`the escape \uDE00 is half of a surrogate pair: write the whole character`},
		{`{"kind":"x","key":"\ud83d\u0041","args":{}}`, 1,
			`the escape \ud83d is half of a surrogate pair: write the whole character`},
		{strings.Repeat(`{"a":`, 20000), 1, "not one JSON object, at byte 50001 invalid character '{' exceeded max depth" + asObject},
	})
}

func checkErrors(t *testing.T, files []badFile) {
	t.Helper()
	for _, tt := range files {
		_, _, err := readAll(strings.NewReader(tt.file))
		var bad *Error
		if !errors.As(err, &bad) {
			t.Errorf("%.200q: %v; want an *Error", tt.file, err)
			continue
		}
		if bad.Line != tt.line || bad.Msg != tt.want {
			t.Errorf("%.200q:\n got line %d: %s\nwant line %d: %s", tt.file, bad.Line, bad.Msg, tt.line, tt.want)
		}
	}
}

func TestErrorNamesItsLine(t *testing.T) {
	t.Parallel()
	if got := (&Error{Line: 17, Msg: "wrong"}).Error(); got != "line 17: wrong" {
		t.Error(got)
	}
	if got := (&Error{Msg: "the file is empty"}).Error(); got != "the file is empty" {
		t.Error(got)
	}
}
