package main

import (
	"bytes"
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"

	"github.com/lastseat/lastseat/internal/testdb"
	"github.com/lastseat/lastseat/outbox"
)

const rulesFile = "../../deploy/prometheus/lastseat.rules.yml"

// promtool runs Prometheus's checker. make promtool-check gets one.
func promtool(t *testing.T, stdin string, args ...string) {
	t.Helper()
	tool := os.Getenv("PROMTOOL")
	if tool == "" {
		tool = "promtool"
	}
	path, err := exec.LookPath(tool)
	if err != nil {
		t.Skip("promtool is missing: make promtool-check")
	}
	command := exec.CommandContext(t.Context(), path, args...)
	command.Stdin = strings.NewReader(stdin)
	if said, err := command.CombinedOutput(); err != nil {
		t.Errorf("promtool %s: %v\n%s", strings.Join(args, " "), err, said)
	}
}

// Each alarm has a test in which it fires, and promtool runs them.
func TestAlarmsFire(t *testing.T) {
	t.Parallel()
	const tests = "../../deploy/prometheus/lastseat.rules.test.yml"
	rules, err := os.ReadFile(rulesFile)
	if err != nil {
		t.Fatal(err)
	}
	tested, err := os.ReadFile(tests)
	if err != nil {
		t.Fatal(err)
	}
	for _, alarm := range regexp.MustCompile(`alert: (\w+)`).FindAllStringSubmatch(string(rules), -1) {
		fires := regexp.MustCompile(`- alertname: ` + alarm[1] + "\n +eval_time: .*\n +exp_alerts:\n +- exp_labels:")
		quiet := "{alertname: " + alarm[1] + ", eval_time: 40m, exp_alerts: []}"
		if !fires.Match(tested) || !bytes.Contains(tested, []byte(quiet)) {
			t.Errorf("%s has no test in which %s fires, or none in which it is quiet", tests, alarm[1])
		}
	}
	promtool(t, "", "check", "rules", rulesFile)
	promtool(t, "", "check", "config", "--syntax-only", "../../deploy/compose/prometheus.yml")
	promtool(t, "", "test", "rules", tests)
}

// panelQuery is a query of the dashboard.
type panelQuery struct{ panel, expr string }

func panelQueries(t *testing.T) []panelQuery {
	t.Helper()
	text, err := os.ReadFile("../../deploy/grafana/lastseat.json")
	if err != nil {
		t.Fatal(err)
	}
	var dashboard struct {
		Panels []struct {
			Title   string
			Targets []struct{ Expr string }
		}
	}
	if err := json.Unmarshal(text, &dashboard); err != nil {
		t.Fatal(err)
	}
	var queries []panelQuery
	for _, panel := range dashboard.Panels {
		if len(panel.Targets) == 0 {
			t.Errorf("the panel %q asks for nothing", panel.Title)
		}
		for _, target := range panel.Targets {
			queries = append(queries, panelQuery{panel.Title, target.Expr})
		}
	}
	return queries
}

type (
	inputSeries struct {
		Series string `json:"series"`
		Values string `json:"values"`
	}
	expected struct {
		Labels string  `json:"labels"`
		Value  float64 `json:"value"`
	}
	queryTest struct {
		Expr     string     `json:"expr"`
		EvalTime string     `json:"eval_time"`
		Samples  []expected `json:"exp_samples"`
	}
)

var exposed = regexp.MustCompile(`(?m)^(lastseat_\w+)(\{.*\})? (\S+)$`)

// seriesOf makes series of ten minutes from what a worker told: its gauges stay, its counters grow.
func seriesOf(t *testing.T, scraped string) []inputSeries {
	t.Helper()
	var series []inputSeries
	for _, line := range exposed.FindAllStringSubmatch(scraped, -1) {
		value, err := strconv.ParseFloat(line[3], 64)
		if err != nil {
			t.Fatal(err)
		}
		values := strconv.FormatFloat(value, 'f', -1, 64) + "x20"
		if !strings.Contains(scraped, "# TYPE "+line[1]+" gauge\n") {
			values = "0+" + strconv.FormatFloat(value+1, 'f', -1, 64) + "x20"
		}
		labels := strings.Replace(line[2], "{", `{instance="a",`, 1)
		if labels == "" {
			labels = `{instance="a"}`
		}
		series = append(series, inputSeries{line[1] + labels, values})
	}
	return series
}

// Each query of the dashboard can be read, and has data from the metrics of a worker that settles.
func TestEveryPanelHasData(t *testing.T) {
	t.Parallel()
	url := testdb.New(t)
	pool := open(t, url)
	address, _ := runAdmin(t, "DATABASE_URL="+url)
	give(t, pool, "a", 100)
	if _, err := outbox.Wait(t.Context(), pool, "a"); err != nil {
		t.Fatal(err)
	}
	_, scraped := get(t, address+"/metrics")
	queries := panelQueries(t)
	tests := make([]queryTest, len(queries))
	for i, query := range queries {
		expr := strings.ReplaceAll(query.expr, "$__rate_interval", "5m")
		tests[i] = queryTest{"count(" + expr + ") > bool 0", "10m", []expected{{"{}", 1}}}
	}
	written, err := json.Marshal(map[string]any{"tests": []any{map[string]any{
		"interval": "1m", "input_series": seriesOf(t, scraped), "promql_expr_test": tests,
	}}})
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(t.TempDir(), "panels.json") // JSON is YAML
	if err := os.WriteFile(file, written, 0o600); err != nil {
		t.Fatal(err)
	}
	promtool(t, "", "test", "rules", file)
	promtool(t, scraped, "check", "metrics")
}
