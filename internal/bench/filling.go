package main

import (
	"context"
	"fmt"

	"github.com/jackc/pgx/v5"
)

// filling is what a database holds before the work begins: open accounts or resources, and requests.
type filling struct {
	workload       string
	jobs, accounts int // of reservations: resources
}

const (
	// Without a limit to their overdraft: every transfer is applied.
	openAccountsSQL = `
	SELECT count(*) FROM unnest($1::text[]) AS id, lastseat.open_account(id, $2, NULL)`

	// With room for everybody.
	defineResourcesSQL = `
	SELECT count(*) FROM unnest($1::text[]) AS id, lastseat.define_resource(id, $2)`

	// Through the door that everybody uses; the rows are those of 50,000 callers, in their order.
	askSQL = `
	SELECT count(*)
	FROM unnest(@kinds::text[], @keys::text[], @args::text[]) AS asked(kind, key, args),
	     lastseat.enqueue(asked.kind, asked.key, asked.args::jsonb)`
)

func (f filling) fill(ctx context.Context, conn *pgx.Conn) error {
	switch f.workload {
	case holds, stays, hotHold:
		names := []string{hotResource}
		for i := range f.accounts {
			names = append(names, resourceName(i))
		}
		if err := countOf(ctx, conn, len(names), defineResourcesSQL, names, 10*f.jobs); err != nil {
			return fmt.Errorf("define resources: %w", err)
		}
	default:
		names := []string{hotAccount}
		for i := range f.accounts {
			names = append(names, accountName(i))
		}
		if err := countOf(ctx, conn, len(names), openAccountsSQL, names, currency); err != nil {
			return fmt.Errorf("open accounts: %w", err)
		}
	}
	columns, err := columnsOf(f.requests())
	if err != nil {
		return fmt.Errorf("encode requests: %w", err)
	}
	if err := countOf(ctx, conn, f.jobs, askSQL, columns); err != nil {
		return fmt.Errorf("enqueue: %w", err)
	}
	// A worker that has been running has taken what was opened and defined into the history.
	if _, err := conn.Exec(ctx, "TRUNCATE lastseat.history_waiting"); err != nil {
		return fmt.Errorf("take definitions into the history: %w", err)
	}
	if _, err := conn.Exec(ctx, "ANALYZE"); err != nil {
		return fmt.Errorf("analyze: %w", err)
	}
	return nil
}

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
