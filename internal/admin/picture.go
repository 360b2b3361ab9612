package admin

import (
	"fmt"
	"strings"
	"time"
)

// picture is the last hour as two lines of an SVG, 1000 wide and 100 high.
type picture struct {
	Rate     string `json:"rate"` // a path
	Due      string `json:"due"`
	MostRate string `json:"mostRate"`
	MostDue  string `json:"mostDue"`
}

const pictured = time.Hour

// drawHour puts the last sample at the right end. Where nothing was seen, the lines have a gap.
func drawHour(samples []sample) picture {
	var rate, due line
	mostRate, mostDueSeen := 0.0, 0
	for len(samples) > 0 && samples[len(samples)-1].at.Sub(samples[0].at) > pictured {
		samples = samples[1:]
	}
	for _, s := range samples {
		mostRate, mostDueSeen = max(mostRate, s.rate), max(mostDueSeen, s.due)
	}
	for _, s := range samples {
		x := 1000 - 1000*samples[len(samples)-1].at.Sub(s.at).Seconds()/pictured.Seconds()
		rate.to(x, s.rate/max(mostRate, 1), s.failed)
		due.to(x, float64(s.due)/float64(max(mostDueSeen, 1)), s.failed)
	}
	drawn := picture{
		Rate: rate.path.String(), Due: due.path.String(),
		MostRate: fmt.Sprintf("%.1f", mostRate), MostDue: fmt.Sprint(mostDueSeen),
	}
	if mostDueSeen > mostSampled {
		drawn.MostDue = "over 100,000"
	}
	return drawn
}

// line is a path that grows.
type line struct {
	path  strings.Builder
	drawn bool // up to the last point
}

// to goes on to a point: x is 0 to 1000, height 0 to 1.
func (l *line) to(x, height float64, isGap bool) {
	if isGap {
		l.drawn = false
		return
	}
	command := "L"
	if !l.drawn {
		command = "M"
	}
	l.drawn = true
	fmt.Fprintf(&l.path, "%s%.1f %.1f", command, x, 100-100*height)
}
