package importfile

import (
	"bytes"
	"fmt"
	"regexp"
	"slices"
	"strings"
)

var (
	mt940   = regexp.MustCompile(`^\s*(\{[1-5]:|:(20|25|28C?|60F|61|86):)`)
	xmlFile = regexp.MustCompile(`^\s*<[?!A-Za-z]`)
)

// otherFormat says what to do with a file that begins like one of another format, or nothing.
func otherFormat(first []byte) string {
	switch {
	case mt940.Match(first):
		return "this looks like MT940, a bank's statement: convert it to a CSV file with the header " + transferColumns()
	case xmlFile.Match(first):
		return "this looks like XML (camt.053 and pain.001 are): convert it to a CSV file with the header " +
			transferColumns()
	}
	return ""
}

// binaryFormat says what to do with a file that begins with these bytes, or nothing.
func binaryFormat(first []byte) string {
	for start, msg := range map[string]string{
		"\x1f\x8b":   "the file is compressed: gunzip -c FILE | enqueue import -",
		"PK\x03\x04": "the file is a spreadsheet or a ZIP archive: save the table as CSV in UTF-8",
		"\xff\xfe":   "the file is UTF-16: save it as UTF-8",
		"\xfe\xff":   "the file is UTF-16: save it as UTF-8",
	} {
		if bytes.HasPrefix(first, []byte(start)) {
			return msg
		}
	}
	return ""
}

func transferColumns() string { return strings.Join(schemas[0].columns, ",") }

// separators that other programs write in place of commas, by their names.
var separators = []struct{ char, name string }{{";", "semicolons"}, {"\t", "tabs"}, {"|", "bars"}}

// otherSeparator names the separator that stands between fields which should be separated by commas, or returns
// nothing.
func otherSeparator(fields []string, least int) string {
	line := strings.Join(fields, ",")
	for _, s := range separators {
		if strings.Count(line, s.char) >= least && strings.Count(line, s.char) > strings.Count(line, ",") {
			return s.name
		}
	}
	return ""
}

// strangeHeader says what is wrong with a header that is none of ours.
func strangeHeader(header []string) string {
	name := otherSeparator(header, 1)
	if name == "" {
		return fmt.Sprintf("the header %s is of no known table: write %s", quote(strings.Join(header, ",")),
			knownHeaders())
	}
	for _, s := range separators {
		if s.name == name {
			header = strings.Split(strings.Join(header, ","), s.char)
		}
	}
	return fmt.Sprintf("the file has %s between its columns: write commas between them, and a point in amounts (12.50)%s",
		name, unknownAfter(header))
}

// unknownAfter adds the columns that are known, where the header has others as well.
func unknownAfter(header []string) string {
	if s := chooseSchema(header); s != nil && !slices.ContainsFunc(header, func(column string) bool {
		return !slices.Contains(s.columns, column)
	}) {
		return ""
	}
	return "; the header is then " + knownHeaders()
}

// miscounted says what to do about a row that has more or fewer fields than the header.
func (t *csvTable) miscounted() string {
	columns := make([]string, len(t.column))
	for name, i := range t.column {
		columns[i] = name
	}
	name := otherSeparator(t.fields, len(columns)-1)
	switch {
	case name != "":
		return fmt.Sprintf("it has %s between its fields, write commas", name)
	case t.feed.lines.cut:
		return "the file ends here, is it complete?"
	case len(t.fields) > len(columns):
		return `quote a field that holds a comma ("Smith, Ann"), and write a point in amounts (12.50)`
	}
	missing := columns[len(t.fields):]
	return fmt.Sprintf("nothing stands for %s; a field that is empty needs its comma, too", strings.Join(missing, ", "))
}

func fieldCount(n int) string {
	if n == 1 {
		return "1 field"
	}
	return fmt.Sprintf("%d fields", n)
}
