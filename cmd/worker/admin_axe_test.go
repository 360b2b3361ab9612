package main

import (
	"os"
	"os/exec"
	"testing"

	"github.com/lastseat/lastseat/internal/testdb"
	"github.com/lastseat/lastseat/outbox"
)

// axe is a checker of accessibility, from npm. It comes into .tools when it is needed.
func axe(t *testing.T) (script string) {
	t.Helper()
	const place = "../../.tools/axe"
	const file = place + "/node_modules/axe-core/axe.min.js"
	if _, err := os.Stat(file); err != nil {
		install := exec.CommandContext(t.Context(), "npm", "install", "--silent", "--no-audit", "--no-fund",
			"--ignore-scripts", "--prefer-offline", "--prefix", place, "axe-core@4.14.1")
		if said, err := install.CombinedOutput(); err != nil {
			t.Skipf("axe-core can't be had from npm: %v: %s", err, said)
		}
	}
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// With SOAK=1: axe finds nothing to complain of on any page, neither in the light nor in the dark.
func TestPagesAreAccessible(t *testing.T) {
	t.Parallel()
	if os.Getenv("SOAK") == "" {
		t.Skip("SOAK=1 gets axe-core from npm")
	}
	script := axe(t)
	b := startBrowser(t)
	dbURL := testdb.New(t)
	pool := open(t, dbURL)
	address, _ := runAdmin(t, "DATABASE_URL="+dbURL, "LASTSEAT_ADMIN_VIEWER_TOKEN="+viewerToken,
		"LASTSEAT_ADMIN_OPERATOR_TOKEN="+operatorToken)
	give(t, pool, "order-1", 1250)
	give(t, pool, "too much", 1<<62)
	give(t, pool, "and too much again", 1<<62)
	ask(t, pool)
	if _, err := outbox.Wait(t.Context(), pool, "order-1", "and too much again", "meeting"); err != nil {
		t.Fatal(err)
	}
	b.as(operatorToken)
	for _, scheme := range []string{"light", "dark"} {
		b.call("Emulation.setEmulatedMedia", map[string]any{
			"features": []any{map[string]any{"name": "prefers-color-scheme", "value": scheme}},
		})
		for path, says := range map[string]string{
			"/": "Live.", "/request?key=order-1": "Timeline", "/account?id=ada": "1250", "/requests?status=rejected": "Rejected",
			"/payment?id=pay-1": "captured", "/reservation?id=late": "waiting", "/resource?id=seat:A1": "seat:A1",
			"/resource?id=room&week=2026-11-27": "Week of", "/resources?prefix=seat": "in all", "/search?q=seat": "seat:A1",
			"/request?key=nothing": "no request has the key",
		} {
			b.open(address + path)
			b.sees(says)
			b.run(script)
			found, _ := b.call("Runtime.evaluate", map[string]any{"awaitPromise": true, "expression": `axe.run().then(r =>
				r.passes.length < 5 ? "axe looked at nothing" : r.violations.map(v =>
					v.id + ": " + v.nodes.map(n => n.html + " " + n.failureSummary).join("; ")).join("\n"))`,
			})["result"].(map[string]any)
			if found["value"] != "" {
				t.Errorf("%s, %s: %v", path, scheme, found)
			}
		}
	}
}
