package jobs

import (
	"encoding/json"
	"fmt"
	"math"
	"math/big"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/lastseat/lastseat/outbox"
)

func TestTransferApply(t *testing.T) {
	const most, least = math.MaxInt64, math.MinInt64
	for name, test := range map[string]struct {
		from, to account
		amount   int64
		want     string
		detail   string
	}{
		"enough":                 {account{balance: 100, overdraft: new(int64(0))}, account{}, 100, CodeTransferred, `null`},
		"one too much":           {account{balance: 100, overdraft: new(int64(0))}, account{}, 101, CodeInsufficientFunds, `{"account":"from","asked":101,"available":100}`},
		"within the overdraft":   {account{balance: 100, overdraft: new(int64(50))}, account{}, 150, CodeTransferred, `null`},
		"beyond the overdraft":   {account{balance: 100, overdraft: new(int64(50))}, account{}, 151, CodeInsufficientFunds, `{"account":"from","asked":151,"available":150}`},
		"held is not available":  {account{balance: 100, held: 30, overdraft: new(int64(0))}, account{}, 71, CodeInsufficientFunds, `{"account":"from","asked":71,"available":70}`},
		"below the limit before": {account{balance: -80, overdraft: new(int64(50))}, account{}, 1, CodeInsufficientFunds, `{"account":"from","asked":1,"available":-30}`},
		"unbounded":              {account{balance: 0}, account{}, most, CodeTransferred, `null`},
		"giver at the bottom":    {account{balance: least}, account{}, 1, CodeOutOfRange, `{"account":"from","asked":1,"balance":-9223372036854775808,"held":0}`},
		"giver just fits":        {account{balance: least + 5}, account{}, 5, CodeTransferred, `null`},
		"held would not fit":     {account{balance: least + 5, held: 1}, account{}, 5, CodeOutOfRange, `{"account":"from","asked":5,"balance":-9223372036854775803,"held":1}`},
		"huge held":              {account{balance: 0, held: most}, account{}, 2, CodeOutOfRange, `{"account":"from","asked":2,"balance":0,"held":9223372036854775807}`},
		"taker at the top":       {account{balance: 10}, account{balance: most}, 1, CodeOutOfRange, `{"account":"to","asked":1,"balance":9223372036854775807}`},
		"taker just fits":        {account{balance: 10}, account{balance: most - 1}, 1, CodeTransferred, `null`},
		"huge limit":             {account{balance: most, overdraft: new(int64(most))}, account{}, most, CodeTransferred, `null`},
		"giver's currency":       {account{balance: 100, currency: "USD"}, account{}, 1, CodeCurrencyMismatch, `{"account":"from","account_currency":"USD","currency":"EUR"}`},
		"taker's currency":       {account{balance: 100}, account{currency: "JPY"}, 1, CodeCurrencyMismatch, `{"account":"to","account_currency":"JPY","currency":"EUR"}`},
		"no giver":               {account{id: "-"}, account{}, 1, CodeAccountNotFound, `{"account":"from"}`},
		"no taker":               {account{}, account{id: "-"}, 1, CodeAccountNotFound, `{"account":"to"}`},
	} {
		t.Run(name, func(t *testing.T) {
			request := &Transfer{From: "from", To: "to", Amount: test.amount, Currency: "EUR"}
			l := newState(time.Now())
			request.needs(l)
			for id, a := range map[string]account{"from": test.from, "to": test.to} {
				if a.id == "-" {
					continue // not there
				}
				a.id = id
				if a.currency == "" {
					a.currency = "EUR"
				}
				l.accounts[id] = &a
			}
			result, err := request.apply(l, outbox.Job{Key: "key"})
			if err != nil {
				t.Fatal(err)
			}
			detail, err := json.Marshal(result.Detail)
			if err != nil || result.Code != test.want || string(detail) != test.detail {
				t.Errorf("%s %s, want %s %s (%v)", result.Code, detail, test.want, test.detail, err)
			}
			if moved := result.Status == outbox.Applied; moved != (len(l.transfers) == 1) || moved != (len(l.entries) == 2) {
				t.Errorf("%s, with %d transfers, %d entries", result.Status, len(l.transfers), len(l.entries))
			}
		})
	}
}

