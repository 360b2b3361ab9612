package importfile

import (
	"bufio"
	"errors"
	"io"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"testing/iotest"
	"time"
)

// readAll reads a file to its end, or to its first error.
func readAll(r io.Reader) (format string, records []Record, err error) {
	return readAllWith(r, Options{})
}

func readAllWith(r io.Reader, options Options) (format string, records []Record, err error) {
	reader, err := NewReader(r, options)
	if err != nil {
		return "", nil, err
	}
	for {
		record, err := reader.Next()
		if err == io.EOF {
			return reader.Format(), records, nil
		}
		if err != nil {
			return reader.Format(), records, err
		}
		records = append(records, record)
	}
}

func transfer(line int, key, args string) Record {
	return Record{Line: line, Request: &Request{Kind: "payment.transfer", Key: key, Args: []byte(args)}}
}

func TestReader(t *testing.T) {
	t.Parallel()
	k1 := transfer(2, "k1", `{"from":"a","to":"b","amount":1250,"currency":"EUR"}`)
	for _, tt := range []struct {
		name, file, format string
		want               []Record
	}{
		{"transfers",
			"key,from_account,to_account,amount,currency,description\nk1,a,b,12.50,EUR,\nk2,a,b,1200,JPY,\"rent, " +
				"\"\"May\"\"\"\n",
			"transfers", []Record{k1, transfer(3, "k2",
				`{"from":"a","to":"b","amount":1200,"currency":"JPY","description":"rent, \"May\""}`)}},
		{"transfers, other order, no description, no last newline",
			"currency,amount,to_account,from_account,key\nEUR,12.5,b,a,k1",
			"transfers", []Record{k1}},
		{"byte order mark, CRLF, blank lines",
			"\ufeffkey,from_account,to_account,amount,currency\r\n\r\n  \t\r\nk1,a,b,12.50,EUR\r\n\r\n",
			"transfers", []Record{transfer(4, "k1", string(k1.Request.Args))}},
		{"byte order mark before a quoted header, CR at the very end",
			"\ufeff\"key\",from_account,to_account,amount,currency\r\nk1,a,b,12.50,EUR\r",
			"transfers", []Record{k1}},
		{"newlines in quotes",
			"\n\nkey,from_account,to_account,amount,currency,description\n\nk1,a,b,1,EUR,\"one\n\ntwo\r\n\"\n\nk2,a,b,1,EUR,x\n",
			"transfers", []Record{
				transfer(5, "k1", `{"from":"a","to":"b","amount":100,"currency":"EUR","description":"one\n\ntwo\n"}`),
				transfer(10, "k2", `{"from":"a","to":"b","amount":100,"currency":"EUR","description":"x"}`)}},
		{"metadata",
			"key,from_account,to_account,amount,currency,metadata\nk1,a,b,1,EUR,\"{\"\"n\"\": 1.10e2}\"\nk2,a,b,1,EUR,\n",
			"transfers", []Record{
				transfer(2, "k1", `{"from":"a","to":"b","amount":100,"currency":"EUR","metadata":{"n":1.10e2}}`),
				transfer(3, "k2", `{"from":"a","to":"b","amount":100,"currency":"EUR"}`)}},
		{"accounts", "account,currency,overdraft\na,EUR,\nb,JPY,100\nc,KWD,1.5\nd,EUR,unlimited\ne,EUR,0\n", "accounts",
			[]Record{
				{Line: 2, Account: &Account{"a", "EUR", new(int64(0))}}, {Line: 3, Account: &Account{"b", "JPY", new(int64(100))}},
				{Line: 4, Account: &Account{"c", "KWD", new(int64(1500))}}, {Line: 5, Account: &Account{"d", "EUR", nil}},
				{Line: 6, Account: &Account{"e", "EUR", new(int64(0))}}}},
		{"resources", "resource,capacity\nA/1,1\n\"B,2\",0\n", "resources", []Record{
			{Line: 2, Resource: &Resource{"A/1", 1, nil}}, {Line: 3, Resource: &Resource{"B,2", 0, nil}}}},
		{"resources with overbook", "overbook,resource,capacity\n2,A,1\n,B,9223372036854775807\n", "resources", []Record{
			{Line: 2, Resource: &Resource{"A", 1, new(int64(2))}}, {Line: 3, Resource: &Resource{"B", 9223372036854775807, nil}}}},
		{"requests", "\n  {\"args\": { \"n\" : 1.10e2,\t\"big\":12345678901234567890 } " +
			",\"key\":\"k\\u00e9\\ud83d\\ude00\\\\u0000\",\"kind\":\"x.y\"}\r\n \n{\"kind\":\"x\",\"key\":\"l\",\"args\":{}}",
			"requests", []Record{
				{Line: 2, Request: &Request{Kind: "x.y", Key: `ké😀\u0000`,
					Args: []byte("{ \"n\" : 1.10e2,\t\"big\":12345678901234567890 }")}},
				{Line: 4, Request: &Request{Kind: "x", Key: "l", Args: []byte(`{}`)}}}},
		{"requests of a queue and a time",
			`{"kind":"x","key":"k","args":{},"queue":"own","scheduled_at":"2026-11-23t13:00:00+01:00"}
{"kind":"x","key":"l","args":{},"queue":null,"scheduled_at":null}`, "requests", []Record{
				{Line: 1, Request: &Request{Kind: "x", Key: "k", Args: []byte(`{}`), Queue: "own",
					ScheduledAt: time.Date(2026, 11, 23, 12, 0, 0, 0, time.UTC)}},
				{Line: 2, Request: &Request{Kind: "x", Key: "l", Args: []byte(`{}`)}}}},
		{"header only", "resource,capacity", "resources", nil},
		{"200 characters, not bytes", "resource,capacity\n" + strings.Repeat("é", 200) + ",1\n", "resources", []Record{
			{Line: 2, Resource: &Resource{strings.Repeat("é", 200), 1, nil}}}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			// However the bytes come in, the records are the same.
			for how, r := range map[string]io.Reader{
				"at once":       strings.NewReader(tt.file),
				"byte by byte":  iotest.OneByteReader(strings.NewReader(tt.file)),
				"EOF with data": iotest.DataErrReader(strings.NewReader(tt.file)),
			} {
				format, records, err := readAllWith(r, Options{UnendedLastLine: true})
				if err != nil || format != tt.format || !reflect.DeepEqual(records, tt.want) {
					t.Errorf("%s: %s, %v\n got %s\nwant %s", how, format, err, show(records), show(tt.want))
				}
			}
		})
	}
}

