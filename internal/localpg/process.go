package localpg

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"syscall"
	"time"
)

// process is a child which does not outlive us.
type process struct {
	cmd  *exec.Cmd
	done chan struct{} // closed when it has exited
	err  error         // how it exited; to be read after done
}

// spawn starts a child in the server's directory, as its user, writing into its log.
func (s *Server) spawn(program string, args ...string) (*process, error) {
	cmd := exec.Command(program, args...)
	cmd.Dir = s.dir // our own working directory may be closed to the server's user
	cmd.Env = childEnv(os.Environ())
	cmd.Stdout, cmd.Stderr = s.log, s.log
	cmd.ExtraFiles = []*os.File{s.lock}
	cmd.SysProcAttr = &syscall.SysProcAttr{
		Credential: s.acct.credential(),
		// A group of its own: Ctrl-C in a terminal goes to the whole foreground group, and would take the database
		// away while we are still finishing our work with it.
		Setpgid: true,
	}
	dieWithParent(cmd.SysProcAttr)

	p := &process{cmd: cmd, done: make(chan struct{})}
	started := make(chan error)
	go func() {
		// The kernel's "parent" is the thread that forked. Go ends idle threads as it likes, so this one is kept, by a
		// goroutine which owns it until the child has exited.
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		err := cmd.Start()
		started <- err
		if err == nil {
			p.err = cmd.Wait()
			close(p.done)
		}
	}()
	if err := <-started; err != nil {
		return nil, fmt.Errorf("start %s: %w", program, err)
	}
	return p, nil
}

// childEnv removes what would change the server behind our back: PGDATA, PGPORT, PGOPTIONS and their like, the
// language of the messages we look for, and the time zone, which is UTC here as everywhere (and which initdb otherwise
// spends a while finding out). On macOS a server without LC_ALL does not even start.
func childEnv(env []string) []string {
	kept := []string{"LC_ALL=C", "TZ=UTC"}
	for _, kv := range env {
		if !strings.HasPrefix(kv, "PG") && !strings.HasPrefix(kv, "LC_") && !strings.HasPrefix(kv, "TZ=") {
			kept = append(kept, kv)
		}
	}
	return kept
}

func (p *process) signal(sig os.Signal) error {
	if err := p.cmd.Process.Signal(sig); err != nil && !errors.Is(err, os.ErrProcessDone) {
		return fmt.Errorf("signal %s: %w", p.cmd.Path, err)
	}
	return nil
}

// stop asks with growing insistence. To Postgres, SIGINT is the fast shutdown, SIGQUIT the immediate one, which leaves
// a recovery to the next start.
func (p *process) stop() error {
	for _, ask := range []struct {
		sig  os.Signal
		wait time.Duration
	}{
		{syscall.SIGINT, 10 * time.Second},
		{syscall.SIGQUIT, 5 * time.Second},
		{syscall.SIGKILL, 5 * time.Second},
	} {
		if err := p.signal(ask.sig); err != nil {
			return err
		}
		select {
		case <-p.done:
			return nil
		case <-time.After(ask.wait):
		}
	}
	return fmt.Errorf("%s does not exit", p.cmd.Path)
}
