package jobs

import (
	"context"
	"math"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/lastseat/lastseat/outbox"
)

// Register makes a worker of kinds settle all the kinds of this package.
func Register(kinds *outbox.Kinds) {
	kinds.Register(settler{},
		outbox.Kind{Name: KindTransfer, OrderBy: "from"},
		outbox.Kind{Name: KindAuthorize, OrderBy: "payment"},
		outbox.Kind{Name: KindCapture, OrderBy: "payment"},
		outbox.Kind{Name: KindVoid, OrderBy: "payment"},
		outbox.Kind{Name: KindRefund, OrderBy: "payment"},
		outbox.Kind{Name: KindReverse, OrderBy: "transfer"},
		outbox.Kind{Name: KindHold, OrderBy: "reservation"},
		outbox.Kind{Name: KindConfirm, OrderBy: "reservation"},
		outbox.Kind{Name: KindCancel, OrderBy: "reservation"},
		outbox.Kind{Name: KindExtend, OrderBy: "reservation"},
		outbox.Kind{Name: KindBook, OrderBy: "reservation"},
	)
}

// operation is a request whose arguments are in order.
type operation interface {
	// needs says which rows it has to see.
	needs(*state)
	// apply works on the rows in memory: no SQL, no clock, no randomness. An error says that they contradict one another.
	apply(*state, outbox.Job) (outbox.Result, error)
}

var decoders = map[string]func(args []byte) (operation, error){
	KindTransfer:  decodeTransfer,
	KindAuthorize: decodeAuthorize,
	KindCapture:   decodeCapture,
	KindVoid:      decodeVoid,
	KindRefund:    decodeRefund,
	KindReverse:   decodeReverse,
	KindHold:      decodeHold,
	KindConfirm:   decodeConfirm,
	KindCancel:    decodeCancel,
	KindExtend:    decodeExtend,
	KindBook:      decodeBook,
}

// settler settles all kinds of this package together, for they touch the same rows.
type settler struct{}

// Settle implements [outbox.Settler].
func (settler) Settle(ctx context.Context, tx pgx.Tx, batch outbox.Batch) ([]outbox.Result, error) {
	results := make([]outbox.Result, len(batch.Jobs))
	operations := make([]operation, len(batch.Jobs))
	s := newState(batch.Now)
	s.lanes = batch.Lanes
	for i, job := range batch.Jobs {
		operation, err := decoders[job.Kind](job.Args)
		if err != nil {
			results[i] = outbox.Reject(outbox.CodeInvalidArgs, map[string]string{"error": err.Error()})
			continue
		}
		operation.needs(s)
		operations[i] = operation
	}
	// What runs out in the time of the batch is looked after, too: whoever needs what it holds sooner than the sweep comes.
	due := outbox.Sweep{Until: lastOf(batch.Jobs), Lane: batch.Lane, Lanes: batch.Lanes, Limit: math.MaxInt32}
	if err := s.loadDue(ctx, tx, due); err != nil {
		return nil, err
	}
	if err := s.load(ctx, tx, due.Until); err != nil {
		return nil, err
	}
	s.advance(batch.Jobs[0].At)
	s.grantGrown()
	for i, operation := range operations {
		if operation == nil {
			continue
		}
		s.advance(batch.Jobs[i].At)
		delete(s.pending, batch.Jobs[i].Key)
		var err error
		if results[i], err = operation.apply(s, batch.Jobs[i]); err != nil {
			return nil, err
		}
	}
	return results, s.write(ctx, tx, batch.Write)
}

// Sweep implements [outbox.Sweeper].
func (settler) Sweep(ctx context.Context, tx pgx.Tx, sweep outbox.Sweep) (swept int, more bool, err error) {
	s := newState(sweep.Now)
	s.sweeping = true
	if err := s.loadDue(ctx, tx, sweep); err != nil {
		return 0, false, err
	}
	if err := s.loadGrown(ctx, tx, sweep); err != nil {
		return 0, false, err
	}
	if err := s.load(ctx, tx, sweep.Until); err != nil {
		return 0, false, err
	}
	s.advance(sweep.Until)
	s.grantGrown()
	swept = len(s.expired) + len(s.ranOut) + max(s.looked, len(s.granted))
	return swept, len(s.expired) >= sweep.Limit || len(s.ranOut) >= sweep.Limit || s.growing(), s.write(ctx, tx, sweep.Write)
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
