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

var columns = []string{
	"contestant", "workload", "jobs", "seconds", "jobs/s", "retries per job", "WAL bytes per job", "x hand-written",
	"x no-op", "x transfers",
}

// table is the results in Markdown. A ratio to the hand-written worker is one of the same workload.
func table(results []result) string {
	var text strings.Builder
	line := func(cells []string) { fmt.Fprintf(&text, "| %s |\n", strings.Join(cells, " | ")) }
	line(columns)
	line(append([]string{"---", "---"}, slices.Repeat([]string{"--:"}, len(columns)-2)...))
	for _, r := range results {
		m := r.median()
		line([]string{
			r.name, r.workload, thousands(float64(m.jobs)), fmt.Sprintf("%.2f", m.elapsed.Seconds()), thousands(m.rate()),
			fmt.Sprintf("%.2f", m.retriesPerJob()), thousands(m.walPerJob()),
			ratio(m, results, func(other contestant) bool {
				return other.baseline == handWrittenBaseline && other.workload == r.workload
			}),
			ratio(m, results, func(other contestant) bool { return other.baseline == noopBaseline }),
			ratio(m, results, func(other contestant) bool { return other.baseline == transfersBaseline }),
		})
	}
	return text.String()
}

// ratio is that of rates. Without the other, which -only may have left out, there is none.
func ratio(m measurement, results []result, is func(contestant) bool) string {
	i := slices.IndexFunc(results, func(r result) bool { return is(r.contestant) })
	if i < 0 {
		return "-"
	}
	return fmt.Sprintf("%.2f", m.rate()/results[i].median().rate())
}

var answerColumns = []string{
	"line", "asking", "connections", "worker", "requests", "requests/s", "p50 ms", "p99 ms", "longest ms", "beside line",
	"x rate", "x p50", "x p99",
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
		line(cells)
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
