package jobs

import (
	"time"

	"github.com/tidwall/gjson"

	"github.com/lastseat/lastseat/outbox"
)

// The kinds of a reservation's life.
const (
	KindHold    = "reservation.hold"
	KindConfirm = "reservation.confirm"
	KindCancel  = "reservation.cancel"
	KindExtend  = "reservation.extend"
)

// Hold takes resources for a while, all of the items or none: until it is confirmed or cancelled, at most until
// ExpiresAt.
//
// It is applied (held, or waiting if Wait is set and something is taken), or rejected: resource_not_found, sold_out,
// overlap, customer_limit, out_of_range if a bigint can't count what the customer has, or hold_expired if ExpiresAt was
// past when it was asked for.
type Hold struct {
	Reservation string `json:"reservation"` // its id
	Items       []Item `json:"items"`       // at least one; the same resource twice counts twice
	// ExpiresAt is when the worker ends the hold; zero: 15 minutes after it was asked for. It is no part of what makes two
	// requests the same: a retry may send a different one, and the first one is kept.
	ExpiresAt time.Time `json:"expires_at,omitzero"`
	Customer  string    `json:"customer,omitempty"` // whose limit it counts for
	// Wait makes the request wait in line if something is sold out or overlaps: until it is granted or cancelled, at most
	// until ExpiresAt. When a place is freed, the first in line whose items can all be taken gets it. The worker passes by
	// customers at their limit and requests for more than there is, and looks at them again when the next place is freed.
	// Items that can never be taken together, because they overlap one another, are refused when they are asked for.
	Wait bool `json:"wait,omitempty"`
}

// Confirm makes a hold lasting.
//
// It is applied (confirmed), or rejected: reservation_not_found, hold_expired, not_held.
type Confirm struct {
	Reservation string `json:"reservation"`
}

// Cancel gives up a reservation that is held, confirmed, or waits.
//
// It is applied (cancelled), or rejected: reservation_not_found, hold_expired, not_held.
type Cancel struct {
	Reservation string `json:"reservation"`
}

// Extend changes when a hold, or a reservation that waits, expires.
//
// It is applied (extended), or rejected: reservation_not_found, not_held, hold_expired, also if the new time was past
// when it was asked for.
type Extend struct {
	Reservation string    `json:"reservation"`
	ExpiresAt   time.Time `json:"expires_at"`
}

// Kind implements [outbox.Args].
func (Hold) Kind() string { return KindHold }

// Kind implements [outbox.Args].
func (Confirm) Kind() string { return KindConfirm }

// Kind implements [outbox.Args].
func (Cancel) Kind() string { return KindCancel }

// Kind implements [outbox.Args].
func (Extend) Kind() string { return KindExtend }

func decodeHold(args []byte) (operation, error) {
	var h Hold
	err := eachArg(args, func(name string, value gjson.Result) (bool, error) {
		if name == "wait" {
			return true, boolArg(name, value, &h.Wait)
		}
		return h.set(name, value)
	})
	if err == nil {
		err = h.complete()
	}
	if err == nil && h.Wait {
		err = neverTogether(h.Items)
	}
	return &h, err
}

// set takes an argument that a hold and a booking share.
func (h *Hold) set(name string, value gjson.Result) (bool, error) {
	switch name {
	case "reservation":
		return true, idArg(name, value, &h.Reservation)
	case "items":
		return true, itemsArg(name, value, &h.Items)
	case "expires_at":
		return true, timeArg(name, value, &h.ExpiresAt)
	case "customer":
		return true, idArg(name, value, &h.Customer)
	}
	return false, nil
}

func (h *Hold) complete() error {
	switch {
	case h.Reservation == "":
		return missing("reservation")
	case len(h.Items) == 0:
		return missing("items")
	}
	return nil
}

func decodeConfirm(args []byte) (operation, error) {
	var c Confirm
	return &c, decodeOfReservation(args, &c.Reservation, nil)
}

func decodeCancel(args []byte) (operation, error) {
	var c Cancel
	return &c, decodeOfReservation(args, &c.Reservation, nil)
}

