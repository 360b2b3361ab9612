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

// The ledger's way in and out of the database: one statement for each table.

const (
	// In the order of the primary key, as everybody should who locks more than one: then nobody waits in a circle.
	loadAccountsSQL = `
	SELECT id, currency, balance, held, overdraft_limit, version, entry_count, updated_at
	FROM lastseat.accounts WHERE id = ANY ($1::text[]) ORDER BY id FOR NO KEY UPDATE`

	// Not locked: a transfer is never changed, and requests to reverse it share a lane.
	loadTransfersSQL = `
	SELECT t.id, t.key, t.from_account, t.to_account, t.amount, t.currency, coalesce(t.payment_id, ''), t.reverses_id IS NOT NULL, coalesce(r.key, '')
	FROM lastseat.transfers t LEFT JOIN lastseat.transfers r ON r.reverses_id = t.id
	WHERE t.key = ANY ($1::text[])`

	pendingSQL = `SELECT key FROM lastseat.requests WHERE key = ANY ($1::text[]) AND status = 'pending'`

	insertTransfersSQL = `
	INSERT INTO lastseat.transfers (id, key, from_account, to_account, amount, currency, payment_id, reverses_id, description, metadata)
	SELECT id, key, from_account, to_account, amount, currency, nullif(payment, ''), nullif(reverses, 0), nullif(description, ''), nullif(metadata, '')::jsonb
	FROM unnest(@ids::bigint[], @keys::text[], @from::text[], @to::text[], @amounts::bigint[], @currencies::text[],
	            @payments::text[], @reverses::bigint[], @descriptions::text[], @metadata::text[])
	     AS t(id, key, from_account, to_account, amount, currency, payment, reverses, description, metadata)`

	insertEntriesSQL = `
	INSERT INTO lastseat.entries (account_id, version, transfer_id, amount, balance_after, created_at)
	SELECT * FROM unnest(@accounts::text[], @versions::bigint[], @transfers::bigint[], @amounts::bigint[], @balances::bigint[], @times::timestamptz[])`

	updateAccountsSQL = `
	UPDATE lastseat.accounts a
	SET balance = n.balance, held = n.held, version = n.version, entry_count = n.entry_count, updated_at = n.updated_at
	FROM unnest(@ids::text[], @balances::bigint[], @held::bigint[], @versions::bigint[], @entry_counts::bigint[], @times::timestamptz[])
	     AS n(id, balance, held, version, entry_count, updated_at)
	WHERE a.id = n.id`
)

// loadAccounts locks and reads all accounts that the batch needs.
func (l *ledger) loadAccounts(ctx context.Context, tx pgx.Tx) error {
	if len(l.accounts) == 0 {
		return nil
	}
	rows, err := tx.Query(ctx, loadAccountsSQL, slices.Sorted(maps.Keys(l.accounts)))
	if err != nil {
		return fmt.Errorf("lock accounts: %w", err)
	}
	a := &account{}
	_, err = pgx.ForEachRow(rows, []any{&a.id, &a.currency, &a.balance, &a.held, &a.overdraft, &a.version, &a.entries, &a.updatedAt}, func() error {
		loaded := *a
		l.accounts[a.id] = &loaded
		return nil
	})
	if err != nil {
		return fmt.Errorf("lock accounts: %w", err)
	}
	return nil
}

// loadTransfers reads the transfers that are to be reversed, and needs their accounts.
func (l *ledger) loadTransfers(ctx context.Context, tx pgx.Tx) error {
	if len(l.byKey) == 0 {
		return nil
	}
	rows, err := tx.Query(ctx, loadTransfersSQL, slices.Sorted(maps.Keys(l.byKey)))
	if err != nil {
		return fmt.Errorf("read transfers: %w", err)
	}
	t, reversal := &transfer{}, false
	_, err = pgx.ForEachRow(rows, []any{&t.id, &t.key, &t.from, &t.to, &t.amount, &t.currency, &t.payment, &reversal, &t.reversedBy}, func() error {
		loaded := *t
		if reversal {
			loaded.reverses = &transfer{}
		}
		l.byKey[t.key] = &loaded
		l.needAccounts(t.from, t.to)
		return nil
	})
	if err != nil {
		return fmt.Errorf("read transfers: %w", err)
	}
	return l.loadPending(ctx, tx)
}

