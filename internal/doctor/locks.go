package doctor

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/lastseat/lastseat/internal/retry"
)

// locked is a row that a due job needs and somebody has locked.
type locked struct {
	Job    int64
	Key    string
	Kind   string
	Due    time.Time
	Row    string
	Locker string // the transaction, or the number of a list of transactions
	PID    int    // of the session whose transaction it is; 0: none has it, -1: a prepared transaction
	Now    time.Time
}

// lockedSQL looks at the first due jobs of each queue, and at every row of ours that has a text of their arguments as
// its key. A row says which transaction has locked it last; pg_locks says whether that still goes on.
const lockedTail = `
	, texts AS MATERIALIZED (
		SELECT h.id, t.value #>> '{}' AS value FROM heads h,
		       LATERAL jsonb_path_query(h.args, 'strict $.** ? (@.type() == "string")', '{}', true) AS t(value)
		WHERE pg_column_size(h.args) < 20000
	), rows AS (
		SELECT t.id, 'lastseat.accounts (id)=(' || r.id || ')' AS row, r.locker
		FROM texts t, LATERAL (SELECT a.id, a.xmax AS locker FROM lastseat.accounts a WHERE a.id = t.value OFFSET 0) r
		UNION ALL SELECT t.id, 'lastseat.payments (id)=(' || r.id || ')', r.locker
		FROM texts t, LATERAL (SELECT p.id, p.xmax AS locker FROM lastseat.payments p WHERE p.id = t.value OFFSET 0) r
		UNION ALL SELECT t.id, 'lastseat.reservations (id)=(' || r.id || ')', r.locker
		FROM texts t, LATERAL (SELECT v.id, v.xmax AS locker FROM lastseat.reservations v WHERE v.id = t.value OFFSET 0) r
		UNION ALL SELECT t.id, 'lastseat.resources (id)=(' || r.id || ')', r.locker
		FROM texts t, LATERAL (SELECT s.id, s.xmax AS locker FROM lastseat.resources s WHERE s.id = t.value OFFSET 0) r
		UNION ALL SELECT t.id, 'lastseat.requests (key)=(' || r.key || ')', r.locker
		FROM texts t, LATERAL (SELECT q.key, q.xmax AS locker FROM lastseat.requests q WHERE q.key = t.value OFFSET 0) r
		UNION ALL SELECT h.id, 'lastseat.river_job (id)=(' || h.id || ')', h.locker FROM heads h
	), running AS MATERIALIZED (
		SELECT k.transactionid::text AS xid, k.pid FROM pg_locks k
		WHERE k.locktype = 'transactionid' AND k.granted AND k.mode = 'ExclusiveLock'
		UNION SELECT p.transaction::text, -1 FROM pg_prepared_xacts p
	)
	SELECT DISTINCT h.id, coalesce(h.args ->> 'key', ''), h.kind, h.scheduled_at, r.row, r.locker::text,
	       coalesce((SELECT min(n.pid) FROM running n WHERE n.xid = r.locker::text), 0), clock_timestamp()
	FROM rows r JOIN heads h ON h.id = r.id
	WHERE r.locker::text <> '0' ORDER BY h.scheduled_at, h.id LIMIT 1000`

var lockedSQL = `
	WITH RECURSIVE found(queue) AS (
		(SELECT j.queue FROM lastseat.river_job j WHERE j.state = 'available' ORDER BY j.queue LIMIT 1)
		UNION ALL
		SELECT (SELECT j.queue FROM lastseat.river_job j WHERE j.state = 'available' AND j.queue > f.queue
		        ORDER BY j.queue LIMIT 1)
		FROM found f WHERE f.queue IS NOT NULL
	), heads AS MATERIALIZED (
		SELECT h.* FROM found f, generate_series(1, 4) p, LATERAL (
			SELECT j.id, j.kind, j.args, ` + finiteSQL + ` AS scheduled_at, j.xmax AS locker FROM lastseat.river_job j
			WHERE j.state = 'available' AND j.queue = f.queue AND j.priority = p
			  AND j.scheduled_at < now() - interval '1 second'
			ORDER BY j.scheduled_at, j.id LIMIT 100) h
		WHERE f.queue IS NOT NULL
	)` + lockedTail

