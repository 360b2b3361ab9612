package main

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/spf13/cobra"

	"github.com/lastseat/lastseat/internal/cli"
	"github.com/lastseat/lastseat/outbox"
)

const (
	queuesSQL = `
	SELECT q.name FROM lastseat.river_queue q WHERE q.name <> 'lastseat_upkeep'
	UNION SELECT l.queue FROM lastseat.lanes l UNION SELECT @queue ORDER BY 1`

	// pauseSQL sets what River's own pause sets. Every claim of a lane looks at it.
	pauseSQL = `
	INSERT INTO lastseat.river_queue AS q (name, paused_at) VALUES (@queue, now())
	ON CONFLICT (name) DO UPDATE SET paused_at = coalesce(q.paused_at, now()), updated_at = now()
	RETURNING q.paused_at, q.paused_at = now()`

	resumeSQL = `
	WITH paused AS (SELECT q.name FROM lastseat.river_queue q
	                WHERE q.name = @queue AND q.paused_at IS NOT NULL FOR UPDATE),
	resumed AS (UPDATE lastseat.river_queue q SET paused_at = NULL, updated_at = now() FROM paused p WHERE q.name = p.name
	            RETURNING q.name)
	SELECT NULL::timestamptz, EXISTS (SELECT FROM resumed)`

	// wakeSQL wakes the lanes, and River's producers of a queue of its own.
	wakeSQL = `
	SELECT pg_notify('lastseat.river_insert', json_build_object('queue', @queue::text)::text),
	       pg_notify('lastseat.river_control',
	                 json_build_object('action', @action::text, 'queue', @queue::text)::text)`

	dueOfQueueSQL = `SELECT count(*) FROM lastseat.river_job j
	WHERE j.state = 'available' AND j.queue = @queue AND j.scheduled_at <= now()`
)

// paused is what worker pause and worker resume say.
type paused struct {
	Queue    string     `json:"queue"`
	Paused   bool       `json:"paused"`
	PausedAt *time.Time `json:"paused_at"`
	Changed  bool       `json:"changed"` // it was not so before
	Due      int        `json:"due"`     // requests that could be settled now
}

func (r paused) String() string {
	due := "requests that are due: " + cli.Thousands(r.Due)
	switch {
	case r.Paused && r.Changed:
		return fmt.Sprintf("%s is paused; %s; worker resume goes on", r.Queue, due)
	case r.Paused:
		return fmt.Sprintf("%s has been paused since %s; %s; worker resume goes on", r.Queue,
			r.PausedAt.UTC().Format(time.RFC3339), due)
	case r.Changed:
		return fmt.Sprintf("%s goes on; %s", r.Queue, due)
	}
	return fmt.Sprintf("%s was not paused; %s", r.Queue, due)
}

func (p *program) pauseCommand() *cobra.Command {
	return p.pausing(&cobra.Command{
		Use:   "pause [--queue QUEUE]",
		Short: "Have the workers settle nothing until worker resume",
		Long: `Have the workers settle nothing until worker resume. The batch in hand is finished. Requests may still be made;
they wait, and are settled in their order afterwards. What expires does so on time.

The workers go on running: the pause is in the database, and lasts over restarts. River UI shows it, too.`,
		Example: "  worker pause",
	}, pauseSQL, true)
}

func (p *program) resumeCommand() *cobra.Command {
	return p.pausing(&cobra.Command{
		Use: "resume [--queue QUEUE]", Short: "Have the workers go on after worker pause", Example: "  worker resume",
	}, resumeSQL, false)
}

func (p *program) pausing(cmd *cobra.Command, sql string, pause bool) *cobra.Command {
	var queue string
	cmd.Args = cobra.NoArgs
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		_, pool, err := p.open(cmd.Context())
		if err != nil {
			return err
		}
		defer pool.Close()
		told := paused{Queue: queue, Paused: pause}
		err = pgx.BeginFunc(cmd.Context(), pool, func(tx pgx.Tx) error { return told.set(cmd.Context(), tx, sql) })
		if err != nil {
			return err
		}
		return p.output.Print(p.streams.Out, told, told.String())
	}
	cmd.Flags().StringVar(&queue, "queue", outbox.Queue, "the queue; that of payments and reservations is "+outbox.Queue)
	return cmd
}

// set pauses or resumes the queue, and wakes who works on it.
func (r *paused) set(ctx context.Context, tx pgx.Tx, sql string) error {
	rows, err := tx.Query(ctx, queuesSQL, pgx.NamedArgs{"queue": outbox.Queue})
	if err != nil {
		return err
	}
	known, err := pgx.CollectRows(rows, pgx.RowTo[string])
	if err != nil {
		return err
	}
	if !slices.Contains(known, r.Queue) {
		return cli.BadData("no worker has had the queue %q: %s", r.Queue, cli.OneOf(r.Queue, known))
	}
	args, action := pgx.NamedArgs{"queue": r.Queue}, "resume"
	if r.Paused {
		action = "pause"
	}
	if err := tx.QueryRow(ctx, sql, args).Scan(&r.PausedAt, &r.Changed); err != nil {
		return err
	}
	if err := tx.QueryRow(ctx, dueOfQueueSQL, args).Scan(&r.Due); err != nil {
		return err
	}
	_, err = tx.Exec(ctx, wakeSQL, pgx.NamedArgs{"queue": r.Queue, "action": action})
	return err
}
