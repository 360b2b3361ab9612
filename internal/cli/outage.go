package cli

import (
	"context"
	"log/slog"
	"strings"
	"sync"
	"time"
)

const (
	// probeInterval is the pause between two looks whether the database answers again.
	probeInterval = 250 * time.Millisecond
	// afterOutage is how long reports of an outage that is over are kept back: River's parts report what they have met at
	// their own next turn.
	afterOutage = 10 * time.Second
	// longestOutage is how long an outage goes on in the log without another line.
	longestOutage = time.Minute
)

// NewOutage is a log in which an outage of the database is one line when it begins, one when it is over, and one a
// minute in between. All that is at work notices an outage again and again, each part of River too. Everything else
// passes.
//
// answers asks the database for a sign of life, by a new login: what is left of the sessions of before may answer while
// nobody gets in. It may wait as long as ctx does.
func NewOutage(log slog.Handler, answers func(ctx context.Context) error) slog.Handler {
	return &outageHandler{log, &outage{answers: answers, log: log, sleep: time.Sleep, now: time.Now}}
}

type outageHandler struct {
	slog.Handler
	*outage
}

// outage is what all handlers that stem from one share.
type outage struct {
	answers func(context.Context) error
	log     slog.Handler
	sleep   func(time.Duration)
	now     func() time.Time

	mu    sync.Mutex
	on    bool
	since time.Time
	said  time.Time // when a line was last let through
	over  time.Time // when the last one ended
	kept  int       // lines that were kept back
}

// WithAttrs and WithGroup keep a logger's children in the same outage.
func (h *outageHandler) WithAttrs(attrs []slog.Attr) slog.Handler {
	return &outageHandler{h.Handler.WithAttrs(attrs), h.outage}
}

// WithGroup implements [slog.Handler].
func (h *outageHandler) WithGroup(name string) slog.Handler {
	return &outageHandler{h.Handler.WithGroup(name), h.outage}
}

// Handle keeps the record back if an earlier line has said the same.
func (h *outageHandler) Handle(ctx context.Context, record slog.Record) error {
	if record.Level >= slog.LevelWarn && aboutOutage(record) && !h.lets(ctx) {
		return nil
	}
	return h.Handler.Handle(ctx, record)
}

// lets tells whether a report of an outage is the one to log. It has the end of the outage looked for.
func (o *outage) lets(ctx context.Context) bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	now := o.now()
	switch {
	case o.on && now.Sub(o.said) < longestOutage, !o.on && !o.over.IsZero() && now.Sub(o.over) < afterOutage:
		o.kept++
		return false
	case !o.on:
		o.on, o.since, o.kept = true, now, 0
		go o.awaitEnd(context.WithoutCancel(ctx))
	}
	o.said = now
	return true
}

// awaitEnd says when the database answers again.
func (o *outage) awaitEnd(ctx context.Context) {
	for {
		limited, cancel := context.WithTimeout(ctx, 8*probeInterval)
		err := o.answers(limited)
		cancel()
		if err == nil {
			break
		}
		if strings.Contains(err.Error(), "closed pool") { // the program ends
			return
		}
		o.sleep(probeInterval)
	}
	o.mu.Lock()
	o.on, o.over = false, o.now()
	lasted, kept := o.over.Sub(o.since), o.kept
	o.mu.Unlock()
	if !o.log.Enabled(ctx, slog.LevelWarn) {
		return
	}
	record := slog.NewRecord(o.over, slog.LevelWarn, "the database answers again", 0)
	record.AddAttrs(slog.Duration("duration", lasted.Round(time.Millisecond)), slog.Int("lines_left_out", kept))
	_ = o.log.Handle(ctx, record)
}

// signsOfOutage stand in the text of errors of a connection that was lost, or can't be made.
var signsOfOutage = []string{
	"failed to connect", "unexpected EOF", "conn closed", "connection refused", "connection reset", "broken pipe",
	"use of closed network connection", "no such host", "i/o timeout", "57P01", "57P02", "57P03", "08006",
}

func aboutOutage(record slog.Record) (is bool) {
	record.Attrs(func(attr slog.Attr) bool {
		if attr.Key == "err" || attr.Key == "error" {
			text := attr.Value.String()
			for _, sign := range signsOfOutage {
				is = is || strings.Contains(text, sign)
			}
		}
		return !is
	})
	return is
}
