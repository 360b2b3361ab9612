package admin

import (
	"context"
	"errors"
	"math"
	"net/http"
	"strconv"
	"time"

	"github.com/jackc/pgx/v5"
)

type accountPage struct {
	ID, Currency  string
	Balance, Held int64
	Available     string // what may be spent; a word where there is no limit
	Entries       []entryRow
	Older         int64 // the page before this one ends below this version; 0: there is none
}

type entryRow struct {
	Version, Amount, Balance int64
	At                       time.Time
	Key, Other               string
}

const (
	accountSQL = `
	SELECT a.id, a.currency, a.balance, a.held,
	       coalesce((a.balance::numeric - a.held + a.overdraft_limit)::text, 'no limit')
	FROM lastseat.accounts a WHERE a.id = $1`

	// entriesSQL walks back along the primary key, so a page costs the same wherever it is.
	entriesSQL = `
	SELECT e.version, e.amount, e.balance_after, e.created_at, t.key,
	       CASE WHEN t.from_account = e.account_id THEN t.to_account ELSE t.from_account END
	FROM (SELECT * FROM lastseat.entries e WHERE e.account_id = $1 AND e.version < $2
	      ORDER BY e.version DESC LIMIT 50) e,
	     LATERAL (SELECT * FROM lastseat.transfers t WHERE t.id = e.transfer_id OFFSET 0) t
	ORDER BY e.version DESC`
)

func (s *Server) account(r *http.Request) (any, error) {
	ctx, cancel := context.WithTimeout(r.Context(), pageLimit)
	defer cancel()
	before := int64(math.MaxInt64)
	if asked, err := strconv.ParseInt(r.URL.Query().Get("before"), 10, 64); err == nil {
		before = asked
	}
	page := accountPage{}
	err := read(ctx, s.options.Pool, func(tx pgx.Tx) error {
		err := tx.QueryRow(ctx, accountSQL, r.URL.Query().Get("id")).Scan(&page.ID, &page.Currency, &page.Balance,
			&page.Held, &page.Available)
		if errors.Is(err, pgx.ErrNoRows) {
			return errNotFound
		}
		if err != nil {
			return err
		}
		rows, err := tx.Query(ctx, entriesSQL, page.ID, before)
		if err != nil {
			return err
		}
		page.Entries, err = pgx.CollectRows(rows, pgx.RowToStructByPos[entryRow])
		return err
	})
	if n := len(page.Entries); n > 0 && page.Entries[n-1].Version > 1 {
		page.Older = page.Entries[n-1].Version
	}
	return page, err
}
