package admin

import (
	"context"
	"errors"
	"fmt"
	"math"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
)

type accountPage struct {
	ID, Currency  string
	Balance, Held int64
	Available     string // what may be spent; a word where there is no limit
	Entries       []entryRow
	Closed        closedAt
	Older         int64 // the page before this one ends below this version; 0: there is none
}

// closedAt is where the account was last closed; its zero value: it was not.
type closedAt struct {
	Version, Balance int64
	Through, At      *time.Time
}

type entryRow struct {
	Version, Amount, Balance int64
	At                       time.Time
	Key, Other               string
}

const (
	accountSQL = `
	SELECT a.id, a.currency, a.balance, a.held,
	       coalesce((a.balance::numeric - a.held + a.overdraft_limit)::text, 'no limit'),
	       coalesce(c.version, 0), coalesce(c.balance, 0), c.through, c.closed_at
	FROM lastseat.accounts a LEFT JOIN LATERAL lastseat.closing(a.id) c ON true WHERE a.id = $1`

	// entriesSQL walks back along the primary key, so a page costs the same wherever it is.
	entriesSQL = `
	SELECT e.version, e.amount, e.balance_after, e.created_at, t.key,
	       CASE WHEN t.from_account = e.account_id THEN t.to_account ELSE t.from_account END
	FROM (SELECT * FROM lastseat.entries e WHERE e.account_id = $1 AND e.version < $2 AND e.version > $3
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
			&page.Held, &page.Available, &page.Closed.Version, &page.Closed.Balance, &page.Closed.Through, &page.Closed.At)
		if errors.Is(err, pgx.ErrNoRows) {
			return errNotFound
		}
		if err != nil {
			return err
		}
		rows, err := tx.Query(ctx, entriesSQL, page.ID, before, page.Closed.Version)
		if err != nil {
			return err
		}
		page.Entries, err = pgx.CollectRows(rows, pgx.RowToStructByPos[entryRow])
		return err
	})
	if n := len(page.Entries); n > 0 && page.Entries[n-1].Version > page.Closed.Version+1 {
		page.Older = page.Entries[n-1].Version
	}
	return page, err
}

// steps is the balance after each entry of the page, the oldest first, as a line of steps.
type steps struct {
	Points          string
	Lowest, Highest int64
	Zero            float64 // where a balance of 0 is; below 0: it is not in the picture
}

const stepsWidth, stepsHeight = 1000.0, 100.0

// Steps is nil where there is nothing to draw.
func (p accountPage) Steps() *steps {
	if len(p.Entries) < 2 {
		return nil
	}
	s := &steps{Lowest: math.MaxInt64, Highest: math.MinInt64, Zero: -1}
	for _, e := range p.Entries {
		s.Lowest, s.Highest = min(s.Lowest, e.Balance), max(s.Highest, e.Balance)
	}
	low := float64(s.Lowest)
	height := func(balance float64) float64 {
		return stepsHeight * (1 - (balance-low)/max(1, float64(s.Highest)-low))
	}
	if s.Lowest <= 0 && s.Highest >= 0 {
		s.Zero = height(0)
	}
	width := stepsWidth / float64(len(p.Entries))
	points := make([]string, 0, 2*len(p.Entries))
	for i, e := range slices.Backward(p.Entries) {
		n := len(p.Entries) - 1 - i
		y := height(float64(e.Balance))
		points = append(points, fmt.Sprintf("%.1f,%.1f %.1f,%.1f", float64(n)*width, y, float64(n+1)*width, y))
	}
	s.Points = strings.Join(points, " ")
	return s
}
