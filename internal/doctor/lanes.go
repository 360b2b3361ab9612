package doctor

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/lastseat/lastseat/outbox"
)

// lane is a row of lastseat.lanes, with what is known of its holder's session.
type lane struct {
	Queue   string
	Number  int
	Lanes   int
	Holder  string // empty: the last one has left it
	PID     int    // of the holder's process of Postgres
	Taken   *time.Time
	Settled *time.Time // the lane has last settled something; it is noted once a second at most
	Unclean int
	Trying  int64
	Size    int
	Lives   bool // the holder's session is there
	Now     time.Time
}

const lanesSQL = `
	SELECT l.queue, l.lane, l.lanes, coalesce(l.holder, ''), coalesce(l.pid, 0), l.taken_at, l.settled_at, l.unclean,
	       coalesce(l.trying, 0), coalesce(l.trying_size, 0),
	       l.holder IS NOT NULL AND EXISTS (
	         SELECT FROM pg_stat_activity a
	         WHERE a.pid = l.pid AND a.datname = current_database() AND a.application_name = '` + outbox.LaneName + `'
	           AND pg_has_role(a.usesysid, 'lastseat_worker', 'MEMBER')), clock_timestamp()
	FROM lastseat.lanes l WHERE l.lane < l.lanes ORDER BY l.queue, l.lane`

func (l lane) String() string {
	name := fmt.Sprintf("lane %d of %d", l.Number, l.Lanes)
	if l.Queue != outbox.Queue {
		name += " of the queue " + l.Queue
	}
	return name
}

// since is how long ago the lane has settled something, or was taken.
func (l lane) since() time.Duration {
	var last time.Time
	for _, at := range []*time.Time{l.Taken, l.Settled} {
		if at != nil && at.After(last) {
			last = *at
		}
	}
	return l.Now.Sub(last)
}

// worker is the holder's name: host, process and time, without what tells its lanes apart.
func (l lane) worker() string {
	name, _, _ := strings.Cut(l.Holder, " ")
	return name
}

// checkLanes looks who holds the lanes. The lanes' rows say it; advisory locks can be taken by anybody.
var checkLanes = look("lanes", lanesSQL, func(e *exam, rows []lane) []Finding {
	e.lanes = rows
	return judgeLanes(rows, e.Lanes)
})

func judgeLanes(lanes []lane, configured int) (found []Finding) {
	held, ours := 0, false
	for _, l := range lanes {
		ours = ours || l.Queue == outbox.Queue
		switch {
		case l.Lives:
			held++
		case l.Queue != outbox.Queue && l.Holder == "": // checkQueues says so if anything waits there
		case l.Holder == "":
			found = append(found, wrong("worker run", "no worker holds %v", l))
		default:
			found = append(found, wrong("worker run; the worker's log says why it ended",
				"no worker holds %v: %s has ended without leaving it", l, l.worker()))
		}
		if l.Queue == outbox.Queue && l.Number == 0 && configured > 0 && configured != l.Lanes {
			found = append(found, warning(fmt.Sprintf("set LASTSEAT_LANES=%d, or the same for all workers", l.Lanes),
				"this configuration splits the queue into another number of lanes, %d, than the worker that settles: a worker "+
					"with it would stand by", configured))
		}
	}
	if !ours {
		found = append(found, wrong("worker run", "no worker holds lane 0: none was ever started"))
	}
	if len(found) == 0 {
		found = append(found, ok("%d held by a worker", held))
	}
	return found
}

// checkDeaths looks, once the probe is through, whether workers end again and again. The lane's row counts those in a
// row that settled nothing.
var checkDeaths = look("deaths", lanesSQL, func(e *exam, rows []lane) []Finding {
	due := make(map[string]bool)
	for _, q := range e.queues {
		due[q.Name] = q.Due > 0
	}
	return judgeDeaths(rows, due)
})

