package audit

import (
	"bytes"
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/lastseat/lastseat/internal/history"
)

// historyChecks compare the rows with the chains of lastseat.history.
var historyChecks = []Check{
	{
		Name: "history.chain",
		Rule: "every link of the history continues the one before it, without a gap; what was sealed is in it",
		run:  walk,
	},
	{
		Name: "history.requests",
		Rule: "every settled request is as it was settled, and none is made up or missing",
		run:  compare(requestRows),
	},
	{
		Name: "history.transfers",
		Rule: "every transfer, with the times of its entries, is as it was settled, and none is made up or missing",
		run:  compare(transferRows),
	},
	{
		Name: "history.payments",
		Rule: "every payment that is not pending is as the worker last wrote it, and none is made up or missing",
		run:  compare(paymentRows),
	},
	{
		Name: "history.reservations",
		Rule: "every reservation that is not pending is as the worker last wrote it, and none is made up or missing",
		run:  compare(reservationRows),
	},
	{
		Name: "history.items",
		Rule: "every item of a reservation is as it was asked for, and none is made up or missing",
		run:  compare(itemRows),
	},
	{
		Name: "history.accounts",
		Rule: "every account's currency, limit and date are as it was opened, and none is made up or missing",
		run:  compare(accountRows),
	},
	{
		Name: "history.closings",
		Rule: "every closing is as it was made, and none is made up or missing",
		run:  compare(closingRows),
	},
	{
		Name: "history.currencies",
		Rule: "every currency is as it was defined, and none is made up or missing",
		run:  compare(currencyRows),
	},
	{
		Name: "history.limits",
		Rule: "every limit is as it was last defined, and none is made up or missing",
		run:  compare(limitRows),
	},
	{
		Name: "history.retention",
		Rule: "how long is kept what was settled is as it was last said",
		run:  compare(retentionRows),
	},
	{
		Name: "history.removed",
		Rule: "how far retention has come is as it was noted",
		run:  compare(removedRows),
	},
	{
		Name: "removed.ids",
		Rule: "the ids and keys that are not used again are those of the payments, reservations and transfers that the " +
			"history has as removed, and none of them was used again",
		sql: `
		WITH noted AS MATERIALIZED (
			SELECT DISTINCT split_part(h.relation, '.', 1) AS what,
			       CASE WHEN starts_with(h.relation, 'transfers') THEN substr(k.key, strpos(k.key, ' ') + 1)
			            ELSE regexp_replace(k.key, '@[0-9]+$', '') END AS id
			FROM lastseat.history h, unnest(h.keys) AS k(key)
			WHERE h.chain = 'retention'
			  AND h.relation IN ('payments.removed', 'reservations.removed', 'transfers.removed', 'transfers.archived'))
		SELECT format('%s %s: ', rtrim(what, 's'), id) || CASE
		         WHEN r.known IS NULL THEN 'it was removed, and its id may be used again'
		         ELSE 'its id may not be used again, and it was not removed' END
		FROM (SELECT n.*, true AS removed FROM noted n) n
		FULL JOIN (SELECT i.what, i.id, true AS known FROM lastseat.removed_ids i) r USING (what, id)
		WHERE n.removed IS NULL OR r.known IS NULL
		UNION ALL
		SELECT format('payment %s: it was removed, and its id was used again', p.id)
		FROM noted n JOIN lastseat.payments p ON p.id = n.id WHERE n.what = 'payments'
		UNION ALL
		SELECT format('transfer %s (key %s): it was removed, or another one of its key was', t.id, t.key)
		FROM noted n JOIN lastseat.transfers t ON t.key = n.id WHERE n.what = 'transfers'
		UNION ALL
		SELECT format('reservation %s: it was removed, and its id was used again', v.id)
		FROM noted n JOIN lastseat.reservations v ON v.id = n.id WHERE n.what = 'reservations'`,
	},
	{
		Name: "history.resources",
		Rule: "every resource's capacity and group are as they were last defined, and none is made up or missing",
		run:  compare(resourceRows),
	},
}

// kept is a row as its table has it.
type kept struct {
	id     string // in the order of COLLATE "C"
	name   string // for people
	status string // of a request
	digest []byte
	// shipped: it came with the schema
	shipped bool
	version int64 // of a payment, a reservation
}

