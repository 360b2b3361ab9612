package history

import (
	"encoding/hex"
	"fmt"
	"strconv"
	"strings"
	"time"
)

// Request is a row of requests that was settled, or made pending again. A pending one has no more than the first five
// fields.
type Request struct {
	Key, Kind   string
	Fingerprint []byte
	JobID       int64
	RequestedAt time.Time

	Status    string
	Code      string
	Detail    []byte // JSON; nil: null
	Attempts  int
	SettledAt time.Time
}

// Pending is the status of a request that waits.
const Pending = "pending"

// Digest is the digest of the row.
func (q *Request) Digest() []byte { return digestOf(q) }

func (q *Request) fields(r *row) {
	r.text(q.Key)
	r.text(q.Kind)
	if q.JobID == 0 { // a record of the worker's own: its fingerprint follows from its key
		r.null()
	} else {
		r.bytes(q.Fingerprint)
	}
	r.number(q.JobID)
	r.time(q.RequestedAt)
	r.text(q.Status)
	if q.Status == Pending { // attempts may be counted while it waits
		return
	}
	r.text(q.Code)
	if q.Detail == nil {
		r.null()
	} else {
		r.bytes(Canonical(q.Detail))
	}
	r.number(int64(q.Attempts))
	r.time(q.SettledAt)
}

// Request notes a row of requests.
func (l *Log) Request(q *Request) {
	if l != nil {
		q.fields(&l.row)
		l.add(q.Relation(), q.Key)
	}
}

// Relation is what the history calls the row, which depends on its status.
func (q *Request) Relation() string {
	switch q.Status {
	case Pending:
		return Reopened
	case "failed":
		return Failed
	}
	return Requests
}

// Transfer is a row of transfers, with the times of its two entries, which may be later than its own. All else in the
// entries follows from the transfers.
type Transfer struct {
	ID                          int64
	Key                         string
	Leg                         int
	From, To                    string
	Amount                      int64
	Currency                    string
	Payment                     string // empty: null
	Reverses                    int64  // 0: null
	Description                 string // empty: null
	Metadata                    []byte // JSON as Postgres prints it; nil: null
	CreatedAt, TakenAt, GivenAt time.Time
}

// Digest is the digest of the row.
func (t *Transfer) Digest() []byte { return digestOf(t) }

func (t *Transfer) fields(r *row) {
	r.number(t.ID)
	r.text(t.Key)
	r.number(int64(t.Leg))
	r.text(t.From)
	r.text(t.To)
	r.number(t.Amount)
	r.text(t.Currency)
	r.optional(t.Payment)
	r.number(t.Reverses)
	r.optional(t.Description)
	if t.Metadata == nil {
		r.null()
	} else {
		r.bytes(t.Metadata)
	}
	r.time(t.CreatedAt)
	r.time(t.TakenAt)
	r.time(t.GivenAt)
}

// Transfer notes a row of transfers.
func (l *Log) Transfer(t *Transfer) {
	if l != nil {
		t.fields(&l.row)
		l.add(Transfers, strconv.FormatInt(t.ID, 10))
	}
}

// Payment is a version of a row of payments.
type Payment struct {
	ID, Key, From, To               string
	Amount, Captured, Refunded      int64
	Currency, Status                string
	Version                         int64
	ExpiresAt, CreatedAt, UpdatedAt time.Time

	Processor, Method, Reference, Calling string // empty: null
	InFlight                              int64
}

// Digest is the digest of the row.
func (p *Payment) Digest() []byte { return digestOf(p) }

func (p *Payment) fields(r *row) {
	r.text(p.ID)
	r.text(p.Key)
	r.text(p.From)
	r.text(p.To)
	r.number(p.Amount)
	r.number(p.Captured)
	r.number(p.Refunded)
	r.text(p.Currency)
	r.text(p.Status)
	r.number(p.Version)
	r.time(p.ExpiresAt)
	r.time(p.CreatedAt)
	r.time(p.UpdatedAt)
	r.optional(p.Processor)
	r.optional(p.Method)
	r.optional(p.Reference)
	r.optional(p.Calling)
	r.number(p.InFlight)
}

// Payment notes a version of a row of payments.
func (l *Log) Payment(p *Payment) {
	if l != nil {
		p.fields(&l.row)
		l.add(Payments, VersionKey(p.ID, p.Version))
	}
}

