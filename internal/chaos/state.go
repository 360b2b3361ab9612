package chaos

import (
	"context"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
)

// Outcome is a row of the feed of outcomes.
type Outcome struct {
	Cursor, Key, Kind, Status, Code string
	Detail                          *string
	Attempts                        int
	RequestedAt, SettledAt          time.Time
}

// State is what the database says when everything is settled.
type State struct {
	Requests  map[string]Outcome // of every key, Cursor empty
	Rows      map[string]int     // business rows, by key
	Feed      []Outcome          // all of it, read in the end
	Balances  map[string]int64
	Held      map[string]int64
	Points    map[string]int64 // of the kind of the bench's own
	Resources map[string]Resource
	Left      []string // jobs that are due and not settled
}

// Resource is one, with what its reservations take of it by their own rows.
type Resource struct {
	Capacity, Taken int64
	Overlaps        int64 // pairs of time ranges
}

const feedSQL = `
	SELECT cursor, key, kind, status, coalesce(code, ''), detail::text, attempts, requested_at, settled_at
	FROM lastseat.outcomes_since($1, $2)`

func outcomeOf(row pgx.CollectableRow) (o Outcome, err error) {
	err = row.Scan(&o.Cursor, &o.Key, &o.Kind, &o.Status, &o.Code, &o.Detail, &o.Attempts, &o.RequestedAt, &o.SettledAt)
	return o, err
}

// readFeed reads the feed page by page.
func readFeed(ctx context.Context, db *pgxpool.Pool, since string, page int) (feed []Outcome, err error) {
	for {
		rows, err := db.Query(ctx, feedSQL, since, page)
		if err != nil {
			return nil, err
		}
		got, err := pgx.CollectRows(rows, outcomeOf)
		if err != nil {
			return nil, err
		}
		feed = append(feed, got...)
		if len(got) < page {
			return feed, nil
		}
		since = got[len(got)-1].Cursor
	}
}

const resourcesSQL = `
	SELECT r.id, r.capacity + r.overbook,
	       (SELECT coalesce(sum(i.quantity), 0)::bigint FROM lastseat.reservation_items i
	        JOIN lastseat.reservations v ON v.id = i.reservation_id
	        WHERE i.resource_id = r.id AND i.during IS NULL AND v.status IN ('held', 'confirmed')),
	       (SELECT count(*) FROM lastseat.reservation_items a
	        JOIN lastseat.reservation_items b ON b.resource_id = a.resource_id AND b.reservation_id > a.reservation_id
	         AND b.during && a.during
	        JOIN lastseat.reservations v ON v.id = a.reservation_id AND v.status IN ('held', 'confirmed')
	        JOIN lastseat.reservations w ON w.id = b.reservation_id AND w.status IN ('held', 'confirmed')
	        WHERE a.resource_id = r.id)
	FROM lastseat.resources r`

// retrying is the status of a pending request that has failed and waits for another attempt.
const retrying = "retrying"

const requestsSQL = `
	SELECT '', r.key, r.kind, CASE WHEN r.status = 'pending' AND j.state = 'retryable' THEN $1 ELSE r.status END,
	       coalesce(r.code, ''), r.detail::text, r.attempts, r.requested_at, coalesce(r.settled_at, 'epoch')
	FROM lastseat.requests r LEFT JOIN lastseat.river_job j ON j.id = r.job_id`

func (o Outcome) settled() bool { return o.Status != "pending" && o.Status != retrying }

// readState reads all that the checks look at.
func readState(ctx context.Context, db *pgxpool.Pool) (*State, error) {
	s := &State{Requests: make(map[string]Outcome), Resources: make(map[string]Resource)}
	rows, err := db.Query(ctx, requestsSQL, retrying)
	if err != nil {
		return nil, err
	}
	requests, err := pgx.CollectRows(rows, outcomeOf)
	if err != nil {
		return nil, fmt.Errorf("read the requests: %w", err)
	}
	for _, r := range requests {
		s.Requests[r.Key] = r
	}
	if s.Feed, err = readFeed(ctx, db, "", 1000); err != nil {
		return nil, fmt.Errorf("read the feed: %w", err)
	}
	for sql, into := range map[string]*map[string]int64{
		`SELECT id, balance FROM lastseat.accounts`: &s.Balances,
		`SELECT id, held FROM lastseat.accounts`:    &s.Held,
		`SELECT id, points FROM bench.members`:      &s.Points,
	} {
		if *into, err = readMap[int64](ctx, db, sql); err != nil {
			return nil, err
		}
	}
	if s.Rows, err = readMap[int](ctx, db, `SELECT key, count(*)::int FROM bench.orders GROUP BY key`); err != nil {
		return nil, err
	}
	if rows, err = db.Query(ctx, dueJobsSQL); err != nil {
		return nil, err
	}
	if s.Left, err = pgx.CollectRows(rows, pgx.RowTo[string]); err != nil {
		return nil, fmt.Errorf("read the jobs: %w", err)
	}
	if rows, err = db.Query(ctx, resourcesSQL); err != nil {
		return nil, err
	}
	id, r := "", Resource{}
	_, err = pgx.ForEachRow(rows, []any{&id, &r.Capacity, &r.Taken, &r.Overlaps}, func() error {
		s.Resources[id] = r
		return nil
	})
	return s, err
}

// dueJobsSQL lists what is due and not settled. Jobs that wait for another attempt are not due. The worker's upkeep is
// an ordinary job of River's, which a killed worker leaves behind as running. A job of a kind that no worker has
// stays.
const dueJobsSQL = `
	SELECT format('job %s (%s, key %s): %s, attempt %s', id, kind, args ->> 'key', state, attempt)
	FROM lastseat.river_job
	WHERE queue <> 'lastseat_upkeep' AND kind <> 'payment.unheard_of' AND (state IN ('available', 'running', 'pending')
	  OR state = 'scheduled' AND scheduled_at < now() - interval '10 s')
	ORDER BY id LIMIT 20`

func readMap[V any](ctx context.Context, db *pgxpool.Pool, sql string) (map[string]V, error) {
	rows, err := db.Query(ctx, sql)
	if err != nil {
		return nil, err
	}
	all := make(map[string]V)
	var key string
	var value V
	_, err = pgx.ForEachRow(rows, []any{&key, &value}, func() error { all[key] = value; return nil })
	if err != nil {
		return nil, fmt.Errorf("read the end of the run: %w", err)
	}
	return all, nil
}
