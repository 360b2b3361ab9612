package schema_test

import (
	"strings"
	"testing"
)

const exclusion = "23P01"

var reservationStatuses = []string{"pending", "held", "confirmed", "cancelled", "rejected", "expired", "waiting"}

// stock is a small inventory: seat (1), and stock (3, and 2 overbooked; 2 held, 1 confirmed), a room by the hour; a
// reservation in each status, r-held and r-confirmed with an hour of the room each, and r-waiting in the line of the
// seat.
const stock = `
	INSERT INTO lastseat.limit_groups (id, per_customer) VALUES ('show', 2);
	INSERT INTO lastseat.resources (id, capacity, overbook, held, confirmed, waiting, limit_group)
	  VALUES ('seat', 1, 0, 1, 0, 1, NULL), ('stock', 3, 2, 2, 1, 0, 'show'), ('room', 1, 0, 0, 0, 0, NULL);
	INSERT INTO lastseat.reservations (id, key, customer, expires_at)
	SELECT 'r-' || s, 'k-' || s, 'ann', '2999-01-01Z'
	  FROM unnest('{pending,held,confirmed,cancelled,rejected,expired,waiting}'::text[]) s;
	UPDATE lastseat.reservations SET status = 'waiting', waiting_number = 7, version = 1 WHERE id = 'r-waiting';
	UPDATE lastseat.reservations SET status = 'rejected', version = 1 WHERE id = 'r-rejected';
	UPDATE lastseat.reservations SET status = 'held', version = 1 WHERE status = 'pending' AND id <> 'r-pending';
	UPDATE lastseat.reservations SET status = substr(id, 3), version = 2
	  WHERE id IN ('r-confirmed', 'r-cancelled', 'r-expired');
	INSERT INTO lastseat.reservation_items (reservation_id, position, resource_id, quantity, during, occupies) VALUES
		('r-held', 1, 'stock', 2, NULL, NULL), ('r-held', 2, 'room', 1, '[2026-12-01 10:00Z,2026-12-01 11:00Z)', true),
		('r-confirmed', 1, 'stock', 1, NULL, NULL), ('r-confirmed', 2, 'room', 1,
		  '[2026-12-01 11:00Z,2026-12-01 12:00Z)', true),
		('r-cancelled', 1, 'room', 1, '[2026-12-01 10:00Z,2026-12-01 12:00Z)', false),
		  ('r-waiting', 1, 'seat', 1, NULL, NULL);
	INSERT INTO lastseat.waiting_items (resource_id, number, reservation_id) VALUES ('seat', 7, 'r-waiting');
	INSERT INTO lastseat.customer_counts (limit_group, customer, quantity) VALUES ('show', 'ann', 3)`

