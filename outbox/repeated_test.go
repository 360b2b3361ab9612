package outbox

import (
	"errors"
	"testing"
	"time"
)

// An error that comes with every attempt is told once a minute, another one at once.
func TestRepeatedErrorIsToldOnceAMinute(t *testing.T) {
	t.Parallel()
	missing, denied := errors.New("no such function"), errors.New("permission denied")
	var told repeated
	for at, step := range []struct {
		after time.Duration
		err   error
		anew  bool
	}{
		{0, missing, true}, {500 * time.Millisecond, missing, false}, {59 * time.Second, missing, false},
		{time.Minute, missing, true}, {61 * time.Second, denied, true}, {62 * time.Second, denied, false},
		{63 * time.Second, missing, true}, {124 * time.Second, missing, true},
	} {
		if anew := told.anew(time.Unix(0, 0).Add(step.after), step.err); anew != step.anew {
			t.Errorf("step %d: told anew %v, want %v", at, anew, step.anew)
		}
	}
}
