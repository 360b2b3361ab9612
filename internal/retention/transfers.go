package retention

import (
	"context"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/lastseat/lastseat/internal/archive"
	"github.com/lastseat/lastseat/internal/history"
)

const (
	// Those that come next, up to where accounts are closed. A reversal is looked at together with what it reverses: both
	// go, or both stay.
	oldTransfersSQL = `
	WITH next AS MATERIALIZED (
		SELECT t.id, t.reverses_id FROM lastseat.transfers t WHERE t.id > @after AND t.id <= @end
		ORDER BY t.id LIMIT @rows),
	pairs AS (
		SELECT n.id AS first, n.id FROM next n WHERE n.reverses_id IS NULL
		UNION ALL
		SELECT n.id, r.id FROM next n
		CROSS JOIN LATERAL (SELECT q.id FROM lastseat.transfers q WHERE q.reverses_id = n.id OFFSET 0) r
		WHERE n.reverses_id IS NULL),
	looked AS MATERIALIZED (
		SELECT p.first, p.id, v.taken, v.given FROM pairs p LEFT JOIN LATERAL lastseat.removable(p.id) v ON true)
	SELECT ` + history.TransferColumns + `, now()
	FROM looked l
	CROSS JOIN LATERAL (SELECT * FROM lastseat.transfers o WHERE o.id = l.id OFFSET 0) t
	CROSS JOIN LATERAL (SELECT e.created_at FROM lastseat.entries e
	                    WHERE e.account_id = t.from_account AND e.version = l.taken OFFSET 0) taken
	CROSS JOIN LATERAL (SELECT e.created_at FROM lastseat.entries e
	                    WHERE e.account_id = t.to_account AND e.version = l.given OFFSET 0) given
	WHERE l.first NOT IN (SELECT o.first FROM looked o WHERE o.taken IS NULL)
	ORDER BY t.id`

	// None of them is removed if all are of after the last request that is gone: their own requests are still there. They
	// are in the order of their ids, so no later one is either.
	lastOfNextSQL = `
	SELECT CASE WHEN min(n.created_at) < (SELECT e.before FROM lastseat.removed e WHERE e.what = 'requests')
	            THEN max(n.id) ELSE 0 END
	FROM (
		SELECT t.id, t.created_at FROM lastseat.transfers t WHERE t.id > @after AND t.id <= @end ORDER BY t.id LIMIT @rows) n`

	removeTransfersSQL = `SELECT lastseat.remove_transfers(@keys, @digests, @number, @at, @hash, @archived)`

	transfersHereSQL = `
	SELECT count(*) = cardinality($1::text[]) FROM unnest($1::text[]) AS a(key)
	WHERE EXISTS (SELECT FROM lastseat.transfers t
	              WHERE t.id = split_part(a.key, ' ', 1)::bigint AND a.key = t.id || ' ' || t.key)`
)

// transfers go in the order of their ids, up to where accounts are closed, with their entries.
func (k *Keeper) transfers(ctx context.Context) error {
	var end *int64
	err := k.conn.QueryRow(ctx, `SELECT max(c.transfer_id) FROM lastseat.closings c
		WHERE lastseat.kept_since('transfers') IS NOT NULL`).Scan(&end)
	if err != nil || end == nil {
		return err
	}
	for after := int64(0); ; {
		var removed int
		var last int64
		err := k.step(ctx, func(tx pgx.Tx) (err error) {
			removed, last, err = k.someTransfers(ctx, tx, after, *end)
			return err
		})
		if err != nil {
			return fmt.Errorf("remove rows of transfers: %w", err)
		}
		if last == 0 {
			return nil
		}
		after = last
		if removed > 0 {
			if err := k.pause(ctx); err != nil {
				return err
			}
		}
	}
}

// someTransfers removes what may go of the next ones, and returns the last that it has looked at; 0: there is
// none, or those that follow are needed.
func (k *Keeper) someTransfers(ctx context.Context, tx pgx.Tx, after, end int64) (removed int, last int64, err error) {
	args := pgx.NamedArgs{"after": after, "end": end, "rows": k.settings.Rows}
	if err := tx.QueryRow(ctx, lastOfNextSQL, args).Scan(&last); err != nil || last == 0 {
		return 0, 0, err
	}
	args["end"] = last
	rows, err := tx.Query(ctx, oldTransfersSQL, args)
	if err != nil {
		return 0, 0, err
	}
	now := time.Time{}
	old, err := collect(rows, func() (*history.Transfer, error) { return history.ScanTransfer(rows, &now) })
	if err != nil || len(old) == 0 {
		return 0, last, err
	}
	log := &history.Log{}
	for _, t := range old {
		log.Add(k.relation(history.Transfers), t.RemovedKey(), t.Digest())
	}
	how := removing{history.Transfers, removeTransfersSQL, transfersHereSQL}
	err = k.archived(ctx, tx, how, log, now, func(link int64) error {
		return archive.WriteTransfers(k.settings.Archive, k.settings.Format, link, old)
	})
	if err != nil {
		return 0, 0, err
	}
	k.removed.Transfers += int64(len(old))
	return len(old), last, nil
}
