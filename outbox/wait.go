package outbox

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/lastseat/lastseat/internal/retry"
)

const (
	// waitPoll is how often a watch looks without a notification, which may be lost with its connection or in a pooler.
	waitPoll = 500 * time.Millisecond
	// watchLingers is how long a watch keeps its connection after the last one who waited: the next may be about to come.
	watchLingers = 50 * time.Millisecond
	// unlistenLimit is how long a watch tries to leave its connection as it was.
	unlistenLimit = time.Second
	// mostShared is how many keys a call may wait for on the pool's shared watch. A call with more keys gets a watch of
	// its own, so that the others don't wait until all of them have been read.
	mostShared = 100
)

// Wait returns when all requests with these keys are settled, with their outcomes in the order of the keys. When
// ctx ends first, the error is ctx's and the outcomes are those known so far, including pending ones. For a key
// that was never used the error is an [ErrUnknown].
//
// All who wait at the same time share one connection of the pool.
func Wait(ctx context.Context, pool *pgxpool.Pool, keys ...string) ([]Outcome, error) {
	if len(keys) == 0 {
		return nil, nil
	}
	w := &waiter{keys: keys, done: make(chan struct{})}
	watch := watchFor(pool, w)
	select {
	case <-w.done:
	case <-ctx.Done():
		if !watch.leave(w) { // otherwise it was told everything in this moment
			return w.outcomes, ctx.Err()
		}
	}
	return w.outcomes, w.err
}

// waiter is a call of Wait. Its watch's lock guards its fields until done is closed, or until it has left.
type waiter struct {
	keys     []string
	outcomes []Outcome // of the last look
	err      error
	done     chan struct{}
}

// watch listens on one connection for outcomes, and looks for all who wait.
type watch struct {
	pool   *pgxpool.Pool
	cancel context.CancelFunc

	mu      sync.Mutex
	waiting map[*waiter]bool   // true: looked for at least once
	wake    context.CancelFunc // ends its wait for a notification; nil: it does not wait
	end     *time.Timer        // nil: somebody waits
}

var watches = struct {
	sync.Mutex
	of map[*pgxpool.Pool]*watch
}{of: make(map[*pgxpool.Pool]*watch)}

// watchFor has the pool's watch look for w. A watch that has no one to look for ends after a while.
func watchFor(pool *pgxpool.Pool, w *waiter) *watch {
	watches.Lock()
	defer watches.Unlock()
	shared := len(w.keys) <= mostShared
	if known := watches.of[pool]; shared && known != nil {
		known.join(w)
		return known
	}
	ctx, cancel := context.WithCancel(context.Background()) // it outlives the call that began it
	made := &watch{pool: pool, cancel: cancel, waiting: map[*waiter]bool{w: false}}
	if shared {
		watches.of[pool] = made
	}
	go made.run(ctx)
	return made
}

func (h *watch) join(w *waiter) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.waiting[w] = false
	if h.end != nil {
		h.end.Stop()
		h.end = nil
	}
	if h.wake != nil {
		h.wake()
	}
}

// leave takes w out, and tells whether it was done before.
func (h *watch) leave(w *waiter) (done bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	_, waits := h.waiting[w]
	h.forget(w)
	return !waits
}

// forget takes w out. The lock is held.
func (h *watch) forget(w *waiter) {
	delete(h.waiting, w)
	if len(h.waiting) == 0 && h.end == nil {
		h.end = time.AfterFunc(watchLingers, h.over)
	}
}

// over ends the watch, unless somebody has come meanwhile.
func (h *watch) over() {
	watches.Lock()
	defer watches.Unlock()
	h.mu.Lock()
	defer h.mu.Unlock()
	if len(h.waiting) == 0 {
		h.close()
	}
}

// close has nobody join the watch any more, and ends it. Both locks are held.
func (h *watch) close() {
	if watches.of[h.pool] == h {
		delete(watches.of, h.pool)
	}
	h.cancel()
}

// run looks until the watch is over. After an error all who wait have that error.
func (h *watch) run(ctx context.Context) {
	err := h.listen(ctx)
	watches.Lock()
	defer watches.Unlock()
	h.mu.Lock()
	defer h.mu.Unlock()
	h.close()
	for w := range h.waiting {
		h.tell(w, w.outcomes, err)
	}
}

