package main

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/spf13/cobra"

	"github.com/lastseat/lastseat/internal/cli"
	"github.com/lastseat/lastseat/outbox"
	"github.com/lastseat/lastseat/schema"
)

func (p *program) doctorCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "doctor",
		Short: "Check the setup, and that a worker is at work",
		Long: `Check the configuration, the database, its schema, the rights of the role, and that a worker holds the lane.

Use it as a health check: the exit code is 0 only while requests are being settled.`,
		Example: "  worker doctor",
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			ctx := cmd.Context()
			loaded, pool, err := p.open(ctx)
			if err != nil {
				return err
			}
			defer pool.Close()
			var failed []string
			code := cli.ExitOK
			for _, check := range []struct {
				name string
				run  func(context.Context, *pgxpool.Pool) (string, error)
			}{
				{"schema", checkSchema}, {"rights", checkRights}, {"session", checkSession}, {"lane", checkLane(loaded.Lanes)},
				{"queue", checkQueue},
			} {
				told, err := check.run(ctx, pool)
				verdict := "ok    "
				if err != nil {
					verdict, told = "WRONG ", cli.Line(err)
					failed = append(failed, check.name+": "+told)
					if code == cli.ExitOK {
						code = cli.ExitCode(err)
					}
				}
				value := map[string]any{"check": check.name, "ok": err == nil, "told": told}
				if err := p.output.Print(p.streams.Out, value, fmt.Sprintf("%s %-8s %s", verdict, check.name, told)); err != nil {
					return err
				}
				if err != nil && check.name == "schema" {
					break // the other checks would fail for the same reason
				}
			}
			if len(failed) > 0 {
				return &cli.Error{Code: code, Err: fmt.Errorf("not set up right: %s", strings.Join(failed, "; "))}
			}
			return nil
		},
	}
}

func checkSchema(ctx context.Context, pool *pgxpool.Pool) (string, error) {
	var version string
	err := pool.QueryRow(ctx, `SELECT current_setting('server_version')`).Scan(&version)
	return "Postgres " + version + ", schema up to date", errors.Join(err, schema.Check(ctx, pool))
}

// checkRights looks for one right of each kind that a worker needs.
func checkRights(ctx context.Context, pool *pgxpool.Pool) (string, error) {
	var role string
	var enough bool
	err := pool.QueryRow(ctx, `
		SELECT current_user, has_table_privilege('lastseat.river_job', 'DELETE')
		  AND has_table_privilege('lastseat.transfers', 'INSERT')
		   AND has_column_privilege('lastseat.requests', 'status', 'UPDATE')
		     AND has_sequence_privilege('lastseat.transfers_id_seq',
		     'USAGE')`).Scan(&role, &enough)
	if err == nil && !enough {
		err = &cli.Error{Code: cli.ExitNoRight, Err: fmt.Errorf("%s may not work: connect as lastseat_worker, or as a "+
			"member of it", role)}
	}
	return "role " + role, err
}

// checkSession looks for a connection pooler in transaction mode. Under one, the lane would lose its lock, because the
// next transaction may run in another session.
func checkSession(ctx context.Context, pool *pgxpool.Pool) (string, error) {
	conn, err := pool.Acquire(ctx)
	if err != nil {
		return "", err
	}
	defer conn.Release()
	var before, after int
	for _, pid := range []*int{&before, &after} {
		if err := conn.QueryRow(ctx, `SELECT pg_backend_pid()`).Scan(pid); err != nil {
			return "", err
		}
	}
	if before != after || uint32(before) != conn.Conn().PgConn().PID() {
		return "", &cli.Error{Code: cli.ExitConfig, Err: errors.New("a connection pooler changes the session between " +
			"statements: connect the worker to Postgres directly, or use session pooling")}
	}
	return "connections are sessions", nil
}

func checkLane(lanes int) func(context.Context, *pgxpool.Pool) (string, error) {
	return func(ctx context.Context, pool *pgxpool.Pool) (string, error) {
		for lane := range lanes {
			var pid *int
			// An advisory lock by bigint stands in pg_locks as its two halves.
			err := pool.QueryRow(ctx, `
				SELECT (SELECT pid FROM pg_locks WHERE locktype = 'advisory' AND granted AND objsubid = 1
				          AND database = (SELECT oid FROM pg_database WHERE datname = current_database())
				          AND (classid::bigint << 32 | objid::bigint) = lastseat.lane_lock($1, $2, $3) LIMIT 1)`,
				outbox.Queue, lane, lanes).Scan(&pid)
			if err != nil {
				return "", err
			}
			if pid == nil {
				return "", fmt.Errorf("no worker holds lane %d of %d: start one with worker run", lane, lanes)
			}
		}
		return fmt.Sprintf("%d of %d held by a worker", lanes, lanes), nil
	}
}

func checkQueue(ctx context.Context, pool *pgxpool.Pool) (string, error) {
	var due int
	var oldest float64
	var paused bool
	err := pool.QueryRow(ctx, `
		SELECT count(*), coalesce(extract(epoch FROM now() - min(scheduled_at)), 0)::float8,
		       EXISTS (SELECT FROM lastseat.river_queue WHERE name = $1 AND paused_at IS NOT NULL)
		FROM lastseat.river_job WHERE state = 'available' AND queue = $1
		  AND scheduled_at <= now()`, outbox.Queue).Scan(&due, &oldest, &paused)
	if err != nil {
		return "", err
	}
	if paused {
		return "", errors.New("the queue is paused: resume it in River UI")
	}
	told := fmt.Sprintf("%d due, the oldest for %.1f s", due, oldest)
	var troubled int
	var last string
	err = pool.QueryRow(ctx, `
		SELECT count(*), coalesce((array_agg(kind || ': ' || (errors[cardinality(errors)] ->> 'error')
		  ORDER BY attempted_at DESC))[1], '')
		FROM lastseat.river_job WHERE state IN ('available', 'retryable') AND queue = $1
		  AND cardinality(errors) > 0`, outbox.Queue).Scan(&troubled, &last)
	if troubled > 0 {
		told += fmt.Sprintf("; %d wait for another attempt after an error, the last of %s", troubled, last)
	}
	return told, err
}
