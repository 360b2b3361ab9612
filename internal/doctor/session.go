package doctor

import (
	"context"
	"fmt"
	"strings"
	"time"
	"unicode/utf8"
)

// session is another session, as pg_stat_activity shows it to this role.
type session struct {
	PID         int
	Role        string
	Application string
	Visible     bool // whether this role may know the rest
	State       string
	Wait        string
	Address     string
	Transaction *float64 // how long its transaction has lasted, in seconds
	Since       *float64 // how long it has been in its state
	Statement   string
}

const sessionsSQL = `
	SELECT a.pid, coalesce(a.usename::text, ''), coalesce(a.application_name, ''),
	       coalesce(pg_has_role('pg_read_all_stats', 'USAGE') OR pg_has_role(a.usesysid, 'USAGE'), false),
	       coalesce(a.state, ''), coalesce(a.wait_event, ''), coalesce(host(a.client_addr), ''),
	       extract(epoch FROM clock_timestamp() - a.xact_start)::float8,
	       extract(epoch FROM clock_timestamp() - a.state_change)::float8, coalesce(a.query, '')
	FROM pg_stat_activity a WHERE a.pid = ANY ($1::int[])`

// sessions looks up the sessions of processes of Postgres.
func (e *exam) sessions(ctx context.Context, pids ...int) (map[int]session, error) {
	rows, err := read[session](ctx, e, sessionsSQL, pids)
	found := make(map[int]session, len(rows))
	for _, s := range rows {
		found[s.PID] = s
	}
	return found, err
}

// longestStatement is how much of a statement is shown.
const longestStatement = 120

// describe writes who a session is and what it does, as far as it may be seen.
func (e *exam) describe(s session) string {
	text := []string{fmt.Sprintf("pid %d", s.PID), "role " + s.Role}
	if s.Application != "" {
		text = append(text, s.Application)
	}
	if !s.Visible {
		return strings.Join(append(text, e.role.unseen()), ", ")
	}
	if s.Address != "" {
		text = append(text, "from "+s.Address)
	}
	state := s.State
	if s.Since != nil {
		state += " for " + span(seconds(*s.Since))
	}
	if s.Wait != "" && s.State == "active" {
		state += ", waits for " + s.Wait
	}
	if s.Transaction != nil {
		state += ", its transaction has lasted " + span(seconds(*s.Transaction))
	}
	text = append(text, state)
	if s.Statement != "" {
		text = append(text, "statement "+shortened(s.Statement))
	}
	return strings.Join(text, ", ")
}

func shortened(statement string) string {
	statement = strings.Join(strings.Fields(statement), " ")
	if utf8.RuneCountInString(statement) > longestStatement {
		statement = string([]rune(statement)[:longestStatement]) + "..."
	}
	return statement
}

func seconds(s float64) time.Duration { return time.Duration(s * float64(time.Second)) }

// end is what to type to end a session.
func end(pid int) string { return fmt.Sprintf("SELECT pg_terminate_backend(%d)", pid) }
