package outbox

import (
	"context"
	"fmt"
	"log/slog"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/lastseat/lastseat/internal/retry"
)

// Waits is the result of a job that needs a row which another session has locked. The job stays where it is and uses up
// no attempt; the others of its batch are settled. The settler vouches that it writes nothing of the job, and that
// every later job that needs one of the rows which this job needs waits as well: so nothing is overtaken. The lane
// tries again at once, then after longer and longer pauses of up to 80 ms.
func Waits(row Row) Result { return Result{waits: &row} }

// IsWaiting tells whether the result is a [Waits].
func (r Result) IsWaiting() bool { return r.waits != nil }

const (
	// mostClaimed is how many jobs a claim may have, those that wait included. Behind so many jobs that wait nothing is
	// settled: a claim reads all of them each time.
	mostClaimed = 20000
	// waitsSaid is when the log says for the first time that a job waits for a row, and waitsSaidAgain is when it says so
	// again.
	waitsSaid, waitsSaidAgain = time.Second, 10 * time.Second
	// mostRowsSaid is how many rows that somebody waits for the log names at a time.
	mostRowsSaid = 5
	// patience is how often the first job waits before a lane waits for another lane's row inside Postgres.
	patience = 4
)

// The pauses of a settler that has met a lock.
const (
	shortestBar = 500 * time.Millisecond
	longestBar  = 5 * time.Second
	// carefully is how long batches lock their requests before they settle them.
	carefully = 10 * time.Second
)

// waiting is what the lane remembers of jobs that wait for a row.
type waiting struct {
	jobs    []*claimed          // those that waited in the last batch, in order
	since   map[int64]time.Time // when they began to, by job
	turns   int                 // how many batches in a row had some
	said    time.Time           // when the log last said so
	bars    map[*Settler]*bar
	careful time.Time // until then a batch locks its requests first
}

// bar keeps the jobs of a settler waiting for a while: one of them has met a lock, and meeting it again would make all
// others wait.
type bar struct {
	row   Row
	pause time.Duration
	until time.Time
}

// limit is how many jobs to claim, to settle up to limit of those that do not wait.
func (w *waiting) limit(limit int) int { return max(limit, min(limit+len(w.jobs), mostClaimed)) }

// of are the jobs of a settler that wait.
func (w *waiting) of(by *Settler, known *Kinds) (jobs []Waiting) {
	for _, c := range w.jobs {
		if known.byName[c.Kind].settler == by && c.fate == settle {
			jobs = append(jobs, Waiting{Job: c.Job, Row: *c.waits})
		}
	}
	return jobs
}

// ids are those of all jobs that wait.
func (w *waiting) ids() []int64 {
	ids := make([]int64, len(w.jobs))
	for i, c := range w.jobs {
		ids[i] = c.ID
	}
	return ids
}

// raise bars a settler whose job waits for a row.
func (w *waiting) raise(by *Settler, row Row) {
	if w.bars == nil {
		w.bars = make(map[*Settler]*bar)
	}
	b := w.bars[by]
	if b == nil {
		b = &bar{pause: shortestBar / 2}
		w.bars[by] = b
	}
	b.row, b.pause = row, min(2*b.pause, longestBar)
	b.until = time.Now().Add(b.pause)
}

// over: a batch got so far that it is known who waits.
func (w *waiting) over(b *batch) {
	now, before := time.Now(), w.since
	w.since = make(map[int64]time.Time, len(b.waiting))
	for _, c := range b.waiting {
		w.since[c.ID] = now
		if began, known := before[c.ID]; known {
			w.since[c.ID] = began
		}
	}
	w.jobs = b.waiting
	if w.turns++; len(w.jobs) == 0 {
		w.turns = 0
	}
	for _, c := range b.jobs {
		if by := b.kinds.byName[c.Kind].settler; by != nil && b.charged == nil {
			delete(w.bars, by)
		}
	}
	for by, row := range b.met {
		w.raise(by, row)
	}
}

// rowLockedError is the error of a settler that waited in vain for a lock.
type rowLockedError struct {
	by  *Settler
	row Row
	err error
}

func (e *rowLockedError) Error() string { return e.err.Error() }
func (e *rowLockedError) Unwrap() error { return e.err }

