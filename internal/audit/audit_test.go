package audit_test

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/lastseat/lastseat/internal/audit"
	"github.com/lastseat/lastseat/internal/testdb"
	"github.com/lastseat/lastseat/outbox"
)

func TestCleanDatabases(t *testing.T) {
	t.Parallel()
	t.Run("empty", func(t *testing.T) {
		t.Parallel()
		wantClean(t, testdb.Pool(t, testdb.New(t)))
	})
	t.Run("used", func(t *testing.T) {
		t.Parallel()
		pool := filled(t)
		wantClean(t, pool)
		exec(t, pool, `SELECT lastseat.retry('cancelled')`)
		wantClean(t, pool)
	})
	t.Run("completed jobs are kept", func(t *testing.T) {
		t.Parallel()
		pool := filled(t)
		if err := worker(pool, outbox.Settings{KeepCompleted: time.Hour}).Drain(t.Context()); err != nil {
			t.Fatal(err)
		}
		wantClean(t, pool)
	})
	t.Run("a job that came past enqueue", func(t *testing.T) {
		t.Parallel()
		pool := filled(t)
		exec(t, pool, `INSERT INTO lastseat.river_job (kind, queue, max_attempts, args)
			VALUES ('payment.transfer', 'lastseat', 25,
			  '{"key": "raw", "from": "bank", "to": "ada", "amount": 1, "currency": "EUR"}'),
			       ('payment.authorize', 'lastseat', 25,
			         '{"key": "raw-a", "payment": "raw", "from": "card", "to": "shop", "amount": 1e2, "currency": "EUR",
			         "expires_at": null}'),
			       ('payment.authorize', 'lastseat', 25,
			         '{"key": "raw-b", "payment": "raw \"<&>\u00e9", "from": "card", "to": "tom",
			         "amount": 1, "currency": "EUR"}'),
			       ('payment.authorize', 'lastseat', 25,
			         '{"key": "raw-c", "payment": "raw", "from": "card", "to": "shop", "amount": 1, "currency": "EUR"}'),
			       ('payment.authorize', 'lastseat', 25,
			         '{"key": "raw-d", "payment": "wrong", "from": "card", "to": "shop", "amount": 0, "currency": "EUR"}'),
			       ('payment.authorize', 'lastseat', 25,
			         '{"payment": "keyless", "from": "card", "to": "shop", "amount": 1, "currency": "EUR"}'),
			       ('payment.void', 'lastseat', 25, '{"key": "raw-e", "payment": "raw"}'),
			       ('reservation.hold', 'lastseat', 25,
			         '{"key": "raw-f", "reservation": "raw \"<&>\u00e9", "items": [{"resource": "night", "quantity": null}],
			         "customer": null}'),
			       ('reservation.hold', 'lastseat', 25,
			         '{"key": "raw-g", "reservation": "held", "items": [{"resource": "night"}]}'),
			       ('reservation.hold', 'lastseat', 25, '{"key": "raw-h", "reservation": "wrong", "items": []}'),
			       ('reservation.hold', 'lastseat', 25, '{"reservation": "keyless", "items": [{"resource": "nowhere"}]}'),
			       ('reservation.confirm', 'lastseat', 25,
			         '{"key": "raw-i", "reservation": "raw \"<&>\u00e9", "customer": null}'),
			       ('reservation.cancel', 'lastseat', 25, '{"reservation": "raw \"<&>\u00e9"}'),
			       ('booking.book', 'lastseat', 25,
			         '{"key": "raw-j", "reservation": "raw-j", "items": [{"resource": "night"}], "from": "card", "to": "shop",
			         "amount": 1, "currency": "EUR"}'),
			       ('booking.book', 'lastseat', 25,
			         '{"key": "raw-k", "reservation": "raw-k", "items": [{"resource": "night"}], "from": "card", "to": "card",
			         "amount": 1, "currency": "EUR"}')`)
		wantClean(t, pool)
		if err := worker(pool, outbox.Settings{}).Drain(t.Context()); err != nil {
			t.Fatal(err)
		}
		wantClean(t, pool)
	})
}

// Of the worker's own keys one may have been a caller's before they were kept apart: what it would record has no
// record then.
func TestRecordWhoseKeyIsTaken(t *testing.T) {
	t.Parallel()
	pool := filled(t)
	for _, key := range []string{"payment.expire:expired", "reservation.expire:expired", "reservation.grant:granted"} {
		wantClean(t, past{pool, fmt.Sprintf(`UPDATE lastseat.requests SET kind = 'toy', status = 'rejected', code = 'no'
			WHERE key = 'lastseat:%s'`, key)})
	}
	for _, key := range []string{"payment.expire:x", "reservation.expire:x", "reservation.grant:x"} {
		wantClean(t, past{pool, settled("lastseat:"+key, "toy", "applied", "toyed", "") + logged})
	}
}

// A job that came past the functions and failed has made nothing.
func TestFailedBeforeItsRow(t *testing.T) {
	t.Parallel()
	wantClean(t, past{filled(t), settled("a", "payment.authorize", "failed", "retries_exhausted", "") + ";" +
		settled("h", "reservation.hold", "failed", "retries_exhausted", "") + logged})
}

// The oldest rows of the log may be deleted.
func TestOutcomesWhoseLogIsDeleted(t *testing.T) {
	t.Parallel()
	pool := filled(t)
	wantClean(t, past{pool, `DELETE FROM lastseat.outcome_log WHERE 'cancelled' = ANY (keys)`})
	wantClean(t, past{pool, `DELETE FROM lastseat.outcome_log`})
}

// past changes the database in the transaction of the audit, whose clock stands still, and takes it back.
type past struct {
	pool *pgxpool.Pool
	sql  string
}

