package e2e

import (
	"errors"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
	"unicode"

	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/lastseat/lastseat/internal/clitest"
	"github.com/lastseat/lastseat/internal/testdb"
)

// process is a run of one of the programs. It does not outlive the test.
type process struct {
	cmd       *exec.Cmd
	out, errs clitest.Buffer
	done      chan struct{} // closed when it has exited
}

// start runs a program with a clean environment: what it takes to find Postgres, and what environ says.
func start(t *testing.T, environ []string, program string, args ...string) *process {
	t.Helper()
	return startWith(t, nil, environ, program, args...)
}

func startWith(t *testing.T, stdin io.Reader, environ []string, program string, args ...string) *process {
	t.Helper()
	dir, err := programs()
	if err != nil {
		t.Fatal(err)
	}
	p := &process{cmd: exec.Command(filepath.Join(dir, program), args...), done: make(chan struct{})}
	p.cmd.Env = append([]string{"PATH=" + os.Getenv("PATH"), "HOME=" + os.Getenv("HOME")}, environ...)
	p.cmd.Stdin, p.cmd.Stdout, p.cmd.Stderr = stdin, &p.out, &p.errs
	if err := p.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	go func() { _ = p.cmd.Wait(); close(p.done) }()
	t.Cleanup(func() {
		_ = p.cmd.Process.Kill()
		<-p.done
	})
	return p
}

func (p *process) running() bool {
	select {
	case <-p.done:
		return false
	default:
		return true
	}
}

func (p *process) signal(t *testing.T, sig os.Signal) {
	t.Helper()
	if err := p.cmd.Process.Signal(sig); err != nil && !errors.Is(err, os.ErrProcessDone) {
		t.Fatal(err)
	}
}

// connected waits until workers have so many lanes between them, taken or stood by for. Before that they may be only
// starting, and a signal ends a program that is.
func connected(t *testing.T, pool *pgxpool.Pool, lanes int) {
	t.Helper()
	clitest.Eventually(t, "the workers to connect", func() bool {
		return testdb.Scalar[int](t, pool, `SELECT count(*)::int FROM pg_stat_activity WHERE datname = current_database()
			AND application_name = 'lastseat lane'`) == lanes
	})
}

// lanes is how many lanes a worker with this environment has.
func lanes(environ []string) int {
	for _, variable := range environ {
		if text, set := strings.CutPrefix(variable, "LASTSEAT_LANES="); set {
			n, _ := strconv.Atoi(text)
			return n
		}
	}
	return 1
}

// wait returns the exit code; -1: a signal ended it.
func (p *process) wait(t *testing.T) int {
	t.Helper()
	select {
	case <-p.done:
	case <-time.After(clitest.Patience):
		t.Fatalf("%v does not end; stderr %q", p.cmd.Args, p.errs.String())
	}
	return p.cmd.ProcessState.ExitCode()
}

func (p *process) exits(t *testing.T, codes ...int) {
	t.Helper()
	got := p.wait(t)
	if !slices.Contains(codes, got) {
		t.Fatalf("%v: exit code %d, want %v; stdout %.2000q, stderr %q", p.cmd.Args[1:], got, codes, p.out.String(),
			p.errs.String())
	}
}

// killed ends the process with SIGKILL, and demands that it was at work until then.
func (p *process) killed(t *testing.T) {
	t.Helper()
	p.signal(t, syscall.SIGKILL)
	if p.wait(t); p.cmd.ProcessState.Sys().(syscall.WaitStatus).Signal() != syscall.SIGKILL {
		t.Fatalf("%v was not killed, it had ended: %v", p.cmd.Args, p.cmd.ProcessState)
	}
}

// quiet demands that stderr has nothing for a terminal in it: no control characters but line ends.
func (p *process) quiet(t *testing.T) {
	t.Helper()
	for line := range strings.Lines(p.errs.String()) {
		if strings.ContainsFunc(strings.TrimSuffix(line, "\n"), unicode.IsControl) {
			t.Errorf("stderr has control characters: %q", line)
		}
	}
}

// enqueue runs a command of enqueue to its end.
func enqueue(t *testing.T, url string, args ...string) *process {
	t.Helper()
	p := start(t, on(url), "enqueue", args...)
	p.wait(t)
	return p
}

// on is the environment for a database.
func on(url string, more ...string) []string { return append(more, "DATABASE_URL="+url) }
