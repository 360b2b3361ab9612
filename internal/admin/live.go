package admin

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"strconv"
	"sync"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/lastseat/lastseat/internal/httplimit"
)

// live has figures that change all the time. It reads them once a second while somebody watches, however many do, and
// once in ten seconds for the picture of the last hour.
type live struct {
	look func(ctx context.Context, countTo int) (sample, error)

	mu       sync.Mutex
	watchers map[chan []byte]struct{}
	last     []byte // the event of the last second; nil: too old
	samples  []sample
	ended    bool
}

// sample is what was seen at a moment.
type sample struct {
	at     time.Time
	rate   float64       // settled a second
	due    int           // as far as they were counted
	oldest time.Duration // of those that are due
	failed bool          // nothing was seen
}

const (
	liveEvery    = time.Second
	samplesEvery = 10 // reads
	mostSamples  = 360
	mostWatchers = httplimit.MostConnections / 4
	mostSampled  = 100_000 // due requests of a queue that a sample counts
	sendLimit    = 10 * time.Second
)

// liveSQL counts what was settled in ten seconds, up to a second ago: a batch that began before is committed by then.
const liveSQL = `
	SELECT now(), coalesce((
		SELECT sum(cardinality(l.keys)) FROM (
			SELECT l.keys, l.settled_at FROM lastseat.outcome_log l
			ORDER BY l.timeline DESC, l.xid DESC, l.number DESC LIMIT 5000) l
		WHERE l.settled_at > now() - interval '11 s' AND l.settled_at <= now() - interval '1 s'), 0)::float8 / 10,
	       coalesce(sum(w.due), 0)::integer, coalesce(max(w.oldest), 0)::float8
	FROM (` + queuesSQL + `) AS w(queue, due, oldest, paused)`

func newLive(pool *pgxpool.Pool) *live {
	l := &live{watchers: make(map[chan []byte]struct{})}
	if pool == nil {
		return l
	}
	l.look = func(ctx context.Context, countTo int) (s sample, err error) {
		ctx, cancel := context.WithTimeout(ctx, readLimit)
		defer cancel()
		err = read(ctx, pool, func(tx pgx.Tx) error {
			var oldest float64
			err := tx.QueryRow(ctx, liveSQL, countTo+1).Scan(&s.at, &s.rate, &s.due, &oldest)
			s.oldest = time.Duration(max(0, oldest) * float64(time.Second))
			return err
		})
		return s, err
	}
	return l
}

// run reads until ctx is done, then it sends the watchers away.
func (l *live) run(ctx context.Context) {
	defer l.end()
	if l.look == nil {
		return
	}
	tick := time.NewTicker(liveEvery)
	defer tick.Stop()
	for n := 0; ; n++ {
		l.step(ctx, n%samplesEvery == 0)
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
	}
}

// step reads if somebody watches or a sample is due.
func (l *live) step(ctx context.Context, isSample bool) {
	l.mu.Lock()
	watched := len(l.watchers) > 0
	if !watched {
		l.last = nil
	}
	l.mu.Unlock()
	if !watched && !isSample {
		return
	}
	countTo := mostDue
	if isSample {
		countTo = mostSampled
	}
	seen, err := l.look(ctx, countTo)
	if err != nil {
		seen = sample{at: time.Now(), failed: true}
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if isSample {
		l.samples = append(l.samples, seen)
		l.samples = l.samples[max(0, len(l.samples)-mostSamples):]
	}
	l.last = event(seen, l.samples, isSample)
	for watcher := range l.watchers {
		select {
		case watcher <- l.last:
		default: // it has not taken the one before
		}
	}
}

// figures are what a browser shows in the elements of these names.
type figures struct {
	At      string   `json:"at"`
	Rate    string   `json:"rate"`
	Due     string   `json:"due"`
	Oldest  string   `json:"oldest"`
	Picture *picture `json:"picture,omitempty"`
}

func event(seen sample, samples []sample, hasPicture bool) []byte {
	told := figures{At: "the database does not answer", Rate: "?", Due: "?", Oldest: "?"}
	if !seen.failed {
		told = figures{
			At: seen.at.UTC().Format("2006-01-02 15:04:05Z"), Rate: fmt.Sprintf("%.1f", seen.rate),
			Due: strconv.Itoa(seen.due), Oldest: seen.oldest.Round(100 * time.Millisecond).String(),
		}
		if seen.due > mostDue {
			told.Due = "over 10,000"
		}
	}
	if hasPicture {
		drawn := drawHour(samples)
		told.Picture = &drawn
	}
	text, _ := json.Marshal(told) // text and numbers can be written
	return append(append([]byte("data: "), text...), "\n\n"...)
}

// watch returns what is told from now on; nil: too many watch, or the worker stops.
func (l *live) watch() chan []byte {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.ended || l.look == nil || len(l.watchers) >= mostWatchers {
		return nil
	}
	watcher := make(chan []byte, 1)
	if l.last != nil {
		watcher <- l.last
	}
	l.watchers[watcher] = struct{}{}
	return watcher
}

func (l *live) leave(watcher chan []byte) {
	l.mu.Lock()
	defer l.mu.Unlock()
	delete(l.watchers, watcher)
}

func (l *live) end() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.ended = true
	for watcher := range l.watchers {
		close(watcher)
	}
	clear(l.watchers)
}

// picture is that of the last hour.
func (l *live) picture() picture {
	l.mu.Lock()
	defer l.mu.Unlock()
	return drawHour(l.samples)
}

// ServeHTTP sends events until the viewer or the server goes.
func (l *live) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	watcher := l.watch()
	if watcher == nil {
		w.Header().Set("Retry-After", "10")
		http.Error(w, "too many watch, or the worker stops", http.StatusServiceUnavailable)
		return
	}
	defer l.leave(watcher)
	control := http.NewResponseController(w)
	w.Header().Set("Content-Type", "text/event-stream")
	w.Header().Set("X-Accel-Buffering", "no") // for nginx
	message := []byte(": live\n\n")
	for isOpen := true; isOpen; {
		_ = control.SetWriteDeadline(time.Now().Add(sendLimit)) // a viewer that doesn't read is let go
		if _, err := w.Write(message); err != nil || control.Flush() != nil {
			return
		}
		select {
		case message, isOpen = <-watcher:
		case <-r.Context().Done():
			return
		}
	}
}
