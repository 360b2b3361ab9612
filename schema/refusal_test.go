package schema_test

import (
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
)

// SQLSTATEs of what a table refuses.
const (
	check     = "23514"
	unique    = "23505"
	reference = "23503"
	integrity = "23000" // our own triggers
)

// refusal is SQL that has to fail. Where code is empty it has to go through.
type refusal struct {
	name, sql, code, constraint string
}

// runRefusals tries each as superuser, in a transaction that is rolled back: it is the database that refuses, and not
// the rights of a role. One after the other: two that an exclusion constraint keeps apart may deadlock.
func runRefusals(t *testing.T, pool *pgxpool.Pool, refusals []refusal) {
	t.Helper()
	for _, r := range refusals {
		t.Run(r.name, func(t *testing.T) {
			trial(t, pool, func(tx pgx.Tx) {
				_, err := tx.Exec(t.Context(), r.sql)
				if r.code == "" {
					if err != nil {
						t.Errorf("%s: %v", r.sql, err)
					}
					return
				}
				wantRefusal(t, err, r.code)
				if refused := pgError(t, err); refused.ConstraintName != r.constraint {
					t.Errorf("the constraint is %q, want %q", refused.ConstraintName, r.constraint)
				} else if r.code == integrity && (refused.Hint == "" || refused.Hint == "null") {
					t.Errorf("no HINT: %s", refused.Message)
				}
			})
		})
	}
}

// ledger is a small ledger: bank gave 500 to ada in transfer 1, and ada 200 to ben in transfer 2.
const ledger = `
	INSERT INTO lastseat.accounts (id, currency, balance, overdraft_limit, version, entry_count) VALUES
		('bank', 'EUR', -500, NULL, 1, 1), ('ada', 'EUR', 300, 0, 2, 2), ('ben', 'EUR', 200, 100, 1, 1),
		  ('tom', 'USD', 0, NULL, 0, 0);
	INSERT INTO lastseat.transfers (id, key, from_account, to_account, amount, currency, reverses_id) VALUES
		(1, 't1', 'bank', 'ada', 500, 'EUR', NULL), (2, 't2', 'ada', 'ben', 200, 'EUR', NULL);
	INSERT INTO lastseat.entries (account_id, version, transfer_id, amount, balance_after) VALUES
		('ben', 1, 2, 200, 200), ('ada', 2, 2, -200, 300), ('bank', 1, 1, -500, -500), ('ada', 1, 1, 500, 500)`

