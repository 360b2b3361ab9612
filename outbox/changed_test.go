package outbox_test

import (
	"testing"

	"github.com/lastseat/lastseat/internal/testdb"
	"github.com/lastseat/lastseat/outbox"
)

// What somebody changes in the arguments of a job that waits is not settled, whoever they are and however small the
// change is: the request fails with a code of its own, and the job stays with what it says now. Put right and retried,
// it is settled.
func TestChangedArgumentsAreNotSettled(t *testing.T) {
	t.Parallel()
	inBothForms(t, func(t *testing.T, b *bench) {
		for name, change := range map[string]string{
			"a value":     `args = jsonb_set(args, '{note}', '"for mallory"')`,
			"one more":    `args = args || '{"more": 1}'`,
			"one less":    `args = args - 'note'`,
			"a spelling":  `args = args || '{"more": null}'`,
			"all of them": `args = jsonb_build_object('key', args -> 'key')`,
		} {
			key := "changed " + name
			if _, err := outbox.EnqueueMany(t.Context(), b.pool, []outbox.Request{
				{Key: key, Args: toy{Note: "for ada"}}, {Key: "other " + name, Args: toy{Note: "x"}},
			}); err != nil {
				t.Fatal(err)
			}
			const ofKey = ` WHERE args ->> 'key' = $1`
			before := testdb.Scalar[string](t, b.pool, `SELECT args::text FROM lastseat.river_job`+ofKey, key)
			b.exec(`UPDATE lastseat.river_job SET `+change+ofKey, key)
			b.drain(outbox.Settings{})
			b.wantOutcome(key, outbox.Failed, outbox.CodeArgsChanged)
			b.wantOutcome("other "+name, outbox.Applied, "played")
			if state := testdb.Scalar[string](
				t,
				b.pool,
				`SELECT state::text FROM lastseat.river_job`+ofKey,
				key,
			); state != "discarded" {
				t.Errorf("%s: the job is %s", name, state)
			}
			b.exec(`UPDATE lastseat.river_job SET state = 'available', finalized_at = NULL`+ofKey, key) // in River UI
			b.drain(outbox.Settings{})
			b.wantOutcome(key, outbox.Failed, outbox.CodeArgsChanged)
			b.exec(`UPDATE lastseat.river_job SET args = $2::text::jsonb`+ofKey, key, before)
			b.exec(`SELECT lastseat.retry($1)`, key)
			b.drain(outbox.Settings{})
			b.wantOutcome(key, outbox.Applied, "played")
		}
		if played := b.played(); len(played) != 10 {
			t.Errorf("played %v", played)
		}
	})
}

// The same job in another place: deleted, and inserted again with another kind or other arguments.
func TestReplacedJobIsNotSettled(t *testing.T) {
	t.Parallel()
	inBothForms(t, func(_ *testing.T, b *bench) {
		b.enqueue("replaced")
		b.exec(`DO $$ BEGIN
			SET LOCAL lastseat.lane = 'on';
			CREATE TEMPORARY TABLE kept ON COMMIT DROP AS TABLE lastseat.river_job;
			DELETE FROM lastseat.river_job;
			INSERT INTO lastseat.river_job (id, kind, queue, max_attempts, args)
			SELECT id, kind, queue, max_attempts, args || '{"note": "other"}' FROM kept;
		END $$`)
		b.drain(outbox.Settings{})
		b.wantOutcome("replaced", outbox.Failed, outbox.CodeArgsChanged)
	})
}

// Arguments that are spelled in another way than the canonical one are as they were asked for, through every door.
func TestSpelledArgumentsAreAsAsked(t *testing.T) {
	t.Parallel()
	inBothForms(t, func(t *testing.T, b *bench) {
		all := []string{
			`{}`,
			`{"note": null}`,
			`{"note": "k", "key": "KEY"}`,
			`{"note": "\u00e9 \" \\ {[,:"}`,
			`{"note": "x", "n": 1.50}`,
			`{"a": {"key": 1, "b": [{"key": "x"}, "}"]}, "note": "x"}`,
			`{"zz": [], "metadata": {}, "note": ""}`,
			`{"ke": 1, "key1": 2, "kay": 3, "k,y": ",", "note": "x"}`,
			`{"longer than key": 1}`,
			`{"a": 1e400, "note": "\u0001"}`,
		}
		for i, args := range all {
			for door, call := range map[string]string{
				"one": `SELECT lastseat.enqueue('toy', $1, replace($2, 'KEY', $1)::jsonb)`,
				"many": `SELECT lastseat.enqueue_many(jsonb_build_array(jsonb_build_object('kind', 'toy', 'key', $1::text, 'args',
					replace($2, 'KEY', $1)::jsonb)))`,
				"raw": `INSERT INTO lastseat.river_job (kind, queue, max_attempts, args)
					VALUES ('toy', 'lastseat', 25, replace($2, 'KEY', $1)::jsonb || jsonb_build_object('key', $1::text))`,
			} {
				b.exec(call, door+string(rune('a'+i)), args)
			}
		}
		b.drain(outbox.Settings{})
		for i, args := range all {
			for _, door := range []string{"one", "many", "raw"} {
				if b.wantOutcome(door+string(rune('a'+i)), outbox.Applied, "played"); t.Failed() {
					t.Fatalf("%s by %s", args, door)
				}
			}
		}
	})
}
