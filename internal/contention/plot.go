package main

import (
	"fmt"
	"math"
	"slices"
	"strings"
)

// The plot: a panel of rates for each number of clients, one of what a client waits, and SERIALIZABLE beside the row
// lock.
const (
	panelWidth, panelHeight = 400, 300
	left, right, top, below = 58, 26, 34, 46 // margins of a panel
	columns                 = 3
	legendHeight            = 40
)

// line is a curve over the number of accounts; NaN: nothing measured.
type line struct {
	name, colour string
	values       []float64
}

// panel is one diagram. Both axes are logarithmic, unless it shows percents.
type panel struct {
	title   string
	percent bool
	lines   []line
}

func plot(all results, o options) string {
	var panels []panel
	for _, clients := range o.clients {
		panels = append(panels, panel{
			title: fmt.Sprintf("withdrawals a second, %s", count(clients, "client")),
			lines: curves(all, o, clients, func(m measurement) float64 { return m.rate }),
		})
	}
	busy := o.clients[min(2, len(o.clients)-1)]
	panels = append(panels, panel{
		title: fmt.Sprintf("p99 in ms, %s", count(busy, "client")),
		lines: curves(all, o, busy, func(m measurement) float64 { return float64(m.p99.Microseconds()) / 1000 }),
	}, panel{title: "SERIALIZABLE, % of the row lock's rate", percent: true, lines: shares(all, o)})
	rows := (len(panels) + columns - 1) / columns
	width, height := columns*panelWidth, rows*panelHeight+legendHeight

	var svg strings.Builder
	fmt.Fprintf(&svg,
		`<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 %d %d" font-family="sans-serif" font-size="12" fill="#222">`+
			"\n", width, height)
	fmt.Fprintf(&svg, `<rect width="%d" height="%d" fill="#fff"/>`+"\n", width, height)
	legend(&svg)
	for i, p := range panels {
		fmt.Fprintf(&svg, `<g transform="translate(%d,%d)">`+"\n", i%columns*panelWidth, legendHeight+i/columns*panelHeight)
		p.draw(&svg, o.accounts)
		svg.WriteString("</g>\n")
	}
	svg.WriteString("</svg>\n")
	return svg.String()
}

func curves(all results, o options, clients int, of func(measurement) float64) (lines []line) {
	for _, c := range contestants {
		l := line{name: c.name, colour: c.colour}
		for _, accounts := range o.accounts {
			value := math.NaN()
			if m, ok := all[cell{c.name, accounts, clients}]; ok {
				value = of(m)
			}
			l.values = append(l.values, value)
		}
		lines = append(lines, l)
	}
	return lines
}

func shares(all results, o options) (lines []line) {
	greys := []string{"#bbbbbb", "#f0a070", "#D55E00", "#7a3000"}
	for i, clients := range o.clients {
		l := line{name: count(clients, "client"), colour: greys[min(i, len(greys)-1)]}
		for _, accounts := range o.accounts {
			share, ok := percent(all, accounts, clients)
			if !ok {
				share = math.NaN()
			}
			l.values = append(l.values, share)
		}
		lines = append(lines, l)
	}
	return lines
}

func legend(svg *strings.Builder) {
	for i, c := range contestants {
		x := left + i*160
		fmt.Fprintf(svg, `<path d="M%d 20h24" stroke="%s" stroke-width="3"/><text x="%d" y="24">%s</text>`+"\n", x, c.colour,
			x+30, c.name)
	}
}

