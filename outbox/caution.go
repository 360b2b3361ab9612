package outbox

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"

	"github.com/jackc/pgx/v5"
)

// caution is how the lane goes on after its last holder has ended without leaving it: a job may have ended that
// process, and would end this one. The lane settles small batches and notes each in its row before it begins. So the
// next holder knows where this one ended, and looks for the job there, down to one.
type caution struct {
	unclean int // holders in a row that ended without settling anything, and without leaving the lane
	left    int // how many jobs at the head of the lane are under suspicion; 0: none
	limit   int // of a batch meanwhile

	noted noted
}

// noted is a batch as the lane's row has it.
type noted struct {
	first int64
	size  int
}

const (
	firstCaution = 3   // each holder that had noted nothing halves the full batch so often
	nextCaution  = 16  // batches have this part of the one in which a holder ended
	mostDeadly   = 100 // jobs that the lane's row remembers
)

// errWorkerEnded is what a job is charged with that was alone when its worker ended, twice.
var errWorkerEnded = errors.New("the worker ended while it settled this job")

// learn draws the conclusions of how the last holder ended.
func (l *lane) learn(ctx context.Context, last lastHolder) {
	l.suspicion.deadly = last.deadly
	if last.name == "" || last.lives || l.wasHolder(last.name) {
		return
	}
	l.caution = caution{unclean: last.unclean + 1, left: l.settings.Batch}
	l.caution.limit = max(1, l.settings.Batch>>min(30, firstCaution*l.caution.unclean))
	if last.size > 0 {
		l.caution.left, l.caution.limit = last.size, max(1, last.size/nextCaution)
	}
	l.log.WarnContext(ctx, "the last worker ended without leaving the lane: small batches first",
		slog.String("holder", last.name), slog.Int("ended", l.caution.unclean), slog.Int("batch", l.caution.limit))
	if last.size != 1 {
		return
	}
	if slices.Contains(last.deadly, last.trying) {
		l.suspicion.culprit = &culprit{job: last.trying, err: errWorkerEnded}
		return
	}
	deadly := slices.Concat(last.deadly, []int64{last.trying})
	l.suspicion.deadly = deadly[max(0, len(deadly)-mostDeadly):]
}

// most bounds the size of the next batch.
func (c *caution) most(limit int) int {
	if c.left > 0 {
		return min(limit, c.limit)
	}
	return limit
}

// mustNote tells whether the lane's row has to know of the batch before it is settled.
func (l *lane) mustNote(b *batch) bool {
	if b.charged != nil || l.caution.left == 0 && !l.suspicion.isDeadly(b.jobs[0]) {
		return false
	}
	n := l.caution.noted
	return n.first != b.jobs[0].ID || n.size < len(b.jobs)
}

const noteSQL = `
	UPDATE lastseat.lanes SET trying = $4, trying_size = $5 WHERE queue = $1 AND lane = $2 AND holder = $3`

// note gives the batch back, notes it in the lane's row, and commits that. The next claim has the same jobs.
func (l *lane) note(ctx context.Context, b *batch) error {
	if err := b.tx.Rollback(ctx); err != nil {
		return fmt.Errorf("give the batch back: %w", err)
	}
	next := noted{first: b.jobs[0].ID, size: len(b.jobs)}
	tag, err := l.conn.Exec(ctx, noteSQL, l.settings.Queue, l.number, l.holder, next.first, next.size)
	if err != nil {
		return fmt.Errorf("note the batch: %w", err)
	}
	if tag.RowsAffected() == 0 {
		return errFenced
	}
	l.caution.noted = next
	return nil
}

const rememberSQL = `
	UPDATE lastseat.lanes SET unclean = 0, trying = NULL, trying_size = NULL, deadly = @deadly,
	       accused = nullif(accused, @charged), accused_attempt = CASE WHEN accused <> @charged THEN accused_attempt END,
	       accused_error = CASE WHEN accused <> @charged THEN accused_error END
	WHERE queue = @queue AND lane = @lane`

// remember has the batch's commit bring the lane's row up to date, if the row says anything that the batch changes.
func (l *lane) remember(b *batch) {
	first := b.jobs[0]
	charged := int64(0)
	if b.charged != nil {
		charged = first.ID
	}
	survived := l.suspicion.isDeadly(first) && (b.charged == nil || first.last())
	if l.caution.unclean == 0 && l.caution.noted.size == 0 && !survived && (charged == 0 || charged != l.heard.job) {
		return
	}
	deadly := slices.DeleteFunc(slices.Clone(l.suspicion.deadly), func(job int64) bool {
		return survived && job == first.ID
	})
	if deadly == nil {
		deadly = []int64{}
	}
	b.deadly = deadly
	b.write.Queue(rememberSQL, pgx.NamedArgs{
		"queue": l.settings.Queue, "lane": l.number, "deadly": deadly, "charged": charged,
	}).Exec(ExpectRows(1))
}

// settled: a batch of n jobs was committed, and with it what remember has queued. last: no more jobs were waiting.
func (c *caution) settled(n int, last bool, p *pace) {
	c.unclean, c.noted = 0, noted{}
	if last {
		c.left = 0
	}
	if c.left == 0 {
		return
	}
	if c.left = max(0, c.left-n); c.left == 0 {
		p.limit = c.limit
	}
}

// accusation is what one worker tells the others of a job: that it has failed at this attempt.
type accusation struct {
	job     int64
	attempt int
	reason  string
}

const accuseSQL = `
	UPDATE lastseat.lanes SET accused = $3, accused_attempt = $4, accused_error = $5 WHERE queue = $1 AND lane = $2`

// tellAccusation writes what the lane's last session has found out into the lane's row: another worker may have the
// lane by now, and need not find it out again.
func (l *lane) tellAccusation(ctx context.Context) error {
	known := l.suspicion.culprit
	if known == nil || known.attempt == 0 {
		return nil
	}
	_, err := l.conn.Exec(ctx, accuseSQL, l.settings.Queue, l.number, known.job, known.attempt,
		storable(known.err.Error()))
	if err != nil {
		return fmt.Errorf("tell of a job that has failed: %w", err)
	}
	return nil
}

// hear takes over what another worker has found out.
func (l *lane) hear(told accusation) {
	if told == l.heard {
		return
	}
	l.heard = told
	if told.job != 0 && l.suspicion.culprit == nil {
		l.suspicion.culprit = &culprit{job: told.job, attempt: told.attempt, err: errors.New(told.reason)}
	}
}