// secondLook is how long after the first look the second one is. What both see is not just passing.
const secondLook = time.Second

// checkLocks looks for rows that somebody has locked and the first due requests need. Only these requests wait, and
// those behind them that need the same: the lane passes by.
var checkLocks = check{"locks", func(ctx context.Context, e *exam) (found []Finding, err error) {
	held, err := e.locked(ctx)
	if err != nil || len(held) == 0 {
		return []Finding{ok("no request waits for a row that somebody has locked")}, err
	}
	if err := retry.Sleep(ctx, secondLook); err != nil {
		return nil, err
	}
	again, err := e.locked(ctx)
	if err != nil {
		return nil, err
	}
	rows := make(map[string]bool)
	for _, l := range again {
		same := func(before locked) bool {
			return before.Job == l.Job && before.Row == l.Row && before.Locker == l.Locker
		}
		if !slices.ContainsFunc(held, same) || rows[l.Row] || len(rows) == mostRows {
			continue
		}
		rows[l.Row] = true
		sessions, err := e.sessions(ctx, l.PID)
		if err != nil {
			return nil, err
		}
		who := e.describe(sessions[l.PID])
		if l.PID < 0 {
			who = "a prepared transaction"
		}
		found = append(found, judgeLocked(l, who, e.Patience))
	}
	if len(found) == 0 {
		found = append(found, ok("no request waits long for a row that somebody has locked"))
	}
	return found, nil
}}

// mostRows is how many locked rows are named.
const mostRows = 5

func judgeLocked(l locked, who string, patience time.Duration) Finding {
	waited := l.Now.Sub(l.Due)
	told := fmt.Sprintf("the request %q (%s) has waited for %s and needs %s, which somebody has locked: %s", l.Key, l.Kind,
		span(waited), l.Row, who)
	do := "end that transaction: " + end(l.PID)
	if l.PID < 0 {
		do = "SELECT gid, owner, prepared FROM pg_prepared_xacts, then ROLLBACK PREPARED or COMMIT PREPARED"
	}
	if waited > patience {
		return wrong(do, "%s", told)
	}
	return warning(do, "%s", told)
}

// locked are the rows that the first due jobs need and that a transaction which goes on has locked; not the lanes' own,
// which end by themselves.
func (e *exam) locked(ctx context.Context) (held []locked, err error) {
	rows, err := read[locked](ctx, e, lockedSQL)
	if err != nil {
		return nil, err
	}
	members := make(map[string]int)
	for _, l := range rows {
		if _, known := members[l.Locker]; l.PID == 0 && !known && len(members) < mostMembers {
			if members[l.Locker], err = e.member(ctx, l.Locker); err != nil {
				return nil, err
			}
		}
		if l.PID == 0 {
			l.PID = members[l.Locker]
		}
		ours := slices.ContainsFunc(e.lanes, func(of lane) bool { return of.PID == l.PID && of.Lives })
		if l.PID != 0 && !ours {
			held = append(held, l)
		}
	}
	return held, nil
}

// mostMembers is how many numbers that are no running transaction are looked up: mostly they are transactions of the
// past.
const mostMembers = 20

const memberSQL = `
	SELECT k.pid FROM pg_get_multixact_members($1::text::xid) m
	JOIN pg_locks k ON k.locktype = 'transactionid' AND k.granted AND k.mode = 'ExclusiveLock'
	  AND k.transactionid::text = m.xid::text
	ORDER BY k.pid LIMIT 1`

// member is a session among several that have a row locked together; 0: the number is no list of transactions, or all
// of them have ended.
func (e *exam) member(ctx context.Context, list string) (int, error) {
	found, err := read[struct{ PID int }](ctx, e, memberSQL, list)
	if retry.SQLState(err) != "" {
		return 0, nil
	}
	if err != nil || len(found) == 0 {
		return 0, err
	}
	return found[0].PID, nil
}
