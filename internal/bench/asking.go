package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"slices"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/lastseat/lastseat/jobs"
	"github.com/lastseat/lastseat/outbox"
)

// The second table: what asking costs the services, who wait for it.

// asking is a way to ask for transfers, and what the lane does meanwhile.
type asking struct {
	name         string
	connections  int
	worker       workerState
	alwaysNotify bool
	every        time.Duration // between two transactions of a connection; 0: as fast as it goes
	batch        int           // requests in a transaction
	ask          asker
	beside       int // the line of the table that it is compared with, from 1; its own: nothing
}

type workerState string

const (
	noWorker   workerState = "none"
	keepsUp    workerState = "keeps up" // waits for requests, and settles them
	isDraining workerState = "draining" // is busy with a backlog all the time
)

func (a *asking) label() string {
	label := fmt.Sprintf("asking: %s, connections %d, worker %s", a.name, a.connections, a.worker)
	if a.every > 0 {
		label += ", paced"
	}
	return label
}

// essential is what is measured if little time is given: as many as go, without a worker.
func (a *asking) essential() bool {
	return a.worker == noWorker && !a.alwaysNotify && a.every == 0 && (a.connections > 1 || a.batch > 1) && a.beside < 9
}

func askings() []asking {
	const pace = 10 * time.Millisecond
	function, always := "lastseat.transfer", "lastseat.transfer, always notifying"
	return []asking{
		{"two INSERTs", 1, noWorker, false, 0, 1, askByInsert, 1},
		{"lastseat.enqueue", 1, noWorker, false, 0, 1, askByEnqueue, 1},
		{function, 1, noWorker, false, 0, 1, askByTransfer, 1},
		{"two INSERTs", 16, noWorker, false, 0, 1, askByInsert, 4},
		{"lastseat.enqueue", 16, noWorker, false, 0, 1, askByEnqueue, 4},
		{function, 16, noWorker, false, 0, 1, askByTransfer, 4},
		{"COPY to two tables, 1,000 at once", 1, noWorker, false, 0, askedAtOnce, askByCopy, 7},
		{"lastseat.enqueue_many, 1,000 at once", 1, noWorker, false, 0, askedAtOnce, askByMany, 7},
		{function, 4, noWorker, false, pace, 1, askByTransfer, 9},
		{function, 4, isDraining, false, pace, 1, askByTransfer, 9},
		{function, 16, noWorker, false, 0, 1, askByTransfer, 11},
		{function, 16, keepsUp, false, 0, 1, askByTransfer, 11},
		{function, 16, isDraining, false, 0, 1, askByTransfer, 11},
		{always, 16, noWorker, true, 0, 1, askByTransfer, 11},
		{always, 16, keepsUp, true, 0, 1, askByTransfer, 12},
		{always, 16, isDraining, true, 0, 1, askByTransfer, 13},
	}
}

// answer is an asking with its measurements.
type answer struct {
	asking
	requests int
	elapsed  time.Duration
	waits    []time.Duration // of transactions
	each     rounds

	committed func([]ticket) // called after each commit; nil: nobody asks
}

func (a *answer) rate() float64 { return float64(a.requests) / a.elapsed.Seconds() }

// wait is how long the given part of the transactions took at most.
func (a *answer) wait(share float64) time.Duration { return part(a.waits, share) }

// part is how long the given part of all took at most.
func part(waits []time.Duration, share float64) time.Duration {
	sorted := slices.Sorted(slices.Values(waits))
	return sorted[min(len(sorted)-1, int(share*float64(len(sorted))))]
}

// interview measures all askings. Those without a worker that differ in their way only take turns in one database; of
// the others each has a database of its own.
func interview(ctx context.Context, server *server, o options, progress io.Writer) ([]*answer, error) {
	var all []*answer
	for _, a := range askings() {
		all = append(all, &answer{asking: a})
	}
	for round := range o.rounds {
		for i := 0; i < len(all); {
			group := all[i : i+1]
			for n := i + 1; n < len(all) && takeTurns(all[i], all[n]); n++ {
				group = all[i : n+1]
			}
			i += len(group)
			group = slices.DeleteFunc(slices.Clone(group), func(a *answer) bool {
				return !o.only.MatchString(a.label()) || o.quick && !o.allAskings && !a.essential()
			})
			if len(group) == 0 {
				continue
			}
			if err := measureAsking(ctx, server, o, group); err != nil {
				return nil, fmt.Errorf("%s: %w", group[0].label(), err)
			}
			for _, a := range group {
				a.each.end(a.requests, a.elapsed)
				fmt.Fprintf(progress, "round %d/%d: %s: %.0f requests/s, p99 %s\n", round+1, o.rounds, a.label(), a.rate(),
					milliseconds(a.wait(0.99))+" ms")
			}
		}
	}
	return all, nil
}

func takeTurns(a, b *answer) bool {
	return a.beside == b.beside && a.worker == noWorker && b.worker == noWorker && !b.alwaysNotify
}

// Without the doorbell (docs/decisions/003).
const alwaysNotifySQL = `
	CREATE OR REPLACE FUNCTION lastseat.ring(queue text) RETURNS void LANGUAGE plpgsql VOLATILE SECURITY DEFINER
	  SET search_path = lastseat, pg_temp AS $$
	BEGIN
		PERFORM pg_notify('lastseat.river_insert', jsonb_build_object('queue', queue)::text);
	END $$`

