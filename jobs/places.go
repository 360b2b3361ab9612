package jobs

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/lastseat/lastseat/internal/faultpoint"
	"github.com/lastseat/lastseat/outbox"
)

// places is the part of the resources and reservations that a batch touches, in memory.
type places struct {
	lanes        int
	resources    map[string]*resource    // nil: asked for, and not there
	reservations map[string]*reservation // nil: asked for, and not there
	demands      []demand                // of the batch
	releasing    map[string]time.Time    // reservations that a request may end, by their ids: from when on; zero: at once
	counts       map[customerGroup]*count
	occupied     map[string][]*item // the time ranges of a resource that are taken
	line         line

	// waits are the resources that a customer waits for, of those who may give something back.
	waits     map[customerGroup][]string
	waitsRead map[string]bool // customers whose waits were read
	blocked   blocked
	cursors   *cursors // of a sweep; nil in a batch, which reads every line from its head

	expiring expiries[reservation] // those that are held, or wait
	reached  time.Time             // what had run out by then has ended
	expired  []string              // ids of reservations, in this batch
}

// holdLasts is how long a reservation is held if its request gives no time.
const holdLasts = 15 * time.Minute

// demand is what a request wants to take.
type demand struct {
	reservation, customer string
	expiresAt             time.Time // zero: holdLasts after it was asked for
	isBooking             bool      // it is confirmed at once: unless a time was asked for, it can't be too late
	items                 []Item
}

func newPlaces() places {
	return places{
		resources: make(map[string]*resource), reservations: make(map[string]*reservation),
		releasing: make(map[string]time.Time), counts: make(map[customerGroup]*count),
		occupied: make(map[string][]*item), line: newLine(),
		waits: make(map[customerGroup][]string), waitsRead: make(map[string]bool),
	}
}

func (p *places) needReservation(id string) { need(p.reservations, id) }

func (p *places) needResource(id string) { need(p.resources, id) }

func (p *places) needDemand(d demand) {
	p.needReservation(d.reservation)
	p.demands = append(p.demands, d)
	for _, asked := range d.items {
		p.needResource(asked.Resource)
	}
}

// mayRelease says that a request may end a reservation at a time or later: the lines for what it has are then needed.
func (p *places) mayRelease(id string, at time.Time) {
	if earlier, known := p.releasing[id]; !known || at.Before(earlier) {
		p.releasing[id] = at
	}
}

// isTouched tells whether a request of the batch has to do with places.
func (p *places) isTouched() bool { return len(p.resources)+len(p.reservations) > 0 }

// load locks and reads reservations, their items, the resources, the lines, the time ranges and the customers' counts
// that the batch needs; see [state.load] for the order.
func (p *places) load(ctx context.Context, tx pgx.Tx, until time.Time) error {
	if err := p.loadReservations(ctx, tx, p.watchLive); err != nil {
		return err
	}
	if err := p.loadItems(ctx, tx); err != nil {
		return err
	}
	if err := p.loadResources(ctx, tx); err != nil {
		return err
	}
	if p.cursors != nil {
		p.cursors.begin(p)
	}
	if err := p.loadLines(ctx, tx, until); err != nil {
		return err
	}
	if err := p.loadOccupied(ctx, tx); err != nil {
		return err
	}
	return p.loadCounts(ctx, tx)
}

