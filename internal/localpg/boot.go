package localpg

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/lastseat/lastseat/internal/pgsession"
)

const (
	// readyTimeout leaves room for the recovery of a kept directory after a crash.
	readyTimeout = 60 * time.Second

	// portTries bounds the attempts at a port which nobody else takes between our choosing it and the server's bind.
	portTries = 5

	// tailSize is how much of the log goes into an error.
	tailSize = 2048
)

// defaults make a server that behaves like a small production one. Nothing here trades durability for speed; callers
// who can afford that say so in their Settings.
var defaults = map[string]string{
	"max_connections": "200",
	"shared_buffers":  "256MB",
}

// initdb creates the data directory under a name of its own first: one cut short halfway must not pass for a good one
// at the next start.
func (s *Server) initdb(ctx context.Context) error {
	fresh, pwfile := s.path("data.new"), s.path("password.new")
	if err := errors.Join(os.RemoveAll(fresh), os.RemoveAll(pwfile)); err != nil {
		return fmt.Errorf("clear an unfinished data directory: %w", err)
	}
	if err := os.Mkdir(fresh, 0o700); err != nil {
		return fmt.Errorf("make the data directory: %w", err)
	}
	if err := os.WriteFile(pwfile, []byte(s.password+"\n"), 0o600); err != nil {
		return fmt.Errorf("hand over the password: %w", err)
	}
	defer os.Remove(pwfile)
	if err := errors.Join(s.acct.own(fresh), s.acct.own(pwfile)); err != nil {
		return fmt.Errorf("hand the data directory to its user: %w", err)
	}
	if err := s.runInitdb(ctx, fresh, pwfile); err != nil {
		return err
	}
	if err := os.Rename(fresh, s.path("data")); err != nil {
		return fmt.Errorf("put the data directory in place: %w", err)
	}
	return nil
}

func (s *Server) runInitdb(ctx context.Context, data, pwfile string) error {
	args := []string{
		"--pgdata=" + data, "--username=" + superuser, "--pwfile=" + pwfile, "--auth=scram-sha-256",
		// Not C.UTF-8, which macOS does not have: the same order and case rules on every machine.
		"--encoding=UTF8", "--locale=C",
		"--no-instructions",
	}
	if s.temp {
		args = append(args, "--no-sync") // nobody will read these files after a crash of the machine
	}
	p, err := s.spawn(filepath.Join(s.bin, "initdb"), args...)
	if err != nil {
		return err
	}
	select {
	case <-p.done:
	case <-ctx.Done():
		return errors.Join(context.Cause(ctx), p.stop())
	}
	if p.err != nil {
		return fmt.Errorf("initdb: %w%s", p.err, s.logTail(0))
	}
	return nil
}

// launch starts the server on a free port. Between choosing a port and the server's bind somebody else may take it;
// then another is tried.
func (s *Server) launch(ctx context.Context, settings map[string]string) error {
	for try := 1; ; try++ {
		port, err := freePort()
		if err != nil {
			return err
		}
		err = s.launchOn(ctx, port, settings)
		if !errors.Is(err, errPortTaken) || try == portTries {
			return err
		}
	}
}

var errPortTaken = errors.New("the port is taken")

func (s *Server) launchOn(ctx context.Context, port int, settings map[string]string) error {
	from, err := s.log.Seek(0, io.SeekEnd)
	if err != nil {
		return fmt.Errorf("read the server's log: %w", err)
	}
	s.port = port
	s.proc, err = s.spawn(filepath.Join(s.bin, "postgres"), serverArgs(s.path("data"), port, settings)...)
	if err != nil {
		return err
	}
	if err := s.awaitReady(ctx); err != nil {
		tail := s.logTail(from)
		// The server's words, which childEnv keeps in English.
		if errors.Is(err, errExited) && strings.Contains(tail, "could not create any TCP/IP sockets") {
			err = errPortTaken
		}
		return fmt.Errorf("start the server: %w%s", err, tail)
	}
	return nil
}

// serverArgs passes the settings on the command line rather than in a file, so that those of one start do not stay for
// the next. Of two with the same name the last counts.
func serverArgs(data string, port int, settings map[string]string) []string {
	all := maps.Clone(defaults)
	maps.Copy(all, settings)
	args := []string{"-D", data}
	for _, name := range slices.Sorted(maps.Keys(all)) {
		args = append(args, "-c", name+"="+all[name])
	}
	return append(args,
		"-c", "port="+strconv.Itoa(port),
		"-c", "listen_addresses=127.0.0.1",
		// No socket: its path would have to be short, and Debian's default directory may be closed to our user.
		"-c", "unix_socket_directories=")
}

func freePort() (int, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return 0, fmt.Errorf("find a free port: %w", err)
	}
	return l.Addr().(*net.TCPAddr).Port, l.Close()
}

var (
	errExited = errors.New("the server exited")
	errSilent = fmt.Errorf("no answer within %s", readyTimeout)
)

// awaitReady returns when the server lets us in. Should our port in fact be somebody else's, then that one refuses the
// password, or takes the connection and says nothing; either way our own server exits, which ends the waiting.
func (s *Server) awaitReady(ctx context.Context) error {
	ctx, cancel := context.WithTimeoutCause(ctx, readyTimeout, errSilent)
	defer cancel()
	ctx, end := context.WithCancelCause(ctx)
	defer end(nil)
	go func(p *process) {
		select {
		case <-p.done:
			end(errors.Join(errExited, p.err)) // the latter is nil if somebody asked it to stop
		case <-ctx.Done():
		}
	}(s.proc)
	for {
		refused := knock(ctx, s.URL())
		if refused == nil {
			return nil
		}
		err := pause(ctx, 10*time.Millisecond)
		if errors.Is(err, errSilent) {
			return errors.Join(err, refused)
		}
		if err != nil {
			return err
		}
	}
}

func knock(ctx context.Context, url string) error {
	conn, err := pgsession.Open(ctx, url)
	if err != nil {
		return err
	}
	return conn.Close(ctx)
}

// logTail returns the end of the log, of what was written after the offset from, in a form to be appended to an error.
func (s *Server) logTail(from int64) string {
	info, err := s.log.Stat()
	if err != nil || info.Size() <= from {
		return ""
	}
	from = max(from, info.Size()-tailSize)
	tail := make([]byte, info.Size()-from)
	n, err := s.log.ReadAt(tail, from)
	if err != nil && !errors.Is(err, io.EOF) {
		return ""
	}
	return "; its log ends:\n" + strings.TrimSpace(string(tail[:n]))
}
