package jobs

import (
	"context"
	"slices"

	"github.com/jackc/pgx/v5"

	"github.com/lastseat/lastseat/outbox"
)

// resource is a row of resources.
type resource struct {
	id                       string
	capacity                 int64 // with what may be overbooked
	held, confirmed, waiting int64
	group                    string // whose limit it counts for; empty: none
	perCustomer              *int64 // the group's limit; nil: without bound
	// marked: the line for it has to be looked at, by this batch or the next sweep. The column is called grown, but more
	// capacity is only one of the reasons.
	marked  bool
	version int64
	changed bool
}

func (r *resource) room() int64 { return r.capacity - r.held - r.confirmed }

func (r *resource) touch() {
	r.version++
	r.changed = true
}

const (
	lockedResourcesSQL = `
	SELECT r.id, r.capacity + r.overbook, r.held, r.confirmed, r.waiting, coalesce(r.limit_group, ''), g.per_customer,
	       r.grown, r.version
	FROM lastseat.resources r
	LEFT JOIN LATERAL (SELECT q.per_customer FROM lastseat.limit_groups q WHERE q.id = r.limit_group OFFSET 0) g ON true
	WHERE r.id = ANY ($1::text[]) ORDER BY r.id`

	loadResourcesSQL = lockedResourcesSQL + ` FOR NO KEY UPDATE OF r SKIP LOCKED`
)

// loadResources locks and reads the resources that are asked for and not read yet. Those that another session has
// locked are read, too: they say which customers' counts are blocked.
func (p *places) loadResources(ctx context.Context, tx pgx.Tx) error {
	ids := unread(p.resources)
	if len(ids) == 0 {
		return nil
	}
	var r resource
	columns := []any{
		&r.id, &r.capacity, &r.held, &r.confirmed, &r.waiting, &r.group, &r.perCustomer, &r.marked, &r.version,
	}
	loaded := func() {
		loaded := r
		p.resources[r.id] = &loaded
	}
	err := read(ctx, tx, "lock resources", loadResourcesSQL, []any{ids}, columns, loaded)
	missing := slices.DeleteFunc(ids, func(id string) bool { return p.resources[id] != nil })
	if err != nil || len(missing) == 0 {
		return err
	}
	return read(ctx, tx, "look for locked resources", lockedResourcesSQL, []any{missing}, columns, func() {
		p.blocked.lock(rowID{table: resourcesTable, id: r.id})
		loaded()
	})
}

const updateResourcesSQL = `
	WITH n AS MATERIALIZED (
		SELECT n.*, (SELECT q.ctid FROM lastseat.resources q WHERE q.id = n.id) AS row
		FROM unnest(@ids::text[], @held::bigint[], @confirmed::bigint[], @waiting::bigint[], @grown::boolean[],
		            @versions::bigint[])
		     AS n(id, held, confirmed, waiting, grown, version))
	UPDATE lastseat.resources r
	SET held = n.held, confirmed = n.confirmed, waiting = n.waiting, grown = n.grown, version = n.version,
	    updated_at = now()
	FROM n
	WHERE r.ctid = n.row`

func (p *places) writeResources(write *pgx.Batch) {
	changed := changedRows(p.resources, func(r *resource) bool { return r.changed })
	if len(changed) == 0 {
		return
	}
	write.Queue(updateResourcesSQL, pgx.NamedArgs{
		"ids":       column(changed, func(r *resource) string { return r.id }),
		"held":      column(changed, func(r *resource) int64 { return r.held }),
		"confirmed": column(changed, func(r *resource) int64 { return r.confirmed }),
		"waiting":   column(changed, func(r *resource) int64 { return r.waiting }),
		"grown":     column(changed, func(r *resource) bool { return r.marked }),
		"versions":  column(changed, func(r *resource) int64 { return r.version }),
	}).Exec(outbox.ExpectRows(len(changed)))
}
