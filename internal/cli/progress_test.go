package cli_test

import (
	"bytes"
	"io"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/lastseat/lastseat/internal/cli"
)

// The line counts rows that are in, not bytes that were read ahead, and says no rate before there is one.
func TestProgressCountsRows(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var screen bytes.Buffer
		last := func() string {
			lines := strings.Split(screen.String(), "\r\x1b[K")
			return lines[len(lines)-1]
		}
		progress := cli.NewProgressOn(&screen, 1000)
		in := progress.Reader(strings.NewReader(strings.Repeat("x", 1000)))
		for _, step := range []struct {
			bytes int64
			after time.Duration
			rows  int
			want  string
		}{
			{100, 50 * time.Millisecond, 1000, "importing  10%  1,000 rows"},
			{100, 50 * time.Millisecond, 1500, "importing  10%  1,000 rows"}, // too soon
			{300, 900 * time.Millisecond, 5000, "importing  50%  5,000 rows  5,000 rows/s"},
			{500, 9 * time.Second, 1_234_567, "importing  100%  1,234,567 rows  123,456 rows/s"},
		} {
			if _, err := io.CopyN(io.Discard, in, step.bytes); err != nil {
				t.Fatal(err)
			}
			time.Sleep(step.after)
			if progress.Rows(step.rows); last() != step.want {
				t.Errorf("after %d rows it shows %q, want %q", step.rows, last(), step.want)
			}
		}
		if progress.Finish(); last() != "" {
			t.Errorf("at the end %q stays", last())
		}
		unknown := cli.NewProgressOn(&screen, -1)
		if unknown.Rows(7); last() != "importing  7 rows" {
			t.Errorf("of an input of unknown size it shows %q", last())
		}
	})
}

func TestThousands(t *testing.T) {
	t.Parallel()
	for n, want := range map[int]string{0: "0", 999: "999", 1000: "1,000", 123456: "123,456", -1234567: "-1,234,567"} {
		if got := cli.Thousands(n); got != want {
			t.Errorf("%d is %q, want %q", n, got, want)
		}
	}
}