// pending finds the pending reservation of a hold or a booking, with its items. The SQL functions have made its row;
// that of a job that was inserted directly is made here. It refuses a reservation that another request has made, or
// that had run out when it was asked for.
func (p *places) pending(d demand, job outbox.Job) (*reservation, *outbox.Result, error) {
	r := p.reservations[d.reservation]
	switch {
	case r == nil:
		r = d.newReservation(job)
		p.reservations[r.id] = r
	case r.key != job.Key:
		text := fmt.Sprintf("reservation %q was asked for with the key %q", r.id, r.key)
		return nil, reject(outbox.CodeInvalidArgs, map[string]string{"error": text}), nil
	case r.status != reservationPending:
		return nil, nil, fmt.Errorf("reservation %q is %s while its request is pending: run worker audit", r.id, r.status)
	}
	if mayBeLate := !d.isBooking || !d.expiresAt.IsZero(); mayBeLate && r.ranOut(job.At) {
		r.become(reservationRejected)
		return nil, reject(CodeHoldExpired, map[string]any{"reservation": r.id, "expires_at": inUTC(r.expiresAt)}), nil
	}
	for i, asked := range d.items {
		r.items = append(r.items, &item{
			resource: asked.Resource, quantity: max(1, asked.Quantity), during: asked.During, position: i + 1,
		})
	}
	return r, nil, nil
}

func (d demand) newReservation(job outbox.Job) *reservation {
	r := &reservation{
		id: d.reservation, key: job.Key, customer: d.customer, expiresAt: d.expiresAt,
		status: reservationPending, created: true,
	}
	if r.expiresAt.IsZero() {
		r.expiresAt = job.At.Add(holdLasts)
	}
	return r
}

// live returns a reservation if it has one of the statuses, or says why it can't be worked on.
func (p *places) live(id string, statuses ...string) (*reservation, *outbox.Result) {
	switch r := p.reservations[id]; {
	case r == nil:
		return nil, reject(CodeReservationNotFound, map[string]any{"reservation": id})
	case slices.Contains(statuses, r.status):
		return r, nil
	case r.status == reservationExpired:
		return nil, reject(CodeHoldExpired, map[string]any{"reservation": id, "expires_at": inUTC(r.expiresAt)})
	default:
		return nil, reject(CodeNotHeld, map[string]any{"reservation": id, "status": r.status})
	}
}

// refuseItems says why the items can't be taken together, or nil if they can.
func (p *places) refuseItems(items []*item, customer string) *outbox.Result {
	for _, it := range items { // first: nobody can wait for a resource that is not there
		if p.resources[it.resource] == nil {
			return reject(CodeResourceNotFound, map[string]any{"resource": it.resource})
		}
	}
	asked := make(map[string]int64, len(items))
	perGroup := make(map[string]int64)
	if faultpoint.Sabotaged(faultpoint.NoCapacity) {
		return nil
	}
	for i, it := range items {
		r := p.resources[it.resource]
		if it.during != nil {
			if r.capacity == 0 {
				return reject(CodeSoldOut, map[string]any{"resource": r.id, "asked": 1, "available": 0})
			}
			if p.isTaken(it, items[:i]) {
				return reject(CodeOverlap, map[string]any{"resource": r.id, "during": it.during})
			}
		} else {
			if it.quantity > r.room()-asked[r.id] {
				return reject(CodeSoldOut,
					map[string]any{"resource": r.id, "asked": sumOf(items, r.id), "available": max(0, r.room())})
			}
			asked[r.id] += it.quantity
		}
		if r.group != "" {
			if refused := p.refuseCustomer(r, customer, perGroup[r.group], it.quantity); refused != nil {
				return refused
			}
			perGroup[r.group] += it.quantity
		}
	}
	return nil
}

// isTaken tells whether a time range overlaps one that is taken, or one of the same request.
func (p *places) isTaken(it *item, before []*item) bool {
	overlaps := func(other *item) bool {
		return other.resource == it.resource && other.during != nil && other.during.overlaps(*it.during)
	}
	return slices.ContainsFunc(before, overlaps) ||
		slices.ContainsFunc(p.occupied[it.resource], func(other *item) bool { return other.occupies && overlaps(other) })
}

func sumOf(items []*item, resource string) (sum int64) {
	for _, it := range items {
		if it.resource == resource && it.during == nil {
			sum = addClipped(sum, it.quantity)
		}
	}
	return sum
}