// blocked says of a lock that a run has waited for in vain whose it was to take. A settler that locks what it reads
// waits for no lock of that kind.
func (b *batch) blocked(run *run, err error) error {
	if retry.SQLState(err) != stateLockTimeout || run.by.kind.LocksWhatItReads {
		return err
	}
	return &rowLockedError{by: run.by.settler, row: rowOf(err, run.jobs[0].Kind), err: err}
}

// barred is the row that keeps a run waiting without its settler being asked, or nil.
func (b *batch) barred(run *run) *Row {
	if bar := b.bars[run.by.settler]; bar != nil && time.Now().Before(bar.until) {
		return &bar.row
	}
	return nil
}

// waitAll has all jobs of a run wait for a row; nil: for none.
func waitAll(run *run, row *Row) []Result {
	if row == nil {
		return nil
	}
	results := make([]Result, len(run.jobs))
	for i := range results {
		results[i] = Waits(*row)
	}
	return results
}

// remember notes which jobs of a run wait, and returns how many do not.
func (b *batch) remember(run *run, results []Result) int {
	for i, result := range results {
		if result.waits == nil {
			continue
		}
		b.jobs[run.places[i]].waits = result.waits
		switch by := run.by.settler; {
		case run.by.kind.LocksWhatItReads:
			b.hold(by, Waiting{Job: run.jobs[i], Row: *result.waits})
		case b.barred(run) == nil:
			b.meet(by, *result.waits)
		}
	}
	return countSettled(results)
}

// hold has the later jobs of a settler that need what this one needs wait behind it.
func (b *batch) hold(by *Settler, job Waiting) {
	if b.behind == nil {
		b.behind = make(map[*Settler][]Waiting)
	}
	b.behind[by] = append(b.behind[by], job)
}

func (b *batch) meet(by *Settler, row Row) {
	if b.met == nil {
		b.met = make(map[*Settler]Row)
	}
	b.met[by] = row
}

// setAside leaves the jobs that waited in the last batch waiting, while the lane looks for a job that fails: so a batch
// of one more job fails because of that one.
func (b *batch) setAside(known *waiting, limit int) {
	var rest []*claimed
	for _, c := range b.jobs {
		if _, waits := known.since[c.ID]; !waits {
			rest = append(rest, c)
		}
	}
	if len(rest) == 0 {
		return // what the lane looks for is gone, or is one of these
	}
	for _, c := range b.jobs {
		if _, waits := known.since[c.ID]; waits {
			b.putAside(c, known.rowOf(c.ID))
		}
	}
	b.aside, b.jobs = len(b.waiting), rest[:min(limit, len(rest))]
}

func (b *batch) putAside(c *claimed, row *Row) {
	c.waits = row
	b.waiting = append(b.waiting, c)
	if by := b.kinds.byName[c.Kind]; c.fate == settle && by.kind.LocksWhatItReads {
		b.hold(by.settler, Waiting{Job: c.Job, Row: *row})
	}
}

func (w *waiting) rowOf(id int64) *Row {
	for _, c := range w.jobs {
		if c.ID == id {
			return c.waits
		}
	}
	return nil
}

const lockRequestsSQL = `
	SELECT r.key FROM unnest($1::text[]) AS asked(key),
	       LATERAL (SELECT r.key FROM lastseat.requests r WHERE r.key = asked.key FOR NO KEY UPDATE SKIP LOCKED) r`

// lockRequests locks the requests of the batch. It leaves those that another session has locked waiting. Normally the
// lane does without: nothing but its own UPDATE locks a pending request, unless somebody does it by hand.
func (b *batch) lockRequests(ctx context.Context) error {
	keys := make([]string, len(b.jobs))
	for i, c := range b.jobs {
		keys[i] = c.Key
	}
	rows, err := b.tx.Query(ctx, lockRequestsSQL, keys)
	if err != nil {
		return fmt.Errorf("lock requests: %w", err)
	}
	var key string
	locked := make(map[string]bool, len(keys))
	if _, err := pgx.ForEachRow(rows, []any{&key}, func() error { locked[key] = true; return nil }); err != nil {
		return fmt.Errorf("lock requests: %w", err)
	}
	rest := b.jobs[:0:0]
	for _, c := range b.jobs {
		if locked[c.Key] || c.fate == postponed || c.fate == probe {
			rest = append(rest, c)
			continue
		}
		b.putAside(c, &Row{Table: "lastseat.requests", Columns: []string{"key"}, Values: []string{c.Key}})
	}
	b.jobs = rest
	return nil
}

