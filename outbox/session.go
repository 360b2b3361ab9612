package outbox

import (
	"context"
	"fmt"
	"time"
)

// laneName is the application_name of a lane's session.
const laneName = "lastseat lane"

// sessionSQL prepares a connection for the lane. The planner settings keep every access by key or along one index:
// a plan that was cached while a table was empty would otherwise scan it when it is full. The idle timeouts free
// the lane from a worker that is frozen, the keepalives from one whose machine is gone. lock_timeout keeps a
// wait for a lock short: everything else waits meanwhile.
const sessionSQL = `
	SELECT set_config(name, value, false) FROM (VALUES
		('application_name', '` + laneName + `'), ('lastseat.lane', 'on'),
		('enable_seqscan', 'off'), ('enable_hashjoin', 'off'), ('enable_mergejoin', 'off'), ('enable_bitmapscan', 'off'),
		('jit', 'off'), ('plan_cache_mode', 'force_generic_plan'), ('lock_timeout', '250ms'), ('statement_timeout', '0'),
		('idle_in_transaction_session_timeout', $1), ('idle_session_timeout', $2),
		('default_transaction_read_only', 'off'),
		('tcp_keepalives_idle', '5'), ('tcp_keepalives_interval', '5'), ('tcp_keepalives_count', '3')
	) AS setting(name, value)`

func (l *lane) prepareSession(ctx context.Context) error {
	l.chain.forget()
	milliseconds := func(d time.Duration) string { return fmt.Sprintf("%dms", d.Milliseconds()) }
	inTransaction, idle := milliseconds(l.settings.HoldLimit), milliseconds(max(time.Minute, 2*l.settings.Poll))
	if _, err := l.conn.Exec(ctx, sessionSQL, inTransaction, idle); err != nil {
		return fmt.Errorf("prepare the lane's session: %w", err)
	}
	if err := l.endLast(ctx); err != nil {
		return err
	}
	l.newHolder()
	if l.borrowed {
		return nil // notifications would pile up in it
	}
	if _, err := l.conn.Exec(ctx, `LISTEN "lastseat.river_insert"`); err != nil {
		return fmt.Errorf("listen for jobs: %w", err)
	}
	return nil
}
