package audit_test

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/lastseat/lastseat/internal/audit"
	"github.com/lastseat/lastseat/internal/clitest"
	"github.com/lastseat/lastseat/internal/retention"
	"github.com/lastseat/lastseat/outbox"
)

const keys = `SELECT string_agg(key, ' ' ORDER BY id) FROM lastseat.transfers`

func drop(t *testing.T, pool *pgxpool.Pool, kinds ...string) {
	t.Helper()
	for _, kind := range kinds {
		call(t, pool, `keep('`+kind+`', 0)`)
	}
}

// forgotten passes until the requests of all transfers are gone, but for reversals if they are kept. The feed holds
// requests back as long as an older transaction is open, in any database of the server.
func forgotten(t *testing.T, pool *pgxpool.Pool) {
	t.Helper()
	clitest.Eventually(t, "the requests are gone", func() bool {
		removeOld(t, pool, 1000)
		return text(t, pool, `SELECT count(*) FROM lastseat.transfers t JOIN lastseat.requests r USING (key)
			WHERE NOT EXISTS (SELECT FROM lastseat.retention k WHERE k.what = 'requests:' || r.kind AND k.days IS NULL)`) == "0"
	})
}

// refusedWith runs sql, which has to fail with a code and a text.
func refusedWith(t *testing.T, db interface {
	QueryRow(ctx context.Context, sql string, args ...any) pgx.Row
}, code, what, sql string, args ...any) {
	t.Helper()
	var n any
	err := db.QueryRow(t.Context(), sql, args...).Scan(&n)
	if err == nil || !strings.Contains(err.Error(), "(SQLSTATE "+code) || !strings.Contains(err.Error(), what) {
		t.Errorf("%s %v: %v, want %s %s", sql, args, err, code, what)
	}
}

// Transfers go once they are closed and nothing needs them, with their entries; the audit proves the rest, and names
// what is changed or taken away beside it. Their keys move no money again.
func TestTransfersAreRemoved(t *testing.T) {
	t.Parallel()
	pool := filled(t)
	drain(t, pool)
	before := text(t, pool, `SELECT string_agg(concat_ws(' ', id, balance, held, entry_count), ', ' ORDER BY id)
		FROM lastseat.accounts`)
	all := count(t, pool, "transfers")
	drop(t, pool, "payments", "reservations", "transfers")
	if removed := removeOld(t, pool, 3); removed.Transfers != 0 || removed.Closings == 0 {
		t.Fatalf("with all requests kept %+v was removed", removed)
	}
	drop(t, pool, "requests")
	call(t, pool, `keep('requests:payment.reverse', NULL)`)
	call(t, pool, `keep('transfers', NULL)`)
	forgotten(t, pool)
	drop(t, pool, "transfers")
	removed := removeOld(t, pool, 3)
	if got := text(t, pool, keys); got != "t5 undo book-undone reverse-undone" || removed.Transfers != all-4 {
		t.Errorf("left are %s, removed %+v of %d", got, removed, all)
	}
	if got := text(t, pool, `SELECT count(*) FROM lastseat.entries`); got != "8" {
		t.Errorf("%s entries are left", got)
	}
	if after := text(t, pool, `SELECT string_agg(concat_ws(' ', id, balance, held, entry_count), ', ' ORDER BY id)
		FROM lastseat.accounts`); after != before {
		t.Errorf("the accounts are %s, want %s", after, before)
	}
	if got := text(t, pool, `SELECT count(*) FROM lastseat.retention() WHERE removed_before > now()`); got != "0" {
		t.Errorf("of %s tables what is to come may be gone", got)
	}
	wantClean(t, pool)
	proof := &audit.Continuous{}
	roundIsClean(t, proof, pool)
	call(t, pool, `transfer('after-1', 'ada', 'ben', 3, 'EUR')`, `transfer('after-2', 'card', 'shop', 4, 'EUR')`)
	drain(t, pool)
	wantClean(t, pool)
	roundIsClean(t, proof, pool)
	for _, c := range []tampering{
		{"one that stays", `DELETE FROM lastseat.entries WHERE transfer_id = (SELECT id FROM lastseat.transfers
			WHERE key = 'undo'); DELETE FROM lastseat.transfers WHERE key = 'undo'`, "transfer"},
		{"its entries", `DELETE FROM lastseat.entries WHERE transfer_id = (SELECT id FROM lastseat.transfers
			WHERE key = 'undo')`, "(key undo): 0 entries"},
		{"one after the closing", `DELETE FROM lastseat.entries WHERE transfer_id = (SELECT id FROM lastseat.transfers
			WHERE key = 'after-1'); DELETE FROM lastseat.transfers WHERE key = 'after-1'`, "account ada: balance"},
		{"one comes back", `INSERT INTO lastseat.transfers (id, key, from_account, to_account, amount, currency)
			VALUES (1, 't1', 'bank', 'ada', 500, 'EUR')`, "transfer 1 (key t1): it was removed"},
		{"no links", `DELETE FROM lastseat.history WHERE relation = 'transfers.removed'`, "was settled, and is not there"},
		{"other digests", `UPDATE lastseat.history SET digests[1] = digests[2] WHERE relation = 'transfers.removed'
			AND cardinality(keys) > 1`,
			"was changed before it was removed"},
		{"a key is free again", `DELETE FROM lastseat.removed_ids WHERE id = 't1'`,
			"transfer t1: it was removed, and its id may be used again"},
		{"a balance", `UPDATE lastseat.closings SET balance = balance + 1 WHERE account_id = 'tom';
			UPDATE lastseat.accounts SET balance = balance + 1 WHERE id = 'tom'`, "closing of account tom at entry 1"},
		{"no closing", `DELETE FROM lastseat.closings WHERE account_id = 'tom'`, "account tom: balance 900"},
	} {
		if found := told(t, past{pool, c.sql}); !strings.Contains(found, c.row) {
			t.Errorf("%s: %q is not named: %s", c.name, c.row, found)
		}
	}
	keysOfRemoved(t, pool)
}

