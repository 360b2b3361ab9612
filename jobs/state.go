package jobs

import (
	"context"
	"time"

	"github.com/jackc/pgx/v5"
)

// state is the part of the database that a batch touches, in memory: what was read, and what has been done to it since.
type state struct {
	now time.Time // the transaction's, which the rows get
	ledger
	payments map[string]*payment // nil: asked for, and not there
	expired  []string            // ids of payments
}

func newState(now time.Time) *state {
	return &state{now: now, ledger: newLedger(), payments: make(map[string]*payment)}
}

// load locks and reads what the batch needs: payments and transfers first, since they name the accounts. Everybody locks the
// tables in this order, and the rows of each by their keys: nobody waits in a circle.
func (s *state) load(ctx context.Context, tx pgx.Tx) error {
	if err := s.loadPayments(ctx, tx); err != nil {
		return err
	}
	if err := s.loadTransfers(ctx, tx); err != nil {
		return err
	}
	for _, p := range s.payments {
		if p != nil {
			s.needAccounts(p.from, p.to)
		}
	}
	return s.loadAccounts(ctx, tx)
}

// write queues everything that has changed.
func (s *state) write(ctx context.Context, tx pgx.Tx, write *pgx.Batch) error {
	if err := s.number(ctx, tx); err != nil {
		return err
	}
	s.writePayments(write)
	s.ledger.write(write)
	return nil
}
