package jobs

import (
	"encoding/json"
	"fmt"
	"maps"
	"math"
	"math/big"
	"slices"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/lastseat/lastseat/internal/testdb"
	"github.com/lastseat/lastseat/outbox"
)

// Stock is the rules of reservations once more, without counters, batches or tables: what is taken is counted anew from
// the reservations whenever it is asked for. Histories in memory, and in the database (TestReservationHistories), are
// held against it.
type Stock struct {
	Resources    map[string]*StockResource
	Reservations map[string]*StockReservation
	Limits       map[string]int64 // of groups; none: without bound
	Money        *Model
	Granted      []string
	RanOut       []string
	joined       int
}

// StockResource has room for Capacity, overbooking included.
type StockResource struct {
	Capacity int64
	Group    string
}

// StockReservation is one of a history.
type StockReservation struct {
	Key, Customer, Status string
	Items                 []Item
	ExpiresAt             time.Time
	number                int // in the lines
}

// Define changes a resource's capacity, as lastseat.define_resource does: no request, but a step of a history.
type Define struct {
	Resource string
	Capacity int64
}

// Kind implements outbox.Args.
func (Define) Kind() string { return "define" }

// StockCustomers are those of the histories.
var StockCustomers = []string{"ann", "bob"}

// NewStock has the resources of a history: few, and small, or at the edge of 64 bits; none is not there.
func NewStock() *Stock {
	return &Stock{
		Resources: map[string]*StockResource{
			"seat": {Capacity: 1}, "stock": {Capacity: 5}, "room": {Capacity: 1}, "hall": {Capacity: 0},
			"huge":  {Capacity: math.MaxInt64},
			"show1": {Capacity: 1, Group: "show"}, "show2": {Capacity: 3, Group: "show"}, "show3": {Capacity: 1, Group: "show"},
			"free1": {Capacity: math.MaxInt64, Group: "free"}, "free2": {Capacity: math.MaxInt64, Group: "free"},
			"most1": {Capacity: math.MaxInt64, Group: "most"}, "most2": {Capacity: math.MaxInt64, Group: "most"},
		},
		Reservations: make(map[string]*StockReservation),
		Limits:       map[string]int64{"show": 2, "most": math.MaxInt64},
		Money:        NewModel(),
	}
}

// Begin is what asking for a hold or a booking makes at once: a reservation that is pending. It says when that runs
// out.
func (m *Stock) Begin(key string, args outbox.Args, expiresAt time.Time) {
	switch args := args.(type) {
	case Hold:
		m.Reservations[args.Reservation] = &StockReservation{Key: key, Customer: args.Customer, Items: args.Items,
			Status: "pending", ExpiresAt: expiresAt}
	case Book:
		m.Reservations[args.Reservation] = &StockReservation{Key: key, Customer: args.Customer, Items: args.Items,
			Status: "pending", ExpiresAt: expiresAt}
	}
}

// Do settles a request and returns its code.
func (m *Stock) Do(key string, at time.Time, args outbox.Args) string {
	m.Advance(at)
	switch args := args.(type) {
	case Transfer:
		return m.Money.Do(key, at, args)
	case Hold:
		expiresAt := args.ExpiresAt
		if expiresAt.IsZero() {
			expiresAt = at.Add(15 * time.Minute)
		}
		return m.settle(key, at, args.Reservation, args, expiresAt, args.Wait, true, func() string { return CodeHeld })
	case Book:
		return m.settle(key, at, args.Reservation, args, at.Add(15*time.Minute), false, false, func() string {
			code := m.Money.move(key, args.From, args.To, big.NewInt(args.Amount), args.Currency, true, CodeBooked)
			if code == CodeBooked {
				m.Reservations[args.Reservation].Status = "confirmed"
			}
			return code
		})
	case Confirm:
		return m.change(args.Reservation, "held", CodeConfirmed, func(r *StockReservation) { r.Status = "confirmed" })
	case Cancel:
		return m.change(args.Reservation, "held confirmed waiting", CodeCancelled, func(r *StockReservation) {
			m.end(r,
				"cancelled", at)
		})
	case Extend:
		code := m.change(args.Reservation, "held waiting", CodeExtended, func(r *StockReservation) {
			if at.Before(args.ExpiresAt) {
				r.ExpiresAt = args.ExpiresAt
			}
		})
		if code == CodeExtended && !at.Before(args.ExpiresAt) {
			return CodeHoldExpired
		}
		return code
	}
	panic(args)
}

