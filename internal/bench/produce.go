package main

import (
	"context"
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"slices"
	"sync/atomic"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"golang.org/x/sync/errgroup"

	"github.com/lastseat/lastseat/jobs"
	"github.com/lastseat/lastseat/outbox"
)

const askedAtOnce = 1000

// ticket is a transfer to be asked for, in all forms that it is asked for in: to make them is no part of what is
// measured.
type ticket struct {
	key         string
	transfer    jobs.Transfer
	args        string // as jsonb writes them
	withKey     string
	fingerprint []byte
}

// transfers makes n tickets, numbered from first. Their keys are not those of the filling.
func (f filling) transfers(first, n int) []ticket {
	random := rand.New(rand.NewPCG(3, uint64(first)))
	tickets := make([]ticket, n)
	for i := range tickets {
		from, to := f.twoAccounts(random)
		t := &tickets[i]
		t.key = fmt.Sprintf("asked-%07d", first+i)
		t.transfer = jobs.Transfer{From: from, To: to, Amount: 1 + random.Int64N(100_00), Currency: currency}
		t.spell()
	}
	return tickets
}

// pay has the ticket pay an account.
func (t *ticket) pay(account string) {
	t.transfer.To = account
	t.spell()
}

func (t *ticket) spell() {
	t.args = fmt.Sprintf(`{"to": %q, "from": %q, "amount": %d, "currency": %q}`, t.transfer.To, t.transfer.From,
		t.transfer.Amount, currency)
	t.withKey = fmt.Sprintf(`{"key": %q, %s`, t.key, t.args[1:])
	sum := sha256.Sum256([]byte(jobs.KindTransfer + " " + t.args))
	t.fingerprint = sum[:]
}

// asker prepares a transaction that asks for transfers, and returns what does so: between BEGIN and COMMIT.
type asker func([]ticket) (func(context.Context, pgx.Tx) error, error)

func askByTransfer(tickets []ticket) (func(context.Context, pgx.Tx) error, error) {
	t := tickets[0]
	return func(ctx context.Context, tx pgx.Tx) error {
		_, err := tx.Exec(ctx, `SELECT lastseat.transfer($1, $2, $3, $4, $5)`, t.key, t.transfer.From, t.transfer.To,
			t.transfer.Amount, t.transfer.Currency)
		return err
	}, nil
}

func askByEnqueue(tickets []ticket) (func(context.Context, pgx.Tx) error, error) {
	t := tickets[0]
	return func(ctx context.Context, tx pgx.Tx) error {
		_, err := tx.Exec(ctx, `SELECT lastseat.enqueue($1, $2, $3)`, jobs.KindTransfer, t.key, t.args)
		return err
	}, nil
}

// askByInsert writes the rows that lastseat.enqueue writes, in one round trip as that does, and checks nothing.
func askByInsert(tickets []ticket) (func(context.Context, pgx.Tx) error, error) {
	return func(ctx context.Context, tx pgx.Tx) error { return tx.SendBatch(ctx, inserts(tickets[0])).Close() }, nil
}

// askByHand also wakes River, though not more often than every 5 ms: a client of River does so every 100 ms.
func askByHand(tickets []ticket) (func(context.Context, pgx.Tx) error, error) {
	return func(ctx context.Context, tx pgx.Tx) error {
		batch := inserts(tickets[0])
		now := time.Now().UnixMilli()
		if last := lastRung.Load(); now-last >= 5 && lastRung.CompareAndSwap(last, now) {
			batch.Queue(`SELECT pg_notify('lastseat.river_insert', '{"queue": "lastseat"}')`)
		}
		return tx.SendBatch(ctx, batch).Close()
	}, nil
}

var lastRung atomic.Int64 // milliseconds

func inserts(t ticket) *pgx.Batch {
	inserts := &pgx.Batch{}
	inserts.Queue(`
			INSERT INTO lastseat.requests (key, kind, fingerprint, job_id, requested_at)
			VALUES ($1, $2, $3, nextval('lastseat.river_job_id_seq'),
			  clock_timestamp())`, t.key, jobs.KindTransfer, t.fingerprint)
	inserts.Queue(`
			INSERT INTO lastseat.river_job (id, kind, queue, args, state, scheduled_at)
			VALUES (currval('lastseat.river_job_id_seq'), $1, $2, $3, 'available',
			  clock_timestamp())`, jobs.KindTransfer, outbox.Queue, t.withKey)
	return inserts
}

