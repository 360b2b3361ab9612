package outbox

import (
	"context"
	"fmt"

	"github.com/jackc/pgx/v5"
)

// share is the part of a queue that is one lane's.
type share struct {
	settings Settings
	kinds    *Kinds
	number   int // of the lane, from 0
	chain    *chain
}

// laneFilterSQL picks the jobs j of one of several lanes, by the hash of what their kind is ordered by.
const laneFilterSQL = `
		  AND abs(hashtextextended(coalesce(j.args ->> (
		        SELECT o.arg FROM unnest(@kinds::text[], @order_by::text[]) AS o(kind, arg) WHERE o.kind = j.kind
		      ), j.args ->> 'key', ''), 0) % @lanes) = @lane`

// filterSQL is empty if the lane has the whole queue.
func (s *share) filterSQL() string {
	if s.settings.Lanes > 1 {
		return laneFilterSQL
	}
	return ""
}

// args are the named arguments of a statement that looks at the first limit jobs of the lane.
func (s *share) args(limit int) pgx.NamedArgs {
	args := pgx.NamedArgs{"queue": s.settings.Queue, "limit": limit}
	if s.settings.Lanes > 1 {
		var kinds, orderBy []string
		for name, registered := range s.kinds.byName {
			kinds, orderBy = append(kinds, name), append(orderBy, registered.kind.OrderBy)
		}
		args["kinds"], args["order_by"], args["lanes"], args["lane"] = kinds, orderBy, s.settings.Lanes, s.number
	}
	return args
}

const dueSQL = `
	SELECT EXISTS (SELECT FROM lastseat.river_job j
	               WHERE j.state = 'available' AND j.queue = $1 AND j.scheduled_at <= now())
	   AND NOT EXISTS (SELECT FROM lastseat.river_queue q WHERE q.name = $1 AND q.paused_at IS NOT NULL)`

// due tells whether any job of the queue waits, including jobs that another session has locked and those of other
// lanes.
func (s *share) due(ctx context.Context, conn *pgx.Conn) (bool, error) {
	var due bool
	if err := conn.QueryRow(ctx, dueSQL, s.settings.Queue).Scan(&due); err != nil {
		return false, fmt.Errorf("look for jobs: %w", err)
	}
	return due, nil
}
