package outbox

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgtype"
)

// A lane claims the kinds that its worker has. Jobs of other kinds stay in the queue as they are, without an attempt:
// another worker may have their kind. The lane says so, and leaves itself to a worker that stands by for a turn.

const (
	// aroundInterval is how often the lane looks for jobs of other kinds.
	aroundInterval = time.Second
	// aroundLimit is how many due jobs it reads each time. The next look goes on from there.
	aroundLimit = 5000
	// mostKinds is how many other kinds the lane keeps apart.
	mostKinds = 20
	// newKindInterval is how soon the log names another kind, after the last line about kinds.
	newKindInterval = 10 * time.Second
	// shortestTurn and longestTurn are how long the lane keeps itself, while jobs of other kinds are due and another
	// worker stands by. It is the longest where the last turn of somebody else has changed nothing about these jobs.
	shortestTurn, longestTurn = time.Second, time.Minute
)

// errGaveWay says that the lane has been left to a worker that stands by.
var errGaveWay = errors.New("the lane was left to another worker for a turn")

// lacking is what the lane knows of due jobs of kinds that its worker lacks.
type lacking struct {
	next  time.Time              // when the lane looks again
	from  place                  // where in the queue that look begins
	found map[string]lackingKind // since the beginning of the queue
	last  map[string]lackingKind // in the last walk through the whole queue

	said  time.Time
	named map[string]bool // kinds that the log has named

	gave  time.Time // when the lane was left to others the last time
	pause time.Duration
	given map[string]int64 // the first job of each kind at that time
}

// place is one in the order of the queue; the zero value is the beginning.
type place struct {
	priority int16
	at       pgtype.Timestamptz
	id       int64
}

type lackingKind struct {
	jobs  int
	since time.Time // the earliest
	first int64     // the lowest id
}

// due are the kinds that were seen last. While a walk is under way it has not seen all jobs yet.
func (k *lacking) due() map[string]lackingKind {
	due := maps.Clone(k.last)
	if due == nil {
		return k.found
	}
	for kind, one := range k.found {
		one.jobs = max(one.jobs, due[kind].jobs)
		due[kind] = one
	}
	return due
}

// forget makes the next look begin at once, at the head of the queue.
func (k *lacking) forget() {
	k.next, k.from, k.found, k.last = time.Time{}, place{}, nil, nil
}

// lackingSQL reads the next due jobs of the queue, and counts those of other kinds. It reads a limited number of jobs,
// whatever their kinds are.
const lackingSQL = `
	WITH looked AS MATERIALIZED (
		SELECT j.id, j.kind, j.priority, j.scheduled_at FROM lastseat.river_job j
		WHERE j.state = 'available' AND j.queue = @queue AND j.scheduled_at <= now()
		  AND (j.priority, j.scheduled_at, j.id) > (@priority::smallint, @at::timestamptz, @id::bigint)
		ORDER BY j.priority, j.scheduled_at, j.id LIMIT @limit
	), ending AS (
		SELECT l.priority, l.scheduled_at, l.id FROM looked l
		ORDER BY l.priority DESC, l.scheduled_at DESC, l.id DESC LIMIT 1
	)
	SELECT (SELECT count(*) FROM looked), e.priority, e.scheduled_at, e.id,
	       coalesce(k.kind, ''), coalesce(k.jobs, 0), coalesce(k.since, now()), coalesce(k.first, 0)
	FROM ending e LEFT JOIN (
		SELECT l.kind, count(*) AS jobs, min(l.scheduled_at) FILTER (WHERE isfinite(l.scheduled_at)) AS since,
		       min(l.id) AS first
		FROM looked l WHERE l.kind <> ALL (@kinds) GROUP BY l.kind ORDER BY count(*) DESC, l.kind LIMIT @most
	) k ON true`

// lookAround looks for due jobs of kinds that this worker lacks, if it is time to. An error that leaves the connection
// alive is logged and holds nobody up.
func (l *lane) lookAround(ctx context.Context) error {
	k := &l.lacking
	if time.Now().Before(k.next) {
		return nil
	}
	began := time.Now()
	read, err := k.read(ctx, l.conn, l.settings.Queue, l.kinds.names())
	k.next = time.Now().Add(max(aroundInterval, 10*time.Since(began)))
	switch {
	case err != nil && (l.lost() || ctx.Err() != nil):
		return fmt.Errorf("look for other kinds: %w", err)
	case err != nil:
		l.log.WarnContext(ctx, "can't look for jobs of other kinds", slog.String("error", err.Error()))
		return nil
	}
	l.sayLacking(ctx)
	if read < aroundLimit { // the walk has come to the end
		k.from, k.last, k.found = place{}, k.found, nil
	}
	return nil
}

