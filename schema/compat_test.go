package schema_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/fstest"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/lastseat/lastseat/internal/testdb"
	"github.com/lastseat/lastseat/schema"
)

// The statements of the previous binary: copied from its packages outbox and jobs (commit 08e1071), and not to be
// changed.
const (
	previousEnqueue  = `SELECT r.key, r.kind, r.status, r.duplicate FROM lastseat.enqueue($1, $2, $3::jsonb, $4, $5) r`
	previousTransfer = `SELECT r.key, r.kind, r.status, r.duplicate FROM lastseat.transfer($1, $2, $3, $4, $5) r`
	previousClaim    = `
	WITH claimed AS MATERIALIZED (
		SELECT j.id, j.kind, j.args, j.attempt, j.max_attempts, CASE WHEN isfinite(j.created_at) THEN j.created_at
		  ELSE now() END AS created_at, coalesce(cardinality(j.errors), 0) AS error_count,
		       j.priority, j.scheduled_at, k.usable, CASE WHEN k.usable THEN j.args ->> 'key' ELSE 'river_job:'
		         || j.id END AS key
		FROM lastseat.river_job j, LATERAL (SELECT coalesce(jsonb_typeof(j.args -> 'key') = 'string'
		  AND char_length(j.args ->> 'key') BETWEEN 1 AND 200 AND NOT starts_with(j.args ->> 'key', 'river_job:')
		    AND NOT starts_with(j.args ->> 'key', 'lastseat:'), false)) AS k(usable)
		WHERE j.state = 'available' AND j.queue = @queue AND j.scheduled_at <= now()
		  AND NOT EXISTS (SELECT FROM lastseat.river_queue q WHERE q.name = @queue AND q.paused_at IS NOT NULL)
		ORDER BY j.priority, j.scheduled_at, j.id
		LIMIT @limit
		FOR UPDATE OF j SKIP LOCKED
	)
	SELECT c.id, c.kind, c.args, c.attempt, c.max_attempts, CASE WHEN isfinite(c.scheduled_at) THEN c.scheduled_at
	  ELSE now() END, c.created_at, c.error_count, c.key, c.usable, now(),
	       coalesce(r.job_id, 0), coalesce(r.status, ''), r.fingerprint,
	       CASE WHEN r.job_id = c.id THEN NULL ELSE lastseat.fingerprint(c.kind, c.args) END,
	       CASE WHEN r.job_id = c.id OR NOT c.usable THEN 0 ELSE octet_length((c.args - 'key')::text) END
	FROM claimed c
	LEFT JOIN lastseat.requests r ON r.key = c.key
	ORDER BY c.priority, c.scheduled_at, c.id`
	previousLoadAccounts = `
	SELECT id, currency, balance, held, overdraft_limit, version, entry_count, updated_at
	FROM lastseat.accounts WHERE id = ANY ($1::text[]) ORDER BY id FOR NO KEY UPDATE`
	previousInsertTransfers = `
	INSERT INTO lastseat.transfers (id, key, from_account, to_account, amount, currency, payment_id, reverses_id,
	  description, metadata)
	SELECT id, key, from_account, to_account, amount, currency, nullif(payment, ''), nullif(reverses, 0),
	  nullif(description, ''), nullif(metadata, '')::jsonb
	FROM unnest(@ids::bigint[], @keys::text[], @from::text[], @to::text[], @amounts::bigint[], @currencies::text[],
	            @payments::text[], @reverses::bigint[], @descriptions::text[], @metadata::text[])
	     AS t(id, key, from_account, to_account, amount, currency, payment, reverses, description, metadata)`
	previousInsertEntries = `
	INSERT INTO lastseat.entries (account_id, version, transfer_id, amount, balance_after, created_at)
	SELECT * FROM unnest(@accounts::text[], @versions::bigint[], @transfers::bigint[], @amounts::bigint[],
	  @balances::bigint[], @times::timestamptz[])`
	previousUpdateAccounts = `
	UPDATE lastseat.accounts a
	SET balance = n.balance, held = n.held, version = n.version, entry_count = n.entry_count, updated_at = n.updated_at
	FROM unnest(@ids::text[], @balances::bigint[], @held::bigint[], @versions::bigint[], @entry_counts::bigint[],
	  @times::timestamptz[])
	     AS n(id, balance, held, version, entry_count, updated_at)
	WHERE a.id = n.id`
	previousOutcome = `
	UPDATE lastseat.requests r
	SET status = o.status, code = o.code, detail = o.detail::jsonb, attempts = o.attempts, settled_at = now()
	FROM unnest(@keys::text[], @statuses::text[], @codes::text[], @details::text[], @attempts::int[])
	     AS o(key, status, code, detail, attempts)
	WHERE r.key = o.key AND r.status = 'pending'`
	previousDelete = `DELETE FROM lastseat.river_job WHERE id = ANY (@ids::bigint[])`
)

