package chaos

import (
	"context"
	"fmt"
	"os"
	"strings"
	"sync"
	"testing"
	"time"
)

// shared is the directory of the programs, once a test has asked for them. CHAOS_PROGRAMS names one that is built.
var shared = sync.OnceValues(func() (string, error) {
	if dir := os.Getenv("CHAOS_PROGRAMS"); dir != "" {
		return dir, nil
	}
	dir, err := os.MkdirTemp("", "lastseat-chaos-bin-")
	if err != nil {
		return "", err
	}
	built = dir
	return dir, Build(context.Background(), dir, buildFlags...)
})

var (
	built string
	// Without what a debugger reads: that is a third of what linking costs. And -race, if the tests have it.
	buildFlags = []string{"-ldflags=-s -w"}
)

func TestMain(m *testing.M) {
	code := m.Run()
	if built != "" {
		_ = os.RemoveAll(built)
	}
	os.Exit(code)
}

// testLog passes on what a bench does.
type testLog struct{ t *testing.T }

func (l testLog) Write(p []byte) (int, error) {
	l.t.Log(strings.TrimSpace(string(p)))
	return len(p), nil
}

func newBench(t *testing.T) *Bench {
	t.Helper()
	programs, err := shared()
	if err != nil {
		t.Fatal(err)
	}
	bench, err := NewBench(t.Context(), programs, testLog{t})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(bench.Close)
	return bench
}

func carryOut(t *testing.T, bench *Bench, plan Plan, sabotage Sabotage) *Result {
	t.Helper()
	t.Logf("%v", plan)
	result, err := bench.Run(t.Context(), plan, sabotage)
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("%v: %d requests, %d outcomes; calls %v; longest standstill %v", result.Took.Round(time.Millisecond),
		result.Requests, result.Outcomes, result.Calls, result.Longest)
	return result
}

// The mix: whatever the nemesis does, everything that is promised holds. CHAOS_SEED, CHAOS_TIME and CHAOS_FAULTS change
// it.
func TestMix(t *testing.T) {
	t.Parallel()
	bench := newBench(t)
	seed, length := uint64(14), 30*time.Second
	if text := os.Getenv("CHAOS_SEED"); text != "" {
		if _, err := fmt.Sscan(text, &seed); err != nil {
			t.Fatal(err)
		}
	}
	if text := os.Getenv("CHAOS_TIME"); text != "" {
		var err error
		if length, err = time.ParseDuration(text); err != nil {
			t.Fatal(err)
		}
	}
	result := carryOut(t, bench, NewPlan(seed, length, 700*time.Millisecond, strings.Fields(os.Getenv("CHAOS_FAULTS"))...),
		NoSabotage)
	for _, v := range result.Violations {
		t.Errorf("%v", v)
	}
	if len(result.Violations) > 0 {
		t.Log(result.Logs)
	}
	if result.Calls[OK] < 100 {
		t.Errorf("only %d calls were answered with ok", result.Calls[OK])
	}
}

// Every sabotage is seen by a check, and by one that it is meant for. Without SOAK two of them are tried.
func TestSabotages(t *testing.T) {
	t.Parallel()
	bench := newBench(t)
	for _, sabotage := range Sabotages() {
		if quick := sabotage.Name == "no lane" || sabotage.Name == "any arguments"; !quick && os.Getenv("SOAK") == "" {
			continue
		}
		t.Run(sabotage.Name, func(t *testing.T) {
			caught, err := bench.Try(t.Context(), sabotage)
			if err != nil {
				t.Fatal(err)
			}
			t.Logf("seen by the check %q after %v s", caught.Check, caught.Seconds)
		})
	}
}

// docs/reliability.md says what results.json says.
func TestReport(t *testing.T) {
	t.Parallel()
	results, err := ReadResults("results.json")
	if err != nil {
		t.Fatal(err)
	}
	page, err := os.ReadFile("../../docs/reliability.md")
	if err != nil {
		t.Fatal(err)
	}
	if string(page) != results.Report() {
		t.Error("docs/reliability.md is not what internal/chaos/results.json gives: make reliability writes it")
	}
}