func (m *Stock) settle(key string, at time.Time, id string, args outbox.Args, expiresAt time.Time, wait, runsOut bool,
	done func() string) string {
	if r := m.Reservations[id]; r == nil {
		m.Begin(key, args, expiresAt)
	} else if r.Key != key {
		return outbox.CodeInvalidArgs
	}
	r := m.Reservations[id]
	code := m.fits(r)
	switch {
	case runsOut && !at.Before(r.ExpiresAt):
		code = CodeHoldExpired
	case code == "":
		r.Status = "held"
		if code = done(); code == CodeHeld || code == CodeBooked {
			return code
		}
	case wait && (code == CodeSoldOut || code == CodeOverlap):
		m.joined++
		r.Status, r.number = "waiting", m.joined
		return CodeWaiting
	}
	r.Status = "rejected"
	return code
}

func (m *Stock) change(id, from, done string, change func(*StockReservation)) string {
	r := m.Reservations[id]
	switch {
	case r == nil:
		return CodeReservationNotFound
	case strings.Contains(from, r.Status):
		change(r)
		return done
	case r.Status == "expired":
		return CodeHoldExpired
	}
	return CodeNotHeld
}

// fits says why the items of a reservation can't be taken together with those of all others.
func (m *Stock) fits(r *StockReservation) string {
	for _, it := range r.Items {
		if m.Resources[it.Resource] == nil {
			return CodeResourceNotFound
		}
	}
	for n := range r.Items {
		asked := r.Items[:n+1]
		last := asked[n]
		resource := m.Resources[last.Resource]
		if last.During != nil && resource.Capacity == 0 {
			return CodeSoldOut
		}
		taken := append(m.taken(nil), asked...)
		sum := new(big.Int)
		for i, it := range taken {
			if it.Resource != last.Resource {
				continue
			}
			if it.During != nil && last.During != nil && i < len(taken)-1 && it.During.Start.Before(last.During.End) &&
				last.During.Start.Before(it.During.End) {
				return CodeOverlap
			}
			if it.During == nil {
				add(sum, big.NewInt(quantityOf(it)))
			}
		}
		if last.During == nil && sum.Cmp(big.NewInt(resource.Capacity)) > 0 {
			return CodeSoldOut
		}
		if code := m.limits(resource.Group, r.Customer, asked); code != "" {
			return code
		}
	}
	return ""
}

func (m *Stock) limits(group, customer string, asked []Item) string {
	limit, limited := m.Limits[group]
	switch {
	case group == "" || !limited && customer == "":
		return ""
	case customer == "":
		return CodeCustomerLimit
	case !limited:
		limit = math.MaxInt64
	}
	if sum := m.Count(group, customer, asked); sum.Cmp(big.NewInt(limit)) <= 0 {
		return ""
	} else if !limited {
		return CodeOutOfRange
	}
	return CodeCustomerLimit
}

// Count is what a customer has of a group, with more.
func (m *Stock) Count(group, customer string, more []Item) *big.Int {
	sum := new(big.Int)
	for _, it := range append(m.taken(&customer), more...) {
		if r := m.Resources[it.Resource]; r != nil && r.Group == group {
			add(sum, big.NewInt(quantityOf(it)))
		}
	}
	return sum
}

// taken are the items that are held or confirmed, by one customer or all.
func (m *Stock) taken(by *string) (items []Item) {
	for _, r := range m.Reservations {
		if (r.Status == "held" || r.Status == "confirmed") && (by == nil || r.Customer == *by) {
			items = append(items, r.Items...)
		}
	}
	return items
}

func quantityOf(it Item) int64 { return max(1, it.Quantity) }

// Sum is what of a resource is counted in reservations of a status.
func (m *Stock) Sum(resource, status string) (sum int64) {
	for _, r := range m.Reservations {
		for _, it := range r.Items {
			if it.Resource == resource && it.During == nil && r.Status == status {
				sum += quantityOf(it)
			}
		}
	}
	return sum
}

// Line is who waits for a resource, in order.
func (m *Stock) Line(resource string) []string {
	return m.line(func(it Item) bool { return it.Resource == resource })
}

func (m *Stock) line(of func(Item) bool) (ids []string) {
	for id, r := range m.Reservations {
		if r.Status == "waiting" && slices.ContainsFunc(r.Items, of) {
			ids = append(ids, id)
		}
	}
	slices.SortFunc(ids, func(a, b string) int { return m.Reservations[a].number - m.Reservations[b].number })
	return ids
}

