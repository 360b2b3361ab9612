package main

import (
	"context"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/riverqueue/river"

	"github.com/lastseat/lastseat/jobs"
)

// Holds and confirmations, one job a transaction. Both lock the reservation, then its resources in the order of their
// ids.

const (
	lockReservationSQL = `SELECT status, expires_at FROM lastseat.reservations WHERE id = $1 FOR UPDATE`

	lockResourcesSQL = `
	SELECT id, capacity + overbook - held - confirmed FROM lastseat.resources WHERE id = ANY ($1) ORDER BY id FOR UPDATE`

	lockItemsResourcesSQL = `
	SELECT FROM lastseat.resources
	WHERE id IN (SELECT resource_id FROM lastseat.reservation_items WHERE reservation_id = $1)
	ORDER BY id FOR UPDATE`

	reservationSQL = `
	UPDATE lastseat.reservations SET status = $2, version = version + 1, updated_at = now() WHERE id = $1`

	itemsSQL = `
	INSERT INTO lastseat.reservation_items (reservation_id, position, resource_id, quantity)
	SELECT $1, position, resource, quantity FROM unnest($2::text[], $3::bigint[]) WITH ORDINALITY AS item(resource,
	  quantity, position)`

	holdResourcesSQL = `
	UPDATE lastseat.resources r SET held = held + quantity, version = version + 1, updated_at = now()
	FROM unnest($1::text[], $2::bigint[]) AS item(resource, quantity) WHERE r.id = item.resource`

	confirmResourcesSQL = `
	UPDATE lastseat.resources r SET held = held - quantity, confirmed = confirmed + quantity, version = r.version + 1,
	  updated_at = now()
	FROM lastseat.reservation_items i WHERE i.reservation_id = $1 AND r.id = i.resource_id`
)

func settleHold(ctx context.Context, tx pgx.Tx, job *river.Job[holdArgs]) error {
	args := &job.Args
	resources, quantities := make([]string, len(args.Items)), make([]int64, len(args.Items))
	for i, item := range args.Items {
		resources[i], quantities[i] = item.Resource, max(1, item.Quantity)
	}
	locks := &pgx.Batch{}
	var status string
	var expiresAt time.Time
	locks.Queue(lockReservationSQL, args.Reservation).QueryRow(func(row pgx.Row) error {
		return row.Scan(&status,
			&expiresAt)
	})
	room := make(map[string]int64, len(resources))
	locks.Queue(lockResourcesSQL, resources).Query(func(rows pgx.Rows) error {
		var id string
		var left int64
		_, err := pgx.ForEachRow(rows, []any{&id, &left}, func() error { room[id] = left; return nil })
		return err
	})
	if err := tx.SendBatch(ctx, locks).Close(); err != nil {
		return fmt.Errorf("lock: %w", err)
	}

	batch := &pgx.Batch{}
	outcome := pgx.NamedArgs{"key": args.Key, "status": "rejected", "attempt": job.Attempt, "detail": nil}
	if code := refuseHold(room, resources, quantities); code != "" {
		outcome["code"] = code
		batch.Queue(reservationSQL, args.Reservation, "rejected")
		return writeWithOutcome(ctx, tx, batch, outcome)
	}
	outcome["status"], outcome["code"] = "applied", jobs.CodeHeld
	outcome["detail"] = map[string]any{"expires_at": expiresAt.UTC()}
	batch.Queue(reservationSQL, args.Reservation, "held")
	batch.Queue(itemsSQL, args.Reservation, resources, quantities)
	batch.Queue(holdResourcesSQL, resources, quantities)
	return writeWithOutcome(ctx, tx, batch, outcome)
}

// refuseHold is the code of what stands against the hold; empty: nothing. No resource comes twice in these workloads.
func refuseHold(room map[string]int64, resources []string, quantities []int64) string {
	for i, id := range resources {
		left, known := room[id]
		switch {
		case !known:
			return jobs.CodeResourceNotFound
		case left < quantities[i]:
			return jobs.CodeSoldOut
		}
	}
	return ""
}

func settleConfirm(ctx context.Context, tx pgx.Tx, job *river.Job[confirmArgs]) error {
	args := &job.Args
	locks := &pgx.Batch{}
	var status string
	var expiresAt time.Time
	locks.Queue(lockReservationSQL, args.Reservation).QueryRow(func(row pgx.Row) error {
		return row.Scan(&status,
			&expiresAt)
	})
	locks.Queue(lockItemsResourcesSQL, args.Reservation)
	if err := tx.SendBatch(ctx, locks).Close(); err != nil {
		return fmt.Errorf("lock: %w", err)
	}

	batch := &pgx.Batch{}
	outcome := pgx.NamedArgs{"key": args.Key, "status": "rejected", "attempt": job.Attempt, "detail": nil}
	switch status {
	case "pending":
		return errTooEarly
	case "held":
		outcome["status"], outcome["code"] = "applied", jobs.CodeConfirmed
		batch.Queue(reservationSQL, args.Reservation, "confirmed")
		batch.Queue(confirmResourcesSQL, args.Reservation)
	case "expired":
		outcome["code"] = jobs.CodeHoldExpired
	default:
		outcome["code"] = jobs.CodeNotHeld
	}
	return writeWithOutcome(ctx, tx, batch, outcome)
}
