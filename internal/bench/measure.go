package main

import (
	"context"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
)

const (
	spread = "spread" // between random accounts
	hot    = "hot"    // from random accounts, all to one

	// warmJobs are worked, and not counted, before a contestant's first measurement.
	warmJobs = 200
)

// contestant is a way to settle transfers, and those that it is given.
type contestant struct {
	name, workload string
	jobs           int
	baseline       baseline
	work           func(ctx context.Context, pool *pgxpool.Pool, jobs int) (tally, error)
	verify         func(ctx context.Context, pool *pgxpool.Pool, jobs int) error
}

// baseline says for which ratio of the table a contestant is the 1.
type baseline int

const (
	noBaseline baseline = iota
	handWrittenBaseline
	noopBaseline
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

// contestants are all that are measured, in the order of the table.
func contestants(o options) []contestant {
	lane, relaxed := laneWorker(pgx.Serializable, o.batch), laneWorker(pgx.ReadCommitted, o.batch)
	byHand, strict := handWritten(pgx.ReadCommitted), handWritten(pgx.Serializable)
	return []contestant{
		{"lane", spread, o.jobs, noBaseline, lane, verifySettled},
		{"lane", hot, o.jobs, noBaseline, lane, verifySettled},
		{"lane, READ COMMITTED", spread, o.jobs, noBaseline, relaxed, verifySettled},
		{"lane, READ COMMITTED", hot, o.jobs, noBaseline, relaxed, verifySettled},
		{"hand-written", spread, o.jobs, handWrittenBaseline, byHand, verifySettled},
		{"hand-written", hot, min(o.jobs, 2*o.slowJobs), handWrittenBaseline, byHand, verifySettled},
		{"hand-written, SERIALIZABLE", spread, min(o.jobs, o.slowJobs), noBaseline, strict, verifySettled},
		{"hand-written, SERIALIZABLE", hot, min(o.jobs, o.slowJobs), noBaseline, strict, verifySettled},
		// what is in the jobs makes no difference to it
		{"River no-op", spread, o.jobs, noopBaseline, workNoop, verifyOnlyCompleted},
	}
}

// measure has c settle jobs transfers in a fresh database.
func measure(ctx context.Context, server *server, o options, c contestant, jobs int) (m measurement, err error) {
	ctx, cancel := context.WithTimeoutCause(ctx, o.limit, fmt.Errorf("not done within %s", o.limit))
	defer cancel()
	defer func() {
		if err != nil && ctx.Err() != nil {
			err = fmt.Errorf("%w: %w", context.Cause(ctx), err)
		}
	}()
	databaseURL, drop, err := server.copied(ctx, filling{workload: c.workload, jobs: jobs, accounts: o.accounts})
	if err != nil {
		return m, err
	}
	defer drop()
	m, err = watch(ctx, databaseURL, c, jobs)
	if err != nil {
		return m, err
	}
	pool, err := openPool(ctx, databaseURL, false)
	if err != nil {
		return m, err
	}
	defer pool.Close()
	return m, c.verify(ctx, pool, jobs)
}

// watch has c work, and only that.
func watch(ctx context.Context, databaseURL string, c contestant, jobs int) (m measurement, err error) {
	pool, err := openPool(ctx, databaseURL, true)
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