func (h *watch) listen(ctx context.Context) error {
	conn, err := h.pool.Acquire(ctx)
	if err != nil {
		return err
	}
	defer conn.Release()
	if _, err := conn.Exec(ctx, "LISTEN "+outcomeChannel); err != nil {
		return fmt.Errorf("listen for outcomes: %w", err)
	}
	defer func() {
		limited, cancel := context.WithTimeout(context.WithoutCancel(ctx), unlistenLimit)
		defer cancel()
		_, _ = conn.Exec(limited, "UNLISTEN *") // pgx closes a connection that does not answer
	}()
	for all := true; ; {
		if err := h.look(ctx, conn.Conn(), h.who(all)); err != nil {
			return err
		}
		if all, err = h.await(ctx, conn.Conn()); err != nil {
			return err
		}
	}
}

// who is to be looked for: those who have not been yet, or all.
func (h *watch) who(all bool) []*waiter {
	h.mu.Lock()
	defer h.mu.Unlock()
	var those []*waiter
	for w, looked := range h.waiting {
		if all || !looked {
			those = append(those, w)
			h.waiting[w] = true
		}
	}
	return those
}

// await waits until there is something to look for: rung, if it may be for all.
func (h *watch) await(ctx context.Context, conn *pgx.Conn) (rung bool, err error) {
	limited, cancel := context.WithTimeout(ctx, waitPoll)
	defer cancel()
	wait, wake := context.WithCancel(limited)
	defer wake()
	h.mu.Lock()
	h.wake = wake
	for _, looked := range h.waiting {
		if !looked {
			wake()
		}
	}
	h.mu.Unlock()
	_, err = conn.WaitForNotification(wait)
	h.mu.Lock()
	h.wake = nil
	h.mu.Unlock()
	switch {
	case err == nil:
		for err == nil { // one look is for all that have come
			wake()
			_, err = conn.WaitForNotification(wait)
		}
		return true, nil
	case ctx.Err() != nil:
		return false, ctx.Err()
	case wait.Err() != nil:
		return limited.Err() != nil, nil
	}
	return false, fmt.Errorf("wait for outcomes: %w", err)
}

// look reads the outcomes of all keys of those who wait, and tells them. If the statement fails, each of them is looked
// for alone, because the keys of one of them may be the cause.
func (h *watch) look(ctx context.Context, conn *pgx.Conn, those []*waiter) error {
	if len(those) == 0 {
		return nil
	}
	var keys []string
	for _, w := range those {
		keys = append(keys, w.keys...)
	}
	outcomes, err := Outcomes(ctx, conn, keys...)
	switch {
	case err == nil:
		h.tellAll(those, outcomes)
		return nil
	case conn.IsClosed() || retry.SQLState(err) == "" && !errors.Is(err, ErrInvalid):
		return err
	case len(those) > 1:
		for _, w := range those {
			if err := h.look(ctx, conn, []*waiter{w}); err != nil {
				return err
			}
		}
		return nil
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	h.tell(those[0], those[0].outcomes, err)
	return nil
}

func (h *watch) tellAll(those []*waiter, outcomes []Outcome) {
	byKey := make(map[string]*Outcome, len(outcomes))
	for i := range outcomes {
		byKey[outcomes[i].Key] = &outcomes[i]
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, w := range those {
		found := make([]Outcome, 0, len(w.keys))
		var missing error
		pending := false
		for _, key := range w.keys {
			switch o := byKey[key]; {
			case o != nil:
				found = append(found, *o)
				pending = pending || o.Status == Pending
			case missing == nil:
				missing = fmt.Errorf("%w: no request has the key %q", ErrUnknown, key)
			}
		}
		if pending && missing == nil {
			w.outcomes = found
			continue
		}
		h.tell(w, found, missing)
	}
}

// tell ends w's wait, unless it has left. The lock is held.
func (h *watch) tell(w *waiter, outcomes []Outcome, err error) {
	if _, waits := h.waiting[w]; waits {
		w.outcomes, w.err = outcomes, err
		h.forget(w)
		close(w.done)
	}
}
