// Package localpg runs a private Postgres from the binaries on this machine: for `worker dev`, the demo and the tests,
// where asking for a database first would be asking too much.
//
// The server listens on 127.0.0.1 only, on a free port, with a random superuser password. It lives as long as the
// Server value: Stop ends it, and on Linux so does the death of this process, however violent. It is not a way to run
// Postgres in production: nobody backs it up, restarts it or upgrades it.
//
// Everything of a server is in one directory:
//
//	data/       what Postgres calls its data directory
//	lock        held while a server or its parent lives; contains the parent's process id
//	password    the superuser's password, only in a directory which is kept
//	server.log  what initdb and the server wrote since the last start
package localpg

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"log/slog"
	"net/url"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"time"
)

// Options says how to start a server. The zero value gives a durable server in a temporary directory.
type Options struct {
	// Dir keeps the server's files, its data included, for the next Start. It is created where it does not exist, and
	// must otherwise be empty or one that Start made. Empty means a temporary directory, which Stop removes.
	Dir string

	// Logger gets a line when the server is up, and one if it exits unasked. Nil discards them.
	Logger *slog.Logger

	// Settings are server settings as in postgresql.conf, for this start only, values unquoted. They go before the
	// defaults of this package, but not before what URL depends on: the port and the addresses listened on.
	Settings map[string]string
}

// Server is a running Postgres. Its methods may be called from any goroutine.
type Server struct {
	dir      string
	temp     bool // dir is removed by Stop
	bin      string
	acct     *account
	lock     *os.File
	log      *os.File
	logger   *slog.Logger
	password string
	port     int
	proc     *process

	stopOnce sync.Once
	stopErr  error
	stopping chan struct{} // closed by Stop, to tell an exit asked for from a crash
}

// Start starts a server and returns when it answers. Cancelling ctx makes Start give up and clean up; once Start has
// returned, ctx means nothing to the server. The error is ErrNotInstalled where there are no binaries to run; where
// Postgres itself refused, it ends with the last lines of the server's log.
func Start(ctx context.Context, o Options) (*Server, error) {
	began := time.Now()
	bin, err := findBinaries(os.Getenv("PATH"), installPlaces)
	if err != nil {
		return nil, err
	}
	acct, err := serverAccount()
	if err != nil {
		return nil, err
	}
	s := &Server{bin: bin, acct: acct, logger: o.Logger, stopping: make(chan struct{})}
	if s.logger == nil {
		s.logger = slog.New(slog.DiscardHandler)
	}
	if err := s.open(ctx, o.Dir); err != nil {
		return nil, fmt.Errorf("localpg: %w", err)
	}
	if err := s.boot(ctx, o.Settings); err != nil {
		return nil, fmt.Errorf("localpg: %w", errors.Join(err, s.Stop()))
	}
	s.logger.InfoContext(ctx, "private Postgres started",
		slog.String("dir", s.dir), slog.Int("port", s.port), slog.Duration("duration", time.Since(began)))
	go s.watch(s.proc)
	return s, nil
}

// URL returns the superuser's connection string to the database postgres. It contains the password.
func (s *Server) URL() string {
	u := url.URL{
		Scheme:   "postgres",
		User:     url.UserPassword(superuser, s.password),
		Host:     "127.0.0.1:" + strconv.Itoa(s.port),
		Path:     "/postgres",
		RawQuery: "sslmode=disable",
	}
	return u.String()
}

// Stop shuts the server down, ending the sessions still connected (Postgres's fast shutdown), and waits until it has
// exited. A server which takes too long is made to quit, which costs a kept directory a recovery at its next start and
// nothing else. A temporary directory is gone afterwards. Further calls return what the first one did.
func (s *Server) Stop() error {
	s.stopOnce.Do(func() {
		close(s.stopping)
		s.stopErr = s.stop()
	})
	return s.stopErr
}

func (s *Server) stop() error {
	var errs []error
	if s.proc != nil {
		errs = append(errs, s.proc.stop())
	}
	if s.log != nil {
		errs = append(errs, s.log.Close())
	}
	errs = append(errs, unlock(s.lock))
	if s.temp {
		errs = append(errs, removeTemp(s.dir))
	}
	return errors.Join(errs...)
}

// open makes the directory ready and ours: created, locked, and with an empty log.
func (s *Server) open(ctx context.Context, dir string) (err error) {
	if dir == "" {
		sweep(os.TempDir())
		s.temp = true
		s.dir, err = os.MkdirTemp("", tempPrefix)
	} else if s.dir, err = filepath.Abs(dir); err == nil {
		err = makeKeptDir(s.dir)
	}
	if err != nil {
		return fmt.Errorf("make the server's directory: %w", err)
	}
	defer func() {
		if err != nil && s.temp {
			err = errors.Join(err, os.RemoveAll(s.dir))
		}
	}()
	if err := s.acct.admit(s.dir, s.temp); err != nil {
		return err
	}
	if s.lock, err = lock(ctx, s.dir); err != nil {
		return err
	}
	// Truncated at every start: a directory kept for months should not collect a log for months.
	s.log, err = os.OpenFile(s.path("server.log"), os.O_CREATE|os.O_TRUNC|os.O_APPEND|os.O_RDWR, 0o600)
	if err != nil {
		return errors.Join(fmt.Errorf("open the server's log: %w", err), unlock(s.lock))
	}
	return nil
}

// makeKeptDir creates dir, or checks that it is one of ours: Options.Dir set to a home directory by mistake should be
// an error rather than a mess.
func makeKeptDir(dir string) error {
	entries, err := os.ReadDir(dir)
	if errors.Is(err, os.ErrNotExist) {
		if err := os.MkdirAll(dir, 0o711); err != nil {
			return err
		}
		// Whatever the umask is: the server's user has to pass through. What is inside is closed to others.
		return os.Chmod(dir, 0o711)
	}
	if err != nil || len(entries) == 0 {
		return err
	}
	if _, err := os.Lstat(filepath.Join(dir, lockName)); err != nil {
		return fmt.Errorf("%s is not empty and was not made by an earlier start; choose another directory", dir)
	}
	return nil
}

// superuser is Postgres's own customary name, so that psql and other people's examples work unchanged.
const superuser = "postgres"

// boot takes the server from an open directory to one which answers.
func (s *Server) boot(ctx context.Context, settings map[string]string) error {
	if err := s.prepare(ctx); err != nil {
		return err
	}
	return s.launch(ctx, settings)
}

// prepare makes sure that there is a data directory, and that we know its password.
func (s *Server) prepare(ctx context.Context) error {
	if _, err := os.Stat(s.path("data")); err == nil {
		kept, err := os.ReadFile(s.path("password"))
		if err != nil {
			return fmt.Errorf("read the password of the data kept in %s: %w", s.dir, err)
		}
		s.password = strings.TrimSpace(string(kept))
		return dropStalePidFile(s.path("data"))
	}
	s.password = rand.Text()
	if !s.temp {
		// Before the data directory appears: data without a password would be lost to its owner.
		if err := os.WriteFile(s.path("password"), []byte(s.password+"\n"), 0o600); err != nil {
			return fmt.Errorf("keep the password: %w", err)
		}
	}
	return s.initdb(ctx)
}

// watch tells the log when the server exits without having been asked to. There is nothing else to do about it: whoever
// uses the database will notice.
func (s *Server) watch(p *process) {
	<-p.done
	select {
	case <-s.stopping:
	default:
		s.logger.Error("private Postgres exited", slog.String("dir", s.dir), slog.Any("error", p.err))
	}
}

func (s *Server) path(name string) string { return filepath.Join(s.dir, name) }
