// Package retention removes what was settled long ago, in small transactions beside a running lane. The table
// lastseat.retention says how old that is; the role that removes can't change it. Each transaction that removes rows
// adds a link to the chain "retention" of the history, by which worker audit tells retention from tampering
// (docs/decisions/020-retention.md).
package retention

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/lastseat/lastseat/internal/archive"
	"github.com/lastseat/lastseat/internal/history"
)

// Settings are how a pass goes about it. Their zero values are the defaults.
type Settings struct {
	Rows        int           // removed in one transaction, at most: 1000
	Pause       time.Duration // after each of them: 50 ms
	LockTimeout time.Duration // how long a transaction waits for a row that somebody has locked: 1 s
	// Archive is a directory: the requests of each transaction are written to a file in it before they are removed. Empty:
	// they are not. Format is one of [archive.Formats].
	Archive, Format string
	Logger          *slog.Logger
}

// Removed is what a pass has removed.
type Removed struct {
	Outcomes int64 `json:"outcome_log"` // rows of outcome_log: batches
	Requests int64 `json:"requests"`
	Events   int64 `json:"taken_events"` // ids of webhooks
	Payments int64 `json:"payments"`
	// Reservations are counted without their items.
	Reservations int64 `json:"reservations"`
	// Closings are accounts that were closed up to some entry, from which they go on.
	Closings int64 `json:"closings"`
	// Transfers are counted without their entries.
	Transfers int64 `json:"transfers"`
	// HeldBy is a relay that has yet to deliver what is too old; empty: none.
	HeldBy string `json:"held_by,omitempty"`
}

// Keeper removes what is too old.
type Keeper struct {
	conn     *pgx.Conn
	settings Settings
	removed  Removed
}

// New makes a keeper on a connection whose role is lastseat_keeper, or a member of it.
func New(conn *pgx.Conn, settings Settings) *Keeper {
	if settings.Rows <= 0 {
		settings.Rows = 1000
	}
	if settings.Format == "" {
		settings.Format = archive.Formats[0]
	}
	if settings.Pause <= 0 {
		settings.Pause = 50 * time.Millisecond
	}
	if settings.LockTimeout <= 0 {
		settings.LockTimeout = time.Second
	}
	if settings.Logger == nil {
		settings.Logger = slog.New(slog.DiscardHandler)
	}
	return &Keeper{conn: conn, settings: settings}
}

// Pass removes all that is too old, and returns what it has removed, with an error too.
func (k *Keeper) Pass(ctx context.Context) (Removed, error) {
	k.removed = Removed{}
	err := k.outcomes(ctx)
	if err == nil {
		err = k.requests(ctx)
	}
	if err == nil {
		err = k.payments(ctx)
	}
	if err == nil {
		err = k.reservations(ctx)
	}
	if err == nil {
		err = k.closings(ctx)
	}
	if err == nil {
		err = k.transfers(ctx)
	}
	if err == nil {
		err = k.events(ctx)
	}
	return k.removed, err
}

const (
	removeOutcomesSQL = `SELECT lastseat.remove_outcomes($1)`

	// A relay that stands where the log is too old.
	heldSQL = `
	SELECT coalesce((SELECT h.relay FROM lastseat.log_held_by() h
	                 WHERE EXISTS (SELECT FROM lastseat.outcome_log l
	                               WHERE l.settled_at < now() - (SELECT make_interval(hours => 24 * min(r.days))
	                                                             FROM lastseat.retention r
	                                                             WHERE r.what = 'outcome_log'
	                                                                OR starts_with(r.what, 'requests')))), '')`

	removeEventsSQL = `SELECT lastseat.remove_events($1)`
)

// outcomes comes first: requests are removed only once the feed no longer has them.
func (k *Keeper) outcomes(ctx context.Context) error {
	if err := k.oldest(ctx, removeOutcomesSQL, &k.removed.Outcomes); err != nil {
		return fmt.Errorf("remove rows of outcome_log: %w", err)
	}
	if err := k.conn.QueryRow(ctx, heldSQL).Scan(&k.removed.HeldBy); err != nil {
		return fmt.Errorf("look where the relays stand: %w", err)
	}
	return nil
}

// events are the ids of webhooks that were taken in.
func (k *Keeper) events(ctx context.Context) error {
	if err := k.oldest(ctx, removeEventsSQL, &k.removed.Events); err != nil {
		return fmt.Errorf("remove rows of taken_events: %w", err)
	}
	return nil
}

// oldest has sql remove so many rows at a time, the oldest first, until it finds no more.
func (k *Keeper) oldest(ctx context.Context, sql string, removed *int64) error {
	for {
		var n int
		err := k.step(ctx, func(tx pgx.Tx) error { return tx.QueryRow(ctx, sql, k.settings.Rows).Scan(&n) })
		if err != nil {
			return err
		}
		*removed += int64(n)
		if n < k.settings.Rows {
			return nil
		}
		if err := k.pause(ctx); err != nil {
			return err
		}
	}
}

