package jobs

import (
	"fmt"
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

// Item is a part of a reservation: so many of a resource, or the whole of it for a time.
type Item struct {
	Resource string     `json:"resource"`
	Quantity int64      `json:"quantity,omitempty"` // 0: one; with During nothing else
	During   *TimeRange `json:"during,omitempty"`
}

// TimeRange is half-open: Start belongs to it, End does not.
type TimeRange struct {
	Start, End time.Time
}

// String is what Postgres reads as a tstzrange, in UTC.
func (r TimeRange) String() string {
	return fmt.Sprintf("[%s,%s)", r.Start.UTC().Format(time.RFC3339Nano), r.End.UTC().Format(time.RFC3339Nano))
}

// MarshalText makes a JSON string of it.
func (r TimeRange) MarshalText() ([]byte, error) { return []byte(r.String()), nil }

// UnmarshalText reads what MarshalText and Postgres write.
func (r *TimeRange) UnmarshalText(text []byte) error {
	parsed, err := parseRange(string(text))
	*r = parsed
	return err
}

func (r TimeRange) overlaps(other TimeRange) bool {
	return r.Start.Before(other.End) && other.Start.Before(r.End)
}

// Hold takes resources for a while, all of the items or none: until it is confirmed, cancelled, or ExpiresAt.
//
// It is applied (held, or waiting if Wait is set and something is taken), or rejected: resource_not_found, sold_out,
// overlap, customer_limit, out_of_range if bigint can't count what the customer has, or hold_expired if ExpiresAt was past when it
// was asked for.
type Hold struct {
	Reservation string `json:"reservation"` // its id
	Items       []Item `json:"items"`       // at least one; the same resource twice counts twice
	// ExpiresAt is when the hold ends by itself; zero: 15 minutes after it was asked for. It is no part of what makes two requests
	// the same: who asks again may reckon it anew, and the first one stays.
	ExpiresAt time.Time `json:"expires_at,omitzero"`
	Customer  string    `json:"customer,omitempty"` // whose limit it counts for
	// Wait has it wait in line where something is sold out or overlaps, until it is granted, cancelled, or ExpiresAt. When a place
	// is freed, the first in line for whom there is enough gets it; one who is at his customer's limit then is passed by, like
	// one who wants more than there is, and looked at again when the next place is freed.
	Wait bool `json:"wait,omitempty"`
}

// Confirm makes a hold lasting.
//
// It is applied (confirmed), or rejected: reservation_not_found, hold_expired, not_held.
type Confirm struct {
	Reservation string `json:"reservation"`
}

// Cancel gives up a hold, a confirmed reservation, or one that waits.
//
// It is applied (cancelled), or rejected: reservation_not_found, hold_expired, not_held.
type Cancel struct {
	Reservation string `json:"reservation"`
}

// Extend has a hold, or one that waits, run out at another time.
//
// It is applied (extended), or rejected: reservation_not_found, not_held, hold_expired, also if the new time was past when it was
// asked for.
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

// holdLasts where no other time is asked for.
const holdLasts = 15 * time.Minute

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
	return &h, err
}

// set takes an argument of a hold that a booking has, too.
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

func (h *Hold) needs(s *state) { s.needHold(h) }

func (h *Hold) apply(s *state, job outbox.Job) (outbox.Result, error) {
	r, refused, err := s.begin(h, job)
	if refused != nil || err != nil {
		return resultOf(refused), err
	}
	if refused := s.refuseItems(r.items, r.customer); refused != nil {
		if h.Wait && (refused.Code == CodeSoldOut || refused.Code == CodeOverlap) {
			s.wait(r)
			return outbox.Result{Status: outbox.Applied, Code: CodeWaiting, Detail: refused.Detail}, nil
		}
		r.become(reservationRejected)
		return *refused, nil
	}
	s.take(r)
	return outbox.Result{Status: outbox.Applied, Code: CodeHeld, Detail: map[string]any{"expires_at": inUTC(r.expiresAt)}}, nil
}

// begin finds the pending reservation of a hold or a booking; that of a job that came past the SQL functions, which do the
// same, is made here. It refuses one that another request has made, or that had run out when it was asked for.
func (s *state) begin(h *Hold, job outbox.Job) (*reservation, *outbox.Result, error) {
	r := s.reservations[h.Reservation]
	switch {
	case r == nil:
		r = &reservation{id: h.Reservation, key: job.Key, customer: h.Customer, expiresAt: h.ExpiresAt, status: reservationPending, created: true}
		if r.expiresAt.IsZero() {
			r.expiresAt = job.At.Add(holdLasts)
		}
		s.reservations[r.id] = r
	case r.key != job.Key:
		return nil, reject(outbox.CodeInvalidArgs, map[string]string{"error": fmt.Sprintf("reservation %q was asked for with the key %q", r.id, r.key)}), nil
	case r.status != reservationPending:
		return nil, nil, fmt.Errorf("reservation %q is %s while its request is pending: run worker audit", r.id, r.status)
	}
	// A booking does not wait to be confirmed: only a time that was asked for can be over.
	if r.ranOut(job.At) && (job.Kind != KindBook || !h.ExpiresAt.IsZero()) {
		r.become(reservationRejected)
		return nil, reject(CodeHoldExpired, map[string]any{"reservation": r.id, "expires_at": inUTC(r.expiresAt)}), nil
	}
	for i, asked := range h.Items {
		r.items = append(r.items, &item{resource: asked.Resource, quantity: max(1, asked.Quantity), during: asked.During, position: i + 1})
	}
	return r, nil, nil
}

func (c *Confirm) needs(s *state) { s.needReservation(c.Reservation) }

func (c *Confirm) apply(s *state, _ outbox.Job) (outbox.Result, error) {
	r, refused := s.live(c.Reservation, reservationHeld)
	if refused != nil {
		return *refused, nil
	}
	if err := s.confirm(r); err != nil {
		return outbox.Result{}, err
	}
	return outbox.Result{Status: outbox.Applied, Code: CodeConfirmed}, nil
}

func (c *Cancel) needs(s *state) {
	s.needReservation(c.Reservation)
	s.mayRelease(c.Reservation, time.Time{})
}

func (c *Cancel) apply(s *state, _ outbox.Job) (outbox.Result, error) {
	r, refused := s.live(c.Reservation, reservationHeld, reservationConfirmed, reservationWaiting)
	if refused != nil {
		return *refused, nil
	}
	if err := s.end(r, reservationCancelled); err != nil {
		return outbox.Result{}, err
	}
	return outbox.Result{Status: outbox.Applied, Code: CodeCancelled}, nil
}

func (e *Extend) needs(s *state) {
	s.needReservation(e.Reservation)
	s.mayRelease(e.Reservation, e.ExpiresAt)
}

func (e *Extend) apply(s *state, job outbox.Job) (outbox.Result, error) {
	r, refused := s.live(e.Reservation, reservationHeld, reservationWaiting)
	if refused != nil {
		return *refused, nil
	}
	if !job.At.Before(e.ExpiresAt) {
		return outbox.Reject(CodeHoldExpired, map[string]any{"reservation": r.id, "asked": inUTC(e.ExpiresAt), "expires_at": inUTC(r.expiresAt)}), nil
	}
	r.expiresAt = e.ExpiresAt
	r.become(r.status)
	s.watch(r)
	if r.status == reservationWaiting && s.lanes > 1 {
		s.again(r)
	}
	return outbox.Result{Status: outbox.Applied, Code: CodeExtended, Detail: map[string]any{"expires_at": inUTC(r.expiresAt)}}, nil
}
