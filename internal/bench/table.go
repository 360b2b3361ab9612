package main

import (
	"cmp"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"
)

// result is a contestant with its measurements.
type result struct {
	contestant
	runs []measurement
}

// median is the measurement in the middle, as a whole: a table of medians of each column would describe no run.
func (r result) median() measurement {
	sorted := slices.SortedFunc(slices.Values(r.runs), func(a, b measurement) int {
		return cmp.Compare(a.elapsed,
			b.elapsed)
	})
	return sorted[len(sorted)/2]
}

var resultColumns = []string{
	"contestant", "workload", "jobs", "seconds", "jobs/s", "retries per job", "WAL bytes per job", "x one by one",
	"x batches", "x no-op", "x set-based", roundsColumn,
}

// roundsColumn is the last column of each table: how far apart the rounds are.
const roundsColumn = "rounds: least to most a second"

// rounds are the rates of the rounds of something whose totals grow.
type rounds struct {
	done    int
	elapsed time.Duration
	rates   []float64
}

// end notes the rate of a round, from the totals at its end.
func (r *rounds) end(done int, elapsed time.Duration) {
	r.rates = append(r.rates, float64(done-r.done)/(elapsed-r.elapsed).Seconds())
	r.done, r.elapsed = done, elapsed
}

func leastToMost(rates []float64) string {
	if len(rates) < 2 {
		return "-"
	}
	return thousands(slices.Min(rates)) + " to " + thousands(slices.Max(rates))
}

// table is the results in Markdown. A ratio is to the fastest contestant of that kind with the same workload; what is
// in a no-op's jobs makes no difference to it.
func table(results []result) string {
	var text strings.Builder
	line := func(cells []string) { fmt.Fprintf(&text, "| %s |\n", strings.Join(cells, " | ")) }
	line(resultColumns)
	line(append([]string{"---", "---"}, slices.Repeat([]string{"--:"}, len(resultColumns)-2)...))
	for _, r := range results {
		m := r.median()
		cells := []string{
			r.name, r.workload, thousands(float64(m.jobs)), fmt.Sprintf("%.2f", m.elapsed.Seconds()), thousands(m.rate()),
			fmt.Sprintf("%.2f", m.retriesPerJob()), thousands(m.walPerJob()),
		}
		for kind := oneByOneBaseline; kind <= setBasedBaseline; kind++ {
			cells = append(cells, ratio(m, results, func(other contestant) bool {
				return other.baseline == kind && (other.workload == r.workload || kind == noopBaseline)
			}))
		}
		var rates []float64
		for _, run := range r.runs {
			rates = append(rates, run.rate())
		}
		line(append(cells, leastToMost(rates)))
	}
	return text.String()
}

// ratio is that of rates, to the fastest. Without any, which -only may have left out, there is none.
func ratio(m measurement, results []result, is func(contestant) bool) string {
	best := 0.0
	for _, r := range results {
		if is(r.contestant) {
			best = max(best, r.median().rate())
		}
	}
	if best == 0 {
		return "-"
	}
	return fmt.Sprintf("%.2f", m.rate()/best)
}

// ridesTable is the way from asking to the outcome, in Markdown.
func ridesTable(rides []*ride) string {
	var text strings.Builder
	text.WriteString("| end to end | requests/s |")
	for _, load := range loads {
		fmt.Fprintf(&text, " %s: p50, p99 ms |", percents(load))
	}
	text.WriteString(" a bare commit: p50, p99 ms | " + roundsColumn + " |\n| --- | --: |" +
		strings.Repeat(" --: |", len(loads)+2) + "\n")
	for _, r := range rides {
		fmt.Fprintf(&text, "| %s | %s |", r.name, thousands(r.rate()))
		for _, load := range loads {
			fmt.Fprintf(&text, " %s |", halfAndMost(r.waits[load]))
		}
		fmt.Fprintf(&text, " %s | %s |\n", halfAndMost(r.commit), leastToMost(r.rates))
	}
	return text.String()
}

// halfAndMost are p50 and p99, in milliseconds.
func halfAndMost(waits []time.Duration) string {
	if len(waits) == 0 {
		return "-"
	}
	return milliseconds(part(waits, 0.5)) + ", " + milliseconds(part(waits, 0.99))
}

func percents(load float64) string {
	if load == 0 {
		return "idle"
	}
	return fmt.Sprintf("%.0f%%", 100*load)
}

// staysTable is what clients get who wait, in Markdown. A ratio is to the line before.
func staysTable(stays []*stay) string {
	var text strings.Builder
	text.WriteString("| waiting clients | where | clients | transfers/s | p50 ms | p99 ms | x rate | x p50 | " +
		roundsColumn + " |\n| --- | --- | --: | --: | --: | --: | --: | --: | --: |\n")
	for i, s := range stays {
		ratios := "- | -"
		if i > 0 && s.lane && !stays[i-1].lane {
			other := stays[i-1]
			ratios = fmt.Sprintf("%.2f | %.2f", s.rate()/other.rate(),
				part(s.waits, 0.5).Seconds()/part(other.waits, 0.5).Seconds())
		}
		fmt.Fprintf(&text, "| %s | %s | %d | %s | %s | %s | %s | %s |\n", s.name, s.where(), s.clients, thousands(s.rate()),
			milliseconds(part(s.waits, 0.5)), milliseconds(part(s.waits, 0.99)), ratios, leastToMost(s.each.rates))
	}
	return text.String()
}

var answerColumns = []string{
	"line", "asking", "connections", "worker", "requests", "requests/s", "p50 ms", "p99 ms", "longest ms", "beside line",
	"x rate", "x p50", "x p99", roundsColumn,
}

// answersTable is what asking costs, in Markdown. A time is that of a transaction, from BEGIN to the reply to COMMIT.
func answersTable(answers []*answer) string {
	var text strings.Builder
	line := func(cells []string) { fmt.Fprintf(&text, "| %s |\n", strings.Join(cells, " | ")) }
	line(answerColumns)
	line(append([]string{"--:", "---", "--:", "---"}, slices.Repeat([]string{"--:"}, len(answerColumns)-4)...))
	for i, a := range answers {
		if a.requests == 0 {
			continue // left out by -only
		}
		name := a.name
		if a.every > 0 {
			name += fmt.Sprintf(", %.0f/s", float64(a.connections)/a.every.Seconds())
		}
		cells := []string{
			strconv.Itoa(i + 1), name, strconv.Itoa(a.connections), string(a.worker), thousands(float64(a.requests)),
			thousands(a.rate()),
			milliseconds(a.wait(0.5)), milliseconds(a.wait(0.99)), milliseconds(a.wait(1)),
		}
		other := answers[a.beside-1]
		if other == a || other.requests == 0 {
			cells = append(cells, "-", "-", "-", "-")
		} else {
			times := func(a, b float64) string { return fmt.Sprintf("%.2f", a/b) }
			cells = append(cells, strconv.Itoa(a.beside), times(a.rate(), other.rate()),
				times(a.wait(0.5).Seconds(), other.wait(0.5).Seconds()), times(a.wait(0.99).Seconds(), other.wait(0.99).Seconds()))
		}
		line(append(cells, leastToMost(a.each.rates)))
	}
	return text.String()
}

func milliseconds(d time.Duration) string { return fmt.Sprintf("%.2f", d.Seconds()*1000) }

// thousands is a whole number, with commas.
func thousands(n float64) string {
	digits := strconv.FormatFloat(n, 'f', 0, 64)
	for i := len(digits) - 3; i > 0; i -= 3 {
		digits = digits[:i] + "," + digits[i:]
	}
	return digits
}
