package admin

import "time"

// rangeRow is a time for which a resource is taken.
type rangeRow struct {
	From        time.Time
	To          *time.Time // nil: for ever
	Reservation string
	Status      string
}

// calendar is a week of a resource, in UTC.
type calendar struct {
	Monday, Before, After string // dates
	Days                  []day
	Ranges                []rangeRow
}

// day has what of its ranges falls into it, in minutes of the day.
type day struct {
	Name  string
	Parts []dayPart
}

type dayPart struct {
	X, Width    int
	Status      string
	Reservation string
}

// weekOf is the start of the Monday before a time, in UTC.
func weekOf(t time.Time) time.Time {
	t = t.UTC().Truncate(24 * time.Hour)
	return t.AddDate(0, 0, -(int(t.Weekday())+6)%7)
}

func makeCalendar(monday time.Time, ranges []rangeRow) calendar {
	c := calendar{
		Monday: monday.Format(time.DateOnly), Before: monday.AddDate(0, 0, -7).Format(time.DateOnly),
		After: monday.AddDate(0, 0, 7).Format(time.DateOnly), Ranges: ranges,
	}
	for n := range 7 {
		start := monday.AddDate(0, 0, n)
		d := day{Name: start.Format("Mon 2 Jan")}
		for _, r := range ranges {
			from, to := 0, 24*60
			if r.From.After(start) {
				from = min(to, int(r.From.Sub(start).Minutes()))
			}
			if r.To != nil && r.To.Before(start.AddDate(0, 0, 1)) {
				to = int(r.To.Sub(start).Minutes())
			}
			if r.From.Before(start.AddDate(0, 0, 1)) && (r.To == nil || r.To.After(start)) {
				// A range of seconds is seen, too.
				d.Parts = append(d.Parts, dayPart{from, max(2, to-from), r.Status, r.Reservation})
			}
		}
		c.Days = append(c.Days, d)
	}
	return c
}
