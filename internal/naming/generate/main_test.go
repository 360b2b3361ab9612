package main

import (
	"os"
	"path/filepath"
	"testing"
	"unicode"
)

// What is generated is what stands in the repository, as long as Go's Unicode is the one that it was made from.
func TestGenerated(t *testing.T) {
	t.Parallel()
	const made = "15.0.0"
	if unicode.Version != made {
		t.Skipf("Go has Unicode %s now; the tables are those of %s", unicode.Version, made)
	}
	for path, want := range files() {
		got, err := os.ReadFile(filepath.Join("..", "..", "..", path))
		if err != nil {
			t.Fatal(err)
		}
		if string(got) != want {
			t.Errorf("%s is not what go generate ./internal/naming writes", path)
		}
	}
}
