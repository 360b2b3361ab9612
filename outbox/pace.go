package outbox

import "time"

// pace decides how many jobs the next batch may have.
//
// Conflicts are nobody's fault: the same batch again after a growing pause, then half of it, and so on down to one job;
// success doubles it back. An error of a job among n is searched for by bisection: the first half either has it or
// settles, and then it is among the rest.
type pace struct {
	limit    int // after conflicts; 0: the full batch
	room     int // how many of the jobs that came last go into a transaction; 0: the full batch
	tries    int // conflicts in a row
	suspects int // the job that failed is among so many at the head of the lane
	glances  int // in a row
}

func (p *pace) next(full int) int {
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
	if p.suspects > 0 {
		limit = min(limit, max(1, p.suspects/2))
	}
	return limit
}

// fitted: n jobs go into a transaction. If it is not full, there may be room for more than it was looked for.
func (p *pace) fitted(n int, full bool) {
	switch {
	case full:
		p.room = n
	case n >= p.room:
		p.room *= 2
	}
}

func (p *pace) settled(n int) {
	p.tries, p.glances = 0, 0
	p.limit *= 2
	p.suspects = max(0, p.suspects-n)
}

// suspect: a batch of n jobs failed, n > 1.
func (p *pace) suspect(n int) { p.suspects, p.tries = n, 0 }

// found: a job failed alone.
func (p *pace) found() { p.suspects, p.tries = 0, 0 }

// conflict says how long to wait before the next try, and whether tries at a single job are used up.
func (p *pace) conflict(retries int) (pause time.Duration, exhausted bool) {
	p.tries++
	if p.tries <= retries {
		return jitter(shortestBackoff << p.tries), false
	}
	p.tries = 0
	if p.limit > 1 {
		p.limit /= 2
		return jitter(shortestBackoff), false
	}
	return longestPause/2 + jitter(longestPause/2), true
}

// glance is the pause between two looks of a lane that can't sleep: 5 ms, doubling up to 80.
func (p *pace) glance() time.Duration {
	p.glances = min(p.glances+1, 5)
	return shortestBackoff << (p.glances - 1)
}
