package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/tidwall/gjson"

	"github.com/lastseat/lastseat/jobs"
	"github.com/lastseat/lastseat/outbox"
)

// witness notes when each request's transaction was committed, and when its outcome was seen.
type witness struct {
	sync.Mutex
	committed, settled map[string]time.Time
	missing            int // of those expected
	all                chan struct{}
}

// expect returns what is closed when all tickets are settled.
func (w *witness) expect(tickets []ticket) <-chan struct{} {
	w.Lock()
	defer w.Unlock()
	w.committed, w.settled = make(map[string]time.Time, len(tickets)), make(map[string]time.Time, len(tickets))
	w.missing, w.all = len(tickets), make(chan struct{})
	return w.all
}

func (w *witness) commit(tickets []ticket) {
	now := time.Now()
	w.Lock()
	defer w.Unlock()
	for _, t := range tickets {
		w.committed[t.key] = now
	}
}

func (w *witness) see(key string) {
	now := time.Now()
	w.Lock()
	defer w.Unlock()
	w.settled[key] = now
	if w.missing--; w.missing == 0 {
		close(w.all)
	}
}

// waits are the times from commit to outcome; an outcome may be seen before the reply to the commit was.
func (w *witness) waits(tickets []ticket) []time.Duration {
	w.Lock()
	defer w.Unlock()
	waits := make([]time.Duration, len(tickets))
	for i, t := range tickets {
		waits[i] = max(0, w.settled[t.key].Sub(w.committed[t.key]))
	}
	return waits
}

// settleByRiver sees an outcome when the worker's own COMMIT has returned: nobody is notified.
func settleByRiver(river riverContestant) settler {
	return func(ctx context.Context, pool *pgxpool.Pool, see func(string)) (func() error, error) {
		failed, fail := context.WithCancelCause(ctx)
		p := newProgress(-1, fail)
		p.seen = func(args []byte) { see(gjson.GetBytes(args, "key").String()) }
		stop, err := river.start(ctx, pool, p)
		return func() error { stop(); return context.Cause(failed) }, err
	}
}

// settleByLane sees an outcome as another process would: it waits for a notification, and then reads.
func settleByLane(ctx context.Context, pool *pgxpool.Pool, see func(string)) (func() error, error) {
	kinds := &outbox.Kinds{}
	jobs.Register(kinds)
	worker := outbox.NewWorker(pool, kinds, outbox.Settings{Logger: slog.New(slog.DiscardHandler)})
	conn, err := pgx.ConnectConfig(ctx, pool.Config().ConnConfig)
	if err != nil {
		return nil, err
	}
	if _, err := conn.Exec(ctx, "LISTEN lastseat_outcome"); err != nil {
		return nil, err
	}
	running, cancel := context.WithCancel(ctx)
	var ended sync.WaitGroup
	var working, reading error
	ended.Go(func() { working = worker.Run(running) })
	ended.Go(func() { reading = readOutcomes(running, conn, see) })
	return func() error {
		cancel()
		ended.Wait()
		return errors.Join(working, reading, conn.Close(ctx))
	}, nil
}

const settledSinceSQL = `
	SELECT number, xid::text, keys FROM lastseat.outcome_log WHERE (timeline, xid, number) > (1, $1::text::xid8, $2)
	ORDER BY timeline, xid, number`

func readOutcomes(ctx context.Context, conn *pgx.Conn, see func(string)) error {
	xid, number := "0", int64(0)
	for {
		if _, err := conn.WaitForNotification(ctx); err != nil {
			if ctx.Err() != nil {
				return nil
			}
			return fmt.Errorf("wait for outcomes: %w", err)
		}
		rows, err := conn.Query(ctx, settledSinceSQL, xid, number)
		if err != nil {
			return fmt.Errorf("read outcomes: %w", err)
		}
		var keys []string
		_, err = pgx.ForEachRow(rows, []any{&number, &xid, &keys}, func() error {
			for _, key := range keys {
				see(key)
			}
			return nil
		})
		if err != nil && ctx.Err() == nil {
			return fmt.Errorf("read outcomes: %w", err)
		}
	}
}
