package jobs

import (
	"cmp"
	"context"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/lastseat/lastseat/outbox"
)

// The inventory's way in and out of the database.

const (
	// lineRead is how many of those who wait for a resource are looked at when it gets free; when some of them have left the line,
	// the next sweep looks at as many again.
	lineRead = 1000

	loadReservationsSQL = `
	SELECT id, key, coalesce(customer, ''), status, expires_at, coalesce(waiting_number, 0)
	FROM lastseat.reservations WHERE id = ANY (@ids::text[]) ORDER BY id FOR NO KEY UPDATE`

	dueReservationsSQL = `
	SELECT id, key, coalesce(customer, ''), status, expires_at, coalesce(waiting_number, 0)
	FROM lastseat.reservations
	WHERE status IN ('held', 'waiting') AND expires_at <= @until AND (@lanes = 1 OR abs(hashtextextended(id, 0) % @lanes) = @lane)
	ORDER BY expires_at, id LIMIT @limit FOR NO KEY UPDATE`

	loadItemsSQL = `
	SELECT reservation_id, position, resource_id, quantity, lower(during), upper(during), coalesce(occupies, false)
	FROM lastseat.reservation_items WHERE reservation_id = ANY ($1::text[]) ORDER BY reservation_id, position`

	loadResourcesSQL = `
	SELECT r.id, r.capacity + r.overbook, r.held, r.confirmed, r.waiting, coalesce(r.limit_group, ''), g.per_customer, r.grown, r.version
	FROM lastseat.resources r LEFT JOIN lastseat.limit_groups g ON g.id = r.limit_group
	WHERE r.id = ANY ($1::text[]) ORDER BY r.id FOR NO KEY UPDATE OF r`

	grownResourcesSQL = `SELECT id FROM lastseat.resources WHERE grown ORDER BY id LIMIT $1`

	loadLinesSQL = `
	SELECT w.resource_id, w.reservation_id
	FROM unnest($1::text[]) AS freed(id),
	     LATERAL (SELECT * FROM lastseat.waiting_items i WHERE i.resource_id = freed.id ORDER BY i.number LIMIT $2) w
	ORDER BY w.resource_id, w.number`

	loadOccupiedSQL = `
	SELECT DISTINCT i.reservation_id, i.position, i.resource_id, lower(i.during), upper(i.during)
	FROM unnest($1::text[], $2::tstzrange[]) AS asked(resource, during)
	JOIN lastseat.reservation_items i ON i.occupies AND i.resource_id = asked.resource AND i.during && asked.during
	 AND int8range(hashtextextended(i.resource_id, 0) >> 1, hashtextextended(i.resource_id, 0) >> 1, '[]')
	  && int8range(hashtextextended(asked.resource, 0) >> 1, hashtextextended(asked.resource, 0) >> 1, '[]')`

	// A row for each, made before it is locked: two lanes that both found none would both begin at 0.
	makeCountsSQL = `
	INSERT INTO lastseat.customer_counts (limit_group, customer, quantity)
	SELECT *, 0 FROM unnest($1::text[], $2::text[]) ON CONFLICT DO NOTHING`

	loadCountsSQL = `
	SELECT c.limit_group, c.customer, c.quantity, c.version
	FROM unnest($1::text[], $2::text[]) AS asked(limit_group, customer) JOIN lastseat.customer_counts c USING (limit_group, customer)
	ORDER BY c.limit_group, c.customer FOR NO KEY UPDATE OF c`

	// Of jobs that came past the SQL functions; see errMade.
	insertReservationsSQL = `
	INSERT INTO lastseat.reservations (id, key, customer, expires_at)
	SELECT id, key, nullif(customer, ''), expires_at
	FROM unnest(@ids::text[], @keys::text[], @customers::text[], @expire::timestamptz[]) AS n(id, key, customer, expires_at)
	ON CONFLICT (id) DO NOTHING`

	updateReservationsSQL = `
	UPDATE lastseat.reservations r
	SET status = n.status, expires_at = n.expires_at, waiting_number = coalesce(nullif(n.place, 0), r.waiting_number), version = r.version + 1, updated_at = now()
	FROM unnest(@ids::text[], @statuses::text[], @expire::timestamptz[], @places::bigint[]) AS n(id, status, expires_at, place)
	WHERE r.id = n.id`

	insertItemsSQL = `
	INSERT INTO lastseat.reservation_items (reservation_id, position, resource_id, quantity, during, occupies)
	SELECT reservation, position, resource, quantity, nullif(during, '')::tstzrange, CASE WHEN during <> '' THEN occupies END
	FROM unnest(@reservations::text[], @positions::int[], @resources::text[], @quantities::bigint[], @during::text[], @occupies::boolean[])
	     AS n(reservation, position, resource, quantity, during, occupies)`

	occupySQL = `
	UPDATE lastseat.reservation_items i SET occupies = @occupies
	FROM unnest(@reservations::text[], @positions::int[]) AS n(reservation, position)
	WHERE i.reservation_id = n.reservation AND i.position = n.position`

	updateResourcesSQL = `
	UPDATE lastseat.resources r
	SET held = n.held, confirmed = n.confirmed, waiting = n.waiting, grown = n.grown, version = n.version, updated_at = now()
	FROM unnest(@ids::text[], @held::bigint[], @confirmed::bigint[], @waiting::bigint[], @grown::boolean[], @versions::bigint[])
	     AS n(id, held, confirmed, waiting, grown, version)
	WHERE r.id = n.id`

	updateCountsSQL = `
	UPDATE lastseat.customer_counts c SET quantity = n.quantity, version = n.version
	FROM unnest(@groups::text[], @customers::text[], @quantities::bigint[], @versions::bigint[]) AS n(limit_group, customer, quantity, version)
	WHERE c.limit_group = n.limit_group AND c.customer = n.customer`

	// What a customer waits for that has given something back: the sweep looks at it as if it had grown.
	customerWaitsSQL = `
	UPDATE lastseat.resources r SET grown = true, version = r.version + 1, updated_at = now()
	FROM (SELECT DISTINCT asked.limit_group, i.resource_id
	      FROM unnest(@groups::text[], @customers::text[]) AS asked(limit_group, customer)
	      JOIN lastseat.reservations w ON w.customer = asked.customer AND w.status = 'waiting'
	      JOIN lastseat.reservation_items i ON i.reservation_id = w.id) waits
	WHERE r.id = waits.resource_id AND r.limit_group = waits.limit_group AND r.waiting > 0 AND NOT r.grown`

	leaveLinesSQL = `
	DELETE FROM lastseat.waiting_items w USING unnest(@resources::text[], @places::bigint[]) AS n(resource, place)
	WHERE w.resource_id = n.resource AND w.number = n.place`

	joinLinesSQL = `
	INSERT INTO lastseat.waiting_items (resource_id, number, reservation_id)
	SELECT * FROM unnest(@resources::text[], @places::bigint[], @reservations::text[])`
)

