package jobs

import (
	"cmp"
	"fmt"
	"math"
	"slices"
	"time"

	"github.com/lastseat/lastseat/outbox"
)

// inventory is the part of the resources and reservations that a batch touches, in memory.
type inventory struct {
	resources    map[string]*resource    // nil: asked for, and not there
	reservations map[string]*reservation // nil: asked for, and not there
	holds        []*Hold                 // of the batch
	releasing    map[string]bool         // ids of the reservations that may give something back
	counts       map[customerGroup]*count
	occupied     map[string][]*item        // the time ranges of a resource that are taken
	lines        map[string][]*reservation // who waits for a resource, in order
	partly       map[string]bool           // resources whose line was read: whether it is longer than that
	joined       int64                     // how many have joined a line in this batch
	expiries
	granted []string // ids of reservations
	ranOut  []string // ids of reservations
}

// resource is a row of resources.
type resource struct {
	id                       string
	capacity                 int64 // with what may be overbooked
	held, confirmed, waiting int64
	group                    string // whose limit it counts for; empty: none
	perCustomer              *int64 // the group's limit; nil: without bound
	grown                    bool
	version                  int64
	changed                  bool
}

// The statuses of a reservation; see the state machine in schema/migrations/0006_reservations.sql.
const (
	reservationPending   = "pending"
	reservationHeld      = "held"
	reservationConfirmed = "confirmed"
	reservationCancelled = "cancelled"
	reservationRejected  = "rejected"
	reservationExpired   = "expired"
	reservationWaiting   = "waiting"
)

// reservation is a row of reservations, with its items.
type reservation struct {
	id, key, customer string
	status            string
	expiresAt         time.Time
	place             int64 // in the lines that it waits in; lower ones come first
	items             []*item

	created  bool   // by this batch: it is not in the table yet
	newItems bool   // they are not in the table yet
	joined   bool   // it joined the lines in this batch
	left     bool   // it left the lines that the table has it in
	steps    []step // what the table has to be told, one after the other
}

// step is a change of a reservation. The table proves each.
type step struct {
	status    string
	expiresAt time.Time
}

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

type customerGroup struct{ group, customer string }

// count is a row of customer_counts.
type count struct {
	quantity, version int64
	changed           bool
}

func newInventory() inventory {
	return inventory{
		resources: make(map[string]*resource), reservations: make(map[string]*reservation), releasing: make(map[string]bool),
		counts: make(map[customerGroup]*count), occupied: make(map[string][]*item), lines: make(map[string][]*reservation), partly: make(map[string]bool),
	}
}

func (v *inventory) needReservation(id string) {
	if _, known := v.reservations[id]; !known {
		v.reservations[id] = nil
	}
}

func (v *inventory) needResource(id string) {
	if _, known := v.resources[id]; !known {
		v.resources[id] = nil
	}
}

func (v *inventory) needHold(h *Hold) {
	v.needReservation(h.Reservation)
	v.holds = append(v.holds, h)
	for _, asked := range h.Items {
		v.needResource(asked.Resource)
	}
}

// become takes the reservation one step on, or stays and takes its new time along.
func (r *reservation) become(status string) {
	r.status = status
	r.steps = append(r.steps, step{status, r.expiresAt})
}

func (r *reservation) ranOut(at time.Time) bool { return !at.Before(r.expiresAt) }

