package outbox

import (
	"context"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/lastseat/lastseat/internal/history"
)

// batch is one transaction of the lane. It goes through claim, admit, cut, apply, finish and commit, in this order.
type batch struct {
	*share
	bound   *bound
	tx      pgx.Tx
	began   time.Time
	bell    *bell
	jobs    []*claimed // locked, in order
	full    bool       // the transaction has no room for more jobs like these
	charged *culprit   // what the batch charges its only job with, instead of settling it; mostly nil
	// unentered: the request of the job that is charged can't be written.
	unentered bool
	asked     int        // how many jobs the claim asked for
	deadly    []int64    // what the lane's row says of deadly jobs from now on; nil: the same as before
	results   []Result   // one for each job; of a job whose fate is another than settle it may be empty
	write     *pgx.Batch // what is still to be sent
	history   *history.Log

	limit   int                    // how many of the jobs may be settled
	waiting []*claimed             // jobs that wait for a row, in order; they are none of jobs any more
	aside   int                    // how many of these waited before, and were not tried
	behind  map[*Settler][]Waiting // those of waiting that a settler has to know
	bars    map[*Settler]*bar      // of the lane
	met     map[*Settler]Row       // the locks that settlers have met in this batch
}

// cut shortens the batch to what one transaction should have: at most 60 savepoints of handlers, and the culprit
// alone. The jobs that are cut off are free again when the transaction ends.
func (b *batch) cut(known *suspicion) {
	if known.accuses(b.jobs[0]) {
		b.charged, b.jobs = known.culprit, b.jobs[:1]
		b.jobs[0].fate = charge
		return
	}
	if known.isDeadly(b.jobs[0]) {
		b.jobs = b.jobs[:1]
		return
	}
	savepoints := 0
	for i, c := range b.jobs {
		if by := b.kinds.byName[c.Kind]; b.barred(&run{by: by}) == nil {
			savepoints += by.savepoints
		}
		if i > 0 && (savepoints > mostSavepoints || known.accuses(c) || known.isDeadly(c)) {
			b.shorten(i)
			return
		}
	}
	b.full = b.full || savepoints >= mostSavepoints
}

// shorten leaves the jobs from the n-th on to a later transaction.
func (b *batch) shorten(n int) { b.jobs, b.full = b.jobs[:n], true }

// send sends what has been queued so far.
func (b *batch) send(ctx context.Context) error {
	if b.write.Len() == 0 {
		return nil
	}
	queued := b.write
	b.write = &pgx.Batch{}
	return b.tx.SendBatch(ctx, queued).Close()
}