// The database itself refuses to sell more than there is, whoever writes.
func TestResourcesRefuse(t *testing.T) {
	t.Parallel()
	pool := migrated(t)
	exec(t, pool, stock)
	set := func(what string) string { return `UPDATE lastseat.resources SET ` + what + ` WHERE id = 'stock'` }
	insert := func(values string) string {
		return `INSERT INTO lastseat.resources (id, capacity, overbook, held, confirmed, limit_group) VALUES ` + values
	}
	const within = "resources_within_capacity"
	runRefusals(t, pool, []refusal{
		{"to the last place", set(`held = 4`), "", ""},
		{"one more held", set(`held = 5`), check, within},
		{"one more confirmed", set(`confirmed = 4`), check, within},
		{"a hold confirmed", set(`held = 0, confirmed = 3`), "", ""},
		{"shrunk to what is taken", set(`overbook = 0`), "", ""},
		{"shrunk below", set(`overbook = 0, capacity = 2`), check, within},
		{"beyond bigint", set(`held = 9223372036854775807, confirmed = 9223372036854775807`), check, within},
		{"the most", set(`capacity = 9223372036854775807, overbook = 0, held = 9223372036854775807, confirmed = 0`), "", ""},
		{"one more than the most", set(`capacity = 9223372036854775807, overbook = 1`), check, "resources_countable"},
		{"held below zero", set(`held = -1`), check, "resources_held_check"},
		{"confirmed below zero", set(`confirmed = -1`), check, "resources_confirmed_check"},
		{"waiting below zero", set(`waiting = -1`), check, "resources_waiting_check"},
		{"capacity below zero", insert(`('new', -1, 1, 0, 0, NULL)`), check, "resources_capacity_check"},
		{"no capacity", insert(`('new', 0, 0, 0, 0, NULL)`), "", ""},
		{"defined overbooked", insert(`('new', 1, 0, 1, 1, NULL)`), check, within},
		{"empty id", insert(`('', 1, 0, 0, 0, NULL)`), check, "resources_id_check"},
		{"id of 201 characters", insert(`(repeat('x', 201), 1, 0, 0, 0, NULL)`), check, "resources_id_check"},
		{"twice", insert(`('seat', 1, 0, 0, 0, NULL)`), unique, "resources_pkey"},
		{"no such group", insert(`('new', 1, 0, 0, 0, 'nobody')`), reference, "resources_limit_group_fkey"},
		{"renamed", set(`id = 'other'`), integrity, ""},
		{"out of its group", set(`limit_group = NULL`), integrity, ""},
		{"into a group", `UPDATE lastseat.resources SET limit_group = 'show' WHERE id = 'seat'`, integrity, ""},
		{"the same id and group", set(`id = id, limit_group = limit_group`), "", ""},
		{"deleted", `DELETE FROM lastseat.resources WHERE id = 'seat'`, integrity, ""},
		{"none deleted", `DELETE FROM lastseat.resources WHERE id = 'nobody'`, integrity, ""},
		{"truncated", `TRUNCATE lastseat.resources`, integrity, ""},
		{"a group that is used, deleted", `DELETE FROM lastseat.limit_groups`, reference, "resources_limit_group_fkey"},
		{"a limit below zero", `UPDATE lastseat.limit_groups SET per_customer = -1`, check,
			"limit_groups_per_customer_check"},
		{"a count below zero", `UPDATE lastseat.customer_counts SET quantity = -1`, check, "customer_counts_quantity_check"},
		{"a customer twice", `INSERT INTO lastseat.customer_counts (limit_group, customer, quantity)
			VALUES ('show', 'ann', 0)`, unique, "customer_counts_pkey"},
		{"two with one number in a line", `INSERT INTO lastseat.waiting_items (resource_id, number, reservation_id)
			VALUES ('seat', 7, 'r-held')`, unique, "waiting_items_pkey"},
	})
}

