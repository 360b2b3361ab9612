package inspect

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"

	"github.com/jackc/pgx/v5"
)

const lanesSQL = `
	SELECT l.queue, l.lane, l.lanes, a.pid, CASE WHEN a.pid IS NOT NULL THEN l.taken_at END,
	       coalesce(a.application_name, ''), coalesce(host(a.client_addr), ''), coalesce(a.state, ''), q.paused_at
	FROM lastseat.lanes l
	LEFT JOIN pg_stat_activity a ON a.pid = l.pid AND l.holder IS NOT NULL AND a.datname = current_database()
	                             AND a.application_name = 'lastseat lane'
	LEFT JOIN lastseat.river_queue q ON q.name = l.queue
	WHERE l.lane < l.lanes AND ($1 = '' OR l.queue = $1) ORDER BY l.queue, l.lane`

// lanes are those of a queue, or of all if that is empty.
func lanes(ctx context.Context, tx pgx.Tx, queue string) ([]Lane, error) {
	rows, err := tx.Query(ctx, lanesSQL, queue)
	if err != nil {
		return nil, fmt.Errorf("read the lanes: %w", err)
	}
	return pgx.CollectRows(rows, func(row pgx.CollectableRow) (l Lane, err error) {
		return l, row.Scan(&l.Queue, &l.Lane, &l.Lanes, &l.PID, &l.Since, &l.Application, &l.Address, &l.State, &l.Paused)
	})
}

// needed are the arguments that name rows which a request needs, and the tables of these rows.
var needed = []struct{ argument, table string }{
	{"from", "accounts"}, {"to", "accounts"}, {"payment", "payments"}, {"reservation", "reservations"},
	{"resource", "resources"},
}

const (
	// paymentAccountsSQL and reservationResourcesSQL have what a request names only through its payment or reservation.
	paymentAccountsSQL      = `SELECT p.from_account, p.to_account FROM lastseat.payments p WHERE p.id = $1`
	reservationResourcesSQL = `
	SELECT DISTINCT i.resource_id FROM lastseat.reservation_items i WHERE i.reservation_id = $1 ORDER BY 1`

	// lockersSQL has the sessions whose transactions a row names as those that have locked it: one, or a list of them.
	lockersSQL = `
	SELECT a.pid, coalesce(a.usename, ''), coalesce(nullif(a.application_name, ''), 'no application name'),
	       coalesce(nullif(a.state, ''), 'state unknown'),
	       coalesce(date_trunc('second', clock_timestamp() - a.xact_start)::text, '?')
	FROM pg_locks k JOIN pg_stat_activity a ON a.pid = k.pid
	WHERE k.locktype = 'transactionid' AND k.granted AND k.mode = 'ExclusiveLock' AND k.pid <> pg_backend_pid()
	  AND k.transactionid = ANY ($1::text[]::xid[]) AND a.application_name <> 'lastseat lane' ORDER BY a.pid`
)

type rowName struct{ table, id string }

// locks looks who has rows locked that a request with these arguments needs. It locks nothing itself: a row says which
// transaction has it.
func locks(ctx context.Context, tx pgx.Tx, args []byte) (all []Locked, err error) {
	rows, err := needs(ctx, tx, args)
	if err != nil {
		return nil, fmt.Errorf("look for the rows that it needs: %w", err)
	}
	for _, row := range rows {
		var xmax string
		err := tx.QueryRow(ctx, `SELECT t.xmax::text FROM lastseat.`+row.table+` t WHERE t.id = $1`, row.id).Scan(&xmax)
		switch {
		case errors.Is(err, pgx.ErrNoRows) || err == nil && xmax == "0":
			continue
		case err != nil:
			return nil, fmt.Errorf("look who has %s %q: %w", row.table, row.id, err)
		}
		found, err := lockers(ctx, tx, xmax)
		if err != nil {
			return nil, fmt.Errorf("look who has %s %q: %w", row.table, row.id, err)
		}
		for _, locked := range found {
			locked.Row = fmt.Sprintf("%s %q", row.table, row.id)
			all = append(all, locked)
		}
	}
	return all, nil
}

func lockers(ctx context.Context, tx pgx.Tx, xmax string) ([]Locked, error) {
	found, err := sessions(ctx, tx, []string{xmax})
	if err != nil || len(found) > 0 {
		return found, err
	}
	var members []string
	err = pgx.BeginFunc(ctx, tx, func(tx pgx.Tx) error { // it fails where xmax is no list
		rows, err := tx.Query(ctx, `SELECT xid::text FROM pg_get_multixact_members($1::text::xid)`, xmax)
		if err == nil {
			members, err = pgx.CollectRows(rows, pgx.RowTo[string])
		}
		return err
	})
	if err != nil {
		return nil, nil //nolint:nilerr // the transaction has just ended
	}
	return sessions(ctx, tx, members)
}

func sessions(ctx context.Context, tx pgx.Tx, transactions []string) ([]Locked, error) {
	rows, err := tx.Query(ctx, lockersSQL, transactions)
	if err != nil {
		return nil, err
	}
	return pgx.CollectRows(rows, func(row pgx.CollectableRow) (l Locked, err error) {
		return l, row.Scan(&l.PID, &l.Role, &l.Application, &l.State, &l.Since)
	})
}

// needs are the rows that a request names, itself or through its payment or reservation.
func needs(ctx context.Context, tx pgx.Tx, args []byte) (rows []rowName, err error) {
	var named struct {
		Items []struct {
			Resource string `json:"resource"`
		} `json:"items"`
	}
	var all map[string]any
	if json.Unmarshal(args, &all) != nil || json.Unmarshal(args, &named) != nil {
		return nil, nil // arguments that are wrong need nothing
	}
	add := func(table, id string) {
		if id != "" && !slices.Contains(rows, rowName{table, id}) {
			rows = append(rows, rowName{table, id})
		}
	}
	for _, n := range needed {
		id, _ := all[n.argument].(string)
		add(n.table, id)
	}
	for _, item := range named.Items {
		add("resources", item.Resource)
	}
	for _, row := range slices.Clone(rows) {
		switch row.table {
		case "payments":
			var from, to string
			err := tx.QueryRow(ctx, paymentAccountsSQL, row.id).Scan(&from, &to)
			if err != nil && !errors.Is(err, pgx.ErrNoRows) {
				return nil, err
			}
			add("accounts", from)
			add("accounts", to)
		case "reservations":
			found, err := tx.Query(ctx, reservationResourcesSQL, row.id)
			if err != nil {
				return nil, err
			}
			resources, err := pgx.CollectRows(found, pgx.RowTo[string])
			if err != nil {
				return nil, err
			}
			for _, id := range resources {
				add("resources", id)
			}
		}
	}
	return rows, nil
}
