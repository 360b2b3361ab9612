// Package picture draws the tables of a document with one look for all: what a picture shows is what the document says.
package picture

import (
	"bytes"
	"fmt"
	"strconv"
	"strings"

	"gonum.org/v1/plot"
	"gonum.org/v1/plot/font"
	"gonum.org/v1/plot/plotter"
	"gonum.org/v1/plot/vg"
	"gonum.org/v1/plot/vg/draw"
	"gonum.org/v1/plot/vg/vgsvg"
)

// Table is the cells of the first table in a Markdown document whose heading begins so.
func Table(document, head string) (rows [][]string) {
	inside := false
	for line := range strings.Lines(document) {
		switch {
		case strings.HasPrefix(line, head):
			inside = true
		case inside && !strings.HasPrefix(line, "|"):
			return rows
		case inside && !strings.HasPrefix(line, "| ---") && !strings.HasPrefix(line, "| --:"):
			cells := strings.Split(strings.Trim(strings.TrimSpace(line), "|"), "|")
			for i := range cells {
				cells[i] = strings.Trim(cells[i], " *")
			}
			rows = append(rows, cells)
		}
	}
	return rows
}

// Number is that of a cell, which may have commas between its thousands.
func Number(text string) (float64, error) {
	n, err := strconv.ParseFloat(strings.ReplaceAll(strings.TrimSpace(text), ",", ""), 64)
	if err != nil {
		return 0, fmt.Errorf("%q in a table is not a number", text)
	}
	return n, nil
}

// New is a diagram with nothing in it yet. Its y axis begins at 0.
func New(title, x, y string) *plot.Plot {
	plot.DefaultFont = font.Font{Typeface: "Liberation", Variant: "Sans"}
	p := plot.New()
	p.Title.Text, p.X.Label.Text, p.Y.Label.Text = title, x, y
	p.Y.Min = 0
	p.Legend.Left = true
	p.Title.Padding = vg.Points(8)
	p.Add(plotter.NewGrid())
	return p
}

// Places marks the x axis where something was measured.
func Places(xys plotter.XYs) plot.ConstantTicks {
	var ticks plot.ConstantTicks
	for _, xy := range xys {
		ticks = append(ticks, plot.Tick{Value: xy.X, Label: strconv.FormatFloat(xy.X, 'f', -1, 64)})
	}
	return ticks
}

// SVG is a picture of this size, as paint makes it.
func SVG(width, height vg.Length, paint func(draw.Canvas)) ([]byte, error) {
	canvas := vgsvg.New(width, height)
	paint(draw.New(canvas))
	var out bytes.Buffer
	_, err := canvas.WriteTo(&out)
	return bytes.ReplaceAll(out.Bytes(), []byte("font-family:Liberation Sans"),
		[]byte("font-family:Liberation Sans,Arial,Helvetica,sans-serif")), err
}

// Fit draws a diagram with room for a reader's font that is wider than the one that the places were computed with.
func Fit(p *plot.Plot, on draw.Canvas) { p.Draw(draw.Crop(on, vg.Centimeter, -vg.Centimeter, 0, 0)) }
