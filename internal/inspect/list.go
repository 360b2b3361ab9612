package inspect

import (
	"context"
	"fmt"
	"math"
	"slices"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/lastseat/lastseat/outbox"
)

// Filter says which requests to list. Where a list is empty, all are wanted.
type Filter struct {
	Statuses, Codes, Kinds []string

	Since time.Duration // settled, or asked for while pending, no longer ago than this by the database's clock; 0: ever
	From  time.Time     // and no earlier than this; zero: ever
	Limit int           // at most so many, at least 1

	After string // the cursor that ListPage has returned for the page before; empty: from the newest on
	Look  int    // how many jobs, and outcomes of the log, to look at; 0: as many as it takes

	// Within is how long to look, about, if Look is not 0; 0: as long as it takes.
	Within time.Duration
}

func (f Filter) wants(status outbox.Status) bool {
	return len(f.Statuses) == 0 || slices.Contains(f.Statuses, string(status))
}

// wantsSettled tells whether a status other than pending is wanted, and a pending one could not do.
func (f Filter) wantsSettled() bool {
	return f.wants(outbox.Applied) || f.wants(outbox.Rejected) || f.wants(outbox.Failed)
}

// List calls each for requests: first those that are pending, then those that are settled, each with the newest first.
//
// requests has no index by time or status, because settling would have to maintain it. What is pending is found by the
// jobs that are still there. What is settled is found along the log of outcomes, backwards from its end: List reads
// every outcome down to Since, From or Limit by its key, and no further. What was deleted from the log is not found.
func List(ctx context.Context, db db, filter Filter, each func(outbox.Outcome) error) error {
	_, err := ListPage(ctx, db, filter, each)
	return err
}

// ListPage is List, and returns the cursor of the next page, or "" if it has come to the end. A page may be short, or
// empty, and another one may follow it: where Look requests were looked at, and few of them were wanted.
func ListPage(
	ctx context.Context, db db, filter Filter, each func(outbox.Outcome) error,
) (next string, err error) {
	for _, list := range []*[]string{&filter.Statuses, &filter.Codes, &filter.Kinds} {
		if len(*list) == 0 {
			*list = nil // which is NULL in SQL
		}
	}
	after, err := parseCursor(filter.After)
	if err != nil {
		return "", err
	}
	err = read(ctx, db, func(tx pgx.Tx) error {
		from := filter.From
		if filter.Since > 0 {
			var ago time.Time
			if err := tx.QueryRow(ctx, `SELECT now() - $1::interval`, filter.Since).Scan(&ago); err != nil {
				return fmt.Errorf("ask for the time: %w", err)
			}
			if ago.After(from) {
				from = ago
			}
		}
		l := &listing{tx: tx, filter: filter, from: from, left: filter.Limit, each: each, look: math.MaxInt}
		if filter.Look > 0 {
			l.look = filter.Look
		}
		if filter.Within > 0 {
			l.until = time.Now().Add(filter.Within)
		}
		err := l.list(ctx, after)
		next = l.next
		return err
	})
	return next, err
}

func (l *listing) list(ctx context.Context, after cursor) error {
	// What is pending has no code.
	if !after.settled && l.filter.wants(outbox.Pending) && len(l.filter.Codes) == 0 {
		if err := l.pending(ctx, after.job); err != nil {
			return fmt.Errorf("list pending requests: %w", err)
		}
	}
	if l.filter.wantsSettled() && l.next == "" {
		if err := l.settled(ctx, after); err != nil {
			return fmt.Errorf("list settled requests: %w", err)
		}
	}
	return nil
}

type listing struct {
	tx     pgx.Tx
	filter Filter
	from   time.Time // zero: ever
	left   int
	each   func(outbox.Outcome) error
	look   int       // at so many, and no more
	until  time.Time // and no longer; zero: as long as it takes
	begun  bool

	job  int64  // of the last one that was listed
	at   int    // its number in the page of the log, from 1; 0 for what is pending
	next string // the cursor of the next page
}

