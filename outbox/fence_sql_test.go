package outbox

import (
	"fmt"
	"testing"

	"github.com/jackc/pgx/v5"

	"github.com/lastseat/lastseat/internal/testdb"
)

// What is sent together with the lock on the lane's row locks no job in a lane that another session has taken, or that
// is one of another number of lanes: the lane's holder would pass that job by.
func TestWhatComesWithTheFenceLocksNothingOfOthers(t *testing.T) {
	t.Parallel()
	l, pool := looker(t)
	testdb.Exec(t, pool, `SELECT lastseat.enqueue('toy', 'k' || n, '{}') FROM generate_series(1, 5) n`)
	mine := l.holder
	for _, c := range []struct {
		holder string
		lanes  int
		free   int // jobs that another session can lock meanwhile
		of     string
	}{
		{mine, 1, 0, "claim"}, {"somebody else", 1, 5, "claim"}, {mine, 2, 5, "claim"},
		{mine, 1, 4, "reached"}, {"somebody else", 1, 5, "reached"}, {mine, 2, 5, "reached"},
	} {
		t.Run(fmt.Sprintf("%s, %d lanes, holder %t", c.of, c.lanes, c.holder == mine), func(t *testing.T) {
			sql := claimSQL + l.filterSQL() + claimOrderSQL
			if c.of == "reached" {
				sql = reachedSQL + l.filterSQL() + reachedOrderSQL
			}
			args := l.bound.args(l.args(100))
			args["holder"], args["lanes"] = c.holder, c.lanes
			tx, err := l.conn.Begin(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			defer func() { _ = tx.Rollback(t.Context()) }()
			rows, err := tx.Query(t.Context(), sql, args)
			if err != nil {
				t.Fatal(err)
			}
			if rows.Close(); rows.Err() != nil {
				t.Fatal(rows.Err())
			}
			free, err := pool.Query(t.Context(), `SELECT id FROM lastseat.river_job FOR UPDATE SKIP LOCKED`)
			if err != nil {
				t.Fatal(err)
			}
			if ids, err := pgx.CollectRows(free, pgx.RowTo[int64]); err != nil || len(ids) != c.free {
				t.Errorf("%d jobs are free, want %d; %v", len(ids), c.free, err)
			}
		})
	}
}
