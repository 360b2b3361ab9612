package audit

import (
	"bytes"
	"context"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/lastseat/lastseat/internal/history"
)

// knownTransfers are the transfers that were noted since a round last came to the ends of all chains: those above floor
// are all that there may be.
type knownTransfers struct {
	floor, highest int64
	ids            map[int64]bool
	lost           bool // there were too many to remember
	begun          bool // floor is known
}

// madeUpTransfer is what is told of a transfer without a note.
const madeUpTransfer = " is not in the history: it was made up"

// mostKnown transfers are remembered: 100 MB or so.
const mostKnown = 1_000_000

func (k *knownTransfers) copied() knownTransfers {
	return knownTransfers{floor: k.floor, highest: k.highest, ids: maps.Clone(k.ids), lost: k.lost, begun: k.begun}
}

func (k *knownTransfers) add(id int64) {
	if k.ids == nil {
		k.ids = make(map[int64]bool)
	}
	k.highest = max(k.highest, id)
	if k.lost = k.lost || len(k.ids) >= mostKnown; !k.lost && id > k.floor {
		k.ids[id] = true
	}
}

const (
	newTransfersSQL = `
	SELECT t.id, t.key, t.leg, t.from_account, t.to_account, t.amount, t.currency, coalesce(t.payment_id, ''),
	       coalesce(t.reverses_id, 0), coalesce(t.description, ''), t.description IS NOT DISTINCT FROM '',
	       t.metadata::text, t.created_at
	FROM unnest($1::bigint[]) AS asked(id), LATERAL (
		SELECT * FROM lastseat.transfers t WHERE t.id = asked.id OFFSET 0) t`

	// No transfer without a note.
	madeUpSQL = `SELECT t.id FROM lastseat.transfers t WHERE t.id > $1 ORDER BY t.id LIMIT $2`
)

// transfers judges the transfers that were noted, with their entries, and the accounts of these.
func (r *round) transfers(ctx context.Context) error {
	var ids []int64
	for key := range r.open {
		if key.table == transferTable {
			ids = append(ids, key.number())
		}
	}
	if len(ids) > 0 {
		transfers, err := r.readTransfers(ctx, ids)
		if err != nil {
			return err
		}
		books, err := r.readBooks(ctx, transfers)
		if err != nil {
			return err
		}
		for _, id := range ids {
			r.transfer(openKey{transferTable, strconv.FormatInt(id, 10)}, transfers[id], books)
		}
	}
	if !r.ended {
		return nil
	}
	return r.madeUp(ctx)
}

func (r *round) readTransfers(ctx context.Context, ids []int64) (map[int64]*history.Transfer, error) {
	rows, err := r.tx.Query(ctx, newTransfersSQL, ids)
	if err != nil {
		return nil, err
	}
	found := make(map[int64]*history.Transfer, len(ids))
	for rows.Next() {
		t, empty := &history.Transfer{}, false
		err := rows.Scan(&t.ID, &t.Key, &t.Leg, &t.From, &t.To, &t.Amount, &t.Currency, &t.Payment, &t.Reverses,
			&t.Description, &empty, &t.Metadata, &t.CreatedAt)
		if err != nil {
			rows.Close()
			return nil, err
		}
		if empty {
			t.Description = "\x00" // it is not what was written
		}
		found[t.ID] = t
	}
	return found, rows.Err()
}

// transfer judges a transfer that was noted.
func (r *round) transfer(key openKey, t *history.Transfer, books map[string]*book) {
	if t == nil {
		r.missing(key)
		return
	}
	name := fmt.Sprintf("transfer %d (key %s)", t.ID, t.Key)
	taken, given := books[t.From].entry(t.ID), books[t.To].entry(t.ID)
	if taken == nil && books[t.From].closed.transfer >= t.ID || given == nil && books[t.To].closed.transfer >= t.ID {
		delete(r.open, key) // closed already, and not read so far back; worker audit proves it
		return
	}
	if taken == nil || given == nil || taken.amount != -t.Amount || given.amount != t.Amount {
		r.violation("%s: its two entries are not there as it says", name)
		return
	}
	t.TakenAt, t.GivenAt = taken.at, given.at
	if notes := r.open[key]; !bytes.Equal(notes[len(notes)-1].digest, t.Digest()) {
		r.violation("%s was changed: it is not what the history has of it", name)
		return
	}
	if books[t.From].wrong == "" && books[t.To].wrong == "" {
		delete(r.open, key)
	}
	for _, b := range []*book{books[t.From], books[t.To]} {
		if b.wrong != "" {
			r.violation("%s", b.wrong)
		}
	}
}

