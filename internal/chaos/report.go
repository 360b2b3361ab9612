package chaos

import (
	"encoding/json"
	"fmt"
	"maps"
	"os"
	"slices"
	"strings"
	"time"
)

// Results are what runs have found, added up. docs/reliability.md is made of them.
type Results struct {
	Runs      []RunFigures             `json:"runs"`
	Faults    map[string]*FaultFigures `json:"faults"`
	Sabotages map[string]Catch         `json:"sabotages"`
	Peers     map[string]PeerFigures   `json:"peers"`
}

// RunFigures are those of one run.
type RunFigures struct {
	Seed       uint64  `json:"seed"`
	Seconds    float64 `json:"seconds"`
	Lanes      int     `json:"lanes"`
	Batch      int     `json:"batch"`
	Isolation  string  `json:"isolation"`
	Faults     int     `json:"faults"`
	Requests   int     `json:"requests"`
	OK         int     `json:"ok"`
	Refused    int     `json:"refused"`
	Unknown    int     `json:"unknown"`
	Violations int     `json:"violations"`
	Lost       int     `json:"lost,omitempty"` // by asynchronous failovers
	Standstill float64 `json:"standstill"`     // the longest, in seconds
	Cause      string  `json:"cause"`
}

// FaultFigures are those of one fault.
type FaultFigures struct {
	Runs       int     `json:"runs"`
	Recoveries []int64 `json:"recoveries_ms"` // sorted; of at most mostRecoveries
}

// Catch is how a sabotage was seen.
type Catch struct {
	Check   string  `json:"check"`
	Seconds float64 `json:"seconds"`
}

// mostRecoveries keeps the file small. When there are more, every second one is left out, so that the spread stays.
const mostRecoveries = 400

// ReadResults reads the file, or begins one.
func ReadResults(file string) (*Results, error) {
	r := &Results{Faults: make(map[string]*FaultFigures), Sabotages: make(map[string]Catch)}
	text, err := os.ReadFile(file)
	if os.IsNotExist(err) {
		return r, nil
	}
	if err == nil {
		err = json.Unmarshal(text, r)
	}
	return r, err
}

// Write writes the file, a line for each run and fault.
func (r *Results) Write(file string) error {
	text, err := json.Marshal(r)
	if err != nil {
		return err
	}
	lines := strings.NewReplacer(`},{"seed"`, "},\n{\"seed\"", `]},"`, "]},\n\"", `},"`, "},\n\"").Replace(string(text))
	return os.WriteFile(file, []byte(lines+"\n"), 0o600)
}

// Add adds what came of a run.
func (r *Results) Add(result *Result) {
	p := result.Plan
	r.Runs = append(r.Runs, RunFigures{
		Seed: p.Seed, Seconds: result.Took.Round(100 * time.Millisecond).Seconds(), Lanes: p.Lanes, Batch: p.Batch,
		Isolation: p.Isolation, Faults: len(result.Happened), Requests: result.Requests, OK: result.Calls[OK],
		Refused: result.Calls[Refused], Unknown: result.Calls[Unknown], Violations: len(result.Violations),
		Lost:       len(result.Lost),
		Standstill: (result.Longest.To - result.Longest.From).Round(10 * time.Millisecond).Seconds(),
		Cause:      result.Longest.Cause,
	})
	for _, h := range result.Happened {
		if h.Error != "" {
			continue
		}
		f := r.Faults[h.Fault]
		if f == nil {
			f = &FaultFigures{}
			r.Faults[h.Fault] = f
		}
		f.Runs++
		if h.Seen {
			f.add(h.Recovery.Milliseconds())
		}
	}
}

// Merge adds the results of runs elsewhere.
func (r *Results) Merge(others *Results) {
	r.Runs = append(r.Runs, others.Runs...)
	for name, of := range others.Faults {
		f := r.Faults[name]
		if f == nil {
			f = &FaultFigures{}
			r.Faults[name] = f
		}
		f.Runs += of.Runs
		for _, ms := range of.Recoveries {
			f.add(ms)
		}
	}
	maps.Copy(r.Sabotages, others.Sabotages)
}