// query calls each for the rows of a statement about requests r.
func (l *listing) query(ctx context.Context, sql string, args pgx.NamedArgs) error {
	rows, err := l.tx.Query(ctx, `
		SELECT r.key, r.kind, r.status, coalesce(r.code, ''), r.detail, r.attempts, r.job_id, r.requested_at,
		       r.settled_at, `+sql, args)
	if err != nil {
		return err
	}
	defer rows.Close()
	for rows.Next() {
		var o outbox.Outcome
		err := rows.Scan(&o.Key, &o.Kind, &o.Status, &o.Code, &o.Detail, &o.Attempts, &o.JobID, &o.RequestedAt,
			&o.SettledAt, &l.at)
		if err != nil {
			return err
		}
		o.RequestedAt = o.RequestedAt.UTC()
		if o.SettledAt != nil {
			utc := o.SettledAt.UTC()
			o.SettledAt = &utc
		}
		l.left--
		l.job = o.JobID
		if err := l.each(o); err != nil {
			return err
		}
	}
	return rows.Err()
}

// atATime is how many are looked at before it is asked whether that is enough.
const atATime = 500

// share is how many are looked at next; 0: it is enough.
func (l *listing) share() int {
	if l.begun && !l.until.IsZero() && time.Now().After(l.until) {
		return 0
	}
	l.begun = true // a page looks at some at least, or it would be the next page, too
	return min(l.look, atATime)
}

const (
	// lookSQL has where the search among jobs goes on, and whether older ones follow.
	lookSQL = `
	SELECT coalesce(min(j.id), 0), count(*) = @look FROM (
		SELECT j.id FROM lastseat.river_job j WHERE j.id < @before ORDER BY j.id DESC LIMIT @look) j`

	pendingSQL = ` 0
	FROM lastseat.river_job j, LATERAL (
		SELECT q.* FROM lastseat.requests q WHERE q.key = j.args ->> 'key' OFFSET 0) r
	WHERE j.state IN ('available', 'running', 'retryable', 'scheduled', 'pending')
	  AND r.job_id = j.id AND r.status = 'pending' AND j.id < @before AND j.id >= @lowest
	  AND (@kinds::text[] IS NULL OR r.kind = ANY (@kinds::text[]))
	  AND (@from::timestamptz IS NULL OR r.requested_at >= @from::timestamptz)
	ORDER BY j.id DESC LIMIT @limit`
)

func (l *listing) pending(ctx context.Context, before int64) error {
	if l.filter.Look == 0 {
		return l.pendingBetween(ctx, 0, before)
	}
	for {
		share := l.share()
		if share == 0 {
			l.next = cursor{job: before}.String()
			return nil
		}
		var lowest int64
		var more bool
		args := pgx.NamedArgs{"before": before, "look": share}
		if err := l.tx.QueryRow(ctx, lookSQL, args).Scan(&lowest, &more); err != nil {
			return err
		}
		if err := l.pendingBetween(ctx, lowest, before); err != nil || l.next != "" || !more {
			return err
		}
		l.look -= share
		before = lowest
	}
}

// pendingBetween lists those of the jobs from lowest on that are older than before.
func (l *listing) pendingBetween(ctx context.Context, lowest, before int64) error {
	err := l.query(ctx, pendingSQL, pgx.NamedArgs{
		"kinds": l.filter.Kinds, "from": l.earliest(), "limit": l.left, "before": before, "lowest": lowest,
	})
	if l.left == 0 {
		l.next = cursor{job: l.job}.String()
	}
	return err
}

// earliest is from as a parameter; nil: ever.
func (l *listing) earliest() *time.Time {
	if l.from.IsZero() {
		return nil
	}
	return &l.from
}