// loadInventory locks and reads reservations, their items, the resources, the lines, the time ranges and the customers'
// counts that the batch needs.
func (v *inventory) loadInventory(ctx context.Context, tx pgx.Tx, until time.Time) error {
	if len(v.reservations) > 0 {
		if err := v.loadReservations(ctx, tx, loadReservationsSQL, pgx.NamedArgs{"ids": missingIn(v.reservations)}); err != nil {
			return err
		}
	}
	if err := v.loadItems(ctx, tx); err != nil {
		return err
	}
	if err := v.loadResources(ctx, tx); err != nil {
		return err
	}
	if err := v.loadLines(ctx, tx, until); err != nil {
		return err
	}
	if err := v.loadOccupied(ctx, tx); err != nil {
		return err
	}
	return v.loadCounts(ctx, tx)
}

// missingIn are the ids of what was asked for and is not read yet, in order.
func missingIn[T any](rows map[string]*T) []string {
	var ids []string
	for id, row := range rows {
		if row == nil {
			ids = append(ids, id)
		}
	}
	slices.Sort(ids)
	return ids
}

// loadReservations locks and reads reservations that are not read yet, and looks after the time of those that are live.
func (v *inventory) loadReservations(ctx context.Context, tx pgx.Tx, sql string, args pgx.NamedArgs) error {
	loaded, err := v.readReservations(ctx, tx, sql, args)
	for _, r := range loaded {
		if r.status == reservationHeld || r.status == reservationWaiting {
			v.watch(r)
		}
	}
	return err
}

