package main

import (
	"context"
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/spf13/cobra"
	"golang.org/x/term"

	"github.com/lastseat/lastseat/internal/audit"
	"github.com/lastseat/lastseat/internal/cli"
	"github.com/lastseat/lastseat/schema"
)

func (p *program) auditCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "audit",
		Short: "Prove every invariant; exit 1 and say which row breaks which",
		Long: `Prove every invariant on one snapshot of the database, while workers go on. It reads only: lastseat_viewer is enough.

Exits with 1 if a rule is broken, and names the rows.`,
		Example: "  worker audit --output json",
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			_, pool, err := p.open(cmd.Context())
			if err != nil {
				return err
			}
			defer pool.Close()
			if err := schema.Check(cmd.Context(), pool); err != nil {
				return err
			}
			return p.audit(cmd.Context(), pool)
		},
	}
}

// audit runs all checks and prints each; broken rules are an error that has been said already.
func (p *program) audit(ctx context.Context, pool *pgxpool.Pool) error {
	var failed error
	announce, done := announcer(p.streams.Err)
	ok, err := audit.RunAnnounced(ctx, pool, announce, func(f audit.Finding) {
		done()
		verdict := "ok    "
		if !f.OK {
			verdict = "BROKEN"
		}
		text := fmt.Sprintf("%s  %-20s  %s", verdict, f.Check, f.Rule)
		if !f.OK {
			text += "\n          " + strings.Join(f.Violations, "\n          ")
		}
		if err := p.output.Print(p.streams.Out, f, text); err != nil {
			failed = err
		}
	})
	done()
	switch {
	case err != nil:
		return err
	case failed != nil:
		return failed
	case !ok:
		return &cli.Error{Code: cli.ExitViolation, Err: fmt.Errorf("the audit found broken rules")}
	}
	return nil
}

// announcer says on stderr which check is being made, for one may take minutes, and takes that back when its result comes. Like
// every sign of progress it is for a terminal: elsewhere the results tell how far it is.
func announcer(stderr io.Writer) (announce func(audit.Check), done func()) {
	file, ok := stderr.(*os.File)
	if !ok || !term.IsTerminal(int(file.Fd())) {
		return func(audit.Check) {}, func() {}
	}
	const clearLine = "\r\x1b[K"
	announce = func(c audit.Check) { _, _ = fmt.Fprintf(stderr, "checking %s ...", c.Name) }
	return announce, func() { _, _ = fmt.Fprint(stderr, clearLine) }
}
