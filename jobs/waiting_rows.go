package jobs

import (
	"cmp"
	"context"
	"maps"
	"slices"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/lastseat/lastseat/outbox"
)

// The waiting lines' way in and out of the database.

// lineRead is how many of those who wait for a resource are looked at when it gets free. When some of them have left
// the line, the next sweep looks at as many again. lineItems is how many items those may have together who are looked
// at in one transaction; the sweeps that follow read on.
const (
	lineRead  = 1000
	lineItems = 20000
)

const markedResourcesSQL = `SELECT id FROM lastseat.resources WHERE grown ORDER BY id LIMIT $1`

// needMarked needs the resources whose line has to be looked at. They belong to no lane: the first one looks at all.
func (p *places) needMarked(look *pgx.Batch, due outbox.Sweep) {
	if due.Lane > 0 {
		return
	}
	var id string
	queueRead(look, "look for resources that have grown", markedResourcesSQL, []any{due.Limit}, []any{&id}, func() {
		p.needResource(id)
	})
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

// mayBeFreed are the resources that a request of the batch, or an expiry, may free, and the customers that may have
// less then and whose waits are not read yet.
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

// unreadLines are the resources whose line has to be read: somebody waits for them, and they may be freed or are
// marked.
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

const (
	loadLinesSQL = `
	SELECT w.resource_id, w.number, w.reservation_id
	FROM unnest($1::text[], $2::bigint[]) AS freed(id, after),
	     LATERAL (SELECT * FROM lastseat.waiting_items i WHERE i.resource_id = freed.id AND i.number > freed.after
	              ORDER BY i.number LIMIT $3) w
	ORDER BY w.resource_id, w.number`

	countItemsSQL = `
	SELECT asked.id, (SELECT count(*) FROM lastseat.reservation_items i WHERE i.reservation_id = asked.id)
	FROM unnest($1::text[]) AS asked(id)`
)

// stands is a reservation in a line, as it was read.
type stands struct {
	number      int64
	reservation string
}

// readLine reads the beginning of the lines of resources, or what comes after a number.
func (p *places) readLine(ctx context.Context, tx pgx.Tx, freed []string) (map[string][]stands, error) {
	lines := make(map[string][]stands)
	ids := make(map[string]string) // one text for each reservation, however many lines it stands in
	var resource string
	var s stands
	columns := []any{&resource, &s.number, &s.reservation}
	after := column(freed, func(id string) int64 { return p.line.after[id] })
	err := read(ctx, tx, "read who waits", loadLinesSQL, []any{freed, after, lineRead}, columns, func() {
		if _, known := ids[s.reservation]; !known {
			ids[s.reservation] = s.reservation
		}
		lines[resource] = append(lines[resource], stands{s.number, ids[s.reservation]})
	})
	if err != nil {
		return nil, err
	}
	return lines, p.cutLines(ctx, tx, lines, slices.Sorted(maps.Keys(ids)))
}

// cutLines cuts lines where their reservations have more items than a batch should read. It needs the reservations that
// are left.
func (p *places) cutLines(ctx context.Context, tx pgx.Tx, lines map[string][]stands, ids []string) error {
	counts := make(map[string]int, len(ids))
	var id string
	var n int
	err := read(ctx, tx, "count items", countItemsSQL, []any{ids}, []any{&id, &n}, func() { counts[id] = n })
	for _, resource := range slices.Sorted(maps.Keys(lines)) {
		for i, s := range lines[resource] {
			if _, known := p.reservations[s.reservation]; known {
				continue
			}
			if n := counts[s.reservation]; p.line.items == 0 || p.line.items+n <= lineItems {
				p.line.items += n
				p.needReservation(s.reservation)
				continue
			}
			p.line.cut[resource] = p.line.after[resource]
			if i > 0 {
				p.line.cut[resource] = lines[resource][i-1].number
			}
			lines[resource] = lines[resource][:i]
			break
		}
	}
	return err
}

func (p *places) readLines(ctx context.Context, tx pgx.Tx, freed []string) error {
	if len(freed) == 0 {
		return nil
	}
	waiting, err := p.readLine(ctx, tx, freed)
	if err != nil {
		return err
	}
	// These are not watched, not even once they are granted. A reservation in a line may belong to another lane, and only
	// that lane knows what was asked for it in time. Those of this lane that run out were read by needDue.
	if err := p.loadReservations(ctx, tx, func(r *reservation) { r.inLine = true }); err != nil {
		return err
	}
	if err := p.loadItems(ctx, tx); err != nil {
		return err
	}
	for _, resource := range freed {
		p.line.read[resource] = true
		for _, s := range waiting[resource] {
			if r := p.reservations[s.reservation]; r != nil && r.status == reservationWaiting {
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