func (v *inventory) readReservations(ctx context.Context, tx pgx.Tx, sql string, args pgx.NamedArgs) (loaded []*reservation, err error) {
	rows, err := tx.Query(ctx, sql, args)
	if err != nil {
		return nil, fmt.Errorf("lock reservations: %w", err)
	}
	var r reservation
	_, err = pgx.ForEachRow(rows, []any{&r.id, &r.key, &r.customer, &r.status, &r.expiresAt, &r.place}, func() error {
		if v.reservations[r.id] == nil {
			read := r
			v.reservations[r.id] = &read
			loaded = append(loaded, &read)
		}
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("lock reservations: %w", err)
	}
	return loaded, nil
}

// loadItems reads the items of the reservations that have taken something, or wait for it, and needs their resources.
func (v *inventory) loadItems(ctx context.Context, tx pgx.Tx) error {
	var ids []string
	for id, r := range v.reservations {
		if r != nil && r.items == nil && slices.Contains([]string{reservationHeld, reservationConfirmed, reservationWaiting}, r.status) {
			ids = append(ids, id)
		}
	}
	if len(ids) == 0 {
		return nil
	}
	slices.Sort(ids)
	rows, err := tx.Query(ctx, loadItemsSQL, ids)
	if err != nil {
		return fmt.Errorf("read items: %w", err)
	}
	var id string
	var it item
	var start, end *time.Time
	_, err = pgx.ForEachRow(rows, []any{&id, &it.position, &it.resource, &it.quantity, &start, &end, &it.occupies}, func() error {
		loaded := it
		loaded.reservation = v.reservations[id]
		if start != nil && end != nil {
			loaded.during = &TimeRange{*start, *end}
		}
		if loaded.occupies {
			v.occupied[it.resource] = append(v.occupied[it.resource], &loaded)
		}
		loaded.reservation.items = append(loaded.reservation.items, &loaded)
		v.needResource(it.resource)
		return nil
	})
	if err != nil {
		return fmt.Errorf("read items: %w", err)
	}
	return nil
}

// loadResources locks and reads the resources that are asked for and not read yet.
func (v *inventory) loadResources(ctx context.Context, tx pgx.Tx) error {
	ids := missingIn(v.resources)
	if len(ids) == 0 {
		return nil
	}
	rows, err := tx.Query(ctx, loadResourcesSQL, ids)
	if err != nil {
		return fmt.Errorf("lock resources: %w", err)
	}
	var r resource
	_, err = pgx.ForEachRow(rows, []any{&r.id, &r.capacity, &r.held, &r.confirmed, &r.waiting, &r.group, &r.perCustomer, &r.grown, &r.version}, func() error {
		loaded := r
		v.resources[r.id] = &loaded
		return nil
	})
	if err != nil {
		return fmt.Errorf("lock resources: %w", err)
	}
	return nil
}

// loadLines reads who waits for what may become free in this batch, and all that they wait for. Who is granted something and
// runs out in the time of the batch may free more.
func (v *inventory) loadLines(ctx context.Context, tx pgx.Tx, until time.Time) error {
	for {
		freed := v.mayBeFreed(until)
		if len(freed) == 0 {
			return nil
		}
		if err := v.readLines(ctx, tx, freed); err != nil {
			return err
		}
	}
}

func (v *inventory) readLines(ctx context.Context, tx pgx.Tx, freed []string) error {
	rows, err := tx.Query(ctx, loadLinesSQL, freed, lineRead)
	if err != nil {
		return fmt.Errorf("read who waits: %w", err)
	}
	lines := make(map[string][]string)
	var resource, reservation string
	_, err = pgx.ForEachRow(rows, []any{&resource, &reservation}, func() error {
		lines[resource] = append(lines[resource], reservation)
		v.needReservation(reservation)
		return nil
	})
	if err != nil {
		return fmt.Errorf("read who waits: %w", err)
	}
	// Who stands in a line may be another lane's, which knows what is asked for him in time: what runs out in this one is read before.
	if _, err := v.readReservations(ctx, tx, loadReservationsSQL, pgx.NamedArgs{"ids": missingIn(v.reservations)}); err != nil {
		return err
	}
	if err := v.loadItems(ctx, tx); err != nil {
		return err
	}
	for _, id := range freed {
		v.read[id] = true
		for _, waiting := range lines[id] {
			if r := v.reservations[waiting]; r != nil && r.status == reservationWaiting {
				v.lines[id] = append(v.lines[id], r)
			}
		}
	}
	return v.loadResources(ctx, tx)
}

// mayBeFreed are the resources with a line, not read yet, that a request of the batch, or its running out, may free.
func (v *inventory) mayBeFreed(until time.Time) []string {
	freed := make(map[string]bool)
	releases := func(id string, expiresAt time.Time) bool {
		from, asked := v.releasing[id]
		return asked && !until.Before(from) || !until.Before(expiresAt)
	}
	for id, r := range v.reservations {
		if r != nil && releases(id, r.expiresAt) {
			for _, it := range r.items {
				freed[it.resource] = true
			}
		}
	}
	for _, h := range v.holds {
		expiresAt := h.ExpiresAt // of a job that came past the SQL functions; if it does not say when, then maybe at once
		if r := v.reservations[h.Reservation]; r != nil {
			expiresAt = r.expiresAt
		}
		if releases(h.Reservation, expiresAt) {
			for _, asked := range h.Items {
				freed[asked.Resource] = true
			}
		}
	}
	var ids []string
	for id, r := range v.resources {
		if r != nil && r.waiting > 0 && (freed[id] || r.grown) && !v.read[id] {
			ids = append(ids, id)
		}
	}
	slices.Sort(ids)
	return ids
}

// loadOccupied reads the time ranges that overlap one that is asked for, or waited for.
func (v *inventory) loadOccupied(ctx context.Context, tx pgx.Tx) error {
	var resources, during []string
	for _, h := range v.holds {
		for _, asked := range h.Items {
			if asked.During != nil {
				resources, during = append(resources, asked.Resource), append(during, asked.During.String())
			}
		}
	}
	for _, line := range v.lines {
		for _, r := range line {
			for _, it := range r.items {
				if it.during != nil {
					resources, during = append(resources, it.resource), append(during, it.during.String())
				}
			}
		}
	}
	if len(resources) == 0 {
		return nil
	}
	rows, err := tx.Query(ctx, loadOccupiedSQL, resources, during)
	if err != nil {
		return fmt.Errorf("read time ranges: %w", err)
	}
	var id string
	var it item
	var start, end time.Time
	_, err = pgx.ForEachRow(rows, []any{&id, &it.position, &it.resource, &start, &end}, func() error {
		if r := v.reservations[id]; r != nil && r.items != nil {
			return nil // it is there, with its reservation
		}
		loaded := it
		loaded.during, loaded.occupies = &TimeRange{start, end}, true
		v.occupied[it.resource] = append(v.occupied[it.resource], &loaded)
		return nil
	})
	if err != nil {
		return fmt.Errorf("read time ranges: %w", err)
	}
	return nil
}

// loadCounts locks and reads what the batch's customers have of the groups of the batch's resources.
func (v *inventory) loadCounts(ctx context.Context, tx pgx.Tx) error {
	need := func(customer, resource string) {
		if r := v.resources[resource]; r != nil && r.group != "" && customer != "" {
			v.counts[customerGroup{r.group, customer}] = nil
		}
	}
	for _, h := range v.holds {
		for _, asked := range h.Items {
			need(h.Customer, asked.Resource)
		}
	}
	for _, r := range v.reservations {
		if r != nil {
			for _, it := range r.items {
				need(r.customer, it.resource)
			}
		}
	}
	if len(v.counts) == 0 {
		return nil
	}
	var groups, customers []string
	for _, key := range slices.SortedFunc(maps.Keys(v.counts), customerGroup.compare) {
		groups, customers = append(groups, key.group), append(customers, key.customer)
	}
	if _, err := tx.Exec(ctx, makeCountsSQL, groups, customers); err != nil {
		return fmt.Errorf("make customers' counts: %w", err)
	}
	rows, err := tx.Query(ctx, loadCountsSQL, groups, customers)
	if err != nil {
		return fmt.Errorf("lock customers' counts: %w", err)
	}
	var key customerGroup
	var c count
	_, err = pgx.ForEachRow(rows, []any{&key.group, &key.customer, &c.quantity, &c.version}, func() error {
		loaded := c
		v.counts[key] = &loaded
		return nil
	})
	if err != nil {
		return fmt.Errorf("lock customers' counts: %w", err)
	}
	return nil
}

func (g customerGroup) compare(other customerGroup) int {
	return cmp.Or(cmp.Compare(g.group, other.group), cmp.Compare(g.customer, other.customer))
}

// numberJoined gives everyone who has joined a line, and waits still, a place.
func (v *inventory) numberJoined(ctx context.Context, tx pgx.Tx) error {
	var joined []*reservation
	for _, r := range v.reservations {
		if r != nil && r.joined {
			joined = append(joined, r)
		}
	}
	if len(joined) == 0 {
		return nil
	}
	rows, err := tx.Query(ctx, `SELECT nextval('lastseat.waiting_number_seq') FROM generate_series(1, $1)`, len(joined))
	if err != nil {
		return fmt.Errorf("number who waits: %w", err)
	}
	places, err := pgx.CollectRows(rows, pgx.RowTo[int64])
	if err != nil {
		return fmt.Errorf("number who waits: %w", err)
	}
	slices.SortFunc(joined, func(a, b *reservation) int { return cmp.Compare(a.place, b.place) })
	for i, r := range joined {
		r.place = places[i]
	}
	return nil
}

// write queues everything that has changed.
func (v *inventory) write(write *pgx.Batch) {
	changed := slices.Collect(maps.Values(v.reservations))
	changed = slices.DeleteFunc(changed, func(r *reservation) bool { return r == nil || len(r.steps) == 0 })
	slices.SortFunc(changed, func(a, b *reservation) int { return cmp.Compare(a.id, b.id) })
	v.writeReservations(write, changed)
	v.writeLines(write, changed)
	v.writeItems(write, changed)
	v.writeResources(write)
	v.writeCounts(write)
}

func (v *inventory) writeReservations(write *pgx.Batch, changed []*reservation) {
	created := slices.DeleteFunc(slices.Clone(changed), func(r *reservation) bool { return !r.created })
	if len(created) > 0 {
		n := len(created)
		ids, keys, customers, expire := make([]string, n), make([]string, n), make([]string, n), make([]time.Time, n)
		for i, r := range created {
			ids[i], keys[i], customers[i], expire[i] = r.id, r.key, r.customer, r.steps[0].expiresAt
		}
		write.Queue(insertReservationsSQL, pgx.NamedArgs{"ids": ids, "keys": keys, "customers": customers, "expire": expire}).Exec(expectMade(n))
	}
	// One statement for the first step of each, one for the second, and so on: the table proves every step.
	for round := 0; ; round++ {
		var ids, statuses []string
		var expire []time.Time
		var places []int64
		for _, r := range changed {
			if round < len(r.steps) {
				place := r.place
				if !r.joined {
					place = 0
				}
				ids, statuses, expire, places = append(ids, r.id), append(statuses, r.steps[round].status), append(expire, r.steps[round].expiresAt), append(places, place)
			}
		}
		if len(ids) == 0 {
			return
		}
		write.Queue(updateReservationsSQL, pgx.NamedArgs{"ids": ids, "statuses": statuses, "expire": expire, "places": places}).Exec(outbox.ExpectRows(len(ids)))
	}
}

func (v *inventory) writeLines(write *pgx.Batch, changed []*reservation) {
	var left, joined struct {
		resources, reservations []string
		places                  []int64
	}
	for _, r := range changed {
		lines := &left
		switch {
		case r.joined:
			lines = &joined
		case !r.left:
			continue
		}
		for _, id := range distinct(r.items) {
			lines.resources, lines.reservations, lines.places = append(lines.resources, id), append(lines.reservations, r.id), append(lines.places, r.place)
		}
	}
	if n := len(left.resources); n > 0 {
		write.Queue(leaveLinesSQL, pgx.NamedArgs{"resources": left.resources, "places": left.places}).Exec(outbox.ExpectRows(n))
	}
	if n := len(joined.resources); n > 0 {
		write.Queue(joinLinesSQL, pgx.NamedArgs{"resources": joined.resources, "places": joined.places, "reservations": joined.reservations}).Exec(outbox.ExpectRows(n))
	}
}

// writeItems gives time ranges back before it takes others: the table refuses two that overlap.
func (v *inventory) writeItems(write *pgx.Batch, changed []*reservation) {
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
		if n := len(items); n > 0 {
			ids, positions := make([]string, n), make([]int, n)
			for i, it := range items {
				ids[i], positions[i] = it.reservation.id, it.position
			}
			write.Queue(occupySQL, pgx.NamedArgs{"reservations": ids, "positions": positions, "occupies": items[0].occupies}).Exec(outbox.ExpectRows(n))
		}
	}
	if n := len(added); n > 0 {
		write.Queue(insertItemsSQL, itemColumns(added)).Exec(outbox.ExpectRows(n))
	}
}