func (p past) BeginTx(ctx context.Context, _ pgx.TxOptions) (pgx.Tx, error) {
	tx, err := p.pool.Begin(ctx)
	if err == nil {
		if _, err = tx.Exec(ctx, "SET LOCAL session_replication_role = replica; "+p.sql); err != nil {
			_ = tx.Rollback(ctx)
		}
	}
	return tx, err
}

// An authorization may be live for a while after its time, and as long as something that was asked for before waits.
func TestOverdueWithReason(t *testing.T) {
	t.Parallel()
	pool := filled(t)
	wantClean(t, past{pool, `UPDATE lastseat.payments SET expires_at = now() - interval '10 seconds' WHERE id = 'held'`})
	wantClean(t, past{pool, `UPDATE lastseat.payments SET expires_at = now() - interval '1 hour' WHERE id = 'held';
		UPDATE lastseat.river_job SET scheduled_at = now() - interval '2 hours' WHERE args ->> 'key' = 'waiting'`})
	wantClean(t, past{pool, `UPDATE lastseat.payments SET expires_at = now() - interval '1 hour' WHERE id <> 'held'`})
	exec(t, pool, `DELETE FROM lastseat.river_job WHERE state = 'cancelled'`)
	wantClean(t, past{pool, `UPDATE lastseat.payments SET expires_at = now() - interval '10 seconds' WHERE id = 'held'`})
}

func TestEveryCheckIsAnnounced(t *testing.T) {
	t.Parallel()
	var told []string
	_, err := audit.RunObserved(t.Context(), filled(t), audit.Observer{
		Announce: func(c audit.Check) { told = append(told, "checking "+c.Name) },
		Report:   func(f audit.Finding) { told = append(told, f.Check) },
	})
	if err != nil {
		t.Fatal(err)
	}
	var want []string
	for _, check := range audit.Checks {
		want = append(want, "checking "+check.Name, check.Name)
	}
	if !slices.Equal(told, want) {
		t.Errorf("told %v, want %v", told, want)
	}
}

func TestViewerIsEnough(t *testing.T) {
	t.Parallel()
	wantClean(t, as(t, filled(t), "lastseat_viewer"))
}

// readOnly fails the test if the audit opens anything but a read-only transaction on one snapshot.
type readOnly struct {
	audit.Beginner
	t *testing.T
}

func (r readOnly) BeginTx(ctx context.Context, options pgx.TxOptions) (pgx.Tx, error) {
	if options.AccessMode != pgx.ReadOnly || options.IsoLevel != pgx.RepeatableRead {
		r.t.Errorf("the audit runs with %v", options)
	}
	return r.Beginner.BeginTx(ctx, options)
}

func TestReadsOneSnapshotOnly(t *testing.T) {
	t.Parallel()
	pool := filled(t)
	const image = `SELECT md5(string_agg(row, ' ' ORDER BY row))
		FROM (SELECT r::text FROM lastseat.requests r UNION ALL SELECT e::text FROM lastseat.entries e
		UNION ALL SELECT a::text FROM lastseat.accounts a UNION ALL SELECT j::text
		  FROM lastseat.river_job j UNION ALL SELECT p::text FROM lastseat.payments p UNION ALL SELECT r::text
		    FROM lastseat.resources r
		UNION ALL SELECT v::text FROM lastseat.reservations v UNION ALL SELECT i::text
		  FROM lastseat.reservation_items i) rows(row)`
	var before, after string
	if err := pool.QueryRow(t.Context(), image).Scan(&before); err != nil {
		t.Fatal(err)
	}
	wantClean(t, readOnly{pool, t})
	if err := pool.QueryRow(t.Context(), image).Scan(&after); err != nil || before != after {
		t.Errorf("the audit has changed something (%v)", err)
	}
}

func TestErrorNamesTheCheck(t *testing.T) {
	t.Parallel()
	ok, err := audit.Run(t.Context(), testdb.Pool(t, testdb.Empty(t)), func(f audit.Finding) {
		t.Errorf("reported %v",
			f)
	})
	if ok || err == nil || !strings.Contains(err.Error(), audit.Checks[0].Name) {
		t.Errorf("in a database without the schema: %t, %v", ok, err)
	}
}

func TestManyViolationsAreCut(t *testing.T) {
	t.Parallel()
	pool := filled(t)
	exec(t, pool, `INSERT INTO lastseat.requests (key, kind, fingerprint, job_id) SELECT 'k' || n, 'toy', '', -n
		FROM generate_series(1, 100) n`)
	ok, findings := run(t, pool)
	if got := findings["requests.job"].Violations; ok || len(got) != 20 {
		t.Errorf("%d violations are told, want the first 20", len(got))
	}
}

// An audit sees one snapshot, and every batch is one transaction: whatever a worker is at, all rules hold.
func TestCleanWhileDraining(t *testing.T) {
	t.Parallel()
	pool := filled(t)
	exec(t, pool, `SELECT lastseat.hold('hold-x' || n, 'x'
		|| n, jsonb_build_array(jsonb_build_object('resource', (ARRAY['night', 'seat', 'spare', 'pit'])[1 + n % 4])),
		  customer => 'c' || n % 7, wait => n % 3 = 0),
		CASE WHEN n % 5 = 0 THEN lastseat.confirm('confirm-x' || n, 'x' || n) END, CASE WHEN n % 6 > 0
		  THEN lastseat.cancel('cancel-x' || n, 'x' || n - n % 3) END
		FROM generate_series(3, 600) n`)
	exec(t, pool, `SELECT lastseat.transfer('x' || n, CASE WHEN n % 3 = 0 THEN 'ada' ELSE 'bank' END, CASE WHEN n % 3 = 0
		THEN 'ben' ELSE 'ada' END, 1 + n % 70, 'EUR')
		FROM generate_series(1, 2000) n`)
	done := make(chan error, 1)
	w := worker(pool, outbox.Settings{Batch: 20})
	go func() { done <- w.Drain(t.Context()) }()
	audits, during := 0, 0
	for drained := false; !drained; audits++ {
		select {
		case err := <-done:
			if err != nil {
				t.Fatal(err)
			}
			drained = true
		default:
		}
		before := w.Stats().Batches
		wantClean(t, pool)
		if w.Stats().Batches > before {
			during++
		}
	}
	if during == 0 {
		t.Errorf("none of %d audits ran while a batch was settled", audits)
	}
}

