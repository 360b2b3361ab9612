package main

import (
	"errors"
	"fmt"
	"image/color"
	"math"
	"regexp"
	"slices"

	"gonum.org/v1/plot"
	"gonum.org/v1/plot/plotter"
	"gonum.org/v1/plot/vg"
	"gonum.org/v1/plot/vg/draw"

	"github.com/lastseat/lastseat/internal/picture"
)

// The picture: a diagram of rates for each number of clients, one of what a client waits, and SERIALIZABLE beside the
// row lock.
const (
	columns      = 3
	panelWidth   = 13 * vg.Centimeter
	panelHeight  = 9 * vg.Centimeter
	gap          = vg.Centimeter / 3 // below each
	legendHeight = vg.Centimeter
	legendWidth  = 4.8 * vg.Centimeter
)

// The columns of the tables, as [report] prints them.
const (
	tableHead = "| accounts | by |"

	columnAccounts = 0
	columnBy       = 1
	columnRate     = 2
	columnP99      = 5
)

// section is the table of a number of clients.
type section struct {
	clients string // as its heading says: 16 clients
	rows    [][]string
}

var clientsHeading = regexp.MustCompile(`(?m)^## ([\d,]+ clients?)$`)

func sectionsOf(report string) (all []section) {
	for _, at := range clientsHeading.FindAllStringSubmatchIndex(report, -1) {
		all = append(all, section{report[at[2]:at[3]], picture.Table(report[at[1]:], tableHead)})
	}
	return all
}

// curve is what one contestant has in a column, over the accounts. A logarithmic axis has no place for 0.
func (s section) curve(by string, column int) (xys plotter.XYs, err error) {
	for _, row := range s.rows {
		if len(row) <= columnP99 {
			return nil, fmt.Errorf("%s: a row of %d columns", s.clients, len(row))
		}
		if row[columnBy] != by {
			continue
		}
		accounts, err := picture.Number(row[columnAccounts])
		if err != nil {
			return nil, err
		}
		value, err := picture.Number(row[column])
		if err != nil {
			return nil, err
		}
		if value > 0 {
			xys = append(xys, plotter.XY{X: accounts, Y: value})
		}
	}
	return xys, nil
}

// svgOf is the picture of a report, as SVG.
func svgOf(report string) ([]byte, error) {
	sections := sectionsOf(report)
	if len(sections) == 0 {
		return nil, errors.New("a report without a table of clients")
	}
	var panels []*plot.Plot
	var errs []error
	add := func(p *plot.Plot, err error) { panels, errs = append(panels, p), append(errs, err) }
	for _, s := range sections {
		add(s.panel("Withdrawals a second, "+s.clients, columnRate))
	}
	busy := sections[min(2, len(sections)-1)]
	add(busy.panel("p99 in ms, "+busy.clients, columnP99))
	add(shares(sections))
	if err := errors.Join(errs...); err != nil {
		return nil, err
	}
	rows := (len(panels) + columns - 1) / columns
	return picture.SVG(columns*panelWidth, vg.Length(rows)*panelHeight+legendHeight, func(c draw.Canvas) {
		legend(draw.Crop(c, vg.Centimeter, 0, c.Max.Y-c.Min.Y-legendHeight, -legendHeight/4))
		for i, p := range panels {
			left, top := vg.Length(i%columns)*panelWidth, legendHeight+vg.Length(i/columns)*panelHeight
			picture.Fit(p, draw.Crop(c, left, left+panelWidth-(c.Max.X-c.Min.X),
				c.Max.Y-c.Min.Y-top-panelHeight+gap, -top))
		}
	})
}

// panel shows a column of the table for all contestants. Both axes are logarithmic.
func (s section) panel(title string, column int) (*plot.Plot, error) {
	p := picture.New(title, "accounts in use", "")
	var all plotter.XYs
	for _, c := range contestants {
		xys, err := s.curve(c.name, column)
		if err != nil {
			return nil, err
		}
		if _, err := addCurve(p, xys, c.colour); err != nil {
			return nil, err
		}
		all = append(all, xys...)
	}
	logarithmic(p, all)
	p.Y.Scale, p.Y.Tick.Marker = plot.LogScale{}, plot.TickerFunc(oneAndThree)
	p.Y.Min, p.Y.Max = 1, 10
	if len(all) > 0 {
		byValue := func(a, b plotter.XY) int { return int(math.Copysign(1, a.Y-b.Y)) }
		p.Y.Min = math.Pow(10, math.Floor(math.Log10(slices.MinFunc(all, byValue).Y)))
		p.Y.Max = math.Pow(10, math.Ceil(math.Log10(slices.MaxFunc(all, byValue).Y)))
		p.Y.Max = max(p.Y.Max, 10*p.Y.Min)
	}
	return p, nil
}

