package outbox

import (
	"context"
	"fmt"
	"log/slog"
	"slices"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgtype"
)

// Where a lane's claims begin. While somebody holds an old snapshot, Postgres can remove no dead row, and a claim that
// begins at the beginning of the queue reads past every job that was settled since. docs/decisions/015 has the proof of
// what follows.
//
// A look finds the first job of each priority that is left, and a mark: a time, and the number of a transaction that
// began to write after that time. lastseat.enqueue makes its transaction a writing one, with a number, before it reads
// the clock. So a job with an earlier time than the mark's is one of
//
//   - a transaction that had ended before the look: the look has seen it;
//   - a transaction that was in progress at the look and has a lower number than the mark's: the look notes those.
//
// A claim begins at the first job that was left. If one of the noted transactions has ended in the claim's snapshot, it
// begins at the time before which that transaction can't have asked.

const (
	priorities = 4 // of River, 1 to 4
	// patrolShare: a patrol may take one part in so many of the time.
	patrolShare = 10
)

// looking says how often the lane looks. Tests have other times.
type looking struct {
	slow     time.Duration // how long a patrol takes when claims begin at the beginning no more; default 10 ms
	interval time.Duration // between two looks; default 100 ms
	patrols  time.Duration // between two patrols, at least; default 1 s
}

func (k looking) withDefaults() looking {
	orDefault(&k.slow, 10*time.Millisecond)
	orDefault(&k.interval, 100*time.Millisecond)
	orDefault(&k.patrols, time.Second)
	return k
}

// bound is where claims begin. The zero value is of no use: see newBound.
type bound struct {
	since   []pgtype.Timestamptz // by priority
	writers []string             // transactions that were in progress at the last look and may have asked before since
	floors  []pgtype.Timestamptz // what each of them has asked for is not earlier than this
	mark    pgtype.Timestamptz   // the time of the last mark
	xid     string               // of the last mark; "": there is none yet
	before  pgtype.Timestamptz   // the time of the mark before it

	next  time.Time // when the lane looks again
	heard *patrol   // the last one whose findings are in since
}

var beginning = pgtype.Timestamptz{InfinityModifier: pgtype.NegativeInfinity, Valid: true}

// newBound has claims begin at the beginning.
func newBound() bound {
	return bound{since: slices.Repeat([]pgtype.Timestamptz{beginning}, priorities), mark: beginning, before: beginning}
}

// args adds to the arguments of a statement what rangesSQL needs.
func (b *bound) args(args pgx.NamedArgs) pgx.NamedArgs {
	args["since"], args["mark"], args["writers"], args["floors"] = b.since, b.mark, b.writers, b.floors
	return args
}

// rangesSQL is one row for each priority, in order: the time at which its part of the queue begins in this statement's
// snapshot. If the clock is behind the mark, somebody has set it back, and times prove nothing.
const rangesSQL = `(
		SELECT b.n::smallint AS priority, CASE WHEN now() >= @mark::timestamptz THEN least(b.since, (
			SELECT min(w.floor) FROM unnest(@writers::text[]::xid8[], @floors::timestamptz[]) AS w(xid, floor)
			WHERE pg_visible_in_snapshot(w.xid, pg_current_snapshot()))) ELSE '-infinity' END AS since
		FROM unnest(@since::timestamptz[]) WITH ORDINALITY AS b(since, n)) AS p`

// waitingSQL picks the jobs j of one such part that wait. It is keyed by the whole of River's fetching index, so no
// statistics make the planner walk through more than that. A job that is locked is among them.
const waitingSQL = `
		j.state = 'available' AND j.queue = @queue AND j.priority = p.priority
		  AND j.scheduled_at >= p.since AND j.scheduled_at <= now()`

// firstSQL is the time of the first job of each priority, or null.
const firstSQL = `
	ARRAY(SELECT f.first FROM ` + rangesSQL + ` LEFT JOIN LATERAL (
		SELECT j.scheduled_at AS first FROM lastseat.river_job j WHERE ` + waitingSQL

const firstOrderSQL = `
		ORDER BY j.scheduled_at, j.id LIMIT 1) f ON true ORDER BY p.priority)`

const (
	// now() is the time at which the transaction began, and its number comes later.
	markSQL = `SELECT now(), pg_current_xact_id()::text`

	lookSQL = markSQL + `,
	ARRAY(SELECT x::text FROM pg_snapshot_xip(pg_current_snapshot()) AS x WHERE x < @xid::text::xid8),`
)

// look finds out where claims may begin, if it is time to look. An error that leaves the connection alive has claims
// begin at the beginning, and holds nobody up.
func (l *lane) look(ctx context.Context) error {
	if !l.mustLook() {
		return nil
	}
	err := l.lookAgain(ctx)
	switch {
	case err == nil:
		l.bound.next = time.Now().Add(l.settings.looking.interval)
		return nil
	case l.lost() || ctx.Err() != nil:
		return fmt.Errorf("look where the queue begins: %w", err)
	}
	l.bound = newBound()
	l.bound.next = time.Now().Add(l.settings.looking.patrols)
	l.log.DebugContext(ctx, "claims begin at the beginning", slog.String("error", err.Error()))
	return nil
}

