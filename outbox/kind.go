package outbox

import (
	"context"
	"encoding/json"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"
)

// Job is a claimed job, as a [Settler] sees it.
type Job struct {
	ID          int64
	Kind        string
	Key         string          // the request's idempotency key
	Args        json.RawMessage // a JSON object; not yet checked against the kind's rules
	Attempt     int             // which attempt this is, from 1
	MaxAttempts int
	// At is the job's place in the order of time, by the database's clock: when it was asked for, or scheduled for.
	At time.Time
}

// Batch is what a [Settler] is handed.
type Batch struct {
	Jobs []Job     // that follow one another, in order
	Now  time.Time // of the transaction, by the database's clock: what its rows get as their time
	// Lane is the number of the lane, of Lanes that the queue is split into: see [Kind].
	Lane, Lanes int
	// Write is sent after the call, before anything of a later job is read. A statement queued in it can check what it did
	// in its callback: an error returned by that is an error of the batch.
	Write *pgx.Batch
}

// Result is what a settler made of a job.
type Result struct {
	Status Status // Applied or Rejected
	Code   string // the field's word for it: transferred, insufficient_funds
	Detail any    // encodes to JSON; the figures behind the code; nil: none

	err error // instead of all of it: the job has failed, and nothing of it is left
}

// Fail is the result of a job that can't be settled now, by an error of its own: it has one attempt less, and its next one
// later. The settler vouches that nothing of the job is in what it writes; where it can't, it returns the error itself.
func Fail(err error) Result { return Result{err: err} }

// Reject is the result of a business refusal.
func Reject(code string, detail any) Result {
	return Result{Status: Rejected, Code: code, Detail: detail}
}

// A Settler applies the jobs of its kinds. It is called inside the lane's transaction and returns one result for each
// job. It reads and locks through tx, and queues what it has to write in batch.Write, or writes through tx.
//
// An error, or a panic, means that a job of the batch can't be settled: everything is rolled back, and the batch is cut
// until the job stands alone, which then has one attempt less. A serialization failure or deadlock is passed on as it
// is: the batch is tried again and no job is blamed. A settler must not end the transaction, nor do anything that a
// rollback does not undo: it may be called again with the same jobs.
type Settler interface {
	Settle(ctx context.Context, tx pgx.Tx, batch Batch) ([]Result, error)
}

// Sweep is what a [Sweeper] is handed.
type Sweep struct {
	// Until is the time to which the lane has settled what was asked of it: now, or the time of the first job that waits. So a
	// confirmation that was asked for in time is settled before what it confirms runs out, however late the worker is.
	Until       time.Time
	Now         time.Time // as in [Batch]
	Limit       int       // rows to sweep, at most
	Lane, Lanes int       // sweep the rows whose ordering key, see [Kind], belongs to this lane; of one lane all
	Write       *pgx.Batch
}

// A Sweeper is a [Settler] that has rows which run out by themselves: holds, authorizations.
type Sweeper interface {
	// Sweep takes care of the rows that have run out until sweep.Until, the oldest first, sweep.Limit of them at most, and tells how
	// many there were, and whether there is more to do: then it is called again before the next batch. Otherwise it is called by
	// the holder of a lane every second or sooner. Each time is a transaction of its own: what goes wrong there blames no job.
	Sweep(ctx context.Context, tx pgx.Tx, sweep Sweep) (swept int, more bool, err error)
}

// Kind is a kind of request, as it is registered.
type Kind struct {
	Name string
	// OrderBy names the argument by which requests are ordered where a queue is split into several lanes: requests with
	// the same value share a lane. Empty: the key, which means no order.
	OrderBy string
}

// Kinds is the register of the kinds that a worker settles.
type Kinds struct {
	byName   map[string]registration
	sweepers []Sweeper
}

// registration is a kind with the settler that it shares with others: the same pointer, the same settler.
type registration struct {
	kind       Kind
	settler    *Settler
	savepoints int // that a job takes, of a handler's kind; of others 0
}

// Register makes settler responsible for kinds. Kinds that are registered together are settled together, in order, as
// one batch. Registering a kind twice is a programming error and panics.
func (k *Kinds) Register(settler Settler, kinds ...Kind) {
	if k.byName == nil {
		k.byName = make(map[string]registration)
	}
	for _, kind := range kinds {
		if _, taken := k.byName[kind.Name]; taken {
			panic(fmt.Sprintf("outbox: kind %q is registered twice", kind.Name))
		}
		registered := registration{kind: kind, settler: &settler}
		if h, ok := settler.(*handling); ok {
			registered.savepoints = h.savepoints
		}
		k.byName[kind.Name] = registered
	}
	if sweeper, ok := settler.(Sweeper); ok {
		k.sweepers = append(k.sweepers, sweeper)
	}
}
