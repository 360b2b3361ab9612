package jobs

import (
	"context"

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
}

// settler settles all kinds of this package together, for they touch the same rows.
type settler struct{}

// Settle implements [outbox.Settler].
func (settler) Settle(ctx context.Context, tx pgx.Tx, batch outbox.Batch) ([]outbox.Result, error) {
	results := make([]outbox.Result, len(batch.Jobs))
	operations := make([]operation, len(batch.Jobs))
	s := newState(batch.Now)
	for i, job := range batch.Jobs {
		operation, err := decoders[job.Kind](job.Args)
		if err != nil {
			results[i] = outbox.Reject(outbox.CodeInvalidArgs, map[string]string{"error": err.Error()})
			continue
		}
		operation.needs(s)
		operations[i] = operation
	}
	if err := s.load(ctx, tx); err != nil {
		return nil, err
	}
	for i, operation := range operations {
		if operation == nil {
			continue
		}
		var err error
		if results[i], err = operation.apply(s, batch.Jobs[i]); err != nil {
			return nil, err
		}
	}
	return results, s.write(ctx, tx, batch.Write)
}

// Sweep implements [outbox.Sweeper].
func (settler) Sweep(ctx context.Context, tx pgx.Tx, sweep outbox.Sweep) (int, error) {
	s := newState(sweep.Now)
	if err := s.loadExpired(ctx, tx, sweep); err != nil {
		return 0, err
	}
	if err := s.load(ctx, tx); err != nil {
		return 0, err
	}
	s.expireDue(sweep.Until)
	return len(s.expired), s.write(ctx, tx, sweep.Write)
}
