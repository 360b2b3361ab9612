package e2e

import (
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

const root = "../.."

// guides are the documents whose blocks of SQL and shell commands a reader runs from top to bottom.
var guides = []string{"README.md", "docs/checkout.md", "docs/command-line.md", "docs/monitoring.md",
	"docs/operations.md", "docs/outcomes.md", "docs/outside.md", "docs/payments.md", "docs/quickstart.md",
	"docs/reservations.md"}

// notRun are the documents that have such blocks for another reason.
var notRun = map[string]string{
	"docs/roles.md": "its roles belong to the server, and not to a database of the test",
	"docs/sql.md":   "its blocks are signatures of functions",
}

var (
	fence    = regexp.MustCompile("(?ms)^```(\\w*)\n(.*?)^```$")
	runnable = []string{"sql", "sh"}
)

func document(t *testing.T, name string) string {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(root, name))
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// TestDocsListed: no document has commands that are not run, unless notRun says why.
func TestDocsListed(t *testing.T) {
	t.Parallel()
	var have []string
	for _, name := range documents(t) {
		for _, block := range fence.FindAllStringSubmatch(document(t, name), -1) {
			if slices.Contains(runnable, block[1]) && notRun[name] == "" && !slices.Contains(have, name) {
				have = append(have, name)
			}
			if block[1] == "" {
				t.Errorf("%s has a block without a language:\n%s", name, block[2])
			}
		}
	}
	slices.Sort(have)
	if !slices.Equal(have, guides) {
		t.Errorf("these documents have blocks to run: %q; TestDocsRun runs %q", have, guides)
	}
}

// TestDocsGo: the Go code of the guides is code of an example, which compiles and runs with the tests.
func TestDocsGo(t *testing.T) {
	t.Parallel()
	examples, err := filepath.Glob(filepath.Join(root, "*", "example*_test.go"))
	examples = append(examples, filepath.Join(root, "examples", "outside", "card", "main.go"))
	if err != nil || len(examples) == 0 {
		t.Fatalf("%d examples: %v", len(examples), err)
	}
	var code strings.Builder
	for _, name := range examples {
		text, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		code.WriteString(unindented(string(text)))
	}
	blocks := 0
	for _, name := range guides {
		for _, block := range fence.FindAllStringSubmatch(document(t, name), -1) {
			if block[1] != "go" {
				continue
			}
			blocks++
			if !strings.Contains(code.String(), unindented(block[2])) {
				t.Errorf("%s: in no example:\n%s", name, block[2])
			}
		}
	}
	if blocks == 0 {
		t.Error("the guides have no Go")
	}
}

func unindented(code string) string {
	var text strings.Builder
	for line := range strings.Lines(code) {
		text.WriteString(strings.TrimSpace(line) + "\n")
	}
	return text.String()
}

// TestReadmeIsShort: what needs more words belongs to a guide.
func TestReadmeIsShort(t *testing.T) {
	t.Parallel()
	if words := len(strings.Fields(document(t, "README.md"))); words > 1500 {
		t.Errorf("the README has %d words, 1,500 are enough", words)
	}
}

// TestDocsMake: every make target that a document names is in the Makefile.
func TestDocsMake(t *testing.T) {
	t.Parallel()
	makefile := document(t, "Makefile")
	for _, name := range documents(t) {
		for _, named := range regexp.MustCompile("(?m)(?:^ *|`)make ([a-z][a-z-]*)").FindAllStringSubmatch(document(t, name),
			-1) {
			if !strings.Contains(makefile, "\n"+named[1]+":") {
				t.Errorf("%s names make %s, which the Makefile does not have", name, named[1])
			}
		}
	}
}

// TestDocsLinks: every relative link of a document leads to a file that is there, and to a heading that it has.
func TestDocsLinks(t *testing.T) {
	t.Parallel()
	links := 0
	for _, name := range documents(t) {
		text := regexp.MustCompile("`[^`\n]*`").ReplaceAllString(fence.ReplaceAllString(document(t, name), ""), "")
		for _, link := range regexp.MustCompile(`\]\(([^)\s]+)\)`).FindAllStringSubmatch(text, -1) {
			if strings.Contains(link[1], "://") {
				continue
			}
			links++
			path, anchor, anchored := strings.Cut(link[1], "#")
			target := name
			if path != "" {
				target = filepath.Join(filepath.Dir(name), path)
			}
			if _, err := os.Stat(filepath.Join(root, target)); err != nil {
				t.Errorf("%s: the link %s leads nowhere", name, link[1])
			} else if anchored && !slices.Contains(anchors(document(t, target)), anchor) {
				t.Errorf("%s: the link %s leads to no heading", name, link[1])
			}
		}
	}
	if links == 0 {
		t.Error("no document has a link")
	}
}

// anchors are the names that GitHub gives to the headings of a document.
func anchors(text string) []string {
	var names []string
	seen := make(map[string]int)
	for _, heading := range regexp.MustCompile(`(?m)^#+ +(.*)$`).FindAllStringSubmatch(fence.ReplaceAllString(text, ""),
		-1) {
		name := regexp.MustCompile(`[^\p{L}\p{N}_ -]`).ReplaceAllString(strings.ToLower(heading[1]), "")
		name = strings.ReplaceAll(strings.TrimSpace(name), " ", "-")
		if n := seen[name]; n > 0 {
			names = append(names, fmt.Sprintf("%s-%d", name, n))
		} else {
			names = append(names, name)
		}
		seen[name]++
	}
	return names
}

// documents are the Markdown files of the repository, by their paths from its root.
func documents(t *testing.T) []string {
	t.Helper()
	var names []string
	for _, pattern := range []string{"*.md", "llms.txt", "docs/*.md", "docs/decisions/*.md", "examples/*.md", "examples/*/*.md"} {
		found, err := filepath.Glob(filepath.Join(root, pattern))
		if err != nil {
			t.Fatal(err)
		}
		for _, path := range found {
			name, err := filepath.Rel(root, path)
			if err != nil {
				t.Fatal(err)
			}
			names = append(names, filepath.ToSlash(name))
		}
	}
	if len(names) < 10 {
		t.Fatalf("only %d documents: %q", len(names), names)
	}
	return names
}