// madeUp looks for transfers that nobody has noted.
func (r *round) madeUp(ctx context.Context) error {
	known := &r.known
	if known.begun && !known.lost {
		rows, err := r.tx.Query(ctx, madeUpSQL, known.floor, mostKnown)
		if err != nil {
			return err
		}
		var id int64
		if _, err := pgx.ForEachRow(rows, []any{&id}, func() error {
			if !known.ids[id] {
				r.violation("transfer %d"+madeUpTransfer+", or the history was cut", id)
			}
			return nil
		}); err != nil {
			return err
		}
	}
	known.ids, known.lost = nil, false
	if known.begun {
		known.floor = max(known.floor, known.highest)
		return nil
	}
	known.begun = true
	return r.tx.QueryRow(ctx, `SELECT coalesce(max(t.id), 0) FROM lastseat.transfers t`).Scan(&known.floor)
}

// book is an account, and its entries from a little before the first that was noted.
type book struct {
	balance, entries int64
	closed           entry // its last closing; up to there entries may be gone
	first, last      int64 // transfers that were noted
	noted            int64
	read             []entry // by their version
	part             bool    // the newest entries are not among them
	wrong            string
}

type entry struct {
	version, transfer, amount, after int64
	at                               time.Time
}

func (b *book) entry(transfer int64) *entry {
	i, found := slices.BinarySearchFunc(b.read, transfer, func(e entry, id int64) int {
		return int(min(1, max(-1, e.transfer-id)))
	})
	if !found {
		return nil
	}
	return &b.read[i]
}

const (
	booksSQL = `
	SELECT a.id, a.balance, a.entry_count, coalesce(c.version, 0), coalesce(c.transfer_id, 0), coalesce(c.balance, 0)
	FROM unnest($1::text[]) AS asked(id), LATERAL (
		SELECT * FROM lastseat.accounts a WHERE a.id = asked.id COLLATE "C" OFFSET 0) a
	LEFT JOIN LATERAL (
		SELECT * FROM lastseat.closings n WHERE n.account_id = a.id ORDER BY n.version DESC LIMIT 1) c ON true`

	entriesSQL = `
	SELECT e.account_id, e.version, e.transfer_id, e.amount, e.balance_after, e.created_at
	FROM unnest($1::text[], $2::bigint[], $3::bigint[]) AS asked(id, first, last), LATERAL (
		SELECT * FROM lastseat.entries e WHERE e.account_id = asked.id COLLATE "C"
		  AND e.version BETWEEN asked.first AND asked.last ORDER BY e.version OFFSET 0) e`

	// The first entry of an account whose transfer is not before $3, after that with the version $4: an account's entries
	// are in the order of transfers.
	searchSQL = `
	WITH RECURSIVE s(low, high) AS (
		SELECT $4::bigint + 1, $2::bigint
		UNION ALL
		SELECT CASE WHEN e.transfer_id < $3 THEN (s.low + s.high) / 2 + 1 ELSE s.low END,
		       CASE WHEN e.transfer_id < $3 THEN s.high ELSE (s.low + s.high) / 2 END
		FROM s JOIN LATERAL (SELECT e.transfer_id FROM lastseat.entries e
		                     WHERE e.account_id = $1 AND e.version = (s.low + s.high) / 2 OFFSET 0) e ON true
		WHERE s.low < s.high)
	SELECT s.low FROM s ORDER BY s.high - s.low LIMIT 1`

	// As many entries of an account are read as were noted, and a few for those that came since.
	sinceThen = 8
)

