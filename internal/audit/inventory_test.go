package audit_test

var inventoryCorruptions = []corruption{
	{"resources.counts", nil, "held", `UPDATE lastseat.resources SET held = held + 1 WHERE id = 'night'`,
		"resource night: held 4, confirmed 6, waiting 1; its items sum to 3 held and 6 confirmed, and 1 stand in its line"},
	{"resources.counts", nil, "confirmed", `UPDATE lastseat.resources SET confirmed = confirmed - 1 WHERE id = 'night'`,
		"resource night: held 3, confirmed 5"},
	{"resources.counts", nil, "waiting", `UPDATE lastseat.resources SET waiting = 0 WHERE id = 'hall'`,
		"resource hall: held 0, confirmed 0, waiting 0; its items sum to 0 held and 0 confirmed, and 1 stand in its line"},
	{"resources.counts", nil, "nobody waits", `UPDATE lastseat.resources SET waiting = 1 WHERE id = 'spare'`,
		"resource spare: held 1, confirmed 0, waiting 1; its items sum to 1 held and 0 confirmed, and 0 stand in its line"},
	{"resources.counts", nil, "a time range, counted", `UPDATE lastseat.resources SET held = 1 WHERE id = 'hall'`,
		"resource hall: held 1"},
	{"resources.counts", nil, "an item more", `INSERT INTO lastseat.reservation_items VALUES ('seat', 2, 'empty', 1)`,
		"resource empty: held 0, confirmed 0, waiting 0; its items sum to 1 held"},
	{"resources.counts", nil, "a quantity", `UPDATE lastseat.reservation_items SET quantity = 5
		WHERE reservation_id = 'confirmed' AND position = 1`, "its items sum to 3 held and 7 confirmed"},
	{"resources.capacity", nil, "capacity lowered", `UPDATE lastseat.resources SET capacity = 6 WHERE id = 'night'`,
		"resource night: held 3 and confirmed 6, capacity 6 and overbook 2"},
	{"resources.capacity", nil, "overbook lowered", `UPDATE lastseat.resources SET overbook = 0 WHERE id = 'night'`,
		"capacity 8 and overbook 0"},
	{"resources.capacity", []string{"resources.counts"}, "beyond bigint",
		`UPDATE lastseat.resources SET held = 9223372036854775807 WHERE id = 'night'`,
		"resource night: held 9223372036854775807 and confirmed 6"},
	{"reservations.items", nil, "none", `DELETE FROM lastseat.reservation_items WHERE reservation_id = 'regretted'`,
		"reservation regretted (cancelled): 0 items, numbered 0 to 0"},
	{"reservations.items", nil, "a gap", `UPDATE lastseat.reservation_items SET position = 3
		WHERE reservation_id = 'let-go' AND position = 2`, "reservation let-go (cancelled): 2 items, numbered 1 to 3"},
	{"reservations.items", nil, "from 0", `UPDATE lastseat.reservation_items SET position = 0
		WHERE reservation_id = 'let-go' AND position = 1`, "reservation let-go (cancelled): 2 items, numbered 0 to 2"},
	{"reservations.items", nil, "of one that is pending", `INSERT INTO lastseat.reservation_items
		VALUES ('open', 1, 'night', 1)`, "reservation open (pending): 1 items"},
	{"reservations.items", nil, "of one that is rejected", `INSERT INTO lastseat.reservation_items
		VALUES ('full', 1, 'night', 1)`, "reservation full (rejected): 1 items"},
	{"reservations.items", nil, "of no reservation", `INSERT INTO lastseat.reservation_items
		VALUES ('nowhere', 1, 'night', 1)`, "reservation nowhere (there is none): 1 items"},
	{"reservations.items", nil, "of no resource", `DELETE FROM lastseat.resources WHERE id = 'empty'`,
		"reservation waited-out (expired): 1 items, numbered 1 to 1, 1 of resources that are not there"},
	{"items.occupies", nil, "not while held", `UPDATE lastseat.reservation_items SET occupies = false
		WHERE reservation_id = 'held'
		  AND position = 3`,
		`item 3 of reservation held (held): 1 of resource hall during ["2030-01-01 10:00:00+00","2030-01-01 11:30:00+00"), occupies f`},
	{"items.occupies", nil, "not while confirmed", `UPDATE lastseat.reservation_items SET occupies = false
		WHERE reservation_id = 'fan' AND position = 2`, "item 2 of reservation fan (confirmed)"},
	{"items.occupies", nil, "after the end", `UPDATE lastseat.reservation_items SET occupies = true
		WHERE reservation_id = 'let-go' AND position = 2`, "item 2 of reservation let-go (cancelled)"},
	{"items.occupies", []string{"items.overlap"}, "while it waits", `UPDATE lastseat.reservation_items SET occupies = true
		WHERE reservation_id = 'waits-too' AND position = 1`, "item 1 of reservation waits-too (waiting)"},
	{"items.occupies", nil, "unknown", `UPDATE lastseat.reservation_items SET occupies = NULL
		WHERE reservation_id = 'let-go' AND position = 2`, "occupies is null"},
	{"items.occupies", nil, "no time range", `UPDATE lastseat.reservation_items SET occupies = false
		WHERE reservation_id = 'held'
		  AND position = 1`, "item 1 of reservation held (held): 2 of resource night, occupies f"},
	{"items.occupies", nil, "none of it", `UPDATE lastseat.reservation_items SET quantity = 0
		WHERE reservation_id = 'regretted'`,
		"item 1 of reservation regretted (cancelled): 0 of resource night, occupies is null"},
	{"items.occupies", nil, "twice of the whole", `UPDATE lastseat.reservation_items SET quantity = 2
		WHERE reservation_id = 'let-go' AND position = 2`, "item 2 of reservation let-go (cancelled): 2 of resource hall"},
	{"items.overlap", nil, "a minute", `UPDATE lastseat.reservation_items
		SET during = '[2030-01-01 11:29Z,2030-01-01 12:00Z)' WHERE reservation_id = 'confirmed' AND position = 2`,
		`resource hall is occupied by reservation held (item 3) during ["2030-01-01 10:00:00+00","2030-01-01 11:30:00+00") and by reservation confirmed (item 2) during ["2030-01-01 11:29:00+00"`},
	{"items.overlap", nil, "all the time", `UPDATE lastseat.reservation_items SET during = '[2029-01-01 12:00Z,)'
		WHERE reservation_id = 'confirmed'
		  AND position = 2`,
		"by reservation confirmed (item 2) during [\"2029-01-01 12:00:00+00\",) and by reservation held (item 3)"},
	{"items.overlap", nil, "the same twice", `UPDATE lastseat.reservation_items
		SET during = '[2030-01-01 10:00Z,2030-01-01 11:30Z)' WHERE reservation_id = 'confirmed'
		  AND position = 2`, "resource hall is occupied by reservation confirmed (item 2)"},
	{"reservations.line", nil, "not in line", `DELETE FROM lastseat.waiting_items
		WHERE resource_id = 'hall'; UPDATE lastseat.resources SET waiting = 0
		  WHERE id = 'hall'`, "reservation waits-too waits with number 2, and does not stand in the line of resource hall"},
	{"reservations.line", nil, "another number",
		`UPDATE lastseat.waiting_items SET number = 9 WHERE resource_id = 'hall'`,
		"reservation waits-too stands in the line of resource hall with number 9, and does not wait for it so"},
	{"reservations.line", nil, "no number", `UPDATE lastseat.reservations SET waiting_number = NULL WHERE id = 'waits'`,
		"reservation waits waits with number null"},
	{"reservations.line", nil, "another line", `UPDATE lastseat.waiting_items SET resource_id = 'empty'
		WHERE resource_id = 'hall'; UPDATE lastseat.resources SET waiting = 1 - waiting
		  WHERE id IN ('hall', 'empty')`, "reservation waits-too stands in the line of resource empty"},
	{"reservations.line", nil, "in another's place", `UPDATE lastseat.waiting_items SET reservation_id = 'waited'
		WHERE resource_id = 'hall'`, "reservation waited stands in the line of resource hall"},
	{"reservations.line", nil, "in line still", `INSERT INTO lastseat.waiting_items
		VALUES ('seat', 3, 'waited'); UPDATE lastseat.resources SET waiting = 3
		  WHERE id = 'seat'`, "reservation waited stands in the line of resource seat with number 3"},
	{"reservations.line", nil, "of no resource", `INSERT INTO lastseat.waiting_items VALUES ('nowhere', 1, 'waits')`,
		"reservation waits stands in the line of resource nowhere"},
	{"customers.counts", nil, "more", `UPDATE lastseat.customer_counts SET quantity = 5 WHERE customer = 'kim'`,
		"customer kim in group fans: counted with 5, items sum to 4"},
	{"customers.counts", nil, "after the end", `UPDATE lastseat.customer_counts SET quantity = 1 WHERE customer = 'lee'`,
		"customer lee in group fans: counted with 1, items sum to 0"},
	{"customers.counts", nil, "not at all", `DELETE FROM lastseat.customer_counts WHERE customer = 'kim'`,
		"customer kim in group fans: counted with 0, items sum to 4"},
	{"customers.counts", nil, "in another group", `UPDATE lastseat.customer_counts SET limit_group = 'staff'
		WHERE customer = 'kim'`, "customer kim in group staff: counted with 4, items sum to 0"},
	{"customers.counts", nil, "another customer",
		`UPDATE lastseat.reservations SET customer = 'lee' WHERE id = 'fan-too'`,
		"customer lee in group fans: counted with 0, items sum to 1"},
	{"reservations.requested", nil, "applied without a reservation", settled("n", "reservation.hold", "applied", "held",
		""), "request n is applied (held), and there is no reservation"},
	{"reservations.requested", []string{"requests.effect"}, "booked without a reservation", settled("n", "booking.book",
		"applied", "booked", ""), "request n is applied (booked), and there is no reservation"},
	{"reservations.requested", nil, "rejected without a reservation",
		`DELETE FROM lastseat.reservations WHERE id = 'full'`,
		"request book-full is rejected (sold_out), and there is no reservation"},
	{"reservations.requested", nil, "nobody asked", `DELETE FROM lastseat.requests WHERE key = 'hold-past'`,
		"reservation past is rejected, its request hold-past is not there"},
	{"reservations.requested", nil, "another kind asked", `UPDATE lastseat.requests SET kind = 'toy'
		WHERE key = 'hold-past'`, "its request hold-past is not there"},
	{"reservations.requested", nil, "two reservations under one key", `INSERT INTO lastseat.reservations (id, key,
		expires_at) SELECT 'twin', key, expires_at FROM lastseat.reservations
		  WHERE id = 'open'`,
		"reservation twin is pending, its request hold-open (of 2 reservations) is reservation.hold, pending"},
	{"reservations.requested", nil, "pending, and asked for with success",
		`UPDATE lastseat.requests SET status = 'applied', code = 'held', settled_at = now() WHERE key = 'hold-open'; DELETE
			FROM lastseat.river_job WHERE args ->> 'key' = 'hold-open'`,
		"reservation open is pending, its request hold-open is reservation.hold, applied, held"},
	{"reservations.requested", nil, "pending, and refused", `UPDATE lastseat.reservations SET status = 'pending'
		WHERE id = 'full'`, "reservation full is pending, its request book-full is booking.book, rejected, sold_out"},
	{"reservations.requested", nil, "rejected before its request is settled", `UPDATE lastseat.reservations
		SET status = 'rejected' WHERE id = 'open'`,
		"reservation open is rejected, its request hold-open is reservation.hold, pending"},
	{"reservations.requested", []string{"reservations.items"}, "held before its request is settled",
		`UPDATE lastseat.reservations SET status = 'held' WHERE id = 'open'`,
		"reservation open is held, its request hold-open is reservation.hold, pending"},
	{"reservations.requested", nil, "it waits, and was told that it is held", `UPDATE lastseat.requests SET code = 'held'
		WHERE key = 'hold-waits'`, "reservation waits is waiting, its request hold-waits is reservation.hold, applied, held"},
	{"reservations.requested", nil, "it waits, and is refused", `UPDATE lastseat.requests SET status = 'rejected'
		WHERE key = 'hold-waits'`,
		"reservation waits is waiting, its request hold-waits is reservation.hold, rejected, waiting"},
	{"reservations.requested", []string{"reservations.expired"}, "no such status", `UPDATE lastseat.reservations
		SET status = 'lost' WHERE id = 'expired'`, "reservation expired is lost"},
	{"reservations.confirmed", nil, "nobody asked", `DELETE FROM lastseat.requests WHERE key = 'confirm-fan'`,
		"reservation fan is confirmed: 0 applied requests confirm it"},
	{"reservations.confirmed", nil, "another kind asked", `UPDATE lastseat.requests SET kind = 'toy'
		WHERE key = 'confirm-fan'`, "reservation fan is confirmed: 0"},
	{"reservations.confirmed", nil, "its request is rejected", `UPDATE lastseat.requests SET status = 'rejected'
		WHERE key = 'confirm-fan'`, "reservation fan is confirmed: 0"},
	{"reservations.confirmed", nil, "twice",
		`UPDATE lastseat.requests SET status = 'applied' WHERE key = 'confirm-again'`,
		"reservation confirmed is confirmed: 2"},
	{"reservations.confirmed", nil, "booked, and confirmed", settled("n", "reservation.confirm", "applied", "confirmed",
		"booked"), "reservation booked is confirmed: 2"},
	{"reservations.confirmed", nil, "held still", settled("n", "reservation.confirm", "applied", "confirmed", "held"),
		"reservation held is held: 1 applied requests confirm it"},
	{"reservations.confirmed", []string{"resources.counts"}, "booked, and held", `UPDATE lastseat.reservations
		SET status = 'held' WHERE id = 'booked'`, "reservation booked is held: 1"},
	{"reservations.confirmed", nil, "twice, and cancelled", settled("n", "reservation.confirm", "applied", "confirmed",
		"regretted"), "reservation regretted is cancelled: 2"},
	{"reservations.confirmed", nil, "booked and confirmed, and cancelled", settled("n", "reservation.confirm", "applied",
		"confirmed", "undone"), "reservation undone is cancelled: 2"},
	{"reservations.confirmed", nil, "applied without effect", settled("n", "reservation.confirm", "applied", "confirmed",
		"nowhere"), "request n is applied, and there is no reservation that it confirms"},
	{"reservations.cancelled", nil, "nobody asked", `DELETE FROM lastseat.requests WHERE key = 'cancel'`,
		"reservation let-go is cancelled: 0 applied requests ask for it"},
	{"reservations.cancelled", nil, "another kind asked",
		`UPDATE lastseat.requests SET kind = 'toy' WHERE key = 'cancel'`, "reservation let-go is cancelled: 0"},
	{"reservations.cancelled", nil, "its request is rejected", `UPDATE lastseat.requests SET status = 'rejected'
		WHERE key = 'cancel'`, "reservation let-go is cancelled: 0"},
	{"reservations.cancelled", nil, "twice", `UPDATE lastseat.requests SET status = 'applied' WHERE key = 'cancel-again'`,
		"reservation let-go is cancelled: 2"},
	{"reservations.cancelled", nil, "applied without effect", settled("n", "reservation.cancel", "applied", "cancelled",
		"nowhere"), "request n is applied, and its reservation is not cancelled"},
	{"reservations.cancelled", []string{"resources.counts"}, "not cancelled after all", `UPDATE lastseat.reservations
		SET status = 'confirmed'
		  WHERE id = 'regretted'`, "request cancel-regretted is applied, and its reservation is not cancelled"},
	{"reservations.expired", nil, "no record", `DELETE FROM lastseat.requests
		WHERE key = 'lastseat:reservation.expire:waited-out'`,
		"reservation waited-out is expired: its record lastseat:reservation.expire:waited-out is not there"},
	{"reservations.expired", nil, "its record is not applied", `UPDATE lastseat.requests SET status = 'rejected'
		WHERE key = 'lastseat:reservation.expire:expired'`,
		"reservation expired is expired: its record lastseat:reservation.expire:expired is rejected"},
	{"reservations.expired", nil, "a record of nothing", settled("lastseat:reservation.expire:held", "reservation.expire",
		"applied", "expired", ""), "request lastseat:reservation.expire:held is applied, and its reservation is not expired"},
	{"reservations.expired", nil, "a record under another key", settled("n", "reservation.expire", "applied", "expired",
		""), "request n is applied, and its reservation is not expired"},
	{"reservations.granted", nil, "held without a record", `DELETE FROM lastseat.requests
		WHERE key = 'lastseat:reservation.grant:granted'`,
		"reservation granted was told to wait and is held: its record lastseat:reservation.grant:granted is not there"},
	{"reservations.granted", nil, "confirmed without a record", `DELETE FROM lastseat.requests
		WHERE key = 'lastseat:reservation.grant:let-in'`,
		"reservation let-in was told to wait and is confirmed: its record lastseat:reservation.grant:let-in is not there"},
	{"reservations.granted", nil, "its record is not applied", `UPDATE lastseat.requests SET status = 'rejected'
		WHERE key = 'lastseat:reservation.grant:granted'`, "its record lastseat:reservation.grant:granted is rejected"},
	{"reservations.granted", nil, "it waits still", settled("lastseat:reservation.grant:waits", "reservation.grant",
		"applied", "held", ""),
		"reservation waits was told to wait and is waiting: its record lastseat:reservation.grant:waits is applied"},
	{"reservations.granted", nil, "it never waited", settled("lastseat:reservation.grant:held", "reservation.grant",
		"applied", "held", ""),
		"request lastseat:reservation.grant:held is applied, and no reservation was told to wait that it could grant"},
	{"reservations.granted", nil, "a record under another key", settled("n", "reservation.grant", "applied", "held", ""),
		"request n is applied"},
	{"reservations.overdue", nil, "held", `UPDATE lastseat.reservations SET expires_at = '2001-02-03 12:00Z'
		WHERE id = 'held'`, "reservation held is held, and was to expire at 2001-02-03"},
	{"reservations.overdue", nil, "it waits", `UPDATE lastseat.reservations SET expires_at = '2001-02-03 12:00Z'
		WHERE id = 'waits'`, "reservation waits is waiting, and was to expire at"},
	{"requests.effect", []string{"reservations.requested"}, "booked without a transfer", settled("n", "booking.book",
		"applied", "booked", ""), "request n is applied (booked), and there is no transfer"},
	{"requests.effect", []string{"reservations.requested", "reservations.confirmed"},
		"a booking rejected with a transfer", `UPDATE lastseat.requests SET status = 'rejected' WHERE key = 'booked'`,
		"(key booked): its request is booking.book, rejected"},
	{"requests.logged", nil, "not at all", `DELETE FROM lastseat.outcome_log WHERE 'cancel-spare' = ANY (keys)`,
		"request cancel-spare was settled at"},
	{"requests.logged", nil, "at another time", `UPDATE lastseat.outcome_log
		SET settled_at = settled_at + interval '1 second' WHERE 'cancel-spare' = ANY (keys)`, "it is in the log 0 times"},
	{"requests.logged", nil, "as far back as the log goes",
		`UPDATE lastseat.requests SET settled_at = (SELECT min(settled_at) FROM lastseat.outcome_log) WHERE key = 'refused'`,
		"request refused was settled at"},
	{"requests.logged", nil, "twice", `INSERT INTO lastseat.outcome_log (timeline, settled_at, keys) SELECT 1,
		settled_at, '{t1}'
		FROM lastseat.requests WHERE key = 't1'`, "request t1 was settled at"},
	{"requests.logged", nil, "one that failed", `UPDATE lastseat.outcome_log SET keys = '{x}'
		WHERE keys = '{ask-cancelled}'`, "request ask-cancelled was settled at"},
}
