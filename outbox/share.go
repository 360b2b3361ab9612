package outbox

import (
	"context"
	"fmt"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
)

// share is the part of a queue that is one lane's.
type share struct {
	settings Settings
	kinds    *Kinds
	number   int    // of the lane, from 0
	holder   string // the session's name, as the lane's row has it while the lane is this session's
	chain    *chain
	leftOut  []int64       // jobs that can't be settled, nor charged, nor discarded
	pool     *pgxpool.Pool // for patrols
	progress progress      // what the lane's row has of it
}

// kindFilterSQL picks the jobs j whose kind the worker has. As an expression it offers the planner no index: from the
// plain column it may make a walk through all jobs of these kinds, the finished ones included.
const kindFilterSQL = `
		  AND j.kind || '' = ANY (@kinds::text[])`

// leftOutSQL leaves out the jobs whose rows can't be written.
const leftOutSQL = `
		  AND j.id <> ALL (@left_out::bigint[])`

// laneFilterSQL picks the jobs j of one of several lanes, by the hash of what their kind is ordered by.
const laneFilterSQL = `
		  AND abs(hashtextextended(coalesce(j.args ->> (
		        SELECT o.arg FROM unnest(@kinds::text[], @order_by::text[]) AS o(kind, arg) WHERE o.kind = j.kind
		      ), j.args ->> 'key', ''), 0) % @lanes) = @lane`

// filterSQL picks the jobs j that are the lane's to settle.
func (s *share) filterSQL() string {
	if s.settings.Lanes > 1 {
		return s.kindsSQL() + laneFilterSQL
	}
	return s.kindsSQL()
}

// kindsSQL picks the jobs j that the worker can settle, in whichever lane.
func (s *share) kindsSQL() string {
	if len(s.leftOut) > 0 {
		return kindFilterSQL + leftOutSQL
	}
	return kindFilterSQL
}

// args are the named arguments of a statement that looks at the first limit jobs of the lane.
func (s *share) args(limit int) pgx.NamedArgs {
	kinds := s.kinds.names()
	args := pgx.NamedArgs{"queue": s.settings.Queue, "limit": limit, "kinds": kinds, "left_out": s.leftOut}
	args["orders"] = s.kinds.orders()
	args["lanes"], args["lane"], args["holder"] = s.settings.Lanes, s.number, s.holder
	if s.settings.Lanes > 1 {
		orderBy := make([]string, len(kinds))
		for i, name := range kinds {
			orderBy[i] = s.kinds.byName[name].kind.OrderBy
		}
		args["order_by"] = orderBy
	}
	return args
}

const (
	dueSQL = `
	SELECT EXISTS (SELECT FROM ` + rangesSQL + `, LATERAL (
	                   SELECT FROM lastseat.river_job j WHERE ` + waitingSQL
	pausedSQL = ` LIMIT 1) j)
	   AND NOT EXISTS (SELECT FROM lastseat.river_queue q WHERE q.name = @queue AND q.paused_at IS NOT NULL)`
)

// due tells whether any job of the queue waits that the worker can settle, including jobs that another session has
// locked and those of other lanes. It looks at the queue from where b begins.
func (s *share) due(ctx context.Context, conn *pgx.Conn, b bound) (bool, error) {
	var due bool
	if err := conn.QueryRow(ctx, dueSQL+s.kindsSQL()+pausedSQL, b.args(s.args(1))).Scan(&due); err != nil {
		return false, fmt.Errorf("look for jobs: %w", err)
	}
	return due, nil
}
