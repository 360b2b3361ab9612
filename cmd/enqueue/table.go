package main

import (
	"fmt"
	"io"
	"strings"
	"unicode/utf8"

	"github.com/lastseat/lastseat/internal/cli"
)

// tableBlock is how many rows are aligned together. A row may be 64 KiB long.
const tableBlock = 200

// table aligns columns without keeping all rows in memory: it aligns one block at a time, at least as wide as the last.
type table struct {
	out    io.Writer
	right  []bool // for each column: align it to the right
	width  int    // of the terminal, to which lines are cut; 0: it is none
	widths []int
	rows   [][]string
}

func (t *table) add(cells ...string) error {
	t.rows = append(t.rows, cells)
	if len(t.rows) < tableBlock {
		return nil
	}
	return t.flush()
}

func (t *table) flush() error {
	if t.widths == nil {
		t.widths = make([]int, len(t.right))
	}
	for _, row := range t.rows {
		for i, cell := range row {
			t.widths[i] = max(t.widths[i], utf8.RuneCountInString(cell))
		}
	}
	for _, row := range t.rows {
		var line strings.Builder
		for i, cell := range row {
			gap := strings.Repeat(" ", t.widths[i]-utf8.RuneCountInString(cell))
			switch {
			case t.right[i]:
				line.WriteString(gap + cell + "  ")
			case i == len(row)-1:
				line.WriteString(cell)
			default:
				line.WriteString(cell + gap + "  ")
			}
		}
		if _, err := fmt.Fprintln(t.out, cli.Fit(strings.TrimRight(line.String(), " "), t.width)); err != nil {
			return err
		}
	}
	t.rows = t.rows[:0]
	return nil
}
