package audit_test

import (
	"slices"
	"strings"
	"testing"

	"github.com/lastseat/lastseat/internal/audit"
)

// tampering is what a superuser does past the triggers, and so that the rows still fit together. The audit has to name
// the row.
type tampering struct {
	name, sql, row string
}

// The kinds that issue 12 lists.
var tamperings = []tampering{
	{"amount of a transfer, with its entries and balances", `
		UPDATE lastseat.transfers SET amount = amount + 5 WHERE key = 't4';
		UPDATE lastseat.entries SET amount = amount + 5 * sign(amount), balance_after = balance_after + 5 * sign(amount)
		WHERE transfer_id = (SELECT id FROM lastseat.transfers WHERE key = 't4');
		UPDATE lastseat.accounts SET balance = balance - 5 WHERE id = 'mint';
		UPDATE lastseat.accounts SET balance = balance + 5 WHERE id = 'tom'`, "(key t4)"},
	{"beneficiary of a transfer, with its entry and balances", `
		INSERT INTO lastseat.accounts (id, currency, balance, version, entry_count)
		SELECT 'thief', 'USD', balance, version, entry_count FROM lastseat.accounts WHERE id = 'tom';
		UPDATE lastseat.transfers SET to_account = 'thief' WHERE key = 't4';
		UPDATE lastseat.entries SET account_id = 'thief' WHERE account_id = 'tom';
		UPDATE lastseat.accounts SET balance = 0, version = 0, entry_count = 0 WHERE id = 'tom'`, "(key t4)"},
	{"description", `UPDATE lastseat.transfers SET description = 'gift' WHERE key = 't4'`, "(key t4)"},
	{"description taken away", `UPDATE lastseat.transfers SET description = NULL WHERE key = 't4'`, "(key t4)"},
	{"metadata", `UPDATE lastseat.transfers SET metadata = '{"month": 4}' WHERE key = 't4'`, "(key t4)"},
	{"date of a transfer", `UPDATE lastseat.transfers SET created_at = created_at - interval '1 microsecond'
		WHERE key = 't1'`, "(key t1)"},
	{"date of an entry", `UPDATE lastseat.entries SET created_at = created_at + interval '1 microsecond'
		WHERE account_id = 'tom'`, "(key t4)"},
	{"code of a settled request", `UPDATE lastseat.requests SET code = 'account_not_found' WHERE key = 'refused'`,
		"refused"},
	{"detail of a settled request", `UPDATE lastseat.requests SET detail = jsonb_set(detail, '{available}', '7')
		WHERE key = 'refused'`, "request refused"},
	{"fingerprint of a settled request", `UPDATE lastseat.requests SET fingerprint = sha256('x') WHERE key = 'refused'`,
		"request refused"},
	{"a refused request deleted", `DELETE FROM lastseat.requests WHERE key = 'refused';
		UPDATE lastseat.outcome_log SET keys = array_remove(keys, 'refused')`, "request refused"},
	{"kind of a refused request", `UPDATE lastseat.requests SET kind = 'toy' WHERE key = 'refused'`, "request refused"},
	{"attempts", `UPDATE lastseat.requests SET attempts = 9 WHERE key = 'refused'`, "request refused"},
	{"time of asking", `UPDATE lastseat.requests SET requested_at = requested_at - interval '1 day'
		WHERE key = 'refused'`, "request refused"},
	{"time of settling", `UPDATE lastseat.requests SET settled_at = settled_at - interval '1 day' WHERE key = 'refused';
		DELETE FROM lastseat.outcome_log`, "request refused"},
	{"quantity of a reservation, with the counts", `
		UPDATE lastseat.reservation_items SET quantity = 3 WHERE reservation_id = 'fan' AND position = 1;
		UPDATE lastseat.customer_counts SET quantity = quantity + 1 WHERE customer = 'kim';
		UPDATE lastseat.resources SET confirmed = confirmed + 1 WHERE id = 'pit'`, "item 1 of reservation fan"},
	{"seat of a reservation, with the counts", `
		UPDATE lastseat.reservation_items SET resource_id = 'booth' WHERE reservation_id = 'confirmed' AND position = 2`,
		"item 2 of reservation confirmed"},
	{"customer of a reservation", `UPDATE lastseat.reservations SET customer = 'lee' WHERE id = 'held'`,
		"reservation held"},
	{"range of a reservation", `UPDATE lastseat.reservation_items
		SET during = '[2030-01-01 11:30Z,2030-01-01 12:30Z)' WHERE reservation_id = 'confirmed' AND position = 2`,
		"item 2 of reservation confirmed"},
	{"expiry of a reservation", `UPDATE lastseat.reservations SET expires_at = expires_at + interval '1 day'
		WHERE id = 'held'`, "reservation held"},
	{"capacity", `UPDATE lastseat.resources SET capacity = capacity + 1 WHERE id = 'night'`, "resource night"},
	{"overbooking", `UPDATE lastseat.resources SET overbook = overbook + 1 WHERE id = 'night'`, "resource night"},
	{"a customer's limit", `UPDATE lastseat.limit_groups SET per_customer = 40 WHERE id = 'fans'`, "limit group fans"},
	{"an overdraft limit", `UPDATE lastseat.accounts SET overdraft_limit = 1000 WHERE id = 'ben'`, "account ben"},
	{"a protecting trigger dropped", `DROP TRIGGER append_only ON lastseat.transfers`, "TRIGGER append_only"},
	{"a protecting trigger disabled", `ALTER TABLE lastseat.requests DISABLE TRIGGER settled_once`,
		"trigger of requests (disabled)"},
	{"a unique key dropped", `ALTER TABLE lastseat.transfers DROP CONSTRAINT transfers_key_leg_key`,
		"transfers_key_leg_key"},
	{"a sequence set back", `ALTER SEQUENCE lastseat.transfers_id_seq RESTART WITH 2`, "sequence transfers_id_seq"},
	{"a made-up request", settled("made-up", "payment.transfer", "rejected", "insufficient_funds", "") + logged,
		"request made-up"},
	{"a made-up transfer, with all that belongs to it", settled("fraud", "payment.transfer", "applied", "transferred",
		"") + logged + `;
		INSERT INTO lastseat.transfers (id, key, from_account, to_account, amount, currency)
		VALUES (nextval('lastseat.transfers_id_seq'), 'fraud', 'mint', 'tom', 1, 'USD');
		INSERT INTO lastseat.entries (account_id, version, transfer_id, amount, balance_after)
		SELECT a.id, a.entry_count + 1, currval('lastseat.transfers_id_seq'), n.amount, a.balance + n.amount
		FROM lastseat.accounts a JOIN (VALUES ('mint', -1), ('tom', 1)) AS n(id, amount) USING (id);
		UPDATE lastseat.accounts a SET balance = a.balance + n.amount, version = version + 1,
		  entry_count = entry_count + 1 FROM (VALUES ('mint', -1), ('tom', 1)) AS n(id, amount) WHERE a.id = n.id`,
		"(key fraud)"},
}

