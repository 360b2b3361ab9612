package anomalies_test

import (
	"context"
	"errors"
	"net/url"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/lastseat/lastseat/internal/audit"
	"github.com/lastseat/lastseat/internal/testdb"
	"github.com/lastseat/lastseat/txn"
)

// stage is where a case is played: a database, and one mechanism against the anomaly.
type stage struct {
	*testing.T
	pool  *pgxpool.Pool
	by    mechanism
	level pgx.TxIsoLevel // of all transactions; with the lane, of the service's and of the lane's own
}

// play plays the naive half by every mechanism of the test's row in the table, and Lastseat's half at every level.
func play(t *testing.T, naive func(*stage) verdict, lastseat func(*stage)) {
	t.Helper()
	row, ok := verdicts[t.Name()]
	if !ok {
		t.Fatalf("%s has no row in the table", t.Name())
	}
	pool := newPool(t)
	for _, by := range mechanisms {
		want, applies := row[by.name]
		if !applies || by.name == lane {
			continue
		}
		t.Run(string(by.name), func(t *testing.T) {
			if got := naive(&stage{T: t, pool: pool, by: by.name, level: by.level}); got != want {
				t.Errorf("the naive half came to %q, want %q", got, want)
			}
		})
	}
	for _, level := range levels {
		t.Run(string(lane)+"/"+string(level), func(t *testing.T) {
			lastseat(&stage{T: t, pool: pool, by: lane,
				level: level})
		})
	}
	if _, err := audit.Run(t.Context(), pool, func(f audit.Finding) {
		if !f.OK {
			t.Errorf("audit: %s: %v", f.Check, f.Violations)
		}
	}); err != nil {
		t.Fatal(err)
	}
}

// newPool is of a database of the test's own. Naive tables are found first; deadlocks are looked for early.
func newPool(t *testing.T) *pgxpool.Pool {
	t.Helper()
	at, err := url.Parse(testdb.New(t))
	if err != nil {
		t.Fatal(err)
	}
	query := at.Query()
	for name, value := range map[string]string{"pool_max_conns": "40", "search_path": "naive",
		"deadlock_timeout": "30ms"} {
		query.Set(name, value)
	}
	at.RawQuery = query.Encode()
	return testdb.Pool(t, at.String())
}

// set makes the tables of a case anew.
func (s *stage) set(sql string) {
	s.Helper()
	testdb.Exec(s.T, s.pool,
		`SET client_min_messages = warning; DROP SCHEMA IF EXISTS naive CASCADE; CREATE SCHEMA naive; `+sql)
}

func (s *stage) int(sql string, args ...any) int {
	s.Helper()
	return testdb.Scalar[int](s.T, s.pool, sql, args...)
}

// session is a transaction of a client. After the first error nothing else is done.
type session struct {
	*stage
	tx  pgx.Tx
	err error

	other   *session
	begun   chan struct{}
	pid     uint32 // once begun
	arrived func()
	here    chan struct{}
	done    chan struct{}
}

func (s *stage) session() *session {
	x := &session{stage: s, begun: make(chan struct{}), here: make(chan struct{}), done: make(chan struct{})}
	x.arrived = sync.OnceFunc(func() { close(x.here) })
	return x
}

func (x *session) exec(sql string, args ...any) {
	if x.err == nil {
		_, x.err = x.tx.Exec(x.Context(), sql, args...)
	}
}

func (x *session) int(sql string, args ...any) (n int) {
	if x.err == nil {
		x.err = x.tx.QueryRow(x.Context(), sql, args...).Scan(&n)
	}
	return n
}

// expectOne is the optimistic update: one row, of the version that was read.
func (x *session) expectOne(sql string, args ...any) {
	if x.err == nil {
		x.err = txn.ExpectOne(x.Context(), x.tx, sql, args...)
	}
}

// forUpdate is what the row lock adds to a SELECT.
func (x *session) forUpdate() string {
	if x.by == rowLock {
		return " FOR UPDATE"
	}
	return ""
}

// meet returns when the other session has come to its own meet, waits for a lock of this one, or has ended.
func (x *session) meet() {
	x.arrived()
	if x.err == nil {
		x.await(x.other.here)
	}
}

// outwait returns when the other session has ended, or waits for a lock of this one: that is the result.
func (x *session) outwait() (blocked bool) {
	x.arrived()
	return x.err == nil && x.await(nil)
}

const blockedSQL = `SELECT ($1::int = ANY (pg_blocking_pids($2)))::int`

func (x *session) await(place chan struct{}) (blocked bool) {
	for deadline := time.After(time.Minute); ; {
		select {
		case <-place:
			return false
		case <-x.other.done:
			return false
		case <-deadline:
			x.Error("the other session neither came, nor ended, nor was blocked")
			return false
		case <-time.After(2 * time.Millisecond):
		}
		select {
		case <-x.other.begun:
		default:
			continue
		}
		var waits int
		if err := x.pool.QueryRow(x.Context(), blockedSQL, x.pid, x.other.pid).Scan(&waits); err != nil {
			x.Error(err)
			return false
		}
		if waits == 1 {
			return true
		}
	}
}

// in plays one try of a transaction.
func (x *session) in(tx pgx.Tx, script func(*session)) error {
	x.tx, x.err = tx, nil
	select {
	// again, maybe on another connection, which the other session need not know: nobody waits for it any more
	case <-x.begun:
	default:
		x.pid = tx.Conn().PgConn().PID()
		close(x.begun)
	}
	script(x)
	return x.err
}

// transact is how a client commits: naive code as it is, the service of Lastseat's half with package txn.
func (x *session) transact(script func(*session)) error {
	defer close(x.done)
	if x.by == lane {
		return txn.Run(x.Context(), x.pool, txn.Options{Isolation: x.level, Retries: 20}, func(_ context.Context,
			tx pgx.Tx) error {
			return x.in(tx, script)
		})
	}
	return pgx.BeginTxFunc(x.Context(), x.pool, pgx.TxOptions{IsoLevel: x.level}, func(tx pgx.Tx) error {
		return x.in(tx,
			script)
	})
}

// transactAlone is a transaction with nobody to meet.
func (x *session) transactAlone(script func(*session)) error {
	x.other = x.session()
	close(x.other.done)
	return x.transact(script)
}

// duet plays two transactions against each other, and returns how they ended.
func (s *stage) duet(first, second func(*session)) (ends [2]error) {
	a, b := s.session(), s.session()
	a.other, b.other = b, a
	var both sync.WaitGroup
	both.Go(func() { ends[0] = a.transact(first) })
	both.Go(func() { ends[1] = b.transact(second) })
	both.Wait()
	return ends
}

// both is a duet of the same code, for client 1 and client 2.
func (s *stage) both(script func(x *session, client int)) [2]error {
	return s.duet(func(x *session) { script(x, 1) }, func(x *session) { script(x, 2) })
}

// told is the verdict on clients that were stopped: by what, and right if none was.
func (s *stage) told(ends [2]error) verdict {
	s.Helper()
	for _, err := range ends {
		pgErr := (*pgconn.PgError)(nil)
		switch {
		case err == nil:
		case errors.Is(err, txn.ErrStale):
			return stale
		case errors.As(err, &pgErr):
			return verdict(pgErr.Code)
		default:
			s.Errorf("a client failed: %v", err)
		}
	}
	return right
}

// judge is the verdict on what two clients have come to: wrong is what must not be.
func (s *stage) judge(ends [2]error, wrong bool) verdict {
	s.Helper()
	if wrong {
		return anomaly
	}
	return s.told(ends)
}
