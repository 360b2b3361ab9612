package outbox

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"golang.org/x/sync/errgroup"

	"github.com/lastseat/lastseat/internal/pgsession"
	"github.com/lastseat/lastseat/internal/retry"
)

// Worker settles the jobs of a queue. Any number of workers may run; one at a time holds each lane, the others
// stand by and take over when it goes.
type Worker struct {
	settings Settings
	kinds    *Kinds
	pool     *pgxpool.Pool
	river    *pgxpool.Pool // of River's part; nil: there is none
	stats    Stats
}

// NewWorker makes a worker of kinds. pool is for River's part; every lane opens one more connection to the same
// database. The lane's lock needs a session, so there must be no connection pooler in transaction mode in between.
func NewWorker(pool *pgxpool.Pool, kinds *Kinds, settings Settings) *Worker {
	return &Worker{settings: settings.withDefaults(), kinds: kinds, pool: pool}
}

// Stats returns the counters of this worker.
func (w *Worker) Stats() Snapshot { return w.stats.Snapshot() }

// Run works until ctx is done; then it finishes the batch in hand and returns nil. It outlives the database: it
// makes a lost connection again. The first connection has to succeed.
func (w *Worker) Run(ctx context.Context) error {
	stopRiver, err := w.startRiver(ctx)
	if err != nil {
		return err
	}
	defer stopRiver()
	return w.lanes(ctx, false)
}

// Drain settles what is due and returns. An error that Run would wait out ends it.
func (w *Worker) Drain(ctx context.Context) error {
	return w.lanes(ctx, true)
}

func (w *Worker) lanes(stop context.Context, drain bool) error {
	ctx, cancel := context.WithCancel(context.WithoutCancel(stop))
	defer cancel()
	defer context.AfterFunc(stop, func() {
		_ = retry.Sleep(ctx, w.settings.StopTimeout)
		cancel()
	})()

	group, stop := errgroup.WithContext(stop)
	for number := range w.settings.Lanes {
		l := newLane(w.settings, w.kinds, number, &w.stats, w.pool)
		group.Go(func() error { return w.keep(ctx, stop, l, drain) })
	}
	return group.Wait()
}

// keep runs a lane, on one connection after the other.
func (w *Worker) keep(ctx, stop context.Context, l *lane, drain bool) error {
	var told repeated
	for connected := false; stop.Err() == nil; {
		err := w.connect(ctx, l)
		if err == nil {
			connected = true
			err = l.work(ctx, stop, drain)
			if l.conn != nil {
				_ = l.conn.Close(context.WithoutCancel(ctx))
			}
		}
		switch {
		case err == nil || stop.Err() != nil:
			return nil
		case !connected || permanent(err) && !l.admitted || drain && !jobsDoing(err):
			return err
		}
		switch {
		case !lacks(err):
			l.log.ErrorContext(ctx, "lane lost its connection", slog.String("error", err.Error()))
		case told.anew(time.Now(), err):
			l.log.ErrorContext(ctx, "lane can't work: worker doctor says what the database lacks",
				slog.String("error", err.Error()))
		}
		_ = retry.Sleep(stop, longestPause/2)
	}
	return nil
}

func (w *Worker) connect(ctx context.Context, l *lane) error {
	config := w.pool.Config().ConnConfig
	if config.ConnectTimeout == 0 {
		config.ConnectTimeout = 10 * time.Second
	}
	observeErrors(&config.Config)
	limitReplies(config, l.replyLimit())
	config.OnNotification = l.heardRing
	conn, err := pgsession.Connect(ctx, config)
	l.borrowed = false
	if retry.SQLState(err) == stateTooManyConnections && w.river != nil {
		l.borrowed = true
		conn, err = w.borrow(ctx, l, err)
	}
	if err != nil {
		return fmt.Errorf("connect a lane: %w", err)
	}
	l.conn = conn
	return nil
}

// borrow takes a connection out of River's pool for good, where all connections that the server allows are taken: River
// can wait, payments can't.
func (w *Worker) borrow(ctx context.Context, l *lane, why error) (*pgx.Conn, error) {
	ctx, cancel := context.WithTimeout(ctx, longestPause)
	defer cancel()
	pooled, err := w.river.Acquire(ctx)
	if err != nil {
		return nil, errors.Join(why, err)
	}
	conn := pooled.Hijack()
	if limited := replyConnOf(conn); limited != nil {
		limited.limitTo(l.replyLimit())
	}
	l.log.WarnContext(ctx, "the server has no connection left: the lane goes on with one that was River's",
		slog.String("error", why.Error()))
	return conn, nil
}

// permanent errors don't go away by themselves: no right, no such table, a wrong password. Where the lane has worked
// before, they may: somebody restores the database, or its rights.
func permanent(err error) bool {
	return slices.Contains([]string{"42501", "42P01", "3F000", "3D000", "28P01", "28000"}, retry.SQLState(err))
}

// lacks tells whether the database lacks something that a lane needs: a right, a table, a function.
func lacks(err error) bool { return permanent(err) || retry.SQLState(err) == "42883" }

// repeated keeps an error that comes with every attempt to one line a minute.
type repeated struct {
	text string
	at   time.Time
}

// anew tells whether the error is another one than the last, or was told a minute ago.
func (r *repeated) anew(now time.Time, err error) bool {
	if err.Error() == r.text && now.Sub(r.at) < time.Minute {
		return false
	}
	r.text, r.at = err.Error(), now
	return true
}

// jobsDoing tells whether a lost connection may be the doing of a job, or of a COMMIT in flight: another one mends it.
func jobsDoing(err error) bool {
	return errors.Is(err, ErrCommitUnknown) || retry.SQLState(err) == stateHeldTooLong || errors.As(err, new(*stuckError))
}
