package jobs

import (
	"context"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/lastseat/lastseat/internal/history"
	"github.com/lastseat/lastseat/outbox"
)

// state is the part of the database that a batch or a sweep touches, in memory: what was read, and what has been done
// to it since. Requests of payments work on the money, those of reservations on the places, and a booking on both.
// Neither part knows the other.
type state struct {
	money    money
	places   places
	blocked  blocked
	sweeping bool // there are no requests
	requests int
	now      time.Time
}

// newState is empty. now is the transaction's time, which the rows get.
func newState(now time.Time) *state {
	s := &state{money: newMoney(now), places: newPlaces(), blocked: make(blocked), now: now}
	s.money.blocked, s.money.ledger.blocked, s.places.blocked = s.blocked, s.blocked, s.blocked
	return s
}

// load locks and reads what the batch needs, and what runs out by the time of its last request.
//
// This is the one place that says in which order tables are locked. Within a table each statement locks in the order of
// the primary key:
//
//  1. payments
//  2. reservations
//  3. resources
//  4. reservations that wait for these resources, and the resources that they wait for: again, while lines are read
//  5. customer_counts
//  6. accounts
//
// What has run out, and whose lines have to be looked at, is chosen before, without a lock. Not locked either:
// transfers and requests, between 1 and 2; reservation_items and the waiting lines, between 3 and 5. Each step names
// the rows of later ones.
//
// No statement waits for a row that another session has locked (SKIP LOCKED; see [blocked]), and all that is changed
// later was locked here. So lanes, sweeps and other sessions can't wait for each other in a circle, whatever the order.
// One lock is waited for: that of a row of customer_counts that another lane is just making.
//
// Accounts come first where requests name nothing else. What runs out matters to such a batch only if it frees money of
// one of them.
func (s *state) load(ctx context.Context, tx pgx.Tx, due outbox.Sweep) error {
	if !s.sweeping && !s.places.isTouched() && s.money.namesOnlyAccounts() {
		s.money.ledger.expected = s.requests
		if err := s.money.ledger.loadAccounts(ctx, tx); err != nil || !s.money.ledger.holdsSome() {
			return err
		}
	}
	if err := s.loadDue(ctx, tx, due); err != nil {
		return err
	}
	if err := s.money.load(ctx, tx); err != nil {
		return err
	}
	if err := s.places.load(ctx, tx, due.Until); err != nil {
		return err
	}
	return s.money.ledger.loadAccounts(ctx, tx)
}

// loadDue looks for what has run out, of money and of places if the batch has to do with them, and of both in a sweep.
// A sweep also looks for resources whose waiting line has to be looked at.
func (s *state) loadDue(ctx context.Context, tx pgx.Tx, due outbox.Sweep) error {
	look := &pgx.Batch{}
	if s.sweeping || s.money.isTouched() {
		s.money.needExpired(look, due)
	}
	if s.sweeping || s.places.isTouched() {
		s.places.needDue(look, due)
	}
	if s.sweeping {
		s.places.needMarked(look, due)
	}
	return tx.SendBatch(ctx, look).Close()
}

// advance takes the state on in time: what has run out by then is given back, the oldest first.
func (s *state) advance(to time.Time) {
	s.money.advance(to)
	s.places.advance(to)
}

// write queues everything that has changed, and notes it in the history.
func (s *state) write(ctx context.Context, tx pgx.Tx, write *pgx.Batch, log *history.Log) error {
	if err := s.money.ledger.number(ctx, tx); err != nil {
		return err
	}
	if err := s.places.numberJoined(ctx, tx); err != nil {
		return err
	}
	s.places.markWaits()
	s.money.writePayments(write)
	s.places.write(write)
	s.money.ledger.write(write)
	s.writeRecords(write)
	s.note(log)
	return nil
}
