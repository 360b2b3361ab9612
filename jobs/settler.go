package jobs

import (
	"context"
	"math"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/lastseat/lastseat/outbox"
)

// operation is a request whose arguments are in order.
type operation interface {
	// needs asks for the rows that it has to see.
	needs(*state)
	// apply works on the rows in memory: no SQL, no clock, no randomness. An error says that the rows contradict one
	// another.
	apply(*state, outbox.Job) (outbox.Result, error)
}

// settler settles all kinds of this package together, because they touch the same rows.
type settler struct{}

// Settle implements [outbox.Settler].
func (settler) Settle(ctx context.Context, tx pgx.Tx, batch outbox.Batch) ([]outbox.Result, error) {
	s := newState(batch.Now)
	s.places.lanes = batch.Lanes
	operations, results := decode(batch.Jobs)
	for _, operation := range operations {
		if operation != nil {
			operation.needs(s)
		}
	}
	// What runs out while the batch lasts ends in it, because a request of the batch may need what that frees before the
	// next sweep.
	due := outbox.Sweep{Until: lastOf(batch.Jobs), Lane: batch.Lane, Lanes: batch.Lanes, Limit: math.MaxInt32}
	if err := s.load(ctx, tx, due); err != nil {
		return nil, err
	}
	s.advance(batch.Jobs[0].At)
	s.places.grantMarked()
	for i, operation := range operations {
		if operation == nil {
			continue
		}
		job := batch.Jobs[i]
		s.advance(job.At)
		delete(s.money.ledger.pending, job.Key)
		var err error
		if results[i], err = operation.apply(s, job); err != nil {
			return nil, err
		}
	}
	return results, s.write(ctx, tx, batch.Write)
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
func (settler) Sweep(ctx context.Context, tx pgx.Tx, sweep outbox.Sweep) (swept int, more bool, err error) {
	s := newState(sweep.Now)
	s.sweeping = true
	if err := s.load(ctx, tx, sweep); err != nil {
		return 0, false, err
	}
	s.advance(sweep.Until)
	s.places.grantMarked()
	payments, reservations := len(s.money.expired), len(s.places.expired)
	swept = payments + reservations + max(s.places.line.looked, len(s.places.line.granted))
	more = payments >= sweep.Limit || reservations >= sweep.Limit || s.places.mustLookAgain()
	return swept, more, s.write(ctx, tx, sweep.Write)
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
