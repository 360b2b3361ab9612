package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strconv"
	"strings"

	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/spf13/cobra"
	"golang.org/x/term"

	"github.com/lastseat/lastseat/internal/audit"
	"github.com/lastseat/lastseat/internal/cli"
	"github.com/lastseat/lastseat/internal/config"
)

func (p *program) auditCommand() *cobra.Command {
	var options auditOptions
	var sinceFile string
	cmd := &cobra.Command{
		Use:   "audit [--verbose] [--seal] [--since-seal FILE] [--archive DIR]",
		Short: "Prove every invariant; exit 1 if one is broken",
		Long: `Prove every invariant on one snapshot of the database, while workers go on.

It only reads: the role lastseat_viewer is enough.

If all invariants hold, one line says so, with the number of rows; --verbose lists the invariants. A broken invariant
is always printed with the rows that break it, and the exit code is 1. --output json writes one object for each
invariant.

Everything that was settled is compared with the history, a chain of hashes that the worker writes as it settles, and
the schema with the one that this release ships; the row that was changed, deleted or made up is named.

--seal prints the ends of the chains as one line of JSON, if all invariants hold. Keep it away from the database:
with --since-seal FILE a later audit also proves that the history up to the seal was not rewritten or cut off. With
LASTSEAT_SEAL_KEY (64 hexadecimal digits) the seal is signed; the public key is printed on standard error.`,
		Example: "  worker audit\n  worker audit --output json\n  worker audit --seal > seal.json\n  worker audit " +
			"--since-seal seal.json",
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			loaded, pool, err := p.openMigrated(cmd.Context())
			if err != nil {
				return err
			}
			defer pool.Close()
			if options.since, err = p.readSeal(loaded, sinceFile); err != nil {
				return err
			}
			return p.audit(cmd.Context(), pool, loaded, options)
		},
	}
	cmd.Flags().BoolVar(&options.seal, "seal", false, "print the ends of the history as a seal, if all invariants hold")
	cmd.Flags().StringVar(&sinceFile, "since-seal", "", "also prove that the history contains this seal")
	cmd.Flags().StringVar(&options.archive, "archive", "",
		"also prove the files in which worker retain run has archived requests")
	cmd.Flags().BoolVarP(&options.verbose, "verbose", "v", false, "print every invariant, not only those that are broken")
	return cmd
}

type auditOptions struct {
	verbose, seal bool
	since         *audit.Seal
	archive       string
}

// audit makes all checks and prints the result. Broken invariants are printed before the error is returned.
func (p *program) audit(
	ctx context.Context, pool *pgxpool.Pool, loaded config.Config, options auditOptions,
) error {
	var failed error
	broken := 0
	announce, done := announcer(p.streams.Err)
	var seal *audit.Seal
	_, err := audit.RunObserved(ctx, pool, audit.Observer{
		Since:    options.since,
		Archive:  options.archive,
		Seal:     func(s *audit.Seal) { seal = s },
		Announce: announce,
		Report: func(f audit.Finding) {
			done()
			if !f.OK {
				broken++
			}
			if f.OK && !options.verbose && *p.output != "json" {
				return
			}
			failed = errors.Join(failed, p.output.Print(p.streams.Out, f, describeFinding(f)))
		},
		Count: func(c audit.Counts) {
			if broken == 0 && !options.seal && *p.output != "json" {
				failed = errors.Join(failed, p.output.Print(p.streams.Out, nil, describeCounts(c)))
			}
		},
	})
	done()
	switch {
	case err != nil:
		return err
	case failed != nil:
		return failed
	case broken > 0:
		broken := fmt.Errorf("the audit found %d of %d invariants broken", broken, len(audit.Checks))
		return &cli.Error{Code: cli.ExitViolation, Err: broken}
	}
	if options.seal {
		return p.printSeal(loaded, seal)
	}
	return nil
}

func describeFinding(f audit.Finding) string {
	if f.OK {
		return fmt.Sprintf("ok      %-20s  %s", f.Check, f.Rule)
	}
	const indent = "\n          "
	return fmt.Sprintf("BROKEN  %-20s  %s", f.Check, f.Rule) + indent + strings.Join(f.Violations, indent)
}

func describeCounts(c audit.Counts) string {
	return fmt.Sprintf("%d invariants hold over %s, %s, %s, %s, %s, %s and %s", len(audit.Checks),
		counted(c.Accounts, "account"), counted(c.Transfers, "transfer"), counted(c.Entries, "entry"),
		counted(c.Payments, "payment"), counted(c.Resources, "resource"), counted(c.Reservations, "reservation"),
		counted(c.Requests, "request"))
}

// counted writes "1 transfer", "2,500 transfers", "3 entries".
func counted[N int | int64](n N, noun string) string {
	switch stem, y := strings.CutSuffix(noun, "y"); {
	case n == 1:
	case y:
		noun = stem + "ies"
	default:
		noun += "s"
	}
	return thousands(int64(n)) + " " + noun
}

// thousands writes 25000 as "25,000".
func thousands(n int64) string {
	digits := strconv.FormatInt(n, 10)
	for i := len(digits) - 3; i > 0; i -= 3 {
		digits = digits[:i] + "," + digits[i:]
	}
	return digits
}

// announcer shows on stderr which check is running, because one may take minutes, and clears the line when the check is
// done. Like every sign of progress it is for terminals only.
func announcer(stderr io.Writer) (announce func(audit.Check), done func()) {
	file, ok := stderr.(*os.File)
	if !ok || !term.IsTerminal(int(file.Fd())) {
		return func(audit.Check) {}, func() {}
	}
	const clearLine = "\r\x1b[K"
	announce = func(c audit.Check) { _, _ = fmt.Fprintf(stderr, "checking %s ...", c.Name) }
	return announce, func() { _, _ = fmt.Fprint(stderr, clearLine) }
}
