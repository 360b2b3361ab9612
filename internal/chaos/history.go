package chaos

import (
	"encoding/json"
	"sync"
	"time"
)

// Op is something to be asked for: under one key, always with the same arguments.
type Op struct {
	Key   string
	Kind  string
	Queue string
	Args  json.RawMessage
	Asks  Asks
	Rows  []string // rows that it shares with others: in their order it has to be settled
	Later bool     // it is scheduled, or may be tried again: the order is not promised
}

// Asks are the arguments that the checks look at.
type Asks struct {
	From, To string
	Amount   int64
	ID       string // of a payment, a reservation, a member
	Items    map[string]int64
	Expires  time.Time // zero: not before the run ends
	Wait     bool
	Other    string // the key of the transfer that is reversed
}

// Status is how a call ended.
type Status string

// A call that was refused has not happened. What became of an unknown one, only the database knows.
const (
	OK      Status = "ok"
	Refused Status = "refused"
	Unknown Status = "unknown"
)

// Call is one call of a client, by a clock that all clients share.
type Call struct {
	Client          int
	Door            string
	Op              *Op
	Asked, Answered time.Duration
	Status          Status
	Error           string
	Duplicate       bool
	Row             bool // with a business row in the same transaction
	Misuse          bool // asked with other arguments under a key that was answered with ok
}

// History is what the clients did. Its methods may be called from any goroutine.
type History struct {
	mu    sync.Mutex
	calls []Call
}

// Note adds a call.
func (h *History) Note(c Call) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.calls = append(h.calls, c)
}

// Calls are all of them, in the order in which they ended.
func (h *History) Calls() []Call {
	h.mu.Lock()
	defer h.mu.Unlock()
	return append([]Call(nil), h.calls...)
}

// asked is what the clients know of a key.
type asked struct {
	op        *Op
	from      time.Duration // when it was asked for the first time
	until     time.Duration // when it was answered with ok for the first time; 0: never
	ok        int
	unknown   int
	refused   int
	lastError string
	row       bool // a call that was answered with ok wrote a business row
	mayRow    bool // a call that may have happened wrote one
	without   bool // a call that was answered with ok wrote none: it came through another door
}

// byKey sums up the calls of each key. Calls that misuse a key are no part of it.
func byKey(calls []Call) map[string]*asked {
	keys := make(map[string]*asked)
	for _, c := range calls {
		if c.Misuse {
			continue
		}
		a := keys[c.Op.Key]
		if a == nil {
			a = &asked{op: c.Op, from: c.Asked}
			keys[c.Op.Key] = a
		}
		a.from = min(a.from, c.Asked)
		switch c.Status {
		case OK:
			if a.ok == 0 || c.Answered < a.until {
				a.until = c.Answered
			}
			a.ok++
			a.row = a.row || c.Row
			a.without = a.without || !c.Row
			a.mayRow = a.mayRow || c.Row
		case Unknown:
			a.unknown++
			a.mayRow = a.mayRow || c.Row
		case Refused:
			a.refused++
			a.lastError = c.Error
		}
	}
	return keys
}