func itemColumns(items []*item) pgx.NamedArgs {
	n := len(items)
	reservations, resources, during := make([]string, n), make([]string, n), make([]string, n)
	positions, quantities, occupies := make([]int, n), make([]int64, n), make([]bool, n)
	for i, it := range items {
		reservations[i], positions[i], resources[i], quantities[i], occupies[i] = it.reservation.id, it.position, it.resource, it.quantity, it.occupies
		if it.during != nil {
			during[i] = it.during.String()
		}
	}
	return pgx.NamedArgs{"reservations": reservations, "positions": positions, "resources": resources, "quantities": quantities, "during": during, "occupies": occupies}
}

func (v *inventory) writeResources(write *pgx.Batch) {
	changed := slices.Collect(maps.Values(v.resources))
	changed = slices.DeleteFunc(changed, func(r *resource) bool { return r == nil || !r.changed })
	n := len(changed)
	if n == 0 {
		return
	}
	slices.SortFunc(changed, func(a, b *resource) int { return cmp.Compare(a.id, b.id) })
	ids, held, confirmed := make([]string, n), make([]int64, n), make([]int64, n)
	waiting, grown, versions := make([]int64, n), make([]bool, n), make([]int64, n)
	for i, r := range changed {
		ids[i], held[i], confirmed[i], waiting[i], grown[i], versions[i] = r.id, r.held, r.confirmed, r.waiting, r.grown, r.version
	}
	write.Queue(updateResourcesSQL, pgx.NamedArgs{"ids": ids, "held": held, "confirmed": confirmed, "waiting": waiting, "grown": grown, "versions": versions}).Exec(outbox.ExpectRows(n))
}