func (f *FaultFigures) add(milliseconds int64) {
	i, _ := slices.BinarySearch(f.Recoveries, milliseconds)
	f.Recoveries = slices.Insert(f.Recoveries, i, milliseconds)
	if n := len(f.Recoveries); n > mostRecoveries {
		var half []int64
		for i := 0; i < n; i += 2 {
			half = append(half, f.Recoveries[i])
		}
		half[len(half)-1] = f.Recoveries[n-1]
		f.Recoveries = half
	}
}

// recoveries is the spread of the times.
func (f *FaultFigures) recoveries() string {
	n := len(f.Recoveries)
	if n == 0 {
		return "not seen"
	}
	seconds := func(ms int64) string { return fmt.Sprintf("%.2f", float64(ms)/1000) }
	return fmt.Sprintf(
		"%s / %s / %s of %d",
		seconds(f.Recoveries[0]),
		seconds(f.Recoveries[n/2]),
		seconds(f.Recoveries[n-1]),
		n,
	)
}

//nolint:lll // Markdown
const reportHead = `<!-- Made by internal/chaos from internal/chaos/results.json. Don't edit it here: make chaos adds runs and writes it anew. -->
# Reliability

The fault bench ([internal/chaos](../internal/chaos/doc.go)) runs a Postgres of its own, real ` + "`worker`" + ` and ` + "`enqueue`" + ` programs, and clients
that write a business row in the transaction that asks for a request. It breaks the system in the ways listed here, one after another and at the same time, repairs it,
waits until everything is settled, and checks every promise. A seed repeats a plan: ` + "`make chaos TIME=10m SEED=7`" + `.

## What is checked

`

// Report is docs/reliability.md.
func (r *Results) Report() string {
	text := &strings.Builder{}
	text.WriteString(reportHead)
	for _, c := range checks {
		fmt.Fprintf(text, "- %s: %s.\n", c.name, c.rule)
	}
	text.WriteString("- audit: `worker audit` finds nothing.\n- alarm: the continuous audit of the workers tells of " +
		"nothing, unless something was lost with a primary.\n\n")
	r.total(text)
	r.faultTable(text)
	r.peerTable(text)
	r.sabotageTable(text)
	text.WriteString(reportTail)
	return text.String()
}

func (r *Results) total(text *strings.Builder) {
	var all RunFigures
	faults := 0
	for _, run := range r.Runs {
		all.Seconds += run.Seconds
		all.Requests += run.Requests
		all.OK += run.OK
		all.Refused += run.Refused
		all.Unknown += run.Unknown
		all.Violations += run.Violations
		all.Lost += run.Lost
		faults += run.Faults
		if run.Standstill > all.Standstill {
			all.Standstill, all.Cause, all.Seed = run.Standstill, run.Cause, run.Seed
		}
	}
	fmt.Fprintf(text, "## What came of it\n\n| | |\n|---|---|\n| runs | %d, %.0f minutes of load |\n| faults | %d |\n"+
		"| requests | %d |\n| calls of clients | %d ok, %d refused, %d unknown |\n"+
		"| violations, [judged one by one](decisions/017-fault-bench.md) | **%d** |\n"+
		"| lost by failovers to an asynchronous standby, each listed | %d |\n"+
		"| longest time without anything settled | %.1f s (seed %d: %s) |\n\n"+
		"Not counted are runs in which a fault was tried for the first time and the bench itself was still wrong, or that "+
		"flagged what is mended now. [Decision 017](decisions/017-fault-bench.md) lists each of them.\n\n",
		len(r.Runs), all.Seconds/60, faults,
		all.Requests,
		all.OK, all.Refused, all.Unknown, all.Violations, all.Lost, all.Standstill, all.Seed, all.Cause)
}

