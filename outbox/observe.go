package outbox

import (
	"time"

	"github.com/lastseat/lastseat/internal/retry"
)

// Observer is told what the lanes of a worker do, see [Settings]. Lanes call it between two transactions and wait for
// it, several lanes at the same time: it returns at once, and is safe for concurrent use. What it is told has been
// committed; a batch whose COMMIT got no reply is not told.
type Observer interface {
	// Settled: a batch was committed.
	Settled(batch SettledBatch)
	// Repeated: a batch failed and was rolled back, and its jobs are tried again. cause is one of the few words of
	// docs/decisions/007-blame.md, sqlState is empty if Postgres said nothing.
	Repeated(lane int, cause, sqlState string)
	// Holds: this worker took the lane, or has lost or left it.
	Holds(lane int, holds bool)
}

// SettledBatch is a batch that was committed.
type SettledBatch struct {
	Lane     int
	Jobs     int           // that it dealt with, duplicates included
	Duration time.Duration // from the claim to the reply to COMMIT
	Settled  map[SettledAs]int
	Failed   map[string]int // attempts that ended in an error or a panic, by kind
}

// SettledAs is what became of a request.
type SettledAs struct {
	Kind, Code string
	Status     Status
}

// observeBatch tells the observer about a committed batch, n jobs of which were dealt with.
func (l *lane) observeBatch(b *batch, n int) {
	if l.settings.Observer == nil || n == 0 {
		return
	}
	told := SettledBatch{
		Lane: l.number, Jobs: n, Duration: time.Since(b.began),
		Settled: make(map[SettledAs]int), Failed: make(map[string]int),
	}
	for i, c := range b.jobs {
		result := b.results[i]
		switch {
		case c.fate == charge || c.fate != postponed && result.err != nil:
			told.Failed[c.Kind]++
			if c.last() || b.charged != nil && b.charged.unwritable != nil {
				told.Settled[SettledAs{Kind: c.Kind, Status: Failed, Code: CodeRetriesExhausted}]++
			}
		case (c.fate == settle || c.fate == invalid) && result.Status != "":
			told.Settled[SettledAs{Kind: c.Kind, Status: result.Status, Code: result.Code}]++
		}
	}
	l.settings.Observer.Settled(told)
}

func (l *lane) observeRepeated(v verdict, err error) {
	if l.settings.Observer != nil {
		l.settings.Observer.Repeated(l.number, string(v), retry.SQLState(err))
	}
}

func (l *lane) observeHolds(holds bool) {
	if l.settings.Observer != nil {
		l.settings.Observer.Holds(l.number, holds)
	}
}
