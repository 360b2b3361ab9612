package reconcile

import (
	"context"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
)

// The refunds of a payment are its calls: requests that have called are kept.
const paymentsSQL = `
	SELECT p.id, p.status, p.currency, coalesce(p.reference, ''), p.amount, p.amount_captured, p.amount_refunded,
	       p.calling IS NOT NULL, coalesce(c.key, ''), coalesce(c.call_key, ''), coalesce(c.detail ->> 'reference', ''),
	       coalesce((c.detail ->> 'amount')::bigint, 0)
	FROM lastseat.payments p
	LEFT JOIN lastseat.calls c ON c.subject = 'payment:' || p.id AND c.target = p.processor AND c.operation = 'refund'
	  AND c.result = 'done' AND c.ended_at IS NOT NULL
	WHERE p.processor = @processor AND `

// changedSince are the payments of a processor that have changed since a time, by id.
func changedSince(ctx context.Context, pool *pgxpool.Pool, name string, since time.Time) (map[string]*payment, error) {
	books := make(map[string]*payment)
	err := readPayments(ctx, pool, books, `p.updated_at >= @since`, pgx.NamedArgs{"processor": name, "since": since})
	return books, err
}

// addPayments adds those of the payments that the books have and that were not read yet.
func addPayments(
	ctx context.Context, pool *pgxpool.Pool, name string, books map[string]*payment, ids []string,
) error {
	var missing []string
	for _, id := range ids {
		if books[id] == nil {
			missing = append(missing, id)
		}
	}
	if len(missing) == 0 {
		return nil
	}
	return readPayments(ctx, pool, books, `p.id = ANY (@ids::text[])`, pgx.NamedArgs{"processor": name, "ids": missing})
}

func readPayments(
	ctx context.Context, pool *pgxpool.Pool, books map[string]*payment, which string, args pgx.NamedArgs,
) error {
	rows, err := pool.Query(ctx, paymentsSQL+which, args)
	if err != nil {
		return fmt.Errorf("read payments: %w", err)
	}
	var p payment
	var r refund
	_, err = pgx.ForEachRow(rows, []any{
		&p.id, &p.status, &p.currency, &p.reference, &p.amount, &p.captured, &p.refunded, &p.calling,
		&r.request, &r.key, &r.reference, &r.amount,
	}, func() error {
		known := books[p.id]
		if known == nil {
			one := p
			known = &one
			books[p.id] = known
		}
		if r.request != "" {
			known.refunds = append(known.refunds, r)
		}
		return nil
	})
	if err != nil {
		return fmt.Errorf("read payments: %w", err)
	}
	return nil
}
