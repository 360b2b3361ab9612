package main

import (
	"context"
	"fmt"
	"log/slog"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/spf13/cobra"

	"github.com/lastseat/lastseat/internal/archive"
	"github.com/lastseat/lastseat/internal/cli"
	"github.com/lastseat/lastseat/internal/config"
	"github.com/lastseat/lastseat/internal/history"
	"github.com/lastseat/lastseat/internal/retention"
	"github.com/lastseat/lastseat/schema"
)

func (p *program) retainCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "retain",
		Short: "Remove what was settled longer ago than it is kept",
		Long: `Say how long what is settled is kept, and remove what is older. "worker run" removes beside settling, if
LASTSEAT_RETAIN_URL is set; docs/operations.md has the rest.`,
		Example: "  worker retain set requests 90\n  worker retain run",
	}
	cmd.AddCommand(p.retainRunCommand(), p.retainSetCommand(), p.retainShowCommand())
	return cmd
}

func (p *program) retainRunCommand() *cobra.Command {
	var settings retention.Settings
	cmd := &cobra.Command{
		Use:   "run [--rows N] [--pause TIME] [--archive DIR] [--format csv.gz|parquet]",
		Short: "Remove what is older than it is kept, once",
		Long: `Remove what was settled longer ago than it is kept, in small transactions, while workers go on.

"worker retain set" says how long that is. Nothing is removed until then. It takes the role lastseat_keeper, which can
remove what is too old and nothing else. Each transaction notes in the history what it removes, so worker audit tells
retention from tampering.

With --archive DIR the requests or transfers of each transaction go to a file there first, CSV or Parquet. It is on
disk and was read again before anything is removed. "worker audit --archive DIR" proves the files.

A key whose request is gone is free again: asking for it is a new request. Keep requests longer than anybody repeats
them. Payments and reservations are not archived. docs/operations.md has the rest.`,
		Example: "  worker retain run\n  worker retain run --archive /srv/archive --format parquet",
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			ctx := cmd.Context()
			loaded, pool, err := p.open(ctx)
			if err != nil {
				return err
			}
			defer pool.Close()
			settings.Logger = p.logger(loaded)
			if !slices.Contains(archive.Formats, settings.Format) {
				wrong := fmt.Errorf("the format is %q: %s", settings.Format, strings.Join(archive.Formats, " or "))
				return &cli.Error{Code: cli.ExitUsage, Err: wrong}
			}
			removed, err := retain(ctx, pool, settings)
			if err != nil {
				return err
			}
			return p.output.Print(p.streams.Out, removed, describeRemoved(removed))
		},
	}
	cmd.Flags().IntVar(&settings.Rows, "rows", 1000, "how many rows a transaction removes, at most")
	cmd.Flags().DurationVar(&settings.Pause, "pause", 50*time.Millisecond, "how long to wait after each transaction")
	cmd.Flags().StringVar(&settings.Archive, "archive", "", "write requests and transfers to files there first")
	cmd.Flags().StringVar(&settings.Format, "format", archive.Formats[0], "of the files: csv.gz or parquet")
	return cmd
}

// retain makes one pass on a connection of the pool.
func retain(ctx context.Context, pool *pgxpool.Pool, settings retention.Settings) (retention.Removed, error) {
	if err := schema.Check(ctx, pool); err != nil {
		return retention.Removed{}, err
	}
	conn, err := pool.Acquire(ctx)
	if err != nil {
		return retention.Removed{}, err
	}
	defer conn.Release()
	return retention.New(conn.Conn(), settings).Pass(ctx)
}

func describeRemoved(r retention.Removed) string {
	text := fmt.Sprintf("removed %s, %s, %s, %s of the feed of outcomes, and %s of webhooks",
		counted(r.Requests, "request"), counted(r.Payments, "payment"), counted(r.Reservations, "reservation"),
		counted(r.Outcomes, "row"), counted(r.Events, "id"))
	if r.Closings+r.Transfers > 0 {
		text += fmt.Sprintf("; closed %s and removed %s", counted(r.Closings, "account"), counted(r.Transfers, "transfer"))
	}
	if r.HeldBy != "" {
		text += fmt.Sprintf("\nThe relay %s has yet to deliver what is too old: it stays until then, with its requests.",
			r.HeldBy)
	}
	return text
}

func (p *program) retainSetCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "set WHAT DAYS|forever",
		Short: "Say how long what is settled is kept",
		Long: `Say how long what is settled is kept, in days. WHAT is

  requests        all kinds, and with them their keys
  requests:KIND   one kind, instead of what requests says: requests:payment.transfer
  outcome_log     the feed of outcomes; it goes with the first requests at the latest
  taken_events    the ids of webhooks that were taken in; one whose id is gone is taken in again
  payments        those that were declined, voided, expired or captured, since they last changed
  reservations    those that were rejected, cancelled or expired, or whose time is over
  transfers       with their entries, once their requests and payments are gone. Accounts are closed before: statements
                  and the audit go on from there

It takes the rights of lastseat_owner, as worker migrate does.`,
		Example: "  worker retain set requests 90\n  worker retain set requests:payment.refund forever\n" +
			"  worker retain set outcome_log 30",
		Args: cobra.ExactArgs(2),
		RunE: func(cmd *cobra.Command, args []string) error {
			var days *int
			if args[1] != "forever" {
				n, err := strconv.Atoi(args[1])
				if err != nil || n < 0 {
					wrong := fmt.Errorf("it is to be kept for %q days: give a whole number of days, or forever", args[1])
					return &cli.Error{Code: cli.ExitUsage, Err: wrong}
				}
				days = &n
			}
			_, pool, err := p.open(cmd.Context())
			if err != nil {
				return err
			}
			defer pool.Close()
			if err := setRetention(cmd.Context(), pool, args[0], days); err != nil || days == nil {
				return err
			}
			return p.sayFollows(cmd.Context(), pool, args[0], *days)
		},
	}
}

