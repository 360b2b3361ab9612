package outbox_test

import (
	"testing"
	"time"

	"github.com/lastseat/lastseat/outbox"
)

// An odd row is one that Postgres takes and River can't read: it stops River's scheduler for the whole schema.
func TestOddRowStopsNoScheduledRequest(t *testing.T) {
	t.Parallel()
	inBothForms(t, func(t *testing.T, b *bench) {
		for _, odd := range []string{"tags", "errors", "attempted_by"} {
			b.exec(`INSERT INTO lastseat.river_job (kind, queue, args, state, scheduled_at, ` + odd + `)
				VALUES ('odd', 'elsewhere', '{}', 'scheduled', now(), '{NULL}')`)
		}
		request := outbox.Request{Key: "later", Args: toy{}, ScheduledAt: time.Now().Add(time.Second)}
		if _, err := outbox.EnqueueMany(t.Context(), b.pool, []outbox.Request{request}); err != nil {
			t.Fatal(err)
		}
		b.start(outbox.Settings{})
		b.eventually("it is played", func() bool { return len(b.played()) == 1 })
		b.wantOutcome("later", outbox.Applied, "played")
	})
}

// What came due while no worker was up is settled by a drain, too.
func TestDrainSettlesWhatHasComeDue(t *testing.T) {
	t.Parallel()
	inBothForms(t, func(t *testing.T, b *bench) {
		requests := []outbox.Request{
			{Key: "early", Args: toy{}, ScheduledAt: time.Now().Add(time.Hour)},
			{Key: "late", Args: toy{}, ScheduledAt: time.Now().Add(2 * time.Hour)},
		}
		if _, err := outbox.EnqueueMany(t.Context(), b.pool, requests); err != nil {
			t.Fatal(err)
		}
		b.exec(`UPDATE lastseat.river_job SET scheduled_at = now() - interval '1 s' WHERE args ->> 'key' = 'early'`)
		b.drain(outbox.Settings{})
		b.wantOutcome("early", outbox.Applied, "played")
		b.wantOutcome("late", outbox.Pending, "")
	})
}
