package anomalies_test

import (
	"bytes"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

const document = "../../docs/concurrency.md"

// testLink is a test that a document names, and the file where it says that it is.
var testLink = regexp.MustCompile("\\[`(Test\\w+)`\\]\\(([^)]+_test\\.go)\\)")

// TestDocumentLinks: every test that docs/concurrency.md names is where it says.
func TestDocumentLinks(t *testing.T) {
	t.Parallel()
	text, err := os.ReadFile(document)
	if err != nil {
		t.Fatal(err)
	}
	links := testLink.FindAllSubmatch(text, -1)
	if named := regexp.MustCompile("`Test\\w+`").FindAll(text, -1); len(named) != len(links) {
		t.Errorf("%d tests are named, %d linked", len(named), len(links))
	}
	for _, link := range links {
		file := filepath.Join(filepath.Dir(document), string(link[2]))
		code, err := os.ReadFile(file)
		if err != nil || !bytes.Contains(code, []byte("\nfunc "+string(link[1])+"(")) {
			t.Errorf("%s is not in %s (%v)", link[1], file, err)
		}
	}
}

// TestDocumentTable: the table of docs/concurrency.md says what the tests prove.
func TestDocumentTable(t *testing.T) {
	t.Parallel()
	text, err := os.ReadFile(document)
	if err != nil {
		t.Fatal(err)
	}
	rows := make(map[string][]string)
	for line := range strings.Lines(string(text)) {
		link := testLink.FindStringSubmatch(line)
		if cells := strings.Split(strings.TrimSpace(line), "|"); link != nil && len(cells) > len(mechanisms) {
			rows[link[1]] = cells[2:]
		}
	}
	if got, want := slices.Sorted(maps.Keys(rows)), slices.Sorted(maps.Keys(verdicts)); !slices.Equal(got, want) {
		t.Errorf("the table has rows for\n%q, want\n%q", got, want)
	}
	for test, cells := range rows {
		for i, by := range mechanisms {
			want := string(verdicts[test][by.name])
			if want == "" {
				want = "-"
			}
			if got := strings.Trim(cells[i], " *"); got != want {
				t.Errorf("%s by %s: the table says %q, the tests prove %q", test, by.name, got, want)
			}
		}
	}
}
