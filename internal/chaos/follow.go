package chaos

import (
	"context"
	"errors"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
)

// follower reads all outcomes as they come, as a service does: page by page, each from the cursor of the last row.
type follower struct {
	url   func() string
	since time.Time

	mu   sync.Mutex
	feed []Outcome
	gone []Outcome // told before a failover that lost them
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
			rows, err := conn.Query(limited, feedSQL, cursor, 200)
			if err == nil {
				got, err = pgx.CollectRows(rows, outcomeOf)
			}
			if err != nil {
				got = nil // the page is read again
				if to, is := goesOn(err); is {
					cursor = f.forget(to)
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
	f.feed = append(f.feed, got...)
}

var cursorIn = regexp.MustCompile(`outcomes_since\('([^']*)'\)`)

// goesOn is the cursor with which a reader is to go on that knows outcomes which a failover has lost.
func goesOn(err error) (cursor string, is bool) {
	refused := (*pgconn.PgError)(nil)
	if !errors.As(err, &refused) || refused.Code != "LS002" {
		return "", false
	}
	found := cursorIn.FindStringSubmatch(refused.Hint)
	if found == nil {
		return "", false
	}
	return found[1], true
}

// forget takes back what came after a cursor, as a service has to, and returns the cursor.
func (f *follower) forget(cursor string) string {
	f.mu.Lock()
	defer f.mu.Unlock()
	for len(f.feed) > 0 && cursorAfter(f.feed[len(f.feed)-1].Cursor, cursor) {
		f.gone = append(f.gone, f.feed[len(f.feed)-1])
		f.feed = f.feed[:len(f.feed)-1]
	}
	return cursor
}

// cursorAfter compares two cursors of one timeline by their numbers; everything is after no cursor. To a service they
// are opaque: it keeps each beside what it did.
func cursorAfter(a, b string) bool {
	if b == "" {
		return true
	}
	timeline, _, _ := strings.Cut(b, ".")
	return strings.HasPrefix(a, timeline+".") && slices.Compare(cursorNumbers(a), cursorNumbers(b)) > 0
}

func cursorNumbers(cursor string) (all []int64) {
	for i, part := range strings.Split(cursor, ".") {
		if n, err := strconv.ParseInt(part, 10, 64); err == nil && i > 0 {
			all = append(all, n)
		}
	}
	return all
}

func (f *follower) all() []Outcome {
	f.mu.Lock()
	defer f.mu.Unlock()
	return append([]Outcome(nil), f.feed...)
}
