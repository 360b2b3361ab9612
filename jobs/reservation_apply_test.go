package jobs

import (
	"cmp"
	"encoding/json"
	"fmt"
	"math"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/lastseat/lastseat/outbox"
)

// The reservation of the table below: 2 of 3 of stock, and the room from 10 to 11, for ann. none stands for one that is
// not there; ran out, for one whose time is over at the time of the job. While it waits, others have 3 of stock.
var reservationStates = []string{"none", "pending", "pending, over", "held", "held, over", "waiting", "waiting, over",
	"confirmed", "cancelled", "rejected", "expired"}

func roomAt(from, to int) *TimeRange {
	day := time.Date(2026, 12, 1, 0, 0, 0, 0, time.UTC)
	return &TimeRange{day.Add(time.Duration(from) * time.Hour), day.Add(time.Duration(to) * time.Hour)}
}

// reservationOperations: key is the one that the reservation was asked for with.
var reservationOperations = map[string]struct {
	key, kind string
	args      operation
}{
	"hold":             {"key", KindHold, &Hold{Reservation: "r", Customer: "ann", Items: tableItems(2)}},
	"hold, full":       {"key", KindHold, &Hold{Reservation: "r", Customer: "ann", Items: tableItems(4)}},
	"hold, full, wait": {"key", KindHold, &Hold{Reservation: "r", Customer: "ann", Items: tableItems(4), Wait: true}},
	"hold, wait":       {"key", KindHold, &Hold{Reservation: "r", Customer: "ann", Items: tableItems(2), Wait: true}},
	"hold other":       {"k", KindHold, &Hold{Reservation: "r", Items: tableItems(1)}},
	"hold other, wait": {"k", KindHold, &Hold{Reservation: "r", Items: tableItems(1), Wait: true}},
	"confirm":          {"k", KindConfirm, &Confirm{Reservation: "r"}},
	"cancel":           {"k", KindCancel, &Cancel{Reservation: "r"}},
	"extend":           {"k", KindExtend, &Extend{Reservation: "r", ExpiresAt: tableTime.Add(2 * time.Hour)}},
	"extend, past":     {"k", KindExtend, &Extend{Reservation: "r", ExpiresAt: tableTime}},
	"book": {"key", KindBook, &booking{Hold{Reservation: "r", Customer: "ann", Items: tableItems(2)},
		Transfer{From: "ada", To: "shop", Amount: 100, Currency: "EUR"}}},
	"book, full": {"key", KindBook, &booking{Hold{Reservation: "r", Customer: "ann", Items: tableItems(4)},
		Transfer{From: "ada", To: "shop", Amount: 100, Currency: "EUR"}}},
	"book, poor": {"key", KindBook, &booking{Hold{Reservation: "r", Customer: "ann", Items: tableItems(2)},
		Transfer{From: "ada", To: "shop", Amount: 1001, Currency: "EUR"}}},
	"book other": {"k", KindBook, &booking{Hold{Reservation: "r", Items: tableItems(2)}, Transfer{From: "ada", To: "shop",
		Amount: 100, Currency: "EUR"}}},
}

func tableItems(quantity int64) []Item {
	return []Item{{Resource: "stock", Quantity: quantity}, {Resource: "room", During: roomAt(10, 11)}}
}