// newer is a release after this one: it has another migration and a newer set of functions. enqueue has an argument
// more, so that it is dropped and made anew; the others are replaced.
func newer(t *testing.T) fs.FS {
	t.Helper()
	return changed(t, map[string]func(string) string{
		"functions/requests.sql": replace(t, "queue text DEFAULT 'lastseat'",
			"queue text DEFAULT 'lastseat', note text DEFAULT NULL"),
		"migrations/0005_notes.up.sql": func(string) string {
			return "ALTER TABLE lastseat.requests ADD COLUMN note text;\n"
		},
		"migrations/0005_notes.down.sql": func(string) string { return "ALTER TABLE lastseat.requests DROP COLUMN note;\n" },
	})
}

// changed is this release's files with some of them changed, or added.
func changed(t *testing.T, changes map[string]func(string) string) fs.FS {
	t.Helper()
	files := fstest.MapFS{}
	for _, pattern := range []string{"migrations/*.sql", "functions/*.sql"} {
		paths, err := fs.Glob(schema.Files(), pattern)
		if err != nil {
			t.Fatal(err)
		}
		for _, path := range paths {
			text, err := fs.ReadFile(schema.Files(), path)
			if err != nil {
				t.Fatal(err)
			}
			files[path] = &fstest.MapFile{Data: text}
		}
	}
	for path, change := range changes {
		before := ""
		if file := files[path]; file != nil {
			before = string(file.Data)
		}
		files[path] = &fstest.MapFile{Data: []byte(change(before))}
	}
	return files
}

func replace(t *testing.T, what, with string) func(string) string {
	return func(text string) string {
		t.Helper()
		if !strings.Contains(text, what) {
			t.Fatalf("%q is not in the file", what)
		}
		return strings.ReplaceAll(text, what, with)
	}
}

// Producers and a worker of the previous binary go on while migrate up puts a newer release in place: what they get
// is, at the most, an error that goes away when the transaction is repeated, and nothing is lost. A previous program
// that is started after the migration is another thing: worker run refuses a newer schema (exit 78), enqueue does
// not.
func TestPreviousVersionGoesOn(t *testing.T) {
	t.Parallel()
	address := testdb.New(t)
	pool := testdb.Pool(t, address)
	exec(t, pool, `SELECT lastseat.open_account('bank', 'EUR', NULL), lastseat.open_account('ada', 'EUR')`)
	var all, settler sync.WaitGroup
	var asked, repeated, settled atomic.Int64
	stop, drained := make(chan struct{}), make(chan struct{})
	over := func(done chan struct{}) bool {
		select {
		case <-done:
			return true
		default:
			return t.Context().Err() != nil
		}
	}
	// passing tells whether err goes away when the transaction is repeated.
	passing := func(err error) bool {
		repeated.Add(1)
		return slices.Contains([]string{"40001", "40P01", "0A000", "XX000"}, sqlState(err))
	}
	for p := range 3 {
		conn := connect(t, pool, "lastseat_producer")
		all.Go(func() {
			for n := 0; !over(stop); n++ {
				key := fmt.Sprintf("%d-%d", p, n)
				ask := func() (err error) {
					if p == 0 {
						_, err = conn.Exec(t.Context(), previousTransfer, key, "bank", "ada", 1, "EUR")
					} else {
						_, err = conn.Exec(t.Context(), previousEnqueue, "payment.transfer", key,
							`{"from": "bank", "to": "ada", "amount": 1, "currency": "EUR"}`, time.Unix(0, 0), "lastseat")
					}
					return err
				}
				err := ask()
				for try := 0; err != nil && passing(err) && try < 5; try++ {
					err = ask()
				}
				if err != nil {
					t.Errorf("%s: %v", key, err)
					return
				}
				asked.Add(1)
				time.Sleep(2 * time.Millisecond)
			}
		})
	}
	conn := connect(t, pool, "lastseat_worker")
	settler.Go(func() {
		for failures := 0; ; {
			n, err := settleAsPrevious(t.Context(), conn)
			settled.Add(int64(n))
			switch {
			case err != nil && (!passing(err) || failures > 20):
				t.Errorf("the worker: %v", err)
				return
			case err != nil:
				failures++
			case n == 0 && over(drained):
				return
			case n == 0:
				time.Sleep(time.Millisecond)
			}
		}
	})
	wait := func(what string, n int64) {
		for from, end := asked.Load(), time.Now().Add(30*time.Second); asked.Load() < from+n; time.Sleep(time.Millisecond) {
			if time.Now().After(end) {
				t.Errorf("%s: nobody asks any more", what)
				return
			}
		}
	}
	wait("before", 50)
	if steps, err := schema.UpTo(t.Context(), address, newer(t), 99); err != nil || len(steps) != 2 ||
		steps[0].Name != "0005_notes" {
		t.Errorf("up: %v, %v", steps, err)
	}
	wait("after", 100)
	close(stop)
	all.Wait()
	close(drained)
	settler.Wait()
	t.Logf("%d requests, %d transactions repeated", asked.Load(), repeated.Load())

	if n := scalar[int64](t, pool,
		`SELECT count(*) FROM lastseat.requests WHERE status = 'applied'`); n != asked.Load() || settled.Load() != n {
		t.Errorf("%d applied and %d settled of %d", n, settled.Load(), asked.Load())
	}
	if n := scalar[int64](t, pool, `SELECT balance FROM lastseat.accounts WHERE id = 'ada'`); n != asked.Load() {
		t.Errorf("ada has %d of %d", n, asked.Load())
	}
	version := (*schema.VersionError)(nil)
	if err := schema.Check(t.Context(), pool); !errors.As(err, &version) || !version.Newer() {
		t.Errorf("check of the newer release: %v", err)
	}
	// and all of it is in the feed
	cursor, got := "", 0
	for end := time.Now().Add(30 * time.Second); got < int(asked.Load()) &&
		time.Now().Before(end); time.Sleep(5 * time.Millisecond) {
		got += len(feed(t, pool, &cursor, 1000))
	}
	if got != int(asked.Load()) {
		t.Errorf("%d outcomes in the feed, want %d", got, asked.Load())
	}
}

