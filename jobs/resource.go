package jobs

import (
	"context"

	"github.com/jackc/pgx/v5"

	"github.com/lastseat/lastseat/outbox"
)

// Resource is something to be reserved: a seat (capacity 1), the rooms of a type on a night, a room by the hour.
type Resource struct {
	ID       string
	Capacity int64 // how many there are, 0 or more
	Overbook int64 // how many more than that may be taken
	// LimitGroup is the group whose limit for each customer it counts for, defined before; empty: none, or the one that it has.
	LimitGroup string
}

const defineResourceSQL = `SELECT r.key, r.kind, r.status, r.duplicate FROM lastseat.define_resource($1, $2, $3, nullif($4, '')) r`

// DefineResource defines a resource, or changes its capacity, in the caller's transaction, at once. One that is there with
// the same capacity is a duplicate. Whoever waits for it is granted what has been added, within two seconds.
//
// A capacity below what is held and confirmed is an [outbox.ErrInvalid], a group that is not defined an
// [outbox.ErrUnknown], and another group than it has an [outbox.ErrKeyReused]: customers are counted by it.
func DefineResource(ctx context.Context, tx pgx.Tx, resource Resource) (outbox.Receipt, error) {
	return define(ctx, tx, defineResourceSQL, resource.ID, resource.Capacity, resource.Overbook, resource.LimitGroup)
}

const defineLimitSQL = `SELECT r.key, r.kind, r.status, r.duplicate FROM lastseat.define_limit($1, $2) r`

// DefineLimit sets how much of a group's resources one customer may hold and have confirmed at a time, as the sum of the
// quantities; nil: without bound. It does so in the caller's transaction, at once. The limit that the group has already is
// a duplicate; a lower one takes nothing away from anybody. A negative one is an [outbox.ErrInvalid].
func DefineLimit(ctx context.Context, tx pgx.Tx, group string, perCustomer *int64) (outbox.Receipt, error) {
	return define(ctx, tx, defineLimitSQL, group, perCustomer)
}

// define calls a function that takes effect at once, and returns its receipt.
func define(ctx context.Context, tx pgx.Tx, sql string, args ...any) (r outbox.Receipt, err error) {
	err = tx.QueryRow(ctx, sql, args...).Scan(&r.Key, &r.Kind, &r.Status, &r.Duplicate)
	return r, outbox.ContractError(err)
}