func TestReservationsRefuse(t *testing.T) {
	t.Parallel()
	pool := migrated(t)
	exec(t, pool, stock)
	set := func(what, status string) string {
		return `UPDATE lastseat.reservations SET ` + what + ` WHERE id = 'r-` + status + `'`
	}
	insert := func(values string) string {
		return `INSERT INTO lastseat.reservations (id, key, customer, expires_at, status) VALUES ` + values
	}
	item := func(values string) string {
		return `INSERT INTO lastseat.reservation_items (reservation_id, position, resource_id, quantity, during, occupies)
			VALUES ` + values
	}
	const overlap = "reservation_items_overlap"
	refusals := []refusal{
		{"pending", insert(`('new', 'k', NULL, now(), 'pending')`), "", ""},
		{"an id twice", insert(`('r-held', 'k', NULL, now(), 'pending')`), unique, "reservations_pkey"},
		{"empty id", insert(`('', 'k', NULL, now(), 'pending')`), check, "reservations_id_check"},
		{"id of 201 characters", insert(`(repeat('x', 201), 'k', NULL, now(), 'pending')`), check, "reservations_id_check"},
		{"empty customer", insert(`('new', 'k', '', now(), 'pending')`), check, "reservations_customer_check"},
		{"no such status", set(`status = 'paid'`, "held"), integrity, "reservations_state_machine"},
		{"a hold extended", set(`expires_at = '2999-02-01Z'`, "held"), "", ""},
		{"one that waits extended", set(`expires_at = '2999-02-01Z'`, "waiting"), "", ""},
		{"set to what they are", `UPDATE lastseat.reservations SET status = status, expires_at = expires_at, id = id,
			key = key, customer = customer`, "", ""},
		{"deleted", `DELETE FROM lastseat.reservations WHERE id = 'r-rejected'`, integrity, ""},
		{"truncated", `TRUNCATE lastseat.reservations`, integrity, ""},

		{"the hour before", item(`('r-held', 3, 'room', 1, '[2026-12-01 09:00Z,2026-12-01 10:00Z)', true)`), "", ""},
		{"the hour after", item(`('r-held', 3, 'room', 1, '[2026-12-01 12:00Z,2026-12-01 13:00Z)', true)`), "", ""},
		{"a microsecond too long", item(`('r-held', 3, 'room', 1, '[2026-12-01 09:00Z,2026-12-01 10:00:00.000001Z)', true)`),
			exclusion, overlap},
		{"an hour that is taken", item(`('r-held', 3, 'room', 1, '[2026-12-01 10:00Z,2026-12-01 11:00Z)', true)`), exclusion,
			overlap},
		{"all day", item(`('r-held', 3, 'room', 1, '[2026-12-01 00:00Z,2026-12-02 00:00Z)', true)`), exclusion, overlap},
		{"the same hour of another room", item(`('r-held', 3, 'room 2', 1, '[2026-12-01 10:00Z,2026-12-01 11:00Z)', true)`),
			"", ""},
		{"waiting for an hour that is taken",
			item(`('r-waiting', 3, 'room', 1, '[2026-12-01 10:00Z,2026-12-01 11:00Z)', false)`), "", ""},
		{"taken again", `UPDATE lastseat.reservation_items SET occupies = true WHERE reservation_id = 'r-cancelled'`,
			exclusion, overlap},
		{"taken again when both are given back", `UPDATE lastseat.reservation_items SET occupies = false
			WHERE reservation_id IN ('r-held', 'r-confirmed') AND position = 2;
			UPDATE lastseat.reservation_items SET occupies = true WHERE reservation_id = 'r-cancelled'`, "", ""},
		{"a range that neither occupies nor doesn't",
			item(`('r-held', 3, 'room', 1, '[2026-12-02 09:00Z,2026-12-02 10:00Z)', NULL)`), check,
			"reservation_items_occupies"},
		{"a counted item that occupies", item(`('r-held', 3, 'room', 1, NULL, true)`), check, "reservation_items_occupies"},
		{"two of a range", item(`('r-held', 3, 'room', 2, '[2026-12-02 09:00Z,2026-12-02 10:00Z)', true)`), check,
			"reservation_items_whole"},
		{"an empty range", item(`('r-held', 3, 'room', 1, 'empty', true)`), check, "reservation_items_during_check"},
		{"a closed range", item(`('r-held', 3, 'room', 1, '[2026-12-02 09:00Z,2026-12-02 10:00Z]', true)`), check,
			"reservation_items_during_check"},
		{"an open range", item(`('r-held', 3, 'room', 1, '(2026-12-02 09:00Z,2026-12-02 10:00Z)', true)`), check,
			"reservation_items_during_check"},
		{"a range without a start", item(`('r-held', 3, 'room', 1, '(,2026-12-02 10:00Z)', true)`), check,
			"reservation_items_during_check"},
		// refused at both doors; nothing is sold twice by it
		{"a range without an end", item(`('r-held', 3, 'room', 1, '[2026-12-02 10:00Z,)', true)`), "", ""},
		{"none of it", item(`('r-held', 3, 'stock', 0, NULL, NULL)`), check, "reservation_items_quantity_check"},
		{"position 0", item(`('r-held', 0, 'stock', 1, NULL, NULL)`), check, "reservation_items_position_check"},
		{"a position twice", item(`('r-held', 1, 'stock', 1, NULL, NULL)`), unique, "reservation_items_pkey"},
		{"an item deleted", `DELETE FROM lastseat.reservation_items WHERE reservation_id = 'r-cancelled'`, integrity, ""},
		{"items truncated", `TRUNCATE lastseat.reservation_items`, integrity, ""},
		{"items set to what they are", `UPDATE lastseat.reservation_items SET resource_id = resource_id, quantity = quantity,
			during = during, occupies = occupies`, "", ""},
	}
	for column, value := range map[string]string{"reservation_id": `'other'`, "position": `9`, "resource_id": `'other'`,
		"quantity": `quantity + 1`, "during": `'[2027-12-02 10:00Z,2027-12-02 11:00Z)'`} {
		refusals = append(refusals, refusal{"an item's " + column, `UPDATE lastseat.reservation_items SET ` + column +
			` = ` + value + ` WHERE reservation_id = 'r-held' AND position = ` +
			map[bool]string{true: "2", false: "1"}[column == "during"], integrity, ""})
	}
	for column, value := range map[string]string{"id": `'other'`, "key": `'other'`, "customer": `'bob'`,
		"expires_at": `expires_at + interval '1 microsecond'`} {
		for _, status := range reservationStatuses {
			if column == "expires_at" && (status == "held" || status == "waiting") {
				continue
			}
			refusals = append(refusals, refusal{column + " of " + status, set(column+" = "+value, status), integrity, ""})
		}
		if column != "expires_at" {
			refusals = append(refusals, refusal{column + " with a step", set("status = 'confirmed', "+column+" = "+value,
				"held"), integrity, ""})
		}
	}
	refusals = append(refusals, refusal{"no customer any more", set("customer = NULL", "held"), integrity, ""})
	allowed := map[string]bool{
		"pending held": true, "pending rejected": true, "pending waiting": true, "held confirmed": true,
		"held cancelled": true, "held expired": true,
		"confirmed cancelled": true, "waiting held": true, "waiting cancelled": true, "waiting expired": true,
	}
	for _, from := range reservationStatuses {
		for _, to := range reservationStatuses {
			change := refusal{from + " to " + to, set(`status = '`+to+`'`, from), integrity, "reservations_state_machine"}
			if from == to || allowed[from+" "+to] {
				change.code, change.constraint = "", ""
			}
			refusals = append(refusals, change)
		}
		if from != "pending" {
			refusals = append(refusals, refusal{"begins as " + from, insert(`('new', 'k', NULL, now(), '` + from + `')`),
				integrity, "reservations_state_machine"})
		}
	}
	runRefusals(t, pool, refusals)
}