func askByMany(tickets []ticket) (func(context.Context, pgx.Tx) error, error) {
	type element struct {
		Kind string          `json:"kind"`
		Key  string          `json:"key"`
		Args json.RawMessage `json:"args"`
	}
	elements := make([]element, len(tickets))
	for i, t := range tickets {
		elements[i] = element{jobs.KindTransfer, t.key, json.RawMessage(t.args)}
	}
	requests, err := json.Marshal(elements)
	return func(ctx context.Context, tx pgx.Tx) error {
		_, err := tx.Exec(ctx, `SELECT lastseat.enqueue_many($1)`, string(requests))
		return err
	}, err
}

func askByCopy(tickets []ticket) (func(context.Context, pgx.Tx) error, error) {
	return func(ctx context.Context, tx pgx.Tx) error {
		rows, err := tx.Query(ctx, `SELECT nextval('lastseat.river_job_id_seq'), clock_timestamp()
			FROM generate_series(1, $1)`, len(tickets))
		if err != nil {
			return err
		}
		type number struct {
			ID int64
			At time.Time
		}
		numbers, err := pgx.CollectRows(rows, pgx.RowToStructByPos[number])
		if err != nil {
			return err
		}
		_, err = tx.CopyFrom(ctx, pgx.Identifier{"lastseat", "requests"}, []string{"key", "kind", "fingerprint", "job_id",
			"requested_at"},
			pgx.CopyFromSlice(len(tickets), func(i int) ([]any, error) {
				return []any{tickets[i].key, jobs.KindTransfer, tickets[i].fingerprint, numbers[i].ID, numbers[i].At}, nil
			}))
		if err != nil {
			return err
		}
		_, err = tx.CopyFrom(ctx, pgx.Identifier{"lastseat", "river_job"}, []string{"id", "kind", "queue", "args",
			"scheduled_at"},
			pgx.CopyFromSlice(len(tickets), func(i int) ([]any, error) {
				return []any{numbers[i].ID, jobs.KindTransfer, outbox.Queue, tickets[i].withKey, numbers[i].At}, nil
			}))
		return err
	}, nil
}

// produce asks for all tickets, unless it is over before, from the connections of a, and adds to a what it took. It
// returns for how many it asked: the first ones.
func produce(ctx context.Context, pool *pgxpool.Pool, a *answer, tickets []ticket, over func() bool) (n int,
	err error) {
	var prepared []func(context.Context, pgx.Tx) error
	chunks := slices.Collect(slices.Chunk(tickets, a.batch))
	for _, some := range chunks {
		ask, err := a.ask(some)
		if err != nil {
			return 0, err
		}
		prepared = append(prepared, ask)
	}
	conns := make([]*pgxpool.Conn, a.connections)
	for i := range conns {
		if conns[i], err = pool.Acquire(ctx); err != nil {
			return 0, fmt.Errorf("connect: %w", err)
		}
		defer conns[i].Release()
	}

	waits := make([]time.Duration, len(prepared))
	var next atomic.Int64
	began := time.Now()
	group, ctx := errgroup.WithContext(ctx)
	for _, conn := range conns {
		group.Go(func() error {
			for {
				i := int(next.Add(1)) - 1
				if i >= len(prepared) || ctx.Err() != nil {
					return ctx.Err()
				}
				start := time.Now()
				if a.every > 0 {
					// What comes late because the one before took long has waited since it was due.
					start = began.Add(time.Duration(i) * a.every / time.Duration(a.connections))
					time.Sleep(time.Until(start))
				}
				if err := pgx.BeginFunc(ctx, conn, func(tx pgx.Tx) error { return prepared[i](ctx, tx) }); err != nil {
					return fmt.Errorf("ask: %w", err)
				}
				waits[i] = time.Since(start)
				if a.committed != nil {
					a.committed(chunks[i])
				}
				if over != nil && over() {
					return nil
				}
			}
		})
	}
	if err := group.Wait(); err != nil {
		return 0, err
	}
	asked := min(int(next.Load()), len(prepared))
	a.elapsed += time.Since(began)
	a.waits = append(a.waits, waits[:asked]...)
	n = min(asked*a.batch, len(tickets))
	a.requests += n
	return n, nil
}
