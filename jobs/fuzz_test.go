package jobs

import (
	"encoding/json"
	"fmt"
	"math"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/tidwall/gjson"

	"github.com/lastseat/lastseat/outbox"
)

// Whatever comes as arguments is decoded to what a request may be, or refused with a reason. What is decoded means the
// same when it is encoded and decoded again.
func FuzzDecode(f *testing.F) {
	for _, seed := range []string{
		`{"from":"a","to":"b","amount":1,"currency":"EUR"}`, `{"from":"a","to":"b","amount":1e3,"currency":"EUR"}`, `[]`,
		`{`, `null`, `7`, `"x"`,
		`{"from":"a","to":"a","amount":-1,"currency":"eur","metadata":[]}`,
		`{"from":1,"to":{},"amount":"1","currency":null}`, "{\"from\":\"\xff\"}",
		`{"payment":"p","from":"a","to":"b","amount":1,"currency":"EUR","expires_at":"2026-11-23T12:00:00.123456789+14:00"}`,
		`{"payment":"p","from":"a","to":"b","amount":1,"currency":"EUR","expires_at":"0001-01-01T00:00:00Z"}`,
		`{"payment":"p","amount":9223372036854775807}`,
		`{"payment":"p","amount":null,"x":null}`, `{"payment":"p"}`, `{"transfer":"\u00e9"}`, `{"transfer":""}`,
		`{"key":"k","transfer":"t","transfer":7}`,
		`{"reservation":"r","items":[{"resource":"a"},{"resource":"a","quantity":9223372036854775807},{"resource":"b","during":"[\"2026-12-01 10:00:00+00\",\"2026-12-01 11:30:00+00\")"}],"wait":true,"customer":"c"}`,
		`{"reservation":"r","items":[{"resource":"b","during":"[2026-12-01T10:00:00.123456789Z, \"2026-12-01 11:30+05:45\")","quantity":1}],"expires_at":"2026-11-23T12:00:00Z"}`, `{"reservation":"r","items":[{"resource":"b","during":null,"quantity":null}]}`,
		`{"reservation":"r","items":[]}`, `{"reservation":"r","items":[7],"items":[{"resource":"a","x":null}]}`,
		`{"reservation":"r"}`, `{"reservation":"r","expires_at":"2999-01-01T00:00:00Z"}`,
		`{"reservation":"r","items":[{"resource":"a"}],"from":"a","to":"b","amount":1,"currency":"EUR","description":"d","metadata":{"x":[1]}}`,
	} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, args []byte) {
		if !gjson.ValidBytes(args) || !utf8.Valid(args) {
			return // river_job holds JSON
		}
		for kind, decode := range decoders {
			operation, err := decode(args)
			if err != nil {
				continue
			}
			if !inOrder(operation) {
				t.Fatalf("%s: %q is accepted as %+v", kind, args, operation)
			}
			operation.needs(newState(time.Time{})) // does not panic
			again, err := json.Marshal(operation)
			if err != nil {
				t.Fatalf("%s: %q is accepted as %+v: %v", kind, args, operation, err)
			}
			if b, isBooking := operation.(*booking); isBooking {
				again = bothHalves(t, b)
			}
			// its metadata is JSON
			if same, err := decode(again); err != nil || meaning(same) != meaning(operation) && kind != KindTransfer &&
				kind != KindBook {
				t.Fatalf("%s: %q is %+v, encoded and decoded again %+v (%v)", kind, args, operation, same, err)
			}
		}
	})
}

// meaning is an operation with what its pointers point to.
func meaning(o operation) string {
	if h, isHold := o.(*Hold); isHold {
		items, _ := json.Marshal(h.Items)
		return fmt.Sprintf("%s %s %v %s %t", h.Reservation, items, h.ExpiresAt, h.Customer, h.Wait)
	}
	return fmt.Sprintf("%+v", o)
}