// pagesAtATime of a table are read by one statement: some thousand rows.
const pagesAtATime = 128

// scan goes through a table in the order of its pages, without an index: an index on the time would cost every request
// that is settled. step removes what is too old between two places, and returns where it has stopped; "" is the end of
// the range.
func (k *Keeper) scan(
	ctx context.Context, table string, step func(tx pgx.Tx, after, end string) (removed int, last string, err error),
) error {
	var pages int64
	const pagesSQL = `SELECT pg_relation_size($1::regclass) / current_setting('block_size')::bigint`
	if err := k.conn.QueryRow(ctx, pagesSQL, "lastseat."+table).Scan(&pages); err != nil {
		return err
	}
	after := "(0,0)"
	for page := int64(0); page < pages; {
		end := fmt.Sprintf("(%d,0)", page+pagesAtATime)
		var removed int
		var last string
		err := k.step(ctx, func(tx pgx.Tx) (err error) {
			removed, last, err = step(tx, after, end)
			return err
		})
		if err != nil {
			return fmt.Errorf("remove rows of %s: %w", table, err)
		}
		if after = last; last == "" {
			after, page = end, page+pagesAtATime
		}
		if removed > 0 {
			if err := k.pause(ctx); err != nil {
				return err
			}
		}
	}
	return nil
}

const (
	// One that has a kind of its own in lastseat.retention follows that, the others "requests". A job that is still there
	// could be retried, and would bring the request back. One that has called somebody outside stays: the key of the call
	// is made of its own.
	oldRequestsSQL = `
	SELECT ` + history.RequestColumns + `, r.ctid::text, now()
	FROM lastseat.requests r
	LEFT JOIN lastseat.retention own ON own.what = 'requests:' || r.kind
	LEFT JOIN lastseat.retention every ON every.what = 'requests'
	WHERE r.ctid > @after::tid AND r.ctid < @end::tid AND r.status <> 'pending'
	  AND r.settled_at < (SELECT e.before FROM lastseat.removed e WHERE e.what = 'outcome_log')
	  AND r.settled_at < now()
	      - make_interval(hours => 24 * CASE WHEN own.what IS NULL THEN every.days ELSE own.days END)
	  AND NOT EXISTS (SELECT FROM lastseat.river_job j WHERE j.id = r.job_id)
	  AND NOT EXISTS (SELECT FROM lastseat.calls c WHERE c.key = r.key)
	ORDER BY r.ctid LIMIT @rows`

	removeRequestsSQL = `SELECT lastseat.remove_requests(@keys, @digests, @number, @at, @hash, @archived)`
)

func (k *Keeper) requests(ctx context.Context) error {
	return k.scan(ctx, "requests", func(tx pgx.Tx, after, end string) (int, string, error) {
		rows, err := tx.Query(ctx, oldRequestsSQL, pgx.NamedArgs{"after": after, "end": end, "rows": k.settings.Rows})
		if err != nil {
			return 0, "", err
		}
		last, now := "", time.Time{}
		old, err := collect(rows, func() (*history.Request, error) { return history.ScanRequest(rows, &last, &now) })
		n := len(old)
		if err != nil || n == 0 {
			return 0, "", err
		}
		if err := k.remove(ctx, tx, old, now); err != nil {
			return 0, "", err
		}
		k.removed.Requests += int64(n)
		return n, k.goOn(n, last), nil
	})
}

const lastLinkSQL = `
	SELECT number, hash FROM lastseat.history WHERE chain = '` + history.Removal + `' ORDER BY number DESC LIMIT 1`

// lastLink is the end of the chain, which a removal continues.
func lastLink(ctx context.Context, tx pgx.Tx) (head history.Head, err error) {
	err = tx.QueryRow(ctx, lastLinkSQL).Scan(&head.Number, &head.Hash)
	if errors.Is(err, pgx.ErrNoRows) {
		err = nil
	}
	return head, err
}

// nextLinks are the links of the log that continue the chain, and their hashes.
func nextLinks(
	ctx context.Context, tx pgx.Tx, log *history.Log, now time.Time,
) (links []*history.Link, hashes [][]byte, err error) {
	head, err := lastLink(ctx, tx)
	if err == nil {
		links, hashes, _ = log.Take(history.Removal, now, head)
	}
	return links, hashes, err
}

// linkArgs are the arguments of a function that notes a link.
func linkArgs(link *history.Link, hash []byte) pgx.NamedArgs {
	return pgx.NamedArgs{
		"keys": link.Keys, "digests": link.Digests, "number": link.Number, "at": link.At, "hash": hash,
	}
}

// collect reads all rows.
func collect[R any](rows pgx.Rows, scan func() (*R, error)) (all []*R, err error) {
	defer rows.Close()
	for rows.Next() {
		row, err := scan()
		if err != nil {
			return nil, err
		}
		all = append(all, row)
	}
	return all, rows.Err()
}

