package main

import (
	"context"
	"fmt"
	"slices"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
)

// aged is Lastseat's schema in a database with a past, as one finds it after a quiet night: many settled requests,
// statistics of the drained queue, and dead rows since.
const aged ground = "aged"

const agedLane = "lane, aged database"

// past is how many requests are settled already: six times as many as come, and a fifth of them since the last vacuum.
func (f filling) past() (before, since int) { return 6 * f.jobs, max(1, f.jobs/5) }

// vacuumDrainedSQL is what autovacuum does while the queue is empty. A table that is truncated to nothing has the
// planner guess its size, so that would hide what the statistics do.
const vacuumDrainedSQL = "VACUUM (ANALYZE, TRUNCATE OFF)"

// age settles the past.
func (f filling) age(ctx context.Context, conn *pgx.Conn) error {
	pool, err := pgxpool.New(ctx, conn.Config().ConnString())
	if err != nil {
		return err
	}
	defer pool.Close()
	before, since := f.past()
	if err := f.settlePast(ctx, pool, 0, before); err != nil {
		return err
	}
	if _, err := conn.Exec(ctx, vacuumDrainedSQL); err != nil {
		return fmt.Errorf("vacuum: %w", err)
	}
	return f.settlePast(ctx, pool, before, since)
}

// settlePast asks for n requests from the first one on, and settles them.
func (f filling) settlePast(ctx context.Context, pool *pgxpool.Pool, first, n int) error {
	if err := f.askFor(ctx, pool, first, n); err != nil {
		return fmt.Errorf("ask for the past: %w", err)
	}
	if _, err := laneWorker(pgx.Serializable, 0)(ctx, pool, n); err != nil {
		return fmt.Errorf("settle the past: %w", err)
	}
	return nil
}

// askFor asks for n requests from the first one on, many at once.
func (f filling) askFor(ctx context.Context, pool *pgxpool.Pool, first, n int) error {
	for some := range slices.Chunk(f.transfers(first, n), askedAtOnce) {
		ask, err := askByMany(some)
		if err == nil {
			err = pgx.BeginFunc(ctx, pool, func(tx pgx.Tx) error { return ask(ctx, tx) })
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// verifyAged is true of an aged database whose requests were all applied, once, those of the past included.
func verifyAged(f filling) []check {
	before, since := f.past()
	f.jobs += before + since
	return verifySettled(f)
}

// agedLine says what age costs.
func agedLine(results []result) string {
	old := slices.IndexFunc(results, func(r result) bool { return r.name == agedLane })
	if old < 0 {
		return ""
	}
	fresh := ratio(results[old].median(), results, func(c contestant) bool {
		return c.name == "lane" && c.workload == spread
	})
	return fmt.Sprintf("In the aged database the lane has %s of its rate in the fresh one.\n", fresh)
}
