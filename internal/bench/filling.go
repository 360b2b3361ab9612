package main

import (
	"context"
	"fmt"
	"math/rand/v2"

	"github.com/jackc/pgx/v5"
)

const (
	hotAccount = "hot"
	currency   = "EUR"
)

// filling is what a database holds before the work begins: open accounts, and transfers asked for.
type filling struct {
	workload       string
	jobs, accounts int
}

// Without a limit to their overdraft: every transfer is applied, and moves the same rows for everybody.
const openAccountsSQL = `
	SELECT count(*) FROM unnest($1::text[]) AS id, lastseat.open_account(id, $2, NULL)`

// Through the door that everybody uses; the rows are those of 50,000 callers, in their order.
const askSQL = `
	SELECT count(*)
	FROM unnest($1::text[], $2::text[], $3::text[], $4::bigint[]) AS t(key, from_account, to_account, amount),
	     lastseat.transfer(t.key, t.from_account, t.to_account, t.amount, $5)`

func (f filling) fill(ctx context.Context, conn *pgx.Conn) error {
	names := []string{hotAccount}
	for i := range f.accounts {
		names = append(names, accountName(i))
	}
	if err := countOf(ctx, conn, len(names), openAccountsSQL, names, currency); err != nil {
		return fmt.Errorf("open accounts: %w", err)
	}
	keys, from, to, amounts := f.transfers()
	if err := countOf(ctx, conn, f.jobs, askSQL, keys, from, to, amounts, currency); err != nil {
		return fmt.Errorf("enqueue transfers: %w", err)
	}
	if _, err := conn.Exec(ctx, "ANALYZE"); err != nil {
		return fmt.Errorf("analyze: %w", err)
	}
	return nil
}

// transfers are always the same ones.
func (f filling) transfers() (keys, from, to []string, amounts []int64) {
	random := rand.New(rand.NewPCG(1, 2))
	for i := range f.jobs {
		giver := random.IntN(f.accounts)
		taker := (giver + 1 + random.IntN(f.accounts-1)) % f.accounts // anybody else
		keys = append(keys, fmt.Sprintf("transfer-%07d", i))
		from = append(from, accountName(giver))
		if f.workload == hot {
			to = append(to, hotAccount)
		} else {
			to = append(to, accountName(taker))
		}
		amounts = append(amounts, 1+random.Int64N(100_00))
	}
	return keys, from, to, amounts
}

func accountName(i int) string { return fmt.Sprintf("account-%06d", i) }

func countOf(ctx context.Context, conn *pgx.Conn, want int, sql string, args ...any) error {
	var n int
	if err := conn.QueryRow(ctx, sql, args...).Scan(&n); err != nil {
		return err
	}
	if n != want {
		return fmt.Errorf("%d instead of %d", n, want)
	}
	return nil
}