func TestDefineResource(t *testing.T) {
	t.Parallel()
	pool := migrated(t)
	exec(t, pool, stock)
	producer := connect(t, pool, "lastseat_producer")
	row := func(id string) string {
		return scalar[string](t, pool, `SELECT concat_ws(' ', capacity, overbook, held, confirmed, waiting,
			coalesce(limit_group, '-'), grown, version) FROM lastseat.resources WHERE id = $1`, id)
	}
	for _, c := range []struct {
		call      string
		duplicate bool
		id, row   string
	}{
		{`define_resource('new', 4)`, false, "new", "4 0 0 0 0 - f 0"},
		{`define_resource('new', 4, 0)`, true, "new", "4 0 0 0 0 - f 0"},
		{`define_resource('new', 4, 0, NULL)`, true, "new", "4 0 0 0 0 - f 0"},
		{`define_resource('new', 0)`, false, "new", "0 0 0 0 0 - f 1"},
		{`define_resource('new', 9223372036854775806, 1)`, false, "new", "9223372036854775806 1 0 0 0 - f 2"},
		{`define_resource('show', 1, 0, 'show')`, false, "show", "1 0 0 0 0 show f 0"},
		{`define_resource('show', 1)`, true, "show", "1 0 0 0 0 show f 0"},
		{`define_resource('show', 2)`, false, "show", "2 0 0 0 0 show f 1"},
		{`define_resource('new', 9223372036854775805)`, false, "new", "9223372036854775805 1 0 0 0 - f 3"}, // 1 stays
		{`define_resource('new', 9223372036854775805, NULL)`, true, "new", "9223372036854775805 1 0 0 0 - f 3"},
		{`define_resource('new', 9223372036854775805, 0)`, false, "new", "9223372036854775805 0 0 0 0 - f 4"},
		{`define_resource('new', 9223372036854775806, 1)`, false, "new", "9223372036854775806 1 0 0 0 - f 5"},
		{`define_resource('show', 3, 0, 'show')`, false, "show", "3 0 0 0 0 show f 2"},
		{`define_resource('stock', 3, 0)`, false, "stock", "3 0 2 1 0 show f 1"}, // to what is taken
		{`define_resource('stock', 0, 3)`, false, "stock", "0 3 2 1 0 show f 2"}, // as many
		{`define_resource('seat', 1, 1)`, false, "seat", "1 1 1 0 1 - t 1"},      // somebody waits
		{`define_resource('seat', 2, 0)`, false, "seat", "2 0 1 0 1 - t 2"},      // as many: it has grown still
		{`define_resource('seat', 1)`, false, "seat", "1 0 1 0 1 - t 3"},
		{`define_resource('unknown', 1, NULL)`, false, "unknown", "1 0 0 0 0 - f 0"},
	} {
		if got := mustAsk(t, producer, c.call); got != (receipt{c.id, "resource.define", "applied", c.duplicate}) ||
			row(c.id) != c.row {
			t.Errorf("%s: %v, %s, want %s", c.call, got, row(c.id), c.row)
		}
	}
	for call, state := range map[string]string{
		`define_resource(NULL, 1)`: "LS002", `define_resource('', 1)`: "LS002",
		`define_resource(repeat('x', 201), 1)`: "LS002", `define_resource('x', NULL)`: "LS002",
		`define_resource('x', -1)`: "LS002", `define_resource('x', 1, -1)`: "LS002",
		`define_resource('x', 9223372036854775807, 1)`: "LS002", `define_resource('stock', 9223372036854775807)`: "LS002",
		`define_resource('new', 9223372036854775807)`: "LS002",
		`define_resource('x', 1, 0, 'nobody')`:        "LS003", `define_resource('new', 1, 0, 'show')`: "LS001",
		`define_resource('new', 9223372036854775806, 1, 'show')`: "LS001",
		`define_resource('stock', 2, 0)`:                         "LS002", `define_resource('stock', 1, 1)`: "LS002",
		`define_resource('seat', 0)`: "LS002",
		`define_limit(NULL, 1)`:      "LS002", `define_limit('', 1)`: "LS002", `define_limit(repeat('x', 201), 1)`: "LS002",
		`define_limit('x', -1)`: "LS002",
	} {
		_, err := ask(t, producer, call)
		t.Run(call, func(t *testing.T) { wantContract(t, err, state) })
	}
	for _, c := range []struct {
		call      string
		duplicate bool
		limit     string
	}{
		{`define_limit('more', 4)`, false, "4"}, {`define_limit('more', 4)`, true, "4"}, {`define_limit('more', 0)`, false,
			"0"}, {`define_limit('more', NULL)`, false, "-"}, {`define_limit('more', NULL)`, true, "-"},
		{`define_limit('more', 1)`, false, "1"},
	} {
		if got := mustAsk(t, producer, c.call); got != (receipt{"more", "limit.define", "applied", c.duplicate}) {
			t.Errorf("%s: %v", c.call, got)
		}
		if got := scalar[string](t, pool, `SELECT coalesce(per_customer::text, '-') FROM lastseat.limit_groups
			WHERE id = 'more'`); got != c.limit {
			t.Errorf("%s: %s", c.call, got)
		}
	}
}

