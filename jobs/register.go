package jobs

import (
	"context"

	"github.com/jackc/pgx/v5"

	"github.com/lastseat/lastseat/outbox"
)

// Register makes a worker of kinds settle all the kinds of this package.
func Register(kinds *outbox.Kinds) {
	kinds.Register(settler{}, outbox.Kind{Name: KindTransfer, OrderBy: "from"})
}

// operation is a request whose arguments are in order.
type operation interface {
	// needs says which rows it has to see.
	needs(*ledger)
	// apply works on the rows in memory: no SQL, no clock, no randomness.
	apply(l *ledger, key string) outbox.Result
}

var decoders = map[string]func(args []byte) (operation, error){
	KindTransfer: decodeTransfer,
}

// settler settles all kinds of this package together, for they touch the same rows.
type settler struct{}

// Settle implements [outbox.Settler].
func (settler) Settle(ctx context.Context, tx pgx.Tx, requests []outbox.Job, write *pgx.Batch) ([]outbox.Result, error) {
	results := make([]outbox.Result, len(requests))
	operations := make([]operation, len(requests))
	ledger := newLedger()
	for i, request := range requests {
		operation, err := decoders[request.Kind](request.Args)
		if err != nil {
			results[i] = outbox.Reject(outbox.CodeInvalidArgs, map[string]string{"error": err.Error()})
			continue
		}
		operation.needs(ledger)
		operations[i] = operation
	}
	if err := ledger.load(ctx, tx); err != nil {
		return nil, err
	}
	for i, operation := range operations {
		if operation != nil {
			results[i] = operation.apply(ledger, requests[i].Key)
		}
	}
	return results, ledger.write(ctx, tx, write)
}
