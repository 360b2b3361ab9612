package outbox_test

import (
	"slices"
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

// A row that refuses every change (damage, a constraint, somebody's trigger) keeps no other from coming due, and is
// named. When it takes changes again, it is tried again, at the latest by the next worker.
func TestRowThatRefusesStopsNoScheduledRequest(t *testing.T) {
	t.Parallel()
	inBothForms(t, func(t *testing.T, b *bench) {
		b.exec(`CREATE FUNCTION public.refuse() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE 'not this one'; END $$;
			CREATE TRIGGER refuse BEFORE UPDATE ON lastseat.river_job FOR EACH ROW
			WHEN (OLD.args ->> 'note' IN ('k-0007', 'k-0008', 'k-0031') AND NEW.state = 'available')
			EXECUTE FUNCTION public.refuse()`)
		keys := numbered("k", 40)
		b.enqueue(keys...)
		b.exec(`ALTER TABLE lastseat.river_job DISABLE TRIGGER refuse`)
		b.exec(`UPDATE lastseat.river_job
			SET state = (CASE WHEN id % 2 = 0 THEN 'scheduled' ELSE 'retryable' END)::lastseat.river_job_state,
			    scheduled_at = now() - interval '1 s'`)
		b.exec(`ALTER TABLE lastseat.river_job ENABLE TRIGGER refuse`)
		told := &lines{}
		b.drain(outbox.Settings{Logger: told.logger()})
		good := slices.DeleteFunc(slices.Clone(keys), func(key string) bool {
			return key == "k-0007" || key == "k-0008" || key == "k-0031"
		})
		if played := b.played(); !slices.Equal(slices.Sorted(slices.Values(played)), good) {
			t.Errorf("played %v", played)
		}
		for _, id := range b.keys(`SELECT id::text FROM lastseat.river_job`) {
			if !told.with("can't be made available", "job_id="+id+" ") {
				t.Errorf("no line names job %s: %q", id, told.all)
			}
		}
		b.exec(`DROP TRIGGER refuse ON lastseat.river_job`)
		b.drain(outbox.Settings{})
		if n := len(b.played()); n != len(keys) {
			t.Errorf("%d played, want %d", n, len(keys))
		}
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
