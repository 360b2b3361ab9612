package e2e

import (
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	neturl "net/url"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/lastseat/lastseat/internal/audit"
	"github.com/lastseat/lastseat/internal/clitest"
)

// processesIn counts the processes that name a directory on their command line, as Postgres does its data directory.
func processesIn(t *testing.T, dir string) (n int) {
	t.Helper()
	lines, err := filepath.Glob("/proc/[0-9]*/cmdline")
	if err != nil || len(lines) == 0 {
		t.Skip("there is no /proc to look for processes in")
	}
	for _, name := range lines {
		if line, err := os.ReadFile(name); err == nil && strings.Contains(string(line), dir) { // it may have ended meanwhile
			n++
		}
	}
	return n
}

// leavesNothing demands that no server lives on in the directory, and that the directory is empty.
func leavesNothing(t *testing.T, dir string) {
	t.Helper()
	if n := processesIn(t, dir); n > 0 {
		t.Errorf("%d processes live on", n)
	}
	if left, err := os.ReadDir(dir); err != nil || len(left) > 0 {
		t.Errorf("%v is left in the temporary directory (%v)", left, err)
	}
}

func TestDemo(t *testing.T) {
	t.Parallel()
	for _, output := range []string{"text", "json"} {
		t.Run(output, func(t *testing.T) {
			t.Parallel()
			tmp := ownDir(t)
			p := start(t, []string{"TMPDIR=" + tmp}, "worker", "demo", "-o", output)
			ran := false
			clitest.Eventually(t, "the demo to run its Postgres", func() bool {
				ran = ran || processesIn(t, tmp) > 0
				return ran || !p.running()
			})
			p.exits(t, 0)
			p.quiet(t)
			if !ran {
				t.Error("no Postgres was seen in the temporary directory: the test looks in the wrong place")
			}
			leavesNothing(t, tmp)
			applied, rejected := 0, 0
			for line := range strings.Lines(p.out.String()) {
				if output == "json" && !json.Valid([]byte(line)) {
					t.Errorf("stdout has the line %q", line)
				}
				applied += strings.Count(line, "transferred")
				rejected += strings.Count(line, "insufficient_funds") + strings.Count(line, "currency_mismatch")
				if strings.Contains(line, "BROKEN") {
					t.Errorf("the demo's audit: %s", line)
				}
			}
			if applied < 3 || rejected < 1 {
				t.Errorf("%d applied and %d rejected are shown, want some of both\n%s", applied, rejected, p.out.String())
			}
		})
	}
}

func TestDemoCrash(t *testing.T) {
	t.Parallel()
	tmp := ownDir(t)
	p := start(t, []string{"TMPDIR=" + tmp}, "worker", "demo", "crash")
	p.exits(t, 0)
	leavesNothing(t, tmp)
	for what, n := range map[string]int{"at work after": 3, "51 of 51 are equal": 1, "BROKEN": 0,
		fmt.Sprintf("%d invariants hold over 51 accounts", len(audit.Checks)): 1} {
		if got := strings.Count(p.out.String(), what); got != n {
			t.Errorf("it says %q %d times, want %d:\n%s", what, got, n, p.out.String())
		}
	}
}

func TestDemoInterrupted(t *testing.T) {
	t.Parallel()
	for _, after := range []time.Duration{100 * time.Millisecond, time.Second} {
		t.Run(after.String(), func(t *testing.T) {
			t.Parallel()
			tmp := ownDir(t)
			p := start(t, []string{"TMPDIR=" + tmp}, "worker", "demo")
			time.Sleep(after)
			p.signal(t, syscall.SIGINT)
			p.wait(t)
			p.quiet(t)
			leavesNothing(t, tmp)
		})
	}
}

var (
	exported = regexp.MustCompile(`export DATABASE_URL='([^']+)'`)
	listens  = regexp.MustCompile(`River UI" url=(http://\S+)`)
)

// dev runs `worker dev` until it serves, and returns the URLs of its database and its UI.
func dev(t *testing.T, environ []string, args ...string) (p *process, url, ui string) {
	t.Helper()
	p = start(t, environ, "worker", append([]string{"dev"}, args...)...)
	clitest.Eventually(t, "worker dev to be up", func() bool {
		if !p.running() {
			t.Fatalf("worker dev has ended: %s", p.errs.String())
		}
		said := p.errs.String()
		if match := exported.FindStringSubmatch(said); match != nil {
			url = match[1]
		}
		if match := listens.FindStringSubmatch(said); match != nil {
			ui = match[1]
		}
		return ui != "" && strings.Contains(said, "lane taken")
	})
	return p, url, ui
}

func transferArgs(key string) []string {
	return []string{"transfer", "--key", key, "--from", "bank", "--to", "ada", "--amount", "1", "--currency", "EUR",
		"--wait", "45s"}
}

// `worker dev` without a database makes one, serves River UI on this machine only, works, and leaves nothing; with
// --data it leaves the data, and goes on with it.
func TestDev(t *testing.T) {
	t.Parallel()
	tmp := ownDir(t)
	data := filepath.Join(tmp, "kept")
	environ := []string{"TMPDIR=" + tmp}
	p, url, ui := dev(t, environ, "--data", data)
	at, err := neturl.Parse(ui)
	if err != nil || !net.ParseIP(at.Hostname()).IsLoopback() {
		t.Errorf("River UI listens on %s (%v)", ui, err)
	}
	for _, path := range []string{"/", "/api/queues?limit=10"} {
		response, err := http.Get(ui + path)
		if err != nil {
			t.Fatal(err)
		}
		_ = response.Body.Close()
		if response.StatusCode != http.StatusOK {
			t.Errorf("River UI, %s: %s", path, response.Status)
		}
	}
	enqueue(t, url, "account", "--id", "bank", "--currency", "EUR", "--overdraft", "unlimited").exits(t, 0)
	enqueue(t, url, "account", "--id", "ada", "--currency", "EUR").exits(t, 0)
	enqueue(t, url, transferArgs("k")...).exits(t, 0)
	p.signal(t, syscall.SIGINT)
	p.exits(t, 0)
	p.quiet(t)
	if n := processesIn(t, tmp); n > 0 {
		t.Errorf("%d processes live on", n)
	}
	if response, err := http.Get(ui); err == nil {
		_ = response.Body.Close()
		t.Error("River UI is still there")
	}

	p, url, _ = dev(t, environ, "--data", data, "--ui", "localhost:0")
	enqueue(t, url, "wait", "k").exits(t, 0)
	p.signal(t, syscall.SIGTERM)
	p.exits(t, 0)
	if err := os.RemoveAll(data); err != nil {
		t.Fatal(err)
	}
	leavesNothing(t, tmp)
}

func TestDevThrowsAway(t *testing.T) {
	t.Parallel()
	tmp := ownDir(t)
	p, _, _ := dev(t, []string{"TMPDIR=" + tmp})
	p.signal(t, syscall.SIGINT)
	p.exits(t, 0)
	leavesNothing(t, tmp)
}
