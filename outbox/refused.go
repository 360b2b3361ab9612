package outbox

import (
	"context"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"strings"
	"time"
)

// refusals counts jobs that somebody inserted straight into river_job and that were refused, by kind. The log tells
// them in one line a minute, however many they are.
type refusals struct {
	said   time.Time
	byKind map[string]int
}

// count adds the jobs of a batch that was committed.
func (r *refusals) count(b *batch) {
	for i, c := range b.jobs {
		if c.fate != misuse && c.fate != changed &&
			(b.results[i].Status != Rejected || b.results[i].Code != CodeInvalidArgs) {
			continue
		}
		if r.byKind == nil {
			r.byKind = make(map[string]int)
		}
		r.byKind[c.Kind]++ // a kind of this worker's: there are few
	}
}

func (l *lane) sayRefused(ctx context.Context) {
	r := &l.refused
	if len(r.byKind) == 0 || time.Since(r.said) < sayInterval {
		return
	}
	jobs, kinds := 0, slices.Sorted(maps.Keys(r.byKind))
	for i, kind := range kinds {
		jobs += r.byKind[kind]
		kinds[i] = fmt.Sprintf("%s (%d)", kind, r.byKind[kind])
	}
	r.said, r.byKind = time.Now(), nil
	l.log.WarnContext(
		ctx,
		"jobs were refused that came with wrong arguments, bypassing the SQL functions, or whose arguments were changed",
		slog.String("kinds", strings.Join(kinds, ", ")),
		slog.Int("jobs", jobs),
	)
}
