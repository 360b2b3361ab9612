package admin

import (
	"context"
	"net/http"
	"slices"

	"github.com/jackc/pgx/v5"
)

type searchPage struct {
	Query     string
	Found     []hit
	Resources bool // some are among them
}

// hit is something whose id is, or begins with, what was looked for.
type hit struct {
	What, ID, Status string
}

// searchSQL looks along primary keys. They are in byte order, so what begins with q lies between q and q followed by
// the greatest character.
const searchSQL = `
	(SELECT 'request', r.key, r.status FROM lastseat.requests r
	 WHERE r.key >= $1 AND r.key < $1 || U&'\+10FFFF' COLLATE "C" ORDER BY r.key LIMIT 20)
	UNION ALL
	(SELECT 'account', a.id, a.currency FROM lastseat.accounts a
	 WHERE a.id >= $1 AND a.id < $1 || U&'\+10FFFF' COLLATE "C" ORDER BY a.id LIMIT 20)
	UNION ALL
	(SELECT 'payment', p.id, p.status FROM lastseat.payments p
	 WHERE p.id >= $1 AND p.id < $1 || U&'\+10FFFF' COLLATE "C" ORDER BY p.id LIMIT 20)
	UNION ALL
	(SELECT 'reservation', r.id, r.status FROM lastseat.reservations r
	 WHERE r.id >= $1 AND r.id < $1 || U&'\+10FFFF' COLLATE "C" ORDER BY r.id LIMIT 20)
	UNION ALL
	(SELECT 'resource', s.id, s.held + s.confirmed || ' of ' || s.capacity || ' taken, ' || s.waiting || ' wait'
	 FROM lastseat.resources s
	 WHERE s.id >= $1 AND s.id < $1 || U&'\+10FFFF' COLLATE "C" ORDER BY s.id LIMIT 20)`

func (s *Server) search(r *http.Request) (any, error) {
	ctx, cancel := context.WithTimeout(r.Context(), pageLimit)
	defer cancel()
	page := searchPage{Query: r.URL.Query().Get("q")}
	if page.Query == "" {
		return page, nil
	}
	err := read(ctx, s.options.Pool, func(tx pgx.Tx) error {
		rows, err := tx.Query(ctx, searchSQL, page.Query)
		if err != nil {
			return err
		}
		page.Found, err = pgx.CollectRows(rows, pgx.RowToStructByPos[hit])
		return err
	})
	page.Resources = slices.ContainsFunc(page.Found, func(h hit) bool { return h.What == "resource" })
	return page, err
}
