package importfile

import (
	"encoding/csv"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
)

// csvTable reads the rows of a CSV file as records of one schema.
type csvTable struct {
	schema *schema
	feed   *feed
	csv    *csv.Reader
	open   bool // a last line without a line end is taken for whole
	know   func(string) error
	before int            // lines of the file before the first that csv saw
	fields []string       // the row that was read last
	column map[string]int // position of each column of the header
}

// newCSVTable reads the header. lines stands before it.
func newCSVTable(lines *lines, options Options) (*csvTable, error) {
	t := &csvTable{feed: &feed{lines: lines}, before: lines.n - 1, open: options.UnendedLastLine,
		know: options.Know}
	t.csv = csv.NewReader(t.feed)
	t.csv.ReuseRecord = true
	t.csv.FieldsPerRecord = -1 // counted here, to say more than that it is wrong
	if err := t.next(); err != nil {
		return nil, err
	}
	header := slices.Clone(t.fields)
	line := t.line(0)
	t.schema = chooseSchema(header)
	if t.schema == nil {
		return nil, errorf(line, "%s", strangeHeader(header))
	}
	if msg := t.schema.check(header); msg != "" {
		return nil, errorf(line, "%s", msg)
	}
	t.column = make(map[string]int, len(header))
	for i, name := range header {
		t.column[name] = i
	}
	return t, nil
}

func (t *csvTable) read() (Record, error) {
	if err := t.next(); err != nil {
		return Record{}, err
	}
	if t.isHeader() {
		return Record{}, errorf(t.line(0), "the header stands here again, %s: leave this line out, or import the files "+
			"one by one", quote(strings.Join(t.fields, ",")))
	}
	if len(t.fields) != len(t.column) {
		return Record{}, errorf(t.line(0), "the row has %s and the header %d: %s", fieldCount(len(t.fields)),
			len(t.column), t.miscounted())
	}
	if t.feed.lines.cut && !t.open {
		return Record{}, errorf(t.line(0), "the file ends without a line end, so this row may be cut: its last field is %s; "+
			"if that is the whole of it, add a line end or pass --allow-missing-newline",
			quote(t.fields[len(t.fields)-1]))
	}
	row := &row{table: t}
	record := t.schema.parse(row)
	if row.err != nil {
		return Record{}, row.err
	}
	record.Line = t.line(0)
	return record, nil
}

// isHeader tells whether the row repeats the header, as where files were put one after the other.
func (t *csvTable) isHeader() bool {
	for i, field := range t.fields {
		if at, known := t.column[field]; !known || at != i {
			return false
		}
	}
	return len(t.fields) == len(t.column)
}

// next reads a row into fields. Errors are io.EOF or an *Error.
func (t *csvTable) next() error {
	t.feed.startRecord()
	fields, err := t.csv.Read()
	if err == nil {
		t.fields = fields
		return nil
	}
	var syntax *csv.ParseError
	if !errors.As(err, &syntax) {
		return err // the feed's own
	}
	start, line := syntax.StartLine+t.before, syntax.Line+t.before
	if syntax.Err == csv.ErrBareQuote {
		return errorf(line, "the quote at byte %d stands inside a field without quotes: "+
			"quote the whole field and double the quotes in it", syntax.Column)
	}
	if t.feed.ended {
		return errorf(start, "a quote in this row is never closed: is the file complete?")
	}
	of := ""
	if start != line {
		of = fmt.Sprintf(", in the row that starts at line %d", start)
	}
	return errorf(line, "the quote at byte %d is followed by neither a comma nor the end of the line%s: "+
		"double the quotes inside a field", syntax.Column, of)
}

// line is the line of the file on which a field of the row starts.
func (t *csvTable) line(field int) int {
	line, _ := t.csv.FieldPos(field)
	return t.before + line
}

// feed hands lines to a csv.Reader one by one. So csv asks for a line only when it has used up the one
// before, and the feed knows at every moment which record a line belongs to: it can bound the length of
// a record, which csv itself doesn't, and tell an open quote at the end of the file from a stray one.
type feed struct {
	lines *lines
	begun bool // the record has a line that isn't blank
	start int  // the number of that line
	size  int  // bytes of the record so far
	ended bool // csv asked for a line after the last one
	buf   []byte
	rest  []byte // of buf: what csv hasn't taken yet
}

// startRecord is called before each csv.Read.
func (f *feed) startRecord() { f.begun, f.size = false, 0 }

// Read hands out what is left of a line, or the next one.
func (f *feed) Read(p []byte) (int, error) {
	if len(f.rest) == 0 {
		if err := f.fill(); err != nil {
			return 0, err
		}
	}
	n := copy(p, f.rest)
	f.rest = f.rest[n:]
	return n, nil
}

func (f *feed) fill() error {
	line, err := f.lines.next()
	if err != nil {
		f.ended = err == io.EOF
		return err
	}
	f.buf = f.buf[:0]
	switch {
	case f.begun:
		f.size += len("\n") + len(line)
		if f.size > longestLine {
			return errorf(f.start, "the row is longer than 1 MiB: is a closing quote missing?")
		}
		f.buf = append(f.buf, line...)
	case !isBlank(line): // a blank one goes to csv as empty, which skips it and counts it
		f.begun, f.start, f.size = true, f.lines.n, len(line)
		f.buf = append(f.buf, line...)
	}
	f.buf = append(f.buf, '\n')
	f.rest = f.buf
	return nil
}
