package jobs

import (
	"fmt"
	"math"
	"time"

	"github.com/lastseat/lastseat/outbox"
)

// ledger is the part of the accounts and transfers that a batch touches, in memory: what was read, and what the batch
// has done since.
type ledger struct {
	now      time.Time           // the transaction's, which changes get
	accounts map[string]*account // nil: asked for, and not there
	// byKey has the transfers that a reversal names by their request's key, and those of the batch; nil: asked for, and
	// not there. Today a key makes one transfer. When a key makes several, numbered legs, this holds a list: only
	// needTransfer, loadTransfers, post and Reverse look into it.
	byKey     map[string]*transfer
	pending   map[string]bool // keys that a reversal names, and whose request is not settled
	transfers []*transfer     // of the batch
	entries   []entry         // of the batch
	expected  int             // transfers, at most, where they are numbered before they are made; 0: not known
	numbers   []int64         // for transfers, in order
	blocked   blocked
}

// account is a row of accounts. Amounts are minor units of its currency.
type account struct {
	id        string
	row       string // its ctid
	currency  string
	balance   int64
	held      int64  // reserved by authorizations; part of the balance
	overdraft *int64 // how far below zero balance - held may go; nil: without bound
	version   int64
	entries   int64 // the version of its newest entry
	updatedAt time.Time
	changed   bool
}

// transfer is a row of transfers.
type transfer struct {
	id            int64 // 0 until it is written
	key, from, to string
	leg           int16 // 0: 1
	amount        int64
	currency      string
	payment       string // that it captures or refunds; empty: none
	reverses      *transfer
	reversedBy    string // the key of the transfer that takes it back; empty: none
	description   string
	metadata      []byte // JSON; nil: none

	takenAt, givenAt time.Time // of its entries
}

// entry is a row of entries: one side of a transfer.
type entry struct {
	account      string
	version      int64
	transfer     *transfer
	amount       int64
	balanceAfter int64
	at           time.Time // never before the account's previous entry: statements rely on it
}

func newLedger(now time.Time) ledger {
	return ledger{
		now: now, accounts: make(map[string]*account), byKey: make(map[string]*transfer), pending: make(map[string]bool),
	}
}

func (l *ledger) needAccounts(ids ...string) {
	for _, id := range ids {
		need(l.accounts, id)
	}
}

func (l *ledger) needTransfer(key string) { need(l.byKey, key) }

// available is what the account can spend: balance - held + overdraft limit. Sums are clipped to 64 bits, which
// changes no comparison with an amount.
func (a *account) available() int64 {
	if a.overdraft == nil {
		return math.MaxInt64
	}
	return addClipped(addClipped(a.balance, -a.held), *a.overdraft)
}

// holdsSome tells whether an account of the batch has money reserved.
func (l *ledger) holdsSome() bool {
	for _, a := range l.accounts {
		if a != nil && a.held > 0 {
			return true
		}
	}
	return false
}

// refuseTransfer says why amount can't be moved between two accounts, or nil if it can.
func (l *ledger) refuseTransfer(from, to string, amount int64, currency string) *outbox.Result {
	if refused := l.refuseDebit(from, to, amount, currency); refused != nil {
		return refused
	}
	return l.refuseCredit(to, amount)
}

// refuseDebit says why amount can't be taken from one account for another, or nil if it can.
func (l *ledger) refuseDebit(from, to string, amount int64, currency string) *outbox.Result {
	for _, id := range []string{from, to} {
		switch a := l.accounts[id]; {
		case a == nil:
			return reject(CodeAccountNotFound, map[string]any{"account": id})
		case a.currency != currency:
			return reject(CodeCurrencyMismatch,
				map[string]any{"account": id, "account_currency": a.currency, "currency": currency})
		}
	}
	giver := l.accounts[from]
	if available := giver.available(); amount > available {
		return reject(CodeInsufficientFunds, map[string]any{"account": from, "asked": amount, "available": available})
	}
	if giver.balance < math.MinInt64+giver.held+amount { // balance - held has to fit too
		return reject(CodeOutOfRange,
			map[string]any{"account": from, "asked": amount, "balance": giver.balance, "held": giver.held})
	}
	return nil
}

// refuseReserve says why amount can't be reserved on an account that has it available, or nil if it can.
func (l *ledger) refuseReserve(id string, amount int64) *outbox.Result {
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

// post makes a transfer that nothing refuses: an entry on each of its accounts.
func (l *ledger) post(t *transfer) {
	t.leg = max(t.leg, 1)
	l.transfers = append(l.transfers, t)
	l.byKey[t.key] = t
	if t.reverses != nil {
		t.reverses.reversedBy = t.key
	}
	l.postEntry(t, t.from, -t.amount)
	l.postEntry(t, t.to, t.amount)
}

func (l *ledger) postEntry(t *transfer, id string, amount int64) {
	a := l.accounts[id]
	a.touch(l.now)
	a.balance += amount
	a.entries++
	if amount < 0 {
		t.takenAt = a.updatedAt
	} else {
		t.givenAt = a.updatedAt
	}
	l.entries = append(l.entries, entry{
		account: id, version: a.entries, transfer: t, amount: amount, balanceAfter: a.balance, at: a.updatedAt,
	})
}

// reserve keeps amount on an account for later. Nothing has refused it.
func (l *ledger) reserve(id string, amount int64) {
	a := l.accounts[id]
	a.touch(l.now)
	a.held += amount
}

// release takes back a reserve. The error, which no sequence of requests brings about, is that the account has less
// reserved.
func (l *ledger) release(id string, amount int64) error {
	a := l.accounts[id]
	if a == nil || a.held < amount {
		return fmt.Errorf("account %q holds less than its authorizations: run worker audit", id)
	}
	a.touch(l.now)
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
