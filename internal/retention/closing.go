package retention

import (
	"context"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/lastseat/lastseat/internal/history"
)

// The ledger is closed before any of it is removed (docs/decisions/022-closing.md).

const (
	// The figures are those of the entry, as lastseat.close_period takes them. OFFSET keeps both look-ups by key.
	toCloseSQL = `
	SELECT e.account_id, e.version, e.balance_after, e.transfer_id, e.created_at, now(), a.ctid::text
	FROM (SELECT b.id, b.ctid, lastseat.closable(b.id) AS version FROM lastseat.accounts b
	      WHERE b.ctid > @after::tid AND b.ctid < @end::tid OFFSET 0) a
	CROSS JOIN LATERAL (SELECT n.* FROM lastseat.entries n
	                    WHERE n.account_id = a.id AND n.version = a.version OFFSET 0) e
	ORDER BY a.ctid LIMIT @rows`

	closeSQL = `SELECT lastseat.close_period(@keys, @digests, @number, @at, @hash)`
)

// closings closes the accounts whose oldest entries are too old.
func (k *Keeper) closings(ctx context.Context) error {
	return k.whatEnds(ctx, "transfers", "accounts", func(tx pgx.Tx, after, end string) (int, string, error) {
		rows, err := tx.Query(ctx, toCloseSQL, pgx.NamedArgs{"after": after, "end": end, "rows": k.settings.Rows})
		if err != nil {
			return 0, "", err
		}
		last := ""
		old, err := collect(rows, func() (*history.Closing, error) { return history.ScanClosing(rows, &last) })
		if err != nil || len(old) == 0 {
			return 0, "", err
		}
		log := &history.Log{}
		for _, c := range old {
			log.Add(history.Closings, history.ClosingKey(c.Account, c.Version), c.Digest())
		}
		if err := note(ctx, tx, closeSQL, log, old[0].ClosedAt); err != nil {
			return 0, "", err
		}
		k.removed.Closings += int64(len(old))
		return len(old), k.goOn(len(old), last), nil
	})
}

// note has sql write the one link of the log.
func note(ctx context.Context, tx pgx.Tx, sql string, log *history.Log, now time.Time) error {
	links, hashes, err := nextLinks(ctx, tx, log, now)
	if err != nil {
		return err
	}
	_, err = tx.Exec(ctx, sql, linkArgs(links[0], hashes[0]))
	return err
}
