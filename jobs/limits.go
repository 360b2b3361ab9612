package jobs

import (
	"cmp"
	"context"
	"maps"
	"math"
	"slices"

	"github.com/jackc/pgx/v5"

	"github.com/lastseat/lastseat/outbox"
)

// What one customer may have of a group of resources, and what they have.

type customerGroup struct{ group, customer string }

func (g customerGroup) compare(other customerGroup) int {
	return cmp.Or(cmp.Compare(g.group, other.group), cmp.Compare(g.customer, other.customer))
}

// count is a row of customer_counts.
type count struct {
	quantity, version int64
	changed           bool
	lowered           bool // something that the customer waits for may be within the limit now
}

// refuseCustomer says why a customer can't have quantity of a resource's group in addition to before, which nothing
// refuses, or nil if they can. A request that names no customer can't get past a limit.
func (p *places) refuseCustomer(r *resource, customer string, before, quantity int64) *outbox.Result {
	limit := int64(math.MaxInt64) // what a row of customer_counts can hold
	if r.perCustomer != nil {
		limit = *r.perCustomer
	} else if customer == "" {
		return nil
	}
	taken := int64(0)
	if c := p.counts[customerGroup{r.group, customer}]; c != nil {
		taken = c.quantity
	}
	if customer != "" && quantity <= limit-taken-before {
		return nil
	}
	code := CodeCustomerLimit
	if r.perCustomer == nil {
		code = CodeOutOfRange
	}
	return reject(code, map[string]any{
		"group": r.group, "customer": customer, "asked": addClipped(before, quantity), "taken": taken, "limit": limit,
	})
}

// count adds to what the reservation's customer has of the item's group.
func (p *places) count(r *reservation, it *item, quantity int64) {
	group := p.resources[it.resource].group
	if group == "" || r.customer == "" {
		return
	}
	c := p.counts[customerGroup{group, r.customer}]
	c.quantity += quantity
	c.version++
	c.changed = true
	c.lowered = c.lowered || quantity < 0
}

// countOf is what a customer is counted with; without a group or a customer nothing is counted, and it is without
// bound.
func (p *places) countOf(group, customer string) int64 {
	if group == "" || customer == "" {
		return math.MaxInt64
	}
	c := p.counts[customerGroup{group, customer}]
	if c == nil {
		return -1
	}
	return c.quantity
}

const (
	lockedCountsSQL = `
	SELECT c.limit_group, c.customer, c.quantity, c.version
	FROM unnest($1::text[], $2::text[]) AS asked(limit_group, customer)
	JOIN lastseat.customer_counts c USING (limit_group, customer)
	ORDER BY c.limit_group, c.customer`

	loadCountsSQL = lockedCountsSQL + ` FOR NO KEY UPDATE OF c SKIP LOCKED`

	// A customer who is new to a group gets a row: two lanes that both found none would both begin at 0.
	makeCountsSQL = `
	INSERT INTO lastseat.customer_counts (limit_group, customer, quantity)
	SELECT *, 0 FROM unnest($1::text[], $2::text[]) ON CONFLICT DO NOTHING
	RETURNING limit_group, customer, quantity, version`
)

// loadCounts locks and reads what the batch's customers have of the groups of the batch's resources.
func (p *places) loadCounts(ctx context.Context, tx pgx.Tx) error {
	p.needCounts()
	var key customerGroup
	var c count
	columns := []any{&key.group, &key.customer, &c.quantity, &c.version}
	readMissing := func(doing, sql string, row func()) error {
		missing := p.missingCounts()
		if len(missing) == 0 {
			return nil
		}
		groups := column(missing, func(key customerGroup) string { return key.group })
		customers := column(missing, func(key customerGroup) string { return key.customer })
		return read(ctx, tx, doing, sql, []any{groups, customers}, columns, row)
	}
	loaded := func() {
		loaded := c
		p.counts[key] = &loaded
	}
	locked := func() { p.blocked.lock(rowID{table: countsTable, id: key.customer, of: key.group}) }
	if err := readMissing("lock customers' counts", loadCountsSQL, loaded); err != nil {
		return err
	}
	if err := readMissing("look for locked customers' counts", lockedCountsSQL, locked); err != nil {
		return err
	}
	if err := readMissing("make customers' counts", makeCountsSQL, loaded); err != nil {
		return err
	}
	for _, made := range p.missingCounts() { // by another lane, just now
		p.blocked.lock(rowID{table: countsTable, id: made.customer, of: made.group})
	}
	return nil
}