// table says how to read the rows of a table that the history is about.
type table struct {
	relations []string // in the history
	id        string   // SQL that makes kept.id of a link's key
	version   string   // SQL that makes the version of a key; later versions replace earlier ones
	sql       string   // selects the rows
	where     string   // which of them; empty: all
	key       string   // SQL of the column by which they are looked up
	order     string   // SQL of kept.id, if that is not the key
	scan      func(pgx.Rows) (kept, error)
}

// all is SQL that reads all rows, in the order of kept.id.
func (t *table) all() string {
	sql, order := t.sql, t.order
	if t.where != "" {
		sql += " WHERE " + t.where
	}
	if order == "" {
		order = t.key
	}
	return sql + " ORDER BY " + order
}

// noted is a row as the history has it.
type noted struct {
	id       string
	relation string
	digest   []byte
	at       time.Time
}

// removed: it was removed, on record.
func (n *noted) removed() bool {
	return strings.HasSuffix(n.relation, history.Removed) || strings.HasSuffix(n.relation, history.Archived)
}

// A row of history_waiting counts as noted: a lane is about to take it into the chain.
const notedSQL = `
	SELECT id, relation, digest, at, columns FROM (
		SELECT %[1]s AS id, h.relation, k.digest, h.at, NULL::text[] AS columns, %[2]s AS version, h.number, k.n
		FROM lastseat.history h, unnest(h.keys, h.digests) WITH ORDINALITY AS k(key, digest, n)
		WHERE h.relation = ANY ($1)
		UNION ALL
		SELECT %[1]s, k.relation, NULL, k.at, k.columns, %[2]s, 9223372036854775807, k.number
		FROM lastseat.history_waiting k WHERE k.relation = split_part(($1::text[])[1], '.', 1)
	) noted ORDER BY id COLLATE "C", version, number, n`

// page is how many rows are read at a time.
const page = 5000

// reader reads a query page by page, through a cursor.
type reader[R any] struct {
	tx     pgx.Tx
	cursor string
	scan   func(pgx.Rows) (R, error)
	rows   []R
	size   int
	done   bool
}

func read[R any](
	ctx context.Context, tx pgx.Tx, cursor string, size int, scan func(pgx.Rows) (R, error), sql string, args ...any,
) (*reader[R], error) {
	_, err := tx.Exec(ctx, "DECLARE "+cursor+" NO SCROLL CURSOR FOR "+sql, args...)
	return &reader[R]{tx: tx, cursor: cursor, scan: scan, size: size}, err
}

// peek returns the next row without taking it; nil at the end.
func (r *reader[R]) peek(ctx context.Context) (*R, error) {
	if len(r.rows) == 0 && !r.done {
		rows, err := r.tx.Query(ctx, fmt.Sprintf("FETCH %d FROM %s", r.size, r.cursor))
		if err != nil {
			return nil, err
		}
		for rows.Next() {
			row, err := r.scan(rows)
			if err != nil {
				rows.Close()
				return nil, err
			}
			r.rows = append(r.rows, row)
		}
		if err := rows.Err(); err != nil {
			return nil, err
		}
		r.done = len(r.rows) < r.size
	}
	if len(r.rows) == 0 {
		return nil, nil
	}
	return &r.rows[0], nil
}

func (r *reader[R]) take() { r.rows = r.rows[1:] }

func (r *reader[R]) close(ctx context.Context) error {
	_, err := r.tx.Exec(ctx, "CLOSE "+r.cursor)
	return err
}

func scanNoted(rows pgx.Rows) (n noted, err error) {
	var columns []*string
	if err := rows.Scan(&n.id, &n.relation, &n.digest, &n.at, &columns); err != nil || columns == nil {
		return n, err
	}
	if n.relation != history.Requests {
		n.digest = history.Texts(columns)
		return n, nil
	}
	request, err := history.ParseRequest(columns)
	if err != nil {
		return n, err
	}
	n.relation, n.digest = request.Relation(), request.Digest()
	return n, nil
}

