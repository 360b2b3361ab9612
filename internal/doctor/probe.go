package doctor

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/lastseat/lastseat/internal/retry"
	"github.com/lastseat/lastseat/outbox"
)

// sendProbeSQL puts a probe right behind the first job of a queue: it would be settled with it in one batch. Its key
// leads it into the lane. It belongs to no request, and nothing of it stays.
const sendProbeSQL = `
	INSERT INTO lastseat.river_job (kind, queue, args, state, priority, scheduled_at, max_attempts)
	SELECT '` + outbox.ProbeKind + `', $1::text, jsonb_build_object('key', k.key), 'available', coalesce(h.priority, 1),
	       coalesce(h.scheduled_at, clock_timestamp()), 1
	FROM (SELECT 'lastseat:probe ' || n AS key FROM generate_series(1, 100000) n
	      WHERE abs(hashtextextended('lastseat:probe ' || n, 0) % $3::bigint) = $2::bigint LIMIT 1) k
	LEFT JOIN LATERAL (
		SELECT j.priority, j.scheduled_at FROM lastseat.river_job j
		WHERE j.state = 'available' AND j.queue = $1::text AND j.scheduled_at <= now() AND isfinite(j.scheduled_at)
		ORDER BY j.priority, j.scheduled_at, j.id LIMIT 1) h ON true
	RETURNING id, clock_timestamp()`

const (
	wakeSQL = `
	SELECT pg_notify('lastseat.river_insert', jsonb_build_object('queue', $1::text)::text)
	WHERE pg_notification_queue_usage() < 0.5`

	// The lane may have a probe in hand, and deletes it then.
	takeBackSQL = `
	DELETE FROM lastseat.river_job WHERE ctid = ANY (ARRAY(
		SELECT j.ctid FROM lastseat.river_job j WHERE j.id = ANY ($1::bigint[]) AND j.kind = '` + outbox.ProbeKind + `'
		FOR UPDATE SKIP LOCKED))`

	unsettledSQL = `SELECT j.id FROM lastseat.river_job j WHERE j.id = ANY ($1::bigint[])`
)

// probe is a probe in a lane.
type probe struct {
	lane    lane
	id      int64
	sent    time.Time
	took    time.Duration // until it was settled
	settled bool
	moved   bool // it was not, but the lane has settled something else meanwhile
}

// checkProbe sends a probe into every lane that is held and waits until the lane settles it: the only way to know that
// an idle lane would settle.
var checkProbe = check{"probe", func(ctx context.Context, e *exam) (found []Finding, err error) {
	if e.NoProbe || !e.role.Probes {
		return []Finding{note("", "no probe was sent")}, nil
	}
	probes, err := e.sendProbes(ctx)
	if retry.SQLState(err) == "25006" { // checkServer has said why
		return []Finding{note("", "no probe was sent: this server is read-only")}, nil
	}
	if err != nil || len(probes) == 0 {
		return []Finding{note("", "no probe was sent: no lane is held that may settle it")}, err
	}
	defer func() {
		if taken := e.takeBack(context.WithoutCancel(ctx), probes); err == nil {
			err = taken
		}
	}()
	if err := e.awaitProbes(ctx, probes); err != nil {
		return nil, err
	}
	for _, p := range probes {
		one := judgeProbe(*p, e.Patience)
		if one.Severity == Wrong {
			sessions, err := e.sessions(ctx, p.lane.PID)
			if err != nil {
				return nil, err
			}
			one.Told += " (" + e.describe(sessions[p.lane.PID]) + ")"
		}
		found = append(found, one)
	}
	return found, nil
}}

func judgeProbe(p probe, patience time.Duration) Finding {
	switch {
	case p.settled:
		return ok("%v settled a probe within %s", p.lane, p.took.Round(time.Millisecond))
	case p.moved:
		return ok("%v is busy: it has settled other requests while a probe waited", p.lane)
	}
	return stalled(p.lane, fmt.Sprintf("it has settled no probe within %s", span(patience)))
}

