package audit

import (
	"bytes"
	"context"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/lastseat/lastseat/internal/history"
)

// newRows are the tables whose rows a round looks up by their keys. Transfers have a way of their own, but are among
// them for their notes.
var newRows = []table{
	withoutRemovals(requestRows), withoutRemovals(transferRows), withoutRemovals(paymentRows),
	withoutRemovals(reservationRows), withoutRemovals(itemRows),
	closingRows, accountRows, currencyRows, limitRows, retentionRows, removedRows, resourceRows,
}

// Their places in newRows.
const (
	requestTable = iota
	transferTable
	_
	_
	itemTable
	closingTable
)

func withoutRemovals(t table) table {
	t.relations = slices.DeleteFunc(slices.Clone(t.relations), func(relation string) bool {
		return strings.HasSuffix(relation, history.Removed) || strings.HasSuffix(relation, history.Archived)
	})
	return t
}

// identify makes kept.id and the version of a link's key.
func identify(t table, key string) (id string, version int64) {
	if t.version == versionOf {
		if i := strings.LastIndexByte(key, '@'); i >= 0 {
			version, _ = strconv.ParseInt(key[i+1:], 10, 64)
			return key[:i], version
		}
	}
	return key, 0
}

// number is the id of a transfer.
func (k openKey) number() int64 {
	number, _ := strconv.ParseInt(k.id, 10, 64) // else there is no such transfer
	return number
}

// lookUp is SQL that reads the rows with the keys $1. OFFSET keeps the planner from any other way than by key.
func (t *table) lookUp() string {
	where := t.key + ` = asked.id COLLATE "C"`
	if t.where != "" {
		where = t.where + " AND " + where
	}
	return fmt.Sprintf("SELECT found.* FROM unnest($1::text[]) AS asked(id), LATERAL (%s WHERE %s OFFSET 0) found",
		t.sql, where)
}

// forGood tells whether a violation stays one: what it is about is not looked at again.
func forGood(told string) bool {
	return strings.HasPrefix(told, "link ") || strings.Contains(told, madeUpTransfer)
}

// mostWaiting rows of history_waiting are read. If there are more, a row that differs may be one of the others.
const mostWaiting = 10_000

// context reads what excuses a row that is not as noted.
func (r *round) context(ctx context.Context) error {
	rows, err := r.tx.Query(ctx, `SELECT w.relation || ' ' || w.key FROM lastseat.history_waiting w LIMIT $1`, mostWaiting)
	if err != nil {
		return fmt.Errorf("read what waits to be noted: %w", err)
	}
	waiting, err := pgx.CollectRows(rows, pgx.RowTo[string])
	if err != nil {
		return fmt.Errorf("read what waits to be noted: %w", err)
	}
	r.ended = r.ended && len(waiting) < mostWaiting
	r.waiting = make(map[string]bool, len(waiting))
	for _, row := range waiting {
		r.waiting[row] = true
	}
	rows, err = r.tx.Query(ctx, `SELECT r.what, r.before FROM lastseat.removed r`)
	if err != nil {
		return fmt.Errorf("read how far retention has come: %w", err)
	}
	r.removed = make([]time.Time, len(newRows))
	var what string
	var before time.Time
	if _, err := pgx.ForEachRow(rows, []any{&what, &before}, func() error {
		for i, t := range newRows {
			if t.relations[0] == what || what == history.Reservations && i == itemTable {
				r.removed[i] = before
			}
		}
		return nil
	}); err != nil {
		return fmt.Errorf("read how far retention has come: %w", err)
	}
	return nil
}

// rows looks up the rows of a table that were noted, and judges them.
func (r *round) rows(ctx context.Context, number int) error {
	if number == transferTable {
		return nil
	}
	t := newRows[number]
	var ids, asked []string
	for key := range r.open {
		if key.table == number {
			ids = append(ids, key.id)
		}
	}
	if len(ids) == 0 {
		return nil
	}
	for _, id := range ids {
		if t.order != "" { // an item is looked up by its reservation, a closing by its account
			id = id[:max(0, strings.LastIndexByte(id, '#'))]
		}
		asked = append(asked, id)
	}
	slices.Sort(asked)
	asked = slices.Compact(asked)
	rows, err := r.tx.Query(ctx, t.lookUp(), asked)
	if err != nil {
		return err
	}
	found := make(map[string]kept, len(ids))
	for rows.Next() {
		row, err := t.scan(rows)
		if err != nil {
			rows.Close()
			return err
		}
		found[row.id] = row
	}
	if err := rows.Err(); err != nil {
		return err
	}
	for _, id := range ids {
		key := openKey{number, id}
		row, there := found[id]
		if !there {
			r.missing(key)
		} else if r.asNoted(key, &row) {
			delete(r.open, key)
		}
	}
	return nil
}

// missing judges a row that was noted and is not there.
func (r *round) missing(key openKey) {
	t, notes := newRows[key.table], r.open[key]
	if !latest(notes).Before(r.removed[key.table]) {
		r.violation("%s %s was settled, and is not there: it was deleted, or set back", what(t),
			key.id)
		return
	}
	delete(r.open, key) // retention has removed it, which worker audit proves
}

func latest(notes []note) (at time.Time) {
	for _, n := range notes {
		if n.at.After(at) {
			at = n.at
		}
	}
	return at
}

// asNoted tells whether a row is what was last noted of it, or need not be. Whatever changes a row notes it in the same
// commit, so a row that is not what was noted last is right only if its last note was not read yet.
func (r *round) asNoted(key openKey, row *kept) bool {
	t, notes := newRows[key.table], r.open[key]
	switch {
	case fits(key, notes, row):
		return true
	case key.table == requestTable && latest(notes).Before(r.removed[requestTable]):
		return true // the key was free again
	case r.waiting[t.relations[0]+" "+key.id]:
		return false
	case r.ended || final(key, notes, row):
		r.violation("%s %s was changed: it is not what the history has of it", what(t), row.name)
	}
	return false
}

// fits tells whether a row is as one of its notes says. A request that was retried has several; of others the last one
// counts.
func fits(key openKey, notes []note, row *kept) bool {
	if key.table == requestTable {
		return slices.ContainsFunc(notes, func(n note) bool { return bytes.Equal(n.digest, row.digest) })
	}
	return bytes.Equal(newest(notes).digest, row.digest)
}

// newest is the note with the highest version, and of those without one the last.
func newest(notes []note) (last note) {
	for _, n := range notes {
		if n.version >= last.version {
			last = n
		}
	}
	return last
}

// final tells whether no other note of a row can follow.
func final(key openKey, notes []note, row *kept) bool {
	switch last := newest(notes); {
	case key.table == requestTable:
		return slices.ContainsFunc(notes, func(n note) bool { return n.relation == history.Requests })
	case last.version > 0:
		return row.version <= last.version
	}
	return key.table == itemTable || key.table == closingTable
}