// compare reads a table and what the history has of it side by side, both in the order of the key.
func compare(t table) func(context.Context, pgx.Tx, *Seal) ([]string, error) {
	return func(ctx context.Context, tx pgx.Tx, _ *Seal) ([]string, error) {
		// A name of its own: pgx keeps a statement's columns by its text.
		cursor, _, _ := strings.Cut(t.relations[0], ".")
		sql := fmt.Sprintf(notedSQL, t.id, t.version)
		notes, err := read(ctx, tx, "noted_"+cursor, page, scanNoted, sql, t.relations)
		if err != nil {
			return nil, err
		}
		rows, err := read(ctx, tx, "kept_"+cursor, page, t.scan, t.all())
		if err != nil {
			return nil, err
		}
		var broken []string
		for len(broken) < mostViolations {
			row, notesOf, err := nextRow(ctx, rows, notes)
			if err != nil {
				return nil, err
			}
			if row == nil && notesOf == nil {
				break
			}
			if wrong := judge(t, row, notesOf); wrong != "" {
				broken = append(broken, wrong)
			}
		}
		if err := rows.close(ctx); err != nil {
			return nil, err
		}
		return broken, notes.close(ctx)
	}
}

// nextRow takes the next key: its row, if there is one, and what is noted of it.
func nextRow(ctx context.Context, rows *reader[kept], notes *reader[noted]) (*kept, []noted, error) {
	row, err := rows.peek(ctx)
	if err != nil {
		return nil, nil, err
	}
	note, err := notes.peek(ctx)
	if err != nil || row == nil && note == nil {
		return nil, nil, err
	}
	var found *kept
	if row != nil && (note == nil || row.id <= note.id) {
		copied := *row
		found = &copied
		rows.take()
	}
	var of []noted
	for note != nil && (found == nil && (len(of) == 0 || note.id == of[0].id) || found != nil && note.id == found.id) {
		of = append(of, *note)
		notes.take()
		if note, err = notes.peek(ctx); err != nil {
			return nil, nil, err
		}
	}
	return found, of, nil
}

// judge says what is wrong with a row, if anything is.
func judge(t table, row *kept, notes []noted) string {
	notes, wrong := withoutRemoved(t, notes)
	if wrong != "" || row == nil && len(notes) == 0 {
		return wrong
	}
	if row == nil {
		name := strings.TrimLeft(notes[0].id, "0")
		return fmt.Sprintf("%s %s was settled, and is not there: it was deleted, or set back", what(t), name)
	}
	if t.relations[0] == history.Requests {
		return judgeRequest(row, notes)
	}
	if len(notes) == 0 && row.shipped {
		return ""
	}
	if len(notes) == 0 {
		return fmt.Sprintf("%s %s is not in the history: it was made up, or the history was cut", what(t), row.name)
	}
	if !bytes.Equal(notes[len(notes)-1].digest, row.digest) {
		return fmt.Sprintf("%s %s was changed: it is not what the history has of it", what(t), row.name)
	}
	return ""
}

// withoutRemoved leaves what the history has of a row since it was last removed on record. What was removed has to be
// what was last noted before that. A request is noted more than once if it was retried: any of its notes will do.
func withoutRemoved(t table, notes []noted) (since []noted, wrong string) {
	for _, removal := range notes {
		if !removal.removed() {
			continue
		}
		var before []noted
		since = nil
		for _, n := range notes {
			switch {
			case n.at.After(removal.at):
				since = append(since, n)
			case !n.removed():
				before = append(before, n)
			}
		}
		if t.relations[0] != history.Requests && len(before) > 1 {
			before = before[len(before)-1:]
		}
		if !slices.ContainsFunc(before, func(n noted) bool { return bytes.Equal(n.digest, removal.digest) }) {
			return nil, fmt.Sprintf("%s %s was changed before it was removed: what was removed is not what was settled",
				what(t), strings.TrimLeft(removal.id, "0"))
		}
		notes = since
	}
	return notes, ""
}

func what(t table) string {
	names := map[string]string{
		history.Requests: "request", history.Transfers: "transfer", history.Payments: "payment",
		history.Reservations: "reservation", history.Items: "item", "accounts": "account", "currencies": "currency",
		history.Closings: "closing",
		"limit_groups":   "limit group", "resources": "resource", "retention": "retention of", "removed": "removal of",
	}
	return names[t.relations[0]]
}

// past is what the history has of a request: how often it was settled for good, failed and was retried, and whether
// one of these notes is of the row as it is.
type past struct {
	settled, failed, reopened int
	same                      bool
}

