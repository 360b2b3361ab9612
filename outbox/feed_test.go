package outbox_test

import (
	"context"
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/lastseat/lastseat/outbox"
)

// follow reads pages from a cursor until n outcomes have come, or too long has passed: transactions of other tests
// hold the feed up too, since they are on the same server.
func (b *bench) follow(cursor *string, n int, page func(i int) int) []outbox.Outcome {
	b.t.Helper()
	var all []outbox.Outcome
	for i, end := 0, time.Now().Add(30*time.Second); ; i++ {
		most := page(i)
		got, next, err := outbox.OutcomesSince(b.t.Context(), b.pool, *cursor, most)
		if err != nil || len(got) > most || (len(got) == 0) != (next == *cursor) {
			b.t.Fatalf("page %d of %d: %d outcomes, cursor %q after %q, %v", i, most, len(got), next, *cursor, err)
		}
		all, *cursor = append(all, got...), next
		if len(all) >= n && len(got) == 0 || time.Now().After(end) {
			return all
		}
		if len(got) == 0 {
			time.Sleep(2 * time.Millisecond)
		}
	}
}

func feedKeys(outcomes []outbox.Outcome) []string {
	keys := make([]string, len(outcomes))
	for i := range outcomes {
		keys[i] = outcomes[i].Key
	}
	return keys
}

// One lane, batches of every size: the feed is what took effect, in that order.
func TestFeedIsInTheOrderOfEffect(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	all := numbered("k", 150)
	cursor := ""
	for i, size := range []int{1, 7, 150} {
		b.enqueue(all[i*50 : (i+1)*50]...)
		b.drain(outbox.Settings{Batch: size})
	}
	if got := feedKeys(b.follow(&cursor, len(all), func(i int) int { return i%9 + 1 })); !slices.Equal(got, b.played()) ||
		len(got) != len(all) {
		t.Errorf("the feed is %v, the effects came as %v", got, b.played())
	}
	if o := b.outcome(all[0]); o.Status != outbox.Applied {
		t.Error(o)
	}
}

// Several lanes at work, sessions that cancel jobs, failures that are retried, producers: a reader that reads all
// the time gets each outcome once.
func TestFeedOfManyLanes(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	b.settler.set(func(_ context.Context, _ pgx.Tx, job outbox.Job) error {
		if job.Key[0] == 'f' && job.Attempt == 1 {
			return fmt.Errorf("not yet")
		}
		return nil
	})
	const n = 200
	var keys []string
	for i := range n {
		keys = append(keys, fmt.Sprintf("k-%03d", i), fmt.Sprintf("c-%03d", i))
	}
	failing := []string{"f-0", "f-1", "f-2"}
	b.enqueue(failing...)
	b.exec(`UPDATE lastseat.river_job SET max_attempts = 1`) // they fail for good at the first attempt
	stop := b.start(outbox.Settings{Lanes: 4, Batch: 5, Poll: 10 * time.Millisecond})
	canceller := make(chan error, 1)
	go func() {
		for i := range n {
			// some are cancelled before a lane gets to them, the others are settled
			if _, err := b.workers.Exec(t.Context(), `UPDATE lastseat.river_job SET state = 'cancelled', finalized_at = now()
				WHERE args ->> 'key' = $1 AND state = 'available'`, fmt.Sprintf("c-%03d", i)); err != nil {
				canceller <- err
				return
			}
		}
		canceller <- nil
	}()
	for i := 0; i < len(keys); i += 10 {
		b.enqueue(keys[i : i+10]...)
	}
	cursor, page := "", func(i int) int { return i%13 + 1 }
	got := b.follow(&cursor, len(keys)+len(failing), page)
	if err := <-canceller; err != nil {
		t.Fatal(err)
	}
	seen := map[string]int{}
	for i := range got {
		seen[got[i].Key]++
	}
	for _, key := range append(keys, failing...) {
		if seen[key] != 1 {
			t.Errorf("%s has come %d times", key, seen[key])
		}
	}
	if len(got) != len(keys)+len(failing) {
		t.Errorf("%d outcomes, want %d", len(got), len(keys)+len(failing))
	}
	for _, key := range failing {
		if err := pgx.BeginFunc(t.Context(), b.pool, func(tx pgx.Tx) error {
			_, err := outbox.Retry(t.Context(), tx,
				key)
			return err
		}); err != nil {
			t.Fatal(err)
		}
	}
	again := feedKeys(b.follow(&cursor, len(failing), page))
	if slices.Sort(again); !slices.Equal(again, failing) {
		t.Errorf("retried: %v", again)
	}
	stop()
	for _, key := range failing {
		b.wantOutcome(key, outbox.Applied, "played")
	}
	whole := ""
	if replay := b.follow(&whole, len(keys)+len(failing), func(int) int { return 1000 }); len(replay) != len(keys)+
		len(failing) {
		t.Errorf("from the beginning: %d outcomes", len(replay))
	}
}

// A long transaction of somebody else's holds up the feed, and nothing else.
func TestFeedWaitsForALongTransaction(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	tx, err := b.pool.Begin(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = tx.Rollback(context.WithoutCancel(t.Context())) }()
	if _, err := tx.Exec(t.Context(), `CREATE TABLE public.somebodys ()`); err != nil {
		t.Fatal(err)
	}
	b.enqueue("k")
	b.drain(outbox.Settings{})
	b.wantOutcome("k", outbox.Applied, "played")
	got, cursor, err := outbox.OutcomesSince(t.Context(), b.pool, "", 10)
	if err != nil || len(got) != 0 || cursor != "" {
		t.Errorf("before it has ended: %v, %q, %v", got, cursor, err)
	}
	if err := tx.Commit(t.Context()); err != nil {
		t.Fatal(err)
	}
	if got := feedKeys(b.follow(&cursor, 1, func(int) int { return 10 })); !slices.Equal(got, []string{"k"}) {
		t.Errorf("after: %v", got)
	}
	if _, _, err := outbox.OutcomesSince(t.Context(), b.pool, "nonsense", 10); err == nil {
		t.Error("nonsense is a cursor")
	}
}