func judgeDeaths(lanes []lane, due map[string]bool) (found []Finding) {
	for _, l := range lanes {
		told := fmt.Sprintf("%d workers in a row ended without settling anything in %v", l.Unclean, l)
		if l.Size > 0 {
			told += fmt.Sprintf(", the last one in a batch of %d from job %d on", l.Size, l.Trying)
		}
		do := "look at the workers' logs, exit codes and memory; a job that was alone when two ended gets a failed attempt"
		switch {
		case l.Unclean == 0:
		case l.Unclean > 1 && (due[l.Queue] || !l.Lives):
			found = append(found, wrong(do, "%s", told))
		case due[l.Queue] || !l.Lives:
			found = append(found, warning(do, "%s", told))
		}
	}
	if len(found) == 0 {
		found = append(found, ok("no worker has ended without settling anything"))
	}
	return found
}

// stranger is a session that holds a lane's advisory lock and is not its holder.
type stranger struct {
	Queue string
	Lane  int
	Lanes int
	PID   int // 0: a prepared transaction
	Named bool
	Lives bool // the lane has a holder
}

// checkStrangers looks for sessions that hold a lane's advisory lock and do not settle. The lock says which worker goes
// first. A login that is no worker's is passed by. One that calls itself a lane's (a pooler's session that once was) is
// not.
var checkStrangers = check{"strangers", func(ctx context.Context, e *exam) (found []Finding, err error) {
	rows, err := read[stranger](ctx, e, strangersSQL)
	if err != nil {
		return nil, err
	}
	for _, s := range rows {
		sessions, err := e.sessions(ctx, s.PID)
		if err != nil {
			return nil, err
		}
		found = append(found, judgeStranger(s, e.describe(sessions[s.PID])))
	}
	if len(found) == 0 {
		found = append(found, ok("no other session has a lane's lock"))
	}
	return found, nil
}}

const strangersSQL = `
	SELECT l.queue, l.lane, l.lanes, coalesce(k.pid, 0),
	       coalesce(a.application_name = '` + outbox.LaneName + `'
	         AND pg_has_role(a.usesysid, 'lastseat_worker', 'MEMBER'), false),
	       l.holder IS NOT NULL AND EXISTS (SELECT FROM pg_stat_activity h WHERE h.pid = l.pid
	         AND h.datname = current_database() AND h.application_name = '` + outbox.LaneName + `')
	FROM (SELECT l.queue, l.lane, l.lanes, l.holder, l.pid FROM lastseat.lanes l WHERE l.lane < l.lanes
	      UNION ALL SELECT '` + outbox.Queue + `', 0, 1, NULL, NULL
	      WHERE NOT EXISTS (SELECT FROM lastseat.lanes l WHERE l.queue = '` + outbox.Queue + `')) l
	JOIN pg_locks k ON k.locktype = 'advisory' AND k.granted AND k.objsubid = 1
	  AND k.database = (SELECT d.oid FROM pg_database d WHERE d.datname = current_database())
	  AND (k.classid::bigint << 32 | k.objid::bigint) = lastseat.lane_lock(l.queue, l.lane, l.lanes)
	LEFT JOIN pg_stat_activity a ON a.pid = k.pid
	WHERE k.pid IS DISTINCT FROM l.pid ORDER BY 1, 2, 4`

func judgeStranger(s stranger, who string) Finding {
	name := lane{Queue: s.Queue, Number: s.Lane, Lanes: s.Lanes}
	if s.PID == 0 {
		return warning("SELECT gid, owner, prepared FROM pg_prepared_xacts, then ROLLBACK PREPARED or COMMIT PREPARED",
			"a prepared transaction has the lock of %v", name)
	}
	if s.Named && !s.Lives {
		return wrong(end(s.PID), "a session that is no worker's any more has the lock of %v, so no worker takes the lane: "+
			"a pooler in transaction mode leaves such sessions behind (%s)", name, who)
	}
	return warning(end(s.PID), "a session that does not settle has the lock of %v; workers pass it by (%s)", name, who)
}