func TestAccountsRefuse(t *testing.T) {
	t.Parallel()
	pool := migrated(t)
	exec(t, pool, ledger)
	runRefusals(t, pool, []refusal{
		{"to the limit", `UPDATE lastseat.accounts SET balance = -100 WHERE id = 'ben'`, "", ""},
		{"beyond the limit", `UPDATE lastseat.accounts SET balance = -101 WHERE id = 'ben'`, check, "accounts_within_limit"},
		{"below zero", `UPDATE lastseat.accounts SET balance = -1 WHERE id = 'ada'`, check, "accounts_within_limit"},
		{"limit lowered too far", `UPDATE lastseat.accounts SET balance = -100, overdraft_limit = 99 WHERE id = 'ben'`,
			check, "accounts_within_limit"},
		{"held to the limit", `UPDATE lastseat.accounts SET held = 300 WHERE id = 'ada'`, "", ""},
		{"held beyond the limit", `UPDATE lastseat.accounts SET held = 301 WHERE id = 'ada'`, check, "accounts_within_limit"},
		{"unbounded", `UPDATE lastseat.accounts SET balance = -9223372036854775808, held = 9223372036854775807
			WHERE id = 'bank'`, "", ""},
		{"beyond bigint is beyond the limit", `UPDATE lastseat.accounts SET balance = -9223372036854775808,
			held = 9223372036854775807 WHERE id = 'ada'`, check, "accounts_within_limit"},
		{"held below zero", `UPDATE lastseat.accounts SET held = -1 WHERE id = 'ada'`, check, "accounts_held_check"},
		{"held below zero, unbounded", `UPDATE lastseat.accounts SET held = -1 WHERE id = 'bank'`, check,
			"accounts_held_check"},
		{"limit below zero", `UPDATE lastseat.accounts SET overdraft_limit = -1 WHERE id = 'ada'`, check,
			"accounts_overdraft_limit_check"},
		{"opened beyond the limit", `INSERT INTO lastseat.accounts (id, currency, balance) VALUES ('new', 'EUR', -1)`, check,
			"accounts_within_limit"},
		{"empty id", `INSERT INTO lastseat.accounts (id, currency) VALUES ('', 'EUR')`, check, "accounts_id_check"},
		{"id of 200 characters", `INSERT INTO lastseat.accounts (id, currency) VALUES (repeat('ß', 200), 'EUR')`, "", ""},
		{"id of 201 characters", `INSERT INTO lastseat.accounts (id, currency) VALUES (repeat('a', 201), 'EUR')`, check,
			"accounts_id_check"},
		{"opened twice", `INSERT INTO lastseat.accounts (id, currency) VALUES ('ada', 'EUR')`, unique, "accounts_pkey"},
		{"no such currency", `INSERT INTO lastseat.accounts (id, currency) VALUES ('new', 'XXX')`, reference,
			"accounts_currency_fkey"},
		{"deleted", `DELETE FROM lastseat.accounts WHERE id = 'tom'`, integrity, ""},
		{"truncated", `TRUNCATE lastseat.accounts`, integrity, ""},
		{"truncated with others", `TRUNCATE lastseat.currencies CASCADE`, integrity, ""},
		{"renamed", `UPDATE lastseat.accounts SET id = 'tim' WHERE id = 'tom'`, integrity, ""},
		{"currency changed", `UPDATE lastseat.accounts SET currency = 'JPY' WHERE id = 'tom'`, integrity, ""},
		{"set to what they are", `UPDATE lastseat.accounts SET id = id, currency = currency, balance = balance`, "", ""},
		{"a currency that is used, deleted", `DELETE FROM lastseat.currencies WHERE code = 'EUR'`, reference,
			"accounts_currency_fkey"},
		{"a currency in lower case", `INSERT INTO lastseat.currencies VALUES ('eur', 2)`, check, "currencies_code_check"},
		{"a currency of 19 decimals", `INSERT INTO lastseat.currencies VALUES ('QQQ', 19)`, check,
			"currencies_minor_units_check"},
	})
}

func TestTransfersRefuse(t *testing.T) {
	t.Parallel()
	pool := migrated(t)
	exec(t, pool, ledger)
	transfer := func(values string) string {
		return `INSERT INTO lastseat.transfers (id, key, from_account, to_account, amount, currency, reverses_id) VALUES ` +
			values
	}
	runRefusals(t, pool, []refusal{
		{"two at once", transfer(`(3, 't3', 'ada', 'ben', 1, 'EUR', NULL), (4, 't4', 'ben', 'ada', 1, 'EUR', 1)`), "", ""},
		{"nothing", transfer(`(3, 't3', 'ada', 'ben', 0, 'EUR', NULL)`), check, "transfers_amount_check"},
		{"less than nothing", transfer(`(3, 't3', 'ada', 'ben', -1, 'EUR', NULL)`), check, "transfers_amount_check"},
		{"to itself", transfer(`(3, 't3', 'ada', 'ada', 1, 'EUR', NULL)`), check, "transfers_two_accounts"},
		{"from account is in another currency", transfer(`(3, 't3', 'tom', 'ben', 1, 'EUR', NULL)`), reference,
			"transfers_one_currency"},
		{"to account is in another currency", transfer(`(3, 't3', 'ada', 'tom', 1, 'EUR', NULL)`), reference,
			"transfers_one_currency"},
		{"both are in another currency", transfer(`(3, 't3', 'ada', 'ben', 1, 'USD', NULL)`), reference,
			"transfers_one_currency"},
		{"no such from account", transfer(`(3, 't3', 'nobody', 'ben', 1, 'EUR', NULL)`), reference, "transfers_one_currency"},
		{"no such to account", transfer(`(3, 't3', 'ada', 'nobody', 1, 'EUR', NULL)`), reference, "transfers_one_currency"},
		{"one of two is wrong",
			transfer(`(3, 't3', 'ada', 'ben', 1, 'EUR', NULL), (4, 't4', 'ada', 'nobody', 1, 'EUR', NULL)`), reference,
			"transfers_one_currency"},
		{"reversed twice", transfer(`(3, 't3', 'ada', 'bank', 500, 'EUR', 1)`) + `; ` +
			transfer(`(4, 't4', 'ada', 'bank', 500, 'EUR', 1)`), unique, "transfers_reversed_once"},
		{"a key twice", transfer(`(3, 't1', 'ada', 'ben', 1, 'EUR', NULL)`), unique, "transfers_key_leg_key"},
		{"an id twice", transfer(`(1, 't3', 'ada', 'ben', 1, 'EUR', NULL)`), unique, "transfers_pkey"},
		{"changed", `UPDATE lastseat.transfers SET amount = amount + 1 WHERE id = 1`, integrity, ""},
		{"changed to what it is", `UPDATE lastseat.transfers SET amount = amount`, integrity, ""},
		{"changed on conflict", transfer(`(1, 't1', 'ada', 'ben', 1, 'EUR', NULL)`) +
			` ON CONFLICT (id) DO UPDATE SET amount = 7`, integrity, ""},
		{"deleted", `DELETE FROM lastseat.transfers WHERE id = 1`, integrity, ""},
		{"truncated", `TRUNCATE lastseat.transfers`, integrity, ""},
		{"truncated with the entries", `TRUNCATE lastseat.entries, lastseat.transfers CASCADE`, integrity, ""},
	})
}

