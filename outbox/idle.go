package outbox

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5/pgconn"

	"github.com/lastseat/lastseat/internal/retry"
)

const (
	takeDoorbellSQL  = `SELECT pg_try_advisory_lock(lastseat.doorbell($1))`
	leaveDoorbellSQL = `SELECT pg_advisory_unlock(lastseat.doorbell($1))`
)

// fewJobs is how many jobs a batch has at most after which the lane keeps the doorbell: they come one by one, from
// askers that may wait for their outcomes.
const fewJobs = 2

// After a batch of more than fewJobs, a lane without work looks every lingerPause, for as long as lingerFor.
const (
	lingerFor   = 100 * time.Millisecond
	lingerPause = time.Millisecond
)

// idle sleeps until there may be something to do. While the lane sleeps it holds the doorbell, so that producers
// notify it: see lastseat.ring and docs/decisions/003-doorbell.md. While a producer holds the doorbell, a commit
// may come without a notification, and the lane only takes a breath. So it does if jobs are due that it can't
// claim, because another session has locked them or they belong to another lane; mostly such a job was committed
// just after the claim looked.
//
// When a notification wakes it, the lane keeps the doorbell: all who commit meanwhile notify as well. If few came, it
// sleeps again without asking for the doorbell, and without looking twice; otherwise it leaves the doorbell, and
// lingers before it asks for it again.
func (l *lane) idle(ctx, stop context.Context, due bool) error {
	if due || l.borrowed {
		return errors.Join(l.leaveDoorbell(ctx), l.breathe(ctx, stop))
	}
	if !l.doorbell {
		if due, err := l.linger(ctx, stop); err != nil || due {
			return err
		}
		taken, err := l.takeDoorbell(ctx)
		if err != nil {
			return err
		}
		if !taken {
			_ = retry.Sleep(stop, l.pace.glance())
			return nil
		}
		// One more look, for a job that was committed without a notification just before the lane took the doorbell.
		if due, err := l.due(ctx, l.conn, l.bound); err != nil || due {
			return errors.Join(err, l.leaveDoorbell(ctx))
		}
	}
	if err := l.nap(ctx, stop); err != nil {
		return fmt.Errorf("wait for jobs: %w", err)
	}
	return nil
}

// linger looks for jobs without the doorbell: after a batch of several, their askers may come again. If they had to
// notify, their commits would wait for the disk one after the other.
func (l *lane) linger(ctx, stop context.Context) (due bool, err error) {
	for end := l.busy.Add(lingerFor); !due && err == nil && time.Now().Before(end) && stop.Err() == nil; {
		_ = retry.Sleep(stop, lingerPause)
		due, err = l.due(ctx, l.conn, l.bound)
	}
	return due, err
}

func (l *lane) takeDoorbell(ctx context.Context) (taken bool, err error) {
	if err := l.conn.QueryRow(ctx, takeDoorbellSQL, l.settings.Queue).Scan(&taken); err != nil {
		return false, fmt.Errorf("take the doorbell: %w", err)
	}
	l.doorbell = taken
	l.rung.Store(false)
	return taken, nil
}

// leaveDoorbell leaves the doorbell if the lane holds it: producers need not notify a lane that is at work.
func (l *lane) leaveDoorbell(ctx context.Context) error {
	if !l.doorbell {
		return nil
	}
	l.doorbell = false
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
		if err := l.sayBehind(ctx); err != nil {
			return err
		}
	}
}

// listenFor is how long a lane that holds the doorbell listens before it looks whether a job is due that nobody rings
// for.
const listenFor = 5 * time.Millisecond

// listen waits a moment for a notification, where requests come one by one: the next one need not wait for a look.
func (l *lane) listen(ctx, stop context.Context) (rung bool, err error) {
	wait, cancel := context.WithTimeout(stop, listenFor)
	defer cancel()
	if err := l.awaitRing(wait); err != nil {
		if wait.Err() == nil {
			return false, fmt.Errorf("wait for jobs: %w", err)
		}
		return false, ctx.Err()
	}
	return true, nil
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
