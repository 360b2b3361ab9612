package outbox_test

import (
	"os"
	"regexp"
	"strings"
	"testing"
)

// The code in the documents is code that runs.
func TestOwnKindsDocument(t *testing.T) {
	t.Parallel()
	read := func(name string) string {
		t.Helper()
		text, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		return string(text)
	}
	code := read("example_test.go") + read("../examples/mail/mail.go")
	blocks := regexp.MustCompile("(?s)```go\n(.*?)```").FindAllStringSubmatch(read("../docs/own-kinds.md"), -1)
	if len(blocks) < 5 {
		t.Errorf("%d blocks of code", len(blocks))
	}
	for _, block := range blocks {
		if !strings.Contains(code, block[1]) {
			t.Errorf("neither in example_test.go nor in examples/mail:\n%s", block[1])
		}
	}
}
