package main

import (
	"context"
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"github.com/lastseat/lastseat/internal/cli"
	"github.com/lastseat/lastseat/internal/config"
	"github.com/lastseat/lastseat/internal/retry"
	"github.com/lastseat/lastseat/schema"
)

type (
	migration func(ctx context.Context, url string, dryRun bool, options ...schema.Option) ([]schema.Step, error)
	sql       func(ctx context.Context, url string, options ...schema.Option) (string, error)
)

func (p *program) migrateCommand() *cobra.Command {
	var dryRun bool
	var lockTimeout, waitLimit time.Duration
	cmd := &cobra.Command{
		Use:     "migrate",
		Example: "  worker migrate up --dry-run",
		Short:   "Bring the database's schema up to this version",
		Long: `Bring the database's schema up to this version: the roles, River's tables, Lastseat's tables and functions.
Tables and functions change together, in one transaction.

Takes a superuser, or a role with CREATEROLE and CREATE on the database; where the roles exist already, membership in
lastseat_owner. Several may run at once.

A migration that needs a lock waits --lock-timeout for it, as do the sessions behind it. It lets them pass, says who
holds the lock, and tries again with a growing pause, for --wait in all.`,
	}
	flags := cmd.PersistentFlags()
	flags.BoolVar(&dryRun, "dry-run", false, "say what would be done, and do nothing")
	flags.DurationVar(&lockTimeout, "lock-timeout", schema.DefaultLockTimeout, "how long one attempt waits for a lock")
	flags.DurationVar(&waitLimit, "wait", schema.DefaultWaitLimit, "how long to try again; 0: one attempt")
	// script, where there is one, is what a dry run prints instead of the steps.
	command := func(use, short, done, planned string, migrate migration, script sql) {
		cmd.AddCommand(&cobra.Command{
			Use: use, Short: short, Args: cobra.NoArgs, Example: "  worker migrate " + use,
			RunE: func(cmd *cobra.Command, _ []string) error {
				loaded, err := config.Load(p.streams.Environ, true)
				if err != nil {
					return err
				}
				waiting := []schema.Option{
					schema.LockTimeout(lockTimeout), schema.WaitLimit(waitLimit), schema.Report(p.sayWaiting),
				}
				if dryRun && script != nil && *p.output == "text" {
					return atLock(p.printScript(cmd.Context(), loaded.DatabaseURL, script, waiting))
				}
				steps, err := migrate(cmd.Context(), loaded.DatabaseURL, dryRun, waiting...)
				if dryRun {
					done = planned
				}
				for _, step := range steps {
					if err := p.printStep(step, done); err != nil {
						return err
					}
				}
				if err == nil && len(steps) == 0 && *p.output == "text" {
					_, err = fmt.Fprintln(p.streams.Out, "nothing to do")
				}
				return atLock(err)
			},
		})
	}
	command("up", "Apply what is missing; with --dry-run: print the SQL that would run, for psql",
		"applied", "would apply", schema.Up, schema.Script)
	command("down", "Take back the newest step; refused where rows would be lost", "taken back", "would take back",
		schema.Down, nil)
	command("status", "List the migrations, and the set of functions", "", "",
		func(ctx context.Context, url string, _ bool, options ...schema.Option) ([]schema.Step, error) {
			return schema.Status(ctx, url, options...)
		}, nil)
	return cmd
}

func (p *program) sayWaiting(line string) { _, _ = fmt.Fprintln(p.streams.Err, "worker: "+line) }

// atLock gives the error its exit code: somebody holds a lock, so it may work later.
func atLock(err error) error {
	if retry.SQLState(err) == "55P03" {
		return &cli.Error{Code: cli.ExitUnknown, Err: err}
	}
	return err
}

func (p *program) printScript(ctx context.Context, url string, script sql, waiting []schema.Option) error {
	text, err := script(ctx, url, waiting...)
	if err == nil && text == "" {
		text = "-- nothing to do\n"
	}
	if err == nil {
		_, err = fmt.Fprint(p.streams.Out, text)
	}
	return err
}

func (p *program) printStep(step schema.Step, what string) error {
	if what == "" {
		what = "missing"
		if step.Applied {
			what = "applied"
		}
	}
	return p.output.Print(p.streams.Out, map[string]string{"migration": step.Name, "state": what},
		fmt.Sprintf("%-24s %s", step.Name, what))
}
