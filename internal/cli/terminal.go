package cli

import (
	"io"
	"os"
	"unicode/utf8"

	"golang.org/x/term"
)

// Width is how many characters a line of the terminal has that w is; 0: w is none.
func Width(w io.Writer) int {
	file, ok := w.(*os.File)
	if !ok {
		return 0
	}
	width, _, err := term.GetSize(int(file.Fd()))
	if err != nil {
		return 0
	}
	return width
}

// Fit cuts a line to a width, and says so with an ellipsis. Width 0: it stays as it is.
func Fit(line string, width int) string {
	if width <= 0 || utf8.RuneCountInString(line) <= width {
		return line
	}
	return string([]rune(line)[:width-1]) + "…"
}
