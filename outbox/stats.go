package outbox

import "sync/atomic"

// Stats counts what a worker has done since it was made.
type Stats struct {
	batches, applied, rejected, duplicates, failures, conflicts, swept atomic.Int64
}

// Snapshot is the state of [Stats] at a moment.
type Snapshot struct {
	Batches    int64 `json:"batches"`
	Applied    int64 `json:"applied"`
	Rejected   int64 `json:"rejected"`
	Duplicates int64 `json:"duplicates"` // jobs of a request that another job had settled, and misused keys
	Failures   int64 `json:"failures"`   // attempts that ended in an error or a panic
	Conflicts  int64 `json:"conflicts"`  // transactions tried again after 40001 or 40P01
	Swept      int64 `json:"swept"`      // rows that ran out: holds, authorizations
}

// Snapshot reads the counters.
func (s *Stats) Snapshot() Snapshot {
	return Snapshot{
		Batches: s.batches.Load(), Applied: s.applied.Load(), Rejected: s.rejected.Load(),
		Duplicates: s.duplicates.Load(), Failures: s.failures.Load(),
		Conflicts: s.conflicts.Load(), Swept: s.swept.Load(),
	}
}

// count adds a batch and returns how many of its jobs were dealt with. A batch that only charged a job counts as a
// failure, not as a batch.
func (s *Stats) count(b *batch) int {
	var applied, rejected, duplicates, failures, probes, calls int64
	for i, c := range b.jobs {
		switch {
		case c.fate == postponed:
		case c.fate == probe:
			probes++
		case c.fate == charge || c.fate == changed || b.results[i].err != nil:
			failures++
		case c.fate == underway || b.results[i].unsettled():
			calls++
		case c.fate == duplicate || c.fate == misuse:
			duplicates++
		case b.results[i].Status == Applied:
			applied++
		default:
			rejected++
		}
	}
	if b.charged == nil && probes < int64(len(b.jobs)) {
		s.batches.Add(1)
	}
	s.applied.Add(applied)
	s.rejected.Add(rejected)
	s.duplicates.Add(duplicates)
	s.failures.Add(failures)
	return int(applied + rejected + duplicates + failures + probes + calls)
}
