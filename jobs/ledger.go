package jobs

import (
	"math"

	"github.com/lastseat/lastseat/outbox"
)

// ledger is the part of the ledger that a batch touches, in memory: what was read, and what has been done to it since.
type ledger struct {
	accounts  map[string]*account // nil: asked for, and not there
	transfers []transfer
	entries   []entry
}

// account is a row of accounts. Amounts are minor units of its currency.
type account struct {
	id        string
	currency  string
	balance   int64
	held      int64  // reserved by authorizations; part of the balance
	overdraft *int64 // how far below zero balance - held may go; nil: without bound
	version   int64
	entries   int64 // the version of its newest entry
	changed   bool
}

type transfer struct {
	key, from, to string
	amount        int64
	currency      string
	description   string
	metadata      []byte // JSON; nil: none
}

// entry is one side of a transfer. Its transfer is named by its place in ledger.transfers, until that has an id.
type entry struct {
	account      string
	version      int64
	transfer     int
	amount       int64
	balanceAfter int64
}

func newLedger() *ledger {
	return &ledger{accounts: make(map[string]*account)}
}

func (l *ledger) needAccounts(ids ...string) {
	for _, id := range ids {
		if _, known := l.accounts[id]; !known {
			l.accounts[id] = nil
		}
	}
}

// available is what the account can spend: balance - held + overdraft limit. Sums are clipped to 64 bits, which
// changes no comparison with an amount.
func (a *account) available() int64 {
	if a.overdraft == nil {
		return math.MaxInt64
	}
	return addClipped(addClipped(a.balance, -a.held), *a.overdraft)
}

// refuse says why amount can't be moved between two accounts, or nil if it can.
func (l *ledger) refuse(from, to string, amount int64, currency string) *outbox.Result {
	for _, id := range []string{from, to} {
		switch a := l.accounts[id]; {
		case a == nil:
			return reject(CodeAccountNotFound, map[string]any{"account": id})
		case a.currency != currency:
			return reject(CodeCurrencyMismatch, map[string]any{"account": id, "account_currency": a.currency, "currency": currency})
		}
	}
	giver, taker := l.accounts[from], l.accounts[to]
	if available := giver.available(); amount > available {
		return reject(CodeInsufficientFunds, map[string]any{"account": from, "asked": amount, "available": available})
	}
	if giver.balance < math.MinInt64+giver.held+amount { // balance - held has to fit too
		return reject(CodeOutOfRange, map[string]any{"account": from, "asked": amount, "balance": giver.balance})
	}
	if taker.balance > math.MaxInt64-amount {
		return reject(CodeOutOfRange, map[string]any{"account": to, "asked": amount, "balance": taker.balance})
	}
	return nil
}

func reject(code string, detail any) *outbox.Result {
	result := outbox.Reject(code, detail)
	return &result
}

// move books a transfer that nothing refuses.
func (l *ledger) move(t transfer) {
	l.transfers = append(l.transfers, t)
	l.book(t.from, -t.amount)
	l.book(t.to, t.amount)
}

func (l *ledger) book(id string, amount int64) {
	a := l.accounts[id]
	a.balance += amount
	a.version++
	a.entries++
	a.changed = true
	l.entries = append(l.entries, entry{
		account: id, version: a.entries, transfer: len(l.transfers) - 1, amount: amount, balanceAfter: a.balance,
	})
}

func addClipped(a, b int64) int64 {
	switch sum := a + b; {
	case b > 0 && sum < a:
		return math.MaxInt64
	case b < 0 && sum > a:
		return math.MinInt64
	default:
		return sum
	}
}