func decodeExtend(args []byte) (operation, error) {
	var e Extend
	err := decodeOfReservation(args, &e.Reservation, &e.ExpiresAt)
	if err == nil && e.ExpiresAt.IsZero() {
		err = missing("expires_at")
	}
	return &e, err
}

// decodeOfReservation reads the id of a reservation, and a time where there is one.
func decodeOfReservation(args []byte, reservation *string, expiresAt *time.Time) error {
	err := eachArg(args, func(name string, value gjson.Result) (bool, error) {
		switch {
		case name == "reservation":
			return true, idArg(name, value, reservation)
		case name == "expires_at" && expiresAt != nil:
			return true, timeArg(name, value, expiresAt)
		}
		return false, nil
	})
	if err == nil && *reservation == "" {
		return missing("reservation")
	}
	return err
}

func (h *Hold) demand() demand {
	return demand{reservation: h.Reservation, customer: h.Customer, expiresAt: h.ExpiresAt, items: h.Items}
}

func (h *Hold) needs(s *state) { s.places.needDemand(h.demand()) }

func (h *Hold) touches(s *state, _ outbox.Job) []rowID { return s.places.touchesDemand(h.demand()) }

func (h *Hold) apply(s *state, job outbox.Job) (outbox.Result, error) {
	r, refused, err := s.places.pending(h.demand(), job)
	if refused != nil || err != nil {
		return resultOf(refused), err
	}
	if refused := s.places.refuseItems(r.items, r.customer); refused != nil {
		if h.Wait && (refused.Code == CodeSoldOut || refused.Code == CodeOverlap) {
			s.places.join(r)
			return applied(CodeWaiting, refused.Detail)
		}
		r.become(reservationRejected)
		return *refused, nil
	}
	s.places.hold(r)
	return applied(CodeHeld, map[string]any{"expires_at": inUTC(r.expiresAt)})
}

func (c *Confirm) needs(s *state) { s.places.needReservation(c.Reservation) }

func (c *Confirm) touches(s *state, _ outbox.Job) []rowID {
	return s.places.touchesReservation(nil, c.Reservation)
}

func (c *Confirm) apply(s *state, _ outbox.Job) (outbox.Result, error) {
	r, refused := s.places.live(c.Reservation, reservationHeld)
	if refused != nil {
		return *refused, nil
	}
	if err := s.places.confirm(r); err != nil {
		return outbox.Result{}, err
	}
	return applied(CodeConfirmed, nil)
}

func (c *Cancel) needs(s *state) {
	s.places.needReservation(c.Reservation)
	s.places.mayRelease(c.Reservation, time.Time{})
}

func (c *Cancel) touches(s *state, _ outbox.Job) []rowID { return s.places.touchesEnd(c.Reservation) }

func (c *Cancel) apply(s *state, _ outbox.Job) (outbox.Result, error) {
	r, refused := s.places.live(c.Reservation, reservationHeld, reservationConfirmed, reservationWaiting)
	if refused != nil {
		return *refused, nil
	}
	if err := s.places.end(r, reservationCancelled); err != nil {
		return outbox.Result{}, err
	}
	return applied(CodeCancelled, nil)
}

func (e *Extend) needs(s *state) {
	s.places.needReservation(e.Reservation)
	s.places.mayRelease(e.Reservation, e.ExpiresAt)
}

func (e *Extend) touches(s *state, _ outbox.Job) []rowID { return s.places.touchesEnd(e.Reservation) }

func (e *Extend) apply(s *state, job outbox.Job) (outbox.Result, error) {
	r, refused := s.places.live(e.Reservation, reservationHeld, reservationWaiting)
	if refused != nil {
		return *refused, nil
	}
	if !job.At.Before(e.ExpiresAt) {
		return outbox.Reject(CodeHoldExpired, map[string]any{
			"reservation": r.id, "asked": inUTC(e.ExpiresAt), "expires_at": inUTC(r.expiresAt),
		}), nil
	}
	r.expiresAt = e.ExpiresAt
	r.become(r.status)
	s.places.watch(r)
	if r.status == reservationWaiting && s.places.lanes > 1 {
		s.places.lookAgain(r)
	}
	return applied(CodeExtended, map[string]any{"expires_at": inUTC(r.expiresAt)})
}
