package audit

// inventoryChecks are the rules of resources and reservations.
var inventoryChecks = []Check{
	{
		Name: "resources.counts",
		Rule: "what a resource has held and confirmed are the sums of its counted items in held and in confirmed " +
			"reservations, and as many wait for it as stand in its line",
		sql: `
		SELECT format('resource %s: held %s, confirmed %s, waiting %s; '
		              'its items sum to %s held and %s confirmed, and %s stand in its line',
		              r.id, r.held, r.confirmed, r.waiting, coalesce(i.held, 0), coalesce(i.confirmed, 0),
		                coalesce(w.waiting, 0))
		FROM lastseat.resources r
		LEFT JOIN (SELECT i.resource_id, sum(i.quantity) FILTER (WHERE v.status = 'held') AS held,
		  sum(i.quantity) FILTER (WHERE v.status = 'confirmed') AS confirmed
		           FROM lastseat.reservation_items i JOIN lastseat.reservations v ON v.id = i.reservation_id
		           WHERE i.during IS NULL AND v.status IN ('held', 'confirmed') GROUP BY i.resource_id) i
		             ON i.resource_id = r.id
		LEFT JOIN (SELECT resource_id, count(*) AS waiting FROM lastseat.waiting_items GROUP BY resource_id) w
		  ON w.resource_id = r.id
		WHERE r.held <> coalesce(i.held, 0) OR r.confirmed <> coalesce(i.confirmed, 0)
		  OR r.waiting <> coalesce(w.waiting, 0)`,
	},
	{
		Name: "resources.capacity",
		Rule: "of no resource more is held and confirmed than its capacity and what may be overbooked",
		sql: `
		SELECT format('resource %s: held %s and confirmed %s, capacity %s and overbook %s', id, held, confirmed,
		  capacity, overbook)
		FROM lastseat.resources WHERE held::numeric + confirmed > capacity::numeric + overbook`,
	},
	{
		Name: "reservations.items",
		Rule: "a reservation that was held, or waits, has items, numbered 1, 2, 3 ..., one that is pending or rejected " +
			"has none; every item is of a reservation and a resource that are there",
		sql: `
		SELECT format('reservation %s (%s): %s items, numbered %s to %s, %s of resources that are not there',
		  coalesce(v.id, i.reservation_id), coalesce(v.status, 'there is none'),
		              coalesce(i.items, 0), coalesce(i.first, 0), coalesce(i.last, 0), coalesce(i.lost, 0))
		FROM lastseat.reservations v
		FULL JOIN (SELECT i.reservation_id, count(*) AS items, min(i.position) AS first, max(i.position) AS last,
		  count(*) FILTER (WHERE r.id IS NULL) AS lost
		           FROM lastseat.reservation_items i LEFT JOIN lastseat.resources r ON r.id = i.resource_id
		             GROUP BY i.reservation_id) i ON i.reservation_id = v.id
		WHERE v.id IS NULL OR (v.status IN ('pending', 'rejected')) <> (i.items IS NULL) OR i.first <> 1 OR i.last <> i.items
		  OR i.lost > 0`,
	},
	{
		Name: "items.occupies",
		Rule: "an item with a time range takes one resource as a whole, and occupies it exactly while its reservation is " +
			"held or confirmed; one without is counted, from 1",
		sql: `
		SELECT format('item %s of reservation %s (%s): %s of resource %s%s, occupies %s', i.position, v.id, v.status,
		  i.quantity, i.resource_id,
		              coalesce(' during ' || i.during, ''), coalesce(i.occupies::text, 'is null'))
		FROM lastseat.reservation_items i JOIN lastseat.reservations v ON v.id = i.reservation_id
		WHERE i.quantity < 1 OR i.during IS NOT NULL AND i.quantity > 1
		   OR i.occupies IS DISTINCT FROM CASE WHEN i.during IS NOT NULL THEN v.status IN ('held', 'confirmed') END`,
	},
	{
		// If any two overlap, so do two that follow one another.
		Name: "items.overlap",
		Rule: "no two items occupy one resource at the same time",
		sql: `
		SELECT format('resource %s is occupied by reservation %s (item %s) during %s '
		              'and by reservation %s (item %s) during %s',
		              resource_id, last_reservation, last_position, last_during, reservation_id, position, during)
		FROM (SELECT resource_id, reservation_id, position, during, lag(reservation_id) OVER w AS last_reservation,
		  lag(position) OVER w AS last_position, lag(during) OVER w AS last_during
		      FROM lastseat.reservation_items WHERE occupies WINDOW w AS (PARTITION BY resource_id
		        ORDER BY during, reservation_id, position)) i
		WHERE during && last_during`,
	},
	{
		Name: "reservations.line",
		Rule: "a reservation that waits stands in the line of each of its resources under its waiting number, and nobody " +
			"else stands in a line",
		sql: `
		SELECT CASE WHEN w.reservation_id IS NULL
		  THEN format('reservation %s waits with number %s, and does not stand in the line of resource %s', v.id,
		    coalesce(v.waiting_number::text, 'null'), v.resource_id)
		            ELSE format('reservation %s stands in the line of resource %s with number %s, '
		                             'and does not wait for it so', w.reservation_id, w.resource_id, w.number) END
		FROM (SELECT v.id, v.waiting_number, i.resource_id
		      FROM lastseat.reservations v JOIN lastseat.reservation_items i ON i.reservation_id = v.id
		        WHERE v.status = 'waiting') v
		FULL JOIN lastseat.waiting_items w ON w.reservation_id = v.id AND w.resource_id = v.resource_id
		  AND w.number = v.waiting_number
		WHERE v.id IS NULL OR w.reservation_id IS NULL`,
	},
	{
		// A limit may have been lowered since: what a customer had by then stays.
		Name: "customers.counts",
		Rule: "what a customer is counted with in a limit group is the sum of the items of the group's resources in his " +
			"held and confirmed reservations",
		sql: `
		SELECT format('customer %s in group %s: counted with %s, items sum to %s', customer, limit_group,
		  coalesce(c.quantity, 0), coalesce(i.quantity, 0))
		FROM lastseat.customer_counts c
		FULL JOIN (SELECT r.limit_group, v.customer, sum(i.quantity) AS quantity
		           FROM lastseat.reservation_items i
		           JOIN lastseat.resources r ON r.id = i.resource_id AND r.limit_group IS NOT NULL
		           JOIN lastseat.reservations v ON v.id = i.reservation_id AND v.customer IS NOT NULL
		             AND v.status IN ('held', 'confirmed')
		           GROUP BY r.limit_group, v.customer) i USING (limit_group, customer)
		WHERE coalesce(c.quantity, 0) <> coalesce(i.quantity, 0)`,
	},
	{
		// See payments.authorize. The items that were asked for are not in the rows, as they were written: no fingerprint.
		Name: "reservations.requested",
		Rule: "every reservation is what one reservation.hold or booking.book request asked for: pending as long as that " +
			"is pending or failed, rejected if that was, else it was applied, with the code waiting if it waits; every valid " +
			"one that is settled has its reservation",
		sql: `
		SELECT CASE WHEN v.id IS NULL THEN format('request %s is %s (%s), and there is no reservation', r.key,
		  r.status, r.code)
		            ELSE format('reservation %s is %s, its request %s%s is %s', v.id, v.status, v.key, CASE WHEN v.times > 1
		              THEN format(' (of %s reservations)', v.times) END,
		                        coalesce(nullif(concat_ws(', ', r.kind, r.status, r.code), ''), 'not there')) END
		FROM (SELECT id, key, status, count(*) OVER (PARTITION BY key) AS times, created_at FROM lastseat.reservations
		      WHERE created_at >= ` + requestsGone + `) v
		FULL JOIN (SELECT key, kind, status, code, settled_at FROM lastseat.requests
		  WHERE kind IN ('reservation.hold', 'booking.book')) r ON r.key = v.key
		WHERE CASE WHEN v.id IS NULL THEN (r.status = 'applied' OR r.status = 'rejected' AND r.code <> 'invalid_args')
		             AND r.settled_at >= ` + reservationsGone + `
		             AND NOT EXISTS (SELECT FROM lastseat.reservations o WHERE o.key = r.key)
		           WHEN r.key IS NULL OR v.times > 1 THEN true
		           WHEN v.status = 'pending' THEN r.status NOT IN ('pending', 'failed')
		           WHEN v.status = 'rejected' THEN r.status <> 'rejected'
		           WHEN v.status = 'waiting' THEN r.status <> 'applied' OR r.code <> 'waiting'
		           ELSE r.status <> 'applied' OR v.status NOT IN ('held', 'confirmed', 'cancelled', 'expired') END`,
	},
	{
		Name: "reservations.confirmed",
		Rule: "every confirmed reservation has one applied request that confirms it, its booking.book or a " +
			"reservation.confirm; no other has one, unless it was cancelled since",
		sql: `
		SELECT CASE WHEN v.id IS NULL
		  THEN format('request %s is applied, and there is no reservation that it confirms', r.key)
		            ELSE format('reservation %s is %s: %s applied requests confirm it', v.id, v.status,
		              v.booked + coalesce(r.times, 0)) END
		FROM (SELECT v.id, v.status, v.updated_at, count(b.key) AS booked,
		             ` + fingerprint("reservation.confirm", `'reservation', v.id`) + `
		      FROM lastseat.reservations v LEFT JOIN lastseat.requests b ON b.key = v.key AND b.kind = 'booking.book'
		        AND b.status = 'applied' GROUP BY v.id) v
		FULL JOIN (SELECT min(key) AS key, fingerprint, count(*) AS times, max(settled_at) AS settled_at
		           FROM lastseat.requests WHERE kind = 'reservation.confirm' AND status = 'applied' GROUP BY fingerprint) r
		             ON r.fingerprint = v.fingerprint
		WHERE v.id IS NULL AND r.settled_at >= ` + reservationsGone + `
		  OR CASE v.status WHEN 'confirmed' THEN v.booked + coalesce(r.times, 0) > 1
		    OR v.booked + coalesce(r.times, 0) = 0 AND v.updated_at >= ` + requestsGone + `
		                                    WHEN 'cancelled'
		  THEN v.booked + coalesce(r.times, 0) > 1
		                                    ELSE v.booked + coalesce(r.times, 0) > 0 END`,
	},
	{
		Name: "reservations.cancelled",
		Rule: "every cancelled reservation has one applied reservation.cancel request, and every such request its " +
			"reservation",
		sql: `
		SELECT CASE WHEN v.id IS NULL THEN format('request %s is applied, and its reservation is not cancelled', r.key)
		            ELSE format('reservation %s is cancelled: %s applied requests ask for it', v.id, coalesce(r.times, 0)) END
		FROM (SELECT id, updated_at, ` + fingerprint("reservation.cancel", `'reservation', id`) + `
		      FROM lastseat.reservations WHERE status = 'cancelled') v
		FULL JOIN (SELECT key, fingerprint, settled_at, count(*) OVER (PARTITION BY fingerprint) AS times
		           FROM lastseat.requests WHERE kind = 'reservation.cancel' AND status = 'applied') r
		             ON r.fingerprint = v.fingerprint
		WHERE v.id IS NULL AND r.settled_at >= ` + reservationsGone + ` OR r.times > 1
		   OR r.times IS NULL AND v.updated_at >= ` + requestsGone,
	},
	{
		// See payments.expired.
		Name: "reservations.expired",
		Rule: "every expired reservation is recorded as an applied reservation.expire request under a key of the " +
			"worker's, and every such record has its reservation",
		sql: `
		SELECT CASE WHEN v.id IS NULL THEN format('request %s is applied, and its reservation is not expired', r.key)
		            ELSE format('reservation %s is expired: its record %s is %s', v.id, v.key,
		              coalesce(r.status, 'not there')) END
		FROM (SELECT id, updated_at, 'lastseat:reservation.expire:' || id AS key FROM lastseat.reservations
		      WHERE status = 'expired') v
		FULL JOIN (SELECT key, kind, status, settled_at FROM lastseat.requests WHERE kind = 'reservation.expire'
		  OR starts_with(key, 'lastseat:reservation.expire:')) r ON r.key = v.key
		WHERE r.key IS NULL AND v.updated_at >= ` + requestsGone + `
		   OR r.kind = 'reservation.expire' AND (r.status = 'applied') <> (v.id IS NOT NULL)
		     AND NOT (v.id IS NULL AND r.settled_at < ` + reservationsGone + `)`,
	},
	{
		// One that waited and ended may have been granted before, or not. See payments.expired for the keys.
		Name: "reservations.granted",
		Rule: "every reservation that was told to wait, and is held or confirmed, is recorded as an applied " +
			"reservation.grant request under a key of the worker's; so may be one that ended since, and no other",
		sql: `
		SELECT CASE WHEN v.id IS NULL
		  THEN format('request %s is %s, and no reservation was told to wait that it could grant', g.key, g.status)
		            ELSE format('reservation %s was told to wait and is %s: its record %s is %s', v.id, v.status, v.record,
		              coalesce(g.status, 'not there')) END
		FROM (SELECT v.id, v.status, 'lastseat:reservation.grant:' || v.id AS record, v.created_at
		      FROM lastseat.reservations v LEFT JOIN lastseat.requests r ON r.key = v.key
		      WHERE r.code = 'waiting' OR v.created_at < ` + requestsGone + `) v
		FULL JOIN (SELECT key, kind, status, settled_at FROM lastseat.requests WHERE kind = 'reservation.grant'
		  OR starts_with(key, 'lastseat:reservation.grant:')) g ON g.key = v.record
		WHERE CASE WHEN g.key IS NULL THEN v.status IN ('held', 'confirmed') AND v.created_at >= ` + requestsGone + `
		           WHEN v.id IS NULL THEN g.kind = 'reservation.grant' AND g.status = 'applied'
		             AND g.settled_at >= ` + reservationsGone + `
		           ELSE g.kind = 'reservation.grant' AND (g.status <> 'applied' OR v.status = 'waiting') END`,
	},
	{
		Name: "reservations.overdue",
		Rule: "no reservation is held or waits 10 seconds past its time, unless a request from before that waits",
		sql: `
		SELECT format('reservation %s is %s, and was to expire at %s: is a worker running?', id, status, expires_at)
		FROM lastseat.reservations
		WHERE status IN ('held', 'waiting') AND ` + overdue,
	},
}