func (r *round) readBooks(ctx context.Context, transfers map[int64]*history.Transfer) (map[string]*book, error) {
	books := make(map[string]*book)
	for id, t := range transfers {
		for _, account := range []string{t.From, t.To} {
			b := books[account]
			if b == nil {
				b = &book{first: id}
				books[account] = b
			}
			b.first, b.last, b.noted = min(b.first, id), max(b.last, id), b.noted+1
		}
	}
	accounts := slices.Sorted(maps.Keys(books))
	rows, err := r.tx.Query(ctx, booksSQL, accounts)
	if err != nil {
		return nil, err
	}
	var account string
	var balance, entries int64
	var closed entry
	_, err = pgx.ForEachRow(rows, []any{&account, &balance, &entries, &closed.version, &closed.transfer, &closed.after},
		func() error {
			b := books[account]
			b.balance, b.entries, b.closed = balance, entries, closed
			return nil
		})
	if err != nil {
		return nil, err
	}
	var first, last []int64
	for _, account := range accounts {
		b := books[account]
		first, last = append(first, b.entries-b.noted-sinceThen), append(last, b.entries)
	}
	if err := r.readEntries(ctx, books, accounts, first, last); err != nil {
		return nil, err
	}
	var deeper []string
	for _, account := range accounts {
		b := books[account]
		if len(b.read) > 0 && b.read[0].version > b.closed.version+1 && b.read[0].transfer >= b.first {
			deeper = append(deeper, account)
		}
	}
	err = r.readDeeper(ctx, books, deeper)
	for account, b := range books {
		b.prove(account)
	}
	return books, err
}

// readDeeper reads the entries that were noted where they are farther back than the first reading went.
func (r *round) readDeeper(ctx context.Context, books map[string]*book, accounts []string) error {
	var first, last []int64
	for _, account := range accounts {
		b := books[account]
		var start, end int64
		if err := r.tx.QueryRow(ctx, searchSQL, account, b.entries, b.first, b.closed.version).Scan(&start); err != nil {
			return err
		}
		if err := r.tx.QueryRow(ctx, searchSQL, account, b.entries, b.last, b.closed.version).Scan(&end); err != nil {
			return err
		}
		first, last = append(first, start-1), append(last, end)
		b.part = end < b.entries
	}
	return r.readEntries(ctx, books, accounts, first, last)
}

func (r *round) readEntries(
	ctx context.Context, books map[string]*book, accounts []string, first, last []int64,
) error {
	for _, account := range accounts {
		books[account].read = nil
	}
	if len(accounts) == 0 {
		return nil
	}
	rows, err := r.tx.Query(ctx, entriesSQL, accounts, first, last)
	if err != nil {
		return err
	}
	var account string
	var e entry
	_, err = pgx.ForEachRow(rows, []any{&account, &e.version, &e.transfer, &e.amount, &e.after, &e.at}, func() error {
		books[account].read = append(books[account].read, e)
		return nil
	})
	return err
}

// prove says what is wrong with an account, if anything is: each entry goes on from the one before it or from the last
// closing, and the account from the last.
func (b *book) prove(account string) {
	last := b.closed
	for i, e := range b.read {
		if !b.goesOn(i) {
			b.wrong = fmt.Sprintf("entry %d of account %s does not continue the one before it", e.version, account)
			return
		}
		if e.version > b.closed.version {
			last = e
		}
	}
	if last.version > 0 && !b.part && (last.version != b.entries || last.after != b.balance) {
		b.wrong = fmt.Sprintf("account %s: its balance is not what its last entry says", account)
	}
}

// goesOn tells whether an entry continues what comes before it. Up to the closing entries may be gone. What comes
// before the first that was read may not be known.
func (b *book) goesOn(i int) bool {
	e, before := b.read[i], b.closed
	if i > 0 && (e.version <= b.closed.version || b.read[i-1].version > b.closed.version) {
		before = b.read[i-1]
	}
	switch {
	case e.version == b.closed.version && (e.after != b.closed.after || e.transfer != b.closed.transfer):
		return false
	case e.version <= b.closed.version && (i == 0 || e.version != before.version+1):
		return true
	case i == 0 && e.version != before.version+1:
		return true
	}
	return e.version == before.version+1 && e.after == before.after+e.amount && e.transfer > before.transfer
}