// bothHalves is a booking as JSON: the arguments of a hold and of a transfer.
func bothHalves(t *testing.T, b *booking) []byte {
	t.Helper()
	all := make(map[string]json.RawMessage)
	for _, half := range []any{b.hold, b.transfer} {
		encoded, err := json.Marshal(half)
		if err == nil {
			err = json.Unmarshal(encoded, &all)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	encoded, err := json.Marshal(all)
	if err != nil {
		t.Fatal(err)
	}
	return encoded
}

func inOrder(o operation) bool {
	id := func(text string) bool {
		n := utf8.RuneCountInString(text)
		return n >= 1 && n <= 200
	}
	switch o := o.(type) {
	case *Transfer:
		return id(o.From) && id(o.To) && o.From != o.To && o.Amount >= 1 && len(o.Currency) == 3
	case *Authorize:
		return id(o.Payment) && id(o.From) && id(o.To) && o.From != o.To && o.Amount >= 1 && len(o.Currency) == 3 &&
			(o.ExpiresAt.IsZero() || o.ExpiresAt.Year() > 1 && o.ExpiresAt.Year() < 10000 &&
				o.ExpiresAt.Nanosecond()%1000 == 0 && o.ExpiresAt.Location() == time.UTC)
	case *Capture:
		return id(o.Payment) && o.Amount >= 0
	case *Void:
		return id(o.Payment)
	case *expire:
		return id(o.Payment)
	case *Refund:
		return id(o.Payment) && o.Amount >= 0
	case *Reverse:
		return id(o.Transfer)
	case *Hold:
		return id(o.Reservation) && (o.Customer == "" || id(o.Customer)) && inUTCYears(o.ExpiresAt, true) &&
			len(o.Items) > 0 && itemsInOrder(o.Items)
	case *booking:
		return !o.hold.Wait && inOrder(&o.hold) && inOrder(&o.transfer)
	case *Confirm:
		return id(o.Reservation)
	case *Cancel:
		return id(o.Reservation)
	case *Extend:
		return id(o.Reservation) && inUTCYears(o.ExpiresAt, false)
	}
	return false
}

// inUTCYears: in the years 2 to 9999, of whole microseconds.
func inUTCYears(at time.Time, orNone bool) bool {
	return orNone && at.IsZero() || at.Year() > 1 && at.Year() < 10000 && at.Nanosecond()%1000 == 0 &&
		at.Location() == time.UTC
}

func itemsInOrder(items []Item) bool {
	for _, it := range items {
		n := utf8.RuneCountInString(it.Resource)
		if n < 1 || n > 200 || it.Quantity < 0 || it.During != nil && (it.Quantity > 1 ||
			!it.During.Start.Before(it.During.End) || !inUTCYears(it.During.Start, false) || !inUTCYears(it.During.End, false)) {
			return false
		}
	}
	return true
}

// A time range is read, or refused; what is read is read again from what it is written as.
func FuzzRange(f *testing.F) {
	for _, seed := range []string{
		`[2026-12-01T10:00:00Z,2026-12-01T11:30:00Z)`, `["2026-12-01 10:00:00+00","2026-12-01 11:30:00+00")`,
		`["2026-12-01 10:00:00.123456789-14:59", 9999-12-31T23:59)`, `[0002-01-01 00:00,0002-01-01 00:00:00.000001)`,
		`empty`, `[,)`, `[2026-12-01T10:00:00Z",2026-12-01T11:30:00Z)`, `[0001-12-31 23:59-00:01,0002-01-01 00:01)`,
	} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, text string) {
		r, err := parseRange(text)
		if err != nil {
			return
		}
		if !itemsInOrder([]Item{{Resource: "r", During: &r}}) || strings.Count(text, `"`)%2 != 0 {
			t.Fatalf("%q is read as %v", text, r)
		}
		if again, err := parseRange(r.String()); err != nil || again != r {
			t.Fatalf("%q is %v, again %v (%v)", text, r, again, err)
		}
	})
}

// Any history of reservations, four bytes for each step, comes to what the model says.
func FuzzReservations(f *testing.F) {
	f.Add([]byte{0, 0, 1, 0, 0, 0, 0x82, 1, 3, 0, 0, 0, 2, 1, 0, 0})
	f.Add([]byte{0, 4, 1, 9, 0, 4, 0x83, 2, 4, 0, 9, 0, 5, 4, 3, 0, 6, 0, 0, 0, 1, 3, 2, 7, 7, 0, 3, 0})
	f.Fuzz(func(t *testing.T, bytes []byte) {
		var steps []Step
		for i := 0; i+3 < len(bytes) && i < 240; i += 4 {
			steps = append(steps, stockStepOf(i/4, [4]byte(bytes[i:i+4])))
		}
		n := len(bytes)
		stockAgainstModel(t, steps, func() bool { n++; return n%3 == 0 }, make(map[string]int))
	})
}

