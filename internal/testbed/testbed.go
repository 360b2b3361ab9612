// Package testbed says what the numbers of a benchmark depend on.
package testbed

import (
	"context"
	"fmt"
	"os"
	"runtime"
	"slices"
	"strings"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"
)

const settingsSQL = `
	SELECT current_setting('server_version'),
	       (SELECT string_agg(name || ' ' || current_setting(name), ', ' ORDER BY n)
	        FROM unnest('{fsync,synchronous_commit,full_page_writes,wal_level,shared_buffers,max_wal_size}'::text[])
	             WITH ORDINALITY AS s(name, n))`

// Describe returns a paragraph about the machine and its Postgres. private: the benchmark itself has started the
// server.
func Describe(ctx context.Context, server *pgxpool.Pool, private bool) (string, error) {
	var version, settings string
	if err := server.QueryRow(ctx, settingsSQL).Scan(&version, &settings); err != nil {
		return "", fmt.Errorf("read the server's settings: %w", err)
	}
	where := "private, on this machine"
	if !private {
		where = "of DATABASE_URL"
	}
	durable, fleeting, err := commits(ctx, server)
	if err != nil {
		return "", fmt.Errorf("measure a commit: %w", err)
	}
	return fmt.Sprintf("%s, %d cores (%s/%s)%s, %s. Postgres %s (%s): %s. A commit takes %.2f ms, %.2f without waiting "+
		"for the disk: where the two are the same, it costs nothing here to be durable.",
		time.Now().UTC().Format(time.DateOnly), runtime.NumCPU(), runtime.GOOS, runtime.GOARCH, load(), runtime.Version(),
		version, where, settings, durable.Seconds()*1000, fleeting.Seconds()*1000), nil
}

// load says how busy the machine is without us, where that is to be had: rates of a busy one are not worth comparing.
func load() string {
	text, err := os.ReadFile("/proc/loadavg")
	if err != nil {
		return ""
	}
	lastMinute, _, _ := strings.Cut(string(text), " ")
	return ", load " + lastMinute + " at the start"
}

// commits measures the smallest transaction that writes to the log: as the server is set, and without the disk.
func commits(ctx context.Context, server *pgxpool.Pool) (durable, fleeting time.Duration, err error) {
	conn, err := server.Acquire(ctx)
	if err != nil {
		return 0, 0, err
	}
	defer conn.Release()
	if durable, err = commit(ctx, conn); err != nil {
		return 0, 0, err
	}
	if _, err := conn.Exec(ctx, `SET synchronous_commit = off`); err != nil {
		return 0, 0, err
	}
	if fleeting, err = commit(ctx, conn); err != nil {
		return 0, 0, err
	}
	_, err = conn.Exec(ctx, `RESET synchronous_commit`)
	return durable, fleeting, err
}

// commit is the median of 200.
func commit(ctx context.Context, conn *pgxpool.Conn) (time.Duration, error) {
	all := make([]time.Duration, 200)
	for i := range all {
		began := time.Now()
		if _, err := conn.Exec(ctx, `SELECT pg_logical_emit_message(true, 'lastseat', '')`); err != nil {
			return 0, err
		}
		all[i] = time.Since(began)
	}
	slices.Sort(all)
	return all[len(all)/2], nil
}
