package main

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/lastseat/lastseat/jobs"
)

// check counts rows; there have to be so many.
type check struct {
	what string
	sql  string
	want int
	args []any
}

const notDoneSQL = `SELECT count(*) FROM %s WHERE state <> 'completed'`

// verifySettled is true of a database whose requests were all applied, once.
func verifySettled(f filling) []check {
	switch f.workload {
	case mixed:
		return slices.Concat(allApplied(f), f.paymentChecks(), wholeLedger)
	case holds, stays, hotHold:
		return slices.Concat(allApplied(f), f.reservationChecks())
	default:
		return slices.Concat(allApplied(f), transferChecks(f.jobs), wholeLedger)
	}
}

func allApplied(f filling) []check {
	return []check{
		{what: "jobs left", sql: fmt.Sprintf(notDoneSQL, "lastseat.river_job") + ` AND queue = 'lastseat'`}, // not upkeep
		{what: "requests applied", want: f.jobs, sql: `
			SELECT count(*) FROM lastseat.requests r
			JOIN (VALUES ('payment.transfer', 'transferred'), ('payment.authorize', 'authorized'),
			  ('payment.capture', 'captured'), ('payment.void', 'voided'),
			             ('payment.refund', 'refunded'), ('reservation.hold', 'held'),
			               ('reservation.confirm', 'confirmed')) AS done(kind, code) USING (kind, code)
			WHERE (r.status, r.attempts) = ('applied', 1)`},
		{what: "requests in all", want: f.jobs, sql: `SELECT count(*) FROM lastseat.requests`},
	}
}

func transferChecks(n int) []check {
	return []check{
		{what: "transfers", want: n, sql: `SELECT count(*) FROM lastseat.transfers`},
		{what: "transfers of a request", want: n, sql: `SELECT count(*) FROM lastseat.transfers
			JOIN lastseat.requests USING (key)`},
		{what: "accounts whose versions are not those of their entries", sql: `
			SELECT count(*) FROM lastseat.accounts a
			LEFT JOIN (SELECT account_id, max(version) AS newest FROM lastseat.entries GROUP BY account_id) e
			  ON e.account_id = a.id
			WHERE a.version <> coalesce(e.newest, 0)`},
	}
}

// wholeLedger is true of any.
var wholeLedger = []check{
	{what: "transfers that are not two entries, one from and one to", sql: `
		SELECT count(*) FROM lastseat.transfers t FULL JOIN (
			SELECT transfer_id, count(*), min(amount), max(amount), array_agg(account_id ORDER BY amount) AS accounts
			FROM lastseat.entries GROUP BY transfer_id) e ON e.transfer_id = t.id
		WHERE (e.count, e.min, e.max, e.accounts) IS DISTINCT
		  FROM (2, -t.amount, t.amount, ARRAY[t.from_account, t.to_account])`},
	{what: "sum of all balances", sql: `SELECT sum(balance) FROM lastseat.accounts`},
	{what: "accounts whose entries don't make their balance", sql: `
		SELECT count(*) FROM lastseat.accounts a
		LEFT JOIN (SELECT account_id, sum(amount) AS balance, count(*) AS entries, max(version) AS newest
		           FROM lastseat.entries GROUP BY account_id) e ON e.account_id = a.id
		WHERE (a.balance, a.entry_count, a.entry_count) <> (coalesce(e.balance, 0), coalesce(e.entries, 0),
		  coalesce(e.newest, 0))`},
}