func (m *Stock) end(r *StockReservation, status string, at time.Time) {
	was := r.Status
	r.Status = status
	if was != "waiting" {
		m.Grant(at, r.Items)
	}
}

// Grant gives what has become free to those who wait for it and have not run out.
func (m *Stock) Grant(at time.Time, freed []Item) {
	for _, id := range m.line(func(it Item) bool {
		return slices.ContainsFunc(freed, func(f Item) bool { return f.Resource == it.Resource })
	}) {
		if r := m.Reservations[id]; at.Before(r.ExpiresAt) && m.fits(r) == "" {
			r.Status = "held"
			m.Granted = append(m.Granted, id)
		}
	}
}

// Advance ends what has run out, the oldest first.
func (m *Stock) Advance(to time.Time) {
	for {
		first := ""
		for id, r := range m.Reservations {
			if (r.Status == "held" || r.Status == "waiting") && !to.Before(r.ExpiresAt) &&
				(first == "" || r.ExpiresAt.Before(m.Reservations[first].ExpiresAt) ||
					r.ExpiresAt.Equal(m.Reservations[first].ExpiresAt) && id < first) {
				first = id
			}
		}
		if first == "" {
			return
		}
		m.RanOut = append(m.RanOut, first)
		m.end(m.Reservations[first], "expired", m.Reservations[first].ExpiresAt)
	}
}

// Define is lastseat.define_resource, which refuses less than what is taken. What is added goes to those who wait, at a
// time.
func (m *Stock) Define(d Define, at time.Time) (done bool) {
	r := m.Resources[d.Resource]
	if d.Capacity < m.Sum(d.Resource, "held")+m.Sum(d.Resource, "confirmed") {
		m.Advance(at)
		return false
	}
	grown := d.Capacity > r.Capacity
	r.Capacity = d.Capacity
	m.Advance(at)
	if grown {
		m.Grant(at, []Item{{Resource: d.Resource}})
	}
	return true
}

// StockHistories are steps over the resources of a [Stock].
func StockHistories(start time.Time, most int) *rapid.Generator[[]Step] {
	return rapid.Custom(func(t *rapid.T) []Step {
		h := stockHistory{start: start, reservations: []string{"r"}, about: pickAbout(t)}
		steps := make([]Step, oneOf(t, 5, 20, most, most))
		for i := range steps {
			h.after += time.Duration(oneOf(t, 0, 1, 1, 2)) * time.Second
			steps[i] = Step{Key: fmt.Sprint("k", i), After: h.after, Args: h.draw(t, i)}
		}
		return steps
	})
}

// pickAbout is what a history is about: few resources, so that many want the same.
func pickAbout(t *rapid.T) []string {
	return oneOf(t, []string{"seat", "stock"}, []string{"seat", "room", "stock"}, []string{"room", "hall"},
		[]string{"show1", "show2", "show3"}, []string{"show1", "seat", "room"},
		[]string{"huge", "free1", "free2"}, []string{"most1", "most2", "seat"}, []string{"seat", "stock", "room", "show1",
			"show2"})
}

type stockHistory struct {
	start        time.Time
	after        time.Duration
	reservations []string // that were asked for
	about        []string
}

func (h *stockHistory) at(seconds int) time.Time {
	return h.start.Add(h.after + time.Duration(seconds)*time.Second)
}