// remove continues the chain with a link of these requests, and removes them.
func (k *Keeper) remove(ctx context.Context, tx pgx.Tx, old []*history.Request, now time.Time) error {
	log := &history.Log{}
	for _, request := range old {
		log.Add(k.relation(history.Requests), request.Key, request.Digest())
	}
	how := removing{history.Requests, removeRequestsSQL, stillHereSQL}
	return k.archived(ctx, tx, how, log, now, func(link int64) error {
		return archive.Write(k.settings.Archive, k.settings.Format, link, old)
	})
}

// relation is what the history calls the rows of a table that are removed.
func (k *Keeper) relation(table string) string {
	if k.settings.Archive != "" {
		return table + history.Archived
	}
	return table + history.Removed
}

// removing is how rows of a table are removed, and how to find out whether they are still here.
type removing struct{ table, removeSQL, stillHereSQL string }

// archived has the database remove the rows of the log's link. With an archive their file is on disk before, and was
// read again.
func (k *Keeper) archived(
	ctx context.Context, tx pgx.Tx, how removing, log *history.Log, now time.Time, write func(link int64) error,
) error {
	links, hashes, err := nextLinks(ctx, tx, log, now)
	if err != nil {
		return err
	}
	link := links[0] // one table, one link
	if k.settings.Archive != "" {
		if err := k.makeRoom(ctx, tx, how, link.Number); err != nil {
			return err
		}
		if err := write(link.Number); err != nil {
			return err
		}
		if err := archive.Prove(k.settings.Archive, link); err != nil {
			return err
		}
	}
	args := linkArgs(link, hashes[0])
	args["archived"] = k.settings.Archive != ""
	_, err = tx.Exec(ctx, how.removeSQL, args)
	return err
}

const stillHereSQL = `
	SELECT count(*) = cardinality($1::text[]) FROM unnest($1::text[]) AS a(key)
	WHERE EXISTS (SELECT FROM lastseat.requests r WHERE r.key = a.key AND r.status <> 'pending')`

// makeRoom removes a file of a transaction that was rolled back. A file whose rows are not all here stays: it may be
// the only place that has them.
func (k *Keeper) makeRoom(ctx context.Context, tx pgx.Tx, how removing, link int64) error {
	keys, paths, err := archive.Leftover(k.settings.Archive, how.table, link)
	if err != nil || len(paths) == 0 {
		return err
	}
	var here bool
	if err := tx.QueryRow(ctx, how.stillHereSQL, keys).Scan(&here); err != nil {
		return err
	}
	if !here {
		return fmt.Errorf("%s is there already, with %s that this database does not have: it is of another "+
			"one, or of before a restore. Give this database a directory of its own, or move the file away", paths[0], how.table)
	}
	for _, path := range paths {
		err = errors.Join(err, os.Remove(path))
	}
	return err
}

// tries of a step that somebody is in the way of.
const tries = 20

// stepSQL pins what a step relies on. A request may need a row that the step has locked, so a keeper that is frozen, or
// a statement that does not end, must not keep the lane from it for long.
const stepSQL = `
	SELECT set_config('lock_timeout', $1, true), set_config('timezone', 'UTC', true),
	       set_config('statement_timeout', '30s', true), set_config('idle_in_transaction_session_timeout', '30s', true),
	       set_config('enable_seqscan', 'off', true), set_config('enable_hashjoin', 'off', true),
	       set_config('enable_mergejoin', 'off', true)`

// archiveLockSQL keeps keepers from each other's files, until the transaction that a file belongs to has ended for the
// database, too: one whose keeper was killed may still commit. It comes first, so that the rows are read after it.
const archiveLockSQL = `SELECT pg_advisory_xact_lock(lastseat.archive_lock())`

// step runs one transaction, again if a row is locked or another keeper was quicker.
func (k *Keeper) step(ctx context.Context, work func(pgx.Tx) error) error {
	for try := 1; ; try++ {
		before := k.removed
		err := pgx.BeginTxFunc(ctx, k.conn, pgx.TxOptions{IsoLevel: pgx.ReadCommitted}, func(tx pgx.Tx) error {
			if _, err := tx.Exec(ctx, stepSQL, fmt.Sprintf("%dms", k.settings.LockTimeout.Milliseconds())); err != nil {
				return err
			}
			if k.settings.Archive != "" {
				if _, err := tx.Exec(ctx, archiveLockSQL); err != nil {
					return err
				}
			}
			return work(tx)
		})
		if err == nil {
			return nil
		}
		k.removed = before
		refused := (*pgconn.PgError)(nil)
		if !errors.As(err, &refused) || try == tries {
			return err
		}
		switch refused.Code {
		case "40001", "40P01", "55P03", "23505": // a conflict, a lock, or another keeper's link
		default:
			return err
		}
		k.settings.Logger.DebugContext(ctx, "retention waits", slog.String("error", err.Error()))
		if err := k.pause(ctx); err != nil {
			return err
		}
	}
}

func (k *Keeper) pause(ctx context.Context) error {
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-time.After(k.settings.Pause):
		return nil
	}
}