const (
	// logSQL has the place of each row of the log before a place, and its keys if it is not too old. The log is in the
	// order of transaction ids, and settled_at is when a transaction began.
	logSQL = `
	SELECT l.timeline, l.xid::text, l.number, l.settled_at,
	       CASE WHEN @from::timestamptz IS NULL OR l.settled_at >= @from::timestamptz THEN l.keys END
	FROM lastseat.outcome_log l
	WHERE (l.timeline, l.xid, l.number) < (@timeline::integer, @xid::text::xid8, @number::bigint)
	ORDER BY l.timeline DESC, l.xid DESC, l.number DESC LIMIT @rows`

	// settledSQL leaves out what was settled again since, by a retry: another row of the log has it.
	settledSQL = ` logged.n
	FROM unnest(@keys::text[], @times::timestamptz[]) WITH ORDINALITY AS logged(key, settled_at, n), LATERAL (
		SELECT q.* FROM lastseat.requests q WHERE q.key = logged.key OFFSET 0) r
	WHERE r.settled_at = logged.settled_at AND r.status <> 'pending'
	  AND (@statuses::text[] IS NULL OR r.status = ANY (@statuses::text[]))
	  AND (@codes::text[] IS NULL OR r.code = ANY (@codes::text[]))
	  AND (@kinds::text[] IS NULL OR r.kind = ANY (@kinds::text[]))
	ORDER BY logged.n LIMIT @limit`

	// longestTransaction is how much older an outcome may be than those that stand behind it in the log: it was settled by
	// a transaction that began long before it wrote anything.
	longestTransaction = 10 * time.Minute

	mostRows = 1000   // of the log, read at a time
	pageKeys = 10_000 // about so many keys are read at a time; a row of the log has up to as many
)

// place is where a row stands in the log.
type place struct {
	timeline int
	xid      string
	number   int64
}

// logged is a page of the log, with the newest key first.
type logged struct {
	next  place
	rows  int
	keys  []string
	times []time.Time
	marks []cursor // of what stands behind each key
	over  bool     // everything before it is too old
}

func (l *listing) settled(ctx context.Context, after cursor) error {
	at, skip, rows := after.place, after.skip, 1
	for {
		page, err := l.page(ctx, at, skip, rows)
		if err != nil {
			return err
		}
		from := cursor{settled: true, place: at, skip: skip}
		if err := l.settledOf(ctx, from, page); err != nil || l.next != "" {
			return err
		}
		skip = 0
		if page.over || page.rows < rows {
			return nil
		}
		at = page.next
		rows = min(mostRows, max(1, pageKeys*page.rows/max(1, len(page.keys))))
	}
}

// settledOf looks up the requests of a page of the log that begins behind from. If it has not come to the end of the
// page, there is a next cursor.
func (l *listing) settledOf(ctx context.Context, from cursor, page *logged) error {
	for done := 0; done < len(page.keys); {
		share := len(page.keys)
		if l.filter.Look > 0 {
			share = l.share()
		}
		if share == 0 {
			l.next = from.String()
			return nil
		}
		end := min(done+share, len(page.keys))
		err := l.query(ctx, settledSQL, pgx.NamedArgs{
			"keys": page.keys[done:end], "times": page.times[done:end], "statuses": l.filter.Statuses,
			"codes": l.filter.Codes, "kinds": l.filter.Kinds, "limit": l.left,
		})
		if err != nil {
			return err
		}
		if l.left == 0 {
			l.next = page.marks[done+l.at-1].String()
			return nil
		}
		l.look -= end - done
		from, done = page.marks[end-1], end
	}
	return nil
}

// page reads rows of the log before a place. Of the first of them, as many keys are left out as skip says.
func (l *listing) page(ctx context.Context, before place, skip, most int) (*logged, error) {
	if skip > 0 { // the page before has ended within the row
		before.number++
	}
	rows, err := l.tx.Query(ctx, logSQL, pgx.NamedArgs{
		"from": l.earliest(), "timeline": before.timeline, "xid": before.xid, "number": before.number, "rows": most,
	})
	if err != nil {
		return nil, err
	}
	page := &logged{}
	var at time.Time
	var keys []string
	scan := []any{&page.next.timeline, &page.next.xid, &page.next.number, &at, &keys}
	_, err = pgx.ForEachRow(rows, scan, func() error {
		page.rows++
		page.over = page.over || !l.from.IsZero() && at.Before(l.from.Add(-longestTransaction))
		for i, key := range slices.Backward(keys) {
			if i >= len(keys)-skip {
				continue
			}
			page.keys, page.times = append(page.keys, key), append(page.times, at)
			page.marks = append(page.marks, cursor{settled: true, place: page.next, skip: len(keys) - i})
		}
		skip = 0
		return nil
	})
	return page, err
}
