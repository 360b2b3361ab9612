package outbox

import (
	"context"

	"github.com/jackc/pgx/v5"

	"github.com/lastseat/lastseat/internal/faultpoint"
)

// completeFirst is a sabotage: it commits the outcomes and the end of the jobs before what the settlers have queued. It
// is no method, so that the linker leaves it out of a release.
func completeFirst(ctx context.Context, b *batch) error {
	effects := b.write
	b.write = &pgx.Batch{}
	if err := b.finish(); err != nil {
		return err
	}
	if err := b.send(ctx); err != nil {
		return err
	}
	if err := b.tx.Commit(ctx); err != nil {
		return err
	}
	faultpoint.Reached(faultpoint.BeforeCommit)
	tx, err := b.tx.Conn().BeginTx(ctx, pgx.TxOptions{IsoLevel: pgx.ReadCommitted})
	b.tx, b.write = tx, effects
	return err
}
