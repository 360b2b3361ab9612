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
	// Overbook is how many more than that may be taken; nil: as before, 0 for a new resource.
	Overbook *int64
	// LimitGroup is the group, defined before, whose limit for each customer it counts for; empty: none, or as before.
	LimitGroup string
}

const defineResourceSQL = `
	SELECT r.key, r.kind, r.status, r.duplicate FROM lastseat.define_resource($1, $2, $3, nullif($4, '')) r`

// DefineResource defines a resource, or changes its capacity, in the caller's transaction, at once. If it is there with
// the same capacity and allowance, the receipt is a duplicate. Customers who wait for it are granted what was added
// within two seconds.
//
// A capacity below what is held and confirmed is an [outbox.ErrInvalid], and a group that is not defined an
// [outbox.ErrUnknown]. A resource can't change its group, by which customers are counted: that is an
// [outbox.ErrKeyReused].
func DefineResource(ctx context.Context, tx pgx.Tx, resource Resource) (outbox.Receipt, error) {
	return define(ctx, tx, defineResourceSQL, resource.ID, resource.Capacity, resource.Overbook, resource.LimitGroup)
}

const defineLimitSQL = `SELECT r.key, r.kind, r.status, r.duplicate FROM lastseat.define_limit($1, $2) r`

// DefineLimit sets how much of a group's resources one customer may hold and have confirmed at a time, as the sum of
// the quantities; nil: without bound. It does so in the caller's transaction, at once. If the group has this limit
// already, the receipt is a duplicate. A lower limit takes nothing away from anybody; a negative one is an
// [outbox.ErrInvalid].
func DefineLimit(ctx context.Context, tx pgx.Tx, group string, perCustomer *int64) (outbox.Receipt, error) {
	return define(ctx, tx, defineLimitSQL, group, perCustomer)
}

// define calls a function that takes effect at once, and returns its receipt.
func define(ctx context.Context, tx pgx.Tx, sql string, args ...any) (r outbox.Receipt, err error) {
	err = tx.QueryRow(ctx, sql, args...).Scan(&r.Key, &r.Kind, &r.Status, &r.Duplicate)
	return r, outbox.ContractError(err)
}
