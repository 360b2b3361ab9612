package outbox

import (
	"time"

	"github.com/lastseat/lastseat/internal/retry"
)

const (
	shortestBackoff = 5 * time.Millisecond
	longestPause    = time.Second
)

// pace decides how many jobs the next batch may have, and how long the lane pauses.
//
// After a conflict the same batch runs again, each time after a longer pause; when its tries are used up it runs
// with half as many jobs, and so on down to one. Every batch that settles doubles the limit again.
//
// The search for a job that fails is a bisection: the next batch is the first half of the suspects. Either the job is
// among them, or they settle and it is in the other half.
type pace struct {
	limit   int // after conflicts; 0: the full batch
	room    int // how many jobs like the last ones fit into a transaction; 0: the full batch
	tries   int // conflicts in a row
	glances int // in a row
	losses  int // of a connection, since the last batch that settled
}

// next is the size of the next batch: full is the most it may have, among the number of suspects at the head of the
// lane.
func (p *pace) next(full, among int) int {
	if p.limit == 0 || p.limit > full {
		p.limit = full
	}
	if p.room >= full {
		p.room = 0
	}
	limit := p.limit
	if p.room > 0 {
		limit = min(limit, p.room)
	}
	if among > 0 {
		limit = min(limit, max(1, among/2))
	}
	return limit
}

// fitted: a transaction had room for n jobs. If it was not full, the next one may have room for more.
func (p *pace) fitted(n int, full bool) {
	switch {
	case full:
		p.room = n
	case n >= p.room:
		p.room *= 2
	}
}

// settled: a batch was committed.
func (p *pace) settled() {
	p.tries, p.glances, p.losses = 0, 0, 0
	p.limit *= 2
}

// lost: a connection was lost with a batch. Once may be a restart. When it happens again before anything has settled,
// it may be too much for something in between, so the next batch is half as big.
func (p *pace) lost() {
	if p.losses++; p.losses > 1 {
		p.limit = max(1, p.limit/2)
	}
}

// found: a job was found to fail. Many like it may follow, and each would be found by halving the full batch again. So
// the next batch has one job, and the limit doubles from there.
func (p *pace) found() { p.tries, p.limit = 0, 1 }

// charged: a batch was committed that only charged a job. It says nothing of the next ones.
func (p *pace) charged() { p.tries, p.glances = 0, 0 }

// forgetConflicts: the last batch ended in something else than a conflict.
func (p *pace) forgetConflicts() { p.tries = 0 }

// conflict says how long to wait before the next try, and whether the tries with a single job are used up.
func (p *pace) conflict(retries int) (pause time.Duration, exhausted bool) {
	p.tries++
	if p.tries <= retries {
		return retry.Jitter(shortestBackoff << p.tries), false
	}
	p.tries = 0
	if p.limit > 1 {
		p.limit /= 2
		return retry.Jitter(shortestBackoff), false
	}
	return longestPause/2 + retry.Jitter(longestPause/2), true
}

// glance is the pause between two looks of a lane that can't sleep: 5 ms, doubling up to 80.
func (p *pace) glance() time.Duration {
	p.glances = min(p.glances+1, 5)
	return shortestBackoff << (p.glances - 1)
}