// Both ends stay: a caller that reads on after an error must not skip the bad line.
func TestReaderStaysAtItsEnd(t *testing.T) {
	t.Parallel()
	reader, err := NewReader(strings.NewReader("resource,capacity\na,1\nb,x\nc,1\n"), Options{})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := reader.Next(); err != nil {
		t.Fatal(err)
	}
	_, first := reader.Next()
	if record, again := reader.Next(); again == nil || again != first || record != (Record{}) {
		t.Errorf("after %v: %v, %v", first, record, again)
	}
	reader, err = NewReader(strings.NewReader(`{"kind":"x","key":"l","args":{}}`), Options{})
	if err != nil {
		t.Fatal(err)
	}
	for i, want := range []error{nil, io.EOF, io.EOF} {
		if _, err := reader.Next(); err != want {
			t.Errorf("Next number %d: %v, want %v", i+1, err, want)
		}
	}
}

func TestReaderPassesTheErrorOfItsSource(t *testing.T) {
	t.Parallel()
	broken := errors.New("connection reset")
	for _, file := range []string{
		"", "{", "key,from_acc", "resource,capacity\n", "resource,capacity\na,1\nb,", "resource,capacity\n\"a\n",
		`{"kind":"x","key":"k","args":{}}` + "\n",
	} {
		_, _, err := readAll(io.MultiReader(strings.NewReader(file), iotest.ErrReader(broken)))
		want := strings.Count(file, "\n") + 1
		var located *Error
		if !errors.As(err, &located) || !errors.Is(err, broken) || located.Line != want {
			t.Errorf("%q: %v; want line %d and the source's error in it", file, err, want)
		}
	}
}