// More, made up without looking at the checks.
var moreTamperings = []tampering{
	{"a whole transfer erased", `
		UPDATE lastseat.accounts SET balance = 0, version = 0, entry_count = 0 WHERE currency = 'USD';
		DELETE FROM lastseat.entries WHERE account_id IN ('mint', 'tom');
		DELETE FROM lastseat.transfers WHERE key = 't4';
		DELETE FROM lastseat.requests WHERE key = 't4';
		UPDATE lastseat.outcome_log SET keys = array_remove(keys, 't4')`, "request t4"},
	{"a payment's time", `UPDATE lastseat.payments SET expires_at = expires_at + interval '1 year' WHERE id = 'held'`,
		"payment held"},
	{"when a payment was asked for", `UPDATE lastseat.payments SET created_at = '2020-01-01Z' WHERE id = 'paid'`,
		"payment paid"},
	{"when a reservation last changed", `UPDATE lastseat.reservations SET updated_at = '2020-01-01Z' WHERE id = 'fan'`,
		"reservation fan"},
	{"a failed request waits again", `UPDATE lastseat.requests SET status = 'pending', code = NULL, settled_at = NULL
		WHERE key = 'cancelled';
		UPDATE lastseat.river_job SET state = 'available', finalized_at = NULL WHERE args ->> 'key' = 'cancelled'`,
		"request cancelled"},
	{"a guard that guards nothing", `CREATE OR REPLACE FUNCTION lastseat.refuse_change() RETURNS trigger LANGUAGE plpgsql
		SECURITY DEFINER SET search_path = lastseat, pg_temp AS 'BEGIN RETURN NEW; END'`, "function refuse_change()"},
	{"a right that was not given", `GRANT UPDATE ON lastseat.transfers TO lastseat_producer`,
		"right of lastseat_producer: UPDATE on transfers"},
	{"a limit that is no constraint", `ALTER TABLE lastseat.accounts DROP CONSTRAINT accounts_within_limit`,
		"accounts_within_limit"},
	{"a rule that swallows rows", `CREATE RULE gone AS ON INSERT TO lastseat.history DO INSTEAD NOTHING`,
		"rule gone of history"},
	{"an account from nowhere",
		`INSERT INTO lastseat.accounts (id, currency, overdraft_limit) VALUES ('pit', 'EUR', NULL)`,
		"account pit"},
	{"an account's date", `UPDATE lastseat.accounts SET created_at = '2020-01-01Z' WHERE id = 'idle'`, "account idle"},
	{"an unused account deleted", `DELETE FROM lastseat.accounts WHERE id = 'idle'`, "account idle"},
	{"a currency without decimals", `UPDATE lastseat.currencies SET minor_units = 0 WHERE code = 'EUR'`, "EUR"},
	{"a digest that fits the changed row", `UPDATE lastseat.history SET keys = array_replace(keys, 'refused', 'other');
		UPDATE lastseat.requests SET key = 'other' WHERE key = 'refused'`, "was changed, or the one before it"},
	{"the end of the history cut off", `DELETE FROM lastseat.history h WHERE (chain, number) IN (
		SELECT chain, number FROM lastseat.history WHERE 'cancel-spare' = ANY (keys))`, "cancel-spare"},
	{"a record of what ran out", `UPDATE lastseat.requests SET fingerprint = sha256('x')
		WHERE key = 'lastseat:payment.expire:expired'`, "request lastseat:payment.expire:expired"},
	{"the order of two entries", `
		UPDATE lastseat.entries SET version = version + 1000 WHERE account_id = 'card' AND version IN (1, 2);
		UPDATE lastseat.entries SET version = 1003 - version WHERE account_id = 'card' AND version = 1001;
		UPDATE lastseat.entries SET version = 1003 - version WHERE account_id = 'card' AND version = 1002;
		UPDATE lastseat.entries e SET balance_after = (SELECT sum(amount) FROM lastseat.entries b
		  WHERE b.account_id = 'card' AND b.version <= e.version) WHERE account_id = 'card'`, "of account card"},
	{"a retention from nowhere", `INSERT INTO lastseat.retention VALUES ('requests', 0)`, "retention of requests"},
	{"a closing from nowhere", `INSERT INTO lastseat.closings
		SELECT account_id, version, balance_after, transfer_id, created_at FROM lastseat.entries
		WHERE account_id = 'ada' AND version = 1`, "closing of account ada at entry 1 is not in the history"},
	{"a removal from nowhere", `INSERT INTO lastseat.removed (what, before) VALUES ('requests', now())`,
		"removal of requests"},
	{"an item deleted", `DELETE FROM lastseat.reservation_items WHERE reservation_id = 'let-go' AND position = 2`,
		"let-go#2"},
}