// paymentChecks hold the payments against what was asked for.
func (f filling) paymentChecks() []check {
	type payment struct {
		status             string
		captured, refunded int64
	}
	payments, amounts := make(map[string]payment), make(map[string]int64)
	moved := 0
	for _, r := range f.requests() {
		switch asked := r.args.(type) {
		case jobs.Authorize:
			payments[asked.Payment], amounts[asked.Payment] = payment{status: "authorized"}, asked.Amount
		case jobs.Void:
			payments[asked.Payment] = payment{status: "voided"}
		case jobs.Capture:
			moved++
			captured := asked.Amount
			if captured == 0 {
				captured = amounts[asked.Payment]
			}
			payments[asked.Payment] = payment{status: "captured", captured: captured}
		case jobs.Refund:
			moved++
			p := payments[asked.Payment]
			p.refunded = asked.Amount
			if p.refunded == 0 {
				p.refunded = p.captured
			}
			payments[asked.Payment] = p
		}
	}
	var ids, statuses []string
	var captured, refunded []int64
	for id, p := range payments {
		ids, statuses, captured, refunded = append(ids, id), append(statuses, p.status), append(captured, p.captured),
			append(refunded, p.refunded)
	}
	return []check{
		{what: "payments that are not as asked", args: []any{ids, statuses, captured, refunded}, sql: `
			SELECT count(*) FROM lastseat.payments p
			FULL JOIN unnest($1::text[], $2::text[], $3::bigint[], $4::bigint[]) AS want(id, status, captured,
			  refunded) USING (id)
			WHERE (p.status, p.amount_captured, p.amount_refunded) IS DISTINCT
			  FROM (want.status, want.captured, want.refunded)`},
		{what: "accounts that don't hold what is authorized", sql: `
			SELECT count(*) FROM lastseat.accounts a
			LEFT JOIN (SELECT from_account, sum(amount) AS held FROM lastseat.payments WHERE status = 'authorized'
			  GROUP BY from_account) p ON p.from_account = a.id
			WHERE a.held <> coalesce(p.held, 0)`},
		{what: "transfers of a request", want: moved, sql: `SELECT count(*) FROM lastseat.transfers
			JOIN lastseat.requests USING (key)`},
		{what: "transfers that are not what their payment says", sql: `
			SELECT count(*) FROM lastseat.payments p
			FULL JOIN (SELECT payment_id, sum(amount) AS moved FROM lastseat.transfers GROUP BY payment_id) t
			  ON t.payment_id = p.id
			WHERE p.amount_captured + p.amount_refunded IS DISTINCT FROM coalesce(t.moved, 0)`},
	}
}

// reservationChecks hold the reservations against what was asked for.
func (f filling) reservationChecks() []check {
	status := make(map[string]string)
	var items struct {
		reservations, resources []string
		quantities              []int64
	}
	for _, r := range f.requests() {
		switch asked := r.args.(type) {
		case jobs.Hold:
			status[asked.Reservation] = "held"
			for _, item := range asked.Items {
				items.reservations, items.resources = append(items.reservations, asked.Reservation), append(items.resources,
					item.Resource)
				items.quantities = append(items.quantities, item.Quantity)
			}
		case jobs.Confirm:
			status[asked.Reservation] = "confirmed"
		}
	}
	var ids, statuses []string
	for id, s := range status {
		ids, statuses = append(ids, id), append(statuses, s)
	}
	return []check{
		{what: "reservations that are not as asked", args: []any{ids, statuses}, sql: `
			SELECT count(*) FROM lastseat.reservations r FULL JOIN unnest($1::text[], $2::text[]) AS want(id, status) USING (id)
			WHERE (r.status, r.version) IS DISTINCT FROM (want.status, CASE want.status WHEN 'held' THEN 1 WHEN 'confirmed'
			  THEN 2 END)`},
		{what: "items that are not as asked", args: []any{items.reservations, items.resources, items.quantities}, sql: `
			SELECT count(*) FROM lastseat.reservation_items i
			FULL JOIN unnest($1::text[], $2::text[], $3::bigint[]) AS want(reservation_id, resource_id,
			  quantity) USING (reservation_id, resource_id)
			WHERE i.quantity IS DISTINCT FROM want.quantity`},
		{what: "resources that don't have what their items have", sql: `
			SELECT count(*) FROM lastseat.resources r
			LEFT JOIN (SELECT i.resource_id, sum(quantity) FILTER (WHERE status = 'held') AS held,
			  sum(quantity) FILTER (WHERE status = 'confirmed') AS confirmed
			           FROM lastseat.reservation_items i JOIN lastseat.reservations v ON v.id = i.reservation_id
			             GROUP BY i.resource_id) t ON t.resource_id = r.id
			WHERE (r.held, r.confirmed) <> (coalesce(t.held, 0), coalesce(t.confirmed, 0))`},
	}
}

// verifyOnlyCompleted is true of a database whose jobs were done and had no effect.
func verifyOnlyCompleted(f filling) []check {
	return []check{
		{what: "jobs left", sql: fmt.Sprintf(notDoneSQL, riverTable)},
		{what: "jobs completed", want: f.jobs, sql: `SELECT count(*) FROM ` + riverTable + ` WHERE state = 'completed'`},
	}
}

func verify(ctx context.Context, pool *pgxpool.Pool, checks []check) error {
	var errs []error
	for _, c := range checks {
		var found int
		if err := pool.QueryRow(ctx, c.sql, c.args...).Scan(&found); err != nil {
			return fmt.Errorf("check %s: %w", c.what, err)
		}
		if found != c.want {
			errs = append(errs, fmt.Errorf("wrong result: %s: %d instead of %d", c.what, found, c.want))
		}
	}
	return errors.Join(errs...)
}