func (e *exam) paused(name string) bool {
	for _, q := range e.queues {
		if q.Name == name && q.Paused != nil {
			return true
		}
	}
	return false
}

// sendProbes does not wait for a standby: the lane's commit does, and that is what is looked for.
func (e *exam) sendProbes(ctx context.Context) (probes []*probe, err error) {
	err = e.write(ctx, func(tx pgx.Tx) error {
		for _, l := range e.lanes {
			known := func(s lane) bool { return s.Queue == l.Queue && s.Number == l.Number }
			if !l.Lives || e.paused(l.Queue) || slices.ContainsFunc(e.stalled, known) {
				continue
			}
			p := &probe{lane: l}
			if err := tx.QueryRow(ctx, sendProbeSQL, l.Queue, l.Number, l.Lanes).Scan(&p.id, &p.sent); err != nil {
				return err
			}
			probes = append(probes, p)
		}
		return nil
	})
	if err == nil {
		e.wake(ctx, probes)
	}
	return probes, err
}

// wake notifies the lanes of their probes. While a commit that notifies waits for a standby, no other one gets through;
// then the lanes find the probes when they look.
func (e *exam) wake(ctx context.Context, probes []*probe) {
	_ = e.write(ctx, func(tx pgx.Tx) error {
		for _, p := range probes {
			if _, err := tx.Exec(ctx, wakeSQL, p.lane.Queue); err != nil {
				return err
			}
		}
		return nil
	})
}

// awaitProbes waits until all probes are settled, or patience ends.
func (e *exam) awaitProbes(ctx context.Context, probes []*probe) error {
	began := time.Now()
	for pause := 2 * time.Millisecond; ; pause = min(2*pause, 100*time.Millisecond) {
		ids := ids(probes)
		left, err := read[struct{ ID int64 }](ctx, e, unsettledSQL, ids)
		if err != nil {
			return err
		}
		unsettled := make(map[int64]bool, len(left))
		for _, one := range left {
			unsettled[one.ID] = true
		}
		for _, p := range probes {
			if !p.settled && !unsettled[p.id] {
				p.settled, p.took = true, time.Since(began)
			}
		}
		if len(left) == 0 || time.Since(began) > e.Patience {
			return e.lookForProgress(ctx, probes)
		}
		if err := retry.Sleep(ctx, pause); err != nil {
			return err
		}
	}
}

// lookForProgress tells a lane that is busy from one that stands still.
func (e *exam) lookForProgress(ctx context.Context, probes []*probe) error {
	lanes, err := read[lane](ctx, e, lanesSQL)
	if err != nil {
		return err
	}
	for _, p := range probes {
		for _, l := range lanes {
			same := l.Queue == p.lane.Queue && l.Number == p.lane.Number
			if same && l.Settled != nil && l.Settled.After(p.sent) {
				p.moved = true
			}
		}
	}
	return nil
}

func (e *exam) takeBack(ctx context.Context, probes []*probe) error {
	left := false
	for _, p := range probes {
		left = left || !p.settled
	}
	if !left {
		return nil
	}
	return e.write(ctx, func(tx pgx.Tx) error {
		_, err := tx.Exec(ctx, takeBackSQL, ids(probes))
		return err
	})
}

func ids(probes []*probe) []int64 {
	ids := make([]int64, len(probes))
	for i, p := range probes {
		ids[i] = p.id
	}
	return ids
}

// write does something in a transaction that nothing holds up.
func (e *exam) write(ctx context.Context, do func(pgx.Tx) error) error {
	ctx, cancel := context.WithTimeout(ctx, checkLimit)
	defer cancel()
	return pgx.BeginTxFunc(ctx, e.pool, pgx.TxOptions{AccessMode: pgx.ReadWrite}, func(tx pgx.Tx) error {
		_, err := tx.Exec(ctx, readingSQL)
		if err == nil {
			_, err = tx.Exec(ctx, `SET LOCAL synchronous_commit = local`)
		}
		if err == nil {
			err = do(tx)
		}
		return err
	})
}
