package cli

import (
	"fmt"
	"io"
	"os"
	"strings"
	"time"

	"golang.org/x/term"
)

// Progress is a line on the error stream that says how far an import is, if that is a terminal, and nothing elsewhere.
type Progress struct {
	out   io.Writer // nil: nothing is shown
	size  int64     // of the input in bytes; -1: unknown
	read  int64
	begun time.Time
	drawn time.Time
	rows  int
}

const (
	// drawInterval is the pause between two changes of the line.
	drawInterval = 100 * time.Millisecond
	// rateAfter is when a rate is worth saying: before, it would be that of the first chunk.
	rateAfter = time.Second
)

// clearLine takes the line off the screen.
const clearLine = "\r\x1b[K"

// NewProgress makes the line for an input of size bytes; -1 means unknown.
func NewProgress(stderr io.Writer, size int64) *Progress {
	if file, ok := stderr.(*os.File); ok && term.IsTerminal(int(file.Fd())) {
		return newProgress(file, size)
	}
	return &Progress{}
}

func newProgress(out io.Writer, size int64) *Progress {
	return &Progress{out: out, size: size, begun: time.Now()}
}

// Reader counts what is read from r.
func (p *Progress) Reader(r io.Reader) io.Reader { return &countingReader{r, &p.read} }

type countingReader struct {
	io.Reader
	n *int64
}

func (c *countingReader) Read(b []byte) (int, error) {
	n, err := c.Reader.Read(b)
	*c.n += int64(n)
	return n, err
}

// Rows says that so many rows are in by now.
func (p *Progress) Rows(rows int) {
	now := time.Now()
	if p.rows = rows; p.out == nil || now.Sub(p.drawn) < drawInterval {
		return
	}
	p.drawn = now
	_, _ = io.WriteString(p.out, clearLine+p.line(now.Sub(p.begun)))
}

// line is "importing  45%  12,300 rows  8,200 rows/s".
func (p *Progress) line(elapsed time.Duration) string {
	parts := []string{"importing"}
	if p.size > 0 {
		parts = append(parts, fmt.Sprintf("%d%%", min(100, 100*p.read/p.size)))
	}
	parts = append(parts, Thousands(p.rows)+" rows")
	if elapsed >= rateAfter {
		parts = append(parts, Thousands(int(float64(p.rows)/elapsed.Seconds()))+" rows/s")
	}
	return strings.Join(parts, "  ")
}

// Finish removes the line.
func (p *Progress) Finish() {
	if p.out != nil && !p.drawn.IsZero() {
		_, _ = io.WriteString(p.out, clearLine)
	}
}

// Thousands writes a number for people: 12,300.
func Thousands(n int) string {
	if n < 0 {
		return "-" + Thousands(-n)
	}
	text := fmt.Sprint(n)
	for at := len(text) - 3; at > 0; at -= 3 {
		text = text[:at] + "," + text[at:]
	}
	return text
}