// loadPending finds out which of the transfers that are not there may still come.
func (l *ledger) loadPending(ctx context.Context, tx pgx.Tx) error {
	missing := missingIn(l.byKey)
	if len(missing) == 0 {
		return nil
	}
	rows, err := tx.Query(ctx, pendingSQL, missing)
	if err != nil {
		return fmt.Errorf("read requests: %w", err)
	}
	pending, err := pgx.CollectRows(rows, pgx.RowTo[string])
	if err != nil {
		return fmt.Errorf("read requests: %w", err)
	}
	for _, key := range pending {
		l.pending[key] = true
	}
	return nil
}

// number gives every new transfer its id.
func (l *ledger) number(ctx context.Context, tx pgx.Tx) error {
	if len(l.transfers) == 0 {
		return nil
	}
	rows, err := tx.Query(ctx, `SELECT nextval('lastseat.transfers_id_seq') FROM generate_series(1, $1)`, len(l.transfers))
	if err != nil {
		return fmt.Errorf("number transfers: %w", err)
	}
	ids, err := pgx.CollectRows(rows, pgx.RowTo[int64])
	if err != nil {
		return fmt.Errorf("number transfers: %w", err)
	}
	for i, t := range l.transfers {
		t.id = ids[i]
	}
	return nil
}

// write queues everything that has changed.
func (l *ledger) write(write *pgx.Batch) {
	if len(l.transfers) > 0 {
		write.Queue(insertTransfersSQL, transferColumns(l.transfers)).Exec(outbox.ExpectRows(len(l.transfers)))
		write.Queue(insertEntriesSQL, entryColumns(l.entries)).Exec(outbox.ExpectRows(len(l.entries)))
	}
	changed := slices.Collect(maps.Values(l.accounts))
	changed = slices.DeleteFunc(changed, func(a *account) bool { return a == nil || !a.changed })
	if len(changed) > 0 {
		slices.SortFunc(changed, func(a, b *account) int { return cmp.Compare(a.id, b.id) })
		write.Queue(updateAccountsSQL, accountColumns(changed)).Exec(outbox.ExpectRows(len(changed)))
	}
}

// An empty text, or 0, stands for null.
func transferColumns(transfers []*transfer) pgx.NamedArgs {
	n := len(transfers)
	keys, from, to, currencies := make([]string, n), make([]string, n), make([]string, n), make([]string, n)
	payments, descriptions, metadata := make([]string, n), make([]string, n), make([]string, n)
	ids, amounts, reverses := make([]int64, n), make([]int64, n), make([]int64, n)
	for i, t := range transfers {
		ids[i], keys[i], from[i], to[i], amounts[i], currencies[i] = t.id, t.key, t.from, t.to, t.amount, t.currency
		payments[i], descriptions[i], metadata[i] = t.payment, t.description, string(t.metadata)
		if t.reverses != nil {
			reverses[i] = t.reverses.id
		}
	}
	return pgx.NamedArgs{
		"ids": ids, "keys": keys, "from": from, "to": to, "amounts": amounts, "currencies": currencies,
		"payments": payments, "reverses": reverses, "descriptions": descriptions, "metadata": metadata,
	}
}

func entryColumns(entries []entry) pgx.NamedArgs {
	// by account: the index then takes them side by side
	slices.SortFunc(entries, func(a, b entry) int {
		return cmp.Or(cmp.Compare(a.account, b.account), cmp.Compare(a.version, b.version))
	})
	n := len(entries)
	accounts, versions, times := make([]string, n), make([]int64, n), make([]time.Time, n)
	transfers, amounts, balances := make([]int64, n), make([]int64, n), make([]int64, n)
	for i, e := range entries {
		accounts[i], versions[i], transfers[i], amounts[i], balances[i], times[i] = e.account, e.version, e.transfer.id, e.amount, e.balanceAfter, e.at
	}
	return pgx.NamedArgs{"accounts": accounts, "versions": versions, "transfers": transfers, "amounts": amounts, "balances": balances, "times": times}
}

func accountColumns(accounts []*account) pgx.NamedArgs {
	n := len(accounts)
	ids, balances, held := make([]string, n), make([]int64, n), make([]int64, n)
	versions, entryCounts, times := make([]int64, n), make([]int64, n), make([]time.Time, n)
	for i, a := range accounts {
		ids[i], balances[i], held[i], versions[i], entryCounts[i], times[i] = a.id, a.balance, a.held, a.version, a.entries, a.updatedAt
	}
	return pgx.NamedArgs{"ids": ids, "balances": balances, "held": held, "versions": versions, "entry_counts": entryCounts, "times": times}
}
