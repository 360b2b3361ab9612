package jobs

import (
	"cmp"
	"context"
	"fmt"
	"maps"
	"slices"

	"github.com/jackc/pgx/v5"

	"github.com/lastseat/lastseat/outbox"
)

// The ledger's way in and out of the database: one statement for each table.

const (
	// In the order of the primary key, as everybody should who locks more than one: then nobody waits in a circle.
	loadAccountsSQL = `
	SELECT id, currency, balance, held, overdraft_limit, version, entry_count
	FROM lastseat.accounts WHERE id = ANY ($1::text[]) ORDER BY id FOR NO KEY UPDATE`

	insertTransfersSQL = `
	INSERT INTO lastseat.transfers (id, key, from_account, to_account, amount, currency, description, metadata)
	SELECT id, key, from_account, to_account, amount, currency, description, metadata::jsonb
	FROM unnest(@ids::bigint[], @keys::text[], @from::text[], @to::text[], @amounts::bigint[], @currencies::text[], @descriptions::text[], @metadata::text[])
	     AS t(id, key, from_account, to_account, amount, currency, description, metadata)`

	insertEntriesSQL = `
	INSERT INTO lastseat.entries (account_id, version, transfer_id, amount, balance_after)
	SELECT * FROM unnest(@accounts::text[], @versions::bigint[], @transfers::bigint[], @amounts::bigint[], @balances::bigint[])`

	updateAccountsSQL = `
	UPDATE lastseat.accounts a
	SET balance = n.balance, held = n.held, version = n.version, entry_count = n.entry_count, updated_at = now()
	FROM unnest(@ids::text[], @balances::bigint[], @held::bigint[], @versions::bigint[], @entry_counts::bigint[])
	     AS n(id, balance, held, version, entry_count)
	WHERE a.id = n.id`
)

// load locks and reads all accounts that the batch needs.
func (l *ledger) load(ctx context.Context, tx pgx.Tx) error {
	if len(l.accounts) == 0 {
		return nil
	}
	rows, err := tx.Query(ctx, loadAccountsSQL, slices.Sorted(maps.Keys(l.accounts)))
	if err != nil {
		return fmt.Errorf("lock accounts: %w", err)
	}
	a := &account{}
	_, err = pgx.ForEachRow(rows, []any{&a.id, &a.currency, &a.balance, &a.held, &a.overdraft, &a.version, &a.entries}, func() error {
		loaded := *a
		l.accounts[a.id] = &loaded
		return nil
	})
	if err != nil {
		return fmt.Errorf("lock accounts: %w", err)
	}
	return nil
}

// number gives every transfer its id.
func (l *ledger) number(ctx context.Context, tx pgx.Tx) ([]int64, error) {
	rows, err := tx.Query(ctx, `SELECT nextval('lastseat.transfers_id_seq') FROM generate_series(1, $1)`, len(l.transfers))
	if err != nil {
		return nil, fmt.Errorf("number transfers: %w", err)
	}
	ids, err := pgx.CollectRows(rows, pgx.RowTo[int64])
	if err != nil {
		return nil, fmt.Errorf("number transfers: %w", err)
	}
	return ids, nil
}

// write queues everything that has changed.
func (l *ledger) write(ctx context.Context, tx pgx.Tx, write *pgx.Batch) error {
	if len(l.transfers) == 0 {
		return nil
	}
	ids, err := l.number(ctx, tx)
	if err != nil {
		return err
	}
	write.Queue(insertTransfersSQL, transferColumns(l.transfers, ids)).Exec(outbox.ExpectRows(len(l.transfers)))
	write.Queue(insertEntriesSQL, entryColumns(l.entries, ids)).Exec(outbox.ExpectRows(len(l.entries)))
	changed := slices.Collect(maps.Values(l.accounts))
	changed = slices.DeleteFunc(changed, func(a *account) bool { return a == nil || !a.changed })
	slices.SortFunc(changed, func(a, b *account) int { return cmp.Compare(a.id, b.id) })
	write.Queue(updateAccountsSQL, accountColumns(changed)).Exec(outbox.ExpectRows(len(changed)))
	return nil
}

func transferColumns(transfers []transfer, ids []int64) pgx.NamedArgs {
	n := len(transfers)
	keys, from, to, currencies := make([]string, n), make([]string, n), make([]string, n), make([]string, n)
	amounts, descriptions, metadata := make([]int64, n), make([]*string, n), make([]*string, n)
	for i := range transfers {
		t := &transfers[i]
		keys[i], from[i], to[i], amounts[i], currencies[i] = t.key, t.from, t.to, t.amount, t.currency
		if t.description != "" {
			descriptions[i] = &t.description
		}
		if t.metadata != nil {
			text := string(t.metadata)
			metadata[i] = &text
		}
	}
	return pgx.NamedArgs{
		"ids": ids, "keys": keys, "from": from, "to": to, "amounts": amounts, "currencies": currencies,
		"descriptions": descriptions, "metadata": metadata,
	}
}

func entryColumns(entries []entry, ids []int64) pgx.NamedArgs {
	// by account: the index then takes them side by side
	slices.SortFunc(entries, func(a, b entry) int {
		return cmp.Or(cmp.Compare(a.account, b.account), cmp.Compare(a.version, b.version))
	})
	n := len(entries)
	accounts, versions := make([]string, n), make([]int64, n)
	transfers, amounts, balances := make([]int64, n), make([]int64, n), make([]int64, n)
	for i, e := range entries {
		accounts[i], versions[i], transfers[i], amounts[i], balances[i] = e.account, e.version, ids[e.transfer], e.amount, e.balanceAfter
	}
	return pgx.NamedArgs{"accounts": accounts, "versions": versions, "transfers": transfers, "amounts": amounts, "balances": balances}
}

func accountColumns(accounts []*account) pgx.NamedArgs {
	n := len(accounts)
	ids, balances, held := make([]string, n), make([]int64, n), make([]int64, n)
	versions, entryCounts := make([]int64, n), make([]int64, n)
	for i, a := range accounts {
		ids[i], balances[i], held[i], versions[i], entryCounts[i] = a.id, a.balance, a.held, a.version, a.entries
	}
	return pgx.NamedArgs{"ids": ids, "balances": balances, "held": held, "versions": versions, "entry_counts": entryCounts}
}