func TestEntriesRefuse(t *testing.T) {
	t.Parallel()
	pool := migrated(t)
	exec(t, pool, ledger)
	entry := func(values string) string {
		return `INSERT INTO lastseat.entries (account_id, version, transfer_id, amount, balance_after) VALUES ` + values
	}
	runRefusals(t, pool, []refusal{
		{"the next", entry(`('ada', 3, 9, 1, 301)`), "", ""},
		{"the first of an account", entry(`('tom', 1, 9, -1, -1)`), "", ""},
		{"accounts interleaved, in any order",
			entry(`('ada', 4, 9, -50, 260), ('ben', 2, 9, 1, 201), ('tom', 2, 9, 1, 6), ('ada', 3, 9, 10, 310),
			('ben', 4, 9, 1, 203), ('tom', 1, 9, 5, 5), ('ben', 3, 9, 1, 202)`), "", ""},
		{"a gap", entry(`('ada', 4, 9, 1, 301)`), check, "entries_chain"},
		{"a gap at the start", entry(`('tom', 2, 9, 1, 1)`), check, "entries_chain"},
		{"a gap among several", entry(`('ada', 3, 9, 1, 301), ('ada', 5, 9, 1, 302)`), check, "entries_chain"},
		{"a gap beside a good account", entry(`('ada', 3, 9, 1, 301), ('ben', 2, 9, 1, 201), ('ben', 4, 9, 1, 202)`), check,
			"entries_chain"},
		{"a repeat", entry(`('ada', 2, 9, 1, 301)`), unique, "entries_pkey"},
		{"a repeat among several", entry(`('ada', 3, 9, 1, 301), ('ada', 3, 9, 1, 302)`), unique, "entries_pkey"},
		{"version zero", entry(`('tom', 0, 9, 1, 1)`), check, "entries_version_check"},
		{"no amount", entry(`('ada', 3, 9, 0, 300)`), check, "entries_amount_check"},
		{"the balance breaks", entry(`('ada', 3, 9, 1, 302)`), check, "entries_chain"},
		{"the first balance breaks", entry(`('tom', 1, 9, 1, 2)`), check, "entries_chain"},
		{"the balance breaks among several", entry(`('ada', 3, 9, 1, 301), ('ada', 4, 9, 1, 301)`), check, "entries_chain"},
		{"a sum beyond bigint breaks, too",
			entry(`('tom', 1, 9, 9223372036854775807, 9223372036854775807), ('tom', 2, 9, 1, -9223372036854775808)`), "22003",
			""},
		{"the balance of another account", entry(`('ben', 2, 9, 1, 301)`), check, "entries_chain"},
		{"changed", `UPDATE lastseat.entries SET balance_after = 0 WHERE account_id = 'ada' AND version = 1`, integrity, ""},
		{"changed to what it is", `UPDATE lastseat.entries SET amount = amount`, integrity, ""},
		{"deleted", `DELETE FROM lastseat.entries WHERE account_id = 'ada' AND version = 2`, integrity, ""},
		{"truncated", `TRUNCATE lastseat.entries`, integrity, ""},
	})
}