// keysOfRemoved uses the keys of transfers that are gone.
func keysOfRemoved(t *testing.T, pool *pgxpool.Pool) {
	t.Helper()
	const moved = `key "t1" has moved money`
	refusedWith(t, pool, "LS001", moved, `SELECT lastseat.transfer('t1', 'bank', 'ada', 500, 'EUR')`)
	refusedWith(t, pool, "LS001", moved, `SELECT lastseat.enqueue('toy', 't1', '{}')`)
	refusedWith(t, pool, "LS001", moved, `SELECT lastseat.enqueue_many('[{"kind": "payment.transfer", "key": "t1",
		"args": {"from": "bank", "to": "ada", "amount": 500, "currency": "EUR"}}]')`)
	refusedWith(t, pool, "LS003", "is no longer kept", `SELECT lastseat.reverse('back', 't1')`)
	exec(t, pool, `INSERT INTO lastseat.river_job (kind, queue, max_attempts, args)
		VALUES ('payment.transfer', 'lastseat', 1,
		'{"key": "t1", "from": "bank", "to": "ada", "amount": 500, "currency": "EUR"}')`)
	drain(t, pool)
	if got := text(t, pool, keys); strings.Contains(" "+got+" ", " t1 ") {
		t.Errorf("a job that came past the functions has moved money again: %s", got)
	}
	// asked for while the transfer was there, and settled when it is gone
	call(t, pool, `reverse('late', 'after-1')`)
	forgotten(t, pool)
	removeOld(t, pool, 1000)
	drain(t, pool)
	if got := text(t, pool, `SELECT concat_ws(' ', status, code) FROM lastseat.requests WHERE key = 'late'`); got !=
		"rejected payment_not_found" {
		t.Errorf("the late reversal is %s", got)
	}
	wantClean(t, pool)
}

