package chaos

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"
)

// Build builds the programs into a directory: `worker` and `enqueue` with the tag chaos, so that they can be ended at
// named points, and the bench's own worker, which has kinds of its own. flags are for `go build`.
func Build(ctx context.Context, dir string, flags ...string) error {
	args := append([]string{"build", "-tags", "chaos", "-o", dir + string(filepath.Separator)}, flags...)
	for _, program := range []string{"cmd/worker", "cmd/enqueue", "internal/chaos/ownworker"} {
		args = append(args, "github.com/lastseat/lastseat/"+program)
	}
	if out, err := exec.CommandContext(ctx, "go", args...).CombinedOutput(); err != nil {
		return fmt.Errorf("go build: %w\n%s", err, out)
	}
	return nil
}

// BuildWithClock is Build, and the programs have a clock that the bench can set. It takes minutes the first time: the
// whole standard library is built anew.
func BuildWithClock(ctx context.Context, dir string) error {
	overlay, err := clockOverlay(dir)
	if err != nil {
		return err
	}
	return Build(ctx, dir, "-overlay", overlay)
}

// process is a worker that is started again whenever it ends.
type process struct {
	name    string
	command func() *exec.Cmd

	mu      sync.Mutex
	running *exec.Cmd
	ended   chan struct{} // closed when running has ended
	starts  int
	quit    bool   // it is not to be started again
	asked   bool   // it was sent SIGTERM
	last    string // how it ended the last time
	log     tail
}

// startLine is in the log where a process begins.
const startLine = "--- started\n"

// tookLane is the line of its log in which the process took a lane, which begins with the time; empty: it has none.
func (p *process) tookLane() (last string) {
	text := p.log.String()
	text = text[max(0, strings.LastIndex(text, startLine)):]
	for line := range strings.Lines(text) {
		if strings.Contains(line, "lane taken") {
			last = line
		}
	}
	return last
}

// restartPause is what a supervisor of processes takes until it starts one again.
const restartPause = 100 * time.Millisecond

// keep runs the process until it is to quit.
func (p *process) keep() {
	runtime.LockOSThread() // to the kernel the thread that forks is the parent
	defer runtime.UnlockOSThread()
	for {
		p.mu.Lock()
		if p.quit {
			p.mu.Unlock()
			return
		}
		cmd := p.command()
		cmd.Stdout, cmd.Stderr = &p.log, &p.log
		dieWithParent(cmd)
		ended := make(chan struct{})
		err := cmd.Start()
		if err == nil {
			p.running, p.ended, p.asked = cmd, ended, false
			p.starts++
			_, _ = p.log.Write([]byte(startLine))
		}
		p.mu.Unlock()
		if err == nil {
			err = cmd.Wait()
		}
		p.mu.Lock()
		p.last = "exit 0"
		if err != nil {
			p.last = err.Error()
		}
		p.running = nil
		p.mu.Unlock()
		close(ended)
		time.Sleep(restartPause)
	}
}

// count is how often the process was started.
func (p *process) count() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.starts
}

// says tells whether a text is in the end of its log.
func (p *process) says(text string) bool { return strings.Contains(p.log.String(), text) }

// signal sends the process a signal. It does nothing if it is not running.
func (p *process) signal(signal syscall.Signal) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.running != nil {
		p.asked = p.asked || signal == syscall.SIGTERM
		_ = p.running.Process.Signal(signal)
	}
}

// stop ends the process by SIGTERM, and by SIGKILL if that takes too long. It is not started again.
func (p *process) stop(patience time.Duration) error {
	p.mu.Lock()
	p.quit = true
	running, ended := p.running, p.ended
	p.mu.Unlock()
	if running == nil {
		return nil
	}
	p.signal(syscall.SIGCONT)
	p.signal(syscall.SIGTERM)
	select {
	case <-ended:
	case <-time.After(patience):
		p.signal(syscall.SIGKILL)
		<-ended
		return fmt.Errorf("%s did not stop within %v of SIGTERM: %s", p.name, patience, p.log.String())
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.last != "exit 0" {
		return fmt.Errorf("%s ended with %s after SIGTERM: %s", p.name, p.last, p.log.String())
	}
	return nil
}

// tail keeps the end of what is written to it.
type tail struct {
	mu  sync.Mutex
	all []byte
}

const tailSize = 32 << 10

func (t *tail) Write(p []byte) (int, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.all = append(t.all, p...)
	if len(t.all) > 2*tailSize {
		t.all = slices.Clone(t.all[len(t.all)-tailSize:])
	}
	return len(p), nil
}

func (t *tail) String() string {
	t.mu.Lock()
	defer t.mu.Unlock()
	return string(t.all[max(0, len(t.all)-tailSize):])
}

// lastLines returns the last n lines of a text.
func lastLines(text string, n int) string {
	lines := strings.Split(strings.TrimSpace(text), "\n")
	return strings.Join(lines[max(0, len(lines)-n):], "\n")
}

// ask runs enqueue to its end, and returns its exit code; -1: a signal ended it.
func ask(ctx context.Context, dir string, environ []string, args ...string) (code int, output string) {
	cmd := exec.CommandContext(ctx, filepath.Join(dir, "enqueue"), args...)
	cmd.Env = environ
	out := &bytes.Buffer{}
	cmd.Stdout, cmd.Stderr = out, out
	err := cmd.Run()
	if exit := (*exec.ExitError)(nil); errors.As(err, &exit) {
		return exit.ExitCode(), out.String()
	} else if err != nil {
		return -1, err.Error()
	}
	return 0, out.String()
}
