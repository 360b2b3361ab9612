package main

import (
	"context"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"
)

// setBasedSQL is how fast one connection can write at all what a transfer writes: no check, nothing decided outside the
// database, no triggers, one statement and one commit for 2,000 jobs.
const setBasedSQL = `
	WITH picked AS MATERIALIZED (
		SELECT id, args FROM lastseat.river_job WHERE state = 'available' AND queue = 'lastseat' AND scheduled_at <= now()
		ORDER BY priority, scheduled_at, id LIMIT 2000 FOR UPDATE SKIP LOCKED
	), asked AS MATERIALIZED (
		SELECT id, nextval('lastseat.transfers_id_seq') AS n, args ->> 'key' AS key, args ->> 'from' AS giver,
		       args ->> 'to' AS taker, (args ->> 'amount')::bigint AS amount, args ->> 'currency' AS currency
		FROM picked
	), sides AS MATERIALIZED (
		SELECT s.*, a.entry_count + row_number() OVER w AS entry, a.balance + sum(s.amount) OVER w AS after
		FROM (SELECT n, giver AS account, -amount AS amount FROM asked
		      UNION ALL SELECT n, taker, amount FROM asked) s
		JOIN lastseat.accounts a ON a.id = s.account
		WINDOW w AS (PARTITION BY s.account ORDER BY s.n)
	), transferred AS (
		INSERT INTO lastseat.transfers (id, key, from_account, to_account, amount, currency)
		SELECT n, key, giver, taker, amount, currency FROM asked
	), entered AS (
		INSERT INTO lastseat.entries (account_id, version, transfer_id, amount, balance_after)
		SELECT account, entry, n, amount, after FROM sides ORDER BY account, entry
	), changed AS (
		UPDATE lastseat.accounts a SET balance = a.balance + s.amount, entry_count = a.entry_count + s.entries,
		       version = a.version + s.entries, updated_at = now()
		FROM (SELECT account, sum(amount) AS amount, count(*) AS entries FROM sides GROUP BY account) s
		WHERE a.id = s.account
	), settled AS (
		UPDATE lastseat.requests r SET status = 'applied', code = 'transferred', attempts = 1, settled_at = now()
		FROM asked WHERE r.key = asked.key AND r.status = 'pending'
	), done AS (
		DELETE FROM lastseat.river_job j USING asked WHERE j.id = asked.id
	)
	SELECT count(*) FROM asked`

func setBased(ctx context.Context, pool *pgxpool.Pool, _ int) (tally, error) {
	conn, err := pool.Acquire(ctx)
	if err != nil {
		return tally{}, err
	}
	defer conn.Release()
	began := time.Now()
	for n := 1; n > 0; {
		if err := conn.QueryRow(ctx, setBasedSQL).Scan(&n); err != nil {
			return tally{}, err
		}
	}
	return tally{elapsed: time.Since(began)}, nil
}
