package outbox

import (
	"context"
	"errors"
	"fmt"
	"log/slog"

	"github.com/jackc/pgx/v5"
)

// settle settles a batch in one transaction. settled is false if no job was waiting. After an error nothing has
// changed, unless the error is an ErrCommitUnknown.
func (l *lane) settle(ctx context.Context) (settled bool, err error) {
	tx, err := l.begin(ctx)
	if err != nil {
		return false, err
	}
	defer func() {
		if l.conn != nil {
			_ = tx.Rollback(context.WithoutCancel(ctx))
		}
	}()
	b := &batch{share: l.share, tx: tx, write: &pgx.Batch{}}
	limit := l.caution.most(l.pace.next(l.settings.Batch, l.suspicion.among))
	b.asked = limit
	if err := b.claim(ctx, limit); err != nil || len(b.jobs) == 0 {
		return false, err
	}
	if err := b.admit(ctx); err != nil {
		return false, err
	}
	b.cut(&l.suspicion)
	if l.mustNote(b) {
		return true, l.note(ctx, b)
	}
	l.remember(b)
	err = b.settle(ctx)
	if errors.As(err, new(*abandonedError)) {
		l.conn = nil
	}
	if b.charged == nil {
		l.pace.fitted(len(b.jobs), b.full)
	}
	if err != nil {
		return false, &batchError{jobs: b.jobs, charged: b.charged, err: err}
	}
	return l.settled(ctx, b) > 0, nil
}

// settle applies the claimed jobs and writes what has become of them.
func (b *batch) settle(ctx context.Context) error {
	if err := b.apply(ctx); err != nil {
		return err
	}
	if err := b.finish(); err != nil {
		return err
	}
	if err := b.send(ctx); err != nil {
		return err
	}
	if err := Commit(ctx, b.tx); err != nil {
		return fmt.Errorf("commit: %w", err)
	}
	return nil
}

// settled does what a committed batch asks for, and returns how many of its jobs were dealt with.
func (l *lane) settled(ctx context.Context, b *batch) int {
	for i, c := range b.jobs {
		switch err := b.results[i].err; {
		case b.charged != nil && b.charged.unwritable != nil:
			l.log.ErrorContext(ctx, "job discarded: its failed attempt can't be written", slog.Int64("job_id", c.ID),
				slog.String("kind", c.Kind), slog.String("key", c.Key), slog.String("error", b.charged.unwritable.Error()))
		case b.charged != nil:
			l.logFailure(ctx, c, b.charged.err)
		case err != nil:
			l.logFailure(ctx, c, err)
		}
	}
	n := l.stats.count(b)
	if n > 0 {
		l.stalls = 0
		if b.charged != nil {
			l.pace.charged()
		} else {
			l.pace.settled()
		}
		l.suspicion.settled(b, n)
		l.caution.settled(n, !b.full && len(b.jobs) < b.asked, &l.pace)
		if b.deadly != nil {
			l.suspicion.deadly = b.deadly
		}
	}
	return n
}

func (l *lane) logFailure(ctx context.Context, c *claimed, err error) {
	l.log.WarnContext(ctx, "job failed", slog.Int64("job_id", c.ID), slog.String("kind", c.Kind),
		slog.String("key", c.Key), slog.Int("attempt", c.Attempt), slog.Bool("discarded", c.last()),
		slog.String("error", err.Error()))
}