func (r *Results) faultTable(text *strings.Builder) {
	text.WriteString(
		"## Fault by fault\n\n*Times* is how often it was carried out, mostly together with others. *Recovery* is the time " +
			"from its end to the next batch of payments and reservations that was settled, in seconds, where no other fault " +
			"was in the way: least / median / most, and of how many. It is measured with one lane. The bench " +
			"looks every 20 ms, on a machine of 2 cores that was busy with other things, too.\nWhere nothing else is said, " +
			"everything is promised: every check holds.\n\n" +
			"| fault | what is done | times | recovery | what is promised |\n|---|---|---|---|---|\n",
	)
	for _, f := range Faults() {
		figures := r.Faults[f.Name]
		if figures == nil {
			figures = &FaultFigures{}
		}
		fmt.Fprintf(text, "| `%s` | %s | %d | %s | %s |\n", f.Name, f.Does, figures.Runs, figures.recoveries(), f.Holds)
	}
	text.WriteString("\n")
}

func (r *Results) peerTable(text *strings.Builder) {
	if len(r.Peers) == 0 {
		return
	}
	text.WriteString(
		"## Others after the same SIGKILL\n\nA worker of each, with its defaults, is killed in the middle of a job that " +
			"takes a " +
			"second, and another one is started at once. `go run ./internal/chaos/soak -peers` measures it. All of them can " +
			"be told to wait for " +
			"a shorter time; then a job that takes longer than that is done twice.\n\n" +
			"| queue | the job was done by another worker | by its documents |\n|---|---|---|\n",
	)
	if kill := r.Faults["kill"]; kill != nil && len(kill.Recoveries) > 0 {
		fmt.Fprintf(
			text,
			"| Lastseat | after %s s (the fault `kill` above) | the transaction of the killed worker is rolled back |\n",
			kill.recoveries(),
		)
	}
	for _, p := range peersKnown {
		figures, is := r.Peers[p.name]
		switch {
		case !is:
		case figures.Within:
			fmt.Fprintf(text, "| %s %s | after %.1f s | %s |\n", p.name, figures.Version, figures.Seconds, figures.Default)
		default:
			fmt.Fprintf(text, "| %s %s | not within %.0f s | %s |\n", p.name, figures.Version, figures.Seconds, figures.Default)
		}
	}
	text.WriteString("\n")
}

func (r *Results) sabotageTable(text *strings.Builder) {
	text.WriteString(
		"## Is the bench any good?\n\nEach of these breaks one guarantee on purpose, in a build of its own (`-tags " +
			"chaos`) or in " +
			"the bench's database. `SOAK=1 go test ./internal/chaos -run Sabotages` demands that a check sees each within a " +
			"minute.\n\n" +
			"| broken on purpose | seen by | after |\n|---|---|---|\n",
	)
	for _, s := range Sabotages() {
		caught, is := r.Sabotages[s.Name]
		after := "not run"
		if is {
			after = fmt.Sprintf("%.0f s", caught.Seconds)
		}
		fmt.Fprintf(text, "| %s | %s | %s |\n", s.Breaks, caught.Check, after)
	}
	text.WriteString("\n")
}

//nolint:lll // Markdown
const reportTail = `## What is not promised

- While Postgres is away, nothing is settled. Recovery counts from the moment when it is back.
- A worker that is frozen in the middle of a batch keeps its lane until Postgres ends its transaction, after 30 seconds.
- A request that is alone in its batch and is cut off from outside twice in a row (its session is ended, its statement cancelled) has a failed
  attempt: it waits for its next one, and later requests pass it by.
- Order across lanes, of requests that are scheduled for later or tried again, and of those that were asked for before and after the server's clock was set.
- A failover to an asynchronous standby loses what the standby lacks. Nobody fences an old primary that comes back: ` + "`worker doctor`" + ` tells of it if its
  connection string names both servers, and workers that know only the old one go on there.
- Full disks need root, failovers and clocks need the programs beside Postgres and libfaketime: where they are missing the bench says "skipped".
`
