package audit

import (
	"context"
	"fmt"
	"maps"
	"math/big"
	"slices"

	"github.com/jackc/pgx/v5"

	"github.com/lastseat/lastseat/internal/archive"
	"github.com/lastseat/lastseat/internal/history"
)

const (
	archivedLinksSQL = `
	SELECT h.number FROM lastseat.history h
	WHERE h.chain = '` + history.Removal + `' AND h.relation = '` + history.Transfers + history.Archived + `'
	ORDER BY h.number`

	// Without a file what an account had is not known to the last entry.
	unarchivedSQL = `
	SELECT EXISTS (SELECT FROM lastseat.history h
	               WHERE h.chain = '` + history.Removal + `'
	                 AND h.relation = '` + history.Transfers + history.Removed + `')`

	closedSQL = `
	SELECT c.account_id, c.version, c.balance, count(e.version), coalesce(sum(e.amount), 0)::text
	FROM ` + lastClosings + ` c
	LEFT JOIN lastseat.entries e ON e.account_id = c.account_id AND e.version <= c.version
	GROUP BY c.account_id, c.version, c.balance ORDER BY c.account_id`
)

// tally is what files have of an account.
type tally struct {
	entries int64
	sum     big.Int
}

// archivedBalances is the check of closings by the files. A closing copies an entry: if somebody changed the balance of
// that entry before, nothing in the database shows it once the entries have gone.
func archivedBalances(dir string) Check {
	return Check{
		Name: "archive.balances",
		Rule: "the archived transfers of an account and its entries that are still there, up to its last closing, are all " +
			"that it had until then, and add up to the balance of the closing",
		run: func(ctx context.Context, tx pgx.Tx, _ *Seal) ([]string, error) {
			rows, err := tx.Query(ctx, archivedLinksSQL)
			if err != nil {
				return nil, err
			}
			links, err := pgx.CollectRows(rows, pgx.RowTo[int64])
			if err != nil || len(links) == 0 {
				return nil, err
			}
			var unknown bool
			if err := tx.QueryRow(ctx, unarchivedSQL).Scan(&unknown); err != nil {
				return nil, err
			}
			tallies := make(map[string]*tally)
			for _, link := range links {
				if transfers, err := archive.Transfers(dir, link); err == nil {
					addUp(tallies, transfers)
				} else {
					unknown = true // archive.files names it
				}
			}
			return closedAsArchived(ctx, tx, tallies, unknown)
		},
	}
}

func addUp(tallies map[string]*tally, transfers []*history.Transfer) {
	for _, t := range transfers {
		for account, amount := range map[string]int64{t.From: -t.Amount, t.To: t.Amount} {
			if tallies[account] == nil {
				tallies[account] = &tally{}
			}
			tallies[account].entries++
			tallies[account].sum.Add(&tallies[account].sum, big.NewInt(amount))
		}
	}
}

// closedAsArchived compares each closing with what was there until then. unknown: some transfers are in no file.
func closedAsArchived(
	ctx context.Context, tx pgx.Tx, tallies map[string]*tally, unknown bool,
) (broken []string, err error) {
	rows, err := tx.Query(ctx, closedSQL)
	if err != nil {
		return nil, err
	}
	var account, there string
	var version, balance, entries int64
	_, err = pgx.ForEachRow(rows, []any{&account, &version, &balance, &entries, &there}, func() error {
		total, _ := new(big.Int).SetString(there, 10) // Postgres prints a number
		if archived := tallies[account]; archived != nil {
			entries += archived.entries
			total.Add(total, &archived.sum)
		}
		delete(tallies, account)
		whole := entries == version
		if !whole && (entries > version || !unknown) || whole && total.Cmp(big.NewInt(balance)) != 0 {
			broken = append(broken, fmt.Sprintf("closing of account %s at entry %d: balance %d; %d entries are in the archive "+
				"or there, with the sum %s", account, version, balance, entries, total))
		}
		return nil
	})
	for _, account := range slices.Sorted(maps.Keys(tallies)) {
		broken = append(broken, fmt.Sprintf("account %s: it has transfers in the archive, and no closing", account))
	}
	return broken[:min(len(broken), mostViolations)], err
}