func reservationState(name string) *state {
	s := newState(tableTime.Add(time.Minute))
	s.money.ledger.accounts["ada"], s.money.ledger.accounts["shop"] = &account{id: "ada", currency: "EUR", balance: 1000,
		overdraft: new(int64(0))}, &account{id: "shop", currency: "EUR"}
	stock := &resource{id: "stock", capacity: 3, group: "show", perCustomer: new(int64(5))}
	s.places.resources["stock"], s.places.resources["room"] = stock, &resource{id: "room", capacity: 1}
	ann := &count{}
	s.places.counts[customerGroup{"show", "ann"}] = ann
	status, over := strings.CutSuffix(name, ", over")
	if status == "none" {
		return s
	}
	r := &reservation{id: "r", key: "key", customer: "ann", status: status, expiresAt: tableTime.Add(time.Nanosecond)}
	if over || status == reservationExpired || status == reservationRejected {
		r.expiresAt = tableTime.In(time.FixedZone("of the worker", 3600))
	}
	s.places.reservations["r"] = r
	if slices.Contains([]string{reservationHeld, reservationConfirmed, reservationWaiting}, status) {
		r.items = []*item{{reservation: r, position: 1, resource: "stock", quantity: 2}, {reservation: r, position: 2,
			resource: "room", quantity: 1, during: roomAt(10, 11), occupies: status != reservationWaiting}}
	}
	switch status {
	case reservationHeld:
		stock.held, ann.quantity = 2, 2
		s.places.occupied["room"] = r.items[1:]
	case reservationConfirmed:
		stock.confirmed, ann.quantity = 2, 2
		s.places.occupied["room"] = r.items[1:]
	case reservationWaiting:
		stock.held, stock.waiting, s.places.resources["room"].waiting = 3, 1, 1
		r.place = 7
		s.places.line.waiting["stock"], s.places.line.waiting["room"] = []*reservation{r}, []*reservation{r}
	}
	if status == reservationHeld || status == reservationWaiting {
		s.places.watch(r)
	}
	return s
}

// stockRow says what a step has made of the reservation and what it needs.
func (s *state) stockRow() string {
	text := "none"
	if r := s.places.reservations["r"]; r != nil {
		text = r.status
		if r.joined || r.left {
			text += fmt.Sprintf(" joined %t left %t", r.joined, r.left)
		}
		for _, step := range r.steps {
			text += fmt.Sprintf(" >%s", step.status)
		}
	}
	for _, id := range []string{"stock", "room"} {
		r := s.places.resources[id]
		text += fmt.Sprintf(", %d/%d/%d v%d", r.held, r.confirmed, r.waiting, r.version)
	}
	occupied := 0
	for _, it := range s.places.occupied["room"] {
		if it.occupies {
			occupied++
		}
	}
	return text + fmt.Sprintf(" occupied %d, line %d, ann %d, ada %d", occupied, len(s.places.line.waiting["stock"]),
		s.places.counts[customerGroup{"show", "ann"}].quantity, s.money.ledger.accounts["ada"].balance)
}

// Every state, every operation. After: the status, with the steps that the table is told; held/confirmed/waiting and
// version of stock and room, what is taken of the room, and who waits; what ann is counted with, and ada's money.
// Empty: all as before.
func TestReservationStateMachine(t *testing.T) {
	t.Parallel()
	seen := make(map[string]bool)
	check := func(t *testing.T, c paymentCase, operation string) {
		s, o := reservationState(c.state), reservationOperations[operation]
		before := s.stockRow()
		s.advance(tableTime)
		result, err := o.args.apply(s, outbox.Job{Key: o.key, Kind: o.kind, At: tableTime})
		detail, unfit := json.Marshal(result.Detail)
		outcome := fmt.Sprintf("%s %s %s", result.Status, result.Code, detail)
		if err = cmp.Or(err, unfit); err != nil {
			outcome = "error: " + err.Error()
		}
		if outcome != c.outcome {
			t.Errorf("%s, want %s", outcome, c.outcome)
		}
		if want := cmp.Or(c.after, before); s.stockRow() != want {
			t.Errorf("%s, want %s", s.stockRow(), want)
		}
		for id, r := range s.places.resources {
			if r.changed != (r.version > 0) {
				t.Errorf("resource %s: changed is %t at version %d", id, r.changed, r.version)
			}
		}
		if ended := strings.HasPrefix(c.after, "expired "); ended != slices.Equal(s.places.expired, []string{"r"}) ||
			len(s.places.line.granted) != 0 {
			t.Errorf("ran out: %v, granted: %v", s.places.expired, s.places.line.granted)
		}
		if r := s.places.reservations["r"]; r != nil && (r.created != (c.state == "none") ||
			r.newItems != (result.Status == outbox.Applied && slices.Contains([]string{CodeHeld, CodeWaiting, CodeBooked},
				result.Code))) {
			t.Errorf("%+v", *r)
		}
		if moved := result.Code == CodeBooked; moved != (len(s.money.ledger.transfers) == 1) || moved &&
			(s.money.ledger.transfers[0].key != o.key || s.money.ledger.transfers[0].payment != "") {
			t.Errorf("transfers: %+v", s.money.ledger.transfers)
		}
		s.proveStock(t)
	}
	for _, c := range reservationTable {
		for operation := range strings.SplitSeq(c.operations, "; ") {
			seen[c.state+"/"+operation] = true
			t.Run(c.state+"/"+operation, func(t *testing.T) { check(t, c, operation) })
		}
	}
	for _, state := range reservationStates {
		for operation := range reservationOperations {
			if !seen[state+"/"+operation] {
				t.Errorf("no case %s/%s", state, operation)
			}
		}
	}
}

