package jobs

import (
	"encoding/json"
	"fmt"
	"time"

	"github.com/tidwall/gjson"

	"github.com/lastseat/lastseat/outbox"
)

// KindBook is the kind of a [Book].
const KindBook = "booking.book"

// Book takes resources and pays for them, both or neither: the reservation is confirmed at once.
//
// It is applied (booked), or rejected with a code of [Hold] or [Transfer], and nothing is taken. Nothing is held before
// it is settled, so a late worker costs it nothing, unless it has a time of its own (ExpiresAt).
type Book struct {
	Reservation string `json:"reservation"` // its id
	Items       []Item `json:"items"`       // at least one
	From        string `json:"from"`
	To          string `json:"to"`
	Amount      int64  `json:"amount"`   // minor units, at least 1
	Currency    string `json:"currency"` // ISO 4217
	// ExpiresAt rejects the booking (hold_expired) if it was past when it was asked for, or at the time for which the
	// booking is scheduled; zero: it is never too late. It is no part of what makes two requests the same, as in [Hold].
	ExpiresAt   time.Time       `json:"expires_at,omitzero"`
	Customer    string          `json:"customer,omitempty"` // whose limit it counts for
	Description string          `json:"description,omitempty"`
	Metadata    json.RawMessage `json:"metadata,omitempty"` // a JSON object
}

// Kind implements [outbox.Args].
func (Book) Kind() string { return KindBook }

// booking is a [Book], decoded.
type booking struct {
	hold     Hold
	transfer Transfer
}

func decodeBook(args []byte) (operation, error) {
	var b booking
	err := eachArg(args, func(name string, value gjson.Result) (bool, error) {
		if known, err := b.hold.set(name, value); known {
			return true, err
		}
		return b.transfer.set(name, value)
	})
	if err == nil {
		err = b.hold.complete()
	}
	if err == nil {
		err = b.transfer.complete()
	}
	return &b, err
}

func (b *booking) demand() demand {
	d := b.hold.demand()
	d.isBooking = true
	return d
}

func (b *booking) needs(s *state) {
	s.places.needDemand(b.demand())
	b.transfer.needs(s)
}

func (b *booking) touches(s *state, job outbox.Job) []rowID {
	return append(s.places.touchesDemand(b.demand()), b.transfer.touches(s, job)...)
}

func (b *booking) apply(s *state, job outbox.Job) (outbox.Result, error) {
	r, refused, err := s.places.pending(b.demand(), job)
	if refused != nil || err != nil {
		return resultOf(refused), err
	}
	t := &b.transfer
	if refused = s.places.refuseItems(r.items, r.customer); refused == nil {
		refused = s.money.ledger.refuseTransfer(t.From, t.To, t.Amount, t.Currency)
	}
	if refused != nil {
		r.become(reservationRejected)
		return *refused, nil
	}
	s.places.hold(r)
	if err := s.places.confirm(r); err != nil {
		return outbox.Result{}, fmt.Errorf("just held: %w", err)
	}
	s.money.ledger.post(t.row(job.Key))
	return applied(CodeBooked, nil)
}
