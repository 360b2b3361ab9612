package main

import (
	"context"
	"errors"
	"fmt"

	"github.com/lastseat/lastseat/internal/audit"
)

const movedSQL = `
	SELECT (SELECT sum(balance)::bigint FROM accounts), (SELECT min(balance) FROM accounts),
	       (SELECT coalesce(sum(amount), 0)::bigint FROM movements), (SELECT count(*) FROM movements),
	       (SELECT count(*) FROM accounts a LEFT JOIN (SELECT account, sum(amount) AS taken FROM movements
	         GROUP BY account) m ON m.account = a.id
	        WHERE a.balance <> $1 - coalesce(m.taken, 0))
	     + CASE WHEN EXISTS (SELECT FROM asked) THEN
	        (SELECT count(*) FROM movements m
	         WHERE NOT EXISTS (SELECT FROM asked q WHERE q.key = m.key AND q.status = 'applied')
	           OR (SELECT count(*) FROM entries e WHERE e.key = m.key) <> 2)
	        ELSE 0 END`

// The requests of this measurement; those of the top-ups are the template's.
const settledSQL = `
	SELECT (SELECT sum(balance)::bigint FROM lastseat.accounts WHERE id <> 'bank'), (SELECT min(balance)
	  FROM lastseat.accounts WHERE id <> 'bank'),
	       (SELECT coalesce(sum(CASE WHEN to_account = 'bank' THEN amount ELSE -amount END), 0)::bigint
	         FROM lastseat.transfers WHERE key LIKE 'withdrawal-%'),
	       (SELECT count(*) FROM lastseat.transfers WHERE key LIKE 'withdrawal-%'),
	       (SELECT count(*) FROM lastseat.requests WHERE status NOT IN ('applied', 'rejected'))`

// verify compares the database with what the clients were told.
func (a *arena) verify(ctx context.Context) error {
	sql, args := movedSQL, []any{int64(initial)}
	if a.lane {
		sql, args = settledSQL, nil
	}
	var sum, lowest, taken, applied, wrong int64
	if err := a.pool.QueryRow(ctx, sql, args...).Scan(&sum, &lowest, &taken, &applied, &wrong); err != nil {
		return fmt.Errorf("verify: %w", err)
	}
	var errs []error
	want := func(what string, got, want int64) {
		if got != want {
			errs = append(errs, fmt.Errorf("wrong result: %s: %d instead of %d", what, got, want))
		}
	}
	want("the sum of all accounts", sum, int64(a.table)*initial-taken)
	want("accounts or requests that are not right", wrong, 0)
	if lowest < 0 {
		errs = append(errs, fmt.Errorf("wrong result: an account has %d", lowest))
	}
	if !a.asksOnly { // whoever only asks was told nothing
		want("withdrawals applied", applied, a.tally.applied)
		want("money taken", taken, a.tally.taken)
	}
	if !a.lane {
		return errors.Join(errs...)
	}
	var asked int64
	if err := a.pool.QueryRow(ctx,
		`SELECT count(*) FROM lastseat.requests WHERE key LIKE 'withdrawal-%'`).Scan(&asked); err != nil {
		return err
	}
	want("requests settled", asked, a.tally.asked)
	_, err := audit.Run(ctx, a.pool, func(f audit.Finding) {
		if !f.OK {
			errs = append(errs, fmt.Errorf("wrong result: %s: %v", f.Check, f.Violations))
		}
	})
	return errors.Join(append(errs, err)...)
}
