package localpg

import (
	"context"
	"errors"
	"net"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
)

// fast is for the tests which do not look at durability.
var fast = map[string]string{"fsync": "off", "shared_buffers": "32MB"}

func mustStart(t *testing.T, o Options) *Server {
	t.Helper()
	if o.Settings == nil {
		o.Settings = fast
	}
	s, err := Start(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Stop(); err != nil {
			t.Error(err)
		}
	})
	return s
}

// keptDir is a directory which the server's user can reach: testing makes its own closed to others.
func keptDir(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	if err := os.Chmod(filepath.Dir(dir), 0o711); err != nil {
		t.Fatal(err)
	}
	return filepath.Join(dir, "pg")
}

func query[T any](t *testing.T, url, sql string) T {
	t.Helper()
	conn, err := pgx.Connect(t.Context(), url)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(t.Context())
	rows, err := conn.Query(t.Context(), sql)
	if err != nil {
		t.Fatal(err)
	}
	got, err := pgx.CollectExactlyOneRow(rows, pgx.RowTo[T])
	if err != nil {
		t.Fatal(err)
	}
	return got
}

func mustExec(t *testing.T, url, sql string) {
	t.Helper()
	conn, err := pgx.Connect(t.Context(), url)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(t.Context())
	if _, err := conn.Exec(t.Context(), sql); err != nil {
		t.Fatal(err)
	}
}

func TestStartStopLeavesNothing(t *testing.T) {
	t.Parallel()
	began := time.Now()
	s := mustStart(t, Options{Settings: map[string]string{}})
	t.Logf("Start took %s", time.Since(began))

	for setting, want := range map[string]string{
		"max_connections": "200", "shared_buffers": "256MB", "fsync": "on", "TimeZone": "UTC",
		"server_encoding": "UTF8", "listen_addresses": "127.0.0.1", "unix_socket_directories": "",
	} {
		if got := query[string](t, s.URL(), "show "+setting); got != want {
			t.Errorf("%s = %q, want %q", setting, got, want)
		}
	}
	if s.acct != nil && query[bool](t, s.URL(), "select pg_read_file('postmaster.pid') is null") {
		t.Error("the data directory is not the server's")
	}

	pid := s.proc.cmd.Process.Pid
	began = time.Now()
	if err := s.Stop(); err != nil {
		t.Fatal(err)
	}
	t.Logf("Stop took %s", time.Since(began))
	if err := syscall.Kill(pid, 0); !errors.Is(err, syscall.ESRCH) {
		t.Errorf("process %d after Stop: %v, want none", pid, err)
	}
	if _, err := os.Stat(s.dir); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("directory after Stop: %v, want none", err)
	}
	if err := s.Stop(); err != nil {
		t.Errorf("second Stop: %v", err)
	}
}

func TestPasswordIsAsked(t *testing.T) {
	t.Parallel()
	s := mustStart(t, Options{})
	u, err := url.Parse(s.URL())
	if err != nil {
		t.Fatal(err)
	}
	u.User = url.UserPassword(superuser, "guess")
	if _, err := pgx.Connect(t.Context(), u.String()); err == nil || !strings.Contains(err.Error(), "28P01") {
		t.Errorf("a wrong password gives %v, want 28P01", err)
	}
	if _, err := os.Stat(s.path("password.new")); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("initdb's password file: %v, want none", err)
	}
}

func TestSettingsGoBeforeDefaults(t *testing.T) {
	t.Parallel()
	s := mustStart(t, Options{Settings: map[string]string{
		"max_connections": "17", "shared_buffers": "16MB", "cluster_name": "two words", "port": "1",
	}})
	for setting, want := range map[string]string{"max_connections": "17", "cluster_name": "two words"} {
		if got := query[string](t, s.URL(), "show "+setting); got != want {
			t.Errorf("%s = %q, want %q", setting, got, want)
		}
	}
}

func TestKeptDirKeepsData(t *testing.T) {
	t.Parallel()
	dir := keptDir(t)
	s := mustStart(t, Options{Dir: dir})
	mustExec(t, s.URL(), "create table seat as select 42 as n")
	if err := s.Stop(); err != nil {
		t.Fatal(err)
	}
	info, err := os.Stat(filepath.Join(dir, "password"))
	if err != nil || info.Mode().Perm() != 0o600 {
		t.Fatalf("password file: %v, %v; want mode 0600", info, err)
	}
	again := mustStart(t, Options{Dir: dir})
	if got := query[int](t, again.URL(), "select n from seat"); got != 42 {
		t.Errorf("n = %d after a restart, want 42", got)
	}
}

func TestSecondStartIsRefused(t *testing.T) {
	t.Parallel()
	dir := keptDir(t)
	s := mustStart(t, Options{Dir: dir})
	_, err := Start(t.Context(), Options{Dir: dir})
	if err == nil || !strings.Contains(err.Error(), "already runs in "+dir) {
		t.Fatalf("second Start: %v, want that one already runs", err)
	}
	if got := query[int](t, s.URL(), "select 1"); got != 1 {
		t.Error("the first server is gone")
	}
}

