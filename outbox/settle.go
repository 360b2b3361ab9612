package outbox

import (
	"context"
	"errors"
	"log/slog"
	"slices"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/lastseat/lastseat/internal/faultpoint"
	"github.com/lastseat/lastseat/internal/history"
	"github.com/lastseat/lastseat/internal/retry"
)

// settle settles a batch in one transaction. settled is false if no job was waiting. After an error nothing has
// changed, unless the error is an ErrCommitUnknown.
func (l *lane) settle(ctx context.Context) (settled bool, err error) {
	for {
		settled, again, err := l.settleAt(ctx, l.strict)
		if err != nil || !again {
			return settled, err
		}
	}
}

// settleAt settles a batch, with or without SERIALIZABLE. again: the batch has a kind that needs SERIALIZABLE, and the
// transaction was none.
func (l *lane) settleAt(ctx context.Context, strict bool) (settled, again bool, err error) {
	if err := l.chain.read(ctx, l.conn); err != nil {
		return false, false, err
	}
	b := l.newBatch()
	faultpoint.Reached(faultpoint.BeforeClaim)
	b.tx, err = l.begin(ctx, strict, func(opening *pgx.Batch) { b.queueClaim(opening, b.asked) })
	switch {
	case errors.As(err, new(*claimError)), err != nil && l.lost(): // the claim may have broken the connection
		return false, false, &batchError{claiming: b.asked, err: err}
	case err != nil:
		return false, false, err
	}
	defer func() {
		if l.conn != nil {
			_ = b.tx.Rollback(context.WithoutCancel(ctx))
		}
	}()
	if len(b.jobs) == 0 {
		l.waiting.over(b) // those that waited are cancelled, deleted, or lost with a server that another one has replaced
		return false, false, nil
	}
	faultpoint.Reached(faultpoint.AfterClaim)
	if l.strict = b.isStrict(); l.strict && !strict && l.settings.Isolation == pgx.Serializable {
		return false, true, nil
	}
	if err := b.prepare(ctx, l); err != nil {
		return false, false, err
	}
	if len(b.jobs) > 0 && l.mustNote(b) {
		return true, false, l.note(ctx, b)
	}
	settled, err = l.finish(ctx, b)
	return settled, false, err
}

func (l *lane) newBatch() *batch {
	limit := l.caution.most(l.pace.next(l.settings.Batch, l.suspicion.among))
	return &batch{
		share: l.share, bound: &l.bound, began: time.Now(), bell: &l.bell,
		write: &pgx.Batch{}, history: &history.Log{},
		limit: limit, bars: l.waiting.bars, asked: l.waiting.limit(limit),
	}
}

// finish settles what the batch is about, and tells whether it dealt with any job.
func (l *lane) finish(ctx context.Context, b *batch) (settled bool, err error) {
	if len(b.jobs) > 0 {
		l.remember(b)
	}
	err = b.settle(ctx)
	if errors.As(err, new(*abandonedError)) {
		l.conn = nil
	}
	if b.charged == nil && len(b.jobs) > 0 {
		l.pace.fitted(len(b.jobs), b.full)
	}
	if err != nil {
		l.meetLock(err)
		return false, &batchError{jobs: b.jobs, charged: b.charged, err: err}
	}
	if l.few = !b.full && len(b.jobs) <= fewJobs; !l.few {
		l.busy = time.Now()
	}
	return l.settled(ctx, b) > 0, nil
}

// isStrict tells whether a job of the batch is of a kind that needs SERIALIZABLE.
func (b *batch) isStrict() bool {
	return slices.ContainsFunc(b.jobs, func(c *claimed) bool { return b.kinds.isStrict(c.Kind) })
}

// prepare decides which of the claimed jobs the batch is about.
func (b *batch) prepare(ctx context.Context, l *lane) error {
	if known := &l.suspicion; known.among > 0 || slices.ContainsFunc(b.jobs, known.singles) {
		b.setAside(&l.waiting, b.limit)
	}
	if len(b.jobs) > 0 {
		b.cut(&l.suspicion)
	}
	err := b.enter(ctx)
	if err == nil && time.Now().Before(l.waiting.careful) && !b.unentered {
		err = b.lockRequests(ctx)
	}
	if err != nil {
		return &batchError{jobs: b.jobs, charged: b.charged, err: err}
	}
	return nil
}

// enter admits the jobs. What comes of a job that is to be charged is certain, so an error of admitting it is none of
// the batch: its request may be what can't be written.
func (b *batch) enter(ctx context.Context) error {
	if b.charged == nil {
		return b.admit(ctx)
	}
	tx := b.tx
	err := pgx.BeginFunc(ctx, tx, func(savepoint pgx.Tx) error {
		b.tx = savepoint
		return b.admit(ctx)
	})
	b.tx, b.jobs[0].fate = tx, charge
	if err != nil && !tx.Conn().IsClosed() && !blameless(err) {
		b.history, b.unentered, err = &history.Log{}, true, nil
	}
	return err
}

// meetLock: a batch has waited for a lock in vain. If that was a settler's, it is barred for a while. If not, it may be
// a request that somebody has locked.
func (l *lane) meetLock(err error) {
	if locked := (*rowLockedError)(nil); errors.As(err, &locked) {
		l.waiting.raise(locked.by, locked.row)
		return
	}
	if retry.SQLState(err) == stateLockTimeout {
		l.waiting.careful = time.Now().Add(carefully)
	}
}

// settle applies the claimed jobs and writes what has become of them.
func (b *batch) settle(ctx context.Context) error {
	if err := b.apply(ctx); err != nil || len(b.jobs) == 0 { // all of them wait
		return err
	}
	faultpoint.Reached(faultpoint.AfterApply)
	if faultpoint.Sabotaged(faultpoint.CompletionFirst) {
		if err := completeFirst(ctx, b); err != nil {
			return err
		}
	} else if err := b.finish(); err != nil {
		return err
	}
	b.noteProgress()
	b.chain.queue(b.write, b.history, b.jobs[0].now)
	if err := b.send(ctx); err != nil {
		return err
	}
	// What the database told while it wrote: requests that have used up their attempts.
	if err := b.chain.write(ctx, b.tx, b.history, b.jobs[0].now); err != nil {
		return err
	}
	faultpoint.Reached(faultpoint.BeforeCommit)
	if err := Commit(ctx, b.tx); err != nil {
		return &commitError{err}
	}
	faultpoint.Reached(faultpoint.AfterCommit)
	b.chain.committed()
	b.progress.committed()
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
	l.waiting.over(b)
	l.suspicion.among = max(0, l.suspicion.among-(len(b.waiting)-b.aside))
	if len(b.jobs) == 0 {
		return 0
	}
	n := l.stats.count(b)
	l.behind.settled += n
	l.observeBatch(b, n)
	l.traceBatch(b)
	l.refused.count(b)
	if n > 0 {
		l.stalls = 0
		if b.charged != nil {
			l.pace.charged()
		} else {
			l.pace.settled()
		}
		l.suspicion.settled(b, n)
		l.caution.settled(n, !b.full && len(b.jobs)+len(b.waiting) < b.asked, &l.pace)
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
