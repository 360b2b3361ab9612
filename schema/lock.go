package schema

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/lastseat/lastseat/internal/pgsession"
	"github.com/lastseat/lastseat/internal/retry"
)

// How a migration waits for a lock. Whoever needs the same table waits behind it, so it gives up soon, lets the others
// pass and tries again.
const (
	DefaultLockTimeout = 2 * time.Second
	DefaultWaitLimit   = 5 * time.Minute

	firstPause   = 500 * time.Millisecond
	longestPause = 15 * time.Second
	watchEvery   = 50 * time.Millisecond
)

// Option changes how a migration waits for locks.
type Option func(*waiting)

// LockTimeout is how long one attempt waits for a lock, and others behind it: [DefaultLockTimeout] unless it is given.
func LockTimeout(timeout time.Duration) Option { return func(w *waiting) { w.attempt = timeout } }

// WaitLimit is how long a migration tries again and again: [DefaultWaitLimit] unless it is given; 0: one attempt.
func WaitLimit(limit time.Duration) Option { return func(w *waiting) { w.limit = limit } }

// Report is called with one line for each attempt that got no lock. The line names who holds it.
func Report(say func(line string)) Option { return func(w *waiting) { w.say = say } }

// waiting waits for locks, and knows who holds them.
type waiting struct {
	attempt, limit time.Duration
	say            func(string)

	config *pgx.ConnConfig // of the session that looks who holds a lock
	began  time.Time
	conn   *pgx.Conn // of that session, once there is one

	mu   sync.Mutex
	pids []int32 // of the migration's sessions
}

func newWaiting(config *pgx.ConnConfig, options []Option) *waiting {
	w := &waiting{
		attempt: DefaultLockTimeout, limit: DefaultWaitLimit, say: func(string) {}, config: config, began: time.Now(),
	}
	for _, option := range options {
		option(w)
	}
	return w
}

// bound limits how long a session of the migration waits for a lock.
func (w *waiting) bound(ctx context.Context, conn *pgx.Conn) error {
	w.mu.Lock()
	w.pids = append(w.pids, int32(conn.PgConn().PID())) //nolint:gosec // Postgres's pids are int4
	w.mu.Unlock()
	_, err := conn.Exec(ctx, w.timeoutSQL())
	return err
}

// timeoutSQL is at least a millisecond: 0 would be without limit.
func (w *waiting) timeoutSQL() string {
	return fmt.Sprintf("SET lock_timeout = '%dms'", max(w.attempt.Milliseconds(), 1))
}

// again tries until there is no lock in the way. Between two attempts it lets others pass; where nobody waits behind
// the migration, pause is 0.
func (w *waiting) again(ctx context.Context, pause time.Duration, try func() error) error {
	for ; ; pause = min(2*pause, longestPause) {
		w.connect(ctx) // before the attempt, which may be over by the time that a session is open
		watched, stop := context.WithCancel(ctx)
		holders := make(chan string, 1)
		go func() { holders <- w.watch(ctx, watched.Done()) }()
		err := try()
		stop()
		held := <-holders
		if state := retry.SQLState(err); state != "55P03" && state != "40P01" {
			return err
		}
		if held == "" {
			held = "it is not known who holds it"
		}
		if time.Since(w.began)+pause >= w.limit {
			return fmt.Errorf("no lock within %v, nothing was changed by this step: %s: %w", max(w.limit, w.attempt), held,
				err)
		}
		w.say(fmt.Sprintf("the migration needs a lock: %s; trying again in %v", held, pause))
		if err := retry.Sleep(ctx, pause); err != nil {
			return err
		}
	}
}

// blockersSQL finds the sessions for which those in $1 wait.
const blockersSQL = `
	SELECT DISTINCT b.pid, coalesce(a.usename::text, a.backend_type, ''), coalesce(a.application_name, ''),
	       coalesce(a.state, ''), coalesce(extract(epoch FROM clock_timestamp() - a.xact_start), 0)::bigint,
	       coalesce(a.query, ''),
	       coalesce((SELECT coalesce(k.relation::regclass::text, k.locktype) FROM pg_locks k
	                 WHERE k.pid = w.pid AND NOT k.granted LIMIT 1), '')
	FROM unnest($1::int4[]) AS w(pid), unnest(pg_blocking_pids(w.pid)) AS b(pid)
	LEFT JOIN pg_stat_activity a ON a.pid = b.pid
	ORDER BY b.pid LIMIT 4`

// watch looks who holds the locks for which the migration waits, until done, and returns what it saw last. It has a
// session of its own; without one nobody is named.
func (w *waiting) watch(ctx context.Context, done <-chan struct{}) (last string) {
	ticks := time.NewTicker(watchEvery)
	defer ticks.Stop()
	for {
		select {
		case <-done:
			return last
		case <-ticks.C:
		}
		if w.connect(ctx); w.conn == nil {
			continue
		}
		w.mu.Lock()
		pids := slices.Clone(w.pids)
		w.mu.Unlock()
		if seen := blockers(ctx, w.conn, pids); seen != "" {
			last = seen
		}
	}
}

// connect opens the session that looks, unless there is one. Where Postgres gives none, nobody is named.
func (w *waiting) connect(ctx context.Context) {
	if w.conn != nil && !w.conn.IsClosed() {
		return
	}
	w.conn = nil
	if conn, err := pgsession.Connect(ctx, w.config); err == nil {
		w.conn = conn
	}
}

func (w *waiting) close(ctx context.Context) {
	if w.conn != nil {
		_ = w.conn.Close(context.WithoutCancel(ctx))
	}
}

func blockers(ctx context.Context, conn *pgx.Conn, pids []int32) string {
	rows, err := conn.Query(ctx, blockersSQL, pids)
	if err != nil {
		return ""
	}
	names, err := pgx.CollectRows(rows, func(row pgx.CollectableRow) (string, error) {
		var b blocker
		err := row.Scan(&b.pid, &b.role, &b.application, &b.state, &b.seconds, &b.statement, &b.table)
		return b.String(), err
	})
	if err != nil {
		return ""
	}
	return strings.Join(names, "; ")
}

// blocker is a session that has what a migration waits for.
type blocker struct {
	pid                                        int32
	role, application, state, statement, table string
	seconds                                    int64
}

func (b blocker) String() string {
	what := b.table
	switch what {
	case "":
		what = "what it waits for"
	case "advisory":
		what = "the migrations: one runs at a time"
	}
	if b.pid == 0 {
		return "a prepared transaction (pg_prepared_xacts) has locked " + what
	}
	const limit = 120
	statement := []rune(strings.Join(strings.Fields(b.statement), " "))
	if len(statement) > limit {
		statement = append(statement[:limit], '…')
	}
	return fmt.Sprintf("process %d (role %q, application %q, %s, transaction open for %d s, statement %q) has locked %s",
		b.pid, b.role, b.application, b.state, b.seconds, string(statement), what)
}
