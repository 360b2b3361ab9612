package admin

import (
	"context"
	"errors"
	"net/http"
	"time"

	"github.com/jackc/pgx/v5"
)

type reservationPage struct {
	ID, Key, Status, Customer string
	Expires                   *time.Time // nil: never
	Created, Updated          time.Time
	Machine                   machine
	Maybe                     string // what is not known of its way
	Items                     []itemRow
}

type itemRow struct {
	Resource string
	Quantity int64
	During   string // empty: it takes a quantity
	Place    int    // in the line; 0: it does not wait for this resource
}

const (
	reservationSQL = `
	SELECT r.id, r.key, r.status, coalesce(r.customer, ''), nullif(r.expires_at, 'infinity'), r.created_at, r.updated_at,
	       r.waiting_number
	FROM lastseat.reservations r WHERE r.id = $1`

	// Places are counted up to 1,000.
	itemsSQL = `
	SELECT i.resource_id, i.quantity, coalesce(i.during::text, ''),
	       CASE WHEN $2 <> 'waiting' THEN 0 ELSE (SELECT count(*) + 1 FROM (
	          SELECT FROM lastseat.waiting_items w
	          WHERE w.resource_id = i.resource_id AND w.number < $3 LIMIT 999) first) END
	FROM lastseat.reservation_items i WHERE i.reservation_id = $1 ORDER BY i.position LIMIT 1000`
)

func (s *Server) reservation(r *http.Request) (any, error) {
	ctx, cancel := context.WithTimeout(r.Context(), pageLimit)
	defer cancel()
	p := reservationPage{}
	var number *int64
	err := read(ctx, s.options.Pool, func(tx pgx.Tx) error {
		err := tx.QueryRow(ctx, reservationSQL, r.URL.Query().Get("id")).Scan(&p.ID, &p.Key, &p.Status, &p.Customer,
			&p.Expires, &p.Created, &p.Updated, &number)
		if errors.Is(err, pgx.ErrNoRows) {
			return errNotFound
		}
		if err != nil {
			return err
		}
		if _, err := tx.Exec(ctx, `SET LOCAL timezone = 'UTC'; SET LOCAL datestyle = 'ISO'`,
			pgx.QueryExecModeSimpleProtocol); err != nil { // time ranges are shown as text
			return err
		}
		rows, err := tx.Query(ctx, itemsSQL, p.ID, p.Status, number)
		if err != nil {
			return err
		}
		p.Items, err = pgx.CollectRows(rows, pgx.RowToStructByPos[itemRow])
		return err
	})
	if err != nil {
		return nil, err
	}
	p.Machine, p.Maybe = reservationMachine(p.Status, number != nil)
	return p, nil
}