func (h *stockHistory) draw(t *rapid.T, i int) outbox.Args {
	reservation := h.reservations[max(0, len(h.reservations)-1-oneOf(t, 0, 0, 1, 1, 2, 3, 4, 6, 8, 12))]
	fresh := reservation
	if oneOf(t, 0, 0, 0, 0, 0, 0, 0, 1) == 0 {
		fresh = fmt.Sprint("r", i)
	}
	customer := oneOf(t, "ann", "ann", "bob", "")
	kind := oneOf(t, KindHold, KindHold, KindHold, KindHold, KindHold, KindHold, KindConfirm, KindConfirm, KindCancel,
		KindCancel, KindCancel, KindExtend, KindBook, "sweep", "define", KindTransfer)
	switch {
	case kind == KindHold || i < 3:
		hold := Hold{Reservation: fresh, Customer: customer, Items: h.items(t), Wait: oneOf(t, true, false)}
		hold.Wait = hold.Wait && neverTogether(hold.Items) == nil // else it is refused when it is asked for
		if oneOf(t, true, true, false) {
			hold.ExpiresAt = h.at(oneOf(t, -1, 0, 1, 2, 3, 5, 5, 10, 20, 30, 40000))
		}
		h.reservations = append(h.reservations, fresh)
		return hold
	case kind == KindConfirm:
		return Confirm{Reservation: reservation}
	case kind == KindCancel:
		return Cancel{Reservation: reservation}
	case kind == KindExtend:
		return Extend{Reservation: reservation, ExpiresAt: h.at(oneOf(t, -1, 0, 1, 2, 5, 20, 60, 50000))}
	case kind == KindBook:
		h.reservations = append(h.reservations, fresh)
		return Book{Reservation: fresh, Customer: customer, Items: h.items(t), From: oneOf(t, "top", "ada", "none"),
			To: "ben", Amount: oneOf(t, 1, int64(7)), Currency: oneOf(t, "EUR", "EUR", "EUR", "USD")}
	case kind == "define":
		return Define{Resource: oneOf(t, h.about...), Capacity: oneOf(t, 0, 1, 1, 2, 2, 3, 4, 6, 7, int64(math.MaxInt64))}
	case kind == KindTransfer:
		return Transfer{From: "top", To: "ada", Amount: 5, Currency: "EUR"}
	}
	return nil
}

func (h *stockHistory) items(t *rapid.T) []Item {
	items := make([]Item, oneOf(t, 1, 1, 1, 2, 2, 3))
	for i := range items {
		it := &items[i]
		it.Resource = oneOf(t, h.about...)
		if oneOf(t, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1) == 1 {
			it.Resource = "none"
		}
		switch {
		case it.Resource == "hall" || it.Resource == "room" && oneOf(t, true, true, true, true, false):
			from := h.start.Add(time.Duration(oneOf(t, 0, 10, 20, 30, 40)) * time.Minute)
			it.During = &TimeRange{from.UTC(), from.Add(time.Duration(oneOf(t, 10, 10, 20, 30)) * time.Minute).UTC()}
		case slices.Contains([]string{"huge", "free1", "free2", "most1", "most2"}, it.Resource):
			it.Quantity = oneOf(t, 1, 2, math.MaxInt64, math.MaxInt64-1, math.MaxInt64/2, int64(math.MaxInt64/2+1))
		default:
			it.Quantity = oneOf(t, 0, 0, 1, 1, 2, 3, int64(5))
		}
	}
	return items
}

// Histories in memory, held against the model after every step. Now and then what is there is written and read again,
// as between two batches.
func TestReservationsAgainstModel(t *testing.T) {
	t.Parallel()
	histories := StockHistories(tableTime, 60)
	codes := make(map[string]int)
	property := func(t *rapid.T) {
		stockAgainstModel(t, histories.Draw(t, "history"), func() bool { return rapid.Bool().Draw(t, "a choice") }, codes)
	}
	for range testdb.Soak(12, 2500) {
		rapid.Check(t, property) // a hundred
	}
	for _, code := range []string{
		CodeHeld, CodeWaiting, CodeConfirmed, CodeCancelled, CodeExtended, CodeBooked, CodeSoldOut, CodeOverlap,
		CodeResourceNotFound, CodeReservationNotFound, CodeNotHeld, CodeHoldExpired, CodeCustomerLimit,
		CodeOutOfRange, CodeInsufficientFunds, CodeAccountNotFound, CodeCurrencyMismatch, outbox.CodeInvalidArgs, "granted",
		"ran out", "defined", "granted by growth",
	} {
		if codes[code] == 0 && !t.Failed() {
			t.Errorf("no history came to %s: %v", code, codes)
		}
	}
}

// newStockState has read all that a history can touch.
func newStockState(m *Stock) *state {
	s := newState(tableTime)
	for id, a := range m.Money.Accounts {
		s.money.ledger.accounts[id] = &account{id: id, currency: a.Currency}
		if a.Limit != nil {
			s.money.ledger.accounts[id].overdraft = new(a.Limit.Int64())
		}
	}
	for id, r := range m.Resources {
		s.places.resources[id] = &resource{id: id, capacity: r.Capacity, group: r.Group}
		if limit, limited := m.Limits[r.Group]; limited {
			s.places.resources[id].perCustomer = &limit
		}
		for _, customer := range StockCustomers {
			s.places.counts[customerGroup{r.Group, customer}] = &count{}
		}
		s.places.line.read[id] = true
	}
	return s
}

