package jobs

import (
	"cmp"
	"context"
	"maps"
	"slices"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/lastseat/lastseat/outbox"
)

// The ledger's way in and out of the database.

// In the order of the primary key, as in all tables.
const (
	loadAccountsSQL = `
	SELECT id, ctid::text, currency, balance, held, overdraft_limit, version, entry_count, updated_at
	FROM lastseat.accounts WHERE id = ANY ($1::text[]) ORDER BY id FOR NO KEY UPDATE SKIP LOCKED`

	lockedAccountsSQL = `SELECT id FROM lastseat.accounts WHERE id = ANY ($1::text[])`
)

// loadAccounts locks and reads the accounts that the batch needs and has not read. The same round trip draws the
// numbers of its transfers.
func (l *ledger) loadAccounts(ctx context.Context, tx pgx.Tx) error {
	ids := unread(l.accounts)
	if len(ids) == 0 {
		return nil
	}
	a := &account{}
	columns := []any{
		&a.id, &a.row, &a.currency, &a.balance, &a.held, &a.overdraft, &a.version, &a.entries, &a.updatedAt,
	}
	batch := &pgx.Batch{}
	queueRead(batch, "lock accounts", loadAccountsSQL, []any{ids}, columns, func() {
		loaded := *a
		l.accounts[a.id] = &loaded
	})
	l.queueNumbers(batch, l.expected-len(l.numbers))
	err := tx.SendBatch(ctx, batch).Close()
	missing := unread(l.accounts)
	if err != nil || len(missing) == 0 {
		return err
	}
	locked, err := readColumn[string](ctx, tx, "look for locked accounts", lockedAccountsSQL, missing)
	for _, id := range locked {
		l.blocked.lock(rowID{table: accountsTable, id: id})
	}
	return err
}

// Not locked: a transfer is never changed, and the requests to reverse one share a lane.
const loadTransfersSQL = `
	SELECT t.id, t.key, t.from_account, t.to_account, t.amount, t.currency, coalesce(t.payment_id, ''),
	       t.reverses_id IS NOT NULL, coalesce(r.key, '')
	FROM lastseat.transfers t
	LEFT JOIN LATERAL (SELECT q.key FROM lastseat.transfers q WHERE q.reverses_id = t.id OFFSET 0) r ON true
	WHERE t.key = ANY ($1::text[])`

// loadTransfers reads the transfers that are to be reversed, and needs their accounts.
func (l *ledger) loadTransfers(ctx context.Context, tx pgx.Tx) error {
	if len(l.byKey) == 0 {
		return nil
	}
	t, reversal := &transfer{}, false
	columns := []any{
		&t.id, &t.key, &t.from, &t.to, &t.amount, &t.currency, &t.payment, &reversal, &t.reversedBy,
	}
	keys := slices.Sorted(maps.Keys(l.byKey))
	err := read(ctx, tx, "read transfers", loadTransfersSQL, []any{keys}, columns, func() {
		loaded := *t
		if reversal {
			loaded.reverses = &transfer{}
		}
		l.byKey[t.key] = &loaded
		l.needAccounts(t.from, t.to)
	})
	if err != nil {
		return err
	}
	return l.loadPending(ctx, tx)
}

const pendingSQL = `SELECT key FROM lastseat.requests WHERE key = ANY ($1::text[]) AND status = 'pending'`

// loadPending finds out which of the transfers that are not there may still come.
func (l *ledger) loadPending(ctx context.Context, tx pgx.Tx) error {
	missing := unread(l.byKey)
	if len(missing) == 0 {
		return nil
	}
	pending, err := readColumn[string](ctx, tx, "read requests", pendingSQL, missing)
	for _, key := range pending {
		l.pending[key] = true
	}
	return err
}

const numberTransfersSQL = `SELECT nextval('lastseat.transfers_id_seq') FROM generate_series(1, $1)`

// number gives every new transfer its id.
func (l *ledger) number(ctx context.Context, tx pgx.Tx) error {
	batch := &pgx.Batch{}
	l.queueNumbers(batch, len(l.transfers)-len(l.numbers))
	if err := tx.SendBatch(ctx, batch).Close(); err != nil {
		return err
	}
	for i, t := range l.transfers {
		t.id = l.numbers[i]
	}
	return nil
}

// queueNumbers draws n more numbers for transfers.
func (l *ledger) queueNumbers(batch *pgx.Batch, n int) {
	if n <= 0 {
		return
	}
	var id int64
	queueRead(batch, "number transfers", numberTransfersSQL, []any{n}, []any{&id}, func() {
		l.numbers = append(l.numbers, id)
	})
}

