package main

import (
	"context"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/lastseat/lastseat/internal/cli"
	"github.com/lastseat/lastseat/internal/clitest"
	"github.com/lastseat/lastseat/internal/testdb"
	"github.com/lastseat/lastseat/outbox"
)

var adminURL = regexp.MustCompile(`msg="admin server" url=(\S+)`)

// runAdmin runs a worker with a server of its own, and returns where that listens and what the worker logs.
func runAdmin(t *testing.T, environ ...string) (address string, log *clitest.Buffer) {
	t.Helper()
	log = runWorker(t, append(environ, "LASTSEAT_ADMIN_ADDR=127.0.0.1:0")...)
	found := adminURL.FindStringSubmatch(log.String())
	if found == nil {
		t.Fatalf("the log does not say where the server is: %s", log.String())
	}
	return found[1], log
}

// runWorker runs a worker until the test ends, and returns what it logs. It has taken its lane.
func runWorker(t *testing.T, environ ...string) (log *clitest.Buffer) {
	t.Helper()
	log = &clitest.Buffer{}
	var out clitest.Buffer
	ctx, stop := context.WithCancel(context.WithoutCancel(t.Context()))
	ended := make(chan int, 1)
	go func() {
		ended <- run(ctx, []string{"run"}, cli.Streams{In: strings.NewReader(""), Out: &out, Err: log,
			Environ: environ})
	}()
	t.Cleanup(func() {
		stop()
		if code := <-ended; code != 0 {
			t.Errorf("exit code %d: %s", code, log.String())
		}
	})
	clitest.Eventually(t, "the lane to be taken", func() bool { return strings.Contains(log.String(), "lane taken") })
	return log
}

func get(t *testing.T, address string) (code int, body string) {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, address, nil)
	if err != nil {
		t.Fatal(err)
	}
	answer, err := http.DefaultClient.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = answer.Body.Close() }()
	told, err := io.ReadAll(answer.Body)
	if err != nil {
		t.Fatal(err)
	}
	return answer.StatusCode, string(told)
}

var metricName = regexp.MustCompile(`\blastseat_[a-z_]+`)

var roles = []string{"lastseat_worker", "lastseat_producer", "lastseat_viewer", "lastseat_keeper"}

// metricsIn are the names of metrics in a text, which may name roles, too.
func metricsIn(text string) map[string]bool {
	names := make(map[string]bool)
	for _, name := range metricName.FindAllString(text, -1) {
		if !slices.Contains(roles, name) {
			names[name] = true
		}
	}
	return names
}

// Whatever an alarm, the dashboard or the guide names is there in the metrics of a worker that has done something.
func TestMetricsAreThere(t *testing.T) {
	t.Parallel()
	url := testdb.New(t)
	pool := open(t, url)
	address, _ := runAdmin(t, "DATABASE_URL="+url, "LASTSEAT_WEBHOOK_ADDR=127.0.0.1:0",
		"LASTSEAT_PROCESSOR_STRIPE_KEY=sk_test_x", "LASTSEAT_PROCESSOR_STRIPE_WEBHOOK_SECRETS=whsec_of_the_test")
	give(t, pool, "a", 100)
	give(t, pool, "b", 200)
	give(t, pool, "too much", 1<<62)
	give(t, pool, "and too much again", 1<<62)
	if _, err := outbox.Wait(t.Context(), pool, "a", "b", "too much", "and too much again"); err != nil {
		t.Fatal(err)
	}
	wants := []string{
		`lastseat_requests_settled_total{code="transferred",kind="payment.transfer",status="applied"} 3`,
		`lastseat_requests_settled_total{code="out_of_range",kind="payment.transfer",status="rejected"} 1`,
		`lastseat_requests_settled_total{code="retries_exhausted",kind="payment.transfer",status="failed"} 0`,
		`lastseat_lane_held{lane="0"} 1`, `lastseat_lane_has_holder{lane="0",queue="lastseat"} 1`,
		`lastseat_backlog_requests{queue="lastseat"} 0`, `lastseat_database_up 1`,
		`lastseat_webhooks_total{result="refused",source="stripe"} 0`,
	}
	var scraped string
	clitest.Eventually(t, "the metrics of what was settled", func() bool { // they follow the commit
		_, scraped = get(t, address+"/metrics")
		return !slices.ContainsFunc(wants, func(want string) bool { return !strings.Contains(scraped, want+"\n") })
	})
	there := metricsIn(scraped)
	files := []string{"deploy/prometheus/lastseat.rules.yml", "deploy/grafana/lastseat.json", "docs/monitoring.md"}
	for _, file := range files {
		text, err := os.ReadFile(filepath.Join("../..", file))
		if err != nil {
			t.Fatal(err)
		}
		named := metricsIn(string(text))
		if len(named) < 10 {
			t.Errorf("%s names %d metrics", file, len(named))
		}
		for name := range named {
			if !there[name] {
				t.Errorf("%s names %s, which no worker has", file, name)
			}
		}
	}
}