// mustLook takes in what the last patrol has found. If that was quick there is nothing to gain, and if no patrol comes
// any more, nobody would see a job that is earlier than since.
func (l *lane) mustLook() bool {
	last := l.patrolled.Load()
	slow := l.settings.looking.slow
	if slow > 0 && (last == nil || last.took < slow || last.overdue()) {
		if l.bound.xid != "" {
			l.bound = newBound()
		}
		return false
	}
	if last != l.bound.heard {
		l.bound.heard = last
		for i, first := range last.first {
			l.bound.lower(i, first)
		}
	}
	return !time.Now().Before(l.bound.next)
}

// lower has claims of a priority begin at first at the latest.
func (b *bound) lower(i int, first pgtype.Timestamptz) {
	if first.Valid && earlier(first, b.since[i]) {
		b.since[i] = first
	}
}

func earlier(a, b pgtype.Timestamptz) bool {
	if a.InfinityModifier != b.InfinityModifier {
		return a.InfinityModifier < b.InfinityModifier
	}
	return a.Time.Before(b.Time)
}

func (l *lane) lookAgain(ctx context.Context) error {
	b := &l.bound
	var now pgtype.Timestamptz
	var xid string
	if b.xid == "" {
		if err := l.conn.QueryRow(ctx, markSQL).Scan(&now, &xid); err != nil {
			return err
		}
		b.mark, b.xid = now, xid
		return nil
	}
	var writers []string
	var first []pgtype.Timestamptz
	args := b.args(l.args(1))
	args["xid"] = b.xid
	err := l.conn.QueryRow(ctx, lookSQL+firstSQL+l.filterSQL()+firstOrderSQL, args).Scan(&now, &xid, &writers, &first)
	if err != nil {
		return err
	}
	if earlier(now, b.mark) { // the clock was set back
		*b = bound{since: newBound().since, mark: now, xid: xid, before: beginning, heard: b.heard}
		return nil
	}
	b.looked(now, xid, writers, first)
	return nil
}

// looked takes in a look: the next mark, the transactions that were in progress, and the first jobs that are left.
func (b *bound) looked(now pgtype.Timestamptz, xid string, writers []string, first []pgtype.Timestamptz) {
	floors := make([]pgtype.Timestamptz, len(writers))
	for i, writer := range writers {
		floors[i] = b.before // it got its number after the mark before the last, or it would have been noted before
		if known := slices.Index(b.writers, writer); known >= 0 {
			floors[i] = b.floors[known]
		}
	}
	for i := range b.since {
		b.since[i] = b.mark
		b.lower(i, first[i])
	}
	b.writers, b.floors = writers, floors
	b.before, b.mark, b.xid = b.mark, now, xid
}

// patrol is what was found by looking at the whole queue, from the beginning. It finds a job that has an earlier time
// than its insertion: one that was inserted without lastseat.enqueue, or after the clock was set back.
type patrol struct {
	first []pgtype.Timestamptz // of each priority; null: there is none
	took  time.Duration
	at    time.Time
}

// overdue tells whether patrols don't come any more.
func (p *patrol) overdue() bool { return time.Since(p.at) > 3*patrolShare*p.took+10*time.Second }

// keepPatrolling has patrols go until the returned function is called. They have another connection, because they take
// seconds where there are millions of dead rows, and the lane must not wait for that.
func (l *lane) keepPatrolling(ctx context.Context) (stop func()) {
	l.bound = newBound()
	l.patrolled.Store(nil)
	everywhere := newBound()
	sql, args := `SELECT `+firstSQL+l.filterSQL()+firstOrderSQL, everywhere.args(l.args(1))
	ctx, cancel := context.WithCancel(ctx)
	done := make(chan struct{})
	go func() {
		defer close(done)
		for pause := l.settings.looking.patrols; ; {
			timer := time.NewTimer(pause)
			select {
			case <-ctx.Done():
				timer.Stop()
				return
			case <-timer.C:
			}
			found, err := l.patrol(ctx, sql, args)
			if err == nil {
				l.patrolled.Store(found)
				pause = max(l.settings.looking.patrols, patrolShare*found.took)
			} else if ctx.Err() == nil {
				l.log.DebugContext(ctx, "patrol failed", slog.String("error", err.Error()))
			}
		}
	}()
	return func() { cancel(); <-done }
}

// patrolSettingsSQL are the lane's settings of the planner: see sessionSQL.
const patrolSettingsSQL = `
	SELECT set_config(name, 'off', true) FROM unnest(
		'{enable_seqscan,enable_hashjoin,enable_mergejoin,enable_bitmapscan,jit}'::text[]) AS name`

func (s *share) patrol(ctx context.Context, sql string, args pgx.NamedArgs) (found *patrol, err error) {
	found = &patrol{}
	err = pgx.BeginTxFunc(ctx, s.pool, pgx.TxOptions{AccessMode: pgx.ReadOnly}, func(tx pgx.Tx) error {
		if _, err := tx.Exec(ctx, patrolSettingsSQL); err != nil {
			return err
		}
		began := time.Now()
		err := tx.QueryRow(ctx, sql, args).Scan(&found.first)
		found.at, found.took = time.Now(), time.Since(began)
		return err
	})
	return found, err
}
