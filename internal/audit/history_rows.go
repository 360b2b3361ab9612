package audit

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/lastseat/lastseat/internal/history"
	"github.com/lastseat/lastseat/schema"
)

// The tables that the history is about. Each is read in the order of its key.

var requestRows = table{
	relations: []string{history.Requests, history.Failed, history.Reopened, history.Requests + history.Removed,
		history.Requests + history.Archived},
	id: "k.key", version: "0",
	sql: `SELECT ` + history.RequestColumns + ` FROM lastseat.requests r`, key: "r.key",
	scan: func(rows pgx.Rows) (kept, error) {
		q, err := history.ScanRequest(rows)
		return kept{id: q.Key, name: q.Key, status: q.Status, digest: q.Digest()}, err
	},
}

var transferRows = table{
	relations: []string{history.Transfers, history.Transfers + history.Removed, history.Transfers + history.Archived},
	id:        "lpad(split_part(k.key, ' ', 1), 19, '0')", version: "0",
	sql: `
	SELECT t.id, t.key, t.leg, t.from_account, t.to_account, t.amount, t.currency, coalesce(t.payment_id, ''),
	       coalesce(t.reverses_id, 0), t.description, t.metadata::text, t.created_at, e.taken, e.given
	FROM lastseat.transfers t
	LEFT JOIN (SELECT transfer_id, max(created_at) FILTER (WHERE amount < 0) AS taken,
	                  max(created_at) FILTER (WHERE amount > 0) AS given
	           FROM lastseat.entries GROUP BY transfer_id) e ON e.transfer_id = t.id`,
	key: "t.id",
	scan: func(rows pgx.Rows) (kept, error) {
		var t history.Transfer
		var description *string
		var taken, given *time.Time
		err := rows.Scan(&t.ID, &t.Key, &t.Leg, &t.From, &t.To, &t.Amount, &t.Currency, &t.Payment, &t.Reverses,
			&description, &t.Metadata, &t.CreatedAt, &taken, &given)
		row := kept{id: fmt.Sprintf("%019d", t.ID), name: fmt.Sprintf("%d (key %s)", t.ID, t.Key)}
		if err != nil || taken == nil || given == nil || description != nil && *description == "" {
			return row, err // no digest: it is not what was written
		}
		if t.TakenAt, t.GivenAt = *taken, *given; description != nil {
			t.Description = *description
		}
		row.digest = t.Digest()
		return row, nil
	},
}

// What lastseat.note_definition notes.
var (
	accountRows   = definitionRows("accounts", "id", "currency", "overdraft_limit", "created_at")
	currencyRows  = definitionRows("currencies", "code", "minor_units", "withdrawn")
	limitRows     = definitionRows("limit_groups", "id", "per_customer", "created_at", "updated_at")
	retentionRows = definitionRows("retention", "what", "days")
	removedRows   = definitionRows("removed", "what", "before", "last_timeline", "last_xid", "last_number", "last_place")
	resourceRows  = definitionRows("resources", "id", "capacity", "overbook", "limit_group", "created_at")
)

// versions make an id and a version of ID@VERSION.
const (
	idOfVersion = `regexp_replace(k.key, '@[0-9]+$', '')`
	versionOf   = `coalesce(substring(k.key FROM '@([0-9]+)$')::bigint, 0)`
)

var paymentRows = table{
	relations: []string{history.Payments, history.Payments + history.Removed}, id: idOfVersion, version: versionOf,
	sql:   `SELECT ` + history.PaymentColumns + ` FROM lastseat.payments p`,
	where: "p.version > 0", key: "p.id",
	scan: func(rows pgx.Rows) (kept, error) {
		p, err := history.ScanPayment(rows)
		return kept{id: p.ID, name: p.ID, digest: p.Digest(), version: p.Version}, err
	},
}

var reservationRows = table{
	relations: []string{history.Reservations, history.Reservations + history.Removed}, id: idOfVersion, version: versionOf,
	sql:   `SELECT ` + history.ReservationColumns + ` FROM lastseat.reservations v`,
	where: "v.status <> 'pending'", key: "v.id",
	scan: func(rows pgx.Rows) (kept, error) {
		v, err := history.ScanReservation(rows)
		return kept{id: v.ID, name: v.ID, digest: v.Digest(), version: v.Version}, err
	},
}

var itemRows = table{
	relations: []string{history.Items, history.Items + history.Removed}, id: "k.key", version: "0",
	sql: `SELECT ` + history.ItemColumns + ` FROM lastseat.reservation_items i`,
	key: "i.reservation_id", order: `(i.reservation_id || '#' || i.position) COLLATE "C"`,
	scan: func(rows pgx.Rows) (kept, error) {
		i, err := history.ScanItem(rows)
		name := fmt.Sprintf("%d of reservation %s", i.Position, i.Reservation)
		return kept{id: history.ItemKey(i.Reservation, i.Position), name: name, digest: i.Digest()}, err
	},
}

var closingRows = table{
	relations: []string{history.Closings}, id: "k.key", version: "0",
	sql: `SELECT ` + history.ClosingColumns + ` FROM lastseat.closings c`,
	key: "c.account_id", order: `(c.account_id || '#' || c.version) COLLATE "C"`,
	scan: func(rows pgx.Rows) (kept, error) {
		c, err := history.ScanClosing(rows)
		name := fmt.Sprintf("of account %s at entry %d", c.Account, c.Version)
		return kept{id: history.ClosingKey(c.Account, c.Version), name: name, digest: c.Digest()}, err
	},
}

// definitionRows are read as lastseat.note_definition writes them. The first column is the key.
func definitionRows(name string, columns ...string) table {
	texts := make([]string, len(columns))
	for i, column := range columns {
		texts[i] = "to_jsonb(d) ->> '" + column + "'"
	}
	return table{
		relations: []string{name}, id: "k.key", version: "0",
		sql: fmt.Sprintf("SELECT d.%s, ARRAY[%s] FROM lastseat.%s d", columns[0], strings.Join(texts, ", "), name),
		key: "d." + columns[0],
		scan: func(rows pgx.Rows) (kept, error) {
			var id string
			var values []*string
			err := rows.Scan(&id, &values)
			row := kept{id: id, name: id, digest: history.Texts(values)}
			if err == nil && name == "currencies" {
				line := "currency " + id + " " + *values[1]
				if withdrawn := values[2]; withdrawn != nil {
					line += " " + *withdrawn
				}
				row.shipped = slices.Contains(schema.Shipped(), line)
			}
			return row, err
		},
	}
}
