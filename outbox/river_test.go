package outbox_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/jackc/pgx/v5"
	"github.com/riverqueue/river"
	"github.com/riverqueue/river/riverdriver/riverpgxv5"

	"github.com/lastseat/lastseat/outbox"
)

// riverToy is what a River worker does with the same jobs.
type riverToy struct {
	river.WorkerDefaults[toy]
}

// Work records what the lane records: the outcome, in River's own place for a job's output.
func (riverToy) Work(ctx context.Context, job *river.Job[toy]) error {
	if err := behave(job.Args.Note); err != nil {
		return err
	}
	return river.RecordOutput(ctx, map[string]any{
		"status": "applied", "code": "played", "detail": map[string]any{"attempt": job.Attempt},
	})
}

func behave(note string) error {
	switch note {
	case "error":
		return errors.New("the printer is on fire")
	case "panic":
		panic("index out of luck")
	}
	return nil
}

// riverRowSQL is all of a job's row but what differs from run to run: ids, and times where only their being there and
// their distance count. River's policy is errors^4 seconds, a tenth more or less.
const riverRowSQL = `
	SELECT jsonb_pretty(jsonb_build_object(
		'state', state, 'attempt', attempt, 'max_attempts', max_attempts, 'priority', priority, 'kind', kind, 'tags', tags,
		'attempted', attempted_at IS NOT NULL, 'attempted_by', attempted_by, 'finalized', finalized_at IS NOT NULL,
		'finalized after attempted', finalized_at >= attempted_at, 'metadata', metadata - 'cancel_attempted_at',
		  'unique_key', unique_key,
		'wait', CASE WHEN state IN ('available', 'retryable')
		  THEN round(extract(epoch FROM scheduled_at - attempted_at) / power(cardinality(errors), 4)) END,
		'last error', errors[cardinality(errors)] - 'at' - 'trace', 'traced', errors[cardinality(errors)] ->> 'trace' <> '',
		'error at', CASE WHEN (errors[cardinality(errors)] ->> 'attempt')::int = attempt
		  THEN (errors[cardinality(errors)] ->> 'at')::timestamptz BETWEEN attempted_at - interval '1 s' AND clock_timestamp()
		  END))
	FROM lastseat.river_job WHERE queue = $1 AND args ->> 'key' = $2`

const rivers = "rivers"

// The rows that the lane writes are those of a River client, for River UI and River's clients read them.
func TestRowsAreRivers(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	ctx := t.Context()
	b.settler.set(func(_ context.Context, _ pgx.Tx, job outbox.Job) error {
		var args toy
		if err := json.Unmarshal(job.Args, &args); err != nil {
			return err
		}
		return behave(args.Note)
	})
	cases := []struct {
		key, note         string
		attempts, allowed int // used before, and allowed in all
	}{
		{"success", "", 0, 25},
		{"success at the third attempt", "", 2, 25},
		{"first error", "error", 0, 25}, // retried in a second: available
		{"third error", "error", 2, 25}, // in a minute: retryable
		{"last error", "error", 24, 25},
		{"only attempt", "error", 0, 1},
		{"panic", "panic", 1, 25},
		{"last panic", "panic", 2, 3},
		{"scheduled", "", 0, 25},
		{"cancelled", "", 0, 25},
	}
	const insert = `
		INSERT INTO lastseat.river_job (kind, queue, args, attempt, max_attempts, errors, state, scheduled_at)
		VALUES ('toy', $1, jsonb_build_object('key', $2::text, 'note', $3::text), $4::smallint, $5,
		        ARRAY(SELECT jsonb_build_object('at', now(), 'attempt', n, 'error', 'x', 'trace', '')
		          FROM generate_series(1, $4::smallint) n),
		        CASE WHEN $2 = 'scheduled' THEN 'scheduled' ELSE 'available' END::lastseat.river_job_state,
		        now() + CASE WHEN $2 = 'scheduled' THEN '1 s' ELSE '0 s' END::interval) RETURNING id`
	workers := river.NewWorkers()
	river.AddWorker(workers, &riverToy{})
	client, err := river.NewClient(riverpgxv5.New(b.pool), &river.Config{
		ID: "tester", Schema: "lastseat", Workers: workers, Queues: map[string]river.QueueConfig{rivers: {MaxWorkers: 1}},
		CancelledJobRetentionPeriod: -1, DiscardedJobRetentionPeriod: -1,
	})
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range cases {
		for _, queue := range []string{outbox.Queue, rivers} {
			id := one[int64](b, insert, queue, c.key, c.note, c.attempts, c.allowed)
			if c.key != "cancelled" {
				continue
			}
			if _, err := client.JobCancel(ctx, id); err != nil {
				t.Fatal(err)
			}
		}
	}

	b.start(outbox.Settings{KeepCompleted: time.Hour})
	if err := client.Start(ctx); err != nil {
		t.Fatal(err)
	}
	defer func() { _ = client.StopAndCancel(context.WithoutCancel(ctx)) }()
	b.eventually("both sides have taken up every job", func() bool {
		// out of reach of both as soon as it has been taken up once
		b.exec(`UPDATE lastseat.river_job SET queue = queue || '!' WHERE kind = 'toy' AND queue IN ('lastseat', 'rivers')
			AND (state = 'cancelled' OR state <> 'running' AND attempted_at IS NOT NULL)`)
		return one[int](b, `SELECT count(*) FROM lastseat.river_job WHERE queue IN ('lastseat!', 'rivers!')`) == 2*len(cases)
	})
	for _, c := range cases {
		theirs, ours := one[string](b, riverRowSQL, rivers+"!", c.key), one[string](b, riverRowSQL, outbox.Queue+"!", c.key)
		if diff := cmp.Diff(theirs, ours); diff != "" {
			t.Errorf("%s: River's row and the lane's differ (-river +lane):\n%s", c.key, diff)
		}
	}
}

// Any login can notify River's channels. The worker has nothing to do with what it says there: it logs none of it, and
// its leader stays.
func TestForgedNotificationsOfRiver(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	told := &lines{}
	b.start(outbox.Settings{Logger: told.logger()})
	const leaders = `SELECT coalesce(string_agg(leader_id || elected_at, ' '), '') FROM lastseat.river_leader`
	b.eventually("there is a leader", func() bool { return one[string](b, leaders) != "" })
	b.enqueue("before")
	b.eventually("the lane works", func() bool { return len(b.played()) == 1 })
	leader := one[string](b, leaders)
	for i := range 20 {
		b.exec(`SELECT pg_notify('lastseat.' || channel, payload)
			FROM unnest('{river_insert,river_control,river_leadership,river_notification}'::text[]) AS channel,
			     unnest(ARRAY['forged', '{"action": "request_resign"}', '{"action": "pause", "queue": "*"}',
			                  '{"queue": 1}', '{"action": "resigned", "leader_id": "' || $1 || '"}']) AS payload`, leader)
		b.enqueue(fmt.Sprint("k", i))
		b.eventually("the lane works", func() bool { return len(b.played()) == 2+i })
	}
	b.eventually("a leader is there", func() bool { return one[string](b, leaders) != "" })
	if now := one[string](b, leaders); now != leader {
		t.Errorf("the leader was %s and is %s", leader, now)
	}
	for _, part := range []string{"forged", "request_resign", "unmarshal", "Elector", "notifier"} {
		if told.has(part) {
			t.Errorf("the log tells of %s", part)
		}
	}
}