// hold takes the items of a reservation that nothing refuses.
func (p *places) hold(r *reservation) {
	for _, it := range r.items {
		it.reservation = r
		p.count(r, it, it.quantity)
		resource := p.resources[it.resource]
		resource.touch()
		if it.during != nil {
			it.occupy(true)
			p.occupied[it.resource] = append(p.occupied[it.resource], it)
		} else {
			resource.held += it.quantity
		}
	}
	r.newItems = r.newItems || r.status == reservationPending
	r.become(reservationHeld)
	if !r.inLine {
		p.watch(r)
	}
}

// confirm makes a hold lasting.
func (p *places) confirm(r *reservation) error {
	if err := p.contradiction(r); err != nil {
		return err
	}
	for _, it := range r.items {
		if it.during == nil {
			resource := p.resources[it.resource]
			resource.touch()
			resource.held -= it.quantity
			resource.confirmed += it.quantity
		}
	}
	r.become(reservationConfirmed)
	return nil
}

// end gives back what a reservation has taken, or its places in the lines, and grants what has become free.
func (p *places) end(r *reservation, status string) error {
	if err := p.contradiction(r); err != nil {
		return err
	}
	was := r.status
	r.become(status)
	if was == reservationWaiting {
		p.leave(r)
		p.moveUp(r.items)
		return nil
	}
	freed := make(map[string]bool, len(r.items))
	for _, it := range r.items {
		resource := p.resources[it.resource]
		resource.touch()
		p.count(r, it, -it.quantity)
		freed[it.resource] = true
		switch {
		case it.during != nil:
			it.occupy(false)
		case was == reservationHeld:
			resource.held -= it.quantity
		default:
			resource.confirmed -= it.quantity
		}
	}
	p.grant(freed)
	return nil
}

// watch sees to it that a reservation that is held or waits expires in time.
func (p *places) watch(r *reservation) { p.expiring.watch(r.expiresAt, r.id, r) }

// advance expires what has run out by a time. Rows that contradict one another are left alone, for worker audit to
// show: they must not keep the others from expiring.
func (p *places) advance(to time.Time) {
	for at, r := range p.expiring.until(to) {
		p.reach(at)
		live := r.status == reservationHeld || r.status == reservationWaiting
		if !live || !r.expiresAt.Equal(at) || p.holdsUpEnd(r) {
			continue
		}
		if err := p.end(r, reservationExpired); err == nil {
			p.expired = append(p.expired, r.id)
		}
	}
	p.reach(to)
}

func (p *places) holdsUpEnd(r *reservation) bool {
	return len(p.blocked) > 0 && p.blocked.holdsUp(p.touchesEnd(r.id)) != nil
}

func (p *places) reach(at time.Time) {
	if at.After(p.reached) {
		p.reached = at
	}
}

// contradiction says how the rows of a reservation contradict one another, which no sequence of requests brings about.
func (p *places) contradiction(r *reservation) error {
	if r.status == reservationWaiting {
		return nil
	}
	sums, counted := make(map[string]int64), make(map[string]int64)
	for _, it := range r.items {
		resource := p.resources[it.resource]
		if resource == nil {
			return fmt.Errorf("reservation %q has resource %q, which is not there: run worker audit", r.id, it.resource)
		}
		if it.during == nil {
			sums[it.resource] += it.quantity
		}
		has := resource.held
		if r.status == reservationConfirmed {
			has = resource.confirmed
		}
		if sums[it.resource] > has {
			return fmt.Errorf("resource %q has less %s than its reservations: run worker audit", it.resource, r.status)
		}
		counted[resource.group] += it.quantity
		if p.countOf(resource.group, r.customer) < counted[resource.group] {
			return fmt.Errorf("customer %q is counted with less of group %q than they have: run worker audit",
				r.customer, resource.group)
		}
	}
	return nil
}

// write queues everything that has changed.
func (p *places) write(write *pgx.Batch) {
	changed := changedRows(p.reservations, func(r *reservation) bool { return len(r.steps) > 0 })
	writeReservations(write, changed)
	writeLines(write, changed)
	writeItems(write, changed)
	p.writeResources(write)
	p.writeCounts(write)
}