// corruption breaks a rule past everything that guards it.
type corruption struct {
	check string   // that finds it
	also  []string // others that can't but find it, too
	name  string
	sql   string
	row   string // what the violation says of the row
}

// unguarded takes away what would refuse the corruption.
const unguarded = `
	ALTER TABLE lastseat.accounts DROP CONSTRAINT accounts_within_limit, DROP CONSTRAINT accounts_held_check;
	ALTER TABLE lastseat.requests DROP CONSTRAINT requests_settled_with_code, DROP CONSTRAINT requests_status_check;
	ALTER TABLE lastseat.payments DROP CONSTRAINT payments_amount_check, DROP CONSTRAINT payments_amount_captured_check,
	  DROP CONSTRAINT payments_amount_refunded_check,
		DROP CONSTRAINT payments_status_check, DROP CONSTRAINT payments_two_accounts,
		  DROP CONSTRAINT payments_captured_at_most, DROP CONSTRAINT payments_refunded_at_most,
		DROP CONSTRAINT payments_captured_has_amount;
	ALTER TABLE lastseat.resources DROP CONSTRAINT resources_within_capacity;
	ALTER TABLE lastseat.reservations DROP CONSTRAINT reservations_status_check;
	ALTER TABLE lastseat.reservation_items DROP CONSTRAINT reservation_items_overlap,
	  DROP CONSTRAINT reservation_items_occupies, DROP CONSTRAINT reservation_items_whole,
		DROP CONSTRAINT reservation_items_quantity_check, DROP CONSTRAINT reservation_items_position_check;
	ALTER TABLE lastseat.transfers DROP CONSTRAINT transfers_amount_check, DROP CONSTRAINT transfers_key_leg_key;
	DROP INDEX lastseat.transfers_reversed_once;`

// logged has what a corruption has settled in the log of outcomes: that it is not is a corruption of its own.
const logged = `;
	INSERT INTO lastseat.outcome_log (timeline, settled_at, keys) SELECT 1, settled_at, array_agg(key)
	  FROM lastseat.requests r
	WHERE settled_at IS NOT NULL AND NOT EXISTS (SELECT FROM lastseat.outcome_log l WHERE l.settled_at = r.settled_at
	  AND r.key = ANY (l.keys)) GROUP BY settled_at`

// settled makes a request.
func settled(key, kind, status, code, reservation string) string {
	return fmt.Sprintf(`INSERT INTO lastseat.requests (key, kind, fingerprint, job_id, status, code, settled_at)
		VALUES ('%[1]s', '%[2]s', lastseat.fingerprint('%[2]s', '{"reservation": "%[5]s"}'), 0, '%[3]s', '%[4]s',
		  now())`, key, kind, status, code, reservation)
}

// closingOf closes the first account at its first entry, with figures that are given.
func closingOf(through, balance string) string {
	return `ALTER TABLE lastseat.closings DROP CONSTRAINT IF EXISTS closings_version_check;
		INSERT INTO lastseat.closings SELECT account_id, version, ` + balance + `, transfer_id, ` + through + `
		FROM lastseat.entries WHERE account_id = 'ada' AND version = 1`
}

// openCall makes a call that was to send {}.
func openCall(key, kind string, step int, body string) string {
	return fmt.Sprintf(`INSERT INTO lastseat.calls (key, step, kind, target, operation, call_key, body, body_hash, job_id)
		VALUES ('%s', %d, '%s', 'bank', 'x', repeat('0', 64), '%s', sha256('{}'), 0)`, key, step, kind, body)
}

var corruptions = slices.Concat(moneyCorruptions, inventoryCorruptions)

