package main

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"slices"
	"sync/atomic"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"golang.org/x/sync/errgroup"

	"github.com/lastseat/lastseat/jobs"
	"github.com/lastseat/lastseat/outbox"
)

// The table about clients that wait for the outcome of each request before they ask for the next one. Beside the lane
// is what one writes who has no lane: a transaction that locks the two accounts, and writes the same rows of requests,
// transfers, entries and accounts by itself.

// waiter is a way to make a transfer and know its outcome.
type waiter struct {
	name     string
	on       ground
	accounts int // in use; one of them is in every transfer if there is only one
	clients  int
	lane     bool
	do       func(context.Context, *pgxpool.Pool, *pgx.Conn, ticket) error
}

func waiters() []waiter {
	var all []waiter
	for _, at := range []struct{ accounts, clients int }{{1000, 16}, {1, 16}, {1, 64}} {
		all = append(all,
			waiter{"row locks, the same rows", noTriggers, at.accounts, at.clients, false, transferByLocks},
			waiter{"lane, outbox.Wait", ours, at.accounts, at.clients, true, askAndWait},
		)
	}
	return all
}

func (w *waiter) label() string {
	return fmt.Sprintf("waiting: %s, %s, %d clients", w.name, w.where(), w.clients)
}

func (w *waiter) where() string {
	if w.accounts == 1 {
		return "one hot account"
	}
	return thousands(float64(w.accounts)) + " accounts"
}

// stay is a waiter with its measurements.
type stay struct {
	waiter
	done    int
	elapsed time.Duration
	waits   []time.Duration
	each    rounds
}

func (s *stay) rate() float64 { return float64(s.done) / s.elapsed.Seconds() }

func waitAll(ctx context.Context, server *server, o options, progress io.Writer) ([]*stay, error) {
	var all []*stay
	for _, w := range waiters() {
		if o.only.MatchString(w.label()) {
			all = append(all, &stay{waiter: w})
		}
	}
	for round := range o.rounds {
		for _, s := range all {
			if err := s.measure(ctx, server, o); err != nil {
				return nil, fmt.Errorf("%s: %w", s.label(), err)
			}
			s.each.end(s.done, s.elapsed)
			fmt.Fprintf(progress, "round %d/%d: %s: %.0f/s, p50 %s p99 %s ms\n", round+1, o.rounds, s.label(), s.rate(),
				milliseconds(part(s.waits, 0.5)), milliseconds(part(s.waits, 0.99)))
		}
	}
	return all, nil
}

func (s *stay) measure(ctx context.Context, server *server, o options) error {
	ctx, cancel := context.WithTimeoutCause(ctx, o.limit, fmt.Errorf("not done within %s", o.limit))
	defer cancel()
	f := filling{ground: s.on, workload: spread, accounts: max(2, s.accounts)}
	if s.accounts == 1 {
		f.workload, f.accounts = hot, 1000
	}
	databaseURL, drop, err := server.copied(ctx, f)
	if err != nil {
		return err
	}
	defer drop()
	pool, err := openPoolOf(ctx, databaseURL, mostConnections+s.clients)
	if err != nil {
		return err
	}
	defer pool.Close()
	if _, err := pool.Exec(ctx, "CHECKPOINT"); err != nil {
		return fmt.Errorf("checkpoint: %w", err)
	}
	working, stop := context.WithCancel(ctx)
	defer stop()
	worker, workerCtx := errgroup.WithContext(working)
	if s.lane {
		kinds := &outbox.Kinds{}
		jobs.Register(kinds)
		w := outbox.NewWorker(pool, kinds, outbox.Settings{Logger: slog.New(slog.DiscardHandler)})
		worker.Go(func() error { return w.Run(workerCtx) })
	}
	if f.jobs, err = s.clientsWait(ctx, pool, f, o); err != nil {
		return err
	}
	stop()
	if err := worker.Wait(); err != nil {
		return err
	}
	return verify(ctx, pool, verifySettled(f))
}