// leaveWaiting takes the jobs that wait out of the batch: they stay in the queue as they are.
func (b *batch) leaveWaiting() {
	var jobs []*claimed
	var results []Result
	for i, c := range b.jobs {
		switch {
		case c.fate == postponed:
			c.waits = &Row{Table: "lastseat.requests", Columns: []string{"key"}, Values: []string{c.Key}}
			fallthrough
		case c.waits != nil:
			b.waiting = append(b.waiting, c)
		default:
			jobs, results = append(jobs, c), append(results, b.results[i])
		}
	}
	b.jobs, b.results = jobs, results
}

// breathe is a short pause of a lane that has jobs it can't settle now. If they wait for a row, a producer may wake it
// meanwhile for other jobs.
func (l *lane) breathe(ctx, stop context.Context) error {
	pause := l.pace.glance()
	switch {
	case len(l.waiting.jobs) == 0 || l.borrowed:
		_ = retry.Sleep(stop, pause)
		return nil
	case l.settings.Lanes > 1 && l.waiting.turns > patience:
		return l.awaitRow(ctx, *l.waiting.jobs[0].waits, pause)
	}
	var taken bool
	if err := l.conn.QueryRow(ctx, takeDoorbellSQL, l.settings.Queue).Scan(&taken); err != nil {
		return fmt.Errorf("take the doorbell: %w", err)
	}
	wait, cancel := context.WithTimeout(stop, pause)
	defer cancel()
	if !taken {
		<-wait.Done()
		return nil
	}
	if err := l.awaitRing(wait); err != nil && wait.Err() == nil {
		return fmt.Errorf("wait for jobs: %w", err)
	}
	if _, err := l.conn.Exec(ctx, leaveDoorbellSQL, l.settings.Queue); err != nil {
		return fmt.Errorf("leave the doorbell: %w", err)
	}
	return nil
}

// awaitRow waits until a row is free, for a short time and in a transaction of its own that does nothing else. The lane
// does it where other lanes lock the same row again and again, since a look now and then might miss each moment in
// which it is free. Nothing is locked meanwhile, so no circle can come of it.
func (l *lane) awaitRow(ctx context.Context, row Row, most time.Duration) error {
	if row.text != "" || row.place != "" {
		return retry.Sleep(ctx, most)
	}
	tx, err := l.conn.BeginTx(ctx, pgx.TxOptions{IsoLevel: pgx.ReadCommitted})
	if err != nil {
		return fmt.Errorf("begin: %w", err)
	}
	defer func() { _ = tx.Rollback(context.WithoutCancel(ctx)) }()
	if _, err := tx.Exec(ctx, fmt.Sprintf(`SET LOCAL lock_timeout = '%dms'`, max(1, most.Milliseconds()))); err != nil {
		return fmt.Errorf("wait for a row: %w", err)
	}
	sql, args := row.from()
	_, err = tx.Exec(ctx, `SELECT FROM `+sql+` FOR NO KEY UPDATE`, args...)
	if err != nil && !conflict(err) {
		return fmt.Errorf("wait for a row: %w", err)
	}
	return nil
}

// sayWho logs what waits for a row, and who has it: after a second, and every ten seconds from then on.
func (l *lane) sayWho(ctx context.Context) {
	now := time.Now()
	if now.Sub(l.waiting.said) < waitsSaidAgain {
		return
	}
	first, behind := l.waiting.byRow()
	said := 0
	for _, c := range first {
		waited := now.Sub(l.waiting.since[c.ID])
		if waited < waitsSaid || said == mostRowsSaid {
			continue
		}
		said++
		l.waiting.said = now
		l.log.LogAttrs(ctx, slog.LevelWarn, "waiting for a row that another session has locked", append([]slog.Attr{
			slog.Int64("job_id", c.ID), slog.String("kind", c.Kind), slog.String("key", c.Key),
			slog.Duration("duration", waited.Round(time.Millisecond)), slog.Int("behind", behind[c.waits.String()]),
		}, l.lockedBy(ctx, *c.waits)...)...)
	}
}

// byRow are the first job that waits for each row, and how many more wait for it or behind a job that does.
func (w *waiting) byRow() (first []*claimed, behind map[string]int) {
	behind = make(map[string]int)
	for _, c := range w.jobs {
		row := c.waits.String()
		if _, known := behind[row]; known {
			behind[row]++
			continue
		}
		behind[row] = 0
		first = append(first, c)
	}
	return first, behind
}
