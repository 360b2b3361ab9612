package jobs

import (
	"encoding/json"
	"fmt"
	"math"
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
		`{"from":"a","to":"b","amount":1,"currency":"EUR"}`, `{"from":"a","to":"b","amount":1e3,"currency":"EUR"}`, `[]`, `{`, `null`, `7`, `"x"`,
		`{"from":"a","to":"a","amount":-1,"currency":"eur","metadata":[]}`, `{"from":1,"to":{},"amount":"1","currency":null}`, "{\"from\":\"\xff\"}",
		`{"payment":"p","from":"a","to":"b","amount":1,"currency":"EUR","expires_at":"2026-11-23T12:00:00.123456789+14:00"}`,
		`{"payment":"p","from":"a","to":"b","amount":1,"currency":"EUR","expires_at":"0001-01-01T00:00:00Z"}`, `{"payment":"p","amount":9223372036854775807}`,
		`{"payment":"p","amount":null,"x":null}`, `{"payment":"p"}`, `{"transfer":"\u00e9"}`, `{"transfer":""}`, `{"key":"k","transfer":"t","transfer":7}`,
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
			if same, err := decode(again); err != nil || fmt.Sprintf("%+v", same) != fmt.Sprintf("%+v", operation) && kind != KindTransfer { // its metadata is JSON
				t.Fatalf("%s: %q is %+v, encoded and decoded again %+v (%v)", kind, args, operation, same, err)
			}
		}
	})
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
			(o.ExpiresAt.IsZero() || o.ExpiresAt.Year() > 1 && o.ExpiresAt.Year() < 10000 && o.ExpiresAt.Nanosecond()%1000 == 0 && o.ExpiresAt.Location() == time.UTC)
	case *Capture:
		return id(o.Payment) && o.Amount >= 0
	case *Void:
		return id(o.Payment)
	case *Refund:
		return id(o.Payment) && o.Amount >= 0
	case *Reverse:
		return id(o.Transfer)
	}
	return false
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