func stockAgainstModel(t failer, steps []Step, choice func() bool, codes map[string]int) {
	m := NewStock()
	s := newStockState(m)
	for _, step := range steps {
		s.money.ledger.now = tableTime.Add(step.After)
		granted := len(m.Granted)
		switch args := step.Args.(type) {
		case nil:
			s.advance(s.money.ledger.now)
			m.Advance(s.money.ledger.now)
		case Define:
			r := s.places.resources[args.Resource]
			if grew := args.Capacity > r.capacity; m.Define(args, s.money.ledger.now) {
				r.capacity, r.marked = args.Capacity, grew && r.waiting > 0
				codes["defined"]++
			}
			s.advance(s.money.ledger.now)
			s.places.grantMarked()
			codes["granted by growth"] += len(m.Granted) - granted
		default:
			s.beginStock(m, step, choice)
			s.advance(s.money.ledger.now)
			code, want := s.do(t, step), m.Do(step.Key, s.money.ledger.now, step.Args)
			if code != want {
				t.Fatalf("%s %+v: %s, the model says %s", step.Key, step.Args, code, want)
			}
			codes[code]++
		}
		m.compareStock(t, s)
		s.proveStock(t)
		codes["granted"] += len(m.Granted)
		codes["ran out"] += len(m.RanOut)
		if choice() {
			s.rereadStock(m)
		}
	}
}

// beginStock is what lastseat.hold and book do at once, if choice says that the request came that way.
func (s *state) beginStock(m *Stock, step Step, choice func() bool) {
	var id, customer string
	expiresAt := s.money.ledger.now.Add(15 * time.Minute)
	switch args := step.Args.(type) {
	case Hold:
		id, customer = args.Reservation, args.Customer
		if !args.ExpiresAt.IsZero() {
			expiresAt = args.ExpiresAt
		}
	case Book:
		id, customer = args.Reservation, args.Customer
	default:
		return
	}
	if s.places.reservations[id] != nil || !choice() {
		return
	}
	m.Begin(step.Key, step.Args, expiresAt)
	s.places.reservations[id] = &reservation{id: id, key: step.Key, customer: customer, status: reservationPending,
		expiresAt: expiresAt}
}

// rereadStock is what writing and reading again leaves.
func (s *state) rereadStock(m *Stock) {
	m.Granted, m.RanOut, s.places.line.granted, s.places.expired, s.money.ledger.transfers, s.money.ledger.entries = nil,
		nil, nil, nil, nil, nil
	s.places.expiring, s.places.occupied, s.places.line.waiting, s.places.demands = nil, make(map[string][]*item),
		make(map[string][]*reservation), nil
	clear(s.places.releasing)
	var waiting []*reservation
	for id, r := range s.places.reservations {
		if r == nil {
			delete(s.places.reservations, id)
			continue
		}
		r.steps, r.created, r.newItems, r.left = nil, false, false, false
		if r.status == reservationWaiting {
			waiting = append(waiting, r)
		}
		if r.status == reservationWaiting || r.status == reservationHeld {
			s.places.watch(r)
		}
		for _, it := range r.items {
			it.changed = false
			if it.occupies {
				s.places.occupied[it.resource] = append(s.places.occupied[it.resource], it)
			}
		}
	}
	slices.SortFunc(waiting, func(a, b *reservation) int { return int(a.place - b.place) })
	for i, r := range waiting {
		r.place, r.joined = int64(i+1), false
		for _, id := range distinct(r.items) {
			s.places.line.waiting[id] = append(s.places.line.waiting[id], r)
		}
	}
	for id, r := range s.places.resources {
		if r == nil {
			delete(s.places.resources, id)
			continue
		}
		r.changed = false
	}
}