// A server killed in mid-flight leaves its pid file, and a new process may have got its id: here one of the server's
// own user, which is the case where Postgres itself refuses to start.
func TestStalePidFile(t *testing.T) {
	t.Parallel()
	dir := keptDir(t)
	s := mustStart(t, Options{Dir: dir})
	mustExec(t, s.URL(), "create table seat as select 42 as n")
	if err := s.proc.signal(syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	<-s.proc.done
	sleeper := exec.Command("/bin/sleep", "60")
	sleeper.SysProcAttr = &syscall.SysProcAttr{Credential: s.acct.credential()}
	if err := sleeper.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() { _ = sleeper.Process.Kill(); _ = sleeper.Wait() }()
	if err := s.Stop(); err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(dir, "data", pidFile)
	content, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	_, rest, _ := strings.Cut(string(content), "\n")
	stale := strings.Join([]string{strconv.Itoa(sleeper.Process.Pid), rest}, "\n")
	if err := os.WriteFile(path, []byte(stale), 0o600); err != nil {
		t.Fatal(err)
	}

	again := mustStart(t, Options{Dir: dir})
	if got := query[int](t, again.URL(), "select n from seat"); got != 42 {
		t.Errorf("n = %d after a crash, want 42", got)
	}
}

func TestStopAfterCrash(t *testing.T) {
	t.Parallel()
	s := mustStart(t, Options{})
	if err := s.proc.signal(syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	<-s.proc.done
	if err := s.Stop(); err != nil {
		t.Errorf("Stop of a server which is gone: %v", err)
	}
	if _, err := os.Stat(s.dir); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("directory after Stop: %v, want none", err)
	}
}

func TestStartsInParallel(t *testing.T) {
	t.Parallel()
	var wg sync.WaitGroup
	servers := make([]*Server, 3)
	for i := range servers {
		wg.Go(func() {
			s, err := Start(t.Context(), Options{Settings: fast})
			if err != nil {
				t.Error(err)
				return
			}
			servers[i] = s
			t.Cleanup(func() { _ = s.Stop() })
		})
	}
	wg.Wait()
	if t.Failed() {
		return
	}
	for i, s := range servers {
		mustExec(t, s.URL(), "create database only_"+strconv.Itoa(i))
	}
	for i, s := range servers {
		if got := query[string](t, s.URL(), "select datname from pg_database where datname like 'only%'"); got != "only_"+
			strconv.Itoa(i) {
			t.Errorf("server %d has %s", i, got)
		}
	}
}

func TestStartErrorHasTheLog(t *testing.T) {
	t.Parallel()
	dir := keptDir(t)
	_, err := Start(t.Context(), Options{Dir: dir, Settings: map[string]string{"no_such_setting": "1"}})
	if err == nil || !strings.Contains(err.Error(), `unrecognized configuration parameter "no_such_setting"`) {
		t.Fatalf("Start: %v, want Postgres's own words", err)
	}
	// A failed start leaves the directory usable.
	mustStart(t, Options{Dir: dir})
}

func TestPortClashIsTold(t *testing.T) {
	t.Parallel()
	s := mustStart(t, Options{})
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer taken.Close()
	if err := s.proc.stop(); err != nil {
		t.Fatal(err)
	}
	err = s.launchOn(t.Context(), taken.Addr().(*net.TCPAddr).Port, fast)
	if !errors.Is(err, errPortTaken) {
		t.Fatalf("launch on a taken port: %v, want errPortTaken", err)
	}
	if err := s.launch(t.Context(), fast); err != nil {
		t.Fatalf("launch after a clash: %v", err)
	}
}

func TestCancelledStartCleansUp(t *testing.T) {
	t.Parallel()
	dir := keptDir(t)
	for _, after := range []time.Duration{0, 50 * time.Millisecond, 300 * time.Millisecond} {
		ctx, cancel := context.WithTimeout(t.Context(), after)
		s, err := Start(ctx, Options{Dir: dir, Settings: fast})
		cancel()
		if err == nil { // a quick machine
			_ = s.Stop()
		} else if !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("Start cancelled after %s: %v", after, err)
		}
	}
	mustStart(t, Options{Dir: dir})
}

func TestForeignDirIsRefused(t *testing.T) {
	t.Parallel()
	dir := filepath.Dir(keptDir(t))
	if err := os.WriteFile(filepath.Join(dir, "thesis.tex"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := Start(t.Context(), Options{Dir: dir}); err == nil || !strings.Contains(err.Error(), "is not empty") {
		t.Errorf("Start in a directory with other files: %v, want a refusal", err)
	}
}