var moneyCorruptions = []corruption{
	{"transfers.balanced", nil, "amount changed", `UPDATE lastseat.transfers SET amount = 501 WHERE key = 't1'`,
		"(key t1): 2 entries, sum 0, amount 501"},
	{"transfers.balanced", nil, "accounts exchanged", `UPDATE lastseat.transfers SET from_account = to_account,
		to_account = from_account WHERE key = 't2'`, "(key t2)"},
	{"transfers.balanced", nil, "no entries", `INSERT INTO lastseat.transfers (id, key, from_account, to_account, amount,
		currency) VALUES (99, 'n', 'bank', 'ada', 3, 'EUR');
		INSERT INTO lastseat.requests (key, kind, fingerprint, job_id, status, code, settled_at)
		  VALUES ('n', 'payment.transfer', '', 0, 'applied', 'transferred', now())`, "transfer 99 (key n): 0 entries"},
	{"transfers.balanced", nil, "a third entry, and a fourth", `INSERT INTO lastseat.entries VALUES
		('ada', 3, (SELECT id FROM lastseat.transfers WHERE key = 't1'), 5, 305), ('ben', 3, (SELECT id
		  FROM lastseat.transfers WHERE key = 't1'), -5, -105);
		UPDATE lastseat.accounts SET balance = 305, version = 3, entry_count = 3 WHERE id = 'ada';
		UPDATE lastseat.accounts SET balance = -105, version = 3, entry_count = 3, overdraft_limit = 200
		  WHERE id = 'ben'`, "(key t1): 4 entries"},
	{"transfers.amount", nil, "a negative amount, the other way", `UPDATE lastseat.transfers SET amount = -amount,
		from_account = to_account, to_account = from_account WHERE key = 't1'`, "(key t1): -"},
	{"transfers.legs", []string{"requests.effect"}, "a key twice",
		`UPDATE lastseat.transfers SET key = 't1' WHERE key = 't2'`, "key t1: 2 transfers, with the legs 1, 1"},
	{"transfers.legs", nil, "no first leg", `UPDATE lastseat.transfers SET leg = 2 WHERE key = 't1'`,
		"key t1: 1 transfers, with the legs 2"},
	{"transfers.legs", []string{"requests.effect"}, "a gap", `UPDATE lastseat.transfers SET key = 't1', leg = 3
		WHERE key = 't2'`, "key t1: 2 transfers, with the legs 1, 3"},
	{"transfers.reversed", []string{"requests.effect"}, "of no transfer", `UPDATE lastseat.transfers SET reverses_id = 99
		WHERE key = 't1'`, "(key t1) reverses 99: there is none"},
	{"transfers.reversed", []string{"requests.effect"}, "not the opposite",
		`UPDATE lastseat.transfers SET reverses_id = (SELECT id FROM lastseat.transfers WHERE key = 't2') WHERE key = 't1'`,
		"(key t1)"},
	{"transfers.reversed", []string{"requests.effect"}, "twice", `UPDATE lastseat.transfers SET reverses_id = (SELECT id
		FROM lastseat.transfers WHERE key = 't2') WHERE key IN ('t1', 't4')`, "2 transfers do"},
	{"transfers.reversed", nil, "a reversal", `UPDATE lastseat.transfers SET reverses_id = (SELECT id
		FROM lastseat.transfers WHERE key = 'undo') WHERE key = 't6';
		UPDATE lastseat.requests SET kind = 'payment.reverse' WHERE key = 't6'`, "a reversal itself"},
	{"transfers.reversed", []string{"payments.transfers"}, "a payment's transfer",
		`UPDATE lastseat.transfers SET payment_id = 'held' WHERE key = 't5'`, "of payment held"},
	{"transfers.reversed", []string{"payments.transfers"}, "by a payment's transfer",
		`UPDATE lastseat.transfers SET payment_id = 'held' WHERE key = 'undo'`, "of payment held"},
	{"entries.of_transfer", nil, "entries of no transfer", `INSERT INTO lastseat.entries VALUES ('ada', 3, 99, 5, 305),
		('bank', 3, 99, -5, -205);
		UPDATE lastseat.accounts SET balance = 305, version = 3, entry_count = 3 WHERE id = 'ada';
		UPDATE lastseat.accounts SET balance = -205, version = 3, entry_count = 3
		  WHERE id = 'bank'`, "entry 3 of account ada: there is no transfer 99"},
	{"entries.chain", nil, "balance_after changed", `UPDATE lastseat.entries SET balance_after = 499
		WHERE account_id = 'ada' AND version = 1`, "entry 1 of account ada"},
	{"entries.chain", []string{"accounts.balance"}, "a gap", `UPDATE lastseat.entries SET version = 5
		WHERE account_id = 'ada' AND version = 2`, "entry 5 of account ada: after entry 1"},
	{"entries.chain", nil, "back in time", `UPDATE lastseat.entries SET created_at = '2001-02-03 12:00Z'
		WHERE account_id = 'ada'
		  AND version = 2`,
		"entry 2 of account ada: after entry 1 with balance 500 comes amount -200, balance 300; 2001-02-03"},
	{"accounts.balance", nil, "balance moved without a transfer",
		`UPDATE lastseat.accounts SET balance = balance + CASE id WHEN 'ada' THEN 5 ELSE -5 END WHERE id IN ('ada', 'bank')`,
		"account ada: balance 305, entries sum to 300"},
	{"accounts.balance", nil, "entry_count", `UPDATE lastseat.accounts SET version = 9, entry_count = 3 WHERE id = 'ada'`,
		"account ada: balance 300, entries sum to 300; 2 entries, entry_count 3"},
	{"accounts.balance", nil, "version behind", `UPDATE lastseat.accounts SET version = 1 WHERE id = 'ada'`,
		"account ada"},
	{"accounts.balance", nil, "an entry uncounted", `UPDATE lastseat.accounts SET entry_count = 1 WHERE id = 'ada'`,
		"account ada: balance 300, entries sum to 300; 2 entries, entry_count 1"},
	{"accounts.balance", []string{"entries.chain"}, "last balance_after", `UPDATE lastseat.entries SET balance_after = 301
		WHERE account_id = 'ada' AND version = 2`, "account ada"},
	{"accounts.balance", []string{"transfers.currency", "money.conserved"}, "account gone",
		`DELETE FROM lastseat.accounts WHERE id = 'tom'`, "account tom"},
	{"accounts.limit", nil, "limit lowered", `UPDATE lastseat.accounts SET overdraft_limit = 199 WHERE id = 'bank'`,
		"account bank: balance -200, held 0, overdraft limit 199"},
	{"accounts.limit", []string{"accounts.held"}, "held below zero",
		`UPDATE lastseat.accounts SET held = -1 WHERE id = 'idle'`, "account idle: balance 0, held -1"},
	{"accounts.limit", []string{"accounts.held"}, "held below zero, unbounded",
		`UPDATE lastseat.accounts SET held = -1 WHERE id = 'bank'`, "account bank"},
	{"accounts.limit", []string{"accounts.held"}, "held beyond the limit",
		`UPDATE lastseat.accounts SET held = 301 WHERE id = 'ada'`, "account ada: balance 300, held 301"},
	{"accounts.held", nil, "held by nobody", `UPDATE lastseat.accounts SET held = 1 WHERE id = 'ada'`,
		"account ada: held 1"},
	{"accounts.held", nil, "authorized without a hold", `UPDATE lastseat.accounts SET held = 0 WHERE id = 'purse'`,
		"account purse: held 0, its authorizations sum to 100"},
	{"accounts.held", []string{"payments.authorize", "payments.currency"}, "authorized on no account",
		`UPDATE lastseat.payments SET from_account = 'nobody' WHERE id = 'held'`,
		"account nobody: held 0, its authorizations sum to 100"},
	// It follows from accounts.balance, transfers.balanced and transfers.currency: nothing breaks it alone.
	{"money.conserved", []string{"accounts.balance"}, "money from nowhere",
		`UPDATE lastseat.accounts SET balance = balance + 5 WHERE id = 'tom'`, "USD: balances sum to 5"},
	{"transfers.currency", nil, "currency changed", `UPDATE lastseat.transfers SET currency = 'JPY' WHERE key = 't4'`,
		"in JPY: account mint is in USD, account tom in USD"},
	{"transfers.currency", []string{"money.conserved"}, "an account's currency changed",
		`UPDATE lastseat.accounts SET currency = 'JPY' WHERE id = 'tom'`, "account tom in JPY"},
	{"payments.amounts", []string{"payments.authorize"}, "no amount",
		`UPDATE lastseat.payments SET amount = 0 WHERE id = 'open'`, "payment open: pending, amount 0"},
	{"payments.amounts", []string{"payments.authorize"}, "one account",
		`UPDATE lastseat.payments SET to_account = from_account WHERE id = 'open'`, "from card to card"},
	{"payments.amounts", []string{"payments.authorize"}, "more captured than authorized",
		`UPDATE lastseat.payments SET amount = 799 WHERE id = 'paid'`, "amount 799 from card to shop, captured 800"},
	{"payments.amounts", []string{"payments.transfers"}, "more refunded than captured",
		`UPDATE lastseat.payments SET amount_refunded = 801 WHERE id = 'paid'`, "captured 800, refunded 801"},
	{"payments.amounts", []string{"payments.transfers"}, "refunded below zero",
		`UPDATE lastseat.payments SET amount_refunded = -1 WHERE id = 'paid'`, "refunded -1"},
	{"payments.amounts", []string{"payments.transfers"}, "captured below zero",
		`UPDATE lastseat.payments SET amount_captured = -1 WHERE id = 'held'`, "captured -1"},
	{"payments.amounts", []string{"payments.transfers"}, "captured, and not by its status",
		`UPDATE lastseat.payments SET amount_captured = 5 WHERE id = 'held'`, "payment held: authorized"},
	{"payments.amounts", []string{"accounts.held"}, "captured by its status only",
		`UPDATE lastseat.payments SET status = 'captured' WHERE id = 'held'`, "payment held: captured"},
	{"payments.amounts", []string{"payments.voided"}, "no such status", `UPDATE lastseat.payments SET status = 'lost'
		WHERE id = 'voided'`, "payment voided: lost"},
	{"payments.currency", nil, "the giver's", `UPDATE lastseat.accounts SET currency = 'JPY' WHERE id = 'purse'`,
		"payment held in EUR: account purse is in JPY, account till in EUR"},
	{"payments.currency", nil, "the taker's", `UPDATE lastseat.accounts SET currency = 'JPY' WHERE id = 'till'`,
		"account till in JPY"},
	{"payments.currency", nil, "no account", `DELETE FROM lastseat.accounts WHERE id = 'till'`, "account till in"},
	{"payments.transfers", nil, "captured", `UPDATE lastseat.payments SET amount_captured = 799 WHERE id = 'paid'`,
		"payment paid (captured): captured 799, refunded 150; 3 transfers name it, 1 capture 800, 2 refund 150"},
	{"payments.transfers", nil, "refunded", `UPDATE lastseat.payments SET amount_refunded = 0 WHERE id = 'paid'`,
		"payment paid (captured): captured 800, refunded 0"},
	{"payments.transfers", nil, "captured without a transfer", `UPDATE lastseat.transfers SET payment_id = NULL
		WHERE key = 'capture'; UPDATE lastseat.requests SET kind = 'payment.transfer'
		  WHERE key = 'capture'`, "0 capture 0, 2 refund 150"},
	{"payments.transfers", nil, "captured twice", `UPDATE lastseat.transfers SET payment_id = 'paid'
		WHERE key = 't6'; UPDATE lastseat.requests SET kind = 'payment.capture' WHERE key = 't6';
		UPDATE lastseat.payments SET amount_captured = 860 WHERE id = 'paid'`, "2 capture 860"},
	{"payments.transfers", nil, "other accounts", `UPDATE lastseat.transfers SET payment_id = 'paid' WHERE key = 't1'`,
		"4 transfers name it"},
	{"payments.transfers", nil, "no payment", `UPDATE lastseat.transfers SET payment_id = 'nobody' WHERE key = 't1'`,
		"payment nobody (there is none)"},
	{"payments.transfers", []string{"transfers.currency"}, "a capture's currency",
		`UPDATE lastseat.transfers SET currency = 'USD' WHERE key = 'capture'`, "0 capture 0, 2 refund 150"},
	{"payments.transfers", []string{"transfers.currency"}, "a refund's currency",
		`UPDATE lastseat.transfers SET currency = 'USD' WHERE key = 'refund'`, "1 refund 50"},
	{"payments.authorize", nil, "applied without a payment", `INSERT INTO lastseat.requests (key, kind, fingerprint,
		job_id, status, code, settled_at) VALUES ('n', 'payment.authorize', '', 0, 'applied', 'authorized',
		  now())`, "request n is applied (authorized), and there is no payment"},
	{"payments.authorize", nil, "rejected without a payment", `DELETE FROM lastseat.payments WHERE id = 'declined'`,
		"request ask-declined is rejected (insufficient_funds), and there is no payment"},
	{"payments.authorize", nil, "a payment that nobody asked for",
		`DELETE FROM lastseat.requests WHERE key = 'ask-declined'`,
		"payment declined (100000 EUR from ada to shop) is declined, its request ask-declined is not there"},
	{"payments.authorize", nil, "asked for by another kind", `UPDATE lastseat.requests SET kind = 'toy'
		WHERE key = 'ask-declined'`, "its request ask-declined is not there"},
	{"payments.authorize", nil, "another amount", `UPDATE lastseat.payments SET amount = 71 WHERE id = 'open'`,
		"payment open (71 EUR from card to shop) is pending, its request ask-open is for another"},
	{"payments.authorize", nil, "another currency", `UPDATE lastseat.payments SET currency = 'USD' WHERE id = 'open'`,
		"for another"},
	{"payments.authorize", nil, "another giver", `UPDATE lastseat.payments SET from_account = 'ada' WHERE id = 'open'`,
		"for another"},
	{"payments.authorize", nil, "another taker", `UPDATE lastseat.payments SET to_account = 'ada' WHERE id = 'open'`,
		"for another"},
	{"payments.authorize", nil, "two payments under one key", `INSERT INTO lastseat.payments (id, key, from_account,
		to_account, amount, currency, expires_at)
		SELECT 'twin', key, from_account, to_account, amount, currency, expires_at FROM lastseat.payments
		  WHERE id = 'open'`, "payment twin"},
	{"payments.authorize", []string{"accounts.held"}, "pending, and asked for with success",
		`UPDATE lastseat.payments SET status = 'pending' WHERE id = 'held'`, "is pending, its request ask-held is applied"},
	{"payments.authorize", nil, "pending, and refused", `UPDATE lastseat.payments SET status = 'pending'
		WHERE id = 'declined'`, "is pending, its request ask-declined is rejected"},
	{"payments.authorize", nil, "declined before its request is settled",
		`UPDATE lastseat.payments SET status = 'declined' WHERE id = 'open'`, "is declined, its request ask-open is pending"},
	{"payments.authorize", []string{"accounts.held"}, "authorized before its request is settled",
		`UPDATE lastseat.payments SET status = 'authorized' WHERE id = 'open'`,
		"is authorized, its request ask-open is pending"},
	{"payments.voided", nil, "nobody asked", `DELETE FROM lastseat.requests WHERE key = 'void'`,
		"payment voided is voided: 0 applied requests ask for it"},
	{"payments.voided", nil, "another kind asked", `UPDATE lastseat.requests SET kind = 'toy' WHERE key = 'void'`,
		"payment voided is voided: 0 applied requests ask for it"},
	{"payments.voided", nil, "its request is rejected", `UPDATE lastseat.requests SET status = 'rejected'
		WHERE key = 'void'`, "payment voided is voided: 0 applied requests ask for it"},
	{"payments.voided", nil, "twice", `UPDATE lastseat.requests SET status = 'applied' WHERE key = 'void-again'`,
		"payment voided is voided: 2 applied requests ask for it"},
	{"payments.voided", nil, "applied without effect", `INSERT INTO lastseat.requests (key, kind, fingerprint, job_id,
		status, code, settled_at) VALUES ('n', 'payment.void', '', 0, 'applied', 'voided',
		  now())`, "request n is applied, and its payment is not voided"},
	{"payments.voided", []string{"accounts.held"}, "not voided after all",
		`UPDATE lastseat.payments SET status = 'authorized' WHERE id = 'voided'`,
		"request void is applied, and its payment is not voided"},
	{"payments.expired", nil, "no record", `DELETE FROM lastseat.requests WHERE key = 'lastseat:payment.expire:expired'`,
		"payment expired is expired: its record lastseat:payment.expire:expired is not there"},
	{"payments.expired", nil, "its record is not applied", `UPDATE lastseat.requests SET status = 'rejected'
		WHERE key = 'lastseat:payment.expire:expired'`,
		"payment expired is expired: its record lastseat:payment.expire:expired is rejected"},
	{"payments.expired", nil, "a record of nothing", `INSERT INTO lastseat.requests (key, kind, fingerprint, job_id,
		status, code, settled_at) VALUES ('lastseat:payment.expire:n', 'payment.expire', '', 0, 'applied', 'expired',
		  now())`, "request lastseat:payment.expire:n is applied, and its payment is not expired"},
	{"payments.expired", nil, "a record under another key", `INSERT INTO lastseat.requests (key, kind, fingerprint,
		job_id, status, code, settled_at) VALUES ('n', 'payment.expire', '', 0, 'applied', 'expired',
		  now())`, "request n is applied, and its payment is not expired"},
	{"payments.overdue", nil, "only later requests wait", `UPDATE lastseat.payments SET expires_at = '2001-02-03 12:00Z'
		WHERE id = 'held'`, "payment held is authorized, and was to expire at 2001-02-03"},
	{"payments.overdue", nil, "nothing waits", `UPDATE lastseat.payments SET expires_at = now() - interval '1 hour'
		WHERE id = 'held'; UPDATE lastseat.river_job SET state = 'scheduled', scheduled_at = now() - interval '2 hours'
		  WHERE state = 'available'`, "is a worker running?"},
	{"payments.overdue", nil, "what waits has no time",
		`UPDATE lastseat.payments SET expires_at = now() - interval '1 hour' WHERE id = 'held'; UPDATE lastseat.river_job
			SET scheduled_at = '-infinity' WHERE state = 'available'`, "payment held"},
	{"payments.overdue", nil, "another queue waits", `UPDATE lastseat.payments SET expires_at = now() - interval '1 hour'
		WHERE id = 'held'; UPDATE lastseat.river_job SET queue = 'toys', scheduled_at = now() - interval '2 hours'
		  WHERE state = 'available'`, "payment held"},
	{"payments.overdue", nil, "no job at all", `UPDATE lastseat.payments SET expires_at = now() - interval '11 seconds'
		WHERE id = 'held'; UPDATE lastseat.requests SET status = 'failed', code = 'job_cancelled', settled_at = now()
		  WHERE status = 'pending'; DELETE FROM lastseat.river_job`, "payment held"},
	{"requests.effect", nil, "applied without a transfer", `INSERT INTO lastseat.requests (key, kind, fingerprint, job_id,
		status, code, settled_at) VALUES ('n', 'payment.transfer', '', 0, 'applied', 'transferred',
		  now())`, "request n is applied (transferred), and there is no transfer"},
	{"requests.effect", nil, "captured without a transfer", `INSERT INTO lastseat.requests (key, kind, fingerprint,
		job_id, status, code, settled_at) VALUES ('n', 'payment.capture', '', 0, 'applied', 'captured',
		  now())`, "request n is applied (captured), and there is no transfer"},
	{"requests.effect", nil, "refunded without a transfer", `INSERT INTO lastseat.requests (key, kind, fingerprint,
		job_id, status, code, settled_at) VALUES ('n', 'payment.refund', '', 0, 'applied', 'refunded',
		  now())`, "request n is applied (refunded), and there is no transfer"},
	{"requests.effect", nil, "reversed without a transfer", `INSERT INTO lastseat.requests (key, kind, fingerprint,
		job_id, status, code, settled_at) VALUES ('n', 'payment.reverse', '', 0, 'applied', 'reversed',
		  now())`, "request n is applied (reversed), and there is no transfer"},
	{"requests.effect", nil, "a transfer of a payment that a plain request asked for",
		`UPDATE lastseat.requests SET kind = 'payment.transfer' WHERE key = 'capture'`,
		"(key capture): its request is payment.transfer, applied"},
	{"requests.effect", nil, "a capture that a refund asked for", `UPDATE lastseat.requests SET kind = 'payment.refund'
		WHERE key = 'capture'`, "(key capture): its request is payment.refund, applied"},
	{"requests.effect", nil, "a refund that a capture asked for", `UPDATE lastseat.requests SET kind = 'payment.capture'
		WHERE key = 'refund'`, "(key refund): its request is payment.capture, applied"},
	{"requests.effect", nil, "a reversal that a plain request asked for",
		`UPDATE lastseat.requests SET kind = 'payment.transfer' WHERE key = 'undo'`,
		"(key undo): its request is payment.transfer, applied"},
	{"requests.effect", nil, "a plain transfer that a reversal asked for",
		`UPDATE lastseat.requests SET kind = 'payment.reverse' WHERE key = 't1'`,
		"(key t1): its request is payment.reverse, applied"},
	{"requests.effect", nil, "no reversal any more",
		`UPDATE lastseat.transfers SET reverses_id = NULL WHERE key = 'undo'`,
		"(key undo): its request is payment.reverse, applied"},
	{"requests.effect", nil, "rejected with a transfer", `UPDATE lastseat.requests SET status = 'rejected',
		code = 'insufficient_funds' WHERE key = 't1'`, "(key t1): its request is payment.transfer, rejected"},
	{"requests.effect", nil, "transfer without a request", `DELETE FROM lastseat.requests WHERE key = 't1'`,
		"(key t1): its request is not there"},
	{"requests.effect", nil, "transfer under another request's kind",
		`UPDATE lastseat.requests SET kind = 'toy' WHERE key = 't1'`, "(key t1)"},
	{"requests.outcome", nil, "no code", `UPDATE lastseat.requests SET code = NULL WHERE key = 't1'`,
		"request t1: status applied"},
	{"requests.outcome", nil, "no time", `UPDATE lastseat.requests SET settled_at = NULL WHERE key = 'refused'`,
		"request refused: status rejected"},
	{"requests.outcome", nil, "a code while pending", `UPDATE lastseat.requests SET code = 'transferred'
		WHERE key = 'waiting'`, "request waiting: status pending, code transferred"},
	{"requests.outcome", nil, "no such status", `UPDATE lastseat.requests SET status = 'lost' WHERE key = 'refused'`,
		"request refused: status lost"},
	{"requests.job", nil, "a pending request's job is gone", `DELETE FROM lastseat.river_job
		WHERE args ->> 'key' = 'waiting'`, "request waiting is pending, its job"},
	{"requests.job", nil, "a pending request's job carries another key", `UPDATE lastseat.river_job SET args = args
		|| '{"key": "x"}' WHERE args ->> 'key' = 'waiting'`, "request waiting is pending, its job"},
	{"requests.job", nil, "a pending request's job is finished", `UPDATE lastseat.river_job SET state = 'completed',
		finalized_at = now() WHERE args ->> 'key' = 'later'`, "request later is pending"},
	{"accounts.clearing", []string{"accounts.balance", "money.conserved"}, "money that nobody has under way",
		`INSERT INTO lastseat.accounts (id, currency, balance) VALUES ('lastseat:clearing:x:EUR', 'EUR', 5)`,
		"balance 5, in flight 0"},
	{"payments.cleared", []string{"payments.authorize", "requests.cleared"}, "by card, past the clearing account",
		`UPDATE lastseat.payments SET processor = 'x', method = 'm' WHERE id = 'paid'`, "payment paid (captured by x)"},
	{"payments.calling", []string{"payments.authorize"}, "its processor is asked, and nobody has asked for that",
		`UPDATE lastseat.payments SET processor = 'x', method = 'm', calling = 'nobody' WHERE id = 'declined'`,
		"payment declined (declined) asks x for request nobody, which is not there"},
	{"payments.calling", []string{"payments.authorize"}, "its processor is asked for what is settled",
		`UPDATE lastseat.payments SET processor = 'x', method = 'm', calling = 't1' WHERE id = 'declined'`,
		"asks x for request t1, which is payment.transfer, applied"},
	{"accounts.held", []string{"payments.authorize"}, "a processor is asked to authorize, and nothing is held",
		`UPDATE lastseat.payments SET processor = 'x', method = 'm', calling = 'ask-open' WHERE id = 'open'`,
		"account card: held 0, its authorizations sum to 70"},
	{"requests.cleared", []string{"payments.authorize"}, "charged without a transfer",
		settled("c", "payment.charge", "applied", "charged", "x"), "request c is payment.charge, applied: 0 transfers"},
	{"requests.calls", nil, "an open call of a settled request", openCall("t1", "payment.transfer", 1, "{}"),
		"call 1 of request t1 (bank)"},
	{"requests.calls", nil, "a call that nobody asked for", openCall("nobody", "toy", 1, "{}"),
		"its request is not there"},
	{"requests.calls", nil, "a call is missing", openCall("waiting", "payment.transfer", 2, "{}"),
		"call 2 of request waiting"},
	{"requests.calls", nil, "another body", openCall("waiting", "payment.transfer", 1, "[]"),
		"call 1 of request waiting"},
	{"requests.job", nil, "a settled request's job waits", `UPDATE lastseat.river_job SET state = 'available',
		finalized_at = NULL WHERE args ->> 'key' = 'cancelled'`, "request cancelled is failed"},
	{"closings.entries", nil, "another time", closingOf("created_at - interval '1 second'", "balance_after"),
		"closing of account ada at entry 1"},
	{"closings.entries", []string{"accounts.balance"}, "another balance", closingOf("created_at", "balance_after + 1"),
		"the entry has balance 500"},
	{"closings.entries", nil, "of no account", `INSERT INTO lastseat.closings VALUES ('nobody', 1, 0, 1, now())`,
		"closing of account nobody at entry 1: balance 0 after transfer 1"},
	{"closings.entries", []string{"accounts.balance"}, "of an entry that never was",
		`INSERT INTO lastseat.closings VALUES ('idle', 1, 0, 1, now())`, "the account has 0 entries"},
	{"closings.entries", nil, "against the order of time", closingOf("created_at", "balance_after") + `;
		INSERT INTO lastseat.closings SELECT 'ada', 0, 0, 0, created_at + interval '1 second' FROM lastseat.entries
		WHERE account_id = 'ada' AND version = 1`, "closing of account ada at entry 1: balance 500"},
	{"removed.ids", nil, "an id that was not removed", `INSERT INTO lastseat.removed_ids VALUES ('payments', 'gone')`,
		"payment gone: its id may not be used again, and it was not removed"},
	{"removed.ids", nil, "an id that may be used again", `INSERT INTO lastseat.history
		(chain, number, at, relation, keys, digests, hash) SELECT 'retention', 1 + coalesce(max(number), 0), now(),
		'payments.removed', '{gone@2}', ARRAY['\x00'::bytea], '\x00' FROM lastseat.history WHERE chain = 'retention'`,
		"payment gone: it was removed, and its id may be used again"},
}