func (m *Stock) compareStock(t failer, s *state) {
	for id, r := range s.places.reservations {
		want := m.Reservations[id]
		if (r == nil) != (want == nil) || r != nil && (r.status != want.Status || !r.expiresAt.Equal(want.ExpiresAt) ||
			r.key != want.Key || r.customer != want.Customer) {
			t.Fatalf("reservation %s: %+v, the model's %+v", id, r, want)
		}
	}
	for id, want := range m.Resources {
		r := s.places.resources[id]
		line := []string(nil)
		for _, waiting := range s.places.line.waiting[id] {
			line = append(line, waiting.id)
		}
		if r.held != m.Sum(id, "held") || r.confirmed != m.Sum(id, "confirmed") || r.waiting != int64(len(line)) ||
			!slices.Equal(line, m.Line(id)) || r.capacity != want.Capacity || r.marked {
			t.Fatalf("resource %+v with line %v; the model has %d held, %d confirmed, line %v", *r, line, m.Sum(id, "held"),
				m.Sum(id, "confirmed"), m.Line(id))
		}
	}
	for key, c := range s.places.counts {
		if key.group != "" && m.Count(key.group, key.customer, nil).Cmp(big.NewInt(c.quantity)) != 0 {
			t.Fatalf("%+v is counted with %d, the model has %v", key, c.quantity, m.Count(key.group, key.customer, nil))
		}
	}
	if !slices.Equal(s.places.line.granted, m.Granted) || !slices.Equal(s.places.expired, m.RanOut) {
		t.Fatalf("granted %v, ran out %v; the model: %v, %v", s.places.line.granted, s.places.expired, m.Granted, m.RanOut)
	}
	for id, a := range m.Money.Accounts {
		if a.Balance.Cmp(big.NewInt(s.money.ledger.accounts[id].balance)) != 0 {
			t.Fatalf("%s has %d, the model %v", id, s.money.ledger.accounts[id].balance, a.Balance)
		}
	}
}

// stockMachine are the status changes that the table allows.
var stockMachine = map[string]bool{
	"pending held": true, "pending rejected": true, "pending waiting": true, "held confirmed": true,
	"held cancelled": true, "held expired": true,
	"confirmed cancelled": true, "waiting held": true, "waiting cancelled": true, "waiting expired": true,
	"held held": true, "waiting waiting": true,
}

// proveStock is worker audit, in memory, and what the tables would say to each step.
func (s *state) proveStock(t failer) {
	for id, r := range s.places.resources {
		if r != nil && (r.held < 0 || r.confirmed < 0 || r.waiting < 0 || r.held > r.capacity-r.confirmed || r.version < 0 ||
			r.changed && r.version == 0) {
			t.Fatalf("resource %s: %+v", id, *r)
		}
	}
	taken := make(map[string][]*item)
	for id, r := range s.places.reservations {
		if r == nil {
			continue
		}
		last := reservationPending
		for i, step := range r.steps {
			if known := i > 0 || r.created; known && !stockMachine[last+" "+step.status] {
				t.Fatalf("reservation %s goes from %s to %s", id, last, step.status)
			}
			last = step.status
		}
		if len(r.steps) > 0 && (last != r.status || !r.steps[len(r.steps)-1].expiresAt.Equal(r.expiresAt)) || r.joined &&
			r.status != reservationWaiting || r.joined && r.left {
			t.Fatalf("reservation %+v", *r)
		}
		live := r.status == reservationHeld || r.status == reservationConfirmed
		if (live || r.status == reservationWaiting) != (len(r.items) > 0 && r.status != reservationCancelled &&
			r.status != reservationExpired && r.status != reservationRejected) {
			t.Fatalf("reservation %+v has %d items", *r, len(r.items))
		}
		for i, it := range r.items {
			if it.position != i+1 || it.quantity < 1 || it.occupies != (live && it.during != nil) ||
				r.status != reservationRejected && it.reservation != r {
				t.Fatalf("item %+v of %+v", *it, *r)
			}
			if it.occupies {
				taken[it.resource] = append(taken[it.resource], it)
			}
		}
	}
	for id, items := range taken {
		slices.SortFunc(items, func(a, b *item) int { return a.during.Start.Compare(b.during.Start) })
		for i := 1; i < len(items); i++ {
			if items[i].during.Start.Before(items[i-1].during.End) {
				t.Fatalf("%s is taken twice: %v, %v", id, items[i-1].during, items[i].during)
			}
		}
	}
}

// What histories are made of survives JSON, as it does on its way through SQL.
func TestStockHistoriesAreRequests(t *testing.T) {
	t.Parallel()
	kinds := make(map[string]int)
	for seed := range 20 {
		for _, step := range StockHistories(tableTime, 60).Example(seed) {
			if step.Args == nil {
				continue
			}
			kinds[step.Args.Kind()]++
			if _, isDefine := step.Args.(Define); isDefine {
				continue
			}
			encoded, err := json.Marshal(step.Args)
			if err != nil {
				t.Fatal(err)
			}
			if _, err := decoders[step.Args.Kind()](encoded); err != nil {
				t.Errorf("%s: %v", encoded, err)
			}
		}
	}
	if len(kinds) != 7 {
		t.Errorf("kinds: %v", slices.Sorted(maps.Keys(kinds)))
	}
}