const requestsStaySQL = `
	SELECT NOT EXISTS (SELECT FROM lastseat.retention() r WHERE starts_with(r.what, 'requests') AND r.days IS NOT NULL)`

// sayFollows says what may surprise whoever has set how long something is kept.
func (p *program) sayFollows(ctx context.Context, pool *pgxpool.Pool, what string, days int) error {
	var stay bool
	if what == history.Transfers {
		if err := pool.QueryRow(ctx, requestsStaySQL).Scan(&stay); err != nil {
			return err
		}
	}
	switch {
	case stay:
		p.sayWaiting("accounts are closed, and no transfer goes as long as its request is kept: " +
			"worker retain set requests DAYS")
	case days == 0:
		p.sayWaiting("the next pass removes all of " + what + " that may go, whatever its age")
	}
	return nil
}

func setRetention(ctx context.Context, pool *pgxpool.Pool, what string, days *int) error {
	if err := schema.Check(ctx, pool); err != nil {
		return err
	}
	return pgx.BeginFunc(ctx, pool, func(tx pgx.Tx) error {
		// As the migrations do it: a member that does not inherit the owner's rights has them so.
		if _, err := tx.Exec(ctx, `SET LOCAL ROLE lastseat_owner`); err != nil {
			return err
		}
		_, err := tx.Exec(ctx, `SELECT lastseat.keep($1, $2)`, what, days)
		return err
	})
}

// kept is a line of worker retain show.
type kept struct {
	What          string     `json:"what"`
	Days          *int       `json:"days"`
	RemovedBefore *time.Time `json:"removed_before"`
}

func (p *program) retainShowCommand() *cobra.Command {
	return &cobra.Command{
		Use:     "show",
		Short:   "Show how long what is settled is kept, and what may be gone",
		Example: "  worker retain show",
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			_, pool, err := p.openMigrated(cmd.Context())
			if err != nil {
				return err
			}
			defer pool.Close()
			rows, err := pool.Query(cmd.Context(), `SELECT what, days, removed_before FROM lastseat.retention()`)
			if err != nil {
				return err
			}
			all, err := pgx.CollectRows(rows, pgx.RowToStructByPos[kept])
			if err != nil {
				return err
			}
			if len(all) == 0 && *p.output != "json" {
				return p.output.Print(p.streams.Out, nil, "everything is kept for ever; worker retain set changes that")
			}
			for _, k := range all {
				if err := p.output.Print(p.streams.Out, k, k.String()); err != nil {
					return err
				}
			}
			return nil
		},
	}
}

func (k kept) String() string {
	text := k.What + ": for ever"
	if k.Days != nil {
		text = fmt.Sprintf("%s: days %d", k.What, *k.Days)
	}
	if k.RemovedBefore != nil && k.RemovedBefore.Year() > 0 {
		text += ", gone before " + k.RemovedBefore.UTC().Format(time.RFC3339)
	}
	return text
}

// withRetention runs work, and beside it retention, if LASTSEAT_RETAIN_URL says as whom. Retention that fails is
// logged, and tried again at its next time: no request waits for it.
func (p *program) withRetention(
	ctx context.Context, loaded config.Config, wanted bool, work func(context.Context) error,
) error {
	if !wanted || loaded.RetainURL == "" {
		return work(ctx)
	}
	pool, err := cli.Connect(ctx, loaded.RetainURL, "lastseat retention", 1)
	if err != nil {
		return fmt.Errorf("LASTSEAT_RETAIN_URL: %w", err)
	}
	defer pool.Close()
	ctx, cancel := context.WithCancel(ctx)
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		p.retainAlways(ctx, pool, loaded)
	}()
	defer func() { cancel(); <-ended }()
	return work(ctx)
}

func (p *program) retainAlways(ctx context.Context, pool *pgxpool.Pool, loaded config.Config) {
	logger := p.logger(loaded)
	for {
		began := time.Now()
		removed, err := retain(ctx, pool, retention.Settings{Logger: logger})
		switch {
		case ctx.Err() != nil:
			return
		case err != nil:
			logger.WarnContext(ctx, "retention failed", slog.String("error", err.Error()),
				slog.Int64("requests", removed.Requests))
		default:
			logger.InfoContext(ctx, "retention", slog.Int64("requests", removed.Requests),
				slog.Int64("outcome_log", removed.Outcomes), slog.Int64("taken_events", removed.Events),
				slog.Int64("payments", removed.Payments), slog.Int64("reservations", removed.Reservations),
				slog.Int64("closings", removed.Closings), slog.Int64("transfers", removed.Transfers),
				slog.String("held_by", removed.HeldBy),
				slog.Duration("duration", time.Since(began)))
		}
		select {
		case <-ctx.Done():
			return
		case <-time.After(loaded.RetainEvery):
		}
	}
}
