package jobs

import (
	"cmp"
	"maps"
	"math"
	"slices"

	"github.com/lastseat/lastseat/internal/faultpoint"
)

// line is what a batch knows of the waiting lines, one for each resource. A reservation that waits for several
// resources stands in the line of each, with the same number.
type line struct {
	waiting map[string][]*reservation // by resource, in order: those who were read, and those who joined
	read    map[string]bool           // resources whose line was read, up to lineRead of it
	cut     map[string]int64          // resources whose line was not read that far, for its items: the last number read
	after   map[string]int64          // the number after which a sweep reads on in a line
	items   int                       // how many were read of those who wait
	joined  int64                     // how many have joined in this batch
	looked  int                       // how many marked resources were looked at
	granted []string                  // ids of reservations
}

func newLine() line {
	return line{waiting: make(map[string][]*reservation), read: make(map[string]bool), cut: make(map[string]int64)}
}

// join puts a reservation at the end of the line of each of its resources.
func (p *places) join(r *reservation) {
	r.newItems, r.joined = true, true
	p.line.joined++
	r.place = math.MaxInt64/2 + p.line.joined // after everybody who has a number; it gets its own when it is written
	for _, id := range distinct(r.items) {
		resource := p.resources[id]
		resource.touch()
		resource.waiting++
		p.touchCount(resource.group, r.customer)
		p.line.waiting[id] = append(p.line.waiting[id], r)
	}
	for _, it := range r.items {
		it.reservation = r
	}
	r.become(reservationWaiting)
	p.watch(r)
}

// touchCount changes the version of what a customer has of a group. Whoever gives something of it back reads what the
// customer waits for, with a snapshot that may be older than this batch: then that transaction has to fail and run
// again.
func (p *places) touchCount(group, customer string) {
	if c := p.counts[customerGroup{group, customer}]; c != nil {
		c.version++
		c.changed = true
	}
}

// leave takes a reservation out of its lines.
func (p *places) leave(r *reservation) {
	r.left = !r.joined
	r.joined = false
	for _, id := range distinct(r.items) {
		if resource := p.resources[id]; resource != nil {
			resource.touch()
			resource.waiting--
		}
		isIt := func(other *reservation) bool { return other == r }
		p.line.waiting[id] = slices.DeleteFunc(p.line.waiting[id], isIt)
	}
}

// grant gives what has become free to those who wait for it: in order, to everybody whose items can all be taken now.
//
// If a line was not read to its end, those who have just joined it come after others that are not here, and get nothing
// yet. The resource is marked: the sweep or the next batch gives them what is left.
func (p *places) grant(freed map[string]bool) {
	var candidates []*reservation
	for id := range freed {
		whole := p.isWhole(id)
		for _, r := range p.line.waiting[id] {
			if whole || !r.joined {
				candidates = append(candidates, r)
			}
		}
		if _, isCut := p.line.cut[id]; isCut || !whole && !p.line.read[id] {
			p.resources[id].marked = true
		}
	}
	slices.SortStableFunc(candidates, func(a, b *reservation) int { return cmp.Compare(a.place, b.place) })
	for _, r := range slices.Compact(candidates) {
		if r.ranOut(p.reached) || p.isPlainlyFull(r.items) || p.refuseItems(r.items, r.customer) != nil {
			continue
		}
		p.leave(r)
		p.moveUp(r.items)
		p.hold(r)
		p.line.granted = append(p.line.granted, r.id)
		faultpoint.Reached(faultpoint.InGrant)
	}
}

// grantMarked looks at the lines of the marked resources that were read, and gives what is free to those who wait.
func (p *places) grantMarked() {
	marked := make(map[string]bool)
	for _, id := range slices.Sorted(maps.Keys(p.resources)) {
		r := p.resources[id]
		if r != nil && r.marked && (p.line.read[id] || r.waiting == 0) && p.blocked.holdsUp(p.touchesLine(nil, id)) == nil {
			_, r.marked = p.line.cut[id] // the next sweep reads on
			r.touch()
			marked[id] = true
		}
	}
	p.line.looked += len(marked)
	p.grant(marked)
}

// mustLookAgain tells whether the next sweep has lines to look at.
func (p *places) mustLookAgain() bool {
	for id, r := range p.resources {
		if _, isBlocked := p.blocked[rowID{table: resourcesTable, id: id}]; r != nil && r.marked && !isBlocked {
			return true
		}
	}
	return false
}

// isWhole tells whether everybody who waits for a resource is known here.
func (p *places) isWhole(id string) bool {
	return p.resources[id].waiting <= int64(len(p.line.waiting[id]))
}

// isPlainlyFull spares most of a long line a closer look.
func (p *places) isPlainlyFull(items []*item) bool {
	return slices.ContainsFunc(items, func(it *item) bool {
		r := p.resources[it.resource]
		return r == nil || it.during == nil && it.quantity > r.room() || it.during != nil && r.capacity == 0
	})
}

// lookAgain marks the resources of a reservation that now waits longer: another lane may have passed it by because it
// had run out.
func (p *places) lookAgain(r *reservation) {
	if p.isPlainlyFull(r.items) { // or it names a resource that is not there
		return
	}
	for _, id := range distinct(r.items) {
		p.resources[id].touch()
		p.resources[id].marked = true
	}
}

// moveUp marks the resources of a reservation that has left its lines, if their lines are longer than what is read of
// one: somebody comes in sight who may have what those before them can't.
func (p *places) moveUp(items []*item) {
	for _, it := range items {
		if r := p.resources[it.resource]; r != nil && r.waiting >= lineRead && !p.isWhole(r.id) {
			r.marked = true
		}
	}
}
