package main

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// TestPicturesAreTheTables: each picture in the repository is that of the table in docs/benchmarks.md, and the document
// shows each.
func TestPicturesAreTheTables(t *testing.T) {
	t.Parallel()
	const docs = "../../../docs"
	text, err := os.ReadFile(filepath.Join(docs, "benchmarks.md"))
	if err != nil {
		t.Fatal(err)
	}
	pictures, err := picturesOf(string(text))
	if err != nil {
		t.Fatal(err)
	}
	if len(pictures) < 5 {
		t.Errorf("%d pictures; have the tables lost their headings?", len(pictures))
	}
	for name, want := range pictures {
		if got, err := os.ReadFile(filepath.Join(docs, "benchmarks", name)); err != nil || !bytes.Equal(got, want) {
			t.Errorf("docs/benchmarks/%s is not what the table says: run make plots (%v)", name, err)
		}
		if !strings.Contains(string(text), "(benchmarks/"+name+")") {
			t.Errorf("docs/benchmarks.md does not show %s", name)
		}
	}
}

// TestWrongNumber: a cell that is no number is named.
func TestWrongNumber(t *testing.T) {
	t.Parallel()
	_, err := picturesOf(yearsHead + " a | b |\n| --: | --: | --: |\n| 0 | many | 5 |\n")
	if err == nil || !strings.Contains(err.Error(), `"many"`) {
		t.Errorf("error %v", err)
	}
}
