package jobs_test

import (
	"bytes"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"time"
)

// recorder keeps what a worker logs, warnings and errors.
type recorder struct {
	mu    sync.Mutex
	lines bytes.Buffer
}

func (r *recorder) logger() *slog.Logger {
	return slog.New(slog.NewTextHandler(r, &slog.HandlerOptions{Level: slog.LevelWarn}))
}

// Write implements io.Writer.
func (r *recorder) Write(line []byte) (int, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.lines.Write(line)
}

func (r *recorder) text() string {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.lines.String()
}

// await waits for a line that has all the parts.
func (r *recorder) await(t *testing.T, parts ...string) {
	t.Helper()
	for deadline := time.Now().Add(2 * time.Minute); time.Now().Before(deadline); time.Sleep(5 * time.Millisecond) {
		for line := range strings.Lines(r.text()) {
			line = strings.ReplaceAll(line, `\"`, `"`)
			has := 0
			for _, part := range parts {
				if strings.Contains(line, part) {
					has++
				}
			}
			if has == len(parts) {
				return
			}
		}
	}
	t.Errorf("no line of the log has all of %q:\n%s", parts, r.text())
}