// The guide lists every metric of a worker, and has a runbook entry for every alarm.
func TestGuideListsMetricsAndAlarms(t *testing.T) {
	t.Parallel()
	guide, err := os.ReadFile("../../docs/monitoring.md")
	if err != nil {
		t.Fatal(err)
	}
	rules, err := os.ReadFile("../../deploy/prometheus/lastseat.rules.yml")
	if err != nil {
		t.Fatal(err)
	}
	alarms := regexp.MustCompile(`alert: (\w+)`).FindAllStringSubmatch(string(rules), -1)
	if len(alarms) == 0 {
		t.Error("there are no alarms")
	}
	for _, alarm := range alarms {
		if !strings.Contains(string(guide), "\n### "+alarm[1]+"\n") {
			t.Errorf("docs/monitoring.md has no entry for %s", alarm[1])
		}
		if !strings.Contains(string(rules), "docs/monitoring.md#"+strings.ToLower(alarm[1])+"\n") {
			t.Errorf("%s does not point at its entry", alarm[1])
		}
	}
	address, _ := runAdmin(t, "DATABASE_URL="+testdb.New(t))
	_, scraped := get(t, address+"/metrics")
	told := metricsIn(string(guide))
	for _, found := range regexp.MustCompile(`(?m)^# TYPE (lastseat_\w+)`).FindAllStringSubmatch(scraped, -1) {
		if !told[found[1]] {
			t.Errorf("docs/monitoring.md does not list %s", found[1])
		}
	}
}

// A worker is ready while it holds its lane and nobody has paused the queue, and lives in any case.
func TestReady(t *testing.T) {
	t.Parallel()
	url := testdb.New(t)
	address, _ := runAdmin(t, "DATABASE_URL="+url)
	if code, body := get(t, address+"/livez"); code != 200 {
		t.Errorf("livez: %d %s", code, body)
	}
	if code, body := get(t, address+"/readyz?verbose"); code != 200 || !strings.Contains(body, "lanes") {
		t.Errorf("readyz: %d %s", code, body)
	}
	runWith(t, url, "pause").Succeeds(t)
	clitest.Eventually(t, "readyz to see the pause", func() bool {
		code, body := get(t, address+"/readyz?verbose")
		return code == 503 && strings.Contains(body, "is paused")
	})
	if code, body := get(t, address+"/livez"); code != 200 {
		t.Errorf("livez: %d %s", code, body)
	}
}

func TestAdminServerWithoutATokenIsRefused(t *testing.T) {
	t.Parallel()
	r := runIn(t, []string{"DATABASE_URL=postgres://localhost/none", "LASTSEAT_ADMIN_ADDR=0.0.0.0:0"}, "run")
	r.Fails(t, cli.ExitConfig, "LASTSEAT_ADMIN_VIEWER_TOKEN")
}
