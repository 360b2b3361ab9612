// Package doctor tells whether requests are being settled, and if not, why, and what to type. Health is read from the
// work itself: how old the oldest due request is, when something was last settled, and whether a probe is settled. What
// else may be wrong (a stranger's lock, a standby that is missing, a transaction that stays open) explains it.
//
// It only reads, except for the probe: a job of the kind outbox.ProbeKind, which the lane deletes in its turn.
package doctor

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/lastseat/lastseat/internal/pgsession"
	"github.com/lastseat/lastseat/internal/retry"
	"github.com/lastseat/lastseat/schema"
)

// Severity is how bad a finding is.
type Severity string

// The severities, from good to bad.
const (
	OK      Severity = "ok"
	Note    Severity = "note"    // what this role can't see or do
	Warning Severity = "warning" // requests are being settled; somebody should look at it all the same
	Wrong   Severity = "wrong"   // requests are not being settled, or not as they should be
)

// Cause tells a setup that has to be changed from trouble that may pass.
type Cause int

// The causes of what is wrong.
const (
	Trouble Cause = iota
	Setup         // of the database, its schema, the worker or something in between
	Right         // that the role lacks
)

// Finding is what a check has found.
type Finding struct {
	Check    string   `json:"check"`
	Severity Severity `json:"severity"`
	OK       bool     `json:"ok"` // not wrong
	Told     string   `json:"told"`
	Do       string   `json:"do,omitempty"` // what to type or to change
	Cause    Cause    `json:"-"`
}

func wrong(do, format string, args ...any) Finding {
	return Finding{Severity: Wrong, Told: fmt.Sprintf(format, args...), Do: do}
}

func setup(do, format string, args ...any) Finding {
	return Finding{Severity: Wrong, Cause: Setup, Told: fmt.Sprintf(format, args...), Do: do}
}

func warning(do, format string, args ...any) Finding {
	return Finding{Severity: Warning, Told: fmt.Sprintf(format, args...), Do: do}
}

func note(do, format string, args ...any) Finding {
	return Finding{Severity: Note, Told: fmt.Sprintf(format, args...), Do: do}
}

func ok(format string, args ...any) Finding {
	return Finding{Severity: OK, Told: fmt.Sprintf(format, args...)}
}

// Options of an examination.
type Options struct {
	// Patience is how long a due request may wait while nothing is settled, and how long a probe may take; default 10s.
	Patience time.Duration
	// Open is how long a transaction may be open before it is named; default 1m.
	Open time.Duration
	// NoProbe: no probe is sent.
	NoProbe bool
	// Lanes is the number of lanes that a worker of this configuration would have; 0: not known.
	Lanes int
}

// exam is an examination in progress: what was read so far, for the checks that come later.
type exam struct {
	Options
	pool   *pgxpool.Pool
	role   role
	lanes  []lane
	queues []queue
	// stalled are the lanes that are known to stand still.
	stalled []lane
}

// check reads something and judges it. It returns what is wrong or worth knowing, or one finding that all is well.
type check struct {
	name string
	run  func(ctx context.Context, e *exam) ([]Finding, error)
}

// look is a check of rows: sql reads them, and judge, which touches nothing else, says what they mean.
func look[T any](name, sql string, judge func(e *exam, rows []T) []Finding) check {
	return check{name, func(ctx context.Context, e *exam) ([]Finding, error) {
		rows, err := read[T](ctx, e, sql)
		if err != nil {
			return nil, err
		}
		return judge(e, rows), nil
	}}
}

// checks are all of them, in the order in which they are made. Nothing is looked for after one that is essential has
// failed.
var checks = []check{
	checkSession, checkRole, checkServer, checkLanes, checkQueues, checkProbe, checkDeaths, checkKinds, checkLocks,
	checkScheduled, checkPostponed, checkFailed, checkCalls, checkStrangers, checkStandbys, checkPrimaries, checkHorizon,
	checkNotifications,
}

