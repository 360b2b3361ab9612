package history

import (
	"time"

	"github.com/jackc/pgx/v5"
)

// RequestColumns are the columns of a row r of requests, as [ScanRequest] reads them.
const RequestColumns = `r.key, r.kind, r.fingerprint, r.job_id, r.requested_at, r.status, coalesce(r.code, ''),
	r.detail::text, r.attempts, r.settled_at`

// PaymentColumns are the columns of a row p of payments, as [ScanPayment] reads them.
const PaymentColumns = `p.id, p.key, p.from_account, p.to_account, p.amount, p.amount_captured, p.amount_refunded,
	p.currency, p.status, p.version, p.expires_at, p.created_at, p.updated_at, coalesce(p.processor, ''),
	coalesce(p.method, ''), coalesce(p.reference, ''), coalesce(p.calling, ''), p.in_flight`

// ScanPayment reads a row of payments; more are the destinations of the columns that follow.
func ScanPayment(rows pgx.Rows, more ...any) (*Payment, error) {
	p := &Payment{}
	into := []any{&p.ID, &p.Key, &p.From, &p.To, &p.Amount, &p.Captured, &p.Refunded, &p.Currency, &p.Status,
		&p.Version, &p.ExpiresAt, &p.CreatedAt, &p.UpdatedAt, &p.Processor, &p.Method, &p.Reference, &p.Calling,
		&p.InFlight}
	return p, rows.Scan(append(into, more...)...)
}

// ReservationColumns are the columns of a row v of reservations, as [ScanReservation] reads them.
const ReservationColumns = `v.id, v.key, coalesce(v.customer, ''), v.status, coalesce(v.waiting_number, 0), v.version,
	v.expires_at, v.created_at, v.updated_at`

// ScanReservation reads a row of reservations; more are the destinations of the columns that follow.
func ScanReservation(rows pgx.Rows, more ...any) (*Reservation, error) {
	v := &Reservation{}
	into := []any{&v.ID, &v.Key, &v.Customer, &v.Status, &v.WaitingNumber, &v.Version, &v.ExpiresAt, &v.CreatedAt,
		&v.UpdatedAt}
	return v, rows.Scan(append(into, more...)...)
}

// ItemColumns are the columns of a row i of reservation_items, as [ScanItem] reads them.
const ItemColumns = `i.reservation_id, i.position, i.resource_id, i.quantity, lower(i.during), upper(i.during)`

// ScanItem reads a row of reservation_items.
func ScanItem(rows pgx.Rows) (*Item, error) {
	i := &Item{}
	var start, end *time.Time
	err := rows.Scan(&i.Reservation, &i.Position, &i.Resource, &i.Quantity, &start, &end)
	if start != nil {
		i.Start = *start
	}
	if end != nil {
		i.End = *end
	}
	return i, err
}

// TransferColumns are the columns of a row t of transfers and its entries from and to, as [ScanTransfer] reads them.
const TransferColumns = `t.id, t.key, t.leg, t.from_account, t.to_account, t.amount, t.currency,
	coalesce(t.payment_id, ''), coalesce(t.reverses_id, 0), coalesce(t.description, ''), t.metadata::text, t.created_at,
	taken.created_at, given.created_at`

// ScanTransfer reads a row of transfers; more are the destinations of the columns that follow.
func ScanTransfer(rows pgx.Rows, more ...any) (*Transfer, error) {
	t := &Transfer{}
	into := []any{&t.ID, &t.Key, &t.Leg, &t.From, &t.To, &t.Amount, &t.Currency, &t.Payment, &t.Reverses, &t.Description,
		&t.Metadata, &t.CreatedAt, &t.TakenAt, &t.GivenAt}
	return t, rows.Scan(append(into, more...)...)
}

// ClosingColumns are the columns of a row c of closings, as [ScanClosing] reads them.
const ClosingColumns = `c.account_id, c.version, c.balance, c.transfer_id, c.through, c.closed_at`

// ScanClosing reads a row of closings; more are the destinations of the columns that follow.
func ScanClosing(rows pgx.Rows, more ...any) (*Closing, error) {
	c := &Closing{}
	into := []any{&c.Account, &c.Version, &c.Balance, &c.Transfer, &c.Through, &c.ClosedAt}
	return c, rows.Scan(append(into, more...)...)
}

// ScanRequest reads a row of requests; more are the destinations of the columns that follow.
func ScanRequest(rows pgx.Rows, more ...any) (*Request, error) {
	q := &Request{}
	var settledAt *time.Time
	into := []any{&q.Key, &q.Kind, &q.Fingerprint, &q.JobID, &q.RequestedAt, &q.Status, &q.Code, &q.Detail,
		&q.Attempts, &settledAt}
	err := rows.Scan(append(into, more...)...)
	if settledAt != nil {
		q.SettledAt = *settledAt
	}
	return q, err
}
