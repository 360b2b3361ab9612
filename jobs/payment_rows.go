package jobs

import (
	"context"
	"maps"
	"slices"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/lastseat/lastseat/outbox"
)

// The statuses of a payment; the table proves which may follow which.
const (
	paymentPending    = "pending"
	paymentAuthorized = "authorized"
	paymentCaptured   = "captured"
	paymentDeclined   = "declined"
	paymentVoided     = "voided"
	paymentExpired    = "expired"
)

// payment is a row of payments. Amounts are minor units.
type payment struct {
	id, key, from, to          string
	amount, captured, refunded int64
	currency                   string
	status                     string
	expiresAt                  time.Time
	version                    int64
	createdAt                  time.Time

	processor, method string    // empty: it is not paid by card
	reference         string    // the processor's id of the charge; empty: there is none yet
	calling           string    // the key of the request for which the processor is asked; empty: none
	inFlight          int64     // what is on the clearing account meanwhile
	updatedAt         time.Time // by the batch that last changed it; zero: this one did

	created       bool // by this batch: it is not in the table yet
	wasAuthorized bool // by this batch: the table has it as pending still
	changed       bool
}

// become takes the payment one step on.
func (p *payment) become(status string) {
	p.status = status
	p.version++
	p.changed = true
	p.updatedAt = time.Time{}
}

// clearing is the account on which its money stands while the processor is asked.
func (p *payment) clearing() string { return clearingAccount(p.processor, p.currency) }

// accounts are those that its requests touch.
func (p *payment) accounts() []string {
	if p.processor == "" {
		return []string{p.from, p.to}
	}
	return []string{p.from, p.to, p.clearing()}
}

// ranOut tells whether the payment's time was over at a time.
func (p *payment) ranOut(at time.Time) bool { return !at.Before(p.expiresAt) }

// refuseExpired says when the payment's time was over.
func (p *payment) refuseExpired() *outbox.Result {
	return reject(CodeAuthorizationExpired, map[string]any{"payment": p.id, "expires_at": inUTC(p.expiresAt)})
}

const (
	lockedPaymentsSQL = `
	SELECT id, key, from_account, to_account, amount, amount_captured, amount_refunded, currency, status, expires_at,
	       version, created_at, coalesce(processor, ''), coalesce(method, ''), coalesce(reference, ''),
	       coalesce(calling, ''), in_flight, updated_at
	FROM lastseat.payments WHERE id = ANY ($1::text[]) ORDER BY id`

	loadPaymentsSQL = lockedPaymentsSQL + ` FOR NO KEY UPDATE SKIP LOCKED`
)

// loadPayments locks and reads all payments that the batch needs. Those that another session has locked are read, too:
// they say which accounts are blocked.
func (m *money) loadPayments(ctx context.Context, tx pgx.Tx) error {
	if len(m.payments) == 0 {
		return nil
	}
	p := &payment{}
	columns := []any{
		&p.id, &p.key, &p.from, &p.to, &p.amount, &p.captured, &p.refunded, &p.currency, &p.status, &p.expiresAt,
		&p.version, &p.createdAt, &p.processor, &p.method, &p.reference, &p.calling, &p.inFlight,
		&p.updatedAt,
	}
	loaded := func() {
		loaded := *p
		m.payments[p.id] = &loaded
		if p.status == paymentAuthorized {
			m.watch(&loaded)
		}
	}
	ids := slices.Sorted(maps.Keys(m.payments))
	err := read(ctx, tx, "lock payments", loadPaymentsSQL, []any{ids}, columns, loaded)
	missing := unread(m.payments)
	if err != nil || len(missing) == 0 {
		return err
	}
	return read(ctx, tx, "look for locked payments", lockedPaymentsSQL, []any{missing}, columns, func() {
		m.blocked.lock(rowID{table: paymentsTable, id: p.id})
		loaded()
	})
}

const expiredPaymentsSQL = `
	SELECT id FROM lastseat.payments
	WHERE status = 'authorized' AND calling IS NULL AND expires_at <= @until
	  AND (@lanes = 1 OR abs(hashtextextended(id, 0) % @lanes) = @lane)
	ORDER BY expires_at, id LIMIT @limit`

// needExpired needs the authorizations of the lane that have run out. It locks none.
func (m *money) needExpired(look *pgx.Batch, due outbox.Sweep) {
	var id string
	queueRead(look, "look for expired authorizations", expiredPaymentsSQL, []any{dueArgs(due)}, []any{&id}, func() {
		m.needPayment(id)
	})
}

