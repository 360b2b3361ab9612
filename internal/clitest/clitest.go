// Package clitest tests a command line program: inside of the test's process with [Program], and as a process of its
// own by the scripts of testdata ([Scripts]).
package clitest

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"regexp"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
	"unicode"

	"github.com/lastseat/lastseat/internal/cli"
)

// Program is a program under test.
type Program struct {
	Name string
	Run  func(ctx context.Context, args []string, streams cli.Streams) int
}

// Result is what a run of a program left.
type Result struct {
	Code     int
	Out, Err string
}

// In runs the program in this process, with this environment and nothing else. A nil stdin is empty.
func (p Program) In(t *testing.T, environ []string, stdin io.Reader, args ...string) Result {
	t.Helper()
	if stdin == nil {
		stdin = strings.NewReader("")
	}
	var out, errs Buffer
	code := p.Run(t.Context(), args, cli.Streams{In: stdin, Out: &out, Err: &errs, Environ: environ})
	return Result{Code: code, Out: out.String(), Err: errs.String()}
}

// Succeeds demands exit code 0 and a silent error stream.
func (r Result) Succeeds(t *testing.T) {
	t.Helper()
	if r.Code != 0 || r.Err != "" {
		t.Fatalf("exit code %d, stderr %q; want 0 and nothing", r.Code, r.Err)
	}
}

// Fails demands an exit code, and one line on stderr that begins with the program's name, contains all the words, and
// has no control character.
func (r Result) Fails(t *testing.T, code int, words ...string) {
	t.Helper()
	if r.Code != code {
		t.Errorf("exit code %d, want %d; stderr %q", r.Code, code, r.Err)
	}
	if !oneLine(r.Err) {
		t.Errorf("stderr is %q, want one line", r.Err)
	}
	told := Told(r.Err)
	for _, word := range words {
		if !strings.Contains(told, word) {
			t.Errorf("stderr is %q, want it to say %q", r.Err, word)
		}
	}
}

var saysWho = regexp.MustCompile(`^(worker|enqueue): .`)

// oneLine tells whether an error stream is one line of one of our programs, or one error as JSON, without a control
// character.
func oneLine(errs string) bool {
	line, ended := strings.CutSuffix(errs, "\n")
	return ended && (saysWho.MatchString(line) || strings.HasPrefix(line, `{"error":{`)) &&
		!strings.ContainsFunc(line, unicode.IsControl)
}

// Told is what an error stream says: the text of an error as JSON, and anything else as it is.
func Told(errs string) string {
	var told struct {
		Error struct {
			Code    string `json:"code"`
			Message string `json:"message"`
			Hint    string `json:"hint"`
		} `json:"error"`
	}
	if json.Unmarshal([]byte(errs), &told) != nil {
		return errs
	}
	return told.Error.Message + ": " + told.Error.Hint + " (" + told.Error.Code + ")"
}

// Lines are the JSON objects of stdout.
func Lines[T any](t *testing.T, r Result) []T {
	t.Helper()
	var all []T
	for line := range strings.Lines(r.Out) {
		var one T
		if err := json.Unmarshal([]byte(line), &one); err != nil {
			t.Fatalf("stdout has the line %q: %v", line, err)
		}
		all = append(all, one)
	}
	return all
}

// Buffer may be written to by a program while a test reads it.
type Buffer struct {
	mu   sync.Mutex
	text bytes.Buffer
}

func (b *Buffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.text.Write(p)
}

func (b *Buffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.text.String()
}

// Patience is how long anything may take on the slowest machine before a test gives up.
const Patience = 3 * time.Minute

// Eventually waits for what must come. It looks less often the longer that takes: most looks are queries, and many
// tests wait at once.
func Eventually(t *testing.T, what string, come func() bool) {
	t.Helper()
	pause := 5 * time.Millisecond
	for deadline := time.Now().Add(Patience); !come(); time.Sleep(pause) {
		pause = min(pause+pause/8, 25*time.Millisecond)
		if time.Now().After(deadline) {
			t.Fatalf("waited in vain for %s", what)
		}
	}
}

// FreeAddress is an address of this machine at which nobody listens. Its port is not one of those that Linux gives to
// connections: one of them could take it before whoever it is for listens, or while that is down.
func FreeAddress(t testing.TB) string {
	t.Helper()
	for {
		listener, err := net.Listen("tcp", fmt.Sprintf("127.0.0.1:%d", 10_000+rand.IntN(22_000)))
		switch {
		case err == nil:
			defer func() { _ = listener.Close() }()
			return listener.Addr().String()
		case !errors.Is(err, syscall.EADDRINUSE):
			t.Fatal(err)
		}
	}
}