func TestCorruptionsAreFound(t *testing.T) {
	t.Parallel()
	pool := filled(t)
	for _, c := range corruptions {
		t.Run(c.check+"/"+c.name, func(t *testing.T) {
			sql := unguarded + c.sql
			if c.check != "requests.logged" {
				sql += logged
			}
			_, findings := run(t, past{pool, sql})
			var found []string
			for name, f := range findings {
				if !f.OK && !findsTampering(name) {
					found = append(found, name)
				}
				if f.OK != (len(f.Violations) == 0) {
					t.Errorf("%s: ok is %t with %v", name, f.OK, f.Violations)
				}
			}
			want := append([]string{c.check}, c.also...)
			slices.Sort(want)
			if slices.Sort(found); !slices.Equal(found, want) {
				t.Errorf("found by %v, want %v", found, want)
			}
			if told := strings.Join(findings[c.check].Violations, "\n"); !strings.Contains(told, c.row) {
				t.Errorf("the violation is %q, without %q", told, c.row)
			}
		})
	}
	wantClean(t, pool)
}

func TestEveryCheckHasACorruption(t *testing.T) {
	t.Parallel()
	names := make(map[string]bool)
	for _, check := range audit.Checks {
		if names[check.Name] || check.Rule == "" {
			t.Errorf("%s is there twice, or has no rule", check.Name)
		}
		names[check.Name] = true
		if findsTampering(check.Name) {
			continue // TestTamperingIsFound
		}
		if !slices.ContainsFunc(corruptions, func(c corruption) bool { return c.check == check.Name }) {
			t.Errorf("no corruption shows that %s finds anything", check.Name)
		}
	}
	for _, c := range corruptions {
		if !names[c.check] {
			t.Errorf("there is no check %s", c.check)
		}
	}
}
