package outbox

import (
	"context"
	"encoding/json"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5/pgconn"

	"github.com/lastseat/lastseat/internal/retry"
)

const (
	takeDoorbellSQL  = `SELECT pg_try_advisory_lock(lastseat.doorbell($1))`
	leaveDoorbellSQL = `SELECT pg_advisory_unlock(lastseat.doorbell($1))`
)

// idle sleeps until there may be something to do. While the lane sleeps it holds the doorbell, so that producers
// notify it: see lastseat.ring and docs/decisions/003-doorbell.md. While a producer holds the doorbell, a commit
// may come without a notification, and the lane only takes a breath. So it does if jobs are due that it can't
// claim, because another session has locked them or they belong to another lane; mostly such a job was committed
// just after the claim looked.
func (l *lane) idle(ctx, stop context.Context, due bool) error {
	if due || l.borrowed {
		return l.breathe(ctx, stop)
	}
	var taken bool
	if err := l.conn.QueryRow(ctx, takeDoorbellSQL, l.settings.Queue).Scan(&taken); err != nil {
		return fmt.Errorf("take the doorbell: %w", err)
	}
	if !taken {
		_ = retry.Sleep(stop, l.pace.glance())
		return nil
	}
	l.rung.Store(false)
	// One more look, for a job that was committed without a notification just before the lane took the doorbell.
	due, err := l.due(ctx, l.conn)
	if err == nil && !due {
		err = l.nap(ctx, stop)
	}
	if err != nil {
		return fmt.Errorf("wait for jobs: %w", err)
	}
	if _, err := l.conn.Exec(ctx, leaveDoorbellSQL, l.settings.Queue); err != nil {
		return fmt.Errorf("leave the doorbell: %w", err)
	}
	return nil
}

// nap sleeps until a notification comes, or for as long as LASTSEAT_POLL. It sweeps meanwhile and keeps the
// doorbell: a producer that commits during a sweep notifies, and the lane reads that after the sweep.
func (l *lane) nap(ctx, stop context.Context) error {
	for end := time.Now().Add(l.settings.Poll); ; {
		wait, cancel := context.WithDeadline(stop, l.nextSweep(end))
		err := l.awaitRing(wait)
		over := wait.Err() != nil
		cancel()
		switch {
		case err == nil || stop.Err() != nil:
			return nil
		case !over:
			return err
		case !time.Now().Before(end):
			return nil
		}
		if made, err := l.schedule(ctx); err != nil || made {
			return err
		}
		if err := l.sweep(ctx, stop); err != nil {
			return err
		}
		if err := l.others(ctx, false, true); err != nil {
			return err
		}
	}
}

// awaitRing waits for a notification of a job in this lane's queue, unless one has come since the lane looked.
func (l *lane) awaitRing(ctx context.Context) error {
	for !l.rung.Swap(false) {
		if err := l.conn.PgConn().WaitForNotification(ctx); err != nil {
			return err
		}
	}
	return nil
}

// heardRing notes a notification when it comes. The lane keeps none of them: anybody may send millions, of 8 kB each.
// River sends some for other queues, too.
func (l *lane) heardRing(_ *pgconn.PgConn, notification *pgconn.Notification) {
	var ring struct {
		Queue string `json:"queue"`
	}
	if err := json.Unmarshal([]byte(notification.Payload), &ring); err != nil || ring.Queue == l.settings.Queue {
		l.rung.Store(true)
	}
}