func (p panel) draw(svg *strings.Builder, accounts []int) {
	low, high := p.bounds()
	plotWidth, plotHeight := float64(panelWidth-left-right), float64(panelHeight-top-below)
	x := func(i int) float64 {
		from, to := math.Log10(float64(accounts[0])), math.Log10(float64(accounts[len(accounts)-1]))
		if to == from {
			return left + plotWidth/2
		}
		return left + plotWidth*(math.Log10(float64(accounts[i]))-from)/(to-from)
	}
	y := func(v float64) float64 {
		if !p.percent {
			low, high, v := math.Log10(low), math.Log10(high), math.Log10(v)
			return top + plotHeight*(high-v)/(high-low)
		}
		return top + plotHeight*(high-v)/(high-low)
	}
	fmt.Fprintf(svg, `<text x="%d" y="%d" font-weight="bold">%s</text>`+"\n", left, top-12, p.title)
	if p.percent { // what is often quoted
		fmt.Fprintf(svg,
			`<rect x="%d" y="%.1f" width="%.1f" height="%.1f" fill="#eee"/><text x="%d" y="%.1f" fill="#777" font-size="11">“20 to 50%% slower”</text>`+"\n",
			left, y(80), plotWidth, y(50)-y(80), left+4, y(50)-4)
	}
	for _, tick := range p.ticks(low, high) {
		fmt.Fprintf(svg, `<path d="M%d %.1fh%.1f" stroke="#ddd"/><text x="%d" y="%.1f" text-anchor="end">%s</text>`+"\n",
			left, y(tick), plotWidth, left-6, y(tick)+4, label(tick))
	}
	for i, n := range accounts {
		fmt.Fprintf(svg, `<text x="%.1f" y="%d" text-anchor="middle">%s</text>`+"\n", x(i), panelHeight-below+16,
			thousands(float64(n)))
	}
	fmt.Fprintf(svg, `<text x="%.1f" y="%d" text-anchor="middle">accounts in use</text>`+"\n", left+plotWidth/2,
		panelHeight-below+32)
	for n, l := range p.lines {
		l.draw(svg, x, y)
		if last := l.values[len(l.values)-1]; p.percent && !math.IsNaN(last) {
			fmt.Fprintf(svg, `<text x="%.1f" y="%d" text-anchor="end" fill="%s">%s</text>`+"\n", left+plotWidth,
				panelHeight-below-8-14*(len(p.lines)-1-n), l.colour, l.name)
		}
	}
}

func (l line) draw(svg *strings.Builder, x func(int) float64, y func(float64) float64) {
	path, pen := "", "M"
	for i, v := range l.values {
		if math.IsNaN(v) || v <= 0 {
			pen = "M"
			continue
		}
		path += fmt.Sprintf("%s%.1f %.1f", pen, x(i), y(v))
		pen = "L"
		fmt.Fprintf(svg, `<circle cx="%.1f" cy="%.1f" r="3" fill="%s"/>`, x(i), y(v), l.colour)
	}
	if path != "" {
		fmt.Fprintf(svg, `<path d="%s" fill="none" stroke="%s" stroke-width="2"><title>%s</title></path>`+"\n", path,
			l.colour, l.name)
	}
}

// bounds are whole powers of ten, or 0 to at least 100 percent.
func (p panel) bounds() (low, high float64) {
	var values []float64
	for _, l := range p.lines {
		for _, v := range l.values {
			if !math.IsNaN(v) && v > 0 {
				values = append(values, v)
			}
		}
	}
	switch {
	case p.percent && len(values) > 0:
		return 0, math.Ceil(max(100, slices.Max(values))/20) * 20
	case p.percent:
		return 0, 100
	case len(values) == 0:
		return 1, 10
	}
	low = math.Pow(10, math.Floor(math.Log10(slices.Min(values))))
	return low, max(10*low, math.Pow(10, math.Ceil(math.Log10(slices.Max(values)))))
}

func (p panel) ticks(low, high float64) (ticks []float64) {
	if p.percent {
		step := 20.0
		if high > 200 {
			step = 100
		}
		for v := low; v <= high; v += step {
			ticks = append(ticks, v)
		}
		return ticks
	}
	for v := low; v <= high*1.001; v *= 10 {
		ticks = append(ticks, v)
		if v*10 <= high*1.001 {
			ticks = append(ticks, 3*v)
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