// A file without a newline, or with a quote that is never closed, must not be read to its end.
func TestReaderIsBounded(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct{ start, endless, want string }{
		{"", "x", "line 1: the line is longer than 1 MiB: write one record a line, separated by newlines"},
		{"{", " ", "line 1: the line is longer than 1 MiB: write one record a line, separated by newlines"},
		{"resource,capacity\n", "x", "line 2: the line is longer than 1 MiB: write one record a line, separated by newlines"},
		{"resource,capacity\na,1\n\n\"b", "x\n", "line 4: the row is longer than 1 MiB: is a closing quote missing?"},
		{"resource,capacity\na,1\n\n\"b", "\n", "line 4: the row is longer than 1 MiB: is a closing quote missing?"},
		{"resource,capacity\n", ",", "line 2: the line is longer than 1 MiB: write one record a line, separated by newlines"},
	} {
		source := &endless{rest: tt.start, repeat: tt.endless}
		_, _, err := readAll(source)
		if err == nil || err.Error() != tt.want {
			t.Errorf("%q and %q without end: %v\nwant %s", tt.start, tt.endless, err, tt.want)
		}
		if source.read > longestLine+256<<10 {
			t.Errorf("%q and %q without end: read %d bytes before giving up", tt.start, tt.endless, source.read)
		}
	}
}

// The limit counts a line's bytes without its newline, and blank lines count for no row.
func TestReaderTakesLinesUpToTheLimit(t *testing.T) {
	t.Parallel()
	exact := `{"kind":"x","key":"k","args":{` + strings.Repeat(" ", longestLine-32) + `}}`
	if len(exact) != longestLine {
		t.Fatalf("the test's line has %d bytes", len(exact))
	}
	for file, ok := range map[string]bool{exact: true, exact + "\n": true, exact + " ": false, exact + " \n": false} {
		if _, records, err := readAll(strings.NewReader(file)); (err == nil && len(records) == 1) != ok {
			t.Errorf("%d bytes: %d records, %v", len(file), len(records), err)
		}
	}
	blanks := "resource,capacity\n" + strings.Repeat("\n \n", longestLine) + "a,1\n"
	_, records, err := readAll(strings.NewReader(blanks))
	if err != nil || len(records) != 1 || records[0].Line != 2+2*longestLine {
		t.Errorf("after many blank lines: %v, %v", show(records), err)
	}
}

type endless struct {
	rest, repeat string
	read         int
}

func (e *endless) Read(p []byte) (int, error) {
	n := copy(p, e.rest)
	e.rest = e.rest[n:]
	for n < len(p) {
		n += copy(p[n:], e.repeat)
	}
	e.read += n
	return n, nil
}

// TestReaderReadsRealFiles reads shared/data, which lies beside the checkout in CI.
func TestReaderReadsRealFiles(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name, format  string
		records, last int
	}{
		{"bank_transfers.csv", FormatTransfers, 25000, 25001},
		{"hotel_requests.jsonl", FormatRequests, 26171, 26171},
		{"hotel_resources.csv", FormatResources, 3245, 3246},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			file, err := os.Open(filepath.Join("..", "..", "..", "shared", "data", tt.name))
			if errors.Is(err, os.ErrNotExist) {
				t.Skip("the real data is not beside the checkout")
			}
			if err != nil {
				t.Fatal(err)
			}
			defer file.Close()
			format, records, err := readAll(bufio.NewReader(file))
			if err != nil || format != tt.format || len(records) != tt.records {
				t.Fatalf("%s, %d records, %v; want %s, %d", format, len(records), err, tt.format, tt.records)
			}
			if last := records[len(records)-1].Line; last != tt.last {
				t.Errorf("the last record is on line %d, want %d", last, tt.last)
			}
		})
	}
}
