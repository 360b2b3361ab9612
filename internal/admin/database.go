package admin

import (
	"context"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/lastseat/lastseat/internal/pgsession"
)

// mostSessions is how many sessions the server has in the database, beside the worker's.
const mostSessions = 3

// riverSessions is how many River UI has beside them, once somebody uses it.
const riverSessions = 2

// NewPool makes the server's own pool, for the database of another one: it takes no connection from River. It connects
// when it is used.
func NewPool(ctx context.Context, like *pgxpool.Pool) (*pgxpool.Pool, error) {
	return pgsession.NewPoolBeside(ctx, like, "lastseat admin", mostSessions, time.Minute, nil)
}

// NewRiverPool makes River UI's pool, as NewPool does.
func NewRiverPool(ctx context.Context, like *pgxpool.Pool) (*pgxpool.Pool, error) {
	return pgsession.NewPoolBeside(ctx, like, "lastseat river ui", riverSessions, time.Minute, nil)
}

// The planner settings keep every access by key or along one index, as in the lane's session.
const readingSQL = `SET LOCAL statement_timeout = '5s'; SET LOCAL lock_timeout = '1s'; SET LOCAL enable_seqscan = off;
	SET LOCAL enable_hashjoin = off; SET LOCAL enable_mergejoin = off; SET LOCAL enable_bitmapscan = off;
	SET LOCAL enable_sort = off; SET LOCAL jit = off`

// read runs do on one snapshot, in a transaction that can't write.
func read(ctx context.Context, pool *pgxpool.Pool, do func(tx pgx.Tx) error) error {
	snapshot := pgx.TxOptions{IsoLevel: pgx.RepeatableRead, AccessMode: pgx.ReadOnly}
	return pgx.BeginTxFunc(ctx, pool, snapshot, func(tx pgx.Tx) error {
		if _, err := tx.Exec(ctx, readingSQL, pgx.QueryExecModeSimpleProtocol); err != nil {
			return err
		}
		return do(tx)
	})
}