// clientsWait has the clients make transfers for as long as o.pace, and returns how many were made, with those that
// warm up.
func (s *stay) clientsWait(ctx context.Context, pool *pgxpool.Pool, f filling, o options) (int, error) {
	// More tickets a second than a client can use, and more than a server commits for all of them.
	const warming, each, together = 10, 2_000, 50_000
	most := warming*s.clients + min(each*s.clients, together)*int(o.pace.Seconds()+1)
	tickets := f.transfers(0, most)
	if f.workload == hot {
		for i := range tickets {
			tickets[i].pay(hotAccount)
		}
	}
	var next atomic.Int64
	conns := make([]*pgx.Conn, s.clients)
	for i := range conns {
		conn, err := pgx.ConnectConfig(ctx, pool.Config().ConnConfig)
		if err != nil {
			return 0, err
		}
		defer func() { _ = conn.Close(context.WithoutCancel(ctx)) }()
		conns[i] = conn
	}
	waits := make([][]time.Duration, s.clients)
	var began time.Time
	for _, counted := range []bool{false, true} {
		least := warming
		if counted {
			least = 1 // however busy the machine is, each client is measured
		}
		began = time.Now()
		group, ctx := errgroup.WithContext(ctx)
		for client := range s.clients {
			group.Go(func() error {
				for n := 0; n < least || counted && time.Since(began) < o.pace; n++ {
					i := int(next.Add(1)) - 1
					if i >= most {
						return fmt.Errorf("more than %d transfers: too few were prepared", most)
					}
					start := time.Now()
					if err := s.do(ctx, pool, conns[client], tickets[i]); err != nil {
						return err
					}
					if counted {
						waits[client] = append(waits[client], time.Since(start))
					}
				}
				return nil
			})
		}
		if err := group.Wait(); err != nil {
			return 0, err
		}
	}
	s.elapsed += time.Since(began)
	round := slices.Concat(waits...)
	s.done, s.waits = s.done+len(round), append(s.waits, round...)
	return int(next.Load()), nil
}

const askTransferSQL = `SELECT lastseat.transfer($1, $2, $3, $4, $5)`

func askAndWait(ctx context.Context, pool *pgxpool.Pool, conn *pgx.Conn, t ticket) error {
	_, err := conn.Exec(ctx, askTransferSQL, t.key, t.transfer.From, t.transfer.To, t.transfer.Amount,
		t.transfer.Currency)
	if err != nil {
		return err
	}
	outcomes, err := outbox.Wait(ctx, pool, t.key)
	if err == nil && outcomes[0].Status != outbox.Applied {
		err = fmt.Errorf("the transfer is %s: %s", outcomes[0].Status, outcomes[0].Code)
	}
	return err
}

// directSQL records the outcome at once: there is no time in which it is pending.
const directSQL = `
	INSERT INTO lastseat.requests (key, kind, fingerprint, job_id, requested_at, status, code, attempts, settled_at)
	VALUES (@key, 'payment.transfer', @fingerprint, 0, clock_timestamp(), @status, @code, 1, now())`

// transferByLocks takes four round trips: begin; lock and read; write; commit.
func transferByLocks(ctx context.Context, _ *pgxpool.Pool, conn *pgx.Conn, t ticket) error {
	return pgx.BeginFunc(ctx, conn, func(tx pgx.Tx) error {
		from, to, err := lockTwo(ctx, tx, t.transfer.From, t.transfer.To)
		if err != nil {
			return err
		}
		args := &transferArgs{t.key, t.transfer}
		batch := &pgx.Batch{}
		status, code := "rejected", refusal(from, to, args)
		if code == "" {
			status, code = "applied", jobs.CodeTransferred
			queueTransfer(batch, from, to, args)
		}
		batch.Queue(directSQL, pgx.NamedArgs{"key": t.key, "fingerprint": t.fingerprint, "status": status, "code": code})
		return tx.SendBatch(ctx, batch).Close()
	})
}