// write queues everything that has changed.
func (l *ledger) write(write *pgx.Batch) {
	if len(l.transfers) > 0 {
		l.writeTransfers(write)
		l.writeEntries(write)
	}
	if changed := changedRows(l.accounts, func(a *account) bool { return a.changed }); len(changed) > 0 {
		writeAccounts(write, changed)
	}
}

// An empty text, or 0, stands for null.
const insertTransfersSQL = `
	INSERT INTO lastseat.transfers
	       (id, key, leg, from_account, to_account, amount, currency, payment_id, reverses_id, description, metadata)
	SELECT id, key, leg, from_account, to_account, amount, currency, nullif(payment, ''), nullif(reverses, 0),
	       nullif(description, ''), nullif(metadata, '')::jsonb
	FROM unnest(@ids::bigint[], @keys::text[], @legs::smallint[], @from::text[], @to::text[],
	            @amounts::bigint[], @currencies::text[],
	            @payments::text[], @reverses::bigint[], @descriptions::text[], @metadata::text[])
	     AS t(id, key, leg, from_account, to_account, amount, currency, payment, reverses, description, metadata)`

func (l *ledger) writeTransfers(write *pgx.Batch) {
	reverses := func(t *transfer) int64 {
		if t.reverses == nil {
			return 0
		}
		return t.reverses.id
	}
	write.Queue(insertTransfersSQL, pgx.NamedArgs{
		"ids":          column(l.transfers, func(t *transfer) int64 { return t.id }),
		"keys":         column(l.transfers, func(t *transfer) string { return t.key }),
		"legs":         column(l.transfers, func(t *transfer) int16 { return t.leg }),
		"from":         column(l.transfers, func(t *transfer) string { return t.from }),
		"to":           column(l.transfers, func(t *transfer) string { return t.to }),
		"amounts":      column(l.transfers, func(t *transfer) int64 { return t.amount }),
		"currencies":   column(l.transfers, func(t *transfer) string { return t.currency }),
		"payments":     column(l.transfers, func(t *transfer) string { return t.payment }),
		"reverses":     column(l.transfers, reverses),
		"descriptions": column(l.transfers, func(t *transfer) string { return t.description }),
		"metadata":     column(l.transfers, func(t *transfer) string { return string(t.metadata) }),
	}).Exec(outbox.ExpectRows(len(l.transfers)))
}

const insertEntriesSQL = `
	INSERT INTO lastseat.entries (account_id, version, transfer_id, amount, balance_after, created_at)
	SELECT * FROM unnest(@accounts::text[], @versions::bigint[], @transfers::bigint[], @amounts::bigint[],
	                     @balances::bigint[], @times::timestamptz[])`

func (l *ledger) writeEntries(write *pgx.Batch) {
	// by account: the index then takes them side by side
	slices.SortFunc(l.entries, func(a, b entry) int {
		return cmp.Or(cmp.Compare(a.account, b.account), cmp.Compare(a.version, b.version))
	})
	write.Queue(insertEntriesSQL, pgx.NamedArgs{
		"accounts":  column(l.entries, func(e entry) string { return e.account }),
		"versions":  column(l.entries, func(e entry) int64 { return e.version }),
		"transfers": column(l.entries, func(e entry) int64 { return e.transfer.id }),
		"amounts":   column(l.entries, func(e entry) int64 { return e.amount }),
		"balances":  column(l.entries, func(e entry) int64 { return e.balanceAfter }),
		"times":     column(l.entries, func(e entry) time.Time { return e.at }),
	}).Exec(outbox.ExpectRows(len(l.entries)))
}

// A row that is locked stays where it is. To look it up again would read all its versions since the oldest snapshot.
const updateAccountsSQL = `
	UPDATE lastseat.accounts a
	SET balance = n.balance, held = n.held, version = n.version, entry_count = n.entry_count, updated_at = n.updated_at
	FROM unnest(@rows::text[]::tid[], @balances::bigint[], @held::bigint[], @versions::bigint[], @entry_counts::bigint[],
	            @times::timestamptz[])
	     AS n(row, balance, held, version, entry_count, updated_at)
	WHERE a.ctid = n.row`

func writeAccounts(write *pgx.Batch, changed []*account) {
	write.Queue(updateAccountsSQL, pgx.NamedArgs{
		"rows":         column(changed, func(a *account) string { return a.row }),
		"balances":     column(changed, func(a *account) int64 { return a.balance }),
		"held":         column(changed, func(a *account) int64 { return a.held }),
		"versions":     column(changed, func(a *account) int64 { return a.version }),
		"entry_counts": column(changed, func(a *account) int64 { return a.entries }),
		"times":        column(changed, func(a *account) time.Time { return a.updatedAt }),
	}).Exec(outbox.ExpectRows(len(changed)))
}