// shares shows SERIALIZABLE in percent of the row lock, a curve for each number of clients.
func shares(sections []section) (*plot.Plot, error) {
	p := picture.New("SERIALIZABLE, % of the row lock's rate", "accounts in use", "")
	var all plotter.XYs
	most := 100.0
	for i, s := range sections {
		locked, err := s.curve(byRowLock, columnRate)
		if err != nil {
			return nil, err
		}
		strict, err := s.curve(bySerializable, columnRate)
		if err != nil {
			return nil, err
		}
		var xys plotter.XYs
		for _, at := range strict {
			if of := slices.IndexFunc(locked, func(xy plotter.XY) bool { return xy.X == at.X }); of >= 0 {
				at.Y *= 100 / locked[of].Y
				xys, most = append(xys, at), max(most, at.Y)
			}
		}
		drawn, err := addCurve(p, xys, shades[min(i, len(shades)-1)])
		if err != nil {
			return nil, err
		}
		p.Legend.Add(s.clients, drawn...)
		all = append(all, xys...)
	}
	logarithmic(p, all)
	step := 20.0
	if most > 200 {
		step = 100
	}
	p.Y.Max = math.Ceil(most/step) * step
	var ticks plot.ConstantTicks
	for v := 0.0; v <= p.Y.Max; v += step {
		ticks = append(ticks, plot.Tick{Value: v, Label: thousands(v)})
	}
	p.Y.Tick.Marker = ticks
	if len(all) > 0 {
		if err := quoted(p); err != nil {
			return nil, err
		}
	}
	return p, nil
}

// quoted marks what is often said of SERIALIZABLE.
func quoted(p *plot.Plot) error {
	area, err := plotter.NewPolygon(plotter.XYs{
		{X: p.X.Min, Y: 50}, {X: p.X.Max, Y: 50}, {X: p.X.Max, Y: 80}, {X: p.X.Min, Y: 80},
	})
	if err != nil {
		return err
	}
	area.Color, area.Width = color.NRGBA{A: 20}, 0
	words, err := plotter.NewLabels(plotter.XYLabels{
		XYs: plotter.XYs{{X: p.X.Min, Y: 50}}, Labels: []string{"“20 to 50% slower”"},
	})
	if err != nil {
		return err
	}
	words.TextStyle[0].Font = p.Legend.TextStyle.Font
	words.Offset = vg.Point{X: vg.Points(4), Y: vg.Points(4)}
	p.Add(area, words)
	return nil
}

// logarithmic makes the x axis so, from the least to the most accounts.
func logarithmic(p *plot.Plot, all plotter.XYs) {
	p.X.Scale = plot.LogScale{}
	if len(all) == 0 {
		p.X.Min, p.X.Max = 1, 10
		return
	}
	slices.SortFunc(all, func(a, b plotter.XY) int { return int(a.X - b.X) })
	p.X.Tick.Marker = picture.Places(slices.CompactFunc(slices.Clone(all),
		func(a, b plotter.XY) bool { return a.X == b.X }))
	p.X.Min, p.X.Max = all[0].X, all[len(all)-1].X
	if p.X.Min == p.X.Max {
		p.X.Min, p.X.Max = p.X.Min/2, p.X.Max*2
	}
}

// oneAndThree marks the powers of ten, and three times each.
func oneAndThree(least, most float64) (ticks []plot.Tick) {
	for v := least; v <= most*1.001; v *= 10 {
		for _, at := range []float64{v, 3 * v} {
			if at <= most*1.001 {
				ticks = append(ticks, plot.Tick{Value: at, Label: label(at)})
			}
		}
	}
	return ticks
}

func label(v float64) string {
	if v < 1 {
		return fmt.Sprintf("%g", math.Round(v*1000)/1000)
	}
	return thousands(v)
}

func addCurve(p *plot.Plot, xys plotter.XYs, colour color.Color) ([]plot.Thumbnailer, error) {
	if len(xys) == 0 {
		return nil, nil
	}
	line, points, err := plotter.NewLinePoints(xys)
	if err != nil {
		return nil, err
	}
	line.Color, points.Color, points.Shape = colour, colour, draw.CircleGlyph{}
	line.Width = vg.Points(1.5)
	p.Add(line, points)
	return []plot.Thumbnailer{line, points}, nil
}

// legend is one line with the names of all contestants.
func legend(c draw.Canvas) {
	for i, one := range contestants {
		line := &plotter.Line{LineStyle: draw.LineStyle{Color: one.colour, Width: vg.Points(2)}}
		names := plot.NewLegend()
		names.Left, names.Top = true, true
		names.Add(one.name, line)
		at := vg.Length(i) * legendWidth
		names.Draw(draw.Crop(c, at, at+legendWidth-(c.Max.X-c.Min.X), 0, 0))
	}
}

// rgb is a colour as one writes it: 0xD55E00.
func rgb(hex uint32) color.Color {
	return color.RGBA{R: uint8(hex >> 16), G: uint8(hex >> 8), B: uint8(hex), A: 255} //nolint:gosec // its three bytes
}

// shades are those of SERIALIZABLE, the darker the more clients.
var shades = []color.Color{rgb(0xbbbbbb), rgb(0xf0a070), rgb(0xD55E00), rgb(0x7a3000)}
