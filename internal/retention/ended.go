package retention

import (
	"context"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/lastseat/lastseat/internal/history"
)

// What has ended: payments and reservations in which nothing is held, and that count in no figure. The functions look
// at the same conditions for every row, and lock it.

const (
	oldPaymentsSQL = `
	SELECT ` + history.PaymentColumns + `, p.ctid::text, now()
	FROM lastseat.payments p
	WHERE p.ctid > @after::tid AND p.ctid < @end::tid
	  AND p.status IN ('declined', 'voided', 'expired', 'captured') AND p.processor IS NULL
	  AND p.updated_at < (SELECT lastseat.kept_since('payments'))
	ORDER BY p.ctid LIMIT @rows`

	removePaymentsSQL = `SELECT lastseat.remove_payments(@keys, @digests, @number, @at, @hash)`
)

// whatEnds goes through a table if the table retention says how long what is kept.
func (k *Keeper) whatEnds(
	ctx context.Context, what, table string, step func(tx pgx.Tx, after, end string) (removed int, last string, err error),
) error {
	var limited bool
	err := k.conn.QueryRow(ctx, `SELECT lastseat.kept_since($1) IS NOT NULL`, what).Scan(&limited)
	if err != nil || !limited {
		return err
	}
	return k.scan(ctx, table, step)
}

func (k *Keeper) payments(ctx context.Context) error {
	return k.whatEnds(ctx, "payments", "payments", func(tx pgx.Tx, after, end string) (int, string, error) {
		rows, err := tx.Query(ctx, oldPaymentsSQL, pgx.NamedArgs{"after": after, "end": end, "rows": k.settings.Rows})
		if err != nil {
			return 0, "", err
		}
		last, now := "", time.Time{}
		old, err := collect(rows, func() (*history.Payment, error) { return history.ScanPayment(rows, &last, &now) })
		if err != nil || len(old) == 0 {
			return 0, "", err
		}
		log := &history.Log{}
		for _, p := range old {
			log.Add(history.Payments+history.Removed, history.VersionKey(p.ID, p.Version), p.Digest())
		}
		if err := note(ctx, tx, removePaymentsSQL, log, now); err != nil {
			return 0, "", err
		}
		k.removed.Payments += int64(len(old))
		return len(old), k.goOn(len(old), last), nil
	})
}

// goOn is where a range of pages is continued, of which so many rows were read; "" if it has no more.
func (k *Keeper) goOn(read int, last string) string {
	if read < k.settings.Rows {
		return ""
	}
	return last
}

const (
	// One that is confirmed has ended when all its time ranges are over; one that counts for a customer's limit, or takes
	// a quantity, counts until it is cancelled.
	oldReservationsSQL = `
	SELECT ` + history.ReservationColumns + `, v.ctid::text, now()
	FROM lastseat.reservations v
	WHERE v.ctid > @after::tid AND v.ctid < @end::tid
	  AND v.status IN ('rejected', 'cancelled', 'expired', 'confirmed')
	  AND v.updated_at < (SELECT lastseat.kept_since('reservations'))
	  AND (v.status <> 'confirmed' OR NOT EXISTS (
	      SELECT FROM lastseat.reservation_items i LEFT JOIN lastseat.resources r ON r.id = i.resource_id
	      WHERE i.reservation_id = v.id
	        AND (coalesce(upper(i.during) >= (SELECT lastseat.kept_since('reservations')), true)
	             OR v.customer IS NOT NULL AND r.limit_group IS NOT NULL)))
	ORDER BY v.ctid LIMIT @rows`

	itemsSQL = `
	SELECT ` + history.ItemColumns + ` FROM lastseat.reservation_items i
	WHERE i.reservation_id = ANY ($1::text[]) ORDER BY i.reservation_id, i.position`

	removeReservationsSQL = `
	SELECT lastseat.remove_reservations(@keys, @digests, @items, @item_digests, @number, @at, @hash, @item_hash)`
)

func (k *Keeper) reservations(ctx context.Context) error {
	return k.whatEnds(ctx, "reservations", "reservations", func(tx pgx.Tx, after, end string) (int, string, error) {
		rows, err := tx.Query(ctx, oldReservationsSQL, pgx.NamedArgs{"after": after, "end": end, "rows": k.settings.Rows})
		if err != nil {
			return 0, "", err
		}
		var places []string
		last, now := "", time.Time{}
		old, err := collect(rows, func() (*history.Reservation, error) {
			v, err := history.ScanReservation(rows, &last, &now)
			places = append(places, last)
			return v, err
		})
		if err != nil || len(old) == 0 {
			return 0, "", err
		}
		n, err := k.removeReservations(ctx, tx, old, now)
		if err != nil {
			return 0, "", err
		}
		k.removed.Reservations += int64(n)
		if n < len(old) {
			return n, places[n-1], nil
		}
		return n, k.goOn(n, last), nil
	})
}

// itemsPerRow bounds the items that go in one transaction: a reservation may have thousands.
const itemsPerRow = 10

// fitting is how many of the reservations, the first ones, have no more items together than most; at least one.
func fitting(old []*history.Reservation, items []*history.Item, most int) int {
	counts := make(map[string]int, len(old))
	for _, i := range items {
		counts[i.Reservation]++
	}
	sum := 0
	for n, v := range old {
		if sum += counts[v.ID]; n > 0 && sum > most {
			return n
		}
	}
	return len(old)
}

// removeReservations continues the chain with a link of the reservations and one of their items, and removes both. It
// returns how many it has removed, the first ones.
func (k *Keeper) removeReservations(
	ctx context.Context, tx pgx.Tx, old []*history.Reservation, now time.Time,
) (n int, err error) {
	ids := make([]string, len(old))
	for i, v := range old {
		ids[i] = v.ID
	}
	rows, err := tx.Query(ctx, itemsSQL, ids)
	if err != nil {
		return 0, err
	}
	items, err := collect(rows, func() (*history.Item, error) { return history.ScanItem(rows) })
	if err != nil {
		return 0, err
	}
	n = fitting(old, items, itemsPerRow*k.settings.Rows)
	log, going := &history.Log{}, make(map[string]bool, n)
	for _, v := range old[:n] {
		going[v.ID] = true
		log.Add(history.Reservations+history.Removed, history.VersionKey(v.ID, v.Version), v.Digest())
	}
	for _, i := range items {
		if going[i.Reservation] {
			log.Add(history.Items+history.Removed, history.ItemKey(i.Reservation, i.Position), i.Digest())
		}
	}
	links, hashes, err := nextLinks(ctx, tx, log, now)
	if err != nil {
		return 0, err
	}
	args := linkArgs(links[0], hashes[0])
	args["items"], args["item_digests"], args["item_hash"] = []string{}, [][]byte{}, nil
	if len(links) > 1 {
		args["items"], args["item_digests"], args["item_hash"] = links[1].Keys, links[1].Digests, hashes[1]
	}
	_, err = tx.Exec(ctx, removeReservationsSQL, args)
	return n, err
}
