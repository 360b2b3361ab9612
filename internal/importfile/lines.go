package importfile

import (
	"bufio"
	"bytes"
	"io"
	"unicode/utf8"
)

// longestLine is the limit for a line, and for a CSV record that spans several, in bytes without the last
// newline. It bounds memory: a file without newlines, or with a quote that is never closed, ends in an error
// and not in the whole file being read. The database takes 64 KiB of arguments, so nothing useful is longer.
const longestLine = 1 << 20

var (
	byteOrderMark = []byte("\xef\xbb\xbf")
	newline       = []byte("\n")
)

// lines reads lines, counts them, and lets no byte pass that Postgres couldn't store as text.
type lines struct {
	r     *bufio.Reader
	n     int  // number of the line that next returned last
	cut   bool // that line had no newline: the file ends after it, as planned or not
	again bool
	line  []byte // without its '\n'; its '\r', if any, is for the format to judge
	long  []byte // a line that is longer than the buffer of r
}

// next returns the next line, valid until the call after. Errors are io.EOF or an *Error.
func (l *lines) next() ([]byte, error) {
	if l.again {
		l.again = false
		return l.line, nil
	}
	if l.cut {
		return nil, io.EOF // without asking a terminal once more
	}
	line, err := l.slice()
	if err == io.EOF && len(line) == 0 {
		return nil, io.EOF
	}
	l.n++
	switch {
	case len(bytes.TrimSuffix(line, newline)) > longestLine:
		return nil, errorf(l.n, "the line is longer than 1 MiB: write one record a line, separated by newlines")
	case err != nil && err != io.EOF:
		return nil, &Error{Line: l.n, Msg: "reading the file: " + err.Error(), Err: err}
	}
	l.line, l.cut = bytes.TrimSuffix(line, newline), !bytes.HasSuffix(line, newline)
	if l.n == 1 {
		l.line = bytes.TrimPrefix(l.line, byteOrderMark)
	}
	if err := l.checkText(); err != nil {
		return nil, err
	}
	return l.line, nil
}

// slice returns the bytes up to and with the next newline, or more than longestLine of them if there is none.
func (l *lines) slice() ([]byte, error) {
	line, err := l.r.ReadSlice('\n')
	if err != bufio.ErrBufferFull {
		return line, err
	}
	l.long = append(l.long[:0], line...)
	for err == bufio.ErrBufferFull && len(l.long) <= longestLine {
		line, err = l.r.ReadSlice('\n')
		l.long = append(l.long, line...)
	}
	return l.long, err
}

// skipBlank is next without lines that hold only white space.
func (l *lines) skipBlank() ([]byte, error) {
	for {
		line, err := l.next()
		if err != nil || !isBlank(line) {
			return line, err
		}
	}
}

// unread makes next return the same line once more.
func (l *lines) unread() { l.again = true }

func (l *lines) checkText() error {
	if l.n == 1 {
		if msg := binaryFormat(l.line); msg != "" {
			return errorf(l.n, "%s", msg)
		}
	}
	if i := bytes.IndexByte(l.line, 0); i >= 0 {
		return errorf(l.n, "byte %d is NUL, which Postgres can't store: is this a text file in UTF-8?", i+1)
	}
	if utf8.Valid(l.line) {
		return nil
	}
	for i := 0; ; {
		r, size := utf8.DecodeRune(l.line[i:])
		if r == utf8.RuneError && size == 1 {
			return errorf(l.n, "byte %d (0x%02x) is not UTF-8: save the file as UTF-8, or iconv -f WINDOWS-1252 -t UTF-8 FILE",
				i+1, l.line[i])
		}
		i += size
	}
}

func isBlank(line []byte) bool { return len(bytes.TrimSpace(line)) == 0 }
