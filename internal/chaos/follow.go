package chaos

import (
	"context"
	"sync"
	"time"

	"github.com/jackc/pgx/v5"
)

// follower reads all outcomes as they come, as a service does: page by page, each from the cursor of the last row.
type follower struct {
	url   func() string
	since time.Time

	mu   sync.Mutex
	feed []Outcome
	seen []time.Duration // when each came
}

func (f *follower) run(ctx context.Context) {
	var conn *pgx.Conn
	defer func() {
		if conn != nil {
			_ = conn.Close(background)
		}
	}()
	cursor := ""
	for ctx.Err() == nil {
		limited, cancel := context.WithTimeout(ctx, 10*time.Second)
		if conn == nil || conn.IsClosed() {
			conn, _ = pgx.Connect(limited, f.url())
		}
		var got []Outcome
		if conn != nil {
			if rows, err := conn.Query(limited, feedSQL, cursor, 200); err == nil {
				got, err = pgx.CollectRows(rows, outcomeOf)
				if err != nil {
					got = nil // the page is read again
				}
			}
		}
		cancel()
		if len(got) > 0 {
			cursor = got[len(got)-1].Cursor
			f.add(got)
		}
		if len(got) < 200 {
			time.Sleep(10 * time.Millisecond)
		}
	}
}

func (f *follower) add(got []Outcome) {
	f.mu.Lock()
	defer f.mu.Unlock()
	now := time.Since(f.since)
	for _, o := range got {
		f.feed, f.seen = append(f.feed, o), append(f.seen, now)
	}
}

func (f *follower) all() []Outcome {
	f.mu.Lock()
	defer f.mu.Unlock()
	return append([]Outcome(nil), f.feed...)
}
