package outbox_test

import (
	"slices"
	"testing"

	"github.com/lastseat/lastseat/outbox"
)

// Jobs that were asked for before somebody set the server's clock back by two hours have a time that is still to come.
// They are settled, in order. One that is scheduled for a later time waits for it, even if a scheduler whose clock is
// ahead has made it available.
func TestClockSetBack(t *testing.T) {
	t.Parallel()
	inBothForms(t, func(t *testing.T, b *bench) {
		keys := numbered("k", 5)
		b.enqueue(append(keys, "scheduled")...)
		b.exec(`UPDATE lastseat.river_job SET scheduled_at = scheduled_at + interval '2 h'`)
		b.exec(`UPDATE lastseat.river_job SET created_at = created_at + interval '2 h'
			WHERE args ->> 'key' IN ('k-0000', 'k-0003', 'k-0004')`)
		b.exec(`UPDATE lastseat.requests SET requested_at = requested_at + interval '2 h'
			WHERE key = 'k-0001'`) // the clock was set between the transaction's begin and the request
		b.exec(`UPDATE lastseat.river_job SET attempted_at = created_at WHERE args ->> 'key' = 'k-0002'`) // retried by hand
		told := &lines{}
		b.start(outbox.Settings{Logger: told.logger()})
		b.eventually("they are played", func() bool { return len(b.played()) == len(keys) })
		if played := b.played(); !slices.Equal(played, keys) {
			t.Errorf("played %v", played)
		}
		b.wantOutcome("scheduled", outbox.Pending, "")
		if !told.with("the server's clock was set back", "jobs=5") {
			t.Errorf("nothing is told of it: %q", told.all)
		}
	})
}
