package outbox

import (
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgtype"
)

// The pause before an attempt doubles up to the longest one, whatever the number of attempts, and is never shorter than
// what the other side has asked for.
func TestCallPause(t *testing.T) {
	t.Parallel()
	now := time.Date(2026, 11, 27, 12, 0, 0, 0, time.UTC)
	at := func(after time.Duration) pgtype.Timestamptz {
		return pgtype.Timestamptz{Time: now.Add(after), Valid: true}
	}
	quick := CallTimes{Pause: time.Millisecond, Longest: 2 * time.Second}
	for name, test := range map[string]struct {
		times     CallTimes
		attempt   int
		notBefore pgtype.Timestamptz
		want      time.Duration
	}{
		"second":               {CallTimes{}, 1, at(0), time.Second},
		"fifth":                {CallTimes{}, 4, at(0), 8 * time.Second},
		"capped by default":    {CallTimes{}, 11, at(0), 10 * time.Minute},
		"the millionth":        {CallTimes{}, 1_000_000, at(0), 10 * time.Minute},
		"below a longest":      {quick, 11, at(0), 1024 * time.Millisecond},
		"capped by a longest":  {quick, 18, at(0), 2 * time.Second},
		"asked to wait longer": {quick, 18, at(time.Minute), time.Minute},
		"asked for before":     {quick, 2, at(-time.Minute), 2 * time.Millisecond},
	} {
		call := lastCall{attempt: test.attempt, result: Unknown, notBefore: test.notBefore}
		if step, wait := call.next(now, test.times.withDefaults()); step != callAgain || wait != test.want {
			t.Errorf("%s: step %d after %v, not after %v", name, step, wait, test.want)
		}
	}
}
