package clitest

import (
	"fmt"
	"io"
	"net"
	"net/url"
	"os"
	osexec "os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"
)

// PgBouncer starts PgBouncer in a pool mode (session, transaction, statement) before the server of base, and returns
// the URL that leads through it. More settings are lines of pgbouncer.ini.
func PgBouncer(t *testing.T, base, mode string, settings ...string) string {
	t.Helper()
	program := pgbouncer(t)
	at, err := url.Parse(base)
	if err != nil {
		t.Fatal(err)
	}
	config, err := pgx.ParseConfig(base)
	if err != nil {
		t.Fatal(err)
	}
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	at.Host = listener.Addr().String()
	_ = listener.Close()
	dir := t.TempDir()
	ini := fmt.Sprintf("[databases]\n* = host=%s port=%d\n[pgbouncer]\nlisten_addr = 127.0.0.1\nlisten_port = %s\n"+
		"unix_socket_dir =\nauth_type = plain\nauth_file = %s\npool_mode = %s\n%s\n",
		config.Host, config.Port, at.Port(), filepath.Join(dir, "users"), mode, strings.Join(settings, "\n"))
	if os.Getuid() == 0 {
		ini += "user = nobody\n" // it refuses to run as root
	}
	for name, text := range map[string]string{"users": fmt.Sprintf("%q %q\n", config.User, config.Password), "ini": ini} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o644); err != nil { //nolint:gosec // for nobody
			t.Fatal(err)
		}
	}
	open(t, dir)
	var log Buffer
	pooler := osexec.CommandContext(t.Context(), program, filepath.Join(dir, "ini"))
	pooler.Stdout, pooler.Stderr = io.Discard, &log
	if err := pooler.Start(); err != nil {
		t.Fatal(err)
	}
	gone := make(chan struct{})
	go func() { _ = pooler.Wait(); close(gone) }()
	Eventually(t, "PgBouncer", func() bool {
		select {
		case <-gone:
			t.Fatalf("PgBouncer ended: %s", log.String())
		default:
		}
		conn, err := net.Dial("tcp", at.Host)
		if err != nil {
			return false
		}
		return conn.Close() == nil
	})
	return at.String()
}

// pgbouncer is the program, or the test is skipped.
func pgbouncer(t *testing.T) string {
	t.Helper()
	for _, name := range []string{"pgbouncer", "/usr/sbin/pgbouncer"} { // Debian's is not on everybody's PATH
		if program, err := osexec.LookPath(name); err == nil {
			return program
		}
	}
	t.Skip("PgBouncer is not installed: apt-get install pgbouncer")
	return ""
}

// open lets everybody into a directory, as nobody has to be.
func open(t *testing.T, dir string) {
	t.Helper()
	for path := dir; strings.HasPrefix(path, os.TempDir()) && path != os.TempDir(); path = filepath.Dir(path) {
		if err := os.Chmod(path, 0o755); err != nil { //nolint:gosec // for nobody
			t.Fatal(err)
		}
	}
}
