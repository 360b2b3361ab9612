package jobs

import (
	"context"
	"fmt"
	"maps"
	"slices"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
)

// What all tables have in common on their way in and out of the database: one statement for each table and batch, whose
// arguments are columns for unnest.

// column is one value of each row.
func column[R, V any](rows []R, value func(R) V) []V {
	values := make([]V, len(rows))
	for i, row := range rows {
		values[i] = value(row)
	}
	return values
}

// read runs a query and calls row for each of its rows, when the row's columns are in targets. An error begins with
// doing.
func read(ctx context.Context, tx pgx.Tx, doing, sql string, args, targets []any, row func()) error {
	batch := &pgx.Batch{}
	queueRead(batch, doing, sql, args, targets, row)
	return tx.SendBatch(ctx, batch).Close()
}

// queueRead is read as a part of a round trip.
func queueRead(batch *pgx.Batch, doing, sql string, args, targets []any, row func()) {
	batch.Queue(sql, args...).Query(func(rows pgx.Rows) error {
		_, err := pgx.ForEachRow(rows, targets, func() error {
			row()
			return nil
		})
		if err != nil {
			return fmt.Errorf("%s: %w", doing, err)
		}
		return nil
	})
}

// readColumn runs a query that has one column. An error begins with doing.
func readColumn[V any](ctx context.Context, tx pgx.Tx, doing, sql string, args ...any) (values []V, err error) {
	var value V
	err = read(ctx, tx, doing, sql, args, []any{&value}, func() { values = append(values, value) })
	return values, err
}

// need asks for a row. One that is read or asked for already stays as it is.
func need[R any](rows map[string]*R, id string) {
	if _, known := rows[id]; !known {
		rows[id] = nil
	}
}

// unread are the ids of the rows that are asked for and not there, in order.
func unread[R any](rows map[string]*R) []string {
	var ids []string
	for id, row := range rows {
		if row == nil {
			ids = append(ids, id)
		}
	}
	slices.Sort(ids)
	return ids
}

// changedRows are the rows that have to be written, in the order of their ids.
func changedRows[R any](rows map[string]*R, changed func(*R) bool) []*R {
	var all []*R
	for _, id := range slices.Sorted(maps.Keys(rows)) {
		if row := rows[id]; row != nil && changed(row) {
			all = append(all, row)
		}
	}
	return all
}

// errMade: another transaction, open when this one looked for a row, has made that row since. It is a conflict and no
// job's fault; a unique violation would cost the job an attempt. SERIALIZABLE reports it by itself, READ COMMITTED does
// not.
var errMade = &pgconn.PgError{
	Severity: "ERROR", Code: "40001", Message: "another session has made the payment or reservation",
}

// expectMade is the callback of a queued INSERT of n rows with ON CONFLICT DO NOTHING.
func expectMade(n int) func(pgconn.CommandTag) error {
	return func(tag pgconn.CommandTag) error {
		if tag.RowsAffected() != int64(n) {
			return errMade
		}
		return nil
	}
}

// only are the rows for which is holds.
func only[R any](rows []R, is func(R) bool) []R {
	var some []R
	for _, row := range rows {
		if is(row) {
			some = append(some, row)
		}
	}
	return some
}
