package main

import (
	"context"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
)

// contestant is a way to settle requests, and those that it is given.
type contestant struct {
	name, workload string
	jobs           int
	baseline       baseline
	on             ground
	work           func(ctx context.Context, pool *pgxpool.Pool, jobs int) (tally, error)
	verify         func(filling) []check
}

// baseline says in which ratio of the table a contestant may be the 1: the fastest one of its name and workload is.
type baseline int

const (
	noBaseline baseline = iota
	oneByOneBaseline
	batchBaseline
	noopBaseline
	setBasedBaseline
)

// tally is what a contestant says of its work.
type tally struct {
	elapsed time.Duration // from the start of the worker until the last job is done
	retries int64         // transactions tried again after a conflict
}

// measurement is a tally that has been verified, and what it was for.
type measurement struct {
	tally
	jobs int
	wal  int64 // bytes
}

func (m measurement) rate() float64          { return float64(m.jobs) / m.elapsed.Seconds() }
func (m measurement) retriesPerJob() float64 { return float64(m.retries) / float64(m.jobs) }
func (m measurement) walPerJob() float64     { return float64(m.wal) / float64(m.jobs) }

// contestants are all that are measured, in the order of the table. Those by hand and River are measured with several
// numbers of workers, and the best one of each counts.
func contestants(o options) []contestant {
	lane, relaxed := laneWorker(pgx.Serializable, o.batch), laneWorker(pgx.ReadCommitted, o.batch)
	some, few := min(o.jobs, 2*o.slowJobs), min(o.jobs, o.slowJobs)
	all := []contestant{
		{"lane", spread, o.jobs, noBaseline, ours, lane, verifySettled},
		{"set-based SQL, one connection", spread, o.jobs, setBasedBaseline, noTriggers, setBased, verifySettled},
	}
	noops, singles, batchers := []int{100, 500, 1000}, []int{10, 30}, []int{200, 500}
	if o.quick { // those that are the best, as a rule
		noops, singles, batchers = noops[1:], singles[1:], batchers[1:]
	}
	for _, workers := range noops {
		all = append(all, contestant{fmt.Sprintf("River no-op, %d workers", workers), spread, o.jobs, noopBaseline,
			plainRiver, noop(workers).work, verifyOnlyCompleted})
	}
	if o.peers {
		for _, p := range peersKnown {
			all = append(all, p.contestant(o))
		}
	}
	for _, workers := range singles {
		all = append(all, contestant{fmt.Sprintf("by hand, one by one, %d workers", workers), spread, some,
			oneByOneBaseline, noTriggers, oneByOne(workers, pgx.ReadCommitted).work, verifySettled})
	}
	for _, workers := range batchers {
		all = append(all, contestant{fmt.Sprintf("by hand, batches of 100, %d workers", workers), spread, o.jobs,
			batchBaseline, noTriggers, inBatches(workers).work, verifySettled})
	}
	byHand, strict := oneByOne(30, pgx.ReadCommitted).work, oneByOne(30, pgx.Serializable).work
	all = append(all,
		contestant{"lane", hot, o.jobs, noBaseline, ours, lane, verifySettled},
		contestant{"by hand, one by one", hot, some, oneByOneBaseline, noTriggers, byHand, verifySettled},
		contestant{"by hand, batches of 100", hot, o.jobs, batchBaseline, noTriggers, inBatches(500).work, verifySettled},
	)
	if o.quick {
		return all
	}
	return append(all, []contestant{
		{agedLane, spread, o.jobs, noBaseline, aged, lane, verifyAged},
		{"lane, READ COMMITTED", spread, o.jobs, noBaseline, ours, relaxed, verifySettled},
		{"lane, READ COMMITTED", hot, o.jobs, noBaseline, ours, relaxed, verifySettled},
		{"by hand, one by one, SERIALIZABLE", spread, few, noBaseline, noTriggers, strict, verifySettled},
		{"by hand, one by one, SERIALIZABLE", hot, few, noBaseline, noTriggers, strict, verifySettled},
		{"lane", mixed, o.jobs, noBaseline, ours, lane, verifySettled},
		{"lane", holds, o.jobs, noBaseline, ours, lane, verifySettled},
		{"lane", stays, o.jobs, noBaseline, ours, lane, verifySettled},
		{"lane", hotHold, o.jobs, noBaseline, ours, lane, verifySettled},
		{"by hand, one by one", holds, some, oneByOneBaseline, noTriggers, byHand, verifySettled},
		{"by hand, one by one", stays, some, oneByOneBaseline, noTriggers, byHand, verifySettled},
		{"by hand, one by one", hotHold, some, oneByOneBaseline, noTriggers, byHand, verifySettled},
	}...)
}

// measure has c settle jobs requests in a fresh database.
func measure(ctx context.Context, server *server, o options, c contestant, jobs int) (m measurement, err error) {
	ctx, cancel := context.WithTimeoutCause(ctx, o.limit, fmt.Errorf("not done within %s", o.limit))
	defer cancel()
	defer func() {
		if err != nil && ctx.Err() != nil {
			err = fmt.Errorf("%w: %w", context.Cause(ctx), err)
		}
	}()
	f := filling{ground: c.on, workload: c.workload, jobs: jobs, accounts: o.accounts, items: o.items}
	databaseURL, drop, err := server.copied(ctx, f)
	if err != nil {
		return m, err
	}
	defer drop()
	m, err = watch(ctx, databaseURL, c, jobs)
	if err != nil {
		return m, err
	}
	pool, err := openPool(ctx, databaseURL)
	if err != nil {
		return m, err
	}
	defer pool.Close()
	return m, verify(ctx, pool, c.verify(f))
}

// watch has c work, and only that.
func watch(ctx context.Context, databaseURL string, c contestant, jobs int) (m measurement, err error) {
	pool, err := openPool(ctx, databaseURL)
	if err != nil {
		return m, err
	}
	defer pool.Close()
	// A checkpoint in the middle would cost whoever runs then, and after one every page is logged in full once: so all
	// start right after one.
	if _, err := pool.Exec(ctx, "CHECKPOINT"); err != nil {
		return m, fmt.Errorf("checkpoint: %w", err)
	}
	var start string
	if err := pool.QueryRow(ctx, "SELECT pg_current_wal_lsn()::text").Scan(&start); err != nil {
		return m, fmt.Errorf("read the WAL's position: %w", err)
	}
	m.jobs = jobs
	if m.tally, err = c.work(ctx, pool, jobs); err != nil {
		return m, err
	}
	err = pool.QueryRow(ctx, "SELECT pg_wal_lsn_diff(pg_current_wal_lsn(), $1::text::pg_lsn)::bigint", start).Scan(&m.wal)
	if err != nil {
		return m, fmt.Errorf("read the WAL's position: %w", err)
	}
	return m, nil
}
