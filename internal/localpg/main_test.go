package localpg

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"testing"
	"time"
)

// helperDir makes the test binary a process which starts a server there and waits to be killed.
const helperDir = "LASTSEAT_LOCALPG_HELPER"

func TestMain(m *testing.M) {
	if dir := os.Getenv(helperDir); dir != "" {
		s, err := Start(context.Background(), Options{Dir: dir, Settings: fast})
		if err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		fmt.Println(s.URL())
		select {}
	}
	os.Exit(m.Run())
}

func TestKilledParentLeavesNoServer(t *testing.T) {
	if runtime.GOOS != "linux" {
		t.Skip("only Linux tells a child of its parent's death")
	}
	t.Parallel()
	dir := keptDir(t)
	helper := exec.Command(os.Args[0])
	helper.Env = append(os.Environ(), helperDir+"="+dir)
	helper.Stderr = os.Stderr
	out, err := helper.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := helper.Start(); err != nil {
		t.Fatal(err)
	}
	var url string
	_, scanErr := fmt.Fscan(out, &url)
	if scanErr == nil {
		mustExec(t, url, "create table seat as select 42 as n")
	}
	if err := helper.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = helper.Wait()
	if scanErr != nil {
		t.Fatal(scanErr)
	}

	// Every process of the server holds the lock, and a zombie, which nobody may be there to collect, does not.
	f, err := os.OpenFile(filepath.Join(dir, lockName), os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	began := time.Now()
	for syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB) != nil {
		if time.Since(began) > 10*time.Second {
			t.Fatal("the server outlives its killed parent")
		}
		time.Sleep(5 * time.Millisecond)
	}
	t.Logf("gone after %s", time.Since(began))
	if err := unlock(f); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(filepath.Join(dir, "data", pidFile)); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("pid file: %v; want none, after a clean shutdown", err)
	}
	s := mustStart(t, Options{Dir: dir})
	if got := query[int](t, s.URL(), "select n from seat"); got != 42 {
		t.Errorf("n = %d, want 42", got)
	}
}

// The one who restarts a killed program at once meets its server while that is still shutting down.
func TestStartWaitsForOrphan(t *testing.T) {
	t.Parallel()
	dir := keptDir(t)
	if err := os.Mkdir(dir, 0o711); err != nil {
		t.Fatal(err)
	}
	held, err := lock(t.Context(), dir)
	if err != nil {
		t.Fatal(err)
	}
	dead := exec.Command("/bin/true")
	if err := dead.Run(); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(held.Name(), fmt.Appendln(nil, dead.Process.Pid), 0o600); err != nil {
		t.Fatal(err)
	}
	ctx := &pausing{Context: t.Context(), paused: make(chan struct{})}
	next := make(chan error, 1)
	go func() {
		f, err := lock(ctx, dir)
		next <- errors.Join(err, unlock(f))
	}()
	for range 2 { // it has tried, and tried again
		<-ctx.paused
	}
	if err := unlock(held); err != nil {
		t.Fatal(err)
	}
	for {
		select {
		case <-ctx.paused:
		case err := <-next:
			if err != nil {
				t.Fatal(err)
			}
			return
		}
	}
}

// The lock of a living parent is refused without a pause.
func TestLockOfTheLivingIsRefusedAtOnce(t *testing.T) {
	t.Parallel()
	dir := keptDir(t)
	if err := os.Mkdir(dir, 0o711); err != nil {
		t.Fatal(err)
	}
	held, err := lock(t.Context(), dir)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = unlock(held) }()
	ctx := &pausing{Context: t.Context(), paused: make(chan struct{}, 1000)}
	if _, err := lock(ctx, dir); err == nil || !strings.Contains(err.Error(), "already runs in "+dir) {
		t.Errorf("second lock: %v, want that one already runs", err)
	}
	if len(ctx.paused) > 0 {
		t.Error("it waited before it refused")
	}
}

// pausing is a context that tells when somebody begins to wait.
type pausing struct {
	context.Context
	paused chan struct{}
}

func (p *pausing) Done() <-chan struct{} {
	p.paused <- struct{}{}
	return p.Context.Done()
}

func TestSweep(t *testing.T) {
	t.Parallel()
	parent := t.TempDir()
	old := time.Now().Add(-2 * sweepAge)
	makeDir := func(name string, mtime time.Time) *os.File {
		dir := filepath.Join(parent, name)
		if err := os.Mkdir(dir, 0o700); err != nil {
			t.Fatal(err)
		}
		f, err := lock(t.Context(), dir)
		if err != nil {
			t.Fatal(err)
		}
		if err := os.Chtimes(dir, mtime, mtime); err != nil {
			t.Fatal(err)
		}
		return f
	}
	inUse := makeDir(tempPrefix+"used", old)
	defer func() { _ = unlock(inUse) }()
	for name, mtime := range map[string]time.Time{tempPrefix + "left": old, tempPrefix + "new": time.Now(), "other": old} {
		if err := unlock(makeDir(name, mtime)); err != nil {
			t.Fatal(err)
		}
	}

	sweep(parent)

	entries, err := os.ReadDir(parent)
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, e := range entries {
		names = append(names, e.Name())
	}
	if got, want := strings.Join(names, " "), tempPrefix+"new "+tempPrefix+"used other"; got != want {
		t.Errorf("left after the sweep: %s; want %s", got, want)
	}
}