// dueArgs are the arguments of a statement that looks for what has run out.
func dueArgs(due outbox.Sweep) pgx.NamedArgs {
	return pgx.NamedArgs{"until": due.Until, "lanes": due.Lanes, "lane": due.Lane, "limit": due.Limit}
}

// writePayments queues the payments that have changed.
func (m *money) writePayments(write *pgx.Batch) {
	changed := changedRows(m.payments, func(p *payment) bool { return p.changed })
	if len(changed) == 0 {
		return
	}
	var created []*payment
	var twoSteps []string // the table proves every step
	for _, p := range changed {
		if p.created {
			created = append(created, p)
		}
		if p.wasAuthorized && p.status != paymentAuthorized {
			twoSteps = append(twoSteps, p.id)
		}
	}
	if len(created) > 0 {
		insertPayments(write, created)
	}
	if len(twoSteps) > 0 {
		authorizePayments(write, twoSteps)
	}
	updatePayments(write, changed)
}

// Of jobs that were inserted directly, bypassing the SQL functions; see errMade.
const insertPaymentsSQL = `
	INSERT INTO lastseat.payments
	       (id, key, from_account, to_account, amount, currency, expires_at, processor, method)
	SELECT i.id, i.key, i.giver, i.taker, i.amount, i.currency, i.expires_at, nullif(i.processor, ''), nullif(i.method, '')
	FROM unnest(@ids::text[], @keys::text[], @from::text[], @to::text[], @amounts::bigint[], @currencies::text[],
	            @expire::timestamptz[], @processors::text[], @methods::text[])
	     AS i(id, key, giver, taker, amount, currency, expires_at, processor, method)
	ON CONFLICT (id) DO NOTHING`

func insertPayments(write *pgx.Batch, created []*payment) {
	write.Queue(insertPaymentsSQL, pgx.NamedArgs{
		"ids":        column(created, func(p *payment) string { return p.id }),
		"keys":       column(created, func(p *payment) string { return p.key }),
		"from":       column(created, func(p *payment) string { return p.from }),
		"to":         column(created, func(p *payment) string { return p.to }),
		"amounts":    column(created, func(p *payment) int64 { return p.amount }),
		"currencies": column(created, func(p *payment) string { return p.currency }),
		"expire":     column(created, func(p *payment) time.Time { return p.expiresAt }),
		"processors": column(created, func(p *payment) string { return p.processor }),
		"methods":    column(created, func(p *payment) string { return p.method }),
	}).Exec(expectMade(len(created)))
}

const authorizePaymentsSQL = `
	UPDATE lastseat.payments SET status = 'authorized', version = version + 1 WHERE id = ANY (@ids::text[])`

func authorizePayments(write *pgx.Batch, ids []string) {
	write.Queue(authorizePaymentsSQL, pgx.NamedArgs{"ids": ids}).Exec(outbox.ExpectRows(len(ids)))
}

const updatePaymentsSQL = `
	WITH n AS MATERIALIZED (
		SELECT n.*, (SELECT q.ctid FROM lastseat.payments q WHERE q.id = n.id) AS row
		FROM unnest(@ids::text[], @statuses::text[], @captured::bigint[], @refunded::bigint[], @versions::bigint[],
		            @references::text[], @calling::text[], @in_flight::bigint[])
		     AS n(id, status, captured, refunded, version, reference, calling, in_flight))
	UPDATE lastseat.payments p
	SET status = n.status, amount_captured = n.captured, amount_refunded = n.refunded, version = n.version,
	    reference = nullif(n.reference, ''), calling = nullif(n.calling, ''), in_flight = n.in_flight, updated_at = now()
	FROM n
	WHERE p.ctid = n.row`

func updatePayments(write *pgx.Batch, changed []*payment) {
	write.Queue(updatePaymentsSQL, pgx.NamedArgs{
		"ids":        column(changed, func(p *payment) string { return p.id }),
		"statuses":   column(changed, func(p *payment) string { return p.status }),
		"captured":   column(changed, func(p *payment) int64 { return p.captured }),
		"refunded":   column(changed, func(p *payment) int64 { return p.refunded }),
		"versions":   column(changed, func(p *payment) int64 { return p.version }),
		"references": column(changed, func(p *payment) string { return p.reference }),
		"calling":    column(changed, func(p *payment) string { return p.calling }),
		"in_flight":  column(changed, func(p *payment) int64 { return p.inFlight }),
	}).Exec(outbox.ExpectRows(len(changed)))
}
