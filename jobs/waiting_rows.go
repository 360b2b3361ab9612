package jobs

import (
	"cmp"
	"context"
	"slices"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/lastseat/lastseat/outbox"
)

// The waiting lines' way in and out of the database.

// lineRead is how many of those who wait for a resource are looked at when it gets free. When some of them have left
// the line, the next sweep looks at as many again.
const lineRead = 1000

const markedResourcesSQL = `SELECT id FROM lastseat.resources WHERE grown ORDER BY id LIMIT $1`

// needMarked needs the resources whose line has to be looked at. They belong to no lane: the first one looks at all.
func (p *places) needMarked(ctx context.Context, tx pgx.Tx, due outbox.Sweep) error {
	if due.Lane > 0 {
		return nil
	}
	ids, err := readColumn[string](ctx, tx, "look for resources that have grown", markedResourcesSQL, due.Limit)
	for _, id := range ids {
		p.needResource(id)
	}
	return err
}

// loadLines reads who waits for what may become free by a time, and all that they wait for. A reservation that is
// granted something and runs out by then may free more.
func (p *places) loadLines(ctx context.Context, tx pgx.Tx, until time.Time) error {
	for {
		freed, by := p.mayBeFreed(until)
		lines := p.unreadLines(freed)
		if len(lines)+len(by) == 0 {
			return nil
		}
		if err := p.readWaits(ctx, tx, by); err != nil {
			return err
		}
		if err := p.readLines(ctx, tx, lines); err != nil {
			return err
		}
	}
}

// mayBeFreed are the resources that a request of the batch, or an expiry, may free, and the customers that may have less
// then and whose waits are not read yet.
func (p *places) mayBeFreed(until time.Time) (freed map[string]bool, by []string) {
	freed = make(map[string]bool)
	free := func(resource, customer string) {
		freed[resource] = true
		if r := p.resources[resource]; r != nil && r.group != "" && customer != "" && !p.waitsRead[customer] {
			p.waitsRead[customer] = true
			by = append(by, customer)
		}
	}
	for id, r := range p.reservations {
		if r != nil && p.mayEnd(id, r.expiresAt, until) {
			for _, it := range r.items {
				free(it.resource, r.customer)
			}
		}
	}
	for _, d := range p.demands {
		if p.mayEnd(d.reservation, p.expiryOf(d), until) {
			for _, asked := range d.items {
				free(asked.Resource, d.customer)
			}
		}
	}
	slices.Sort(by)
	return freed, by
}

// mayEnd tells whether a reservation may end by a time.
func (p *places) mayEnd(id string, expiresAt, until time.Time) bool {
	from, asked := p.releasing[id]
	return asked && !until.Before(from) || !until.Before(expiresAt)
}

// expiryOf is when what is asked for runs out. Of a job that was inserted directly the zero time counts as at once.
func (p *places) expiryOf(d demand) time.Time {
	if r := p.reservations[d.reservation]; r != nil {
		return r.expiresAt
	}
	return d.expiresAt
}

// unreadLines are the resources whose line has to be read: somebody waits for them, and they may be freed or are marked.
func (p *places) unreadLines(freed map[string]bool) []string {
	var ids []string
	for id, r := range p.resources {
		if r != nil && r.waiting > 0 && (freed[id] || r.marked) && !p.line.read[id] {
			ids = append(ids, id)
		}
	}
	slices.Sort(ids)
	return ids
}

const loadLinesSQL = `
	SELECT w.resource_id, w.reservation_id
	FROM unnest($1::text[]) AS freed(id),
	     LATERAL (SELECT * FROM lastseat.waiting_items i WHERE i.resource_id = freed.id ORDER BY i.number LIMIT $2) w
	ORDER BY w.resource_id, w.number`

func (p *places) readLines(ctx context.Context, tx pgx.Tx, freed []string) error {
	if len(freed) == 0 {
		return nil
	}
	waiting := make(map[string][]string)
	var resource, id string
	columns := []any{&resource, &id}
	err := read(ctx, tx, "read who waits", loadLinesSQL, []any{freed, lineRead}, columns, func() {
		waiting[resource] = append(waiting[resource], id)
		p.needReservation(id)
	})
	if err != nil {
		return err
	}
	// These are not watched. A reservation in a line may belong to another lane, and only that lane knows what was asked
	// for it in time. Those of this lane that run out were read by loadDue.
	if err := p.loadReservations(ctx, tx, func(*reservation) {}); err != nil {
		return err
	}
	if err := p.loadItems(ctx, tx); err != nil {
		return err
	}
	for _, resource := range freed {
		p.line.read[resource] = true
		for _, id := range waiting[resource] {
			if r := p.reservations[id]; r != nil && r.status == reservationWaiting {
				p.line.waiting[resource] = append(p.line.waiting[resource], r)
			}
		}
	}
	return p.loadResources(ctx, tx)
}

const numberWaitingSQL = `SELECT nextval('lastseat.waiting_number_seq') FROM generate_series(1, $1)`

// numberJoined gives a number to everybody who has joined a line and still waits.
func (p *places) numberJoined(ctx context.Context, tx pgx.Tx) error {
	joined := changedRows(p.reservations, func(r *reservation) bool { return r.joined })
	if len(joined) == 0 {
		return nil
	}
	numbers, err := readColumn[int64](ctx, tx, "number who waits", numberWaitingSQL, len(joined))
	if err != nil {
		return err
	}
	slices.SortFunc(joined, func(a, b *reservation) int { return cmp.Compare(a.place, b.place) })
	for i, r := range joined {
		r.place = numbers[i]
	}
	return nil
}

// standing is a reservation in the line of one resource: a row of waiting_items.
type standing struct {
	resource, reservation string
	place                 int64
}

func writeLines(write *pgx.Batch, changed []*reservation) {
	var left, joined []standing
	for _, r := range changed {
		for _, id := range distinct(r.items) {
			switch s := (standing{id, r.id, r.place}); {
			case r.joined:
				joined = append(joined, s)
			case r.left:
				left = append(left, s)
			}
		}
	}
	if len(left) > 0 {
		leaveLines(write, left)
	}
	if len(joined) > 0 {
		joinLines(write, joined)
	}
}

const leaveLinesSQL = `
	DELETE FROM lastseat.waiting_items WHERE ctid = ANY (ARRAY(
		SELECT (SELECT w.ctid FROM lastseat.waiting_items w WHERE w.resource_id = n.resource AND w.number = n.place)
		FROM unnest(@resources::text[], @places::bigint[]) AS n(resource, place)))`

func leaveLines(write *pgx.Batch, left []standing) {
	write.Queue(leaveLinesSQL, pgx.NamedArgs{
		"resources": column(left, func(s standing) string { return s.resource }),
		"places":    column(left, func(s standing) int64 { return s.place }),
	}).Exec(outbox.ExpectRows(len(left)))
}

const joinLinesSQL = `
	INSERT INTO lastseat.waiting_items (resource_id, number, reservation_id)
	SELECT * FROM unnest(@resources::text[], @places::bigint[], @reservations::text[])`

func joinLines(write *pgx.Batch, joined []standing) {
	write.Queue(joinLinesSQL, pgx.NamedArgs{
		"resources":    column(joined, func(s standing) string { return s.resource }),
		"places":       column(joined, func(s standing) int64 { return s.place }),
		"reservations": column(joined, func(s standing) string { return s.reservation }),
	}).Exec(outbox.ExpectRows(len(joined)))
}
