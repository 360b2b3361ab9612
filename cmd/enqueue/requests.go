package main

import (
	"bufio"
	"fmt"
	"math"
	"slices"
	"strconv"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/spf13/cobra"

	"github.com/lastseat/lastseat/internal/cli"
	"github.com/lastseat/lastseat/internal/inspect"
	"github.com/lastseat/lastseat/outbox"
)

// listed is how many requests enqueue list shows unless --limit says otherwise.
const listed = 100

func (p *program) listCommand() *cobra.Command {
	var choice choice
	var since sinceFlag
	var limit int
	var format listFormat
	cmd := &cobra.Command{
		Use:   "list [--status STATUS] [--code CODE] [--kind KIND] [--since 1h]",
		Short: "List requests and what became of them, the newest first",
		Long: `List requests and what became of them: first those that are pending, then those that are settled, each
with the newest first.

--status, --code and --kind may be given several times, or with commas: --status rejected,failed.

Without --since it reads back until it has found --limit requests. It looks at every outcome down to there, so give
--since if you look for something rare. It needs the role lastseat_viewer or lastseat_worker.`,
		Example: "  enqueue list --status rejected --code insufficient_funds --since 1h\n" +
			"  enqueue list --status pending --output json",
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := choice.check(); err != nil {
				return err
			}
			if limit < 0 {
				return cli.Usage("--limit is %d: 1 or more, or 0 for all", limit)
			}
			filter := choice.filter()
			filter.Since, filter.From, filter.Limit = since.ago, since.at, limit
			if limit == 0 {
				filter.Limit = math.MaxInt32
			}
			return p.look(cmd, func(pool *pgxpool.Pool) error { return p.list(cmd, pool, filter, choice, format) })
		},
	}
	choice.flags(cmd)
	cmd.Flags().Var(&since, "since", "how far back to look: a duration such as 1h or 7d, a time or a date")
	cmd.Flags().IntVar(&limit, "limit", listed, "show at most this many; 0: all")
	format.flag(cmd)
	return cmd
}

// list writes requests as they are found. On standard error it says what a reader could take for an answer, but isn't:
// a list that is cut, or one that is empty because of a slip in a name.
func (p *program) list(cmd *cobra.Command, pool *pgxpool.Pool, filter inspect.Filter, choice choice,
	format listFormat) error {
	out := bufio.NewWriter(p.streams.Out)
	w, err := p.newList(format, out, make([]bool, 7), "settled_at", "requested_at", "key", "kind", "status", "code",
		"detail")
	if err != nil {
		return err
	}
	found := 0
	err = inspect.List(cmd.Context(), pool, filter, func(o outbox.Outcome) error {
		found++
		return w.add(cli.OutcomeLine(o, false), settledAt(format, o.SettledAt), shownTime(format, o.RequestedAt), o.Key,
			o.Kind, string(o.Status), o.Code, string(o.Detail))
	})
	if err == nil {
		err = w.end()
	}
	if flushed := out.Flush(); err == nil {
		err = flushed
	}
	switch {
	case err != nil:
		return err
	case found == 0:
		p.note(choice.slip())
	case found == filter.Limit && !cmd.Flags().Changed("limit"):
		p.note(fmt.Sprintf("the newest %d are shown: --limit 0 shows all", found))
	}
	return nil
}

// note says something on the error stream that is no error. An empty note is none.
func (p *program) note(text string) {
	if text != "" {
		_, _ = fmt.Fprintf(p.streams.Err, "enqueue: %s\n", text)
	}
}

func shownTime(format listFormat, at time.Time) string {
	if format == "csv" {
		return at.Format(time.RFC3339Nano)
	}
	return at.Format(time.DateTime)
}

func settledAt(format listFormat, at *time.Time) string {
	if at == nil {
		return ""
	}
	return shownTime(format, *at)
}

// choice holds the flags that choose among requests.
type choice struct{ statuses, codes, kinds []string }

func (c *choice) flags(cmd *cobra.Command) {
	cmd.Flags().StringSliceVar(&c.statuses, "status", nil, "only these: pending, applied, rejected, failed")
	cmd.Flags().StringSliceVar(&c.codes, "code", nil, "only these codes, such as insufficient_funds")
	cmd.Flags().StringSliceVar(&c.kinds, "kind", nil, "only these kinds, such as payment.transfer")
	for flag, values := range map[string][]string{"status": statuses, "code": knownCodes(), "kind": knownKinds()} {
		_ = cmd.RegisterFlagCompletionFunc(flag, cobra.FixedCompletions(values, cobra.ShellCompDirectiveNoFileComp))
	}
}

var statuses = []string{string(outbox.Pending), string(outbox.Applied), string(outbox.Rejected), string(outbox.Failed)}

// check refuses a status that there is not. Kinds and codes may be somebody's own.
func (c *choice) check() error {
	for _, status := range c.statuses {
		if !slices.Contains(statuses, status) {
			return cli.Usage("--status is %q: %s", status, cli.OneOf(status, statuses))
		}
	}
	return nil
}

func (c *choice) filter() inspect.Filter {
	return inspect.Filter{Statuses: c.statuses, Codes: c.codes, Kinds: c.kinds}
}

// slip names a kind or a code that is near to one of ours, and is none. Nothing was found for it.
func (c *choice) slip() string {
	for _, kind := range c.kinds {
		if near := cli.Nearest(kind, knownKinds()); near != "" && near != kind {
			return fmt.Sprintf("nothing was found: --kind is %q, did you mean %s?", kind, near)
		}
	}
	for _, code := range c.codes {
		if near := cli.Nearest(code, knownCodes()); near != "" && near != code {
			return fmt.Sprintf("nothing was found: --code is %q, did you mean %s?", code, near)
		}
	}
	return ""
}

// sinceFlag is how far back to look: a duration, which counts from the database's clock, a time or a date.
type sinceFlag struct {
	ago time.Duration
	at  time.Time
}

// String, Set and Type make it a flag.
func (f *sinceFlag) String() string {
	switch {
	case f.ago > 0:
		return f.ago.String()
	case f.at.IsZero():
		return ""
	}
	return f.at.Format(time.RFC3339Nano)
}

// Set accepts 90s, 15m, 1h, 7d, RFC 3339 and a date.
func (f *sinceFlag) Set(value string) error {
	if n := len(value); n > 1 && value[n-1] == 'd' {
		if days, err := strconv.Atoi(value[:n-1]); err == nil && days > 0 && days <= 36_500 {
			f.ago, f.at = time.Duration(days)*24*time.Hour, time.Time{}
			return nil
		}
	}
	if ago, err := time.ParseDuration(value); err == nil && ago > 0 {
		f.ago, f.at = ago, time.Time{}
		return nil
	}
	at := timeFlag{dates: true}
	if at.Set(value) != nil {
		return errSince
	}
	f.ago, f.at = 0, at.at
	return nil
}

// Type is what the help shows.
func (f *sinceFlag) Type() string { return "duration|time" }
