package audit

import (
	"context"

	"github.com/jackc/pgx/v5"
)

// Counts are the rows that an audit has read, table by table.
type Counts struct {
	Accounts, Transfers, Entries, Payments, Resources, Reservations, Requests int64
}

const countSQL = `
	SELECT (SELECT count(*) FROM lastseat.accounts), (SELECT count(*) FROM lastseat.transfers),
	       (SELECT count(*) FROM lastseat.entries), (SELECT count(*) FROM lastseat.payments),
	       (SELECT count(*) FROM lastseat.resources), (SELECT count(*) FROM lastseat.reservations),
	       (SELECT count(*) FROM lastseat.requests)`

func count(ctx context.Context, tx pgx.Tx) (c Counts, err error) {
	err = tx.QueryRow(ctx, countSQL).Scan(
		&c.Accounts, &c.Transfers, &c.Entries, &c.Payments, &c.Resources, &c.Reservations, &c.Requests)
	return c, err
}
