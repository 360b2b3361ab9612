package jobs

import (
	"context"
	"slices"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/lastseat/lastseat/outbox"
)

// The statuses of a reservation; the table proves which may follow which.
const (
	reservationPending   = "pending"
	reservationHeld      = "held"
	reservationConfirmed = "confirmed"
	reservationCancelled = "cancelled"
	reservationRejected  = "rejected"
	reservationExpired   = "expired"
	reservationWaiting   = "waiting"
)

// reservation is a row of reservations, with its items.
type reservation struct {
	id, key, customer string
	status            string
	expiresAt         time.Time
	place             int64 // in the lines that it waits in; lower ones come first
	version           int64 // that the table has
	createdAt         time.Time
	items             []*item

	created  bool   // by this batch: it is not in the table yet
	newItems bool   // they are not in the table yet
	joined   bool   // it joined the lines in this batch
	inLine   bool   // it was read with a line, so it may be another lane's, which alone knows when it may run out
	left     bool   // it left the lines that the table has it in
	steps    []step // what the table has to be told, one after the other
}

// step is a change of a reservation. The table proves each.
type step struct {
	status    string
	expiresAt time.Time
}

// become takes the reservation one step on, or keeps its status and records a new time.
func (r *reservation) become(status string) {
	r.status = status
	r.steps = append(r.steps, step{status, r.expiresAt})
}

// ranOut tells whether the reservation's time was over at a time.
func (r *reservation) ranOut(at time.Time) bool { return !at.Before(r.expiresAt) }

const reservationColumnsSQL = `
	SELECT id, key, coalesce(customer, ''), status, expires_at, coalesce(waiting_number, 0), version, created_at
	FROM lastseat.reservations`

const (
	lockedReservationsSQL = reservationColumnsSQL + ` WHERE id = ANY ($1::text[]) ORDER BY id`
	loadReservationsSQL   = lockedReservationsSQL + ` FOR NO KEY UPDATE SKIP LOCKED`
)

// loadReservations locks and reads the reservations that are asked for and not read yet, and calls loaded for each.
// Those that another session has locked are read, too: they say which resources are blocked.
func (p *places) loadReservations(ctx context.Context, tx pgx.Tx, loaded func(*reservation)) error {
	ids := unread(p.reservations)
	if len(ids) == 0 {
		return nil
	}
	if err := p.readReservations(ctx, tx, loadReservationsSQL, ids, loaded); err != nil {
		return err
	}
	missing := slices.DeleteFunc(ids, func(id string) bool { return p.reservations[id] != nil })
	if len(missing) == 0 {
		return nil
	}
	return p.readReservations(ctx, tx, lockedReservationsSQL, missing, func(r *reservation) {
		p.blocked.lock(rowID{table: reservationsTable, id: r.id})
		loaded(r)
	})
}

const dueReservationsSQL = `
	SELECT id FROM lastseat.reservations
	WHERE status IN ('held', 'waiting') AND expires_at <= @until
	  AND (@lanes = 1 OR abs(hashtextextended(id, 0) % @lanes) = @lane)
	ORDER BY expires_at, id LIMIT @limit`

// needDue needs the reservations of the lane that have run out. It locks none.
func (p *places) needDue(look *pgx.Batch, due outbox.Sweep) {
	var id string
	queueRead(look, "look for expired reservations", dueReservationsSQL, []any{dueArgs(due)}, []any{&id}, func() {
		p.needReservation(id)
	})
}

func (p *places) watchLive(r *reservation) {
	if r.status == reservationHeld || r.status == reservationWaiting {
		p.watch(r)
	}
}

func (p *places) readReservations(
	ctx context.Context, tx pgx.Tx, sql string, ids []string, loaded func(*reservation),
) error {
	var r reservation
	columns := []any{&r.id, &r.key, &r.customer, &r.status, &r.expiresAt, &r.place, &r.version, &r.createdAt}
	return read(ctx, tx, "lock reservations", sql, []any{ids}, columns, func() {
		row := r
		p.reservations[r.id] = &row
		loaded(&row)
	})
}

// Of jobs that were inserted directly, bypassing the SQL functions; see errMade.
const insertReservationsSQL = `
	INSERT INTO lastseat.reservations (id, key, customer, expires_at)
	SELECT id, key, nullif(customer, ''), expires_at
	FROM unnest(@ids::text[], @keys::text[], @customers::text[], @expire::timestamptz[])
	     AS n(id, key, customer, expires_at)
	ON CONFLICT (id) DO NOTHING`

func insertReservations(write *pgx.Batch, created []*reservation) {
	write.Queue(insertReservationsSQL, pgx.NamedArgs{
		"ids":       column(created, func(r *reservation) string { return r.id }),
		"keys":      column(created, func(r *reservation) string { return r.key }),
		"customers": column(created, func(r *reservation) string { return r.customer }),
		"expire":    column(created, func(r *reservation) time.Time { return r.steps[0].expiresAt }),
	}).Exec(expectMade(len(created)))
}

const updateReservationsSQL = `
	WITH n AS MATERIALIZED (
		SELECT n.*, (SELECT q.ctid FROM lastseat.reservations q WHERE q.id = n.id) AS row
		FROM unnest(@ids::text[], @statuses::text[], @expire::timestamptz[], @places::bigint[])
		     AS n(id, status, expires_at, place))
	UPDATE lastseat.reservations r
	SET status = n.status, expires_at = n.expires_at, waiting_number = coalesce(nullif(n.place, 0), r.waiting_number),
	    version = r.version + 1, updated_at = now()
	FROM n
	WHERE r.ctid = n.row`

// writeReservations queues one statement for the first step of each, one for the second, and so on: the table proves
// every step.
func writeReservations(write *pgx.Batch, changed []*reservation) {
	if created := only(changed, func(r *reservation) bool { return r.created }); len(created) > 0 {
		insertReservations(write, created)
	}
	place := func(r *reservation) int64 {
		if r.joined {
			return r.place
		}
		return 0
	}
	for round := 0; ; round++ {
		changed = only(changed, func(r *reservation) bool { return round < len(r.steps) })
		if len(changed) == 0 {
			return
		}
		write.Queue(updateReservationsSQL, pgx.NamedArgs{
			"ids":      column(changed, func(r *reservation) string { return r.id }),
			"statuses": column(changed, func(r *reservation) string { return r.steps[round].status }),
			"expire":   column(changed, func(r *reservation) time.Time { return r.steps[round].expiresAt }),
			"places":   column(changed, place),
		}).Exec(outbox.ExpectRows(len(changed)))
	}
}