// The typed functions: what they make at once, what is a duplicate, what is refused. The constraint on time ranges
// compares hashes of ids, and a second id with the same hash is found in a second: what it holds would have kept
// others from the first, with a failure instead of an outcome.
func TestResourceWithTheHashOfAnother(t *testing.T) {
	t.Parallel()
	pool := migrated(t)
	const id, twin = "room", "YI%`%VR5RUCa"
	if !scalar[bool](t, pool, `SELECT hashtextextended($1, 0) >> 1 = hashtextextended($2, 0) >> 1`, id, twin) {
		t.Skip("this machine has another order of bytes")
	}
	mustAsk(t, pool, `define_resource($1, 1)`, id)
	_, err := ask(t, pool, `define_resource($1, 1)`, twin)
	wantRefusal(t, err, "LS002", twin)
	_, err = pool.Exec(t.Context(), `INSERT INTO lastseat.resources (id, capacity) VALUES ($1, 1)`, twin)
	wantRefusal(t, err, "23505", "resources_told_apart")
	if r := mustAsk(t, pool, `define_resource($1, 1)`, id); !r.Duplicate {
		t.Error("the first resource can't be defined again")
	}
}

func TestHoldMakesThePendingReservation(t *testing.T) {
	t.Parallel()
	pool := migrated(t)
	exec(t, pool, stock)
	openAccounts(t, pool)
	producer := connect(t, pool, "lastseat_producer")
	exec(t, producer, `SET TimeZone = 'America/New_York'; SET DateStyle = 'German'`)
	const seat = `'[{"resource": "seat"}]'`
	for call, kind := range map[string]string{
		`hold('k1', 'r1', ` + seat + `)`: "reservation.hold", `hold('k2', 'r2', ` + seat +
			`, '2999-07-01 12:00:00.123456+02', 'ann', true)`: "reservation.hold",
		`confirm('k3', 'r-held')`: "reservation.confirm", `cancel('k4', 'r-held')`: "reservation.cancel",
		`extend('k5', 'r-held', '2999-01-01Z')`: "reservation.extend", `book('k6', 'r6', ` + seat +
			`, 'bank', 'ada', 5, 'EUR')`: "booking.book", `book('k7', 'r7', ` + seat +
			`, 'bank', 'ada', 5, 'EUR', 'bob', 'x', '{"n": 1}')`: "booking.book",
	} {
		key := strings.Split(call, "'")[1]
		for _, duplicate := range []bool{false, true} {
			if got := mustAsk(t, producer, call); got != (receipt{key, kind, "pending", duplicate}) {
				t.Errorf("%s: %v", call, got)
			}
		}
	}
	mustAsk(t, producer, `hold('k2', 'r2', `+seat+`, '2999-08-01Z', 'ann', true)`) // a retry that reckons the time anew
	want := "k1 - pending 00:15:00 0, k2 ann pending 2999-07-01 10:00:00.123456 0, k6 - pending 00:15:00 0, k7 bob " +
		"pending 00:15:00 0"
	if got := scalar[string](t, pool, `SELECT string_agg(concat_ws(' ', r.key, coalesce(r.customer, '-'), r.status, CASE
		WHEN r.expires_at > '2998-01-01Z' THEN (r.expires_at AT TIME ZONE 'UTC')::text
		  ELSE (r.expires_at - q.requested_at)::text END, r.version), ', ' ORDER BY r.key)
		FROM lastseat.reservations r JOIN lastseat.requests q USING (key)`); got != want {
		t.Errorf("%s, want %s", got, want)
	}
	if n := scalar[int](t, pool, `SELECT count(*) FROM lastseat.reservation_items
		WHERE reservation_id IN ('r1', 'r2', 'r6', 'r7')`); n != 0 {
		t.Errorf("%d items", n) // the worker writes them
	}
	for call, state := range map[string]string{
		`hold('k1', 'r1', '[{"resource": "seat", "quantity": 2}]')`: "LS001", `hold('k1', 'other', ` + seat + `)`: "LS001",
		`hold('k1', 'r1', ` + seat + `, NULL, 'ann')`: "LS001", `hold('k1', 'r1', ` + seat + `, wait => true)`: "LS001",
		`hold('n', 'r1', ` + seat + `)`: "LS001", `book('n', 'r1', ` + seat + `, 'bank', 'ada', 5, 'EUR')`: "LS001",
		`hold('n', 'r6', ` + seat + `)`: "LS001", `confirm('k1', 'r1')`: "LS001",
		`extend('k5', 'r-held', '2999-01-02Z')`: "LS001",
		`hold(NULL, 'n', ` + seat + `)`:         "LS002", `hold('', 'n', ` + seat + `)`: "LS002", `hold('n', NULL, ` + seat +
			`)`: "LS002", `hold('n', '', ` + seat + `)`: "LS002", `hold('n', 'n', NULL)`: "LS002",
		`hold('n', 'n', '[]')`: "LS002", `hold('n', 'n', '{}')`: "LS002",
		`hold('n', 'n', '[{"resource": "seat", "quantity": 0}]')`:                       "LS002",
		`hold('n', 'n', '[{"resource": "room", "during": "[2026-12-01,2026-12-02)"}]')`: "LS002", `hold('n', 'n', ` + seat +
			`, 'infinity')`: "LS002", `hold('n', 'n', ` + seat + `, '-infinity')`: "LS002",
		`hold('n', 'n', ` + seat + `, NULL, '')`: "LS002", `hold('n', 'n', jsonb_build_array(jsonb_build_object('resource',
			'room', 'during', tstzrange('2026-12-01Z',
			  NULL))))`: "LS002", `hold('n', 'n', jsonb_build_array(jsonb_build_object('resource', 'room', 'during', 'empty'::tstzrange)))`: "LS002",
		`confirm('n', NULL)`: "LS002", `cancel('n', '')`: "LS002", `extend('n', 'r1', NULL)`: "LS002",
		`extend('n', 'r1', 'infinity')`: "LS002", `extend('n', 'r1', '10000-01-01Z')`: "LS002",
		`extend('n', 'r1', '0044-03-15Z BC')`:                   "LS002",
		`book('n', 'n', ` + seat + `, 'bank', 'ada', 0, 'EUR')`: "LS002", `book('n', 'n', ` + seat +
			`, 'bank', 'bank', 1, 'EUR')`: "LS002", `book('n', 'n', ` + seat + `, 'bank', 'ada', 1, 'EUX')`: "LS002",
		`book('n', 'n', '[]', 'bank', 'ada', 1, 'EUR')`:                    "LS002",
		`hold('n', 'n', '[{"resource": "seat"}, {"resource": "nobody"}]')`: "LS003", `confirm('n', 'nobody')`: "LS003",
		`cancel('n', 'nobody')`: "LS003", `extend('n', 'nobody', '2999-01-01Z')`: "LS003",
		`book('n', 'n', '[{"resource": "nobody"}]', 'bank', 'ada', 1, 'EUR')`: "LS003",
		`book('n', 'n', ` + seat + `, 'nobody', 'ada', 1, 'EUR')`:             "LS003",
	} {
		_, err := ask(t, producer, call)
		t.Run(call, func(t *testing.T) { wantContract(t, err, state) })
	}
	// which item is wrong, and how
	_, err := ask(t, producer, `hold('n', 'n', '[{"resource": "seat"}, {"resource": "seat", "quantity": 1.5}]')`)
	wantContract(t, err, "LS002", `"quantity of item 2" is 1.5`)
	_, err = ask(t, producer, `hold('n', 'n', '[{"resource": "seat"}, {"resource": "b"}, {"resource": "a"}]')`)
	wantContract(t, err, "LS003", `no resource "b"`)
	if n := scalar[int](t, pool, `SELECT count(*) FROM lastseat.requests WHERE key = 'n'`); n != 0 {
		t.Errorf("%d requests of what was refused", n)
	}
	// in whatever date style that is ISO, whatever the zone: what the session has as a range
	exec(t, producer, `SET DateStyle = 'ISO'; SET TimeZone = 'Asia/Kathmandu'`)
	mustAsk(t, producer, `hold('k8', 'r8', jsonb_build_array(jsonb_build_object('resource', 'room', 'during',
		tstzrange('2026-12-24 10:00', '2026-12-24 11:30'))))`)
	// of a time with an offset it does not matter that the session has no such hour; one without is refused
	exec(t, producer, `SET TimeZone = 'America/New_York'`)
	mustAsk(t, producer, `hold('k9', 'r9', '[{"resource": "room", "during": "[2026-03-08 02:10Z,2026-03-08 03:05Z)"}]')`)
	_, err = ask(t, producer, `hold('n', 'n', '[{"resource": "room", "during": "[2026-03-08 02:10,2026-03-08 03:05)"}]')`)
	wantContract(t, err, "LS002", `"during of item 1" is`)
	// what was refused for its date style says so, and does not take it for another day
	exec(t, producer, `SET DateStyle = 'SQL, DMY'`)
	_, err = ask(t, producer, `hold('n', 'n', jsonb_build_array(jsonb_build_object('resource', 'room', 'during',
		tstzrange('24/12/2026 10:00', '24/12/2026 11:30'))))`)
	wantContract(t, err, "LS002", `"during of item 1" is`)
}

