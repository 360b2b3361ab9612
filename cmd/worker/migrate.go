package main

import (
	"context"
	"fmt"

	"github.com/spf13/cobra"

	"github.com/lastseat/lastseat/internal/config"
	"github.com/lastseat/lastseat/schema"
)

func (p *program) migrateCommand() *cobra.Command {
	var dryRun bool
	cmd := &cobra.Command{
		Use:     "migrate",
		Example: "  worker migrate up --dry-run",
		Short:   "Bring the database's schema up to this version",
		Long: `Bring the database's schema up to this version: the roles, River's tables, and Lastseat's.

Takes a superuser, or a role with CREATEROLE and CREATE on the database; where the roles exist already, membership in
lastseat_owner. Several may run at once.`,
	}
	cmd.PersistentFlags().BoolVar(&dryRun, "dry-run", false, "say what would be done, and do nothing")
	command := func(use, short, done, planned string, migrate func(ctx context.Context, url string, dryRun bool) ([]schema.Step, error)) {
		cmd.AddCommand(&cobra.Command{
			Use: use, Short: short, Args: cobra.NoArgs, Example: "  worker migrate " + use,
			RunE: func(cmd *cobra.Command, _ []string) error {
				loaded, err := config.Load(p.streams.Environ, true)
				if err != nil {
					return err
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
	command("up", "Apply what is missing", "applied", "would apply", schema.Up)
	command("down", "Take back the newest migration; refused where rows would be lost", "taken back", "would take back", schema.Down)
	command("status", "List the migrations", "", "", func(ctx context.Context, url string, _ bool) ([]schema.Step, error) {
		return schema.Status(ctx, url)
	})
	return cmd
}

func (p *program) printStep(step schema.Step, what string) error {
	if what == "" {
		what = "missing"
		if step.Applied {
			what = "applied"
		}
	}
	return p.output.Print(p.streams.Out, map[string]string{"migration": step.Name, "state": what}, fmt.Sprintf("%-24s %s", step.Name, what))
}
