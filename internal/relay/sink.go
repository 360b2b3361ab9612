package relay

import (
	"context"
	"errors"
	"time"
)

// Sink delivers to a target.
type Sink interface {
	// Deliver hands events to the target, in their order, and returns how many of them, from the first, it has
	// acknowledged. It may stop early without an error, so that the cursor moves from time to time. What it has sent
	// beyond that may have arrived as well: in order, and without a gap. It ends when ctx does. after is the cursor of
	// the last outcome that was acknowledged before: see [Acknowledged].
	Deliver(ctx context.Context, after string, events []Event) (int, error)
	// Limits are how the target is served.
	Limits() Limits
	// Close gives up the connections.
	Close()
}

// Limits are how a target is served.
type Limits struct {
	Batch   int           // events that Deliver gets at once
	Backoff time.Duration // the longest wait between two attempts
	GiveUp  time.Duration // disable the target when it has failed for so long without a success; 0: never
}

// GoneError says that the target wants nothing any more: it is disabled at once.
type GoneError struct{ Err error }

func (e *GoneError) Error() string { return e.Err.Error() }

func (e *GoneError) Unwrap() error { return e.Err }

// BehindError says that the target has lost outcomes that it had acknowledged: it ends with an earlier one.
type BehindError struct{ Cursor string }

func (e *BehindError) Error() string {
	return "the target has lost outcomes that it had acknowledged: it ends at the cursor " + e.Cursor
}

// LaterError says when the target wants to be asked again.
type LaterError struct {
	Err   error
	After time.Duration
}

func (e *LaterError) Error() string { return e.Err.Error() }

func (e *LaterError) Unwrap() error { return e.Err }

// wait is how long to wait after so many failures in a row, of which err is the last.
func (l Limits) wait(failures int, err error) time.Duration {
	const first = 600 * time.Millisecond
	wait := l.Backoff
	if shift := max(failures-1, 0); shift < 30 {
		wait = min(l.Backoff, first<<shift)
	}
	if later := (*LaterError)(nil); errors.As(err, &later) {
		wait = min(max(wait, later.After), max(l.Backoff, time.Minute))
	}
	return wait
}
