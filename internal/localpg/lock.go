package localpg

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"syscall"
	"time"
)

const (
	lockName   = "lock"
	tempPrefix = "lastseat-pg-"

	// orphanWait is how long a start waits for the server of a killed process to finish its shutdown.
	orphanWait = 15 * time.Second

	// sweepAge spares a directory whose maker has not come to locking it yet.
	sweepAge = 10 * time.Minute
)

// lock takes the directory for this process. The lock is inherited by every process of the server, so it is free only
// once the last of them is gone too. Held by a living parent, it is an error at once; held by the server of a dead one,
// which is shutting down, it is waited for.
func lock(ctx context.Context, dir string) (*os.File, error) {
	f, err := os.OpenFile(filepath.Join(dir, lockName), os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, fmt.Errorf("open the lock: %w", err)
	}
	for deadline := time.Now().Add(orphanWait); ; {
		err = syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB)
		if err == nil {
			break
		}
		if !errors.Is(err, syscall.EWOULDBLOCK) {
			err = fmt.Errorf("lock %s: %w", dir, err)
			break
		}
		if pid := readPid(f.Name()); pid > 0 && alive(pid) {
			err = fmt.Errorf("a server already runs in %s, started by process %d", dir, pid)
			break
		}
		if time.Now().After(deadline) {
			err = fmt.Errorf("the server of a killed process still runs in %s; end it with `kill -INT %d`",
				dir, readPid(filepath.Join(dir, "data", pidFile)))
			break
		}
		if err = pause(ctx, 20*time.Millisecond); err != nil {
			break
		}
	}
	if err == nil {
		err = writePid(f)
	}
	if err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return f, nil
}

// unlock gives the directory up. It is free once whatever else has inherited the lock is gone as well: what a crashed
// server left running, or another goroutine's child between its fork and its exec. Without an owner's id in it, the
// next one to come waits for that.
func unlock(f *os.File) error {
	return errors.Join(f.Truncate(0), f.Close())
}

// removeTemp removes a temporary directory which we have unlocked, after the last process which writes into it.
func removeTemp(dir string) error {
	f, err := lock(context.Background(), dir)
	if errors.Is(err, os.ErrNotExist) {
		return nil // swept by somebody else
	}
	if err != nil {
		return fmt.Errorf("remove the server's directory: %w", err)
	}
	return errors.Join(os.RemoveAll(dir), f.Close())
}

// sweep removes the temporary directories of processes which died before they could: nobody else would, and each is
// some forty megabytes. Errors are no concern of the caller, who wants a server.
func sweep(parent string) {
	dirs, _ := filepath.Glob(filepath.Join(parent, tempPrefix+"*"))
	for _, dir := range dirs {
		info, err := os.Lstat(dir)
		if err != nil || !info.IsDir() || time.Since(info.ModTime()) < sweepAge {
			continue
		}
		// Only our own: in a shared directory, anyone may choose such a name.
		if stat, ok := info.Sys().(*syscall.Stat_t); !ok || int(stat.Uid) != os.Geteuid() {
			continue
		}
		f, err := os.OpenFile(filepath.Join(dir, lockName), os.O_RDWR|syscall.O_NOFOLLOW, 0)
		if err != nil {
			continue
		}
		if syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB) == nil {
			_ = os.RemoveAll(dir)
		}
		_ = f.Close()
	}
}

// pidFile is Postgres's own lock file, in the data directory. Its first line is the server's process id, its fourth
// the port.
const pidFile = "postmaster.pid"

// dropStalePidFile removes what a killed server left behind. Postgres does so itself, unless the process id meanwhile
// belongs to another process of the same user, which in a container, where ids start again from one, is not rare. Our
// lock says that no server started here lives; a port that answers could be one that somebody started by hand in the
// data directory, and then Postgres shall judge.
func dropStalePidFile(data string) error {
	path := filepath.Join(data, pidFile)
	content, err := os.ReadFile(path)
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("read the file of an earlier server: %w", err)
	}
	if lines := bytes.Split(content, []byte("\n")); len(lines) > 3 {
		conn, err := net.DialTimeout("tcp", net.JoinHostPort("127.0.0.1", string(lines[3])), time.Second)
		if err == nil {
			return conn.Close()
		}
	}
	if err := os.Remove(path); err != nil {
		return fmt.Errorf("remove the file of an earlier server: %w", err)
	}
	return nil
}

func writePid(f *os.File) error {
	if err := f.Truncate(0); err != nil {
		return fmt.Errorf("write the lock: %w", err)
	}
	if _, err := f.WriteAt([]byte(strconv.Itoa(os.Getpid())+"\n"), 0); err != nil {
		return fmt.Errorf("write the lock: %w", err)
	}
	return nil
}

// readPid returns the process id on the first line of a file, or 0 while there is none.
func readPid(path string) int {
	content, err := os.ReadFile(path)
	if err != nil {
		return 0
	}
	line, _, _ := bytes.Cut(content, []byte("\n"))
	pid, err := strconv.Atoi(string(line))
	if err != nil {
		return 0
	}
	return pid
}

// alive counts a process of another user, which we may not signal, as alive.
func alive(pid int) bool {
	err := syscall.Kill(pid, 0)
	return err == nil || errors.Is(err, syscall.EPERM)
}

func pause(ctx context.Context, d time.Duration) error {
	select {
	case <-ctx.Done():
		return context.Cause(ctx)
	case <-time.After(d):
		return nil
	}
}
