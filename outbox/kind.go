package outbox

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/lastseat/lastseat/internal/history"
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
	// Answer is what the call of the request has brought, [Done] or [Declined]; nil: the request has not called, see
	// [Calls].
	Answer *Answer
}

// Batch is what a [Settler] is handed.
type Batch struct {
	Jobs []Job     // in order, one after the other
	Now  time.Time // of the transaction, by the database's clock: the time of the rows that it writes
	// Waiting are jobs of the same settler that are not to be settled now although they come before some of Jobs, in
	// order: see [Waits]. A job that needs a row which one of them needs has to wait, too. It is empty for a settler that
	// has never returned Waits.
	Waiting []Waiting
	// Limit is how many jobs to settle at most, those that wait not counted. A settler that returns Waits stops there,
	// with results for the first of Jobs only.
	Limit int
	// Lane is the number of this lane, from 0; Lanes is how many the queue is split into: see [Kind].
	Lane, Lanes int
	// Write is sent after the call, before anything of a later job is read. A statement in it can check in its callback
	// what it did: an error that the callback returns is an error of the batch.
	Write *pgx.Batch
	// History is told which rows are written, for worker audit. It is for the kinds of this module; nil: it is not kept.
	History *history.Log
}

// Waiting is a job that waits for a row.
type Waiting struct {
	Job
	Row Row
}

// Result is what a settler decided about a job.
type Result struct {
	Status Status // Applied or Rejected
	Code   string // the field's word for it: transferred, insufficient_funds
	Detail any    // the figures behind the code, encoded to JSON; nil: none

	err    error   // if not nil, the job has failed, and the rest is empty
	waits  *Row    // if not nil, the job waits for this row, and the rest is empty
	intent *Intent // if not nil, the request calls, and the rest is empty

	later time.Duration // if not 0, the job comes again after that, and the rest is empty
}

// unsettled tells whether the result leaves the request pending, and its job for later.
func (r Result) unsettled() bool { return r.intent != nil || r.later > 0 }

// valid tells whether a settler may return the result for a job that has not failed.
func (r Result) valid() bool { return (r.Status == Applied || r.Status == Rejected) && r.Code != "" }

// Fail is the result of a job that can't be settled now because of an error of its own: that uses up an attempt,
// and the next one comes later. The settler vouches that it writes nothing of the job; if it can't, it returns the
// error itself.
func Fail(err error) Result { return Result{err: err} }

// Reject is the result of a business refusal.
func Reject(code string, detail any) Result {
	return Result{Status: Rejected, Code: code, Detail: detail}
}

// A Settler applies the jobs of its kinds. It is called inside the lane's transaction and returns one result for each
// job. It reads and locks through tx. What it has to write it queues in batch.Write, or writes through tx.
//
// An error or a panic means that a job of the batch can't be settled: everything is rolled back, and the batch is
// cut until that job stands alone, which uses up one of its attempts. A settler passes a serialization failure or a
// deadlock on as it is: the batch is tried again and no job is blamed. A settler must not end the transaction, nor
// do anything that a rollback does not undo: it may be called again with the same jobs.
type Settler interface {
	Settle(ctx context.Context, tx pgx.Tx, batch Batch) ([]Result, error)
}

// Sweep is what a [Sweeper] is handed.
type Sweep struct {
	// Until is the time up to which the lane has settled what was asked of it: now, or the time of the first job that
	// waits. So a confirmation that was asked for in time is settled before the hold runs out, however late the worker
	// is.
	Until time.Time
	Now   time.Time // as in [Batch]
	// Waiting are the lane's jobs that wait for a row, as in [Batch]: Until passes by them. Nothing may be swept that one
	// of them needs.
	Waiting     []Waiting
	Limit       int // rows to sweep, at most
	Lane, Lanes int // as in [Batch]: sweep the rows whose ordering key belongs to this lane; with one lane all
	Write       *pgx.Batch
	History     *history.Log // as in [Batch]
}