// read adds what a look finds, and returns how many jobs it has read.
func (k *lacking) read(ctx context.Context, conn *pgx.Conn, queue string, kinds []string) (read int, err error) {
	from := k.from
	if !from.at.Valid {
		from.at = pgtype.Timestamptz{InfinityModifier: pgtype.NegativeInfinity, Valid: true}
	}
	rows, err := conn.Query(ctx, lackingSQL, pgx.NamedArgs{
		"queue": queue, "priority": from.priority, "at": from.at, "id": from.id, "limit": aroundLimit,
		"kinds": kinds, "most": mostKinds,
	})
	if err != nil {
		return 0, err
	}
	if k.found == nil {
		k.found = make(map[string]lackingKind)
	}
	var kind string
	var one lackingKind
	_, err = pgx.ForEachRow(rows, []any{
		&read, &k.from.priority, &k.from.at, &k.from.id, &kind, &one.jobs, &one.since, &one.first,
	}, func() error { k.add(kind, one); return nil })
	return read, err
}

func (k *lacking) add(kind string, one lackingKind) {
	known, again := k.found[kind]
	if one.jobs == 0 || !again && len(k.found) >= mostKinds {
		return
	}
	if again {
		one.jobs += known.jobs
		one.first = min(one.first, known.first)
		if known.since.Before(one.since) {
			one.since = known.since
		}
	}
	k.found[kind] = one
}

// sayLacking logs which kinds this worker lacks: at once, and then once a minute.
func (l *lane) sayLacking(ctx context.Context) {
	k := &l.lacking
	due := k.due()
	if len(due) == 0 {
		return
	}
	names := slices.Sorted(maps.Keys(due))
	isNew := slices.ContainsFunc(names, func(kind string) bool { return !k.named[kind] })
	if since := time.Since(k.said); since < newKindInterval || since < sayInterval && !isNew {
		return
	}
	k.said, k.named = time.Now(), make(map[string]bool, len(names))
	jobs, since := 0, time.Now()
	for i, kind := range names {
		k.named[kind] = true
		jobs += due[kind].jobs
		if due[kind].since.Before(since) {
			since = due[kind].since
		}
		names[i] = fmt.Sprintf("%s (%d)", printable(kind), due[kind].jobs)
	}
	l.log.WarnContext(
		ctx,
		"jobs are due whose kind this worker lacks: they wait for a worker that has it, and later jobs "+
			"of other kinds pass them by",
		slog.String("kinds", strings.Join(names, ", ")),
		slog.Int("jobs", jobs),
		slog.Time("since", since.UTC()),
		slog.Duration("duration", time.Since(since).Round(time.Millisecond)),
		slog.String("hint", "run a worker that has the kind registered, or cancel the jobs"),
	)
}

// standbySQL tells whether a worker stands by: a session of a lane that holds none.
const standbySQL = `
	SELECT EXISTS (
		SELECT FROM pg_stat_activity a
		WHERE a.datname = current_database() AND a.application_name = '` + laneName + `' AND a.pid <> pg_backend_pid()
		  AND pg_catalog.pg_has_role(a.usesysid, 'lastseat_worker', 'MEMBER')
		  AND NOT EXISTS (SELECT FROM lastseat.lanes l WHERE l.holder IS NOT NULL AND l.pid = a.pid))`

// giveWay leaves the lane to a worker that stands by, if jobs of other kinds are due: it may have their kind. A worker
// that has all of the kinds never gives the lane back. rests: the lane has no job of its own to settle. What the lane
// suspects it finds out first, for the next worker would not know it.
func (l *lane) giveWay(ctx context.Context, rests bool) error {
	k := &l.lacking
	due := k.due()
	if len(due) == 0 || !rests && time.Since(l.taken) < shortestTurn || !k.mayGive() ||
		l.suspicion.among > 0 || l.suspicion.culprit != nil || l.caution.left > 0 {
		return nil
	}
	var standby bool
	if err := l.conn.QueryRow(ctx, standbySQL).Scan(&standby); err != nil {
		return fmt.Errorf("look for a worker that stands by: %w", err)
	}
	if !standby {
		k.gave = time.Now()
		return nil
	}
	k.give()
	l.leave(ctx)
	if l.preferred {
		if _, err := l.conn.Exec(ctx, unpreferSQL, l.settings.Queue, l.number, l.settings.Lanes); err != nil {
			return fmt.Errorf("leave the lane: %w", err)
		}
		l.preferred = false
	}
	l.log.InfoContext(ctx, "lane left to a worker that stands by, for jobs of other kinds",
		slog.String("kinds", strings.Join(slices.Sorted(maps.Keys(due)), ", ")))
	k.forget()
	return errGaveWay
}

// mayGive tells whether the lane's turn is over. While the first jobs of all other kinds are those of the last time,
// nobody who stood by has their kind, and the turns become longer.
func (k *lacking) mayGive() bool {
	pause := k.pause
	if k.changed() {
		pause = shortestTurn
	}
	return time.Since(k.gave) >= pause
}

func (k *lacking) changed() bool {
	for kind, one := range k.due() {
		if k.given[kind] != one.first {
			return true
		}
	}
	return false
}

// give notes what is due while the lane is left.
func (k *lacking) give() {
	if k.changed() || k.pause == 0 {
		k.pause = shortestTurn
	} else {
		k.pause = min(2*k.pause, longestTurn)
	}
	k.gave, k.given = time.Now(), make(map[string]int64)
	for kind, one := range k.due() {
		k.given[kind] = one.first
	}
}
