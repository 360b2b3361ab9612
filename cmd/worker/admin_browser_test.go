package main

import (
	"bufio"
	"context"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/lastseat/lastseat/internal/clitest"
	"github.com/lastseat/lastseat/internal/testdb"
)

// browser is a Chromium without a window. It is spoken to by Chrome's DevTools protocol, over two pipes.
type browser struct {
	t       *testing.T
	in      *os.File
	out     *bufio.Reader
	session string // of the tab
	calls   int
}

// startBrowser skips the test where there is no Chromium.
func startBrowser(t *testing.T) *browser {
	t.Helper()
	program, err := exec.LookPath("chromium")
	if err != nil {
		t.Skip("no chromium on the PATH: apt-get install chromium")
	}
	theirIn, in, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	out, theirOut, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	profile, err := os.MkdirTemp("", "lastseat-chromium-") // its helpers may write after it has ended: no t.TempDir
	if err != nil {
		t.Fatal(err)
	}
	// The test's own context ends before the cleanup, and the browser would be killed instead of closed.
	ctx, kill := context.WithTimeout(context.WithoutCancel(t.Context()), 2*time.Minute)
	command := exec.CommandContext(ctx, program, "--headless", "--no-sandbox", "--disable-gpu",
		"--disable-dev-shm-usage", "--no-first-run", "--remote-debugging-pipe", "--user-data-dir="+profile, "about:blank")
	command.ExtraFiles = []*os.File{theirIn, theirOut}
	if err := command.Start(); err != nil {
		kill()
		t.Fatal(err)
	}
	_, _ = theirIn.Close(), theirOut.Close()
	b := &browser{t: t, in: in, out: bufio.NewReader(out)}
	t.Cleanup(func() {
		_, _ = in.WriteString(`{"id": 1000000, "method": "Browser.close"}` + "\x00")
		_ = command.Wait()
		_, _ = in.Close(), out.Close()
		kill()
		_ = os.RemoveAll(profile)
	})
	target := b.call("Target.createTarget", map[string]any{"url": "about:blank"})["targetId"]
	tab := b.call("Target.attachToTarget", map[string]any{"targetId": target, "flatten": true})
	b.session, _ = tab["sessionId"].(string)
	return b
}

// call calls a method of the protocol and waits for its result.
func (b *browser) call(method string, params map[string]any) map[string]any {
	b.t.Helper()
	b.calls++
	call := map[string]any{"id": b.calls, "method": method, "params": params}
	if b.session != "" {
		call["sessionId"] = b.session
	}
	text, err := json.Marshal(call)
	if err != nil {
		b.t.Fatal(err)
	}
	if _, err := b.in.Write(append(text, 0)); err != nil {
		b.t.Fatal(err)
	}
	for {
		text, err := b.out.ReadBytes(0)
		if err != nil {
			b.t.Fatalf("%s: %v", method, err)
		}
		var reply struct {
			ID     int            `json:"id"`
			Result map[string]any `json:"result"`
			Error  any            `json:"error"`
		}
		if err := json.Unmarshal(text[:len(text)-1], &reply); err != nil {
			b.t.Fatal(err)
		}
		if reply.ID != b.calls { // an event
			continue
		}
		if reply.Error != nil {
			b.t.Fatalf("%s: %v", method, reply.Error)
		}
		return reply.Result
	}
}

// run runs a script in the page and returns its value as text.
func (b *browser) run(script string) string {
	b.t.Helper()
	found, _ := b.call("Runtime.evaluate", map[string]any{"expression": script})["result"].(map[string]any)
	return fmt.Sprint(found["value"])
}

// sees waits until the page shows a text.
func (b *browser) sees(text string) {
	b.t.Helper()
	clitest.Eventually(b.t, "the page to show "+text, func() bool {
		return strings.Contains(b.run(`document.body ? document.body.innerText : ""`), text)
	})
}

// as shows a token with every request from now on.
func (b *browser) as(token string) {
	b.t.Helper()
	basic := "Basic " + base64.StdEncoding.EncodeToString([]byte("ada:"+token))
	b.call("Network.enable", map[string]any{})
	b.call("Network.setExtraHTTPHeaders", map[string]any{"headers": map[string]any{"Authorization": basic}})
}

func (b *browser) open(address string) {
	b.t.Helper()
	b.call("Page.navigate", map[string]any{"url": address})
}

// In a browser, somebody searches for a request that failed and opens it. A viewer is offered no button, and is refused
// if they send the form anyway; an operator runs the request again.
func TestInABrowser(t *testing.T) {
	t.Parallel()
	b := startBrowser(t)
	dbURL := testdb.New(t)
	pool := open(t, dbURL)
	runWith(t, dbURL, "run", "--drain").Succeeds(t)
	runWith(t, dbURL, "pause").Succeeds(t)
	give(t, pool, "order-1042", 100)
	testdb.Exec(t, pool, `UPDATE lastseat.river_job SET state = 'cancelled', finalized_at = now()`)
	runWith(t, dbURL, "resume").Succeeds(t)
	address, _ := runAdmin(t, "DATABASE_URL="+dbURL, "LASTSEAT_ADMIN_VIEWER_TOKEN="+viewerToken,
		"LASTSEAT_ADMIN_OPERATOR_TOKEN="+operatorToken)

	b.as(viewerToken)
	b.open(address + "/")
	b.sees("Live.")
	give(t, pool, "while somebody watches", 100)
	clitest.Eventually(t, "the rate to change on the page", func() bool {
		return b.run(`document.querySelector("#live-rate").textContent`) == "0.1"
	})
	if got := b.run(`document.querySelector("#path-rate").getAttribute("d")`); !strings.HasPrefix(got, "M") {
		t.Errorf("the picture of the last hour has the line %q", got)
	}
	b.run(`document.querySelector("#q").value = "order-10"; document.querySelector("[role=search] button").click()`)
	b.sees("order-1042: failed")
	b.run(`document.querySelector("main li a").click()`)
	b.sees("Timeline")
	if buttons := b.run(`document.querySelectorAll("main button").length`); buttons != "0" {
		t.Errorf("a viewer is offered %s buttons", buttons)
	}
	b.run(`document.querySelector("main").innerHTML = "<form method=post action=/change><input name=action value=retry>" +
		"<input name=key value=order-1042><input name=yes value=yes></form>"; document.forms[1].submit()`)
	b.sees("the operator's token is needed")

	b.as(operatorToken)
	b.open(address + "/request?key=order-1042")
	b.sees("Run it again under the same key")
	b.run(`document.querySelector("main button").click()`)
	b.sees("What follows")
	b.run(`document.querySelector("main button").click()`)
	b.sees("Run again: 1")
	clitest.Eventually(t, "the request to be applied", func() bool {
		return testdb.Scalar[string](t, pool, `SELECT status FROM lastseat.requests WHERE key = 'order-1042'`) == "applied"
	})
}
