package main

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"
	"golang.org/x/sync/errgroup"

	"github.com/lastseat/lastseat/outbox"
)

// Ten withdrawals of 60 for every 600 that are paid in: balances stay near the floor, and some are refused.
const (
	initial  = 300
	amount   = 60
	deposit  = -600
	deposits = 11 // one of so many
	warming  = 2  // withdrawals of each client that are not counted
)

// measurement is what was found, and verified.
type measurement struct {
	rate      float64 // withdrawals a second, refused ones included
	retries   float64 // for each
	p50, p99  time.Duration
	deadlocks int64
}

// arena is where a contestant is measured.
type arena struct {
	contestant
	cell
	table    int
	pool     *pgxpool.Pool
	worker   *outbox.Worker // nil: not a lane
	deadline atomic.Pointer[time.Time]
	next     atomic.Int64 // number of a request
	done     atomic.Int64 // before the deadline
	tally    tally
}

// tally is what the clients were told.
type tally struct {
	sync.Mutex
	asked, applied, taken int64
	took                  []time.Duration // of what was counted
	retries, deadlocks    int64
}

// measure measures a contestant in a fresh database.
func measure(ctx context.Context, server *server, o options, c contestant, at cell) (m measurement, err error) {
	limit := o.duration + 2*time.Minute
	ctx, cancel := context.WithTimeoutCause(ctx, limit, fmt.Errorf("not done within %s", limit))
	defer cancel()
	defer func() {
		if err != nil && ctx.Err() != nil {
			err = fmt.Errorf("%w: %w", context.Cause(ctx), err)
		}
	}()
	databaseURL, drop, err := server.copied(ctx, c.lane)
	if err != nil {
		return m, err
	}
	defer drop()
	config, err := pgxpool.ParseConfig(databaseURL)
	if err != nil {
		return m, err
	}
	config.MaxConns = int32(at.clients) + 8 // who waits has one, and River a few
	a := &arena{contestant: c, cell: at, table: o.table}
	if a.pool, err = pgxpool.NewWithConfig(ctx, config); err != nil {
		return m, err
	}
	defer a.pool.Close()
	// All start right after a checkpoint: one in the middle would cost whoever runs then.
	if _, err := a.pool.Exec(ctx, "CHECKPOINT"); err != nil {
		return m, fmt.Errorf("checkpoint: %w", err)
	}
	if m, err = a.watch(ctx, o.duration); err != nil {
		return m, err
	}
	return m, a.verify(ctx)
}

// watch has the clients withdraw, and the lane settle.
func (a *arena) watch(ctx context.Context, duration time.Duration) (m measurement, err error) {
	running, stop := context.WithCancel(ctx)
	defer stop()
	lane, laneCtx := errgroup.WithContext(running)
	if a.lane {
		a.worker = newWorker(a.pool)
		lane.Go(func() error { return a.worker.Run(laneCtx) })
	}
	var ready sync.WaitGroup
	ready.Add(a.clients)
	start := make(chan struct{})
	clients, clientCtx := errgroup.WithContext(ctx)
	for number := range a.clients {
		clients.Go(func() error { return a.client(clientCtx, number, sync.OnceFunc(ready.Done), start) })
	}
	ready.Wait()
	if a.asksOnly {
		if err := a.settled(ctx); err != nil {
			return m, err
		}
	}
	began := time.Now()
	deadline := began.Add(duration)
	a.deadline.Store(&deadline)
	close(start)
	if err := clients.Wait(); err != nil {
		return m, err
	}
	done := a.done.Load()
	if a.lane {
		if err := a.settled(ctx); err != nil {
			return m, err
		}
		if a.asksOnly { // what was asked for until the deadline, by the time at which all of it was settled
			done, duration = int64(len(a.tally.took)), time.Since(began)
		}
		stop()
		if err := lane.Wait(); err != nil && !errors.Is(err, context.Canceled) {
			return m, err
		}
		a.tally.retries += a.worker.Stats().Conflicts
	}
	return a.measured(done, duration), nil
}

func (a *arena) measured(done int64, duration time.Duration) measurement {
	slices.Sort(a.tally.took)
	at := func(share float64) time.Duration {
		if len(a.tally.took) == 0 {
			return 0
		}
		return a.tally.took[min(int(share*float64(len(a.tally.took))), len(a.tally.took)-1)]
	}
	return measurement{
		rate: float64(done) / duration.Seconds(), retries: float64(a.tally.retries) / float64(max(len(a.tally.took), 1)),
		p50: at(0.50), p99: at(0.99), deadlocks: a.tally.deadlocks,
	}
}

// settled waits until nothing is left to do.
func (a *arena) settled(ctx context.Context) error {
	for {
		var pending bool
		if err := a.pool.QueryRow(ctx,
			`SELECT EXISTS (SELECT FROM lastseat.river_job WHERE queue = 'lastseat')`).Scan(&pending); err != nil || !pending {
			return err
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(20 * time.Millisecond):
		}
	}
}

// client withdraws until the deadline, and finishes what it has begun.
func (a *arena) client(ctx context.Context, number int, ready func(), start chan struct{}) (err error) {
	defer ready() // also if it fails
	conn, err := connect(ctx, a.pool)
	if err != nil {
		return err
	}
	defer func() { _ = conn.Close(context.WithoutCancel(ctx)) }()
	c := &client{arena: a, conn: conn}
	random := rand.New(rand.NewPCG(uint64(number), 0))
	var told tally
	for n := 0; ; n++ {
		if n == warming {
			ready()
			select {
			case <-start:
			case <-ctx.Done():
				return ctx.Err()
			}
			c.retries, c.deadlocks = 0, 0
		}
		began := time.Now()
		if n >= warming && !began.Before(*a.deadline.Load()) {
			break
		}
		w := withdrawal{key: fmt.Sprint("withdrawal-", a.next.Add(1)), account: random.IntN(a.accounts), amount: amount}
		if random.IntN(deposits) == 0 {
			w.amount = deposit
		}
		applied, err := a.withdraw(ctx, c, w)
		if err != nil {
			return err
		}
		told.asked++
		if applied {
			told.applied++
			told.taken += w.amount
		}
		if n >= warming {
			ended := time.Now()
			told.took = append(told.took, ended.Sub(began))
			if ended.Before(*a.deadline.Load()) {
				a.done.Add(1)
			}
		}
	}
	a.tally.Lock()
	defer a.tally.Unlock()
	a.tally.asked += told.asked
	a.tally.applied += told.applied
	a.tally.taken += told.taken
	a.tally.took = append(a.tally.took, told.took...)
	a.tally.retries += c.retries
	a.tally.deadlocks += c.deadlocks
	return nil
}
