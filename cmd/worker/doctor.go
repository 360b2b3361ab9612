package main

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/spf13/cobra"

	"github.com/lastseat/lastseat/internal/cli"
	"github.com/lastseat/lastseat/internal/doctor"
	"github.com/lastseat/lastseat/internal/pgsession"
	"github.com/lastseat/lastseat/internal/relay/targets"
)

func (p *program) doctorCommand() *cobra.Command {
	options := doctor.Options{}
	probe := true
	cmd := &cobra.Command{
		Use:   "doctor [--patience DURATION] [--probe=false]",
		Short: "Check that requests are being settled, and say what is wrong if not",
		Long: `Check that requests are being settled. What is wrong or worth knowing is printed, with what to type.

It looks how long the oldest due request of every queue and lane has waited and when something was last settled, and
sends a probe into every lane: a job without effect that the lane deletes in its turn. A role that may only look, such
as lastseat_viewer, sends none. It looks at the targets of LASTSEAT_RELAY, too.

Use it as a health check: the exit code is 0 only while requests are being settled. Give it more time than --patience.
docs/operations.md lists what it finds.`,
		Example: "  worker doctor\n  worker doctor --patience 30s --output json",
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if options.Patience <= 0 {
				return &cli.Error{Code: cli.ExitUsage, Err: errors.New("--patience is a time longer than 0s, 10s for example")}
			}
			loaded, pool, err := p.openOwn(cmd.Context(), forDoctor)
			if shared := (*pgsession.SharedError)(nil); errors.As(err, &shared) {
				return errors.Join(p.print(doctor.Shared(shared)), err)
			}
			if err != nil {
				return err
			}
			defer pool.Close()
			options.NoProbe = !probe
			if slices.ContainsFunc(p.streams.Environ, func(v string) bool { return strings.HasPrefix(v, "LASTSEAT_LANES=") }) {
				options.Lanes = loaded.Lanes
			}
			return p.examine(cmd.Context(), pool, options, loaded.Relay)
		},
	}
	cmd.Flags().DurationVar(&options.Patience, "patience", 10*time.Second,
		"how long a due request may wait while nothing is settled, and a probe")
	cmd.Flags().BoolVar(&probe, "probe", true, "send a probe into every lane, if the role may")
	return cmd
}

// forDoctor has statements work behind any pooler: then the doctor can say so.
func forDoctor(config *pgxpool.Config) {
	config.ConnConfig.DefaultQueryExecMode = pgx.QueryExecModeExec
}

// examine prints all findings before it returns the error about those that are wrong.
func (p *program) examine(ctx context.Context, pool *pgxpool.Pool, options doctor.Options, relays string) error {
	findings, err := doctor.Examine(ctx, pool, options)
	if err == nil && !slices.ContainsFunc(findings, essential) {
		var relayed []doctor.Finding
		relayed, err = targets.Examine(ctx, pool, relays)
		findings = append(findings, relayed...)
	}
	var failed []string
	code := cli.ExitOK
	for _, f := range findings {
		if err := p.print(f); err != nil {
			return err
		}
		if f.Severity != doctor.Wrong {
			continue
		}
		failed = append(failed, f.Check+": "+f.Told)
		if code == cli.ExitOK {
			code = map[doctor.Cause]int{
				doctor.Trouble: cli.ExitViolation, doctor.Setup: cli.ExitConfig, doctor.Right: cli.ExitNoRight,
			}[f.Cause]
		}
	}
	if err == nil && len(failed) > 0 {
		err = &cli.Error{Code: code, Err: errors.New(strings.Join(failed, "; "))}
	}
	return err
}

// essential tells whether a finding leaves nothing to look at: there is no schema, or this role may not read it.
func essential(f doctor.Finding) bool {
	return f.Severity == doctor.Wrong && (f.Check == "schema" || f.Check == "role")
}

func (p *program) print(f doctor.Finding) error {
	return p.output.Print(p.streams.Out, f, describeDiagnosis(f))
}

func describeDiagnosis(f doctor.Finding) string {
	text := fmt.Sprintf("%-8s %-10s %s", f.Severity, f.Check, f.Told)
	if f.Severity == doctor.Wrong {
		text = strings.Replace(text, "wrong   ", "WRONG   ", 1)
	}
	if f.Do != "" {
		text += "\n" + strings.Repeat(" ", 20) + "-> " + f.Do
	}
	return text
}

// checkRights looks for one right of each kind that a worker needs.
func checkRights(ctx context.Context, pool *pgxpool.Pool) error {
	var role string
	var works, looks, probes, sees bool
	err := pool.QueryRow(ctx, doctor.RightsSQL).Scan(&role, &works, &looks, &probes, &sees)
	if err == nil && !works {
		err = &cli.Error{Code: cli.ExitNoRight, Err: fmt.Errorf("%s may not work: connect as lastseat_worker, or as a "+
			"member of it", role)}
	}
	return err
}
