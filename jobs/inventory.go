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
	releasing    map[string]time.Time    // from when reservations may give something back, by their ids; zero: from the beginning
	counts       map[customerGroup]*count
	occupied     map[string][]*item        // the time ranges of a resource that are taken
	lines        map[string][]*reservation // who waits for a resource, in order: those who were read, and who joined
	read         map[string]bool           // resources whose line was read
	joined       int64                     // how many have joined a line in this batch
	expiries
	reached time.Time // what had run out by then has ended
	looked  int       // resources that have grown
	granted []string  // ids of reservations
	ranOut  []string  // ids of reservations
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

// The statuses of a reservation; see the state machine in schema/migrations/0004_reservations.up.sql.
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
	lowered           bool // the customer may have something now that he waits for
}

func newInventory() inventory {
	return inventory{
		resources: make(map[string]*resource), reservations: make(map[string]*reservation), releasing: make(map[string]time.Time),
		counts: make(map[customerGroup]*count), occupied: make(map[string][]*item), lines: make(map[string][]*reservation), read: make(map[string]bool),
	}
}

func (v *inventory) needReservation(id string) {
	if _, known := v.reservations[id]; !known {
		v.reservations[id] = nil
	}
}

// mayRelease says that a reservation may give back what it has, from at on.
func (v *inventory) mayRelease(id string, at time.Time) {
	if earlier, known := v.releasing[id]; !known || at.Before(earlier) {
		v.releasing[id] = at
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
	for _, it := range items { // first: for what is not there nobody can wait
		if v.resources[it.resource] == nil {
			return reject(CodeResourceNotFound, map[string]any{"resource": it.resource})
		}
	}
	asked := make(map[string]int64, len(items))
	perGroup := make(map[string]int64)
	for i, it := range items {
		r := v.resources[it.resource]
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
			if refused := v.refuseCustomer(r, customer, perGroup[r.group], it.quantity); refused != nil {
				return refused
			}
			perGroup[r.group] += it.quantity
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

// refuseCustomer says why a customer can't have quantity of a resource's group in addition to before, which he may have, or
// nil if he can. Nobody gets past the limit by not saying who he is.
func (v *inventory) refuseCustomer(r *resource, customer string, before, quantity int64) *outbox.Result {
	limit := int64(math.MaxInt64) // what a row of customer_counts can hold
	if r.perCustomer != nil {
		limit = *r.perCustomer
	} else if customer == "" {
		return nil
	}
	taken := int64(0)
	if c := v.counts[customerGroup{r.group, customer}]; c != nil {
		taken = c.quantity
	}
	if customer != "" && quantity <= limit-taken-before {
		return nil
	}
	code := CodeCustomerLimit
	if r.perCustomer == nil {
		code = CodeOutOfRange
	}
	return reject(code, map[string]any{"group": r.group, "customer": customer, "asked": addClipped(before, quantity), "taken": taken, "limit": limit})
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
	c.lowered = c.lowered || quantity < 0
}

// contradiction says that the rows of a reservation contradict one another, which no sequence of requests brings about.
func (v *inventory) contradiction(r *reservation) error {
	if r.status == reservationWaiting {
		return nil
	}
	sums, counted := make(map[string]int64), make(map[string]int64)
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
		counted[resource.group] += it.quantity
		if key := (customerGroup{resource.group, r.customer}); key.group != "" && key.customer != "" && (v.counts[key] == nil || v.counts[key].quantity < counted[key.group]) {
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
		v.moveUp(r.items)
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
//
// Of a line that was not read to its end, those who have just joined come after others that are not here. What may be left for
// them the resource has to be looked at again, by the sweep or the next batch: it is marked as if it had grown.
func (v *inventory) grant(freed map[string]bool) {
	var line []*reservation
	for id := range freed {
		whole := v.isWhole(id)
		for _, r := range v.lines[id] {
			if whole || !r.joined {
				line = append(line, r)
			}
		}
		if resource := v.resources[id]; !whole && !v.read[id] {
			resource.grown = true
		}
	}
	slices.SortStableFunc(line, func(a, b *reservation) int { return cmp.Compare(a.place, b.place) })
	for _, r := range slices.Compact(line) {
		if r.ranOut(v.reached) || v.isPlainlyFull(r.items) || v.refuseItems(r.items, r.customer) != nil {
			continue
		}
		v.leave(r)
		v.moveUp(r.items)
		v.take(r)
		v.granted = append(v.granted, r.id)
	}
}

// growing tells whether somebody is left to be looked at.
func (v *inventory) growing() bool {
	for _, r := range v.resources {
		if r != nil && r.grown {
			return true
		}
	}
	for _, c := range v.counts {
		if c != nil && c.lowered {
			return true
		}
	}
	return false
}

// isWhole tells whether everyone is known who waits for a resource.
func (v *inventory) isWhole(id string) bool {
	return v.resources[id].waiting <= int64(len(v.lines[id]))
}

// isPlainlyFull spares most of a long line a closer look.
func (v *inventory) isPlainlyFull(items []*item) bool {
	return slices.ContainsFunc(items, func(it *item) bool {
		r := v.resources[it.resource]
		return r == nil || it.during == nil && it.quantity > r.room()
	})
}

// again has the lines of a reservation looked at that waits longer than it would have: another lane may have passed it by, as one
// that had run out.
func (v *inventory) again(r *reservation) {
	if v.isPlainlyFull(r.items) { // or names a resource that is not there
		return
	}
	for _, id := range distinct(r.items) {
		v.resources[id].touch()
		v.resources[id].grown = true
	}
}

// moveUp: somebody has left the lines for the items. Where they are longer than what is read of one, somebody comes in sight
// who may have what those before him can't.
func (v *inventory) moveUp(items []*item) {
	for _, it := range items {
		if r := v.resources[it.resource]; r != nil && r.waiting >= lineRead && !v.isWhole(r.id) {
			r.grown = true
		}
	}
}