// live returns a reservation if it has one of the statuses, or says why it can't be worked on.
func (v *inventory) live(id string, statuses ...string) (*reservation, *outbox.Result) {
	switch r := v.reservations[id]; {
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

func (r *resource) room() int64 { return r.capacity - r.held - r.confirmed }

func (r *resource) touch() {
	r.version++
	r.changed = true
}

// refuseItems says why the items can't be taken together, or nil if they can.
func (v *inventory) refuseItems(items []*item, customer string) *outbox.Result {
	asked := make(map[string]int64, len(items))
	perGroup := make(map[string]int64)
	for i, it := range items {
		r := v.resources[it.resource]
		if r == nil {
			return reject(CodeResourceNotFound, map[string]any{"resource": it.resource})
		}
		if it.during != nil {
			if v.isTaken(it, items[:i]) {
				return reject(CodeOverlap, map[string]any{"resource": r.id, "during": it.during})
			}
		} else {
			if it.quantity > r.room()-asked[r.id] {
				return reject(CodeSoldOut, map[string]any{"resource": r.id, "asked": sumOf(items, r.id), "available": max(0, r.room())})
			}
			asked[r.id] += it.quantity
		}
		if r.group != "" {
			perGroup[r.group] = addClipped(perGroup[r.group], it.quantity)
			if refused := v.refuseCustomer(r, customer, perGroup[r.group]); refused != nil {
				return refused
			}
		}
	}
	return nil
}

// isTaken tells whether a time range overlaps one that is taken, or one of the same request.
func (v *inventory) isTaken(it *item, before []*item) bool {
	overlaps := func(other *item) bool {
		return other.resource == it.resource && other.during != nil && other.during.overlaps(*it.during)
	}
	return slices.ContainsFunc(before, overlaps) || slices.ContainsFunc(v.occupied[it.resource], func(other *item) bool { return other.occupies && overlaps(other) })
}

func sumOf(items []*item, resource string) (sum int64) {
	for _, it := range items {
		if it.resource == resource && it.during == nil {
			sum = addClipped(sum, it.quantity)
		}
	}
	return sum
}

// refuseCustomer says why a customer can't have so much more of a resource's group. Nobody gets past the limit by not saying
// who he is.
func (v *inventory) refuseCustomer(r *resource, customer string, asked int64) *outbox.Result {
	if r.perCustomer == nil {
		return nil
	}
	taken := int64(0)
	if c := v.counts[customerGroup{r.group, customer}]; c != nil {
		taken = c.quantity
	}
	if customer != "" && asked <= *r.perCustomer-taken {
		return nil
	}
	return reject(CodeCustomerLimit, map[string]any{"group": r.group, "customer": customer, "asked": asked, "taken": taken, "limit": *r.perCustomer})
}

// take holds the items of a reservation that nothing refuses.
func (v *inventory) take(r *reservation) {
	for _, it := range r.items {
		it.reservation = r
		v.count(r, it, it.quantity)
		resource := v.resources[it.resource]
		resource.touch()
		if it.during != nil {
			it.occupy(true)
			v.occupied[it.resource] = append(v.occupied[it.resource], it)
		} else {
			resource.held += it.quantity
		}
	}
	r.newItems = r.newItems || r.status == reservationPending
	r.become(reservationHeld)
	v.watch(r)
}

func (it *item) occupy(occupies bool) {
	if it.occupies != occupies {
		it.occupies, it.changed = occupies, !it.changed
	}
}

// count adds to what the customer has of the resource's group.
func (v *inventory) count(r *reservation, it *item, quantity int64) {
	resource := v.resources[it.resource]
	if resource.group == "" || r.customer == "" {
		return
	}
	c := v.counts[customerGroup{resource.group, r.customer}]
	c.quantity += quantity
	c.version++
	c.changed = true
}

// contradiction says that the rows of a reservation contradict one another, which no sequence of requests brings about.
func (v *inventory) contradiction(r *reservation) error {
	if r.status == reservationWaiting {
		return nil
	}
	sums := make(map[string]int64)
	for _, it := range r.items {
		resource := v.resources[it.resource]
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
		if key := (customerGroup{resource.group, r.customer}); key.group != "" && key.customer != "" && (v.counts[key] == nil || v.counts[key].quantity < it.quantity) {
			return fmt.Errorf("customer %q is counted with less of group %q than he has: run worker audit", key.customer, key.group)
		}
	}
	return nil
}

// confirm makes a hold lasting.
func (v *inventory) confirm(r *reservation) error {
	if err := v.contradiction(r); err != nil {
		return err
	}
	for _, it := range r.items {
		if it.during == nil {
			resource := v.resources[it.resource]
			resource.touch()
			resource.held -= it.quantity
			resource.confirmed += it.quantity
		}
	}
	r.become(reservationConfirmed)
	return nil
}

// end gives back what a reservation has taken, or its places in the lines, and grants what has become free.
func (v *inventory) end(r *reservation, status string) error {
	if err := v.contradiction(r); err != nil {
		return err
	}
	was := r.status
	r.become(status)
	if was == reservationWaiting {
		v.leave(r)
		return nil
	}
	freed := make(map[string]bool, len(r.items))
	for _, it := range r.items {
		resource := v.resources[it.resource]
		resource.touch()
		v.count(r, it, -it.quantity)
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
	v.grant(freed)
	return nil
}

// wait puts a reservation at the end of the line of each of its resources.
func (v *inventory) wait(r *reservation) {
	r.newItems, r.joined = true, true
	v.joined++
	r.place = math.MaxInt64/2 + v.joined // after all that have their number; it gets its own when it is written
	for _, id := range distinct(r.items) {
		resource := v.resources[id]
		resource.touch()
		resource.waiting++
		v.lines[id] = append(v.lines[id], r)
	}
	for _, it := range r.items {
		it.reservation = r
	}
	r.become(reservationWaiting)
	v.watch(r)
}

// leave takes a reservation out of the lines.
func (v *inventory) leave(r *reservation) {
	r.left = !r.joined
	r.joined = false
	for _, id := range distinct(r.items) {
		if resource := v.resources[id]; resource != nil {
			resource.touch()
			resource.waiting--
		}
		v.lines[id] = slices.DeleteFunc(v.lines[id], func(other *reservation) bool { return other == r })
	}
}

func distinct(items []*item) []string {
	var ids []string
	for _, it := range items {
		if !slices.Contains(ids, it.resource) {
			ids = append(ids, it.resource)
		}
	}
	return ids
}

// grant gives what has become free to those who wait for it: in order, to everyone whose items can all be taken now.
func (v *inventory) grant(freed map[string]bool) {
	var line []*reservation
	for id := range freed {
		for _, r := range v.lines[id] {
			if (!r.joined || !v.partly[id]) && !slices.Contains(line, r) {
				line = append(line, r)
			}
		}
	}
	slices.SortFunc(line, func(a, b *reservation) int { return cmp.Compare(a.place, b.place) })
	for _, r := range line {
		if v.refuseItems(r.items, r.customer) == nil {
			v.leave(r)
			v.take(r)
			v.granted = append(v.granted, r.id)
		}
	}
}
