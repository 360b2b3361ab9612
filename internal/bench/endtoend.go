package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"slices"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
)

// The first table: from the business transaction to the outcome, while the worker settles on the same cores. First as
// many requests as go, which gives the full rate; then one at a time, and at parts of the full rate.

// course is a way from asking to the outcome.
type course struct {
	name        string
	on          ground
	connections int
	batch       int // requests in a transaction
	ask         asker
	settle      settler
}

// settler settles what is asked for until stop. Each time it calls seen: with what was asked for and is settled now.
type settler func(ctx context.Context, pool *pgxpool.Pool, seen func(key string)) (stop func() error, err error)

func courses() []course {
	oneByHand, manyByHand := oneByOne(30, pgx.ReadCommitted), inBatches(200)
	return []course{
		{"lastseat.transfer, one by one", ours, 16, 1, askByTransfer, settleByLane},
		{"lastseat.enqueue_many, 1,000 at once", ours, 1, askedAtOnce, askByMany, settleByLane},
		{"River by hand, one job a transaction", noTriggers, 16, 1, askByHand, settleByRiver(oneByHand)},
		{"River by hand, batches of 100", noTriggers, 16, 1, askByHand, settleByRiver(manyByHand)},
	}
}

// loads are the parts of the full rate at which is asked. 0: one request at a time, and a pause after its outcome.
var loads = []float64{0, 0.1, 0.5, 0.9}

// ride is a course with its measurements.
type ride struct {
	course
	rates  []float64 // settled a second at full rate, each round
	waits  map[float64][]time.Duration
	commit []time.Duration // of a bare commit: an INSERT into a table of one column
}

func (r *ride) rate() float64 {
	sorted := slices.Sorted(slices.Values(r.rates))
	return sorted[len(sorted)/2]
}

func travel(ctx context.Context, server *server, o options, progress io.Writer) ([]*ride, error) {
	var all []*ride
	for _, c := range courses() {
		if o.only.MatchString("end to end: " + c.name) {
			all = append(all, &ride{course: c, waits: make(map[float64][]time.Duration)})
		}
	}
	for round := range o.rounds {
		for _, r := range all {
			if err := r.travel(ctx, server, o); err != nil {
				return nil, fmt.Errorf("end to end, %s: %w", r.name, err)
			}
			fmt.Fprintf(progress, "round %d/%d: end to end, %s: %.0f/s", round+1, o.rounds, r.name, r.rates[round])
			for _, load := range loads {
				if waits := r.waits[load]; len(waits) > 0 {
					fmt.Fprintf(progress, "; %s: %s ms", percents(load), halfAndMost(waits))
				}
			}
			fmt.Fprintln(progress)
		}
	}
	return all, nil
}

// travel measures one round in a fresh database.
func (r *ride) travel(ctx context.Context, server *server, o options) (err error) {
	ctx, cancel := context.WithTimeoutCause(ctx, o.limit, fmt.Errorf("not done within %s", o.limit))
	defer cancel()
	f := filling{ground: r.on, workload: spread, accounts: o.accounts}
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
	if _, err := pool.Exec(ctx, "CHECKPOINT"); err != nil {
		return fmt.Errorf("checkpoint: %w", err)
	}
	way := &way{ride: r, pool: pool, filling: f}
	stop, err := r.settle(ctx, pool, way.see)
	if err != nil {
		return err
	}
	err = way.measure(ctx, o)
	if err := errors.Join(err, stop()); err != nil {
		return err
	}
	return verify(ctx, pool, verifySettled(way.filling))
}

// way is a round of a ride. Its filling counts what was asked for.
type way struct {
	*ride
	filling
	witness
	pool *pgxpool.Pool
}

func (w *way) measure(ctx context.Context, o options) error {
	asks := o.asks
	if w.batch > 1 {
		asks *= 5
	}
	if _, err := w.run(ctx, asks/10/w.batch*w.batch+w.batch, 0); err != nil { // code, caches and plans, warm
		return err
	}
	began := time.Now()
	if _, err := w.run(ctx, asks, 0); err != nil {
		return err
	}
	rate := float64(asks) / time.Since(began).Seconds()
	w.rates = append(w.rates, rate)
	if w.batch > 1 {
		return nil
	}
	for _, load := range loads {
		var waits []time.Duration
		var err error
		if load == 0 {
			waits, err = w.idle(ctx, o.asks/40)
		} else {
			every := time.Duration(float64(w.connections) / (load * rate) * float64(time.Second))
			n := max(100, int(load*rate*o.pace.Seconds()))
			waits, err = w.run(ctx, n, every)
		}
		if err != nil {
			return err
		}
		w.ride.waits[load] = append(w.ride.waits[load], waits...)
	}
	return nil
}

// run asks for n requests, and returns when all are settled: how long each took from its commit.
func (w *way) run(ctx context.Context, n int, every time.Duration) ([]time.Duration,
	error) {
	tickets := w.transfers(w.jobs, n)
	w.jobs += n
	all := w.expect(tickets)
	a := &answer{asking: asking{connections: w.connections, batch: w.batch, ask: w.ask, every: every},
		committed: w.witness.commit}
	if _, err := produce(ctx, w.pool, a, tickets, nil); err != nil {
		return nil, err
	}
	select {
	case <-all:
		return w.witness.waits(tickets), nil
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	}
}

// idle asks for one request after the other, with pauses in which everything goes to sleep. Beside each it measures a
// bare commit.
func (w *way) idle(ctx context.Context, n int) (waits []time.Duration, err error) {
	const bare = `INSERT INTO bare_commits VALUES (1)`
	if _, err := w.pool.Exec(ctx, `CREATE TABLE bare_commits (n int)`); err != nil {
		return nil, err
	}
	for range max(n, 20) {
		wait, err := w.run(ctx, 1, 0)
		if err != nil {
			return nil, err
		}
		waits = append(waits, wait...)
		time.Sleep(10*time.Millisecond + rand.N(20*time.Millisecond))
		began := time.Now()
		if _, err := w.pool.Exec(ctx, bare); err != nil {
			return nil, err
		}
		w.ride.commit = append(w.ride.commit, time.Since(began))
	}
	return waits, nil
}
