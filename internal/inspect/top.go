package inspect

import (
	"context"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"
)

// Overview is what happens at a moment.
type Overview struct {
	At        time.Time     `json:"at"`
	Settled   int           `json:"settled"` // in the time before At that Over says
	Over      time.Duration `json:"-"`
	Rate      float64       `json:"rate"` // settled a second
	Due       int           `json:"due"`  // of all queues, as far as they were counted
	Scheduled int           `json:"scheduled"`
	Retrying  int           `json:"retrying"`
	Oldest    float64       `json:"oldest_seconds"` // how long the request has been due that comes first
	Lanes     []Lane        `json:"lanes"`

	// Codes are those of the outcomes of that time, the most frequent first; of the newest 1,000 if there are more.
	Codes []Count `json:"codes"`
}

// Count is how often a code came.
type Count struct {
	Status string `json:"status"`
	Code   string `json:"code"`
	Count  int    `json:"count"`
}

const (
	settledSinceSQL = `
	SELECT coalesce(sum(cardinality(l.keys)), 0)::bigint FROM (
		SELECT l.keys, l.settled_at FROM lastseat.outcome_log l
		ORDER BY l.timeline DESC, l.xid DESC, l.number DESC LIMIT 5000) l
	WHERE l.settled_at > now() - $1::interval`

	// waitingSQL reads at most so many jobs of each state, whatever they are. The oldest is among the first of each queue
	// and priority, to which it steps along the index.
	waitingSQL = `
	WITH RECURSIVE found(queue) AS (
		(SELECT j.queue FROM lastseat.river_job j WHERE j.state = 'available' ORDER BY j.queue LIMIT 1)
		UNION ALL
		SELECT (SELECT j.queue FROM lastseat.river_job j WHERE j.state = 'available' AND j.queue > f.queue
		        ORDER BY j.queue LIMIT 1)
		FROM found f WHERE f.queue IS NOT NULL
	)
	SELECT a.due, a.later + (SELECT count(*) FROM (SELECT j.queue FROM lastseat.river_job j
	                                               WHERE j.state = 'scheduled' LIMIT $1) j
	                         WHERE j.queue <> 'lastseat_upkeep'),
	       (SELECT count(*) FROM (SELECT j.queue FROM lastseat.river_job j WHERE j.state = 'retryable' LIMIT $1) j
	        WHERE j.queue <> 'lastseat_upkeep'),
	       coalesce((SELECT max(extract(epoch FROM now() - o.scheduled_at))
	                 FROM (SELECT f.queue FROM found f WHERE f.queue <> 'lastseat_upkeep' LIMIT 100) f,
	                      generate_series(1, 4) p, LATERAL (
	                    SELECT j.scheduled_at FROM lastseat.river_job j
	                    WHERE j.state = 'available' AND j.queue = f.queue AND j.priority = p AND isfinite(j.scheduled_at)
	                    ORDER BY j.scheduled_at, j.id LIMIT 1) o), 0)::float8
	FROM (SELECT count(*) FILTER (WHERE j.scheduled_at <= now()) AS due,
	             count(*) FILTER (WHERE j.scheduled_at > now()) AS later
	      FROM (SELECT j.queue, j.scheduled_at FROM lastseat.river_job j WHERE j.state = 'available' LIMIT $1) j
	      WHERE j.queue <> 'lastseat_upkeep') a`

	codesSQL = `
	SELECT r.status, r.code, count(*)::integer FROM (
		SELECT k.key, l.settled_at FROM (
			SELECT l.keys, l.settled_at FROM lastseat.outcome_log l
			ORDER BY l.timeline DESC, l.xid DESC, l.number DESC LIMIT 1000) l, unnest(l.keys) AS k(key)
		WHERE l.settled_at > now() - $1::interval LIMIT 1000) l,
		LATERAL (SELECT q.status, q.code FROM lastseat.requests q
		         WHERE q.key = l.key AND q.settled_at = l.settled_at OFFSET 0) r
	GROUP BY r.status, r.code ORDER BY 3 DESC, 2`
)

// Look reads an overview of now, and of the time before it that over says. It counts no further than countTo jobs of
// each state.
func Look(ctx context.Context, db db, over time.Duration, countTo int) (o Overview, err error) {
	err = read(ctx, db, func(tx pgx.Tx) error {
		o = Overview{Over: over}
		if err := tx.QueryRow(ctx, `SELECT now()`).Scan(&o.At); err != nil {
			return fmt.Errorf("ask for the time: %w", err)
		}
		o.At = o.At.UTC()
		if err := tx.QueryRow(ctx, settledSinceSQL, over).Scan(&o.Settled); err != nil {
			return fmt.Errorf("count what was settled: %w", err)
		}
		o.Rate = float64(o.Settled) / over.Seconds()
		if err := tx.QueryRow(ctx, waitingSQL, countTo).Scan(&o.Due, &o.Scheduled, &o.Retrying, &o.Oldest); err != nil {
			return fmt.Errorf("count what waits: %w", err)
		}
		o.Oldest = max(0, o.Oldest)
		if o.Lanes, err = lanes(ctx, tx, ""); err != nil {
			return err
		}
		rows, err := tx.Query(ctx, codesSQL, over)
		if err != nil {
			return fmt.Errorf("count the codes: %w", err)
		}
		o.Codes, err = pgx.CollectRows(rows, pgx.RowToStructByPos[Count])
		return err
	})
	return o, err
}
