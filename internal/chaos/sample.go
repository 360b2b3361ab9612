package chaos

import (
	"context"
	"fmt"
	"sync"
	"time"

	"github.com/jackc/pgx/v5"
)

// sampleEvery is how often the progress is looked at.
const sampleEvery = 20 * time.Millisecond

// sample is a look at the progress.
type sample struct {
	at      time.Duration
	up      bool // the database answered
	due     bool // there was a job to be settled
	settled int64
}

// progressSQL reads two indexes, whatever the size of the tables. What is settled is counted by the rows of
// outcome_log: one for each batch and each sweep.
const progressSQL = `
	SELECT EXISTS (SELECT FROM lastseat.river_job j WHERE j.state = 'available' AND j.queue = 'lastseat'
	               AND j.kind <> 'payment.unheard_of' AND j.scheduled_at <= now()),
	       coalesce((SELECT l.number % 100000000000000000 FROM lastseat.outcome_log l
	                 ORDER BY l.timeline DESC, l.xid DESC, l.number DESC LIMIT 1), 0)`

// sampler looks at the progress all the time.
type sampler struct {
	url   func() string
	since time.Time

	mu      sync.Mutex
	samples []sample
}

func (s *sampler) run(ctx context.Context) {
	var conn *pgx.Conn
	defer func() {
		if conn != nil {
			_ = conn.Close(background)
		}
	}()
	for ctx.Err() == nil {
		now := sample{}
		limited, cancel := context.WithTimeout(ctx, 2*time.Second)
		if conn == nil || conn.IsClosed() {
			conn, _ = pgx.Connect(limited, s.url())
		}
		if conn != nil {
			err := conn.QueryRow(limited, progressSQL).Scan(&now.due, &now.settled)
			now.up = err == nil
		}
		cancel()
		now.at = time.Since(s.since)
		s.mu.Lock()
		s.samples = append(s.samples, now)
		s.mu.Unlock()
		time.Sleep(sampleEvery)
	}
}

func (s *sampler) all() []sample {
	s.mu.Lock()
	defer s.mu.Unlock()
	return append([]sample(nil), s.samples...)
}

// Gap is a time without anything settled, although there was something to settle.
type Gap struct {
	From, To time.Duration
	Down     time.Duration // how much of it the database did not answer
	Cause    string        // the faults of that time
}

func (g Gap) String() string {
	return fmt.Sprintf("%v at %v (%v of it the database was away): %s", (g.To - g.From).Round(time.Millisecond),
		g.From.Round(time.Millisecond), g.Down.Round(time.Millisecond), g.Cause)
}

// longestGap finds the longest time between two samples with something settled in between, as long as something was due
// or the database did not answer.
func longestGap(samples []sample) (longest Gap) {
	var now Gap
	last, open := int64(-1), false
	for i, s := range samples {
		if s.up && (s.settled != last || !s.due) {
			last, open = s.settled, false
			continue
		}
		if !open {
			open = true
			now = Gap{From: s.at}
			if i > 0 {
				now.From = samples[i-1].at
			}
		}
		if !s.up && i > 0 {
			now.Down += s.at - samples[i-1].at
		}
		if now.To = s.at; now.To-now.From > longest.To-longest.From {
			longest = now
		}
	}
	return longest
}

// recovery is how long after a time the next batch was seen to be settled; ok is false if none was. It begins with the
// first look after that time: what was settled just before, and not seen yet, is no recovery.
func recovery(samples []sample, after time.Duration) (took time.Duration, ok bool) {
	before, known := int64(0), false
	for _, s := range samples {
		switch {
		case s.at < after || !s.up:
		case !known:
			before, known = s.settled, true
		case s.settled != before:
			return s.at - after, true
		}
	}
	return 0, false
}
