package outbox

import (
	"context"
	"errors"
	"log/slog"
	"testing"

	"github.com/jackc/pgx/v5"

	"github.com/lastseat/lastseat/internal/testdb"
)

// The lane keeps no notification that comes while it does something else, only that one has come.
func TestFloodOfNotifications(t *testing.T) {
	t.Parallel()
	pool := testdb.Pool(t, testdb.New(t))
	w := NewWorker(pool, &Kinds{}, Settings{Logger: slog.New(slog.DiscardHandler)})
	l := newLane(w.settings, w.kinds, 0, &w.stats, pool)
	if err := w.connect(t.Context(), l); err != nil {
		t.Fatal(err)
	}
	defer func() { _ = l.conn.Close(context.WithoutCancel(t.Context())) }()
	if err := l.prepareSession(t.Context()); err != nil {
		t.Fatal(err)
	}
	const flood = `SELECT pg_notify('lastseat.river_insert', repeat('x', 7900) || n) FROM generate_series(1, 10000) n`
	testdb.Exec(t, pool, flood)
	for !l.rung.Load() { // they come with the answer to whatever the lane asks
		if _, err := l.conn.Exec(t.Context(), `SELECT 1`); err != nil {
			t.Fatal(err)
		}
	}
	// pgx hands over what it has kept before it looks at the context.
	over, cancel := context.WithCancel(t.Context())
	cancel()
	if kept, err := l.conn.WaitForNotification(over); !errors.Is(err, context.Canceled) {
		t.Errorf("kept a notification of %d bytes, %v", len(kept.Payload), err)
	}
}

// A sweeper that has failed all night is back at its full limit soon, and its pause stays what it is.
func TestSweepThatFailsForLong(t *testing.T) {
	t.Parallel()
	s := &sweeping{}
	for range 1_000_000 {
		s.called(false, pgx.ErrNoRows)
	}
	if s.limit() != 1 {
		t.Errorf("limit %d", s.limit())
	}
	for range mostSweepFailures {
		s.called(false, nil)
	}
	if s.limit() != sweepLimit {
		t.Errorf("limit %d after %d successes, want %d", s.limit(), mostSweepFailures, sweepLimit)
	}
}