// What a shop's page shows.
func TestReadingReservations(t *testing.T) {
	t.Parallel()
	pool := migrated(t)
	exec(t, pool, stock)
	exec(t, pool, `INSERT INTO lastseat.resources (id, capacity) SELECT 'hall/' || n, n
		FROM generate_series(1, 12) n; INSERT INTO lastseat.resources (id, capacity) VALUES ('hall', 1), ('hal%', 1),
		  ('hall/ü', 1), (U&'hall/\+10FFFF' || repeat(U&'\+10FFFF', 194), 1)`)
	viewer := connect(t, pool, "lastseat_viewer")
	exec(t, viewer, `SET TimeZone = 'UTC'`)
	for sql, want := range map[string]string{
		`SELECT string_agg(a::text, ', ') FROM lastseat.availability(ARRAY['stock', 'nobody', 'seat', 'stock', NULL]) a`: "(seat,0,1,0,1,0,1), (stock,2,3,2,2,1,0)",
		`SELECT coalesce(string_agg(a.resource, ','), '') FROM lastseat.availability('{}'::text[]) a`:                    "",
		`SELECT string_agg(a::text, ', ') FROM lastseat.availability('st') a`:                                            "(stock,2,3,2,2,1,0)",
		`SELECT string_agg(a.resource, ',') FROM lastseat.availability('hall/', NULL, 3) a`:                              "hall/1,hall/10,hall/11",
		`SELECT string_agg(a.resource, ',') FROM lastseat.availability('hall/', 'hall/11', 3) a`:                         "hall/12,hall/2,hall/3",
		`SELECT count(*)::text FROM lastseat.availability('hall/') a`:                                                    "14",
		`SELECT count(*)::text FROM lastseat.availability('') a`:                                                         "19",
		`SELECT count(*)::text FROM lastseat.availability('hall/', 'hall/9') a`:                                          "2",
		`SELECT string_agg(a.resource, ',') FROM lastseat.availability('hal%') a`:                                        "hal%",
		`SELECT count(*)::text FROM lastseat.availability(NULL::text) a`:                                                 "0",
		`SELECT count(*)::text FROM lastseat.availability('hall/', NULL, 0) a`:                                           "0",
		`SELECT string_agg(concat_ws(' ', o.reservation, o.status, lower(o.during) AT TIME ZONE 'UTC'), ', ')
			FROM lastseat.occupied('room', '2026-12-01Z',
			  '2026-12-02Z') o`: "r-held held 2026-12-01 10:00:00, r-confirmed confirmed 2026-12-01 11:00:00",
		`SELECT string_agg(o.reservation, ',') FROM lastseat.occupied('room', '2026-12-01 11:00Z', '2026-12-01 11:01Z') o`: "r-confirmed",
		`SELECT count(*)::text FROM lastseat.occupied('room', '2026-12-01 09:00Z', '2026-12-01 10:00Z') o`:                 "0",
		`SELECT count(*)::text FROM lastseat.occupied('room', '-infinity', 'infinity') o`:                                  "2",
		`SELECT count(*)::text FROM lastseat.occupied('room 2', '-infinity', 'infinity') o`:                                "0",
		`SELECT concat_ws(' ', r.status, r.customer, r.version, r.key, r.items) FROM lastseat.reservation('r-held') r`:     `held ann 1 k-held [{"quantity": 2, "resource": "stock"}, {"during": "[\"2026-12-01 10:00:00+00\",\"2026-12-01 11:00:00+00\")", "quantity": 1, "resource": "room"}]`,
		`SELECT r.items::text FROM lastseat.reservation('r-pending') r`:                                                    "[]",
		`SELECT count(*)::text FROM lastseat.reservation('nobody') r`:                                                      "0",
	} {
		if got := scalar[string](t, viewer, sql); got != want {
			t.Errorf("%s: %s, want %s", sql, got, want)
		}
	}
}