func pastOf(row *kept, notes []noted) past {
	p := past{same: row.status == history.Pending && len(notes) == 0}
	for _, n := range notes {
		var fits bool
		switch n.relation {
		case history.Requests:
			p.settled++
			fits = row.status == "applied" || row.status == "rejected"
		case history.Failed:
			p.failed++
			fits = row.status == "failed"
		case history.Reopened:
			p.reopened++
			fits = row.status == history.Pending
		}
		p.same = p.same || fits && bytes.Equal(n.digest, row.digest)
	}
	return p
}

// judgeRequest: a request may fail and be retried any number of times; it is applied or rejected once.
func judgeRequest(row *kept, notes []noted) string {
	p := pastOf(row, notes)
	wantSettled, wantFailed := 1, p.reopened
	switch row.status {
	case history.Pending:
		wantSettled = 0
	case "failed":
		wantSettled, wantFailed = 0, p.reopened+1
	}
	switch {
	case len(notes) == 0 && row.status != history.Pending:
		return fmt.Sprintf("request %s is not in the history: it was made up, or the history was cut", row.name)
	case p.settled > 1:
		return fmt.Sprintf("request %s was settled %d times", row.name, p.settled)
	case p.settled != wantSettled || p.failed != wantFailed:
		return fmt.Sprintf("request %s is %s: by the history it was applied or rejected %d times, failed %d and "+
			"retried %d", row.name, row.status, p.settled, p.failed, p.reopened)
	case !p.same:
		return fmt.Sprintf("request %s was changed: it is not what the history has of it", row.name)
	}
	return ""
}

const walkSQL = `
	SELECT h.chain, h.number, h.at, h.relation, h.keys, h.digests, h.hash
	FROM lastseat.history h ORDER BY h.chain, h.number`

// linkPage is how many links are read at a time: each may have thousands of keys.
const linkPage = 50

type storedLink struct {
	history.Link
	hash []byte
}

func scanLink(rows pgx.Rows) (l storedLink, err error) {
	err = rows.Scan(&l.Chain, &l.Number, &l.At, &l.Relation, &l.Keys, &l.Digests, &l.hash)
	l.At = l.At.UTC().Truncate(time.Microsecond)
	return l, err
}

// walk proves the chains, from their beginnings: a sealed link vouches for the hashes before it, and they have to fit
// what stands beside them.
func walk(ctx context.Context, tx pgx.Tx, since *Seal) ([]string, error) {
	sealed := make(map[string]history.Head)
	if since != nil {
		for _, head := range since.Heads {
			sealed[head.Chain] = history.Head{Number: head.Number, Hash: head.Hash}
		}
	}
	links, err := read(ctx, tx, "links", linkPage, scanLink, walkSQL)
	if err != nil {
		return nil, err
	}
	var broken []string
	var chain string
	var before history.Head
	for len(broken) < mostViolations {
		l, err := links.peek(ctx)
		if err != nil || l == nil {
			broken = append(broken, missing(sealed)...)
			return broken, err
		}
		if l.Chain != chain {
			chain, before = l.Chain, history.Head{}
		}
		if head, known := sealed[chain]; known && l.Number == head.Number {
			delete(sealed, chain)
			if !bytes.Equal(l.hash, head.Hash) {
				broken = append(broken, fmt.Sprintf("link %d of chain %q is not the one that was sealed", l.Number, chain))
			}
		}
		if l.Number != before.Number+1 {
			broken = append(broken, fmt.Sprintf("link %d of chain %q: link %d is missing", l.Number, chain, before.Number+1))
		} else if !bytes.Equal(l.hash, l.Hash(before.Hash)) {
			broken = append(broken, fmt.Sprintf("link %d of chain %q (%s %s ... at %s) was changed, or the one before it",
				l.Number, chain, l.Relation, l.Keys[0], l.At.Format(time.RFC3339)))
		}
		before = history.Head{Number: l.Number, Hash: l.hash}
		links.take()
	}
	return broken, links.close(ctx)
}

// missing are the sealed links that were not met.
func missing(sealed map[string]history.Head) []string {
	var broken []string
	for chain, head := range sealed {
		broken = append(broken, fmt.Sprintf("link %d of chain %q was sealed, and is not there: the history was cut, or "+
			"the database was restored as of before", head.Number, chain))
	}
	slices.Sort(broken)
	return broken
}
