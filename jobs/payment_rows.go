package jobs

import (
	"cmp"
	"context"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/lastseat/lastseat/outbox"
)

// Payments' way in and out of the database.

const (
	paymentColumnsSQL = `
	SELECT id, key, from_account, to_account, amount, amount_captured, amount_refunded, currency, status, expires_at, version
	FROM lastseat.payments`

	loadPaymentsSQL = paymentColumnsSQL + ` WHERE id = ANY ($1::text[]) ORDER BY id FOR NO KEY UPDATE`

	expiredPaymentsSQL = `
	SELECT id FROM lastseat.payments
	WHERE status = 'authorized' AND expires_at <= @until AND (@lanes = 1 OR abs(hashtextextended(id, 0) % @lanes) = @lane)
	ORDER BY expires_at, id LIMIT @limit`

	// Of jobs that came past the SQL functions; see errMade.
	insertPaymentsSQL = `
	INSERT INTO lastseat.payments (id, key, from_account, to_account, amount, currency, expires_at)
	SELECT * FROM unnest(@ids::text[], @keys::text[], @from::text[], @to::text[], @amounts::bigint[], @currencies::text[], @expire::timestamptz[])
	ON CONFLICT (id) DO NOTHING`

	authorizePaymentsSQL = `
	UPDATE lastseat.payments SET status = 'authorized', version = version + 1
	WHERE id = ANY (@ids::text[])`

	updatePaymentsSQL = `
	UPDATE lastseat.payments p
	SET status = n.status, amount_captured = n.captured, amount_refunded = n.refunded, version = n.version, updated_at = now()
	FROM unnest(@ids::text[], @statuses::text[], @captured::bigint[], @refunded::bigint[], @versions::bigint[])
	     AS n(id, status, captured, refunded, version)
	WHERE p.id = n.id`
)

// errMade: a transaction that was open when a row was looked for has made it since. That is a conflict and nobody's fault,
// where a unique violation would cost the job an attempt. SERIALIZABLE says so itself, READ COMMITTED does not.
var errMade = &pgconn.PgError{Severity: "ERROR", Code: "40001", Message: "another session has made the payment or reservation"}

// expectMade is the callback of a queued statement that makes n rows, ON CONFLICT DO NOTHING.
func expectMade(n int) func(pgconn.CommandTag) error {
	return func(tag pgconn.CommandTag) error {
		if tag.RowsAffected() != int64(n) {
			return errMade
		}
		return nil
	}
}

// loadPayments locks and reads all payments that the batch needs.
func (s *state) loadPayments(ctx context.Context, tx pgx.Tx) error {
	if len(s.payments) == 0 {
		return nil
	}
	rows, err := tx.Query(ctx, loadPaymentsSQL, slices.Sorted(maps.Keys(s.payments)))
	if err != nil {
		return fmt.Errorf("lock payments: %w", err)
	}
	p := &payment{}
	columns := []any{&p.id, &p.key, &p.from, &p.to, &p.amount, &p.captured, &p.refunded, &p.currency, &p.status, &p.expiresAt, &p.version}
	_, err = pgx.ForEachRow(rows, columns, func() error {
		loaded := *p
		s.payments[p.id] = &loaded
		if p.status == paymentAuthorized {
			s.watchPayment(&loaded)
		}
		return nil
	})
	if err != nil {
		return fmt.Errorf("lock payments: %w", err)
	}
	return nil
}

// loadExpired needs the authorizations that have run out.
func (s *state) loadExpired(ctx context.Context, tx pgx.Tx, sweep outbox.Sweep) error {
	rows, err := tx.Query(ctx, expiredPaymentsSQL, pgx.NamedArgs{"until": sweep.Until, "lanes": sweep.Lanes, "lane": sweep.Lane, "limit": sweep.Limit})
	if err != nil {
		return fmt.Errorf("look for expired authorizations: %w", err)
	}
	ids, err := pgx.CollectRows(rows, pgx.RowTo[string])
	if err != nil {
		return fmt.Errorf("look for expired authorizations: %w", err)
	}
	for _, id := range ids {
		s.needPayment(id)
	}
	return nil
}

// writePayments queues the payments that have changed.
func (s *state) writePayments(write *pgx.Batch) {
	changed := slices.Collect(maps.Values(s.payments))
	changed = slices.DeleteFunc(changed, func(p *payment) bool { return p == nil || !p.changed })
	if len(changed) == 0 {
		return
	}
	slices.SortFunc(changed, func(a, b *payment) int { return cmp.Compare(a.id, b.id) })
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
		write.Queue(insertPaymentsSQL, createdColumns(created)).Exec(expectMade(len(created)))
	}
	if len(twoSteps) > 0 {
		write.Queue(authorizePaymentsSQL, pgx.NamedArgs{"ids": twoSteps}).Exec(outbox.ExpectRows(len(twoSteps)))
	}
	write.Queue(updatePaymentsSQL, paymentColumns(changed)).Exec(outbox.ExpectRows(len(changed)))
}

func createdColumns(payments []*payment) pgx.NamedArgs {
	n := len(payments)
	ids, keys, from, to, currencies := make([]string, n), make([]string, n), make([]string, n), make([]string, n), make([]string, n)
	amounts, expire := make([]int64, n), make([]time.Time, n)
	for i, p := range payments {
		ids[i], keys[i], from[i], to[i], amounts[i], currencies[i], expire[i] = p.id, p.key, p.from, p.to, p.amount, p.currency, p.expiresAt
	}
	return pgx.NamedArgs{"ids": ids, "keys": keys, "from": from, "to": to, "amounts": amounts, "currencies": currencies, "expire": expire}
}

func paymentColumns(payments []*payment) pgx.NamedArgs {
	n := len(payments)
	ids, statuses := make([]string, n), make([]string, n)
	captured, refunded, versions := make([]int64, n), make([]int64, n), make([]int64, n)
	for i, p := range payments {
		ids[i], statuses[i], captured[i], refunded[i], versions[i] = p.id, p.status, p.captured, p.refunded, p.version
	}
	return pgx.NamedArgs{"ids": ids, "statuses": statuses, "captured": captured, "refunded": refunded, "versions": versions}
}
