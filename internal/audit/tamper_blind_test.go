package audit_test

// What somebody made up who knew the tables and had not looked at the checks.
var blindTamperings = []tampering{
	{"beneficiary of a payment that never moved money", `UPDATE lastseat.payments SET to_account = 'till'
		WHERE id = 'voided'`, "payment voided"},
	{"amount of a declined payment", `UPDATE lastseat.payments SET amount = amount - 1 WHERE id = 'declined'`,
		"payment declined"},
	{"how a reservation ended", `UPDATE lastseat.reservations SET status = 'cancelled' WHERE id = 'expired'`,
		"reservation expired"},
	{"the key that a reservation belongs to", `UPDATE lastseat.reservations SET key = 'hold-seat' WHERE id = 'let-go'`,
		"reservation let-go"},
	{"two outcomes change places", `
		UPDATE lastseat.requests r SET code = o.code, detail = o.detail
		FROM lastseat.requests o
		WHERE (r.key, o.key) IN (('hold-too-many', 'hold-overlap'), ('hold-overlap', 'hold-too-many'))`,
		"request hold-overlap"},
	{"a reversal that reverses nothing", `UPDATE lastseat.transfers SET reverses_id = NULL WHERE key = 'undo'`,
		"(key undo)"},
	{"a refund of another payment", `UPDATE lastseat.transfers SET payment_id = 'whole' WHERE key = 'refund';
		UPDATE lastseat.payments SET amount_refunded = amount_refunded - 100 WHERE id = 'paid'`, "(key refund)"},
	{"a resource from nowhere", `INSERT INTO lastseat.resources (id, capacity) VALUES ('ghost', 5)`, "resource ghost"},
	{"a resource without its limit", `UPDATE lastseat.resources SET limit_group = NULL WHERE id = 'booth'`,
		"resource booth"},
	{"the currency of an unused account", `UPDATE lastseat.accounts SET currency = 'EUR' WHERE id = 'idle'`,
		"account idle"},
	{"the time of a link of the history", `UPDATE lastseat.history SET at = at + interval '1 second'
		WHERE number = 1 AND chain LIKE 'lastseat %'`, "lastseat 0/1"},
	{"a function that runs with the caller's rights", `ALTER FUNCTION lastseat.enqueue(text, text, jsonb, timestamptz,
		text) SECURITY INVOKER`, "enqueue"},
	{"a trigger that nobody shipped", `CREATE FUNCTION public.skim() RETURNS trigger LANGUAGE plpgsql AS
		'BEGIN RETURN NEW; END'; CREATE TRIGGER skim BEFORE INSERT ON lastseat.entries FOR EACH ROW
		EXECUTE FUNCTION public.skim()`, "skim"},
	{"the schema given to somebody else", `ALTER SCHEMA lastseat OWNER TO CURRENT_USER`, "schema of "},
	{"the order of a line", `
		UPDATE lastseat.reservations SET waiting_number = waiting_number + 1000 WHERE id = 'waits';
		UPDATE lastseat.waiting_items SET number = number + 1000 WHERE reservation_id = 'waits'`, "reservation waits"},
}
