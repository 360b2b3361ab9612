package admin

import (
	"context"
	"errors"
	"net/http"
	"time"

	"github.com/jackc/pgx/v5"
)

type paymentPage struct {
	ID, Key, Status, From, To, Currency string
	Amount, Captured, Refunded          int64
	Expires                             *time.Time // nil: never
	Created, Updated                    time.Time
	Processor, Calling                  string // empty: none
	InFlight                            int64
	Machine                             machine
	Moves                               []moveRow
	Closed                              *time.Time // money that moved up to then is not looked at; nil: all is
	More                                bool       // entries after those that were looked at may belong to it
}

// moveRow is money that moved for a payment.
type moveRow struct {
	At        time.Time
	Key, Kind string
	Amount    int64 // of the account that pays
}

const (
	paymentSQL = `
	SELECT p.id, p.key, p.status, p.from_account, p.to_account, p.currency, p.amount, p.amount_captured,
	       p.amount_refunded, nullif(p.expires_at, 'infinity'), p.created_at, p.updated_at, coalesce(p.processor, ''),
	       coalesce(p.calling, ''), p.in_flight
	FROM lastseat.payments p WHERE p.id = $1`

	// No index has transfers by payment. They are among the entries of the account that pays, from the payment's
	// creation on, where a binary search begins.
	movesSQL = `
	SELECT s.at, s.key, coalesce(s.kind, ''), s.amount, s.payment_id IS NOT DISTINCT FROM $3, count(*) OVER ()
	FROM lastseat.statement($1, $2, 'infinity', 0, 1000) s ORDER BY s.version`
	closedSQL = `SELECT (SELECT c.through FROM lastseat.closing($1) c WHERE c.through >= $2)`
	mostMoves = 1000
)

func (s *Server) payment(r *http.Request) (any, error) {
	ctx, cancel := context.WithTimeout(r.Context(), pageLimit)
	defer cancel()
	p := paymentPage{}
	err := read(ctx, s.options.Pool, func(tx pgx.Tx) error {
		err := tx.QueryRow(ctx, paymentSQL, r.URL.Query().Get("id")).Scan(&p.ID, &p.Key, &p.Status, &p.From, &p.To,
			&p.Currency, &p.Amount, &p.Captured, &p.Refunded, &p.Expires, &p.Created, &p.Updated, &p.Processor, &p.Calling,
			&p.InFlight)
		if errors.Is(err, pgx.ErrNoRows) {
			return errNotFound
		}
		if err != nil {
			return err
		}
		if err := tx.QueryRow(ctx, closedSQL, p.From, p.Created).Scan(&p.Closed); err != nil {
			return err
		}
		rows, _ := tx.Query(ctx, movesSQL, p.From, p.Created, p.ID) // ForEachRow has the error
		var move moveRow
		var own bool
		var looked int
		_, err = pgx.ForEachRow(rows, []any{&move.At, &move.Key, &move.Kind, &move.Amount, &own, &looked}, func() error {
			if own {
				p.Moves = append(p.Moves, move)
			}
			p.More = looked == mostMoves
			return nil
		})
		return err
	})
	if err != nil {
		return nil, err
	}
	p.Machine = paymentMachine(p.Status)
	return p, nil
}