// oneTransfer is a database with one transfer, t, that may go, and with more of them.
func oneTransfer(t *testing.T, more ...string) *pgxpool.Pool {
	t.Helper()
	pool := filled(t)
	drain(t, pool)
	drop(t, pool, "requests", "payments")
	forgotten(t, pool)
	drop(t, pool, "transfers")
	removeOld(t, pool, 1000)
	call(t, pool, `keep('transfers', NULL)`)
	for _, key := range append([]string{"t"}, more...) {
		call(t, pool, `transfer('`+key+`', 'bank', 'ada', 5, 'EUR')`)
	}
	drain(t, pool)
	forgotten(t, pool)
	call(t, pool, `keep('requests', NULL)`) // and the feed stays, which the barrier of a lane locks
	drop(t, pool, "transfers")
	return pool
}

// A lane whose snapshot is from before the first removal ever moves no money again under a key that goes meanwhile.
func TestKeyOfWhatIsRemovedNow(t *testing.T) {
	t.Parallel()
	pool := filled(t)
	drain(t, pool)
	drop(t, pool, "requests", "payments")
	forgotten(t, pool)
	drop(t, pool, "transfers")
	for _, level := range []pgx.TxIsoLevel{pgx.RepeatableRead, pgx.Serializable} {
		tx, err := pool.BeginTx(t.Context(), pgx.TxOptions{IsoLevel: level})
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = tx.Rollback(context.WithoutCancel(t.Context())) }()
		if _, err := tx.Exec(t.Context(), `SELECT FROM lastseat.accounts`); err != nil {
			t.Fatal(err)
		}
		defer refusedWith(t, tx, "23505", `key "t1" has moved money`, `
			INSERT INTO lastseat.transfers (id, key, from_account, to_account, amount, currency)
			VALUES (nextval('lastseat.transfers_id_seq'), 't1', 'bank', 'ada', 500, 'EUR') RETURNING id`)
	}
	removeOld(t, pool, 1000)
	if got := text(t, pool, `SELECT count(*) FROM lastseat.removed_ids WHERE id = 't1'`); got != "1" {
		t.Fatal("t1 was not removed")
	}
}

// A reversal that a lane has written keeps what it reverses, though nobody else sees it yet.
func TestReversalKeepsItsTransfer(t *testing.T) {
	t.Parallel()
	pool := oneTransfer(t)
	call(t, pool, `reverse('back', 't')`)
	release := settling(t, pool)
	keeper := retention.New(as(t, pool, "lastseat_keeper"), retention.Settings{Rows: 1000, Pause: 1})
	_, err := keeper.Pass(t.Context())
	if err == nil || !strings.Contains(err.Error(), "1 of 1 transfers may not be removed") {
		t.Errorf("beside a reversal: %v", err)
	}
	release()
	if got := text(t, pool, keys); got != "t back" {
		t.Errorf("left are %s", got)
	}
	wantClean(t, pool)
	drop(t, pool, "requests")
	forgotten(t, pool)
	removeOld(t, pool, 1000)
	if got := text(t, pool, keys); got != "" {
		t.Errorf("left are %s", got)
	}
	wantClean(t, pool)
}