// A page of a shop costs what it shows, however much there is: through the index, not by looking at every resource.
func TestAvailabilityUsesTheIndex(t *testing.T) {
	t.Parallel()
	pool := migrated(t)
	exec(t, pool, `INSERT INTO lastseat.resources (id, capacity) SELECT format('hotel-%s/%s', to_char(n / 500, 'FM0000'),
		to_char(n % 500, 'FM000')), 1 FROM generate_series(0, 19999) n; ANALYZE lastseat.resources`)
	for name, call := range map[string]string{
		"prefix": `availability('hotel-0020/')`, "page": `availability('', 'hotel-0020/499', 100)`,
		"ids": `availability(ARRAY(SELECT format('hotel-0020/%s', to_char(n, 'FM000')) FROM generate_series(0, 499) n))`,
	} {
		conn := connect(t, pool, "")
		before := scalar[int](t, conn,
			`SELECT (pg_stat_get_xact_tuples_returned(i.indexrelid) + pg_stat_get_xact_tuples_returned(i.indrelid))::int
				FROM pg_index i WHERE i.indexrelid = 'lastseat.resources_pkey'::regclass`)
		exec(t, conn, `BEGIN`)
		n := scalar[int](t, conn, `SELECT count(*)::int FROM lastseat.`+call)
		read := scalar[int](t, conn,
			`SELECT (pg_stat_get_xact_tuples_returned(i.indexrelid) + pg_stat_get_xact_tuples_returned(i.indrelid))::int
				FROM pg_index i WHERE i.indexrelid = 'lastseat.resources_pkey'::regclass`) - before
		exec(t, conn, `ROLLBACK`)
		if n != map[string]int{"prefix": 500, "page": 100, "ids": 500}[name] || read < n || read > 4*n+100 {
			t.Errorf("%s: %d resources, %d rows read", name, n, read)
		}
	}
}
