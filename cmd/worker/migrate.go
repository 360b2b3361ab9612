package main

import (
	"context"
	"fmt"

	"github.com/spf13/cobra"

	"github.com/lastseat/lastseat/internal/config"
	"github.com/lastseat/lastseat/schema"
)

type (
	migration func(ctx context.Context, url string, dryRun bool) ([]schema.Step, error)
	sql       func(ctx context.Context, url string) (string, error)
)

func (p *program) migrateCommand() *cobra.Command {
	var dryRun bool
	cmd := &cobra.Command{
		Use:     "migrate",
		Example: "  worker migrate up --dry-run",
		Short:   "Bring the database's schema up to this version",
		Long: `Bring the database's schema up to this version: the roles, River's tables, Lastseat's tables and functions.
Tables and functions change together, in one transaction.

Takes a superuser, or a role with CREATEROLE and CREATE on the database; where the roles exist already, membership in
lastseat_owner. Several may run at once.`,
	}
	cmd.PersistentFlags().BoolVar(&dryRun, "dry-run", false, "say what would be done, and do nothing")
	// script, where there is one, is what a dry run prints instead of the steps.
	command := func(use, short, done, planned string, migrate migration, script sql) {
		cmd.AddCommand(&cobra.Command{
			Use: use, Short: short, Args: cobra.NoArgs, Example: "  worker migrate " + use,
			RunE: func(cmd *cobra.Command, _ []string) error {
				loaded, err := config.Load(p.streams.Environ, true)
				if err != nil {
					return err
				}
				if dryRun && script != nil && *p.output == "text" {
					return p.printScript(cmd.Context(), loaded.DatabaseURL, script)
				}
				steps, err := migrate(cmd.Context(), loaded.DatabaseURL, dryRun)
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
				return err
			},
		})
	}
	command("up", "Apply what is missing; with --dry-run: print the SQL that would run, for psql",
		"applied", "would apply", schema.Up, schema.Script)
	command("down", "Take back the newest step; refused where rows would be lost", "taken back", "would take back",
		schema.Down, nil)
	command("status", "List the migrations, and the set of functions", "", "",
		func(ctx context.Context, url string, _ bool) ([]schema.Step, error) { return schema.Status(ctx, url) }, nil)
	return cmd
}

func (p *program) printScript(ctx context.Context, url string, script sql) error {
	text, err := script(ctx, url)
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
