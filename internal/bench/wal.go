package main

import (
	"context"
	"fmt"
	"io"
	"strings"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
)

// The table about the write-ahead log: what a transfer writes into it, by kind of record, while it is asked for and
// while it is settled. Each is measured twice in one database: the first time after a checkpoint, when the first change
// of each page logs the page in full, and then without one.

// record is a kind of record of the log.
type record struct {
	kind         string
	count, bytes int64
	images       int64 // bytes of full pages
}

// logged is what a phase wrote.
type logged struct {
	phase   string
	jobs    int
	bytes   int64 // by the difference of the log's positions
	records []record
}

// An extension that comes with Postgres 15 and later.
const (
	inspectSQL = `CREATE EXTENSION IF NOT EXISTS pg_walinspect`
	recordsSQL = `
	SELECT "resource_manager/record_type", count, combined_size, fpi_size
	FROM pg_get_wal_stats($1::text::pg_lsn, $2::text::pg_lsn, true)
	WHERE count > 0 ORDER BY combined_size DESC`
)

func accountOfLog(ctx context.Context, server *server, o options, progress io.Writer) (all []*logged, err error) {
	const name = "WAL of a transfer"
	if !o.only.MatchString(name) {
		return nil, nil
	}
	databaseURL, drop, err := server.copied(ctx, filling{workload: spread, accounts: o.accounts})
	if err != nil {
		return nil, err
	}
	defer drop()
	pool, err := openPool(ctx, databaseURL)
	if err != nil {
		return nil, err
	}
	defer pool.Close()
	if _, err := pool.Exec(ctx, inspectSQL); err != nil {
		fmt.Fprintf(progress, "%s: no records, because there is no pg_walinspect: %v\n", name, err)
		return nil, nil
	}
	f := filling{workload: spread, accounts: o.accounts}
	for _, state := range []string{"after a checkpoint", "without one"} {
		asked := f.jobs
		n := 2 * o.asks
		f.jobs += n
		if state == "after a checkpoint" {
			if _, err := pool.Exec(ctx, "CHECKPOINT"); err != nil {
				return nil, err
			}
		}
		asking, err := logOf(ctx, pool, "asked for, "+state, n, func() error {
			a := &answer{asking: asking{connections: 16, batch: 1, ask: askByTransfer}}
			_, err := produce(ctx, pool, a, f.transfers(asked, n), nil)
			return err
		})
		if err != nil {
			return nil, err
		}
		settling, err := logOf(ctx, pool, "settled, "+state, n, func() error {
			_, err := laneWorker(pgx.Serializable, o.batch)(ctx, pool, n)
			return err
		})
		if err != nil {
			return nil, err
		}
		all = append(all, asking, settling)
		fmt.Fprintf(progress, "%s, %s: asked for %.0f bytes, settled %.0f\n", name, state,
			float64(asking.bytes)/float64(n), float64(settling.bytes)/float64(n))
	}
	return all, verify(ctx, pool, verifySettled(f))
}

func logOf(ctx context.Context, pool *pgxpool.Pool, phase string, n int, do func() error) (*logged, error) {
	l := &logged{phase: phase, jobs: n}
	var from, to string
	if err := pool.QueryRow(ctx, `SELECT pg_current_wal_flush_lsn()::text`).Scan(&from); err != nil {
		return nil, err
	}
	if err := do(); err != nil {
		return nil, err
	}
	err := pool.QueryRow(ctx, `SELECT lsn::text, (lsn - $1::text::pg_lsn)::bigint
		FROM pg_current_wal_flush_lsn() lsn`, from).Scan(&to, &l.bytes)
	if err != nil {
		return nil, err
	}
	rows, err := pool.Query(ctx, recordsSQL, from, to)
	if err != nil {
		return nil, err
	}
	l.records, err = pgx.CollectRows(rows, func(row pgx.CollectableRow) (r record, err error) {
		return r, row.Scan(&r.kind, &r.count, &r.bytes, &r.images)
	})
	return l, err
}

// logTable has the kinds that make up most of a phase.
func logTable(all []*logged) string {
	var text strings.Builder
	text.WriteString("| WAL | kind of record | records a transfer | bytes a transfer | of which full pages |\n" +
		"| --- | --- | --: | --: | --: |\n")
	for _, l := range all {
		each := func(n int64) float64 { return float64(n) / float64(l.jobs) }
		fmt.Fprintf(&text, "| **%s** | all | | **%.0f** | |\n", l.phase, each(l.bytes))
		for _, r := range l.records {
			if each(r.bytes) >= 10 {
				fmt.Fprintf(&text, "| | %s | %.2f | %.0f | %.0f |\n", r.kind, each(r.count), each(r.bytes), each(r.images))
			}
		}
	}
	return text.String()
}
