package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/spf13/cobra"

	"github.com/lastseat/lastseat/internal/cli"
	"github.com/lastseat/lastseat/internal/jsonsafe"
	"github.com/lastseat/lastseat/outbox"
)

// watchPoll is how often watch looks without a notification, which may be lost in a pooler; watchPage is how many
// outcomes it reads at a time, and watchPause how long it waits before it connects again.
const (
	watchPoll  = time.Second
	watchPage  = 1000
	watchPause = time.Second
)

// watching is what enqueue watch does, and how far it is.
type watching struct {
	choice choice
	cursor string
	ever   bool // begin with the first outcome that is known
	limit  int  // 0: none

	begun bool // cursor is set
	ready bool // it has been connected
	shown int
	lost  bool // the connection is, and it was said
}

func (p *program) watchCommand() *cobra.Command {
	var w watching
	cmd := &cobra.Command{
		Use:   "watch [--status STATUS] [--code CODE] [--kind KIND]",
		Short: "Show outcomes as they come, like a log",
		Long: `Show outcomes as they come, like a log, until Ctrl-C. It misses none and repeats none: when the connection is
lost it connects again, and goes on where it was.

In JSON each line has the cursor to go on from: --after CURSOR.`,
		Example: "  enqueue watch --status rejected,failed\n  enqueue watch --from-beginning --limit 10 --output json",
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := w.choice.check(); err != nil {
				return err
			}
			if w.limit < 0 {
				return cli.Usage("--limit is %d: 1 or more, or 0 for no end", w.limit)
			}
			if slices.Contains(w.choice.statuses, string(outbox.Pending)) {
				return cli.Usage("--status is pending: enqueue list --status pending shows what is not settled yet")
			}
			w.begun = w.cursor != "" || w.ever
			return p.watch(cmd.Context(), &w)
		},
	}
	w.choice.flags(cmd)
	cmd.Flags().StringVar(&w.cursor, "after", "", "begin after this cursor")
	cmd.Flags().BoolVar(&w.ever, "from-beginning", false, "begin with the first outcome")
	cmd.MarkFlagsMutuallyExclusive("after", "from-beginning")
	cmd.Flags().IntVar(&w.limit, "limit", 0, "end after so many outcomes (default: never)")
	return cmd
}

// watch follows the outcomes, on one connection after the other.
func (p *program) watch(ctx context.Context, w *watching) error {
	for {
		err := p.follow(ctx, w)
		switch code := cli.ExitCode(err); {
		case err == nil || ctx.Err() != nil:
			return nil
		case !w.ready, code != cli.ExitUnavailable && code != cli.ExitUnknown:
			return err
		case !w.lost:
			w.lost = true
			p.note(cli.Line(err) + "; it is tried again")
		}
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(watchPause):
		}
	}
}

// follow shows outcomes until --limit are shown, or until an error.
func (p *program) follow(ctx context.Context, w *watching) error {
	pool, err := p.connect(ctx)
	if err != nil {
		return err
	}
	defer closePool(pool)
	conn, err := pool.Acquire(ctx)
	if err != nil {
		return err
	}
	defer conn.Release()
	if _, err := conn.Exec(ctx, "LISTEN lastseat_outcome"); err != nil {
		return fmt.Errorf("listen for outcomes: %w", err)
	}
	if !w.begun {
		if err := conn.QueryRow(ctx, `SELECT lastseat.outcomes_cursor()`).Scan(&w.cursor); err != nil {
			return outbox.ContractError(err)
		}
		w.begun = true
	}
	w.ready = true
	if w.lost {
		w.lost = false
		p.note("connected again")
	}
	for {
		read, err := p.showPage(ctx, conn, w)
		if err != nil || w.limit > 0 && w.shown == w.limit {
			return err
		}
		if read == watchPage {
			continue
		}
		wait, cancel := context.WithTimeout(ctx, watchPoll)
		_, err = conn.Conn().WaitForNotification(wait)
		ended := wait.Err() != nil
		cancel()
		if err != nil && (!ended || ctx.Err() != nil) {
			return err
		}
	}
}

const sinceSQL = `
	SELECT s.cursor, s.key, s.kind, s.status, coalesce(s.code, ''), s.detail, s.attempts, s.job_id, s.requested_at,
	       s.settled_at
	FROM lastseat.outcomes_since($1, $2) s`

// showPage shows what comes after the cursor, and returns how many outcomes it has read.
func (p *program) showPage(ctx context.Context, conn *pgxpool.Conn, w *watching) (read int, err error) {
	rows, err := conn.Query(ctx, sinceSQL, w.cursor, watchPage)
	if err != nil {
		return 0, outbox.ContractError(err)
	}
	out := bufio.NewWriter(p.streams.Out)
	var o outbox.Outcome
	var cursor string
	full := errors.New("enough")
	_, err = pgx.ForEachRow(rows, []any{&cursor, &o.Key, &o.Kind, &o.Status, &o.Code, &o.Detail, &o.Attempts, &o.JobID,
		&o.RequestedAt, &o.SettledAt}, func() error {
		read++
		w.cursor = cursor
		if !w.choice.wants(o) {
			return nil
		}
		if err := p.showOutcome(out, o, cursor); err != nil {
			return err
		}
		if w.shown++; w.shown == w.limit {
			return full
		}
		return nil
	})
	if flushed := out.Flush(); flushed != nil {
		return read, flushed
	}
	if errors.Is(err, full) {
		return read, nil
	}
	return read, outbox.ContractError(err)
}

func (p *program) showOutcome(out *bufio.Writer, o outbox.Outcome, cursor string) error {
	o.RequestedAt = o.RequestedAt.UTC()
	at := o.SettledAt.UTC()
	o.SettledAt = &at
	if *p.output != "json" {
		_, err := fmt.Fprint(out, at.Format(time.DateTime), "  ")
		if err != nil {
			return err
		}
		return p.output.PrintOutcome(out, o, false)
	}
	line, err := jsonsafe.Marshal(cli.OutcomeLine(o, false))
	if err != nil {
		return err
	}
	_, err = fmt.Fprintf(out, "%s,\"cursor\":%q}\n", line[:len(line)-1], cursor)
	return err
}

func (c *choice) wants(o outbox.Outcome) bool {
	among := func(list []string, value string) bool { return len(list) == 0 || slices.Contains(list, value) }
	return among(c.statuses, string(o.Status)) && among(c.codes, o.Code) && among(c.kinds, o.Kind)
}
