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
	note    string // what the sessions of the workers do, when nothing has been settled for a while
}

// progressSQL reads two indexes, whatever the size of the tables. What is settled is counted by the links of the
// history that the lanes of payments and reservations add: at least one for each batch and each sweep. Those of the
// other worker don't count, which goes on meanwhile.
const progressSQL = `
	SELECT EXISTS (SELECT FROM lastseat.river_job j WHERE j.state = 'available' AND j.queue = 'lastseat'
	               AND j.kind <> 'payment.unheard_of' AND j.scheduled_at <= now()),
	       (SELECT coalesce(sum((SELECT h.number FROM lastseat.history h
	                             WHERE h.chain = format('lastseat %s/%s', n, $1::int)
	                             ORDER BY h.number DESC LIMIT 1)), 0)::bigint FROM generate_series(0, $1::int - 1) AS n)`

const (
	noteAfter = 3 * time.Second
	noteSQL   = `
	SELECT coalesce(string_agg(format('%s: %s %s%s: %s', a.application_name, a.state, a.wait_event,
	         ' blocked by ' || nullif(array_to_string(pg_blocking_pids(a.pid), ','), ''),
	         left(regexp_replace(a.query, '\s+', ' ', 'g'), 60)), '; ' ORDER BY a.application_name),
	       'no session of a lane')
	FROM pg_stat_activity a WHERE a.usename = 'bench_worker' AND a.application_name = 'lastseat lane'`
)

// sampler looks at the progress all the time.
type sampler struct {
	url   func() string
	since time.Time
	lanes int

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
	moved, noted := time.Now(), time.Time{}
	last := int64(0)
	for ctx.Err() == nil {
		now := sample{}
		limited, cancel := context.WithTimeout(ctx, 2*time.Second)
		if conn == nil || conn.IsClosed() {
			conn, _ = pgx.Connect(limited, s.url())
		}
		if conn != nil {
			err := conn.QueryRow(limited, progressSQL, s.lanes).Scan(&now.due, &now.settled)
			now.up = err == nil
			if !now.due || now.settled != last {
				moved, last = time.Now(), now.settled
			} else if now.up && time.Since(moved) > noteAfter && time.Since(noted) > time.Second {
				noted = time.Now()
				_ = conn.QueryRow(limited, noteSQL).Scan(&now.note)
			}
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
	Notes    []string      // what the workers did meanwhile
}

func (g Gap) String() string {
	return fmt.Sprintf("%v at %v (%v of it the database was away): %s %q", (g.To - g.From).Round(time.Millisecond),
		g.From.Round(time.Millisecond), g.Down.Round(time.Millisecond), g.Cause, g.Notes)
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
		if s.note != "" {
			now.Notes = append(now.Notes, s.note)
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
