package jobs

import (
	"testing"
	"time"

	"pgregory.net/rapid"
)

// Requests that wait for a call come again in the order in which they wait, not much later than they could, and not so
// often that thousands of them keep a lane busy while the call is open.
func TestWaitersForACall(t *testing.T) {
	t.Parallel()
	began := time.Date(2026, 11, 27, 1, 2, 3, 456_789_000, time.UTC)
	p := &payment{updatedAt: began}
	rapid.Check(t, func(t *rapid.T) {
		first := began.Add(time.Duration(rapid.Int64Range(0, int64(48*time.Hour)).Draw(t, "first")))
		second := first.Add(time.Duration(rapid.Int64Range(0, int64(time.Hour)).Draw(t, "later")))
		wait := p.comesAgain(first)
		if first.Add(wait).After(second.Add(p.comesAgain(second))) {
			t.Fatalf("one that waits since %v comes after one that waits since %v", first.Sub(began), second.Sub(began))
		}
		if wait <= 0 || wait > max(time.Second, first.Sub(began)/8) || wait > longestLater {
			t.Fatalf("the call is open for %v, and it waits for %v", first.Sub(began), wait)
		}
	})
	looks := 0
	for now := began; now.Before(began.Add(24 * time.Hour)); looks++ {
		now = now.Add(p.comesAgain(now))
	}
	if looks > 300 {
		t.Errorf("one request comes %d times within a day", looks)
	}
	if wait := (&payment{}).comesAgain(began); wait > time.Second { // the call was written a moment ago, by this batch
		t.Errorf("it waits for %v", wait)
	}
}