// A Sweeper is a [Settler] that has rows which run out by themselves: holds, authorizations.
type Sweeper interface {
	// Sweep takes care of the rows that have run out by sweep.Until, the oldest first and at most sweep.Limit of them. It
	// returns how many there were, and whether there is more to do: then it is called again before the next batch.
	// Otherwise the holder of the lane calls it every second or sooner. Each call has a transaction of its own, and its
	// errors blame no job.
	Sweep(ctx context.Context, tx pgx.Tx, sweep Sweep) (swept int, more bool, err error)
}

// Kind is a kind of request, as it is registered.
type Kind struct {
	Name string
	// OrderBy names the argument by which requests are ordered where a queue is split into several lanes: requests with
	// the same value share a lane. Empty: the key, which means no order.
	OrderBy string
	// LocksWhatItReads says that the settler locks every row that its decisions rest on. Then REPEATABLE READ is as good
	// as SERIALIZABLE for it, and no other session's SERIALIZABLE transaction can make its batches conflict. Where
	// [Settings].Isolation is SERIALIZABLE, a batch is REPEATABLE READ if all of its kinds are such. See
	// docs/decisions/013-isolation.md.
	LocksWhatItReads bool
}

// Kinds is the register of the kinds that a worker settles.
type Kinds struct {
	byName   map[string]registration
	callers  map[string]Caller // by their targets
	sweepers []registeredSweeper
}

// registeredSweeper is a sweeper, and whether it needs SERIALIZABLE.
type registeredSweeper struct {
	Sweeper
	settler *Settler // that it is
	strict  bool
}

// registration is a kind with its settler, and what the lane has to know of that.
type registration struct {
	kind       Kind
	settler    *Settler // kinds with the same pointer share it
	savepoints int      // how many a job takes of those that a transaction may have; 0: it is no handler
	stopsEarly bool     // Settle may return results for the first of its jobs only
}

// Register makes settler responsible for kinds. Kinds that are registered together are settled together, in order, as
// one batch. Registering a kind twice is a programming error and panics.
func (k *Kinds) Register(settler Settler, kinds ...Kind) {
	by := &settler
	k.register(registration{settler: by}, kinds...)
	if sweeper, ok := settler.(Sweeper); ok {
		strict := slices.ContainsFunc(kinds, func(kind Kind) bool { return !kind.LocksWhatItReads })
		k.sweepers = append(k.sweepers, registeredSweeper{Sweeper: sweeper, settler: by, strict: strict})
	}
}

// names are those of all kinds that the lane claims: the worker's, and [ProbeKind].
func (k *Kinds) names() []string {
	names := append(make([]string, 0, len(k.byName)+1), ProbeKind)
	for name := range k.byName {
		names = append(names, name)
	}
	return names
}

// orders are the kinds by their names, each with the argument that its requests are ordered by.
func (k *Kinds) orders() map[string]string {
	orders := make(map[string]string, len(k.byName))
	for name, registered := range k.byName {
		orders[name] = registered.kind.OrderBy
	}
	return orders
}

// isStrict tells whether a kind needs SERIALIZABLE.
func (k *Kinds) isStrict(name string) bool {
	registered, known := k.byName[name]
	return known && !registered.kind.LocksWhatItReads
}

// allStrict tells whether all kinds need SERIALIZABLE.
func (k *Kinds) allStrict() bool {
	for name := range k.byName {
		if !k.isStrict(name) {
			return false
		}
	}
	return true
}

func (k *Kinds) register(registered registration, kinds ...Kind) {
	if k.byName == nil {
		k.byName = make(map[string]registration)
	}
	for _, kind := range kinds {
		if _, taken := k.byName[kind.Name]; taken {
			panic(fmt.Sprintf("outbox: kind %q is registered twice", kind.Name))
		}
		registered.kind = kind
		k.byName[kind.Name] = registered
	}
}
