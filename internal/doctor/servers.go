package doctor

import (
	"context"
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/lastseat/lastseat/internal/pgsession"
	"github.com/lastseat/lastseat/outbox"
)

type standbys struct {
	Names     string // synchronous_standby_names
	Connected int
	Sync      int // of these: synchronous. 0 also if this role may not see that
	Visible   bool
	Waiting   int // sessions that wait for one, as far as this role may see
}

// checkStandbys looks whether the synchronous standbys that commits wait for are there.
var checkStandbys = look("standbys", `
	SELECT CASE WHEN pg_is_in_recovery() THEN '' ELSE current_setting('synchronous_standby_names') END,
	       (SELECT count(*) FROM pg_stat_replication),
	       (SELECT count(*) FROM pg_stat_replication r WHERE r.sync_state IN ('sync', 'quorum') AND r.state = 'streaming'),
	       pg_has_role('pg_read_all_stats', 'USAGE'),
	       (SELECT count(*) FROM pg_stat_activity a WHERE a.wait_event = 'SyncRep')`,
	func(_ *exam, rows []standbys) []Finding { return []Finding{judgeStandbys(rows[0])} })

var numSync = regexp.MustCompile(`(?i)^\s*(?:(?:first|any)\s+)?(\d+)\s*\(`)

// required is how many synchronous standbys a commit waits for.
func (s standbys) required() int {
	if parts := numSync.FindStringSubmatch(s.Names); parts != nil {
		n, _ := strconv.Atoi(parts[1])
		return n
	}
	return 1
}

func judgeStandbys(s standbys) Finding {
	there, need := s.Sync, s.required()
	if !s.Visible {
		there = s.Connected // not more than these
	}
	switch {
	case strings.TrimSpace(s.Names) == "":
		return ok("no commit waits for a standby")
	case there < need:
		return wrong("start the standby; or, if losing it is acceptable: ALTER SYSTEM SET synchronous_standby_names = '', "+
			"SELECT pg_reload_conf()", "every commit waits for a synchronous standby that is missing "+
			"(synchronous_standby_names is %s, %d of %d are there, %d sessions wait)", s.Names, there, need, s.Waiting)
	case !s.Visible:
		return note("GRANT pg_read_all_stats to see", "%d standbys are connected; whether they are synchronous (%s) is not "+
			"visible to this role", s.Connected, s.Names)
	}
	return ok("%d of %d synchronous standbys are there", there, need)
}

// primary is a server of the connection string that accepts writes.
type primary struct {
	address, history string
	lanes            int // that a worker holds there
}

const primarySQL = `
	SELECT pg_is_in_recovery(), coalesce(lastseat.server_history(), ''),
	       (SELECT count(*) FROM lastseat.lanes l JOIN pg_stat_activity a ON a.pid = l.pid
	        WHERE a.application_name = '` + outbox.LaneName + `' AND a.datname = current_database())`

// checkPrimaries connects to each server that the connection string names, and looks whether more than one accepts
// writes: after a failover the old one may have come back, and both would settle.
var checkPrimaries = check{"primaries", func(ctx context.Context, e *exam) ([]Finding, error) {
	config := e.pool.Config().ConnConfig
	seen := make(map[string]bool)
	var primaries []primary
	silent := 0
	hosts := append([]*pgx.ConnConfig{config}, others(config)...)
	for _, host := range hosts {
		address := fmt.Sprintf("%s:%d", host.Host, host.Port)
		if seen[address] {
			continue
		}
		seen[address] = true
		p, writes, err := ask(ctx, host)
		p.address = address
		switch {
		case err != nil && ctx.Err() != nil:
			return nil, err
		case err != nil:
			silent++
		case writes && !slices.ContainsFunc(primaries, func(known primary) bool { return known.history == p.history }):
			primaries = append(primaries, p)
		}
	}
	return []Finding{judgePrimaries(primaries, len(seen), silent)}, nil
}}

// others are the connections to the further servers of the connection string.
func others(config *pgx.ConnConfig) (hosts []*pgx.ConnConfig) {
	for _, fallback := range config.Fallbacks {
		host := config.Copy()
		host.Host, host.Port, host.TLSConfig = fallback.Host, fallback.Port, fallback.TLSConfig
		hosts = append(hosts, host)
	}
	return hosts
}

func ask(ctx context.Context, host *pgx.ConnConfig) (p primary, writes bool, err error) {
	ctx, cancel := context.WithTimeout(ctx, 3*time.Second)
	defer cancel()
	host = host.Copy()
	host.Fallbacks, host.ValidateConnect = nil, nil
	conn, err := pgsession.Connect(ctx, host)
	if err != nil {
		return p, false, err
	}
	defer func() { _ = conn.Close(context.WithoutCancel(ctx)) }()
	var standby bool
	err = conn.QueryRow(ctx, primarySQL).Scan(&standby, &p.history, &p.lanes)
	return p, !standby, err
}

func judgePrimaries(primaries []primary, named, silent int) Finding {
	if len(primaries) <= 1 {
		if silent > 0 && named > 1 {
			return note("", "%d of the %d servers in the connection string do not answer", silent, named)
		}
		return ok("one server accepts writes")
	}
	var who []string
	for _, p := range primaries {
		who = append(who, fmt.Sprintf("%s (%s, %d lanes held)", p.address, p.history, p.lanes))
	}
	return setup("stop the workers, find out which server is right, and shut the other down before they start again",
		"%d servers accept writes, and each may have workers: %s", len(primaries), strings.Join(who, ", "))
}
