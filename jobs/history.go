package jobs

import (
	"math"

	"github.com/lastseat/lastseat/internal/history"
)

// note tells the history which rows the batch has written, as the tables have them now. What is not noted follows from
// what is: entries and balances from the transfers, counts from the reservations and their items.
func (s *state) note(log *history.Log) {
	if log == nil {
		return
	}
	s.noteTransfers(log)
	for _, p := range changedRows(s.money.payments, func(p *payment) bool { return p.changed }) {
		createdAt := p.createdAt
		if p.created {
			createdAt = s.money.ledger.now
		}
		log.Payment(&history.Payment{
			ID: p.id, Key: p.key, From: p.from, To: p.to, Amount: p.amount, Captured: p.captured, Refunded: p.refunded,
			Currency: p.currency, Status: p.status, Version: p.version, ExpiresAt: p.expiresAt, CreatedAt: createdAt,
			UpdatedAt: s.money.ledger.now, Processor: p.processor, Method: p.method, Reference: p.reference,
			Calling: p.calling, InFlight: p.inFlight,
		})
	}
	s.noteReservations(log)
	s.noteRecords(log)
}

func (s *state) noteTransfers(log *history.Log) {
	l := &s.money.ledger
	var noted history.Transfer
	for _, t := range l.transfers {
		noted = history.Transfer{
			ID: t.id, Key: t.key, Leg: int(t.leg), From: t.from, To: t.to, Amount: t.amount, Currency: t.currency,
			Payment: t.payment, Description: t.description, CreatedAt: l.now, TakenAt: t.takenAt, GivenAt: t.givenAt,
		}
		if len(t.metadata) > 0 {
			noted.Metadata = t.metadata
		}
		if t.reverses != nil {
			noted.Reverses = t.reverses.id
		}
		log.Transfer(&noted)
	}
}

func (s *state) noteReservations(log *history.Log) {
	changed := changedRows(s.places.reservations, func(r *reservation) bool { return len(r.steps) > 0 })
	for _, r := range changed {
		v := &history.Reservation{
			ID: r.id, Key: r.key, Customer: r.customer, Status: r.status, Version: r.version + int64(len(r.steps)),
			ExpiresAt: r.steps[len(r.steps)-1].expiresAt, CreatedAt: r.createdAt, UpdatedAt: s.now,
		}
		if r.place <= math.MaxInt64/2 { // else it has left the lines before it got a number
			v.WaitingNumber = r.place
		}
		if r.created {
			v.CreatedAt = s.now
		}
		log.Reservation(v)
	}
	for _, r := range changed {
		if !r.newItems {
			continue
		}
		for _, it := range r.items {
			noted := &history.Item{
				Reservation: r.id, Position: it.position, Resource: it.resource, Quantity: it.quantity,
			}
			if it.during != nil {
				noted.Start, noted.End = it.during.Start, it.during.End
			}
			log.Item(noted)
		}
	}
}

// noteRecords notes what lastseat.record writes. The fingerprint of a record follows from its key.
func (s *state) noteRecords(log *history.Log) {
	for _, record := range s.records() {
		for _, id := range record.ids {
			log.Request(&history.Request{
				Key: "lastseat:" + record.kind + ":" + id, Kind: record.kind, Status: "applied", Code: record.code,
				RequestedAt: s.now, SettledAt: s.now,
			})
		}
	}
}
