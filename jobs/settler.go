package jobs

import (
	"context"
	"math"
	"slices"
	"sync"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/lastseat/lastseat/outbox"
)

// operation is a request whose arguments are in order.
type operation interface {
	// needs asks for the rows that it has to see.
	needs(*state)
	// touches are the rows that apply may read or change, as far as requests share them.
	touches(*state, outbox.Job) []rowID
	// apply works on the rows in memory: no SQL, no clock, no randomness. An error says that the rows contradict one
	// another.
	apply(*state, outbox.Job) (outbox.Result, error)
}

// settler settles all kinds of this package together, because they touch the same rows.
type settler struct{ cursors *cursors }

// cursors say how far sweeps have read the lines of resources that are too long for one transaction. They are no more
// than a hint: a sweep whose resource has changed since, or that has lost them, begins at the head of the line again.
type cursors struct {
	mu sync.Mutex
	at map[string]cursor
}

type cursor struct {
	after   int64 // a number in the line
	version int64 // of the resource, when its line was read up to there
}

// begin has a sweep read on where the last one has stopped.
func (c *cursors) begin(p *places) {
	c.mu.Lock()
	defer c.mu.Unlock()
	p.line.after = make(map[string]int64)
	for id, at := range c.at {
		if r := p.resources[id]; r != nil && r.version == at.version {
			p.line.after[id] = at.after
		}
	}
}

// end notes where the next sweep is to read on.
func (c *cursors) end(p *places) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for id := range p.line.read {
		delete(c.at, id)
		if after, isCut := p.line.cut[id]; isCut {
			c.at[id] = cursor{after: after, version: p.resources[id].version}
		}
	}
}

// Settle implements [outbox.Settler].
func (settler) Settle(ctx context.Context, tx pgx.Tx, batch outbox.Batch) ([]outbox.Result, error) {
	s := newState(batch.Now)
	s.places.lanes = batch.Lanes
	operations, results := decode(batch.Jobs)
	waiting := s.need(operations, batch.Waiting)
	s.requests = len(operations)
	// What runs out while the batch lasts ends in it, because a request of the batch may need what that frees before the
	// next sweep.
	due := outbox.Sweep{Until: lastOf(batch.Jobs), Lane: batch.Lane, Lanes: batch.Lanes, Limit: math.MaxInt32}
	if err := s.load(ctx, tx, due); err != nil {
		return nil, err
	}
	s.await(waiting, batch.Waiting)
	s.advance(batch.Jobs[0].At)
	s.places.grantMarked()
	settled := 0
	for i, operation := range operations {
		if settled == batch.Limit {
			results = results[:i]
			break
		}
		if operation != nil {
			var err error
			if results[i], err = s.settle(operation, batch.Jobs[i]); err != nil {
				return nil, err
			}
		}
		if !results[i].IsWaiting() {
			settled++
		}
	}
	return results, s.write(ctx, tx, batch.Write, batch.History)
}

// need asks for the rows of the operations, and of the jobs that wait, whose operations it returns.
func (s *state) need(operations []operation, waiting []outbox.Waiting) []operation {
	await, _ := decode(column(waiting, func(w outbox.Waiting) outbox.Job { return w.Job }))
	for _, operation := range slices.Concat(await, operations) {
		if operation != nil {
			operation.needs(s)
		}
	}
	return await
}

// settle applies a job's operation, or has it wait for a row that another session has locked.
func (s *state) settle(o operation, job outbox.Job) (outbox.Result, error) {
	s.advance(job.At)
	if row := s.holdsUp(o, job); row != nil {
		return outbox.Waits(*row), nil
	}
	delete(s.money.ledger.pending, job.Key)
	return o.apply(s, job)
}

// decode reads the jobs' arguments. A job whose arguments are wrong has no operation, and is rejected.
func decode(jobs []outbox.Job) ([]operation, []outbox.Result) {
	operations, results := make([]operation, len(jobs)), make([]outbox.Result, len(jobs))
	for i, job := range jobs {
		operation, err := decoders[job.Kind](job.Args)
		if err != nil {
			results[i] = outbox.Reject(outbox.CodeInvalidArgs, map[string]string{"error": err.Error()})
			continue
		}
		operations[i] = operation
	}
	return operations, results
}

// Sweep implements [outbox.Sweeper].
func (c settler) Sweep(ctx context.Context, tx pgx.Tx, sweep outbox.Sweep) (swept int, more bool, err error) {
	s := newState(sweep.Now)
	s.sweeping = true
	s.places.cursors = c.cursors
	waiting := s.need(nil, sweep.Waiting)
	if err := s.load(ctx, tx, sweep); err != nil {
		return 0, false, err
	}
	s.await(waiting, sweep.Waiting)
	s.advance(sweep.Until)
	s.places.grantMarked()
	s.places.markWaits()
	payments, reservations := len(s.money.expired)+len(s.money.letGo), len(s.places.expired)
	swept = payments + reservations + max(s.places.line.looked, len(s.places.line.granted))
	more = payments >= sweep.Limit || reservations >= sweep.Limit || s.places.mustLookAgain()
	c.cursors.end(&s.places)
	return swept, more, s.write(ctx, tx, sweep.Write, sweep.History)
}

// lastOf is the time of the latest of the jobs.
func lastOf(jobs []outbox.Job) (last time.Time) {
	for _, job := range jobs {
		if job.At.After(last) {
			last = job.At
		}
	}
	return last
}