// The model: exact integers of any size, and the rule in one line.
func TestTransferAgainstModel(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		ids := []string{"a", "b", "c", "d"}
		l := newState(time.Now())
		l.needAccounts(ids...)
		model := make(map[string]*big.Int)
		edge := rapid.OneOf(rapid.Int64(), rapid.Int64Range(-100, 100), rapid.SampledFrom([]int64{math.MaxInt64, math.MinInt64, math.MaxInt64 - 1}))
		for _, id := range ids[:3] { // d is not there
			a := &account{id: id, currency: "EUR", balance: edge.Draw(t, "balance")}
			if rapid.Bool().Draw(t, "bounded") {
				a.overdraft = new(rapid.Int64Range(0, math.MaxInt64).Draw(t, "limit"))
			}
			l.accounts[id] = a
			model[id] = big.NewInt(a.balance)
		}
		for range rapid.IntRange(1, 40).Draw(t, "steps") {
			from := rapid.SampledFrom(ids).Draw(t, "from")
			to := rapid.SampledFrom(ids).Filter(func(id string) bool { return id != from }).Draw(t, "to")
			amount := max(1, edge.Draw(t, "amount"))
			request := &Transfer{From: from, To: to, Amount: amount, Currency: "EUR"}
			result, err := request.apply(l, outbox.Job{Key: fmt.Sprint("k", len(l.transfers))})
			if got, want := result.Code, modelCode(l, model, from, to, amount); got != want || err != nil {
				t.Fatalf("%+v: %s, the model says %s", request, got, want)
			}
			for id, balance := range model {
				if big.NewInt(l.accounts[id].balance).Cmp(balance) != 0 {
					t.Fatalf("balance of %s is %d, the model's %v", id, l.accounts[id].balance, balance)
				}
			}
		}
		checkEntries(t, l)
	})
}

func modelCode(l *state, model map[string]*big.Int, from, to string, amount int64) string {
	if model[from] == nil || model[to] == nil {
		return CodeAccountNotFound
	}
	after, gets := new(big.Int).Sub(model[from], big.NewInt(amount)), new(big.Int).Add(model[to], big.NewInt(amount))
	if overdraft := l.accounts[from].overdraft; overdraft != nil && after.Cmp(new(big.Int).Neg(big.NewInt(*overdraft))) < 0 {
		return CodeInsufficientFunds
	}
	if !after.IsInt64() || !gets.IsInt64() {
		return CodeOutOfRange
	}
	model[from], model[to] = after, gets
	return CodeTransferred
}

// checkEntries: two for each transfer, opposite; versions without gap; balances that follow from one another.
func checkEntries(t *rapid.T, l *state) {
	if len(l.entries) != 2*len(l.transfers) {
		t.Fatalf("%d entries of %d transfers", len(l.entries), len(l.transfers))
	}
	last := make(map[string]entry)
	for i, e := range l.entries {
		if i%2 == 1 && l.entries[i-1].amount != -e.amount {
			t.Fatalf("entries %d and %d do not sum to zero", i-1, i)
		}
		if before, ok := last[e.account]; ok && (e.version != before.version+1 || e.balanceAfter != before.balanceAfter+e.amount) {
			t.Fatalf("%+v does not follow %+v", e, before)
		}
		last[e.account] = e
	}
	for id, e := range last {
		if a := l.accounts[id]; a.balance != e.balanceAfter || a.entries != e.version {
			t.Fatalf("account %+v, last entry %+v", a, e)
		}
	}
}

// Whatever comes as arguments is decoded to what a transfer may be, or refused with a reason.
func FuzzDecodeTransfer(f *testing.F) {
	for _, seed := range []string{
		`{"from":"a","to":"b","amount":1,"currency":"EUR"}`, `{"from":"a","to":"b","amount":1e3,"currency":"EUR"}`, `[]`, `{`, `null`,
		`{"from":"a","to":"a","amount":-1,"currency":"eur","metadata":[]}`, `{"from":1,"to":{},"amount":"1","currency":null}`, "{\"from\":\"\xff\"}",
	} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, args []byte) {
		decoded, err := decodeTransfer(args)
		if err != nil {
			return
		}
		x := decoded.(*Transfer)
		if x.From == "" || x.To == "" || x.From == x.To || x.Amount < 1 || len(x.Currency) != 3 {
			t.Errorf("%q is accepted as %+v", args, x)
		}
	})
}
