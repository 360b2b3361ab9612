package main

import (
	"context"
	"errors"
	"fmt"

	"github.com/jackc/pgx/v5/pgxpool"
)

// check counts what must not be, or what there must be as many of as jobs.
type check struct {
	what string
	sql  string
	want func(jobs int) int
}

func none(int) int       { return 0 }
func each(jobs int) int  { return jobs }
func twice(jobs int) int { return 2 * jobs }

const notDoneSQL = `SELECT count(*) FROM lastseat.river_job WHERE state <> 'completed'`

// settled is true of a database whose transfers were all applied, once.
var settled = []check{
	{"jobs left", notDoneSQL, none},
	{"requests applied", `SELECT count(*) FROM lastseat.requests WHERE (status, code, attempts) = ('applied', 'transferred', 1)`, each},
	{"requests in all", `SELECT count(*) FROM lastseat.requests`, each},
	{"transfers", `SELECT count(*) FROM lastseat.transfers`, each},
	{"transfers of a request", `SELECT count(*) FROM lastseat.transfers JOIN lastseat.requests USING (key)`, each},
	{"entries", `SELECT count(*) FROM lastseat.entries`, twice},
	{"transfers that are not two entries, one from and one to", `
		SELECT count(*) FROM lastseat.transfers t FULL JOIN (
			SELECT transfer_id, count(*), min(amount), max(amount), array_agg(account_id ORDER BY amount) AS accounts
			FROM lastseat.entries GROUP BY transfer_id) e ON e.transfer_id = t.id
		WHERE (e.count, e.min, e.max, e.accounts) IS DISTINCT FROM (2, -t.amount, t.amount, ARRAY[t.from_account, t.to_account])`, none},
	{"sum of all balances", `SELECT sum(balance) FROM lastseat.accounts`, none},
	{"accounts whose entries don't make their balance", `
		SELECT count(*) FROM lastseat.accounts a
		LEFT JOIN (SELECT account_id, sum(amount) AS balance, count(*) AS entries, max(version) AS newest
		           FROM lastseat.entries GROUP BY account_id) e ON e.account_id = a.id
		WHERE (a.balance, a.entry_count, a.version) <> (coalesce(e.balance, 0), coalesce(e.entries, 0), coalesce(e.newest, 0))`, none},
}

// onlyCompleted is true of a database whose jobs were done and had no effect.
var onlyCompleted = []check{
	{"jobs left", notDoneSQL, none},
	{"jobs completed", `SELECT count(*) FROM lastseat.river_job WHERE state = 'completed'`, each},
	{"transfers", `SELECT count(*) FROM lastseat.transfers`, none},
}

func verifySettled(ctx context.Context, pool *pgxpool.Pool, jobs int) error {
	return verify(ctx, pool, jobs, settled)
}

func verifyOnlyCompleted(ctx context.Context, pool *pgxpool.Pool, jobs int) error {
	return verify(ctx, pool, jobs, onlyCompleted)
}

func verify(ctx context.Context, pool *pgxpool.Pool, jobs int, checks []check) error {
	var errs []error
	for _, c := range checks {
		var found int
		if err := pool.QueryRow(ctx, c.sql).Scan(&found); err != nil {
			return fmt.Errorf("check %s: %w", c.what, err)
		}
		if want := c.want(jobs); found != want {
			errs = append(errs, fmt.Errorf("wrong result: %s: %d instead of %d", c.what, found, want))
		}
	}
	return errors.Join(errs...)
}