// missingCounts are the counts that are asked for, neither read nor blocked, in order.
func (p *places) missingCounts() []customerGroup {
	var keys []customerGroup
	for key, c := range p.counts {
		if _, isLocked := p.blocked[rowID{table: countsTable, id: key.customer, of: key.group}]; c == nil && !isLocked {
			keys = append(keys, key)
		}
	}
	slices.SortFunc(keys, customerGroup.compare)
	return keys
}

// needCounts asks for the counts of everybody who has something, waits for it or asks for it.
func (p *places) needCounts() {
	need := func(customer, resource string) {
		if r := p.resources[resource]; r != nil && r.group != "" && customer != "" {
			p.counts[customerGroup{r.group, customer}] = nil
		}
	}
	for _, d := range p.demands {
		for _, asked := range d.items {
			need(d.customer, asked.Resource)
		}
	}
	for _, r := range p.reservations {
		if r != nil {
			for _, it := range r.items {
				need(r.customer, it.resource)
			}
		}
	}
}

const waitsSQL = `
	SELECT DISTINCT r.limit_group, asked.customer, i.resource_id
	FROM unnest($1::text[]) AS asked(customer)
	JOIN lastseat.reservations w ON w.customer = asked.customer AND w.status = 'waiting'
	JOIN lastseat.reservation_items i ON i.reservation_id = w.id
	JOIN lastseat.resources r ON r.id = i.resource_id AND r.limit_group IS NOT NULL
	ORDER BY r.limit_group, asked.customer, i.resource_id`

// readWaits reads what customers wait for who may give something back: see [places.markWaits].
func (p *places) readWaits(ctx context.Context, tx pgx.Tx, customers []string) error {
	if len(customers) == 0 {
		return nil
	}
	var key customerGroup
	var resource string
	columns := []any{&key.group, &key.customer, &resource}
	err := read(ctx, tx, "read what customers wait for", waitsSQL, []any{customers}, columns, func() {
		p.waits[key] = append(p.waits[key], resource)
		p.needResource(resource)
	})
	if err != nil {
		return err
	}
	return p.loadResources(ctx, tx)
}

// markWaits marks the resources that customers wait for who have given something back: they may get now what their
// limit kept from them. The sweep looks at these lines.
func (p *places) markWaits() {
	lowered := p.countsThat(func(c *count) bool { return c.lowered })
	for _, key := range lowered {
		for _, id := range p.waits[key] {
			p.markWait(id)
		}
	}
	for _, r := range p.reservations {
		if r == nil || !r.joined || r.customer == "" {
			continue
		}
		for _, it := range r.items {
			if c := p.counts[customerGroup{p.resources[it.resource].group, r.customer}]; c != nil && c.lowered {
				p.markWait(it.resource)
			}
		}
	}
}

func (p *places) markWait(id string) {
	if r := p.resources[id]; r != nil && r.waiting > 0 && !r.marked {
		r.touch()
		r.marked = true
	}
}

const updateCountsSQL = `
	UPDATE lastseat.customer_counts c SET quantity = n.quantity, version = n.version
	FROM unnest(@groups::text[], @customers::text[], @quantities::bigint[], @versions::bigint[])
	     AS n(limit_group, customer, quantity, version)
	WHERE c.limit_group = n.limit_group AND c.customer = n.customer`

func (p *places) writeCounts(write *pgx.Batch) {
	group := func(key customerGroup) string { return key.group }
	customer := func(key customerGroup) string { return key.customer }
	changed := p.countsThat(func(c *count) bool { return c.changed })
	if len(changed) == 0 {
		return
	}
	write.Queue(updateCountsSQL, pgx.NamedArgs{
		"groups":     column(changed, group),
		"customers":  column(changed, customer),
		"quantities": column(changed, func(key customerGroup) int64 { return p.counts[key].quantity }),
		"versions":   column(changed, func(key customerGroup) int64 { return p.counts[key].version }),
	}).Exec(outbox.ExpectRows(len(changed)))
}

// countsThat are the keys of the counts for which is holds, in order.
func (p *places) countsThat(is func(*count) bool) []customerGroup {
	var keys []customerGroup
	for _, key := range slices.SortedFunc(maps.Keys(p.counts), customerGroup.compare) {
		if c := p.counts[key]; c != nil && is(c) {
			keys = append(keys, key)
		}
	}
	return keys
}
