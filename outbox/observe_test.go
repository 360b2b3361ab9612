package outbox_test

import (
	"context"
	"errors"
	"maps"
	"sync"
	"testing"

	"github.com/jackc/pgx/v5"

	"github.com/lastseat/lastseat/outbox"
)

// ledger adds up what it is told.
type ledger struct {
	mu       sync.Mutex
	settled  map[outbox.SettledAs]int
	failed   map[string]int
	repeated map[string]int
	jobs     int
	holds    []bool
}

func newLedger() *ledger {
	return &ledger{settled: map[outbox.SettledAs]int{}, failed: map[string]int{}, repeated: map[string]int{}}
}

func (l *ledger) Settled(batch outbox.SettledBatch) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for as, n := range batch.Settled {
		l.settled[as] += n
	}
	for kind, n := range batch.Failed {
		l.failed[kind] += n
	}
	l.jobs += batch.Jobs
}

func (l *ledger) Repeated(_ int, _, sqlState string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.repeated[sqlState]++
}

func (l *ledger) Holds(_ int, holds bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.holds = append(l.holds, holds)
}

// An observer hears of each request once, as it was settled, and of every attempt that failed. What was rolled back is
// told as repeated and not as settled.
func TestObserver(t *testing.T) {
	t.Parallel()
	inBothForms(t, func(t *testing.T, b *bench) {
		t.Helper()
		conflicts := 1
		b.settler.set(func(ctx context.Context, tx pgx.Tx, job outbox.Job) error {
			switch {
			case job.Key == "bad":
				return errors.New("no luck")
			case job.Key == "good 2" && conflicts > 0:
				conflicts--
				_, err := tx.Exec(ctx, `DO $$ BEGIN RAISE serialization_failure; END $$`)
				return err
			}
			return nil
		})
		b.enqueue("good 1", "good 2", "bad", "good 3")
		b.exec(`UPDATE lastseat.river_job SET max_attempts = 1 WHERE args ->> 'key' = 'bad'`)
		told := newLedger()
		b.drain(outbox.Settings{Observer: told})
		want := map[outbox.SettledAs]int{
			{Kind: "toy", Status: outbox.Applied, Code: "played"}:                   3,
			{Kind: "toy", Status: outbox.Failed, Code: outbox.CodeRetriesExhausted}: 1,
		}
		if !maps.Equal(told.settled, want) {
			t.Errorf("settled %v, want %v", told.settled, want)
		}
		if told.failed["toy"] != 1 || told.jobs != 4 {
			t.Errorf("%d failed attempts, %d jobs, want 1 and 4", told.failed["toy"], told.jobs)
		}
		if told.repeated["40001"] != 1 {
			t.Errorf("repeated %v, want 40001 once", told.repeated)
		}
		if len(told.holds) != 2 || !told.holds[0] || told.holds[1] {
			t.Errorf("the lane was held %v, want true, false", told.holds)
		}
	})
}
