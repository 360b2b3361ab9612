package jobs

import (
	"context"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/lastseat/lastseat/outbox"
)

// state is the part of the database that a batch touches, in memory: what was read, and what has been done to it since.
type state struct {
	now time.Time // the transaction's, which the rows get
	ledger
	inventory
	payments map[string]*payment // nil: asked for, and not there
	expired  []string            // ids of payments
	sweeping bool                // there are no requests
	lanes    int
}

func newState(now time.Time) *state {
	return &state{now: now, ledger: newLedger(), inventory: newInventory(), payments: make(map[string]*payment)}
}

// loadDue reads what has run out, as far as the batch has to do with such things: with money, and with places.
func (s *state) loadDue(ctx context.Context, tx pgx.Tx, sweep outbox.Sweep) error {
	if len(s.accounts)+len(s.payments)+len(s.byKey) > 0 || s.sweeping {
		if err := s.loadExpired(ctx, tx, sweep); err != nil {
			return err
		}
	}
	if len(s.resources)+len(s.reservations) > 0 || s.sweeping {
		return s.loadRanOut(ctx, tx, sweep)
	}
	return nil
}

// load locks and reads what the batch needs: payments, transfers and reservations first, since they name accounts and
// resources. until is the time of the batch's last request.
//
// Everybody locks the tables in this order, and the rows of each by their keys: nobody waits in a circle.
func (s *state) load(ctx context.Context, tx pgx.Tx, until time.Time) error {
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
	if err := s.loadInventory(ctx, tx, until); err != nil {
		return err
	}
	return s.loadAccounts(ctx, tx)
}

// write queues everything that has changed.
func (s *state) write(ctx context.Context, tx pgx.Tx, write *pgx.Batch) error {
	if err := s.number(ctx, tx); err != nil {
		return err
	}
	if err := s.numberJoined(ctx, tx); err != nil {
		return err
	}
	s.writePayments(write)
	s.inventory.write(write)
	s.ledger.write(write)
	s.writeRecords(write)
	return nil
}
