package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"unicode/utf8"

	"github.com/jackc/pgx/v5/pgconn"
	"github.com/spf13/cobra"

	"github.com/lastseat/lastseat/outbox"
)

// Streams are the inputs and outputs of a program, which a test replaces. Data goes to Out, everything else to Err.
type Streams struct {
	In       io.Reader
	Out, Err io.Writer
	Environ  []string
}

// Execute runs root with args and returns the exit code. Errors that cobra finds are usage errors; the error of a
// command is printed in one line on the error stream.
func Execute(ctx context.Context, root *cobra.Command, args []string, streams Streams) int {
	for _, arg := range args {
		if !utf8.ValidString(arg) {
			// encoding/json would replace the byte silently
			_, _ = fmt.Fprintf(streams.Err, "%s: the argument %q is not UTF-8\n", root.Name(), arg)
			return ExitData
		}
	}
	root.SetArgs(args)
	root.SetIn(streams.In)
	root.SetOut(streams.Out)
	root.SetErr(streams.Err)
	root.SilenceErrors, root.SilenceUsage = true, true
	ran := false
	markRun(root, &ran)
	cmd, err := root.ExecuteContextC(ctx)
	if err == nil {
		return ExitOK
	}
	if !ran {
		_, _ = fmt.Fprintf(streams.Err, "%s: %v\nTry '%s --help'.\n", root.Name(), err, cmd.CommandPath())
		return ExitUsage
	}
	if coded := (*Error)(nil); !errors.As(err, &coded) || coded.Err != nil {
		_, _ = fmt.Fprintf(streams.Err, "%s: %s\n", root.Name(), Line(err))
	}
	return ExitCode(err)
}

// markRun notes when a command's own code begins: an earlier error is a usage error.
func markRun(cmd *cobra.Command, ran *bool) {
	if run := cmd.RunE; run != nil {
		cmd.RunE = func(cmd *cobra.Command, args []string) error {
			*ran = true
			return run(cmd, args)
		}
	} else if cmd.HasSubCommands() {
		cmd.RunE = func(cmd *cobra.Command, args []string) error {
			if len(args) > 0 {
				return fmt.Errorf("there is no command %q", args[0])
			}
			var commands []string
			for _, sub := range cmd.Commands() {
				commands = append(commands, sub.Name())
			}
			return fmt.Errorf("a command is needed: %s", strings.Join(commands, ", "))
		}
		cmd.Args = cobra.ArbitraryArgs
	}
	for _, sub := range cmd.Commands() {
		markRun(sub, ran)
	}
}

// Usage is a usage error that cobra can't find.
func Usage(format string, args ...any) error {
	return &Error{Code: ExitUsage, Err: fmt.Errorf(format, args...)}
}

// Line is err on one line, or on several lines if err joins several errors. A database that can't be reached is named
// once, not once for each address.
func Line(err error) string {
	if refused := (*pgconn.ConnectError)(nil); errors.As(err, &refused) {
		where := fmt.Sprintf("database %q at %s", refused.Config.Database, net.JoinHostPort(refused.Config.Host,
			fmt.Sprint(refused.Config.Port)))
		if answer := (*pgconn.PgError)(nil); errors.As(err, &answer) {
			return fmt.Sprintf("%s: %s (%s)", where, answer.Message, answer.Code)
		}
		reason := errors.Unwrap(err)
		for next := reason; next != nil; next = errors.Unwrap(next) {
			reason = next
		}
		if reason == nil {
			reason = err
		}
		lines := strings.Split(strings.TrimSpace(reason.Error()), "\n")
		return fmt.Sprintf("%s can't be reached: %s", where, lines[len(lines)-1])
	}
	if refused := (*pgconn.PgError)(nil); errors.As(err, &refused) && refused.Code == "42501" {
		return refused.Message + ": connect as a role that has the right (lastseat_producer makes requests, " +
			"lastseat_worker settles them, lastseat_viewer reads; worker migrate needs CREATEROLE, and CREATE on the database)"
	}
	switch silence := (*SilenceError)(nil); {
	case errors.Is(err, outbox.ErrCommitUnknown):
		return OneLine(strings.TrimSpace(err.Error())) + ": run the same command again; what was done is not done twice"
	case errors.As(err, &silence):
		return silence.Error() + ": run the same command again; what was done is not done twice"
	case connectionLost(err):
		return "the connection to the database was lost: " + strings.TrimSpace(err.Error())
	}
	return strings.TrimSpace(err.Error())
}
