package main

import (
	"context"
	"fmt"
	"slices"

	"github.com/jackc/pgx/v5"
)

// filling is what a database holds before the work begins: open accounts or resources, and requests.
type filling struct {
	ground
	workload       string
	jobs, accounts int // of reservations: resources
	items          int // of a stay; 0: nights
}

// ground is where a contestant works: at its own best.
type ground string

const (
	ours       ground = ""      // Lastseat's schema as it is installed
	noTriggers ground = "lean"  // its tables without its triggers: who writes by hand has no need of them
	plainRiver ground = "river" // nothing but River's own schema, in public
	riverTable        = "public.river_job"
)

const (
	// Without a limit to their overdraft: every transfer is applied.
	openAccountsSQL = `
	SELECT count(*) FROM unnest($1::text[]) AS id, lastseat.open_account(id, $2, NULL)`

	// With room for everybody.
	defineResourcesSQL = `
	SELECT count(*) FROM unnest($1::text[]) AS id, lastseat.define_resource(id, $2)`

	// Through the door that everybody uses, in the order of the requests.
	askSQL = `
	SELECT count(*) FROM lastseat.enqueue_many((
		SELECT jsonb_agg(jsonb_build_object('kind', kind, 'key', key, 'args', args::jsonb) ORDER BY n)
		FROM unnest(@kinds::text[], @keys::text[], @args::text[]) WITH ORDINALITY AS asked(kind, key, args, n)))`

	// The rows that lastseat.enqueue makes in river_job.
	insertJobsSQL = `
	INSERT INTO ` + riverTable + ` (kind, queue, args, max_attempts)
	SELECT kind, 'lastseat', args::jsonb || jsonb_build_object('key', key), 25
	FROM unnest(@kinds::text[], @keys::text[], @args::text[]) AS asked(kind, key, args)`

	noTriggersSQL = `
	DO $$ DECLARE name regclass; BEGIN
		FOR name IN SELECT oid::regclass FROM pg_class WHERE relnamespace = 'lastseat'::regnamespace AND relkind = 'r' LOOP
			EXECUTE format('ALTER TABLE %s DISABLE TRIGGER USER', name);
		END LOOP;
	END $$`
)

func (f filling) fill(ctx context.Context, conn *pgx.Conn) error {
	if f.ground == plainRiver {
		columns, err := columnsOf(f.requests())
		if err != nil {
			return fmt.Errorf("encode requests: %w", err)
		}
		if _, err := conn.Exec(ctx, insertJobsSQL, columns); err != nil {
			return fmt.Errorf("insert jobs: %w", err)
		}
		return vacuum(ctx, conn)
	}
	if err := f.open(ctx, conn); err != nil {
		return err
	}
	if f.ground == aged {
		if err := f.age(ctx, conn); err != nil {
			return err
		}
	}
	for some := range slices.Chunk(f.requests(), askedAtOnce) {
		columns, err := columnsOf(some)
		if err != nil {
			return fmt.Errorf("encode requests: %w", err)
		}
		if err := countOf(ctx, conn, len(some), askSQL, columns); err != nil {
			return fmt.Errorf("enqueue: %w", err)
		}
	}
	if f.ground == aged {
		return nil // its statistics are what they are
	}
	// A worker that has been running has taken what was opened and defined into the history.
	if _, err := conn.Exec(ctx, "TRUNCATE lastseat.history_waiting"); err != nil {
		return fmt.Errorf("take definitions into the history: %w", err)
	}
	if f.ground == noTriggers {
		if _, err := conn.Exec(ctx, noTriggersSQL); err != nil {
			return fmt.Errorf("disable triggers: %w", err)
		}
	}
	return vacuum(ctx, conn)
}

// vacuum leaves the tables as a running database has them. VACUUM writes its hint bits here and not during a
// measurement.
func vacuum(ctx context.Context, conn *pgx.Conn) error {
	if _, err := conn.Exec(ctx, "VACUUM (ANALYZE)"); err != nil {
		return fmt.Errorf("vacuum: %w", err)
	}
	return nil
}

// open opens the accounts, or defines the resources.
func (f filling) open(ctx context.Context, conn *pgx.Conn) error {
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