// Examine makes all checks. The error is one of the connection: nothing can be said then.
func Examine(ctx context.Context, pool *pgxpool.Pool, options Options) ([]Finding, error) {
	if options.Patience <= 0 {
		options.Patience = 10 * time.Second
	}
	if options.Open <= 0 {
		options.Open = time.Minute
	}
	e := &exam{Options: options, pool: pool}
	found, err := e.schema(ctx)
	if err != nil || found.Severity == Wrong {
		return named("schema", []Finding{found}), err
	}
	findings := named("schema", []Finding{found})
	for _, check := range checks {
		found, err := check.run(ctx, e)
		if err != nil {
			if ctx.Err() != nil || retry.SQLState(err) == "" && !errors.As(err, new(*pgsession.SharedError)) {
				return findings, fmt.Errorf("%s: %w", check.name, err)
			}
			found = []Finding{e.refused(err)}
		}
		findings = append(findings, named(check.name, few(found))...)
		if check.name == checkRole.name && !e.role.Looks {
			return findings, nil
		}
	}
	return findings, nil
}

// mostFindings of a check are told.
const mostFindings = 10

// few leaves out most of very many findings, the least severe first: anybody who may ask can ask for thousands of
// kinds that nobody has, and what else is wrong has to be found among them.
func few(findings []Finding) []Finding {
	if len(findings) <= mostFindings {
		return findings
	}
	severity := []Severity{Wrong, Warning, Note, OK}
	slices.SortStableFunc(findings, func(a, b Finding) int {
		return slices.Index(severity, a.Severity) - slices.Index(severity, b.Severity)
	})
	rest := findings[mostFindings:]
	return append(findings[:mostFindings:mostFindings], Finding{
		Severity: rest[0].Severity, Cause: rest[0].Cause, Do: "the same as with those above",
		Told: fmt.Sprintf("and %d more", len(rest)),
	})
}

// schema is the one check without which no other can be made.
func (e *exam) schema(ctx context.Context) (Finding, error) {
	var version string
	err := e.pool.QueryRow(ctx, `SELECT current_setting('server_version')`).Scan(&version)
	if err == nil {
		err = schema.Check(ctx, e.pool)
	}
	switch {
	case err == nil:
		return ok("Postgres %s, schema up to date", version), nil
	case errors.As(err, new(*schema.VersionError)):
		return setup("", "%v", err), nil
	case retry.SQLState(err) != "":
		return e.refused(err), nil
	}
	return Finding{}, err
}

// refused is the finding about an error of Postgres in a check.
func (e *exam) refused(err error) Finding {
	const insufficientPrivilege, queryCanceled = "42501", "57014"
	switch retry.SQLState(err) {
	case insufficientPrivilege:
		found := wrong("GRANT lastseat_viewer TO this role, or connect as lastseat_worker", "%v", err)
		found.Cause = Right
		return found
	case queryCanceled:
		return warning("look at what is slow: a transaction that stays open keeps dead rows in place",
			"could not be read within %v", checkLimit)
	}
	return wrong("", "%v", err)
}

func named(check string, findings []Finding) []Finding {
	for i := range findings {
		f := &findings[i]
		f.Check, f.OK = check, f.Severity != Wrong
		f.Told = strings.Join(strings.Fields(f.Told), " ")
	}
	return findings
}

// checkLimit bounds the reading of a check.
const checkLimit = 5 * time.Second

// The planner settings keep every access by key or along one index, as in the lane's session.
const readingSQL = `
	SELECT set_config(name, value, true) FROM (VALUES
		('statement_timeout', '5s'), ('lock_timeout', '1s'), ('enable_seqscan', 'off'), ('enable_hashjoin', 'off'),
		('enable_mergejoin', 'off'), ('enable_bitmapscan', 'off'), ('jit', 'off')
	) AS setting(name, value)`

// read reads rows in a transaction of its own that can't write.
func read[T any](ctx context.Context, e *exam, sql string, args ...any) (rows []T, err error) {
	err = pgx.BeginTxFunc(ctx, e.pool, pgx.TxOptions{AccessMode: pgx.ReadOnly}, func(tx pgx.Tx) error {
		if _, err := tx.Exec(ctx, readingSQL); err != nil {
			return err
		}
		found, err := tx.Query(ctx, sql, args...)
		if err != nil {
			return err
		}
		rows, err = pgx.CollectRows(found, pgx.RowToStructByPos[T])
		return err
	})
	return rows, err
}

// span writes how long something has lasted.
func span(d time.Duration) string {
	if d < 10*time.Second {
		return d.Round(100 * time.Millisecond).String()
	}
	return d.Round(time.Second).String()
}
