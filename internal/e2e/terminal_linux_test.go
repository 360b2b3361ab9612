package e2e

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
	"unsafe"

	"github.com/lastseat/lastseat/internal/testdb"
)

// openTerminal makes a pseudo-terminal: what is written to tty can be read from screen.
func openTerminal(t *testing.T) (screen, tty *os.File) {
	t.Helper()
	screen, err := os.OpenFile("/dev/ptmx", os.O_RDWR, 0)
	if err != nil {
		t.Skip("no terminal can be made here: ", err)
	}
	t.Cleanup(func() { _ = screen.Close() })
	ioctl := func(request uintptr, value *int32) {
		if _, _, errno := syscall.Syscall(syscall.SYS_IOCTL, screen.Fd(), request, uintptr(unsafe.Pointer(value))); errno != 0 {
			t.Skip("no terminal can be made here: ", errno)
		}
	}
	var number, unlocked int32
	ioctl(syscall.TIOCSPTLCK, &unlocked)
	ioctl(syscall.TIOCGPTN, &number)
	tty, err = os.OpenFile(fmt.Sprintf("/dev/pts/%d", number), os.O_RDWR|syscall.O_NOCTTY, 0)
	if err != nil {
		t.Skip("no terminal can be made here: ", err)
	}
	return screen, tty
}

// The bar of an import is for a terminal; that nothing of it goes elsewhere is what all the other tests see.
func TestProgressOnATerminal(t *testing.T) {
	t.Parallel()
	url := testdb.New(t)
	open(t, testdb.Pool(t, url))
	var file strings.Builder
	file.WriteString("key,from_account,to_account,amount,currency,description\n")
	for n := range 1000 {
		fmt.Fprintf(&file, "k%d,bank,ada,1,EUR,%s\n", n, strings.Repeat("d", 2000)) // some reads long
	}
	name := filepath.Join(t.TempDir(), "transfers.csv")
	if err := os.WriteFile(name, []byte(file.String()), 0o600); err != nil {
		t.Fatal(err)
	}
	dir, err := programs()
	if err != nil {
		t.Fatal(err)
	}
	screen, tty := openTerminal(t)
	cmd := exec.Command(filepath.Join(dir, "enqueue"), "import", name, "--chunk", "10")
	cmd.Env = on(url, "TERM=xterm")
	cmd.Stderr = tty
	var out strings.Builder
	cmd.Stdout = &out
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	_ = tty.Close()
	seen := make(chan string, 1)
	go func() {
		var all []byte
		buf := make([]byte, 4096)
		for {
			n, err := screen.Read(buf)
			all = append(all, buf[:n]...)
			if err != nil { // EIO when the last writer is gone
				seen <- string(all)
				return
			}
		}
	}()
	if err := cmd.Wait(); err != nil {
		t.Error(err)
	}
	select {
	case bar := <-seen:
		if !strings.Contains(bar, "importing") || !strings.Contains(bar, "%") {
			t.Errorf("the terminal shows %q, want a bar", bar)
		}
	case <-time.After(patience):
		t.Error("the terminal is still open")
	}
	if !strings.HasPrefix(out.String(), "1000 requests: 1000 new") {
		t.Errorf("stdout is %q", out.String())
	}
}
