package doctor

import (
	"context"
	"fmt"
	"time"

	"github.com/lastseat/lastseat/internal/quote"
)

// holder is what keeps Postgres from removing dead rows, or readers of outcomes from going on.
type holder struct {
	What     string // session, prepared, slot
	Name     string // of a prepared transaction or a slot
	PID      int
	Database string
	Here     bool // it is about this database, or about all
	Writes   bool // it has a transaction id: readers of outcomes wait for its end
	Age      int  // in transactions
	Seconds  *float64
	Active   bool
}

// horizonSQL finds who holds back the horizon: sessions with an old snapshot or transaction, prepared transactions, and
// what a standby or a slot reports.
const horizonSQL = `
	SELECT * FROM (
		SELECT 'session', '', a.pid, coalesce(a.datname::text, ''), a.datname = current_database() OR a.datname IS NULL,
		       a.backend_xid IS NOT NULL, greatest(age(a.backend_xid), age(a.backend_xmin)) AS age,
		       extract(epoch FROM clock_timestamp() - a.xact_start)::float8 AS lasted, true
		FROM pg_stat_activity a
		WHERE (a.backend_xid IS NOT NULL OR a.backend_xmin IS NOT NULL) AND a.pid <> pg_backend_pid()
		  AND coalesce(a.backend_type, '') <> 'autovacuum worker'
		UNION ALL
		SELECT 'prepared', p.gid, 0, p.database::text, p.database = current_database(), true, age(p.transaction),
		       extract(epoch FROM clock_timestamp() - p.prepared)::float8, true
		FROM pg_prepared_xacts p
		UNION ALL
		SELECT 'slot', s.slot_name::text, coalesce(s.active_pid, 0), coalesce(s.database::text, ''), true, false,
		       age(s.xmin), NULL, s.active
		FROM pg_replication_slots s WHERE s.xmin IS NOT NULL
	) h
	ORDER BY h.lasted DESC NULLS LAST, h.age DESC LIMIT 100`

const (
	// oldest is what takes the place of Options.Open, in transactions, where it is not known how long one has been open.
	oldest = 100_000
	// mostHolders is how many are named.
	mostHolders = 3
)

// checkHorizon looks for what keeps dead rows of the queue in place, which every batch then reads past, and what keeps
// readers of outcomes waiting: they stop at the oldest transaction that is still open.
var checkHorizon = check{"horizon", func(ctx context.Context, e *exam) (found []Finding, err error) {
	rows, err := read[holder](ctx, e, horizonSQL)
	if err != nil {
		return nil, err
	}
	for _, h := range rows {
		if !h.tells(e.Open) || len(found) == mostHolders {
			continue
		}
		who := ""
		if h.What == "session" {
			sessions, err := e.sessions(ctx, h.PID)
			if err != nil {
				return nil, err
			}
			who = e.describe(sessions[h.PID])
		}
		found = append(found, judgeHolder(h, who))
	}
	if len(found) == 0 {
		found = append(found, ok("no transaction has been open for long"))
	}
	return found, nil
}}

// tells whether a holder is worth naming.
func (h holder) tells(open time.Duration) bool {
	switch {
	case !h.Here && !h.Writes: // another database's snapshot is nothing to ours
		return false
	case h.What == "slot" && !h.Active:
		return true
	case h.Seconds != nil:
		return seconds(*h.Seconds) >= open
	}
	return h.Age >= oldest
}

func judgeHolder(h holder, who string) Finding {
	effect := "it keeps dead rows in place, and every batch reads past them"
	switch {
	case h.Writes && h.Here:
		effect = "it keeps dead rows in place, and outcomes_since shows nothing that was settled after it began"
	case h.Writes:
		effect = "outcomes_since shows nothing that was settled after it began"
	}
	lasted := fmt.Sprintf("%d transactions old", h.Age)
	if h.Seconds != nil {
		lasted = span(seconds(*h.Seconds)) + " old"
	}
	switch h.What {
	case "prepared":
		return warning(fmt.Sprintf("in the database %s: ROLLBACK PREPARED %s, or COMMIT PREPARED", h.Database,
			quote.Literal(h.Name)),
			"the prepared transaction %q of the database %s is %s: %s", h.Name, h.Database, lasted, effect)
	case "slot":
		state := "in use"
		if !h.Active {
			state = "not in use"
		}
		do := fmt.Sprintf("SELECT pg_drop_replication_slot(%s) if its standby is gone, or hot_standby_feedback = off there",
			quote.Literal(h.Name))
		return warning(do, "the replication slot %q, which is %s, holds a snapshot %s: %s", h.Name,
			state, lasted, effect)
	}
	return warning(end(h.PID)+"; idle_in_transaction_session_timeout prevents it",
		"a transaction is %s: %s (%s)", lasted, effect, who)
}

type notifications struct {
	Usage  float64
	Oldest *int // the session whose transaction has been open longest, as far as this role sees
}

// checkNotifications looks how full the server's queue of notifications is. A session that listens and stays in a
// transaction keeps it from being emptied.
var checkNotifications = check{"notify", func(ctx context.Context, e *exam) ([]Finding, error) {
	rows, err := read[notifications](ctx, e, `
		SELECT pg_notification_queue_usage(), (SELECT a.pid FROM pg_stat_activity a WHERE a.xact_start IS NOT NULL
		  AND a.backend_type = 'client backend' AND a.pid <> pg_backend_pid() ORDER BY a.xact_start LIMIT 1)`)
	if err != nil {
		return nil, err
	}
	who := e.role.unseen()
	if pid := rows[0].Oldest; pid != nil {
		sessions, err := e.sessions(ctx, *pid)
		if err != nil {
			return nil, err
		}
		who = e.describe(sessions[*pid])
	}
	return []Finding{judgeNotifications(rows[0], who)}, nil
}}

func judgeNotifications(n notifications, who string) Finding {
	do := "end the session that listens and stays in a transaction"
	if n.Oldest != nil {
		do += ", which may be the oldest one: " + end(*n.Oldest)
	}
	if n.Usage < 0.5 {
		return ok("the notification queue is %.0f%% full", 100*n.Usage)
	}
	return warning(do, "the server's notification queue is %.0f%% full: nobody is notified any more, lanes and waiting "+
		"callers look by themselves; once it is full, a commit that notifies fails (the oldest transaction: %s)",
		100*n.Usage, who)
}
