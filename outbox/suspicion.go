package outbox

import "slices"

// suspicion is all that the lane remembers of errors: what it suspects, and what it knows. It outlives the connection.
type suspicion struct {
	among   int      // the job that fails is one of so many at the head of the lane; 0: no job is suspected
	alone   int64    // the job that was alone in the batch that was cut off last; 0: that batch had several
	culprit *culprit // the job to charge with a failed attempt when its turn comes; nil: none
	deadly  []int64  // jobs that were alone in a batch when their worker ended; they come alone
	noRoom  bool     // Postgres has no room for predicate locks
	sweeper bool     // a sweeper has lost the connection: a batch comes before the next sweep
}

// culprit is a job that is known to have failed at this attempt.
type culprit struct {
	job        int64
	attempt    int   // 0: whichever comes next
	err        error // what the job did
	unwritable error // why its row can't take a failed attempt; nil: it can, as far as is known
}

// accuses tells whether a claimed job is the culprit. At another attempt it is not: then somebody else has charged it.
func (s *suspicion) accuses(c *claimed) bool {
	return s.culprit != nil && s.culprit.job == c.ID &&
		(s.culprit.attempt == c.Attempt || s.culprit.attempt == 0)
}

// isDeadly tells whether a worker has ended while it settled this job alone.
func (s *suspicion) isDeadly(c *claimed) bool { return slices.Contains(s.deadly, c.ID) }

// singles tells whether a job has to come alone.
func (s *suspicion) singles(c *claimed) bool { return s.accuses(c) || s.isDeadly(c) }

// search: a batch of n jobs failed, and one of them causes it.
func (s *suspicion) search(n int) { s.among = n }

// cutOff: a batch was cut off from outside.
func (s *suspicion) cutOff(jobs []*claimed) {
	s.among, s.alone = len(jobs), 0
	if len(jobs) == 1 {
		s.alone = jobs[0].ID
	}
}

// again tells whether these jobs are one that was cut off when it was alone the last time, too.
func (s *suspicion) again(jobs []*claimed) bool { return len(jobs) == 1 && jobs[0].ID == s.alone }

// accuse: the job's next turn is a failed attempt.
func (s *suspicion) accuse(c *claimed, err error) {
	s.culprit = &culprit{job: c.ID, attempt: c.Attempt, err: err}
}

// settled: a batch of n jobs was committed.
func (s *suspicion) settled(b *batch, n int) {
	s.among = max(0, s.among-n)
	s.noRoom = false
	if b.charged != nil {
		s.culprit = nil
	}
}
