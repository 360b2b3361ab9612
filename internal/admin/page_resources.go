package admin

import (
	"cmp"
	"context"
	"net/http"
	"slices"
	"strings"

	"github.com/jackc/pgx/v5"
)

type resourcesPage struct {
	Prefix      string
	Rows        []seatRow
	Shown       int
	States      []stateCount // of those that are shown
	After, Last string       // ids: the page begins behind After; another one begins behind Last, if it is not empty
}

// seatRow is a row of a seat map: the resources whose ids differ in the number at their end.
type seatRow struct {
	Name  string
	Seats []seat
}

type seat struct {
	resourceRow
	Label string // the number, or the id if it has none
}

type stateCount struct {
	State string
	Count int
}

const (
	// resourcesSQL walks along the primary key, so a page costs the same wherever it is.
	resourcesSQL = `SELECT ` + resourceColumns + `
	FROM lastseat.resources s
	WHERE s.id >= $1 AND s.id < $1 || U&'\+10FFFF' COLLATE "C" AND s.id > $2 ORDER BY s.id LIMIT 501`
	mostSeats = 500
)

func (s *Server) resources(r *http.Request) (any, error) {
	ctx, cancel := context.WithTimeout(r.Context(), pageLimit)
	defer cancel()
	p := resourcesPage{Prefix: r.URL.Query().Get("prefix"), After: r.URL.Query().Get("after")}
	var found []resourceRow
	err := read(ctx, s.options.Pool, func(tx pgx.Tx) error {
		rows, err := tx.Query(ctx, resourcesSQL, p.Prefix, p.After)
		if err != nil {
			return err
		}
		found, err = pgx.CollectRows(rows, pgx.RowToStructByPos[resourceRow])
		return err
	})
	if len(found) > mostSeats {
		found = found[:mostSeats]
		p.Last = found[mostSeats-1].ID
	}
	p.Shown = len(found)
	p.arrange(found)
	return p, err
}

// arrange puts resources into rows, and those of a row into the order of their numbers.
func (p *resourcesPage) arrange(found []resourceRow) {
	at := make(map[string]int)
	for _, state := range []string{"free", "partly taken", "held", "confirmed", "closed"} {
		n := 0
		for _, r := range found {
			if r.State() == state {
				n++
			}
		}
		if n > 0 {
			p.States = append(p.States, stateCount{state, n})
		}
	}
	for _, r := range found {
		name := strings.TrimRight(r.ID, "0123456789")
		s := seat{r, r.ID[len(name):]}
		if s.Label == "" {
			name, s.Label = "", r.ID
		}
		i, known := at[name]
		if !known {
			i = len(p.Rows)
			at[name] = i
			p.Rows = append(p.Rows, seatRow{Name: name})
		}
		p.Rows[i].Seats = append(p.Rows[i].Seats, s)
	}
	for _, row := range p.Rows {
		slices.SortStableFunc(row.Seats, func(a, b seat) int {
			if row.Name == "" {
				return cmp.Compare(a.ID, b.ID)
			}
			return cmp.Or(cmp.Compare(len(strings.TrimLeft(a.Label, "0")), len(strings.TrimLeft(b.Label, "0"))),
				cmp.Compare(strings.TrimLeft(a.Label, "0"), strings.TrimLeft(b.Label, "0")))
		})
	}
}