func (v *inventory) writeCounts(write *pgx.Batch) {
	var groups, customers, loweredGroups, loweredCustomers []string
	var quantities, versions []int64
	for _, key := range slices.SortedFunc(maps.Keys(v.counts), customerGroup.compare) {
		c := v.counts[key]
		if c != nil && c.changed {
			groups, customers = append(groups, key.group), append(customers, key.customer)
			quantities, versions = append(quantities, c.quantity), append(versions, c.version)
		}
		if c != nil && c.lowered {
			loweredGroups, loweredCustomers = append(loweredGroups, key.group), append(loweredCustomers, key.customer)
		}
	}
	if len(loweredGroups) > 0 {
		write.Queue(customerWaitsSQL, pgx.NamedArgs{"groups": loweredGroups, "customers": loweredCustomers})
	}
	if len(groups) > 0 {
		write.Queue(updateCountsSQL, pgx.NamedArgs{"groups": groups, "customers": customers, "quantities": quantities, "versions": versions}).Exec(outbox.ExpectRows(len(groups)))
	}
}

// loadRanOut locks and reads the reservations of the lane that have run out.
func (v *inventory) loadRanOut(ctx context.Context, tx pgx.Tx, sweep outbox.Sweep) error {
	return v.loadReservations(ctx, tx, dueReservationsSQL, pgx.NamedArgs{"until": sweep.Until, "lanes": sweep.Lanes, "lane": sweep.Lane, "limit": sweep.Limit})
}

// loadGrown needs the resources that have grown.
func (v *inventory) loadGrown(ctx context.Context, tx pgx.Tx, sweep outbox.Sweep) error {
	if sweep.Lane > 0 {
		return nil
	}
	rows, err := tx.Query(ctx, grownResourcesSQL, sweep.Limit)
	if err != nil {
		return fmt.Errorf("look for resources that have grown: %w", err)
	}
	ids, err := pgx.CollectRows(rows, pgx.RowTo[string])
	if err != nil {
		return fmt.Errorf("look for resources that have grown: %w", err)
	}
	for _, id := range ids {
		v.needResource(id)
	}
	return nil
}

// grantGrown gives the places of resources that have grown to those who wait.
func (v *inventory) grantGrown() {
	grown := make(map[string]bool)
	for id, r := range v.resources {
		if r != nil && r.grown && (v.read[id] || r.waiting == 0) {
			r.grown = false
			r.touch()
			grown[id] = true
		}
	}
	v.looked += len(grown)
	v.grant(grown)
}