// measureAsking has a group of askings take turns in a fresh database.
func measureAsking(ctx context.Context, server *server, o options, group []*answer) (err error) {
	ctx, cancel := context.WithTimeoutCause(ctx, o.limit, fmt.Errorf("not done within %s", o.limit))
	defer cancel()
	defer func() {
		if err != nil && ctx.Err() != nil {
			err = fmt.Errorf("%w: %w", context.Cause(ctx), err)
		}
	}()
	f := filling{workload: spread, accounts: o.accounts}
	if group[0].worker == isDraining {
		f.jobs = o.backlog
	}
	databaseURL, drop, err := server.copied(ctx, f)
	if err != nil {
		return err
	}
	defer drop()
	pool, err := openPool(ctx, databaseURL)
	if err != nil {
		return err
	}
	defer pool.Close()
	if group[0].alwaysNotify {
		if _, err := pool.Exec(ctx, alwaysNotifySQL); err != nil {
			return fmt.Errorf("replace the doorbell: %w", err)
		}
	}
	if _, err := pool.Exec(ctx, "CHECKPOINT"); err != nil {
		return fmt.Errorf("checkpoint: %w", err)
	}
	made := 0
	for _, a := range group { // connections, caches and plans, warm
		n, err := produce(ctx, pool, &answer{asking: a.asking}, f.transfers(made, a.connections*a.batch), nil)
		if err != nil {
			return err
		}
		made += n
	}
	worker, err := startWorker(ctx, pool, group[0].worker, f.jobs)
	if err != nil {
		return fmt.Errorf("start the worker: %w", err)
	}
	n, err := askInTurns(ctx, pool, o, group, worker, made)
	if err := errors.Join(err, worker.stop()); err != nil {
		return err
	}
	return verifyAsked(ctx, pool, group[0].worker, f.jobs+made+n)
}

func askInTurns(ctx context.Context, pool *pgxpool.Pool, o options, group []*answer, worker *background,
	made int) (total int, err error) {
	const turns = 8
	f := filling{workload: spread, accounts: o.accounts}
	for turn := range turns {
		for i := range group {
			a := group[(turn+i)%len(group)] // not always the same one after the same
			if turn > 0 && worker.over() {
				return total, nil
			}
			n, err := produce(ctx, pool, a, f.transfers(made+total, a.requestsOf(o)/turns), worker.over)
			if err != nil {
				return total, err
			}
			total += n
		}
	}
	return total, nil
}

// requestsOf is how many requests an asking makes in a round.
func (a *asking) requestsOf(o options) int {
	switch {
	case a.batch > 1:
		return 10 * o.asks
	case a.every > 0:
		return o.asks / 2
	default:
		return o.asks
	}
}

// background is the worker that is at work while others ask.
type background struct {
	over func() bool // whether it has nothing left that it should be busy with
	stop func() error
}

func startWorker(ctx context.Context, pool *pgxpool.Pool, state workerState, backlog int) (*background, error) {
	if state == noWorker {
		return &background{over: func() bool { return false }, stop: func() error { return nil }}, nil
	}
	kinds := &outbox.Kinds{}
	jobs.Register(kinds)
	worker := outbox.NewWorker(pool, kinds, outbox.Settings{Logger: slog.New(slog.DiscardHandler)})
	working, cancel := context.WithCancelCause(ctx)
	ended := make(chan error, 1)
	go func() {
		err := worker.Run(working)
		cancel(err)
		ended <- err
	}()
	b := &background{
		over: func() bool { return state == isDraining && worker.Stats().Applied >= int64(backlog) },
		stop: func() error { cancel(nil); return <-ended },
	}
	// It is at work, or waits by the doorbell.
	for waits := false; !waits && (state == keepsUp || worker.Stats().Applied == 0); {
		err := pool.QueryRow(working, `SELECT NOT pg_try_advisory_xact_lock_shared(lastseat.doorbell($1))`,
			outbox.Queue).Scan(&waits)
		if err != nil {
			return b, errors.Join(err, b.stop())
		}
		time.Sleep(time.Millisecond)
	}
	return b, nil
}

// asRequested is every request as lastseat.enqueue makes it.
const asRequestedSQL = `
	SELECT count(*) FROM lastseat.requests r JOIN lastseat.river_job j ON j.id = r.job_id
	WHERE j.args ->> 'key' = r.key AND j.kind = r.kind AND r.fingerprint = lastseat.fingerprint(j.kind, j.args)
	  AND (r.status, j.state, j.queue, j.max_attempts, j.priority, j.attempt) = ('pending', 'available',
	    'lastseat', 25, 1, 0)
	  AND j.scheduled_at BETWEEN r.requested_at - interval '1 minute' AND now()`

// verifyAsked proves that there is a request for everything that was asked for: the lane settles them.
func verifyAsked(ctx context.Context, pool *pgxpool.Pool, state workerState, n int) error {
	if state == noWorker {
		if err := verify(ctx, pool, []check{{what: "requests and jobs that belong together", sql: asRequestedSQL,
			want: n}}); err != nil {
			return err
		}
	}
	if _, err := laneWorker("", 0)(ctx, pool, 0); err != nil {
		return fmt.Errorf("settle what was asked for: %w", err)
	}
	return verify(ctx, pool, verifySettled(filling{workload: spread, jobs: n}))
}
