package outbox

import (
	"time"

	"github.com/jackc/pgx/v5"
)

// LaneName is the application_name of a lane's session.
const LaneName = laneName

// ProbeKind is the kind of a job that asks whether a lane settles: the lane claims it in its turn and deletes it in the
// batch's commit, and nothing else comes of it. It has no request. worker doctor inserts one straight into river_job.
const ProbeKind = "lastseat.probe"

// admitProbe decides what is to become of a job of that kind. A request of the kind, which somebody asked for like any
// other, is refused. done: there is nothing more to decide.
func (c *claimed) admitProbe(own bool) (done bool) {
	switch {
	case c.Kind != ProbeKind:
		return false
	case !own:
		c.fate = probe
		return true
	}
	c.fate = invalid
	return c.request.status == Pending
}

// queueProbes ends probes.
func (b *batch) queueProbes(rows []string) {
	if len(rows) > 0 {
		b.write.Queue(deleteSQL, pgx.NamedArgs{"rows": rows}).Exec(ExpectRows(len(rows)))
	}
}

// progressInterval is how often the lane's row says that the lane settles.
const progressInterval = time.Second

// progress is what the lane's row has of the time at which the lane last settled something.
type progress struct {
	noted time.Time // when it was last written, and committed
	now   time.Time // when the batch in hand has written it; zero: it has not
}

// settledSQL changes no indexed column, so it leaves one dead row version a second, which the next one replaces.
const settledSQL = `UPDATE lastseat.lanes SET settled_at = clock_timestamp() WHERE queue = $1 AND lane = $2`

// noteProgress has the batch's commit say that the lane settles, once a second at most.
func (b *batch) noteProgress() {
	b.progress.now = time.Time{}
	if time.Since(b.progress.noted) < progressInterval {
		return
	}
	b.progress.now = time.Now()
	b.write.Queue(settledSQL, b.settings.Queue, b.number).Exec(ExpectRows(1))
}

// committed: the batch in hand was committed.
func (p *progress) committed() {
	if !p.now.IsZero() {
		p.noted = p.now
	}
}