const (
	asOther       = `rejected invalid_args {"error":"reservation \"r\" was asked for with the key \"key\""}`
	heldUntilSoon = `applied held {"expires_at":"2026-11-23T12:00:00.000000001Z"}`
	soldOut       = `{"asked":4,"available":3,"resource":"stock"}`
	overAtNoon    = `rejected hold_expired {"expires_at":"2026-11-23T12:00:00Z","reservation":"r"}`
	poor          = `rejected insufficient_funds {"account":"ada","asked":1001,"available":1000}`
	allOthers     = "hold other; hold other, wait; book other"
	allOwn        = "hold; hold, full; hold, full, wait; hold, wait; book; book, full; book, poor"
	unsettled     = `error: reservation "r" is %s while its request is pending: run worker audit`
)

// Operations that end alike share a line.
var reservationTable = []paymentCase{
	{"none", "hold; hold, wait", `applied held {"expires_at":"2026-11-23T12:15:00Z"}`,
		"held >held, 2/0/0 v1, 0/0/0 v1 occupied 1, line 0, ann 2, ada 1000"},
	{"none", "hold other; hold other, wait",
		`rejected customer_limit {"asked":1,"customer":"","group":"show","limit":5,"taken":0}`,
		"rejected >rejected, 0/0/0 v0, 0/0/0 v0 occupied 0, line 0, ann 0, ada 1000"},
	{"none", "book other", `rejected customer_limit {"asked":2,"customer":"","group":"show","limit":5,"taken":0}`,
		"rejected >rejected, 0/0/0 v0, 0/0/0 v0 occupied 0, line 0, ann 0, ada 1000"},
	{"none", "hold, full; book, full", `rejected sold_out ` + soldOut,
		"rejected >rejected, 0/0/0 v0, 0/0/0 v0 occupied 0, line 0, ann 0, ada 1000"},
	{"none", "hold, full, wait", `applied waiting ` + soldOut,
		"waiting joined true left false >waiting, 0/0/1 v1, 0/0/1 v1 occupied 0, line 1, ann 0, ada 1000"},
	{"none", "book", `applied booked null`,
		"confirmed >held >confirmed, 0/2/0 v2, 0/0/0 v1 occupied 1, line 0, ann 2, ada 900"},
	{"none", "book, poor", poor, "rejected >rejected, 0/0/0 v0, 0/0/0 v0 occupied 0, line 0, ann 0, ada 1000"},
	{"none", "confirm; cancel; extend; extend, past", `rejected reservation_not_found {"reservation":"r"}`, ""},
	{"pending", "hold; hold, wait", heldUntilSoon, "held >held, 2/0/0 v1, 0/0/0 v1 occupied 1, line 0, ann 2, ada 1000"},
	{"pending", "hold, full; book, full", `rejected sold_out ` + soldOut,
		"rejected >rejected, 0/0/0 v0, 0/0/0 v0 occupied 0, line 0, ann 0, ada 1000"},
	{"pending", "hold, full, wait", `applied waiting ` + soldOut,
		"waiting joined true left false >waiting, 0/0/1 v1, 0/0/1 v1 occupied 0, line 1, ann 0, ada 1000"},
	{"pending", "book", `applied booked null`,
		"confirmed >held >confirmed, 0/2/0 v2, 0/0/0 v1 occupied 1, line 0, ann 2, ada 900"},
	{"pending", "book, poor", poor, "rejected >rejected, 0/0/0 v0, 0/0/0 v0 occupied 0, line 0, ann 0, ada 1000"},
	{"pending", "confirm; cancel; extend; extend, past", `rejected not_held {"reservation":"r","status":"pending"}`, ""},
	{"pending, over", "hold; hold, full; hold, full, wait; hold, wait", overAtNoon,
		"rejected >rejected, 0/0/0 v0, 0/0/0 v0 occupied 0, line 0, ann 0, ada 1000"},
	{"pending, over", "book", `applied booked null`,
		"confirmed >held >confirmed, 0/2/0 v2, 0/0/0 v1 occupied 1, line 0, ann 2, ada 900"},
	{"pending, over", "book, full", `rejected sold_out ` + soldOut,
		"rejected >rejected, 0/0/0 v0, 0/0/0 v0 occupied 0, line 0, ann 0, ada 1000"},
	{"pending, over", "book, poor", poor, "rejected >rejected, 0/0/0 v0, 0/0/0 v0 occupied 0, line 0, ann 0, ada 1000"},
	{"pending, over", "confirm; cancel; extend; extend, past", `rejected not_held {"reservation":"r","status":"pending"}`,
		""},
	{"held", allOwn, fmt.Sprintf(unsettled, "held"), ""},
	{"held", "confirm", `applied confirmed null`,
		"confirmed >confirmed, 0/2/0 v1, 0/0/0 v0 occupied 1, line 0, ann 2, ada 1000"},
	{"held", "cancel", `applied cancelled null`,
		"cancelled >cancelled, 0/0/0 v1, 0/0/0 v1 occupied 0, line 0, ann 0, ada 1000"},
	{"held", "extend", `applied extended {"expires_at":"2026-11-23T14:00:00Z"}`,
		"held >held, 2/0/0 v0, 0/0/0 v0 occupied 1, line 0, ann 2, ada 1000"},
	{"held", "extend, past",
		`rejected hold_expired {"asked":"2026-11-23T12:00:00Z","expires_at":"2026-11-23T12:00:00.000000001Z","reservation":"r"}`, ""},
	{"held, over", allOwn, fmt.Sprintf(unsettled, "expired"),
		"expired >expired, 0/0/0 v1, 0/0/0 v1 occupied 0, line 0, ann 0, ada 1000"},
	{"held, over", "confirm; cancel; extend; extend, past", overAtNoon,
		"expired >expired, 0/0/0 v1, 0/0/0 v1 occupied 0, line 0, ann 0, ada 1000"},
	{"waiting", allOwn, fmt.Sprintf(unsettled, "waiting"), ""},
	{"waiting", "confirm", `rejected not_held {"reservation":"r","status":"waiting"}`, ""},
	{"waiting", "cancel", `applied cancelled null`,
		"cancelled joined false left true >cancelled, 3/0/0 v1, 0/0/0 v1 occupied 0, line 0, ann 0, ada 1000"},
	{"waiting", "extend", `applied extended {"expires_at":"2026-11-23T14:00:00Z"}`,
		"waiting >waiting, 3/0/1 v0, 0/0/1 v0 occupied 0, line 1, ann 0, ada 1000"},
	{"waiting", "extend, past",
		`rejected hold_expired {"asked":"2026-11-23T12:00:00Z","expires_at":"2026-11-23T12:00:00.000000001Z","reservation":"r"}`, ""},
	{"waiting, over", allOwn, fmt.Sprintf(unsettled, "expired"),
		"expired joined false left true >expired, 3/0/0 v1, 0/0/0 v1 occupied 0, line 0, ann 0, ada 1000"},
	{"waiting, over", "confirm; cancel; extend; extend, past", overAtNoon,
		"expired joined false left true >expired, 3/0/0 v1, 0/0/0 v1 occupied 0, line 0, ann 0, ada 1000"},
	{"confirmed", allOwn, fmt.Sprintf(unsettled, "confirmed"), ""},
	{"confirmed", "confirm; extend; extend, past", `rejected not_held {"reservation":"r","status":"confirmed"}`, ""},
	{"confirmed", "cancel", `applied cancelled null`,
		"cancelled >cancelled, 0/0/0 v1, 0/0/0 v1 occupied 0, line 0, ann 0, ada 1000"},
	{"cancelled", allOwn, fmt.Sprintf(unsettled, "cancelled"), ""},
	{"cancelled", "confirm; cancel; extend; extend, past", `rejected not_held {"reservation":"r","status":"cancelled"}`,
		""},
	{"rejected", allOwn, fmt.Sprintf(unsettled, "rejected"), ""},
	{"rejected", "confirm; cancel; extend; extend, past", `rejected not_held {"reservation":"r","status":"rejected"}`, ""},
	{"expired", allOwn, fmt.Sprintf(unsettled, "expired"), ""},
	{"expired", "confirm; cancel; extend; extend, past", overAtNoon, ""},
}

