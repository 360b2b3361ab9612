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
	work           func(ctx context.Context, pool *pgxpool.Pool, jobs int) (tally, error)
	verify         func(filling) []check
}

// baseline says for which ratio of the table a contestant is the 1.
type baseline int

const (
	noBaseline baseline = iota
	transfersBaseline
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
	some, few := min(o.jobs, 2*o.slowJobs), min(o.jobs, o.slowJobs)
	return []contestant{
		{"lane", spread, o.jobs, transfersBaseline, lane, verifySettled},
		{"lane", hot, o.jobs, noBaseline, lane, verifySettled},
		{"lane, READ COMMITTED", spread, o.jobs, noBaseline, relaxed, verifySettled},
		{"lane, READ COMMITTED", hot, o.jobs, noBaseline, relaxed, verifySettled},
		{"hand-written", spread, o.jobs, handWrittenBaseline, byHand, verifySettled},
		{"hand-written", hot, some, handWrittenBaseline, byHand, verifySettled},
		{"hand-written, SERIALIZABLE", spread, few, noBaseline, strict, verifySettled},
		{"hand-written, SERIALIZABLE", hot, few, noBaseline, strict, verifySettled},
		// what is in the jobs makes no difference to it
		{"River no-op", spread, o.jobs, noopBaseline, workNoop, verifyOnlyCompleted},
		{"lane", mixed, o.jobs, noBaseline, lane, verifySettled},
		{"lane", holds, o.jobs, noBaseline, lane, verifySettled},
		{"lane", stays, o.jobs, noBaseline, lane, verifySettled},
		{"lane", hotHold, o.jobs, noBaseline, lane, verifySettled},
		{"hand-written", holds, some, handWrittenBaseline, byHand, verifySettled},
		{"hand-written", stays, some, handWrittenBaseline, byHand, verifySettled},
		{"hand-written", hotHold, some, handWrittenBaseline, byHand, verifySettled},
	}
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
	f := filling{workload: c.workload, jobs: jobs, accounts: o.accounts}
	databaseURL, drop, err := server.copied(ctx, f)
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
	return m, verify(ctx, pool, c.verify(f))
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
