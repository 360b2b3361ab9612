// Command plots draws the tables of docs/benchmarks.md: what a picture shows is what the document says. `make plots`
// runs it; a test demands that the pictures in the repository are those.
package main

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"gonum.org/v1/plot"
	"gonum.org/v1/plot/plotter"
	"gonum.org/v1/plot/plotutil"
	"gonum.org/v1/plot/vg"
	"gonum.org/v1/plot/vg/draw"

	"github.com/lastseat/lastseat/internal/picture"
)

func main() {
	if len(os.Args) != 3 {
		fmt.Fprintln(os.Stderr, "plots: the document and a directory, please")
		os.Exit(2)
	}
	if err := run(os.Args[1], os.Args[2]); err != nil {
		fmt.Fprintln(os.Stderr, "plots:", err)
		os.Exit(1)
	}
}

func run(document, dir string) error {
	text, err := os.ReadFile(document)
	if err != nil {
		return err
	}
	pictures, err := picturesOf(string(text))
	if err != nil {
		return err
	}
	for name, svg := range pictures {
		if err := os.WriteFile(filepath.Join(dir, name), svg, 0o644); err != nil {
			return err
		}
	}
	return nil
}

// The columns of the tables that are drawn, as the benchmark prints them.
const (
	growthHead = "| what grows | to | jobs |"
	yearsHead  = "| settled before |"
	lanesHead  = "| contestant | workload | jobs |"
)

// picturesOf draws one picture for each thing that grows, one of the years and one of those who settle.
func picturesOf(document string) (map[string][]byte, error) {
	pictures := make(map[string][]byte)
	var errs []error
	add := func(name string, p *plot.Plot, err error) {
		if err == nil {
			pictures[name], err = picture.SVG(20*vg.Centimeter, 9*vg.Centimeter, func(c draw.Canvas) { picture.Fit(p, c) })
		}
		errs = append(errs, err)
	}
	var order []string
	curves := make(map[string][][]string)
	for _, row := range picture.Table(document, growthHead) {
		if curves[row[0]] == nil {
			order = append(order, row[0])
		}
		curves[row[0]] = append(curves[row[0]], row)
	}
	for _, what := range order {
		p, err := curveOf(what, curves[what])
		add(strings.ReplaceAll(what, " ", "-")+".svg", p, err)
	}
	if rows := picture.Table(document, yearsHead); len(rows) > 0 {
		p, err := yearsOf(rows)
		add("settled.svg", p, err)
	}
	if rows := picture.Table(document, lanesHead); len(rows) > 0 {
		p, err := barsOf(rows)
		add("settling.svg", p, err)
	}
	return pictures, errors.Join(errs...)
}

// spread is a median with the least and the most that was measured.
type spread struct {
	plotter.XYs
	plotter.YErrors
}

func curveOf(what string, rows [][]string) (*plot.Plot, error) {
	var s spread
	for _, row := range rows {
		at, err := picture.Number(row[1])
		if err != nil {
			return nil, err
		}
		var of [3]float64
		for i, cell := range strings.SplitN(row[3], ", ", 3) {
			if of[i], err = picture.Number(cell); err != nil {
				return nil, err
			}
		}
		s.XYs = append(s.XYs, plotter.XY{X: at, Y: of[1]})
		s.YErrors = append(s.YErrors, struct{ Low, High float64 }{of[1] - of[0], of[2] - of[1]})
	}
	p := picture.New("Settled by the lane", what, "jobs/s: least, median, most")
	p.X.Scale, p.X.Tick.Marker = plot.LogScale{}, picture.Places(s.XYs)
	line, points, err := plotter.NewLinePoints(s.XYs)
	if err != nil {
		return nil, err
	}
	bars, err := plotter.NewYErrorBars(s)
	if err != nil {
		return nil, err
	}
	line.Color, points.Color, points.Shape = plotutil.Color(2), plotutil.Color(2), draw.CircleGlyph{}
	p.Add(line, points, bars)
	p.Y.Max *= 1.1
	return p, nil
}

func yearsOf(rows [][]string) (*plot.Plot, error) {
	p := picture.New("In one database that grows", "settled before, in millions", "requests/s")
	for i, name := range []string{"enqueue_many, one connection", "lane"} {
		var xys plotter.XYs
		for _, row := range rows {
			at, err := picture.Number(row[0])
			if err != nil {
				return nil, err
			}
			rate, err := picture.Number(row[1+i])
			if err != nil {
				return nil, err
			}
			xys = append(xys, plotter.XY{X: at / 1e6, Y: rate})
		}
		line, points, err := plotter.NewLinePoints(xys)
		if err != nil {
			return nil, err
		}
		line.Color, points.Color, points.Shape = plotutil.Color(i), plotutil.Color(i), draw.CircleGlyph{}
		p.Add(line, points)
		p.Legend.Add(name, line, points)
	}
	return p, nil
}

// barsOf shows those who settle transfers between many accounts, the first one at the top.
func barsOf(rows [][]string) (*plot.Plot, error) {
	var names []string
	var rates plotter.Values
	for _, row := range slices.Backward(rows) {
		if row[1] == "spread" {
			rate, err := picture.Number(row[4])
			if err != nil {
				return nil, err
			}
			// The spaces are room for a font that is wider than the one that places were computed with.
			names, rates = append(names, row[0]+"       "), append(rates, rate)
		}
	}
	bars, err := plotter.NewBarChart(rates, vg.Points(12))
	if err != nil {
		return nil, err
	}
	bars.Horizontal, bars.Color = true, plotutil.Color(2)
	p := picture.New("Transfers between 10,000 accounts, settled a second", "jobs/s", "")
	p.NominalY(names...)
	p.Y.Tick.Label.Font.Size = vg.Points(8.5)
	p.X.Tick.Marker = plot.TickerFunc(wholeTicks)
	p.Add(bars)
	p.Y.Min, p.X.Min, p.X.Max = -0.5, 0, 1.05*slices.Max(rates)
	return p, nil
}

// wholeTicks are the default ones, with whole numbers.
func wholeTicks(least, most float64) []plot.Tick {
	ticks := plot.DefaultTicks{}.Ticks(least, most)
	for i := range ticks {
		if ticks[i].Label != "" {
			ticks[i].Label = strconv.FormatFloat(ticks[i].Value, 'f', 0, 64)
		}
	}
	return ticks
}