func init() {
	for _, state := range reservationStates[1:] {
		c := paymentCase{state, allOthers, asOther, ""}
		for _, ended := range reservationTable { // by the time that the job is settled
			if ended.state == state && strings.HasPrefix(ended.after, "expired ") {
				c.after = ended.after
			}
		}
		reservationTable = append(reservationTable, c)
	}
}

// Why items can't be taken together, and the figures.
func TestRefuseItems(t *testing.T) {
	t.Parallel()
	const most = math.MaxInt64
	for name, c := range map[string]struct {
		items    []Item
		customer string
		want     string
	}{
		"one": {[]Item{{Resource: "one"}}, "", `null`},
		"two of one": {[]Item{{Resource: "one", Quantity: 2}}, "",
			`sold_out {"asked":2,"available":1,"resource":"one"}`},
		"one twice": {[]Item{{Resource: "one"}, {Resource: "one"}}, "",
			`sold_out {"asked":2,"available":1,"resource":"one"}`},
		"the most": {[]Item{{Resource: "huge", Quantity: most}}, "", `null`},
		"the most, and one": {[]Item{{Resource: "huge", Quantity: most}, {Resource: "huge"}}, "",
			`sold_out {"asked":9223372036854775807,"available":9223372036854775807,"resource":"huge"}`},
		"of more than there is room for": {[]Item{{Resource: "over"}}, "",
			`sold_out {"asked":1,"available":0,"resource":"over"}`},
		"nothing there, behind sold out": {[]Item{{Resource: "one", Quantity: 2}, {Resource: "none"}}, "",
			`resource_not_found {"resource":"none"}`},
		"a range beside another": {[]Item{{Resource: "room", During: roomAt(11, 12)},
			{Resource: "room", During: roomAt(8, 9)}}, "", `null`},
		"a range over another": {[]Item{{Resource: "room", During: roomAt(10, 12)}}, "",
			`overlap {"during":"[2026-12-01T10:00:00Z,2026-12-01T12:00:00Z)","resource":"room"}`},
		"a range within another": {[]Item{{Resource: "room", During: &TimeRange{roomAt(10,
			11).Start.Add(time.Minute), roomAt(10, 11).End.Add(-time.Minute)}}}, "",
			`overlap {"during":"[2026-12-01T10:01:00Z,2026-12-01T10:59:00Z)","resource":"room"}`},
		"a range that was given back": {[]Item{{Resource: "room", During: roomAt(14, 15)}}, "", `null`},
		"two ranges of one request": {[]Item{{Resource: "room", During: roomAt(20, 22)},
			{Resource: "room", During: roomAt(21, 23)}}, "",
			`overlap {"during":"[2026-12-01T21:00:00Z,2026-12-01T23:00:00Z)","resource":"room"}`},
		"a range is not counted": {[]Item{{Resource: "one"}, {Resource: "one", During: roomAt(1, 2)}}, "", `null`},
		"at the limit":           {[]Item{{Resource: "show", Quantity: 3}}, "ann", `null`},
		"beyond the limit": {[]Item{{Resource: "show", Quantity: 4}}, "ann",
			`customer_limit {"asked":4,"customer":"ann","group":"show","limit":5,"taken":2}`},
		"beyond it together": {[]Item{{Resource: "show", Quantity: 3}, {Resource: "show too"}}, "ann",
			`customer_limit {"asked":4,"customer":"ann","group":"show","limit":5,"taken":2}`},
		"a range counts for the limit": {[]Item{{Resource: "show", Quantity: 3}, {Resource: "show too", During: roomAt(1,
			2)}}, "ann", `customer_limit {"asked":4,"customer":"ann","group":"show","limit":5,"taken":2}`},
		"another customer": {[]Item{{Resource: "show", Quantity: 5}}, "bob", `null`},
		"nobody": {[]Item{{Resource: "show"}}, "",
			`customer_limit {"asked":1,"customer":"","group":"show","limit":5,"taken":0}`},
		"a limit that was lowered": {[]Item{{Resource: "low"}}, "ann",
			`customer_limit {"asked":1,"customer":"ann","group":"low","limit":1,"taken":7}`},
		"the largest limit": {[]Item{{Resource: "large", Quantity: most - 1}, {Resource: "large too"}}, "ann",
			`null`},
		"beyond the largest limit": {[]Item{{Resource: "large", Quantity: most - 1}, {Resource: "large too",
			Quantity: 2}}, "ann",
			`customer_limit {"asked":9223372036854775807,"customer":"ann","group":"large","limit":9223372036854775807,"taken":0}`},
		"no limit": {[]Item{{Resource: "free", Quantity: most - 7}}, "ann", `null`},
		"no limit but that of the figure": {[]Item{{Resource: "free", Quantity: most - 7}, {Resource: "free too"}}, "ann",
			`out_of_range {"asked":9223372036854775801,"customer":"ann","group":"free","limit":9223372036854775807,"taken":7}`},
		"no limit, nobody": {[]Item{{Resource: "free", Quantity: most}, {Resource: "free too", Quantity: most}}, "", `null`},
	} {
		t.Run(name, func(t *testing.T) {
			s := newState(tableTime)
			for id, r := range map[string]resource{
				"one": {capacity: 1}, "huge": {capacity: most}, "over": {capacity: 3, held: 2, confirmed: 2},
				"room": {capacity: 1}, "show": {capacity: 9, group: "show", perCustomer: new(int64(5))},
				"show too": {capacity: 9, group: "show", perCustomer: new(int64(5))}, "low": {capacity: 9, group: "low",
					perCustomer: new(int64(1))}, "large": {capacity: most, group: "large", perCustomer: new(int64(most))},
				"large too": {capacity: most, group: "large", perCustomer: new(int64(most))}, "free": {capacity: most,
					group: "free"}, "free too": {capacity: most, group: "free"},
			} {
				r.id = id
				s.places.resources[id] = &r
			}
			s.places.counts[customerGroup{"show", "ann"}], s.places.counts[customerGroup{"low",
				"ann"}], s.places.counts[customerGroup{"free", "ann"}] = &count{quantity: 2}, &count{quantity: 7},
				&count{quantity: 7}
			s.places.occupied["room"] = []*item{{resource: "room", during: roomAt(10, 11), occupies: true},
				{resource: "room", during: roomAt(14, 15)}}
			var items []*item
			for _, asked := range c.items {
				items = append(items, &item{resource: asked.Resource, quantity: max(1, asked.Quantity), during: asked.During})
			}
			got := "null"
			if refused := s.places.refuseItems(items, c.customer); refused != nil {
				detail, _ := json.Marshal(refused.Detail)
				got = refused.Code + " " + string(detail)
			}
			if got != c.want {
				t.Errorf("%s, want %s", got, c.want)
			}
		})
	}
}

