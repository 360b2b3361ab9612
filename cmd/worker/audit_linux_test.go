package main

import (
	"fmt"
	"io"
	"os"
	"strings"
	"syscall"
	"testing"
	"unsafe"

	"github.com/lastseat/lastseat/internal/audit"
	"github.com/lastseat/lastseat/internal/cli"
	"github.com/lastseat/lastseat/internal/testdb"
)

// On a terminal an audit says what it is checking; that it says nothing elsewhere is what all the other tests see.
func TestAuditOnATerminal(t *testing.T) {
	t.Parallel()
	url := testdb.New(t)
	screen, tty := openTerminal(t)
	seen := make(chan string)
	go func() {
		all, _ := io.ReadAll(screen) // EIO when the last writer is gone
		seen <- string(all)
	}()
	var out buffer
	code := run(t.Context(), []string{"audit", "-o", "json"}, cli.Streams{In: strings.NewReader(""), Out: &out, Err: tty, Environ: []string{"DATABASE_URL=" + url}})
	_ = tty.Close()
	said := <-seen
	if code != 0 || strings.Count(out.String(), "\n") != len(audit.Checks) {
		t.Errorf("exit code %d, %q", code, out.String())
	}
	for _, check := range audit.Checks {
		if !strings.Contains(said, "checking "+check.Name+" ...\r\x1b[K") {
			t.Errorf("%s is not announced, or left on the screen: %q", check.Name, said)
		}
	}
}

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
