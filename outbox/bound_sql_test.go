package outbox

import (
	"context"
	"encoding/json"
	"log/slog"
	"maps"
	"slices"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgtype"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/lastseat/lastseat/internal/testdb"
)

// looker is a connected lane of toys that looks whenever it is told.
func looker(t *testing.T) (*lane, *pgxpool.Pool) {
	t.Helper()
	pool := testdb.Pool(t, testdb.New(t))
	kinds := &Kinds{}
	kinds.Register(adopter{}, Kind{Name: "toy"})
	settings := Settings{Logger: slog.New(slog.DiscardHandler)}
	w := NewWorker(pool, kinds, settings.Looking(-1, time.Nanosecond, time.Hour))
	l := newLane(w.settings, w.kinds, 0, &w.stats, pool)
	if err := w.connect(t.Context(), l); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.conn.Close(context.WithoutCancel(t.Context())) })
	if err := l.prepareSession(t.Context()); err != nil {
		t.Fatal(err)
	}
	if held, err := l.take(t.Context()); err != nil || !held {
		t.Fatalf("lane taken: %t, %v", held, err)
	}
	return l, pool
}

func (l *lane) mustLookNow(t *testing.T) {
	t.Helper()
	if err := l.look(t.Context()); err != nil {
		t.Fatal(err)
	}
}

// What was settled while somebody holds a snapshot is dead, and stays in the index. Nothing that the lane does again
// and again may read it each time.
func TestStatementsReadNoDeadRowsBesideASnapshot(t *testing.T) {
	t.Parallel()
	l, pool := looker(t)
	testdb.Exec(t, pool, `ALTER TABLE lastseat.river_job SET (autovacuum_enabled = off)`)
	report, err := pool.BeginTx(t.Context(), pgx.TxOptions{IsoLevel: pgx.RepeatableRead})
	if err == nil {
		_, err = report.Exec(t.Context(), `SELECT count(*) FROM lastseat.requests`)
	}
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = report.Rollback(context.WithoutCancel(t.Context())) }()
	testdb.Exec(t, pool, `INSERT INTO lastseat.river_job (kind, queue, args, state, priority)
		SELECT 'toy', 'lastseat', '{}', 'available', 1 + n % 4 FROM generate_series(1, 20000) n`)
	testdb.Exec(t, pool, `SET lastseat.lane = 'on'; DELETE FROM lastseat.river_job; RESET lastseat.lane`)
	testdb.Exec(t, pool, `SELECT lastseat.enqueue('toy', 'k' || n, '{}') FROM generate_series(1, 5) n`)
	l.mustLookNow(t)
	l.mustLookNow(t)
	// A writer of another test that was there before the first mark has the claims begin at the beginning once more.
	for slices.Contains(l.bound.floors, beginning) {
		time.Sleep(10 * time.Millisecond)
		l.mustLookNow(t)
	}

	blocks := func(sql string, b bound) int {
		t.Helper()
		args := b.args(l.args(100))
		maps.Copy(args, pgx.NamedArgs{"skip": 1, "xid": l.bound.xid})
		var text []byte
		err := l.conn.QueryRow(t.Context(), `EXPLAIN (ANALYZE, BUFFERS, FORMAT JSON) `+sql, args).Scan(&text)
		if err != nil {
			t.Fatal(err)
		}
		var plans []struct {
			Plan struct {
				Hit  int `json:"Shared Hit Blocks"`
				Read int `json:"Shared Read Blocks"`
			}
		}
		if err := json.Unmarshal(text, &plans); err != nil {
			t.Fatal(err)
		}
		return plans[0].Plan.Hit + plans[0].Plan.Read
	}
	for name, sql := range map[string]string{
		"claim": claimSQL + l.filterSQL() + claimOrderSQL, "blind": blindSQL + l.filterSQL() + blindOrderSQL,
		"reached": reachedSQL + l.filterSQL() + reachedOrderSQL, "due": dueSQL + l.kindsSQL() + pausedSQL,
		"look": lookSQL + firstSQL + l.filterSQL() + firstOrderSQL,
	} {
		since, everything := blocks(sql, l.bound), blocks(sql, newBound())
		if since > 100 || everything < 200 {
			t.Errorf("%s: %d blocks, %d from the beginning", name, since, everything)
		}
		t.Logf("%s: %d blocks, %d from the beginning", name, since, everything)
	}
}

// A mark that lies ahead says that somebody has set the server's clock back. What is asked for then has earlier times
// than what is settled already.
func TestClaimsBeginAtTheBeginningWhenTheClockWasSetBack(t *testing.T) {
	t.Parallel()
	l, pool := looker(t)
	l.mustLookNow(t)
	l.mustLookNow(t)
	if l.bound.since[0] == beginning {
		t.Fatal("claims begin at the beginning of an empty queue")
	}
	testdb.Exec(t, pool, `SELECT lastseat.enqueue('toy', 'k', '{}')`)
	ahead := pgtype.Timestamptz{Time: time.Now().Add(time.Hour), Valid: true}
	for i := range l.bound.since {
		l.bound.since[i] = ahead
	}
	l.bound.writers, l.bound.floors = nil, nil // those of other tests
	seen := func() bool {
		t.Helper()
		due, err := l.due(t.Context(), l.conn, l.bound)
		if err != nil {
			t.Fatal(err)
		}
		return due
	}
	if seen() {
		t.Fatal("it is seen although claims begin after it")
	}
	l.bound.mark = ahead
	if !seen() {
		t.Error("it is not seen when the clock was set back")
	}
	l.mustLookNow(t)
	if l.bound.since[0] != beginning || !earlier(l.bound.mark, ahead) {
		t.Errorf("after a look: %+v", l.bound)
	}
}