// findsTampering tells whether a check compares with the history or with what was shipped, and so finds whatever is
// changed by hand.
func findsTampering(check string) bool {
	return strings.HasPrefix(check, "history.") || check == "schema.shipped" || check == "sequences.ahead" ||
		check == "records.fingerprint" || check == "entries.order"
}

// Each is found, and the audit names the row.
func TestTamperingIsFound(t *testing.T) {
	t.Parallel()
	pool := filled(t)
	drain(t, pool)
	wantClean(t, pool)
	found := make(map[string]bool)
	for _, c := range slices.Concat(tamperings, moreTamperings, blindTamperings) {
		var told []string
		_, err := audit.Run(t.Context(), past{pool, c.sql}, func(f audit.Finding) {
			told = append(told, f.Violations...)
			found[f.Check] = found[f.Check] || !f.OK
		})
		if err != nil {
			t.Errorf("%s: %v", c.name, err)
			continue
		}
		if !strings.Contains(strings.Join(told, "\n"), c.row) {
			t.Errorf("%s: %q is not named: %v", c.name, c.row, told)
		}
	}
	for _, check := range audit.Checks {
		if findsTampering(check.Name) && !found[check.Name] {
			t.Errorf("nothing shows that %s finds anything", check.Name)
		}
	}
	wantClean(t, pool)
}
