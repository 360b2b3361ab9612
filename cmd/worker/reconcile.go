package main

import (
	"cmp"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/lastseat/lastseat/internal/cli"
	"github.com/lastseat/lastseat/internal/config"
	"github.com/lastseat/lastseat/internal/money"
	"github.com/lastseat/lastseat/internal/reconcile"
)

func (p *program) reconcileCommand() *cobra.Command {
	var name, since string
	cmd := &cobra.Command{
		Use:   "reconcile --processor NAME --since TIME",
		Short: "Compare a card processor's charges and refunds with the books; exit 1 if they differ",
		Long: `Compare a card processor's charges, captures and refunds with the books, both ways, while workers go on.

It only reads: the role lastseat_viewer is enough. It compares the charges that the processor has made since a time,
and the payments that have changed since then. Each difference is printed with the ids and amounts of both sides, and
the exit code is 1. A payment whose processor is being asked right now is not compared. What differs is looked at again
before it is printed.

The processor is that of LASTSEAT_PROCESSOR_STRIPE_KEY. If it can't be asked, the exit code is 69.`,
		Example: "  worker reconcile --processor stripe --since 24h\n" +
			"  worker reconcile --processor stripe --since 2026-11-26T00:00:00Z --output json",
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			from, err := sinceWhen(since, time.Now())
			if err != nil {
				return err
			}
			if name != "stripe" {
				return cli.Usage("--processor is %q: stripe is the one that there is", name)
			}
			return p.reconcile(cmd, name, from)
		},
	}
	cmd.Flags().StringVar(&name, "processor", "", "the processor's name: stripe")
	cmd.Flags().StringVar(&since, "since", "", "a time (RFC 3339), or how long ago: 24h")
	cli.Require(cmd, "processor", "since")
	return cmd
}

// sinceWhen reads a time, or how long ago that was.
func sinceWhen(text string, now time.Time) (time.Time, error) {
	if ago, err := time.ParseDuration(text); err == nil && ago > 0 {
		return now.Add(-ago), nil
	}
	at, err := time.Parse(time.RFC3339, text)
	if err != nil {
		return at, cli.Usage("--since is %q: 2026-11-26T12:00:00Z, or 24h", text)
	}
	return at, nil
}

func (p *program) reconcile(cmd *cobra.Command, name string, since time.Time) error {
	loaded, pool, err := p.openMigrated(cmd.Context())
	if err != nil {
		return err
	}
	defer pool.Close()
	gateway := loaded.Stripe()
	if gateway == nil {
		return &config.Error{Mistakes: []string{"LASTSEAT_PROCESSOR_STRIPE_KEY is not set: stripe can't be asked"}}
	}
	defer gateway.Close()
	report, err := reconcile.Run(cmd.Context(), pool, name, gateway, since)
	if unreachable := (*reconcile.ProcessorError)(nil); errors.As(err, &unreachable) {
		return &cli.Error{Code: cli.ExitUnavailable, Err: err}
	} else if err != nil {
		return err
	}
	if err := p.output.Print(p.streams.Out, report, describeReport(report)); err != nil {
		return err
	}
	if !report.Agree {
		differ := fmt.Errorf("%s and the books differ: %s", name, counted(len(report.Differences), "difference"))
		return &cli.Error{Code: cli.ExitViolation, Err: differ}
	}
	return nil
}

func describeReport(r reconcile.Report) string {
	var lines []string
	for _, d := range r.Differences {
		lines = append(lines, describeDifference(r.Processor, d))
	}
	if r.Agree {
		lines = append(lines, fmt.Sprintf("%s and the books agree: %s, %s since %s", r.Processor,
			counted(r.Charges, "charge"), counted(r.Refunds, "refund"), r.Since.Format(time.RFC3339)))
	}
	if r.UnderWay > 0 {
		lines = append(lines, counted(r.UnderWay, "payment")+" not compared: "+r.Processor+" is being asked")
	}
	if r.Others > 0 {
		lines = append(lines, counted(r.Others, "charge")+" there of somebody else's")
	}
	return strings.Join(lines, "\n")
}

func describeDifference(name string, d reconcile.Difference) string {
	about := "payment " + cli.Word(d.Payment) + " (" + cmp.Or(d.Status, "not in the books") + ")"
	if d.Charge != "" {
		about += " charge " + cli.Word(d.Charge)
	}
	if d.Refund != "" {
		about += " refund " + cli.Word(d.Refund)
	}
	if d.Request != "" {
		about += " request " + cli.Word(d.Request)
	}
	return fmt.Sprintf("%s  %s  at %s %s %s, in the books %s %s", d.Kind, about, name,
		money.Format(d.AtProcessor, d.Currency), d.Currency, money.Format(d.InBooks, d.Currency), d.Currency)
}
