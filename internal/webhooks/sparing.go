package webhooks

import (
	"context"
	"log/slog"
	"sync"
	"time"
)

// refusedEvery is how often the log has a webhook that was refused: strangers who know the address don't fill it.
const refusedEvery = time.Minute

// sparing is a handler that leaves out warnings that follow each other closely. The next one has their number.
type sparing struct {
	slog.Handler
	refused *refusals // shared by the handlers that are made of it
}

type refusals struct {
	mu   sync.Mutex
	next time.Time // when a warning is let through again
	out  int       // were left out since
}

// Handle implements slog.Handler.
func (s *sparing) Handle(ctx context.Context, record slog.Record) error {
	if record.Level == slog.LevelWarn {
		out, pass := s.refused.pass(record.Time)
		if !pass {
			return nil
		}
		if out > 0 {
			record = record.Clone()
			record.AddAttrs(slog.Int("left_out", out))
		}
	}
	return s.Handler.Handle(ctx, record)
}

// WithAttrs implements slog.Handler.
func (s *sparing) WithAttrs(attrs []slog.Attr) slog.Handler {
	return &sparing{Handler: s.Handler.WithAttrs(attrs), refused: s.refused}
}

// WithGroup implements slog.Handler.
func (s *sparing) WithGroup(name string) slog.Handler {
	return &sparing{Handler: s.Handler.WithGroup(name), refused: s.refused}
}

func (r *refusals) pass(now time.Time) (out int, pass bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if now.Before(r.next) {
		r.out++
		return 0, false
	}
	out, r.out, r.next = r.out, 0, now.Add(refusedEvery)
	return out, true
}
