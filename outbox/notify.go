package outbox

import (
	"context"
	"log/slog"
	"time"

	"github.com/jackc/pgx/v5"
)

const (
	outcomeChannel = "lastseat_outcome"
	notifySQL      = `SELECT pg_notify($1, $2) WHERE pg_notification_queue_usage() < 0.5`

	// muteLimit is how long the lane tells nobody after a COMMIT that failed because it notified.
	muteLimit = 10 * time.Second
)

// bell wakes those who wait for an outcome, at COMMIT. If the server's notification queue is full, COMMIT fails; so
// from half full on the lane tells nobody, and they look by themselves. The queue may still fill between that look and
// COMMIT: then the lane is muted for a while, and settles the same again.
type bell struct{ mutedUntil time.Time }

func (b *bell) muted() bool { return time.Now().Before(b.mutedUntil) }

func (b *bell) queue(write *pgx.Batch, queue string) {
	if !b.muted() {
		write.Queue(notifySQL, outcomeChannel, queue)
	}
}

// mute has the next transactions notify nobody.
func (l *lane) mute(ctx context.Context, err error) {
	l.bell.mutedUntil = time.Now().Add(muteLimit)
	if l.mayRepeat("muted") {
		l.log.WarnContext(ctx, "the server's notification queue is full: is a listening session idle in a transaction? "+
			"The lane settles without notifications", slog.Duration("pause", muteLimit), slog.String("error", err.Error()))
	}
}