// Rows of a reservation that contradict one another are an error, and nothing is half done; what runs out leaves them
// alone, and goes on with the others.
func TestReservationContradictionIsAnError(t *testing.T) {
	t.Parallel()
	for name, spoil := range map[string]func(*state){
		"held too little": func(s *state) {
			s.places.resources["stock"].held, s.places.resources["stock"].confirmed = 1,
				1
		},
		"counted too little": func(s *state) { s.places.counts[customerGroup{"show", "ann"}].quantity = 1 },
		"not counted":        func(s *state) { delete(s.places.counts, customerGroup{"show", "ann"}) },
		"no resource":        func(s *state) { delete(s.places.resources, "stock") },
		"counted too little for all of it": func(s *state) {
			r := s.places.reservations["r"]
			r.items = append(r.items, &item{reservation: r, position: 3, resource: "stock", quantity: 1})
			s.places.resources["stock"].held, s.places.resources["stock"].confirmed = 3, 3
		},
	} {
		for _, status := range []string{reservationHeld, reservationConfirmed} {
			for operation, o := range map[string]operation{"confirm": &Confirm{Reservation: "r"},
				"cancel": &Cancel{Reservation: "r"}} {
				if operation == "confirm" && status == reservationConfirmed {
					continue
				}
				s := reservationState(status)
				spoil(s)
				if result, err := o.apply(s, outbox.Job{Key: "k", At: tableTime}); err == nil || !strings.Contains(err.Error(),
					"run worker audit") || len(s.places.reservations["r"].steps) != 0 {
					t.Errorf("%s, %s, %s: %v %v", name, status, operation, result, err)
				}
			}
		}
		s := reservationState("held, over")
		spoil(s)
		other := &reservation{id: "other", status: reservationHeld, expiresAt: tableTime}
		s.places.reservations["other"] = other
		s.places.watch(other)
		if s.advance(tableTime); s.places.reservations["r"].status != reservationHeld ||
			other.status != reservationExpired || !slices.Equal(s.places.expired, []string{"other"}) {
			t.Errorf("%s: %s, other %s", name, s.places.reservations["r"].status, other.status)
		}
	}
}