// stockStepOf reads a step: its kind; what it needs, or whose it is; which reservation, and whether it waits; how many,
// and how long.
func stockStepOf(i int, b [4]byte) Step {
	ids := []string{"seat", "stock", "room", "hall", "show1", "show2", "huge", "free1", "free2", "most1", "most2", "none",
		"seat", "stock", "show1", "room"}
	at := func(seconds byte) time.Time { return tableTime.Add(time.Duration(i+int(seconds%32)-2) * time.Second) }
	reservation := fmt.Sprint("r", b[2]%16)
	item := func(of, quantity byte) Item {
		it := Item{Resource: ids[of%16], Quantity: int64(quantity % 4)}
		if it.Resource == "hall" || it.Resource == "room" {
			it.Quantity, it.During = 0, &TimeRange{tableTime.Add(time.Duration(quantity%4) * time.Hour),
				tableTime.Add(time.Duration(quantity%4+quantity/4%4+1) * time.Hour)}
		} else if quantity >= 240 {
			it.Quantity = math.MaxInt64>>((255-quantity)/8) - int64(255-quantity)%8
		}
		return it
	}
	items := []Item{item(b[1], b[3]), item(b[1]/16, b[3]>>2)}[:1+b[2]>>6&1]
	customer := []string{"", "ann", "bob", "ann"}[b[2]>>4&3]
	var args outbox.Args
	switch b[0] % 9 {
	case 0, 1:
		hold := Hold{Reservation: reservation, Items: items, Customer: customer}
		hold.Wait = b[2] >= 128 && neverTogether(items) == nil
		if b[0] >= 64 {
			hold.ExpiresAt = at(b[0])
		}
		args = hold
	case 2:
		args = Confirm{Reservation: reservation}
	case 3, 4:
		args = Cancel{Reservation: reservation}
	case 5:
		args = Extend{Reservation: reservation, ExpiresAt: at(b[3])}
	case 6:
		args = Book{Reservation: reservation, Items: items, Customer: customer, From: []string{"top", "ada"}[b[3]%2],
			To: "ben", Amount: 1, Currency: "EUR"}
	case 7:
		args = Define{Resource: ids[b[1]%11], Capacity: int64(b[3] % 8)}
	}
	return Step{Key: fmt.Sprint("k", i), After: time.Duration(i) * time.Second, Args: args}
}

// Any history of requests, four bytes for each, comes to what the model says.
func FuzzApply(f *testing.F) {
	f.Add([]byte{0, 1, 0, 50, 1, 0x21, 1, 50, 2, 1, 0, 0, 3, 1, 0, 20, 4, 1, 0, 0, 5, 0, 0, 0})
	f.Add([]byte{0, 1, 0, 255, 1, 0x21, 3, 255, 6, 1, 0, 0, 2, 1, 0, 254})
	f.Fuzz(func(t *testing.T, bytes []byte) {
		var steps []Step
		for i := 0; i+3 < len(bytes) && i < 240; i += 4 {
			steps = append(steps, stepOf(i/4, [4]byte(bytes[i:i+4])))
		}
		againstModel(t, tableTime, steps, func() bool { return len(steps)%2 == 0 }, make(map[string]int))
	})
}

// stepOf reads a step: its kind, its accounts or its payment, when a payment runs out, its amount.
func stepOf(i int, b [4]byte) Step {
	accounts := []string{"top", "ada", "ben", "deep", "usd", "none", "ada", "top"}
	payment := fmt.Sprint("p", b[1]%8)
	after := time.Duration(i) * time.Second
	amount := int64(b[3])
	if b[3] >= 240 { // 255: the most there is
		amount = math.MaxInt64>>((255-b[3])/8) - int64(255-b[3])%8
	}
	from, to := accounts[b[1]%8], accounts[b[1]/8%8]
	if from == to {
		to = "else"
	}
	var args outbox.Args
	switch b[0] % 7 {
	case 0:
		args = Transfer{From: from, To: to, Amount: max(1, amount), Currency: "EUR"}
	case 1:
		a := Authorize{Payment: fmt.Sprint("p", b[2]%8), From: from, To: to, Amount: max(1, amount), Currency: "EUR"}
		if lasts := int(b[2] / 8); lasts > 0 {
			a.ExpiresAt = tableTime.Add(after + time.Duration(lasts-1)*time.Second)
		}
		args = a
	case 2:
		args = Capture{Payment: payment, Amount: amount}
	case 3:
		args = Refund{Payment: payment, Amount: amount}
	case 4:
		args = Reverse{Transfer: fmt.Sprint("k", b[3])}
	case 5:
		args = Void{Payment: payment}
	}
	return Step{Key: fmt.Sprint("k", i), After: after, Args: args}
}
