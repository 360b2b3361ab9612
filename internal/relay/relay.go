package relay

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/lastseat/lastseat/internal/quote"
	"github.com/lastseat/lastseat/internal/retry"
	"github.com/lastseat/lastseat/outbox"
)

// standby is how long a relay waits before it looks again whether it may have its row.
const standby = time.Second

// Relay serves one target.
type Relay struct {
	target Target
	sink   Sink
	limits Limits
	db     *pgxpool.Pool
	holder string
	poll   time.Duration
	wake   chan struct{} // something was settled
	log    *slog.Logger
	said   string // the last line about not having the row, so that it is not said each second
}

// run relays until stop is done. No error ends it: the database and the target may come back.
func (r *Relay) run(stop context.Context) {
	for stop.Err() == nil {
		h, why, err := r.claim(stop)
		switch {
		case stop.Err() != nil:
		case err != nil:
			r.sayOnce(stop, slog.LevelError, "the relay can't read its row", slog.String("error", err.Error()))
		case h == nil && why.disabled != "":
			r.sayOnce(stop, slog.LevelError, "the relay is disabled",
				slog.String("error", why.disabled), slog.String("hint", "worker relay resume "+quote.Word(r.target.Name)))
		case h == nil:
			r.sayOnce(stop, slog.LevelInfo, "another relay serves the target, this one stands by",
				slog.String("holder", why.holder))
		default:
			r.said = ""
			r.log.InfoContext(stop, "relaying", slog.String("cursor", h.cursor))
			if err := r.work(stop, h); err != nil && stop.Err() == nil {
				r.log.WarnContext(stop, "the relay begins anew at its row", slog.String("error", err.Error()))
			}
		}
		_ = retry.Sleep(stop, standby)
	}
}

func (r *Relay) sayOnce(ctx context.Context, level slog.Level, line string, attrs ...slog.Attr) {
	said := line + fmt.Sprint(attrs)
	if said != r.said {
		r.said = said
		r.log.LogAttrs(ctx, level, line, attrs...) //nolint:sloglint // the lines of run, which are constants
	}
}

// work delivers until the row is somebody else's, the target is disabled, or stop is done.
func (r *Relay) work(stop context.Context, h *held) error {
	ctx, cancel := context.WithCancelCause(stop)
	beating := make(chan struct{})
	go func() { defer close(beating); r.beat(ctx, h, cancel) }()
	defer func() {
		cancel(nil)
		<-beating
		last, done := context.WithTimeout(context.WithoutCancel(stop), 5*time.Second)
		defer done()
		r.leave(last, h)
	}()
	idle := idleness{most: r.poll}
	for {
		if h.retryIn > 0 {
			if err := retry.Sleep(ctx, h.retryIn); err != nil {
				return context.Cause(ctx)
			}
			h.retryIn = 0
		}
		n, err := r.step(ctx, h)
		switch {
		case ctx.Err() != nil:
			return context.Cause(ctx)
		case err != nil:
			return err
		case n > 0:
			idle.busy()
		case h.retryIn == 0:
			idle.wait(ctx, r.wake)
		}
	}
}

// drain delivers what is in the log by now, and returns.
func (r *Relay) drain(ctx context.Context) error {
	h, why, err := r.claim(ctx)
	switch {
	case err != nil:
		return err
	case h == nil && why.disabled != "":
		return fmt.Errorf("it is disabled: %s: worker relay resume %s", why.disabled, quote.Word(r.target.Name))
	case h == nil:
		return errors.New("another process relays to it")
	}
	defer r.leave(context.WithoutCancel(ctx), h)
	idle := idleness{most: r.poll}
	for {
		n, err := r.step(ctx, h)
		if err == nil && h.retryIn > 0 {
			err = r.lastError(ctx)
		}
		if err != nil || ctx.Err() != nil {
			return cmp.Or(err, ctx.Err())
		}
		if n > 0 {
			continue
		}
		lag, err := lagBehind(ctx, r.db, h.cursor)
		if err != nil || lag.Outcomes == 0 {
			return err
		}
		idle.wait(ctx, r.wake) // for a transaction that holds up the feed
	}
}

// step delivers a batch and moves the cursor. A failure of the target is written down, and no error.
func (r *Relay) step(ctx context.Context, h *held) (int, error) {
	events, err := read(ctx, r.db, h.cursor, r.limits.Batch)
	switch {
	case errors.Is(err, outbox.ErrInvalid):
		hint := replayCommand(r.target.Name, err)
		return 0, r.failed(ctx, h, errors.New(err.Error()+": "+hint))
	case err != nil || len(events) == 0:
		return 0, err
	}
	n, failed := r.sink.Deliver(ctx, h.cursor, events)
	if n > 0 {
		// Even when the relay is told to stop: what is not noted is delivered a second time.
		last, done := context.WithTimeout(context.WithoutCancel(ctx), 5*time.Second)
		defer done()
		before := h.failures
		if err := r.advance(last, h, events[n-1].Cursor, n); err != nil {
			return n, err
		}
		if before > 0 {
			r.log.InfoContext(ctx, "the target takes outcomes again", slog.Int("failures", before))
		}
	}
	if failed == nil || ctx.Err() != nil {
		return n, nil
	}
	return n, r.failed(ctx, h, failed)
}

func (r *Relay) failed(ctx context.Context, h *held, failed error) error {
	if behind := (*BehindError)(nil); errors.As(failed, &behind) {
		r.log.ErrorContext(ctx, "the target has lost outcomes that it had acknowledged: they are sent again",
			slog.String("from", behind.Cursor), slog.String("to", h.cursor))
		return r.advance(ctx, h, behind.Cursor, 0)
	}
	wait := r.limits.wait(h.failures+1, failed)
	disabled, err := r.noteFailure(ctx, h, failed, wait)
	if err != nil {
		return err
	}
	if disabled != "" {
		return errors.New("the target is disabled: " + disabled)
	}
	if h.failures&(h.failures-1) == 0 { // the 1st, 2nd, 4th, 8th ... in a row
		r.log.WarnContext(ctx, "the target does not take an outcome", slog.String("error", failed.Error()),
			slog.Int("failures", h.failures), slog.Duration("pause", wait))
	}
	h.retryIn = wait
	return nil
}

// beat shows that the holder is alive, and ends its work when the row is another's.
func (r *Relay) beat(ctx context.Context, h *held, cancel context.CancelCauseFunc) {
	for retry.Sleep(ctx, Lease/3) == nil {
		if err := r.touch(ctx, h); errors.Is(err, errFenced) {
			cancel(err)
			return
		}
	}
}

// idleness is how a relay without work waits: it looks soon after a notification, since outcomes show only when every
// transaction that began before them has ended, and then less and less often.
type idleness struct{ pause, most time.Duration }

func (i *idleness) busy() { i.pause = 0 }

func (i *idleness) wait(ctx context.Context, wake <-chan struct{}) {
	const first = 5 * time.Millisecond
	i.pause = min(max(2*i.pause, first), i.most)
	timer := time.NewTimer(i.pause)
	defer timer.Stop()
	select {
	case <-ctx.Done():
	case <-timer.C:
	case <-wake:
		i.pause = 0
	}
}
