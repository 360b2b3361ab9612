package jobs_test

import (
	"testing"

	"github.com/lastseat/lastseat/internal/clitest"
	"github.com/lastseat/lastseat/internal/testdb"
	"github.com/lastseat/lastseat/outbox"
)

// A lane gives a place to a reservation of another lane, and settles requests from after that one's time in the same
// batch. It must not let it run out: only the other lane knows what was asked for in time.
func TestGrantedInAnotherLane(t *testing.T) {
	t.Parallel()
	pool := newPool(t)
	settings := outbox.Settings{Lanes: 2}
	ofLane := func(lane, n int) string {
		return testdb.Scalar[string](t, pool, `SELECT id FROM (SELECT 'r' || n AS id FROM generate_series(1, 100) n) r
			WHERE abs(hashtextextended(id, 0) % 2) = $1 ORDER BY id LIMIT 1 OFFSET $2`, lane, n)
	}
	first, waits, last := ofLane(0, 0), ofLane(1, 0), ofLane(0, 1)
	exec(t, pool, `SELECT lastseat.define_resource('seat', 1), lastseat.define_resource('other', 1)`)
	exec(t, pool, `SELECT lastseat.hold('first', $1, '[{"resource": "seat"}]')`, first)
	drain(t, pool, settings)
	exec(t, pool, `SELECT lastseat.hold('waits', $1, '[{"resource": "seat"}]', wait => true)`, waits)
	drain(t, pool, settings)
	exec(t, pool, `SELECT lastseat.cancel('cancel', $1)`, first)
	exec(t, pool, `SELECT lastseat.confirm('in time', $1)`, waits)
	exec(t, pool, `UPDATE lastseat.reservations SET expires_at = clock_timestamp() WHERE id = $1`, waits)
	exec(t, pool, `SELECT lastseat.hold('last', $1, '[{"resource": "other"}]')`, last)

	busy, err := pool.Begin(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if _, err := busy.Exec(t.Context(), `SELECT FROM lastseat.lanes WHERE lane = 1 FOR UPDATE`); err != nil {
		t.Fatal(err)
	}
	startWorker(t, pool, settings)
	clitest.Eventually(t, "the first lane has settled what is its own", func() bool {
		return outcome(t, pool, "last").Code == "held"
	})
	if err := busy.Rollback(t.Context()); err != nil {
		t.Fatal(err)
	}
	clitest.Eventually(t, "the other lane has settled its request", func() bool {
		return outcome(t, pool, "in time").Status != outbox.Pending
	})
	if o := outcome(t, pool, "in time"); o.Code != "confirmed" {
		t.Errorf("the hold was confirmed in time: %s %s", o.Status, o.Code)
	}
}
