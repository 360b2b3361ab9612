package doctor

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/jackc/pgx/v5"

	"github.com/lastseat/lastseat/internal/pgsession"
)

// checkSession looks for a connection pooler in transaction mode.
var checkSession = check{"session", func(ctx context.Context, e *exam) ([]Finding, error) {
	err := pgsession.CheckOwn(ctx, e.pool.Config().ConnConfig)
	if shared := (*pgsession.SharedError)(nil); errors.As(err, &shared) {
		return []Finding{Shared(shared)}, nil
	}
	if err != nil {
		return nil, err
	}
	return []Finding{ok("connections are sessions")}, nil
}}

// Shared is the finding about a pooler in transaction mode.
func Shared(err *pgsession.SharedError) Finding {
	return named("session", []Finding{setup("connect to Postgres directly, or set pool_mode = session", "%v", err)})[0]
}

type server struct {
	Recovery  bool
	Encoding  string
	ReadOnly  bool
	Triggers  string   // session_replication_role
	Elsewhere []string // roles and databases with another one
	Recorded  string   // server_history() of the last timeline that is recorded
	Here      string
}

// checkServer looks for settings of the server, the database and the role that keep a worker from its work, or keep
// triggers from firing: without them the database does not protect its rows, and no outcome gets into the feed.
var checkServer = look("server", `
	SELECT pg_is_in_recovery(), current_setting('server_encoding'),
	       current_setting('default_transaction_read_only') = 'on', current_setting('session_replication_role'),
	       ARRAY(SELECT coalesce(r.rolname, 'ALL') || ' in ' || coalesce(d.datname, 'every database')
	             FROM pg_db_role_setting s LEFT JOIN pg_roles r ON r.oid = s.setrole
	             LEFT JOIN pg_database d ON d.oid = s.setdatabase
	             WHERE (s.setdatabase = 0 OR d.datname = current_database())
	               AND EXISTS (SELECT FROM unnest(s.setconfig) c
	                           WHERE c LIKE 'session_replication_role=%' AND c <> 'session_replication_role=origin')),
	       coalesce((SELECT t.server FROM lastseat.timelines t ORDER BY t.number DESC LIMIT 1), ''),
	       coalesce(lastseat.server_history(), '')`,
	func(_ *exam, rows []server) []Finding { return judgeServer(rows[0]) })

func judgeServer(s server) (found []Finding) {
	if s.Recovery {
		found = append(found, setup("connect to the primary, or promote this one: SELECT pg_promote()",
			"this server is a standby: nothing can be settled here"))
	}
	if s.Encoding != "UTF8" {
		found = append(found, setup("CREATE DATABASE ... ENCODING 'UTF8' TEMPLATE template0, and migrate that",
			"the database's encoding is %s, and has to be UTF8", s.Encoding))
	}
	if s.Triggers != "origin" || len(s.Elsewhere) > 0 {
		whose := "this session"
		if len(s.Elsewhere) > 0 {
			whose = strings.Join(s.Elsewhere, ", ")
		}
		found = append(found, setup("ALTER ROLE ... RESET session_replication_role, or ALTER DATABASE ..., and connect again",
			"session_replication_role is not origin for %s: triggers don't fire, so nothing protects the rows and no "+
				"outcome reaches its readers", whose))
	}
	if s.ReadOnly && !s.Recovery {
		found = append(found, warning(
			"ALTER DATABASE ... RESET default_transaction_read_only (or ALTER ROLE ..., or ALTER SYSTEM ...)",
			"default_transaction_read_only is on: services can't ask for anything. The worker goes on"))
	}
	if !s.Recovery && s.Recorded != "" && s.Recorded != s.Here {
		found = append(found, warning("make sure that no worker is left on the server from before: two primaries would "+
			"both settle", "this server is not the one where outcomes were last settled (%s, here %s): it was restored "+
			"or promoted, and nothing was settled since", s.Recorded, s.Here))
	}
	if len(found) == 0 {
		found = append(found, ok("a primary, UTF8, triggers fire"))
	}
	return found
}

// role is what the role of the doctor may do.
type role struct {
	Name   string
	Works  bool // all that a worker needs
	Looks  bool // read the tables
	Probes bool // insert a job, and delete it again
	Sees   bool // other sessions' states and statements
}

// checkRole looks for one right of each kind that a worker needs. Somebody who may only look is no fault. Somebody who
// may not look learns that once, and not from each check that follows.
var checkRole = look("role", RightsSQL, func(e *exam, rows []role) []Finding {
	e.role = rows[0]
	return judgeRole(e.role)
})

// RightsSQL tells what the role may do: work, look, send a probe, see other sessions.
const RightsSQL = `
	SELECT current_user::text,
	       has_table_privilege('lastseat.river_job', 'DELETE') AND has_table_privilege('lastseat.transfers', 'INSERT')
	         AND has_column_privilege('lastseat.requests', 'status', 'UPDATE')
	         AND has_sequence_privilege('lastseat.transfers_id_seq', 'USAGE'),
	       has_table_privilege('lastseat.lanes', 'SELECT') AND has_table_privilege('lastseat.river_job', 'SELECT'),
	       has_table_privilege('lastseat.river_job', 'INSERT') AND has_table_privilege('lastseat.river_job', 'DELETE')
	         AND has_sequence_privilege('lastseat.river_job_id_seq', 'USAGE'),
	       pg_has_role('pg_read_all_stats', 'USAGE')`

func judgeRole(r role) []Finding {
	switch {
	case !r.Looks:
		found := wrong("GRANT lastseat_viewer TO "+pgx.Identifier{r.Name}.Sanitize()+", or connect as lastseat_worker",
			"role %s may not look: permission denied for the tables of the schema lastseat", r.Name)
		found.Cause = Right
		return []Finding{found}
	case !r.Probes:
		return []Finding{note("", "role %s may look, not work: no probe is sent", r.Name)}
	case !r.Works:
		return []Finding{note("", "role %s may not do all that a worker does", r.Name)}
	}
	return []Finding{ok("role %s may work", r.Name)}
}

// unseen is what is said in place of what only members of pg_read_all_stats see.
func (r role) unseen() string {
	return fmt.Sprintf("to see what it does: GRANT pg_read_all_stats TO %s", r.Name)
}
