package jobs

import (
	"context"
	"slices"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/lastseat/lastseat/outbox"
)

// item is a row of reservation_items.
type item struct {
	reservation *reservation
	position    int
	resource    string
	quantity    int64
	during      *TimeRange // nil: it is counted
	occupies    bool       // now
	changed     bool       // the table has the opposite of occupies
}

func (it *item) occupy(occupies bool) {
	if it.occupies != occupies {
		it.occupies, it.changed = occupies, !it.changed
	}
}

// distinct are the resources of the items, each once.
func distinct(items []*item) []string {
	var ids []string
	for _, it := range items {
		if !slices.Contains(ids, it.resource) {
			ids = append(ids, it.resource)
		}
	}
	return ids
}

const loadItemsSQL = `
	SELECT reservation_id, position, resource_id, quantity, lower(during), upper(during), coalesce(occupies, false)
	FROM lastseat.reservation_items WHERE reservation_id = ANY ($1::text[]) ORDER BY reservation_id, position`

// loadItems reads the items of the reservations that have taken something or wait for it, and needs their resources.
func (p *places) loadItems(ctx context.Context, tx pgx.Tx) error {
	var ids []string
	live := []string{reservationHeld, reservationConfirmed, reservationWaiting}
	for id, r := range p.reservations {
		if r != nil && r.items == nil && slices.Contains(live, r.status) {
			ids = append(ids, id)
		}
	}
	if len(ids) == 0 {
		return nil
	}
	slices.Sort(ids)
	var id string
	var it item
	var start, end *time.Time
	columns := []any{&id, &it.position, &it.resource, &it.quantity, &start, &end, &it.occupies}
	return read(ctx, tx, "read items", loadItemsSQL, []any{ids}, columns, func() {
		loaded := it
		loaded.reservation = p.reservations[id]
		if start != nil && end != nil {
			loaded.during = &TimeRange{*start, *end}
		}
		if loaded.occupies {
			p.occupied[it.resource] = append(p.occupied[it.resource], &loaded)
		}
		loaded.reservation.items = append(loaded.reservation.items, &loaded)
		p.needResource(it.resource)
	})
}

const loadOccupiedSQL = `
	SELECT DISTINCT i.reservation_id, i.position, i.resource_id, lower(i.during), upper(i.during)
	FROM unnest($1::text[], $2::tstzrange[]) AS asked(resource, during),
	     LATERAL (SELECT q.* FROM lastseat.reservation_items q
	              WHERE q.occupies AND q.resource_id = asked.resource AND q.during && asked.during
	                AND int8range(hashtextextended(q.resource_id, 0) >> 1, hashtextextended(q.resource_id, 0) >> 1, '[]')
	                 && int8range(hashtextextended(asked.resource, 0) >> 1, hashtextextended(asked.resource, 0) >> 1, '[]')
	              OFFSET 0) i`

// loadOccupied reads the time ranges that overlap one that is asked for or waited for.
func (p *places) loadOccupied(ctx context.Context, tx pgx.Tx) error {
	resources, during := p.rangesWanted()
	if len(resources) == 0 {
		return nil
	}
	var id string
	var it item
	var start, end time.Time
	columns := []any{&id, &it.position, &it.resource, &start, &end}
	return read(ctx, tx, "read time ranges", loadOccupiedSQL, []any{resources, during}, columns, func() {
		if r := p.reservations[id]; r != nil && r.items != nil {
			return // it was read with its reservation
		}
		loaded := it
		loaded.during, loaded.occupies = &TimeRange{start, end}, true
		p.occupied[it.resource] = append(p.occupied[it.resource], &loaded)
	})
}

// rangesWanted are the time ranges that are asked for or waited for, and their resources.
func (p *places) rangesWanted() (resources, during []string) {
	want := func(resource string, r *TimeRange) {
		if r != nil {
			resources, during = append(resources, resource), append(during, r.String())
		}
	}
	for _, d := range p.demands {
		for _, asked := range d.items {
			want(asked.Resource, asked.During)
		}
	}
	for _, waiting := range p.line.waiting {
		for _, r := range waiting {
			for _, it := range r.items {
				want(it.resource, it.during)
			}
		}
	}
	return resources, during
}

const occupySQL = `
	UPDATE lastseat.reservation_items SET occupies = @occupies WHERE ctid = ANY (ARRAY(
		SELECT (SELECT i.ctid FROM lastseat.reservation_items i
		        WHERE i.reservation_id = n.reservation AND i.position = n.position)
		FROM unnest(@reservations::text[], @positions::int[]) AS n(reservation, position)))`

// writeItems gives time ranges back before it takes others: the table refuses two that overlap.
func writeItems(write *pgx.Batch, changed []*reservation) {
	var added, taken, given []*item
	for _, r := range changed {
		for _, it := range r.items {
			switch {
			case r.newItems:
				added = append(added, it)
			case it.changed && it.occupies:
				taken = append(taken, it)
			case it.changed:
				given = append(given, it)
			}
		}
	}
	for _, items := range [][]*item{given, taken} {
		if len(items) > 0 {
			write.Queue(occupySQL, pgx.NamedArgs{
				"reservations": column(items, func(it *item) string { return it.reservation.id }),
				"positions":    column(items, func(it *item) int { return it.position }),
				"occupies":     items[0].occupies,
			}).Exec(outbox.ExpectRows(len(items)))
		}
	}
	if len(added) > 0 {
		insertItems(write, added)
	}
}

const insertItemsSQL = `
	INSERT INTO lastseat.reservation_items (reservation_id, position, resource_id, quantity, during, occupies)
	SELECT reservation, position, resource, quantity, nullif(during, '')::tstzrange,
	       CASE WHEN during <> '' THEN occupies END
	FROM unnest(@reservations::text[], @positions::int[], @resources::text[], @quantities::bigint[], @during::text[],
	            @occupies::boolean[])
	     AS n(reservation, position, resource, quantity, during, occupies)`

func insertItems(write *pgx.Batch, added []*item) {
	during := func(it *item) string {
		if it.during == nil {
			return ""
		}
		return it.during.String()
	}
	write.Queue(insertItemsSQL, pgx.NamedArgs{
		"reservations": column(added, func(it *item) string { return it.reservation.id }),
		"positions":    column(added, func(it *item) int { return it.position }),
		"resources":    column(added, func(it *item) string { return it.resource }),
		"quantities":   column(added, func(it *item) int64 { return it.quantity }),
		"during":       column(added, during),
		"occupies":     column(added, func(it *item) bool { return it.occupies }),
	}).Exec(outbox.ExpectRows(len(added)))
}