// held is a pass of retention that has locked what it removes, and can't go on before release is called.
func held(t *testing.T, pool *pgxpool.Pool, archive string) (release func(), ended chan error) {
	t.Helper()
	barrier, err := pool.Begin(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if _, err := barrier.Exec(t.Context(), `LOCK TABLE lastseat.removed_ids IN EXCLUSIVE MODE`); err != nil {
		t.Fatal(err)
	}
	ended = make(chan error, 1)
	keeper := retention.New(as(t, pool, "lastseat_keeper"),
		retention.Settings{Rows: 1000, Pause: 1, LockTimeout: 20 * time.Second, Archive: archive})
	go func() {
		_, err := keeper.Pass(context.WithoutCancel(t.Context()))
		ended <- err
	}()
	clitest.Eventually(t, "the keeper waits at the barrier", func() bool {
		return text(t, pool, `SELECT count(*) FROM pg_locks l JOIN pg_database d ON d.oid = l.database
			WHERE d.datname = current_database() AND l.relation = 'lastseat.removed_ids'::regclass AND NOT l.granted`) == "1"
	})
	return func() {
		t.Helper()
		if err := barrier.Rollback(t.Context()); err != nil {
			t.Error(err)
		}
	}, ended
}

// A lane that is about to reverse what a keeper removes in this moment waits for the keeper, and finds it gone.
func TestReversalOfWhatIsRemovedNow(t *testing.T) {
	t.Parallel()
	pool := oneTransfer(t)
	call(t, pool, `reverse('back', 't')`)
	release, ended := held(t, pool, "")
	settled := make(chan error, 1)
	w := worker(pool, outbox.Settings{})
	go func() { settled <- w.Drain(context.WithoutCancel(t.Context())) }()
	clitest.Eventually(t, "the lane waits for the transfer", func() bool {
		return text(t, pool, `SELECT count(*) FROM pg_stat_activity a WHERE a.datname = current_database()
			AND a.wait_event_type = 'Lock' AND a.wait_event IN ('transactionid', 'tuple')`) == "1"
	})
	release()
	if err := <-ended; err != nil {
		t.Error(err)
	}
	if err := <-settled; err != nil {
		t.Error(err)
	}
	if got := text(t, pool, `SELECT concat_ws(' ', status, code) FROM lastseat.requests WHERE key = 'back'`); got !=
		"rejected payment_not_found" {
		t.Errorf("the reversal is %s", got)
	}
	wantClean(t, pool)
}

// A keeper that is killed between closing and removing has closed, and has removed nothing. The next one goes on.
func TestKeeperKilledBetweenTheSteps(t *testing.T) {
	t.Parallel()
	pool := oneTransfer(t)
	release, ended := held(t, pool, "")
	exec(t, pool, `SELECT pg_terminate_backend(l.pid) FROM pg_locks l JOIN pg_database d ON d.oid = l.database
		WHERE d.datname = current_database() AND l.relation = 'lastseat.removed_ids'::regclass AND NOT l.granted`)
	if err := <-ended; err == nil {
		t.Error("the keeper was not killed")
	}
	release()
	if got := text(t, pool, keys); got != "t" {
		t.Errorf("left are %s", got)
	}
	if got := text(t, pool, `SELECT count(*) FROM lastseat.closings WHERE account_id = 'ada'`); got != "2" {
		t.Errorf("the account has %s closings", got)
	}
	wantClean(t, pool)
	removeOld(t, pool, 1000)
	if got := text(t, pool, keys); got != "" {
		t.Errorf("left are %s", got)
	}
	wantClean(t, pool)
}

// A pass looks at no transfer whose request is there for sure: of all of them, or of those since the last that is gone.
func TestPassEndsWhereRequestsAreKept(t *testing.T) {
	t.Parallel()
	pool := filled(t)
	drain(t, pool)
	drop(t, pool, "transfers")
	exec(t, pool, `REVOKE EXECUTE ON FUNCTION lastseat.removable FROM lastseat_keeper`) // or it is refused
	removeOld(t, pool, 1000)
	exec(t, pool, `INSERT INTO lastseat.removed (what, before) VALUES ('requests', '2020-01-01Z')`)
	removeOld(t, pool, 1000)
	exec(t, pool, `UPDATE lastseat.removed SET before = now() WHERE what = 'requests'`)
	_, err := retention.New(as(t, pool, "lastseat_keeper"), retention.Settings{Rows: 1000}).Pass(t.Context())
	if err == nil || !strings.Contains(err.Error(), "permission denied for function removable") {
		t.Errorf("with requests that are gone: %v", err)
	}
}

// Whoever may remove can't remove what is not closed, not too old, or needed.
func TestKeeperRemovesNoOtherTransfer(t *testing.T) {
	t.Parallel()
	pool := filled(t)
	drain(t, pool)
	keeper := as(t, pool, "lastseat_keeper")
	const removal = `SELECT lastseat.remove_transfers($1, array_fill('\x00'::bytea, ARRAY[cardinality($1::text[])]),
		1 + coalesce((SELECT max(number) FROM lastseat.history WHERE chain = 'retention'), 0), now(), '\x00')`
	names := func(keys ...string) (all []string) {
		for _, key := range keys {
			all = append(all, text(t, pool, `SELECT id || ' ' || key FROM lastseat.transfers WHERE key = '`+key+`'`))
		}
		return all
	}
	refused := func(what ...string) {
		t.Helper()
		refusedWith(t, keeper, "40001", "may not be removed", removal, append([]string{}, what...))
	}
	refused(names("t1")...) // nothing says how long
	drop(t, pool, "requests", "transfers")
	refused(names("t1")...) // not closed, and its request is there
	call(t, pool, `keep('requests:payment.capture', NULL)`, `keep('transfers', 1)`)
	forgotten(t, pool)
	refused(names("t1")...) // of today
	call(t, pool, `keep('transfers', 0)`)
	refused(names("t1")...) // not closed
	closeAll(t, pool, keeper)
	refused(names("capture")...)         // its request is there
	refused(names("refund")...)          // its payment is there
	refused(names("undo")...)            // without what it reverses
	refused(names("t5")...)              // without its reversal
	refused(names("t1", "capture")...)   // one of two
	refused("1 t2", "999 t1", "1", "1 ") // not what is there
	refused([]string{}...)
	refusedWith(t, keeper, "23505", "", removal, append(names("t1"), names("t1")...))
	refusedWith(t, keeper, "42501", "", `DELETE FROM lastseat.entries RETURNING 1`)
	refusedWith(t, keeper, "42501", "", `DELETE FROM lastseat.transfers RETURNING 1`)
	refusedWith(t, pool, "23000", "DELETE of lastseat.entries", `DELETE FROM lastseat.entries RETURNING 1`)
	refusedWith(t, pool, "23000", "DELETE of lastseat.transfers", `DELETE FROM lastseat.transfers RETURNING 1`)
	tx, err := keeper.BeginTx(t.Context(), pgx.TxOptions{IsoLevel: pgx.RepeatableRead})
	if err != nil {
		t.Fatal(err)
	}
	refusedWith(t, tx, "LS002", "READ COMMITTED", removal, names("t1"))
	if err := tx.Rollback(t.Context()); err != nil {
		t.Fatal(err)
	}
	wantClean(t, pool)
}

// closeAll closes the accounts, and removes nothing: another one has locked the list of keys that are gone.
func closeAll(t *testing.T, pool *pgxpool.Pool, keeper *pgx.Conn) {
	t.Helper()
	barrier, err := pool.Begin(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = barrier.Rollback(context.WithoutCancel(t.Context())) }()
	if _, err := barrier.Exec(t.Context(), `LOCK TABLE lastseat.removed_ids IN EXCLUSIVE MODE`); err != nil {
		t.Fatal(err)
	}
	removing := retention.New(keeper, retention.Settings{Rows: 1000, Pause: 1, LockTimeout: 10 * time.Millisecond})
	if _, err := removing.Pass(t.Context()); err == nil {
		t.Fatal("nothing was to be removed")
	}
}

// toldWith are the violations that the audit finds with an archive.
func toldWith(t *testing.T, db audit.Beginner, archive string) string {
	t.Helper()
	var told []string
	if _, err := audit.RunObserved(t.Context(), db, audit.Observer{
		Archive: archive, Report: func(f audit.Finding) { told = append(told, f.Violations...) },
	}); err != nil {
		t.Fatal(err)
	}
	return strings.Join(told, "\n")
}

// A second keeper with the same archive leaves the file alone that the first one is about to need.
func TestTwoKeepersWithOneArchive(t *testing.T) {
	t.Parallel()
	pool := oneTransfer(t, "u")
	dir := t.TempDir()
	release, ended := held(t, pool, dir)
	second := retention.New(as(t, pool, "lastseat_keeper"),
		retention.Settings{Rows: 1, Pause: 1, LockTimeout: time.Millisecond, Archive: dir})
	if _, err := second.Pass(t.Context()); err == nil {
		t.Error("the second keeper was not in the way of the first")
	}
	release()
	if err := <-ended; err != nil {
		t.Error(err)
	}
	if told := toldWith(t, pool, dir); strings.Contains(told, dir) {
		t.Error(told)
	}
}

// Archived transfers are proven from their files, in both formats; a file that was changed is named.
func TestArchivedTransfersAreProven(t *testing.T) {
	t.Parallel()
	pool := filled(t)
	call(t, pool, `transfer('odd', 'bank', 'ada', 1, 'EUR', E'a "b"\r\n,c é', '{"x": [1.50, "\u00e9"]}')`)
	drain(t, pool)
	drop(t, pool, "requests", "payments")
	dir := t.TempDir()
	for _, format := range []string{"csv.gz", "parquet"} {
		forgotten(t, pool)
		drop(t, pool, "transfers")
		_, err := retention.New(as(t, pool, "lastseat_keeper"),
			retention.Settings{Rows: 10, Pause: 1, Archive: dir, Format: format}).Pass(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		call(t, pool, `keep('transfers', NULL)`, `transfer('more-`+format+`', 'bank', 'ada', 1, 'EUR', E'\r', '{}')`)
		drain(t, pool)
	}
	prove := func() string { return toldWith(t, pool, dir) }
	if told := prove(); told != "" {
		t.Fatal(told)
	}
	for _, pattern := range []string{"transfers-*.csv.gz", "transfers-*.parquet"} {
		files, _ := filepath.Glob(filepath.Join(dir, pattern))
		if len(files) == 0 {
			t.Fatalf("no %s", pattern)
		}
		whole, err := os.ReadFile(files[0])
		if err != nil {
			t.Fatal(err)
		}
		whole[len(whole)/3] ^= 1
		if err := os.WriteFile(files[0], whole, 0o600); err != nil {
			t.Fatal(err)
		}
		if told := prove(); !strings.Contains(told, files[0]) {
			t.Errorf("%s was changed, and it says %q", files[0], told)
		}
	}
}

// Whoever raises a balance, and the last entry with it, is found by the archive when the entries have gone.
func TestArchiveAddsUpToTheClosings(t *testing.T) {
	t.Parallel()
	pool := filled(t)
	drain(t, pool)
	drop(t, pool, "requests", "payments")
	forgotten(t, pool)
	const closing = "closing of account tom at entry 1: balance 901; 1 entries are in the archive or there, with the sum 9"
	exec(t, pool, `ALTER TABLE lastseat.entries DISABLE TRIGGER USER; ALTER TABLE lastseat.accounts DISABLE TRIGGER USER;
		UPDATE lastseat.entries e SET balance_after = e.balance_after + CASE e.account_id WHEN 'tom' THEN 1 ELSE -1 END
		FROM lastseat.accounts a WHERE a.id = e.account_id AND e.version = a.entry_count AND a.id IN ('tom', 'mint');
		UPDATE lastseat.accounts SET balance = balance + CASE id WHEN 'tom' THEN 1 ELSE -1 END WHERE id IN ('tom', 'mint');
		ALTER TABLE lastseat.entries ENABLE TRIGGER USER; ALTER TABLE lastseat.accounts ENABLE TRIGGER USER`)
	drop(t, pool, "transfers")
	dir := t.TempDir()
	_, err := retention.New(as(t, pool, "lastseat_keeper"),
		retention.Settings{Rows: 3, Pause: 1, Archive: dir}).Pass(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if found := toldWith(t, pool, dir); !strings.Contains(found, closing) {
		t.Errorf("%q is not named: %s", closing, found)
	}
	for _, c := range []tampering{
		{"no closing", `DELETE FROM lastseat.closings WHERE account_id = 'tom'`,
			"account tom: it has transfers in the archive"},
		{"another version", `UPDATE lastseat.closings SET version = 2 WHERE account_id = 'tom'`,
			"tom at entry 2: balance 901; 1"},
	} {
		if found := toldWith(t, past{pool, c.sql}, dir); !strings.Contains(found, c.row) {
			t.Errorf("%s: %q is not named: %s", c.name, c.row, found)
		}
	}
}