// A line that was not read to its end: those who have just joined are not granted anything, and the sweep looks again.
func TestGrantOfAnUnreadLine(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		waiting int64 // in the table, but for the one who joins
		read    bool
		line    int // who were read
		granted string
		grown   bool
	}{
		"alone":       {0, false, 0, "joins", false},
		"not read":    {2, false, 0, "", true},
		"read wholly": {1, true, 1, "w0", false},
		"read partly": {2, true, 1, "w0", false},
		"long":        {lineRead + 1, true, 1, "w0", true},
	} {
		s := newState(tableTime)
		seat := &resource{id: "seat", capacity: 1, confirmed: 1, waiting: c.waiting}
		s.places.resources["seat"] = seat
		if c.read {
			s.places.line.read["seat"] = true
		}
		for i := range c.line {
			r := &reservation{id: fmt.Sprint("w", i), status: reservationWaiting, expiresAt: tableTime.Add(time.Hour),
				place: int64(i)}
			r.items = []*item{{reservation: r, position: 1, resource: "seat", quantity: 1}}
			s.places.line.waiting["seat"] = append(s.places.line.waiting["seat"], r)
		}
		hold := &Hold{Reservation: "joins", Items: []Item{{Resource: "seat"}}, Wait: true}
		if result, err := hold.apply(s, outbox.Job{Key: "k", At: tableTime}); err != nil || result.Code != CodeWaiting {
			t.Fatalf("%s: %+v, %v", name, result, err)
		}
		seat.confirmed = 0
		s.places.grant(map[string]bool{"seat": true})
		if got := strings.Join(s.places.line.granted, " "); got != c.granted || seat.marked != c.grown {
			t.Errorf("%s: granted %q, grown %t", name, got, seat.marked)
		}
	}
}

// A booking has no time of its own unless it is asked for: then it can be too late.
func TestBookingWithATime(t *testing.T) {
	t.Parallel()
	for at, code := range map[time.Time]string{
		{}: CodeBooked, tableTime: CodeHoldExpired, tableTime.Add(time.Microsecond): CodeBooked,
	} {
		args, err := json.Marshal(Book{
			Reservation: "r", Customer: "ann", Items: tableItems(2), From: "ada", To: "shop", Amount: 100, Currency: "EUR",
			ExpiresAt: at,
		})
		if err != nil {
			t.Fatal(err)
		}
		book, err := decodeBook(args)
		if err != nil {
			t.Fatal(err)
		}
		result, err := book.apply(reservationState("none"), outbox.Job{Key: "key", Kind: KindBook, At: tableTime})
		if err != nil || result.Code != code {
			t.Errorf("until %v: %+v, %v, want %s", at, result, err, code)
		}
	}
}