func TestRequestsRefuse(t *testing.T) {
	t.Parallel()
	pool := migrated(t)
	exec(t, pool, `INSERT INTO lastseat.requests (key, kind, fingerprint, job_id, status, code, detail, settled_at) VALUES
		('waiting', 'toy', 'f', 1, 'pending', NULL, NULL, NULL), ('done', 'toy', 'f', 2, 'applied', 'played',
		  '{"n": 1}', now()),
		('refused', 'toy', 'f', 3, 'rejected', 'sold_out', NULL, now()), ('broken', 'toy', 'f', 4, 'failed',
		  'retries_exhausted', NULL, now())`)
	request := func(values string) string {
		return `INSERT INTO lastseat.requests (key, kind, fingerprint, job_id, status, code, settled_at) VALUES ` + values
	}
	set := func(what, key string) string {
		return `UPDATE lastseat.requests SET ` + what + ` WHERE key = '` + key + `'`
	}
	const reopen = `status = 'pending', code = NULL, detail = NULL, settled_at = NULL`
	refusals := []refusal{
		{"a key twice", request(`('done', 'toy', 'f', 9, 'pending', NULL, NULL)`), unique, "requests_pkey"},
		{"empty key", request(`('', 'toy', 'f', 9, 'pending', NULL, NULL)`), check, "requests_key_check"},
		{"key of 200 characters", request(`(repeat('ß', 200), 'toy', 'f', 9, 'pending', NULL, NULL)`), "", ""},
		{"key of 201 characters", request(`(repeat('a', 201), 'toy', 'f', 9, 'pending', NULL, NULL)`), check,
			"requests_key_check"},
		{"empty kind", request(`('new', '', 'f', 9, 'pending', NULL, NULL)`), check, "requests_kind_check"},
		{"kind of 128 characters", request(`('new', repeat('a', 128), 'f', 9, 'pending', NULL, NULL)`), check,
			"requests_kind_check"},
		{"no such status", request(`('new', 'toy', 'f', 9, 'settled', 'played', now())`), check, "requests_status_check"},
		{"applied without a code", set(`status = 'applied', settled_at = now()`, "waiting"), check,
			"requests_settled_with_code"},
		{"rejected without a code", set(`status = 'rejected', settled_at = now()`, "waiting"), check,
			"requests_settled_with_code"},
		{"failed without a time", set(`status = 'failed', code = 'retries_exhausted'`, "waiting"), check,
			"requests_settled_with_code"},
		{"pending with a code", set(`code = 'played'`, "waiting"), check, "requests_settled_with_code"},
		{"pending with a time", set(`settled_at = now()`, "waiting"), check, "requests_settled_with_code"},
		{"settled", set(`status = 'applied', code = 'played', settled_at = now(), attempts = 1`, "waiting"), "", ""},
		{"settled twice", set(`status = 'applied', code = 'played', settled_at = now()`, "waiting") + `; ` +
			set(`status = 'rejected', code = 'sold_out'`, "waiting"), integrity, ""},
		{"failed to pending", set(reopen, "broken"), "", ""},
		{"failed to applied", set(`status = 'applied', code = 'played'`, "broken"), integrity, ""},
		{"failed to rejected", set(`status = 'rejected', code = 'sold_out'`, "broken"), integrity, ""},
		{"failed to pending with its code", set(`status = 'pending'`, "broken"), check, "requests_settled_with_code"},
		{"failed to pending under another key", set(reopen+`, key = 'other'`, "broken"), integrity, ""},
		{"failed to pending as another kind", set(reopen+`, kind = 'other'`, "broken"), integrity, ""},
		{"failed to pending with other arguments", set(reopen+`, fingerprint = 'g'`, "broken"), integrity, ""},
		{"truncated", `TRUNCATE lastseat.requests`, integrity, ""},
	}
	for _, key := range []string{"done", "refused", "broken"} {
		for name, what := range map[string]string{
			"code": `code = 'other'`, "detail": `detail = '{}'`, "attempts": `attempts = attempts + 1`,
			"time": `settled_at = now() + '1 s'`,
			"key":  `key = 'other'`, "job": `job_id = 99`, "nothing": `code = code`,
		} {
			refusals = append(refusals, refusal{key + ": " + name + " changed", set(what, key), integrity, ""})
		}
		if key != "broken" {
			refusals = append(refusals, refusal{key + " to pending", set(reopen, key), integrity, ""})
		}
	}
	for _, key := range []string{"waiting", "done", "refused", "broken"} {
		refusals = append(refusals, refusal{key + " deleted", `DELETE FROM lastseat.requests WHERE key = '` + key + `'`,
			integrity, ""})
	}
	runRefusals(t, pool, refusals)
}
