package main

import (
	"cmp"
	"fmt"
	"slices"
	"strconv"
	"strings"
)

// result is a contestant with its measurements.
type result struct {
	contestant
	runs []measurement
}

// median is the measurement in the middle, as a whole: a table of medians of each column would describe no run.
func (r result) median() measurement {
	sorted := slices.SortedFunc(slices.Values(r.runs), func(a, b measurement) int { return cmp.Compare(a.elapsed, b.elapsed) })
	return sorted[len(sorted)/2]
}

var columns = []string{
	"contestant", "workload", "jobs", "seconds", "jobs/s", "retries per job", "WAL bytes per job", "x hand-written", "x no-op",
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

// thousands is a whole number, with commas.
func thousands(n float64) string {
	digits := strconv.FormatFloat(n, 'f', 0, 64)
	for i := len(digits) - 3; i > 0; i -= 3 {
		digits = digits[:i] + "," + digits[i:]
	}
	return digits
}
