package main

import (
	"context"
	"fmt"
	"log/slog"
	"runtime/debug"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/lastseat/lastseat/internal/admin"
	"github.com/lastseat/lastseat/internal/audit"
	"github.com/lastseat/lastseat/internal/config"
	"github.com/lastseat/lastseat/internal/pgsession"
	"github.com/lastseat/lastseat/internal/retry"
	"github.com/lastseat/lastseat/outbox"
)

// auditor proves what was settled, round after round, beside the worker that holds the first lane: so one worker does.
// It has a session of its own. Whatever becomes of it, the lane goes on.
type auditor struct {
	pool   *pgxpool.Pool
	every  time.Duration
	logger *slog.Logger

	holds atomic.Bool
	taken chan struct{} // the lane was, since somebody last looked

	mu     sync.Mutex
	status admin.AuditStatus
}

var _ outbox.Observer = (*auditor)(nil)

// newAuditor makes an auditor for the database of a pool. It connects when it has something to do.
func newAuditor(ctx context.Context, like *pgxpool.Pool, every time.Duration, logger *slog.Logger) (*auditor, error) {
	pool, err := pgsession.NewPoolBeside(ctx, like, "lastseat audit", 1, 10*time.Second, nil)
	return &auditor{pool: pool, every: every, logger: logger, taken: make(chan struct{}, 1)}, err
}

// Settled implements [outbox.Observer].
func (a *auditor) Settled(outbox.SettledBatch) {}

// Repeated implements [outbox.Observer].
func (a *auditor) Repeated(int, string, string) {}

// Holds implements [outbox.Observer].
func (a *auditor) Holds(lane int, holds bool) {
	if lane != 0 {
		return
	}
	a.holds.Store(holds)
	if holds {
		select {
		case a.taken <- struct{}{}:
		default:
		}
	}
}

// Status is what the last round has found.
func (a *auditor) Status() admin.AuditStatus {
	a.mu.Lock()
	defer a.mu.Unlock()
	status := a.status
	status.Here = a.holds.Load()
	return status
}

// beside runs work, and the auditor beside it.
func (a *auditor) beside(ctx context.Context, work func(context.Context) error) error {
	auditing, cancel := context.WithCancel(ctx)
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		a.always(auditing)
	}()
	defer func() { cancel(); <-ended; a.pool.Close() }()
	return work(ctx)
}

func (a *auditor) always(ctx context.Context) {
	proof := &audit.Continuous{}
	for {
		var next <-chan time.Time
		if a.holds.Load() {
			next = time.After(a.round(ctx, proof))
		}
		for waits := true; waits; {
			select {
			case <-ctx.Done():
				return
			case <-next:
				waits = false
			case <-a.taken:
				waits = next != nil
			}
		}
	}
}

// atLeast is how many times as long as a round took it is until the next one, while there is more to prove: so a worker
// that is behind spends a twentieth of its time on it.
const atLeast = 20

// round makes a round, and returns how long it is until the next one.
func (a *auditor) round(ctx context.Context, proof *audit.Continuous) (wait time.Duration) {
	began := time.Now()
	defer func() {
		if r := recover(); r != nil { // it must not end the worker
			a.logger.ErrorContext(ctx, "audit failed", slog.String("error", fmt.Sprint(r)),
				slog.String("stack", string(debug.Stack())))
			wait = a.every
		}
	}()
	found, err := proof.Round(ctx, a.pool)
	if ctx.Err() != nil {
		return a.every
	}
	if err != nil {
		level := slog.LevelWarn
		if state := retry.SQLState(err); state == "" || strings.HasPrefix(state, "57P") {
			level = slog.LevelDebug // the database does not answer, as the lane says
		}
		a.logger.Log(ctx, level, "audit failed", slog.String("error", err.Error()))
		return a.every
	}
	for _, told := range found.New {
		a.logger.ErrorContext(ctx, "invariant violated", slog.String("violation", told))
	}
	for _, told := range found.Mended {
		a.logger.InfoContext(ctx, "invariant holds again", slog.String("violation", told))
	}
	a.logger.DebugContext(ctx, "audit", slog.Int("rows", found.Rows), slog.Duration("behind", found.Behind),
		slog.Int("violations", len(found.All)), slog.Duration("duration", time.Since(began)))
	a.mu.Lock()
	defer a.mu.Unlock()
	a.status.At, a.status.Behind, a.status.Violations = time.Now(), found.Behind, found.All
	a.status.Rows += int64(found.Rows)
	if found.Behind > 0 {
		return min(a.every, atLeast*time.Since(began))
	}
	return a.every
}

// observers tells several.
type observers []outbox.Observer

// orNil is nil if there are none: then the lane counts nothing.
func (o observers) orNil() outbox.Observer {
	if len(o) == 0 {
		return nil
	}
	return o
}

// Settled implements [outbox.Observer].
func (o observers) Settled(batch outbox.SettledBatch) {
	for _, one := range o {
		one.Settled(batch)
	}
}

// Repeated implements [outbox.Observer].
func (o observers) Repeated(lane int, cause, sqlState string) {
	for _, one := range o {
		one.Repeated(lane, cause, sqlState)
	}
}

// Holds implements [outbox.Observer].
func (o observers) Holds(lane int, holds bool) {
	for _, one := range o {
		one.Holds(lane, holds)
	}
}

// audited is the auditor of worker run; nil: it is turned off.
func (p *program) audited(
	ctx context.Context, pool *pgxpool.Pool, loaded config.Config, wanted bool,
) (*auditor, error) {
	if !wanted || loaded.AuditEvery == 0 {
		return nil, nil
	}
	return newAuditor(ctx, pool, loaded.AuditEvery, p.logger(loaded))
}
