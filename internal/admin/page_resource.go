package admin

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"time"

	"github.com/jackc/pgx/v5"
)

// resourceRow is a resource, and how much of it is taken.
type resourceRow struct {
	ID                                           string
	Capacity, Overbook, Held, Confirmed, Waiting int64
	Group                                        string // the limit group; empty: none
}

// Free is how many are left.
func (r resourceRow) Free() int64 { return r.Capacity + r.Overbook - r.Held - r.Confirmed }

// State is the state of a whole resource, as a seat map shows it.
func (r resourceRow) State() string {
	switch {
	case r.Held == 0 && r.Confirmed == 0 && r.Free() > 0:
		return "free"
	case r.Free() > 0:
		return "partly taken"
	case r.Held > 0:
		return "held"
	case r.Confirmed > 0:
		return "confirmed"
	}
	return "closed"
}

// bar is a part of a bar of capacity, in thousandths of its length.
type bar struct {
	Class    string
	X, Width float64
}

// Bars are what is confirmed, held and left of the capacity and of what may be overbooked.
func (r resourceRow) Bars() (bars []bar) {
	whole := float64(r.Capacity) + float64(r.Overbook)
	x := 0.0
	for _, part := range []struct {
		class string
		n     int64
	}{{"confirmed", r.Confirmed}, {"held", r.Held}, {"free", r.Free()}} {
		if part.n > 0 && whole > 0 {
			width := 1000 * float64(part.n) / whole
			bars = append(bars, bar{part.class, x, width})
			x += width
		}
	}
	return bars
}

// CapacityAt is where the capacity ends and overbooking begins, in thousandths.
func (r resourceRow) CapacityAt() float64 {
	if r.Overbook == 0 {
		return 1000
	}
	return 1000 * float64(r.Capacity) / (float64(r.Capacity) + float64(r.Overbook))
}

type resourcePage struct {
	resourceRow
	Line     []waiterRow
	Ranges   bool // it is taken for time ranges
	Calendar calendar
}

// waiterRow is somebody in the line for a resource.
type waiterRow struct {
	Place       int
	Reservation string
	Customer    string
	Since       time.Time
	Until       *time.Time // nil: for ever
}

const (
	resourceColumns = `s.id, s.capacity, s.overbook, s.held, s.confirmed, s.waiting, coalesce(s.limit_group, '')`
	resourceSQL     = `SELECT ` + resourceColumns + ` FROM lastseat.resources s WHERE s.id = $1`

	lineSQL = `
	SELECT row_number() OVER (ORDER BY w.number)::integer, w.reservation_id, coalesce(r.customer, ''), r.created_at,
	       nullif(r.expires_at, 'infinity')
	FROM (SELECT * FROM lastseat.waiting_items w WHERE w.resource_id = $1 ORDER BY w.number LIMIT 100) w,
	     LATERAL (SELECT * FROM lastseat.reservations r WHERE r.id = w.reservation_id OFFSET 0) r
	ORDER BY w.number`

	// rangesSQL looks along the index of the constraint that keeps ranges apart.
	rangesSQL = `
	SELECT lower(i.during), nullif(upper(i.during), 'infinity'), i.reservation_id, r.status
	FROM (SELECT * FROM lastseat.reservation_items i
	      WHERE i.occupies AND i.resource_id = $1
	        AND int8range(hashtextextended(i.resource_id, 0) >> 1, hashtextextended(i.resource_id, 0) >> 1, '[]')
	            && int8range(hashtextextended($1, 0) >> 1, hashtextextended($1, 0) >> 1, '[]')
	        AND i.during && tstzrange($2, $3)
	      LIMIT 500) i,
	     LATERAL (SELECT * FROM lastseat.reservations r WHERE r.id = i.reservation_id OFFSET 0) r
	ORDER BY lower(i.during)`
)

func (s *Server) resource(r *http.Request) (any, error) {
	ctx, cancel := context.WithTimeout(r.Context(), pageLimit)
	defer cancel()
	p := resourcePage{}
	monday := weekOf(time.Now())
	if asked, err := time.Parse(time.DateOnly, r.URL.Query().Get("week")); err == nil {
		monday = weekOf(asked)
	}
	err := read(ctx, s.options.Pool, func(tx pgx.Tx) error {
		rows, err := tx.Query(ctx, resourceSQL, r.URL.Query().Get("id"))
		if err != nil {
			return err
		}
		p.resourceRow, err = pgx.CollectExactlyOneRow(rows, pgx.RowToStructByPos[resourceRow])
		if errors.Is(err, pgx.ErrNoRows) {
			return errNotFound
		}
		if err != nil {
			return err
		}
		if rows, err = tx.Query(ctx, lineSQL, p.ID); err != nil {
			return err
		}
		if p.Line, err = pgx.CollectRows(rows, pgx.RowToStructByPos[waiterRow]); err != nil {
			return err
		}
		return p.readCalendar(ctx, tx, monday)
	})
	return p, err
}

// readCalendar reads the ranges of a week. A resource that no range has taken has no calendar.
func (p *resourcePage) readCalendar(ctx context.Context, tx pgx.Tx, monday time.Time) error {
	ever := fmt.Sprintf(`SELECT EXISTS (%s)`, rangesSQL)
	if err := tx.QueryRow(ctx, ever, p.ID, nil, nil).Scan(&p.Ranges); err != nil || !p.Ranges {
		return err
	}
	rows, err := tx.Query(ctx, rangesSQL, p.ID, monday, monday.AddDate(0, 0, 7))
	if err != nil {
		return err
	}
	ranges, err := pgx.CollectRows(rows, pgx.RowToStructByPos[rangeRow])
	p.Calendar = makeCalendar(monday, ranges)
	return err
}