// settleAsPrevious settles a batch of transfers from bank to ada as the lane of the previous binary does, and
// returns how many.
func settleAsPrevious(ctx context.Context, conn *pgx.Conn) (int, error) {
	tx, err := conn.BeginTx(ctx, pgx.TxOptions{IsoLevel: pgx.Serializable})
	if err != nil {
		return 0, err
	}
	defer func() { _ = tx.Rollback(context.WithoutCancel(ctx)) }()
	rows, err := tx.Query(ctx, previousClaim, pgx.NamedArgs{"queue": "lastseat", "limit": 20})
	if err != nil {
		return 0, err
	}
	var ids []int64
	var keys []string
	if _, err := pgx.CollectRows(rows, func(row pgx.CollectableRow) (struct{}, error) {
		values, err := row.Values()
		if err == nil {
			ids, keys = append(ids, values[0].(int64)), append(keys, values[8].(string))
		}
		return struct{}{}, err
	}); err != nil || len(ids) == 0 {
		return 0, err
	}
	type account struct{ balance, held, version, entries int64 }
	accounts, names := map[string]*account{}, []string{"ada", "bank"}
	if rows, err = tx.Query(ctx, previousLoadAccounts, names); err != nil {
		return 0, err
	}
	if _, err := pgx.CollectRows(rows, func(row pgx.CollectableRow) (struct{}, error) {
		values, err := row.Values()
		if err == nil {
			accounts[values[0].(string)] = &account{values[2].(int64), values[3].(int64), values[5].(int64), values[6].(int64)}
		}
		return struct{}{}, err
	}); err != nil {
		return 0, err
	}
	n := len(ids)
	var now time.Time
	if err := tx.QueryRow(ctx, `SELECT now()`).Scan(&now); err != nil {
		return 0, err
	}
	repeat := func(value string) []string { return slices.Repeat([]string{value}, n) }
	transferIDs := make([]int64, n)
	var entryAccounts []string
	var versions, transfers, amounts, balances []int64
	for i := range ids {
		if err := tx.QueryRow(ctx, `SELECT nextval('lastseat.transfers_id_seq')`).Scan(&transferIDs[i]); err != nil {
			return 0, err
		}
	}
	for _, name := range names {
		a, amount := accounts[name], map[string]int64{"bank": -1, "ada": 1}[name]
		for i := range ids {
			a.balance += amount
			a.entries++
			entryAccounts, versions, transfers = append(entryAccounts, name), append(versions, a.entries), append(transfers,
				transferIDs[i])
			amounts, balances = append(amounts, amount), append(balances, a.balance)
		}
		a.version++
	}
	ada, bank := accounts["ada"], accounts["bank"]
	detail, _ := json.Marshal(map[string]int{"amount": 1})
	batch := &pgx.Batch{}
	batch.Queue(previousInsertTransfers, pgx.NamedArgs{"ids": transferIDs, "keys": keys, "from": repeat("bank"),
		"to": repeat("ada"), "amounts": slices.Repeat([]int64{1}, n), "currencies": repeat("EUR"), "payments": repeat(""),
		"reverses": make([]int64, n), "descriptions": repeat(""), "metadata": repeat("")})
	batch.Queue(previousInsertEntries, pgx.NamedArgs{"accounts": entryAccounts, "versions": versions,
		"transfers": transfers, "amounts": amounts, "balances": balances, "times": slices.Repeat([]time.Time{now},
			len(versions))})
	batch.Queue(previousUpdateAccounts, pgx.NamedArgs{"ids": names, "balances": []int64{ada.balance, bank.balance},
		"held": []int64{ada.held, bank.held}, "versions": []int64{ada.version, bank.version},
		"entry_counts": []int64{ada.entries, bank.entries}, "times": []time.Time{now, now}})
	batch.Queue(previousOutcome, pgx.NamedArgs{"keys": keys, "statuses": repeat("applied"),
		"codes": repeat("transferred"), "details": repeat(string(detail)), "attempts": slices.Repeat([]int{1}, n)})
	batch.Queue(previousDelete, pgx.NamedArgs{"ids": ids})
	if err := tx.SendBatch(ctx, batch).Close(); err != nil {
		return 0, err
	}
	return n, tx.Commit(ctx)
}
