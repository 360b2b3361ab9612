package jobs

import (
	"fmt"
	"math"
	"time"

	"github.com/lastseat/lastseat/outbox"
)

// ledger is the part of the ledger that a batch touches, in memory: what was read, and what has been done to it since.
type ledger struct {
	accounts  map[string]*account  // nil: asked for, and not there
	byKey     map[string]*transfer // transfers that a reversal names, and those of the batch; nil: asked for, and not there
	pending   map[string]bool      // keys of those that a reversal names whose request is not settled
	transfers []*transfer          // of the batch
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
	updatedAt time.Time
	changed   bool
}

type transfer struct {
	id            int64 // 0 until it is written
	key, from, to string
	amount        int64
	currency      string
	payment       string // that it captures or refunds; empty: none
	reverses      *transfer
	reversedBy    string // the key of the transfer that takes it back; empty: none
	description   string
	metadata      []byte // JSON; nil: none
}

// entry is one side of a transfer.
type entry struct {
	account      string
	version      int64
	transfer     *transfer
	amount       int64
	balanceAfter int64
	at           time.Time // never before the account's entry before it: statements rely on it
}

func newLedger() ledger {
	return ledger{accounts: make(map[string]*account), byKey: make(map[string]*transfer), pending: make(map[string]bool)}
}

func (l *ledger) needAccounts(ids ...string) {
	for _, id := range ids {
		if _, known := l.accounts[id]; !known {
			l.accounts[id] = nil
		}
	}
}

func (l *ledger) needTransfer(key string) {
	if _, known := l.byKey[key]; !known {
		l.byKey[key] = nil
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
	if refused := l.refuseDebit(from, to, amount, currency); refused != nil {
		return refused
	}
	return l.refuseCredit(to, amount)
}

// refuseDebit says why amount can't be taken from an account for another, or nil if it can.
func (l *ledger) refuseDebit(from, to string, amount int64, currency string) *outbox.Result {
	for _, id := range []string{from, to} {
		switch a := l.accounts[id]; {
		case a == nil:
			return reject(CodeAccountNotFound, map[string]any{"account": id})
		case a.currency != currency:
			return reject(CodeCurrencyMismatch, map[string]any{"account": id, "account_currency": a.currency, "currency": currency})
		}
	}
	giver := l.accounts[from]
	if available := giver.available(); amount > available {
		return reject(CodeInsufficientFunds, map[string]any{"account": from, "asked": amount, "available": available})
	}
	if giver.balance < math.MinInt64+giver.held+amount { // balance - held has to fit too
		return reject(CodeOutOfRange, map[string]any{"account": from, "asked": amount, "balance": giver.balance, "held": giver.held})
	}
	return nil
}

// refuseHold says why an account that can spare amount can't hold it, or nil if it can.
func (l *ledger) refuseHold(id string, amount int64) *outbox.Result {
	if a := l.accounts[id]; a.held > math.MaxInt64-amount {
		return reject(CodeOutOfRange, map[string]any{"account": id, "asked": amount, "held": a.held})
	}
	return nil
}

// refuseCredit says why an account can't get amount, or nil if it can.
func (l *ledger) refuseCredit(to string, amount int64) *outbox.Result {
	if taker := l.accounts[to]; taker.balance > math.MaxInt64-amount {
		return reject(CodeOutOfRange, map[string]any{"account": to, "asked": amount, "balance": taker.balance})
	}
	return nil
}

func reject(code string, detail any) *outbox.Result {
	result := outbox.Reject(code, detail)
	return &result
}

// move books a transfer that nothing refuses.
func (l *ledger) move(t *transfer, now time.Time) {
	l.transfers = append(l.transfers, t)
	l.byKey[t.key] = t
	if t.reverses != nil {
		t.reverses.reversedBy = t.key
	}
	l.book(t, t.from, -t.amount, now)
	l.book(t, t.to, t.amount, now)
}

func (l *ledger) book(t *transfer, id string, amount int64, now time.Time) {
	a := l.accounts[id]
	a.touch(now)
	a.balance += amount
	a.entries++
	l.entries = append(l.entries, entry{
		account: id, version: a.entries, transfer: t, amount: amount, balanceAfter: a.balance, at: a.updatedAt,
	})
}

// hold reserves amount on an account that can spare it.
func (l *ledger) hold(id string, amount int64, now time.Time) {
	a := l.accounts[id]
	a.touch(now)
	a.held += amount
}

// release ends a hold. The error, which no sequence of requests brings about, is that the account holds less.
func (l *ledger) release(id string, amount int64, now time.Time) error {
	a := l.accounts[id]
	if a == nil || a.held < amount {
		return fmt.Errorf("account %q holds less than its authorizations: run worker audit", id)
	}
	a.touch(now)
	a.held -= amount
	return nil
}

func (a *account) touch(now time.Time) {
	a.version++
	a.changed = true
	if now.After(a.updatedAt) {
		a.updatedAt = now
	}
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