// Reservation is a version of a row of reservations.
type Reservation struct {
	ID, Key, Customer, Status       string // no customer: null
	WaitingNumber                   int64  // 0: null
	Version                         int64
	ExpiresAt, CreatedAt, UpdatedAt time.Time
}

// Digest is the digest of the row.
func (v *Reservation) Digest() []byte { return digestOf(v) }

func (v *Reservation) fields(r *row) {
	r.text(v.ID)
	r.text(v.Key)
	r.optional(v.Customer)
	r.text(v.Status)
	r.number(v.WaitingNumber)
	r.number(v.Version)
	r.time(v.ExpiresAt)
	r.time(v.CreatedAt)
	r.time(v.UpdatedAt)
}

// Reservation notes a version of a row of reservations.
func (l *Log) Reservation(v *Reservation) {
	if l != nil {
		v.fields(&l.row)
		l.add(Reservations, VersionKey(v.ID, v.Version))
	}
}

// Item is a row of reservation_items. Whether it occupies its time range follows from the reservation.
type Item struct {
	Reservation string
	Position    int
	Resource    string
	Quantity    int64
	Start, End  time.Time // zero: it has no time range
}

// Digest is the digest of the row.
func (i *Item) Digest() []byte { return digestOf(i) }

func (i *Item) fields(r *row) {
	r.text(i.Reservation)
	r.number(int64(i.Position))
	r.text(i.Resource)
	r.number(i.Quantity)
	r.time(i.Start)
	r.time(i.End)
}

// Item notes a row of reservation_items.
func (l *Log) Item(i *Item) {
	if l != nil {
		i.fields(&l.row)
		l.add(Items, ItemKey(i.Reservation, i.Position))
	}
}

// Closing is a row of closings.
type Closing struct {
	Account           string
	Version           int64 // of the last entry that was closed
	Balance, Transfer int64 // of that entry
	Through, ClosedAt time.Time
}

// Digest is the digest of the row.
func (c *Closing) Digest() []byte { return digestOf(c) }

func (c *Closing) fields(r *row) {
	r.text(c.Account)
	r.number(c.Version)
	r.number(c.Balance)
	r.number(c.Transfer)
	r.time(c.Through)
	r.time(c.ClosedAt)
}

// RemovedKey names a transfer that was removed: the key under which it moved money is never used again.
func (t *Transfer) RemovedKey() string { return strconv.FormatInt(t.ID, 10) + " " + t.Key }

// ClosingKey names a closing.
func ClosingKey(account string, version int64) string {
	return account + "#" + strconv.FormatInt(version, 10)
}

// VersionKey names a version of a row.
func VersionKey(id string, version int64) string { return id + "@" + strconv.FormatInt(version, 10) }

// ItemKey names an item.
func ItemKey(reservation string, position int) string {
	return reservation + "#" + strconv.Itoa(position)
}

// Texts is the digest of a row whose columns are given as Postgres prints them; nil: null.
func Texts(columns []*string) []byte {
	r := &row{spare: make([]byte, DigestSize)}
	for _, column := range columns {
		if column == nil {
			r.null()
		} else {
			r.text(*column)
		}
	}
	return r.digest()
}

// ParseRequest reads a row of requests as lastseat.note_request writes it to lastseat.history_waiting.
func ParseRequest(columns []*string) (*Request, error) {
	if len(columns) != 10 {
		return nil, fmt.Errorf("a request has 10 columns, not %d", len(columns))
	}
	text := func(i int) string {
		if columns[i] == nil {
			return ""
		}
		return *columns[i]
	}
	q := &Request{Key: text(0), Kind: text(1), Status: text(5), Code: text(6)}
	if columns[7] != nil {
		q.Detail = []byte(*columns[7])
	}
	var err error
	if q.Fingerprint, err = hex.DecodeString(strings.TrimPrefix(text(2), `\x`)); err != nil {
		return nil, err
	}
	numbers := make([]int64, 4)
	for i, column := range []int{3, 4, 8, 9} {
		if columns[column] == nil {
			continue
		}
		if numbers[i], err = strconv.ParseInt(*columns[column], 10, 64); err != nil {
			return nil, err
		}
	}
	q.JobID, q.RequestedAt, q.Attempts = numbers[0], time.UnixMicro(numbers[1]), int(numbers[2])
	if columns[9] != nil {
		q.SettledAt = time.UnixMicro(numbers[3])
	}
	return q, nil
}

func digestOf(of interface{ fields(*row) }) []byte {
	r := &row{spare: make([]byte, DigestSize)}
	of.fields(r)
	return r.digest()
}
