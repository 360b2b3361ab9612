package main

import (
	"context"
	"fmt"
	"io"
	"os"
	"strings"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/spf13/cobra"
	"golang.org/x/term"

	"github.com/lastseat/lastseat/internal/cli"
	"github.com/lastseat/lastseat/internal/inspect"
)

// topWindow is how far back the rate and the outcomes of worker top look.
const topWindow = 10 * time.Second

// topCountsTo is how many jobs of a state worker top counts.
const topCountsTo = 1_000_000

func (p *program) topCommand() *cobra.Command {
	var every time.Duration
	var times int
	cmd := &cobra.Command{
		Use:   "top [--every 2s] [--times N]",
		Short: "Show what the workers do: rate, backlog, lanes, outcomes",
		Long: `Show what the workers do, on one screen that changes until Ctrl-C: how many requests are settled in a second,
how many wait and for how long, who holds the lanes, and the outcomes of the last ten seconds by code.

Where the output is no terminal, or with --output json, it is written once, or --times times.
The role lastseat_viewer is enough.`,
		Example: "  worker top\n  worker top --times 1 --output json",
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if every < 100*time.Millisecond {
				return cli.Usage("--every is %v: 100ms or longer", every)
			}
			if times < 0 {
				return cli.Usage("--times is %d: 1 or more, or 0 for no end", times)
			}
			_, pool, err := p.open(cmd.Context())
			if err != nil {
				return err
			}
			defer pool.Close()
			screen := p.screen()
			if screen == nil && !cmd.Flags().Changed("times") {
				times = 1
			}
			return p.top(cmd.Context(), pool, screen, every, times)
		},
	}
	cmd.Flags().DurationVar(&every, "every", 2*time.Second, "how often to look")
	cmd.Flags().IntVar(&times, "times", 0, "end after so many looks (default: never on a terminal, else 1)")
	return cmd
}

// screen is the terminal that the output is, or nil.
func (p *program) screen() *os.File {
	file, ok := p.streams.Out.(*os.File)
	if !ok || *p.output == "json" || !term.IsTerminal(int(file.Fd())) {
		return nil
	}
	return file
}

// top looks again and again; times 0: until ctx ends.
func (p *program) top(ctx context.Context, pool *pgxpool.Pool, screen *os.File, every time.Duration, times int) error {
	for n := 1; ; n++ {
		seen, err := inspect.Look(ctx, pool, topWindow, topCountsTo)
		switch {
		case ctx.Err() != nil:
			return nil
		case err != nil:
			return err
		}
		if screen != nil {
			err = draw(screen, seen)
		} else {
			err = p.output.Print(p.streams.Out, seen, strings.Join(describeOverview(seen), "\n"))
		}
		if err != nil || n == times {
			return err
		}
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(every):
		}
	}
}

// draw writes the lines over the last screen, cut to its size.
func draw(screen *os.File, seen inspect.Overview) error {
	const home, clearLine, clearRest = "\x1b[H", "\x1b[K", "\x1b[J"
	width, height, err := term.GetSize(int(screen.Fd()))
	if err != nil || width <= 0 || height <= 1 {
		width, height = 80, 24
	}
	lines := describeOverview(seen)
	var text strings.Builder
	text.WriteString(home)
	for _, line := range lines[:min(len(lines), height-1)] {
		text.WriteString(cli.Fit(line, width) + clearLine + "\n")
	}
	text.WriteString(clearRest)
	_, err = io.WriteString(screen, text.String())
	return err
}

func describeOverview(o inspect.Overview) []string {
	lines := []string{
		fmt.Sprintf("%s UTC   %.0f requests/s over %.0f s", o.At.Format(time.DateTime), o.Rate, o.Over.Seconds()),
		fmt.Sprintf("waiting   %s due, the oldest for %.1f s; %s scheduled, %s to be tried again", cli.Thousands(o.Due),
			o.Oldest, cli.Thousands(o.Scheduled), cli.Thousands(o.Retrying)),
		"",
		fmt.Sprintf("%-20s %-7s %-8s %-22s %-20s %s", "QUEUE", "LANE", "PID", "SINCE (UTC)", "ADDRESS", "STATE"),
	}
	for _, l := range o.Lanes {
		lane := fmt.Sprintf("%d of %d", l.Lane, l.Lanes)
		switch {
		case l.Paused != nil:
			lines = append(lines, fmt.Sprintf("%-20s %-7s paused since %s: worker resume goes on", cli.Word(l.Queue), lane,
				l.Paused.UTC().Format(time.RFC3339)))
		case l.PID == nil:
			lines = append(lines, fmt.Sprintf("%-20s %-7s nobody holds it: worker run", cli.Word(l.Queue), lane))
		default:
			lines = append(lines, strings.TrimRight(fmt.Sprintf("%-20s %-7s %-8d %-22s %-20s %s", cli.Word(l.Queue), lane,
				*l.PID, l.Since.UTC().Format(time.DateTime), l.Address, l.State), " "))
		}
	}
	if len(o.Lanes) == 0 {
		lines = append(lines, "no worker has run here yet: worker run")
	}
	lines = append(lines, "", fmt.Sprintf("%-10s %-28s %8s", "STATUS", "CODE", "OUTCOMES"))
	for _, c := range o.Codes {
		lines = append(lines, fmt.Sprintf("%-10s %-28s %8s", c.Status, c.Code, cli.Thousands(c.Count)))
	}
	return lines
}
