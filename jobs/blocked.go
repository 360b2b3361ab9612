package jobs

import (
	"slices"

	"github.com/lastseat/lastseat/outbox"
)

// What another session has locked is not waited for. Each statement that locks rows skips those that are locked
// already, and the rows that did not come are looked up without a lock: those that are there are blocked. A request
// that touches a blocked row waits, and all the rows that it touches are blocked for the later requests of the batch.
// So everything else is settled, and what depends on the locked row keeps its order. What time would bring about (an
// expiry, a grant) waits in the same way.

// rowID names a row that requests share.
type rowID struct{ table, id, of string }

const (
	accountsTable     = "accounts"
	paymentsTable     = "payments"
	reservationsTable = "reservations"
	resourcesTable    = "resources"
	countsTable       = "customer_counts"
	keysTable         = "requests" // the transfer that a request with this key makes, which another one reverses
)

func (r rowID) row() outbox.Row {
	row := outbox.Row{Table: "lastseat." + r.table, Columns: []string{"id"}, Values: []string{r.id}}
	if r.table == countsTable {
		row.Columns, row.Values = []string{"limit_group", "customer"}, []string{r.of, r.id}
	}
	return row
}

// blocked are the rows that the batch leaves alone, each with the locked row that is the reason.
type blocked map[rowID]outbox.Row

// lock notes that another session has a row locked.
func (b blocked) lock(row rowID) { b[row] = row.row() }

// holdsUp returns the locked row for which what touches these rows has to wait, or nil. If it waits, its rows are
// blocked from then on.
func (b blocked) holdsUp(touched []rowID) *outbox.Row {
	i := slices.IndexFunc(touched, func(row rowID) bool { _, is := b[row]; return is })
	if i < 0 {
		return nil
	}
	reason := b[touched[i]]
	b.spread(touched, reason)
	return &reason
}

// spread blocks rows, but for those that are blocked already, for a reason.
func (b blocked) spread(touched []rowID, reason outbox.Row) {
	for _, row := range touched {
		if _, is := b[row]; !is {
			b[row] = reason
		}
	}
}

// holdsUp returns the locked row for which an operation has to wait, or nil.
func (s *state) holdsUp(o operation, job outbox.Job) *outbox.Row {
	if len(s.blocked) == 0 {
		return nil // as nearly always
	}
	return s.blocked.holdsUp(o.touches(s, job))
}

// await blocks the rows of requests that wait and come before the batch's.
func (s *state) await(operations []operation, waiting []outbox.Waiting) {
	for i, operation := range operations {
		if operation != nil {
			s.blocked.spread(operation.touches(s, waiting[i].Job), waiting[i].Row)
		}
	}
}

func (m *money) touchesPayment(id string) []rowID {
	touched := []rowID{{table: paymentsTable, id: id}}
	if p := m.payments[id]; p != nil {
		touched = append(touched, touchesAccounts(p.accounts()...)...)
	}
	return touched
}

func touchesAccounts(ids ...string) []rowID {
	return column(ids, func(id string) rowID { return rowID{table: accountsTable, id: id} })
}

// touchesItems are the rows that items of a customer are counted in.
func (p *places) touchesItems(touched []rowID, customer string, resources ...string) []rowID {
	for _, id := range resources {
		touched = append(touched, rowID{table: resourcesTable, id: id})
		if r := p.resources[id]; r != nil && r.group != "" && customer != "" {
			touched = append(touched, rowID{table: countsTable, id: customer, of: r.group})
		}
	}
	return touched
}

func (p *places) touchesDemand(d demand) []rowID {
	touched := []rowID{{table: reservationsTable, id: d.reservation}}
	for _, asked := range d.items {
		touched = p.touchesItems(touched, d.customer, asked.Resource)
	}
	return touched
}

// touchesReservation are the rows of a reservation, its resources' and its customer's.
func (p *places) touchesReservation(touched []rowID, id string) []rowID {
	touched = append(touched, rowID{table: reservationsTable, id: id})
	if r := p.reservations[id]; r != nil {
		for _, it := range r.items {
			touched = p.touchesItems(touched, r.customer, it.resource)
		}
	}
	return touched
}

// touchesEnd are the rows that the end of a reservation may change: its own, those of everybody who waits for what it
// has, and the resources for which its customer waits.
func (p *places) touchesEnd(id string) []rowID {
	touched := p.touchesReservation(nil, id)
	r := p.reservations[id]
	if r == nil {
		return touched
	}
	for _, it := range r.items {
		touched = p.touchesLine(touched, it.resource)
		if resource := p.resources[it.resource]; resource != nil {
			touched = p.touchesItems(touched, "", p.waits[customerGroup{resource.group, r.customer}]...)
		}
	}
	return touched
}

// touchesLine are the rows of a resource, and of everybody who waits for it, as far as is known here.
func (p *places) touchesLine(touched []rowID, resource string) []rowID {
	touched = append(touched, rowID{table: resourcesTable, id: resource})
	for _, r := range p.line.waiting[resource] {
		touched = p.touchesReservation(touched, r.id)
	}
	return touched
}
