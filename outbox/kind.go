package outbox

import (
	"context"
	"encoding/json"
	"fmt"

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
}

// Result is what a settler made of a job.
type Result struct {
	Status Status // Applied or Rejected
	Code   string // the field's word for it: transferred, insufficient_funds
	Detail any    // encodes to JSON; the figures behind the code; nil: none
}

// Reject is the result of a business refusal.
func Reject(code string, detail any) Result {
	return Result{Status: Rejected, Code: code, Detail: detail}
}

// A Settler applies the jobs of its kinds. It is called inside the lane's transaction with jobs that follow one another,
// in order, and returns one result for each.
//
// It reads and locks through tx, and may queue what it has to write in write, which is sent after the call, before
// anything of a later job is read. A statement queued there can check what it did in its callback: an error returned
// by it is an error of the batch.
//
// An error, or a panic, means that a job of the batch can't be settled: everything is rolled back, and the batch is cut
// until the job stands alone, which then has one attempt less. A serialization failure or deadlock is passed on as it
// is: the batch is tried again and no job is blamed. A settler must not end the transaction, nor do anything that a
// rollback does not undo: it may be called again with the same jobs.
type Settler interface {
	Settle(ctx context.Context, tx pgx.Tx, jobs []Job, write *pgx.Batch) ([]Result, error)
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
	byName map[string]registration
}

// registration is a kind with the settler that it shares with others: the same pointer, the same settler.
type registration struct {
	kind    Kind
	settler *Settler
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
		k.byName[kind.Name] = registration{kind: kind, settler: &settler}
	}
}
