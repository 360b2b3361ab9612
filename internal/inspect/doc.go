// Package inspect reads what became of requests and why one waits, for the command line. It reads the tables, so the
// role has to be a member of lastseat_viewer or lastseat_worker.
package inspect

import (
	"context"

	"github.com/jackc/pgx/v5"
)

// plannerSQL keeps every access by key or along one index, as in the lane's session: where statistics say that a table
// is empty, Postgres would read all of it otherwise, or sort all of it for the newest rows.
const plannerSQL = `SET LOCAL enable_seqscan = off; SET LOCAL enable_hashjoin = off; SET LOCAL enable_mergejoin = off;
	SET LOCAL enable_bitmapscan = off; SET LOCAL enable_sort = off; SET LOCAL jit = off`

// db can begin a transaction.
type db interface {
	BeginTx(ctx context.Context, options pgx.TxOptions) (pgx.Tx, error)
}

// read runs do on one snapshot, in a transaction that can't write.
func read(ctx context.Context, db db, do func(tx pgx.Tx) error) error {
	snapshot := pgx.TxOptions{IsoLevel: pgx.RepeatableRead, AccessMode: pgx.ReadOnly}
	return pgx.BeginTxFunc(ctx, db, snapshot, func(tx pgx.Tx) error {
		if _, err := tx.Exec(ctx, plannerSQL, pgx.QueryExecModeSimpleProtocol); err != nil {
			return err
		}
		return do(tx)
	})
}
