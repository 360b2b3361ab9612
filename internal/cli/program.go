package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"regexp"
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
	asJSON := wantsJSON(args)
	for _, arg := range args {
		if !utf8.ValidString(arg) {
			// encoding/json would replace the byte silently
			err := BadData("the argument %q is not UTF-8: type it anew, or convert it with iconv -t UTF-8", arg)
			failureOf(err, ExitData).print(streams.Err, root.Name(), asJSON, err.Error())
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
	root.InitDefaultHelpCmd()
	root.InitDefaultCompletionCmd(args...)
	cmd, err := wrongCommand(root, args)
	if err == nil {
		cmd, err = root.ExecuteContextC(ctx)
	}
	if err == nil {
		return ExitOK
	}
	err = contract(err)
	if !ran {
		message, try := printable(usageError(cmd, args, err).Error()), cmd.CommandPath()+" --help"
		f := failure{Code: exitNames[ExitUsage]}
		if f.Message, f.Hint = splitHint(message); f.Hint == "" {
			f.Hint = try
		}
		f.print(streams.Err, root.Name(), asJSON, message+"\nTry '"+try+"'.")
		return ExitUsage
	}
	if coded := (*Error)(nil); !errors.As(err, &coded) || coded.Err != nil {
		failureOf(err, ExitCode(err)).print(streams.Err, root.Name(), asJSON, Line(err))
	}
	return ExitCode(err)
}

// contract gives an error of our SQL functions one line of text and its exit code, whichever command it comes from.
func contract(err error) error {
	refused, coded := (*pgconn.PgError)(nil), (*Error)(nil)
	if !errors.As(err, &refused) || !strings.HasPrefix(refused.Code, "LS") || errors.As(err, &coded) ||
		ExitCode(err) == ExitData {
		return err
	}
	return outbox.ContractError(err)
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
				return unknownCommand(cmd, args[0])
			}
			return fmt.Errorf("a command is needed: %s", strings.Join(commandNames(cmd), ", "))
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

// Line is err on one line, in terms of the command line, or on several lines if err joins several errors. A database
// that can't be reached is named once, not once for each address.
func Line(err error) string { return InCommands(line(err)) }

func line(err error) string {
	if refused := (*pgconn.ConnectError)(nil); errors.As(err, &refused) {
		where := fmt.Sprintf("database %q at %s", refused.Config.Database, net.JoinHostPort(refused.Config.Host,
			fmt.Sprint(refused.Config.Port)))
		if answer := (*pgconn.PgError)(nil); errors.As(err, &answer) {
			return fmt.Sprintf("%s: %s (%s)%s", where, answer.Message, answer.Code, whenRefused(answer.Code))
		}
		if errors.Is(err, context.Canceled) {
			return "stopped before it was connected to " + where
		}
		return fmt.Sprintf("%s can't be reached (%s): is it up, and is DATABASE_URL right?", where, whyUnreachable(err))
	}
	if refused := (*pgconn.PgError)(nil); errors.As(err, &refused) && refused.Code == "42501" {
		return refused.Message + ": " + whoMay(refused.Message)
	}
	switch silence := (*SilenceError)(nil); {
	case errors.Is(err, outbox.ErrCommitUnknown):
		text := outbox.ErrCommitUnknown.Error()
		if partial := (*PartialError)(nil); errors.As(err, &partial) {
			text += " (" + partial.Done + ")"
		}
		return text + ": run the same command again; what was done is not done twice"
	case errors.As(err, &silence):
		return silence.Error() + ": run the same command again; what was done is not done twice"
	case connectionLost(err):
		return "the connection to the database was lost: " + strings.TrimSpace(err.Error())
	}
	text := strings.TrimSpace(err.Error())
	if errors.Is(err, context.Canceled) { // by a signal
		return strings.Replace(text, context.Canceled.Error(), "stopped before the end", 1)
	}
	if missing, found := strings.CutPrefix(text, outbox.ErrUnknown.Error()+": "); found {
		return missing + ": check the name, it is compared to the letter"
	}
	return text
}

var ofTheKeeper = regexp.MustCompile(`for function (remove_[a-z]+|kept_since|log_held_by)$`)

// whoMay says which role has the right that Postgres has missed. The message names what it is a right to.
func whoMay(message string) string {
	switch {
	case strings.Contains(message, `"lastseat_owner"`):
		return "connect as an administrator who is a member of lastseat_owner, as the one that ran worker migrate up is"
	case ofTheKeeper.MatchString(message):
		return "connect as lastseat_keeper, or as a member of it"
	case strings.HasPrefix(message, "permission denied for table "):
		return "connect as a member of lastseat_viewer to read, of lastseat_worker to change something"
	case strings.HasPrefix(message, "permission denied to create role"),
		strings.HasPrefix(message, "permission denied for database "):
		return "worker migrate needs CREATEROLE, and CREATE on the database"
	}
	return "connect as a member of the role that has the right: lastseat_producer makes requests, lastseat_worker " +
		"settles them, lastseat_viewer reads, lastseat_keeper removes what is too old"
}

func whyUnreachable(err error) string {
	lookup := (*net.DNSError)(nil)
	switch {
	case errors.Is(err, context.DeadlineExceeded):
		return "no answer in time"
	case errors.As(err, &lookup):
		return lookup.Err
	}
	lines := strings.Split(strings.TrimSpace(deepest(err).Error()), "\n")
	return lines[len(lines)-1]
}

// whenRefused says what to do about a server that answers, and refuses the connection.
func whenRefused(code string) string {
	switch {
	case strings.HasPrefix(code, "28"):
		return ": correct the user and the password in DATABASE_URL, or the server's pg_hba.conf"
	case code == "3D000":
		return ": correct the name of the database in DATABASE_URL, or create it with createdb"
	case code == "53300":
		return ": wait, end other sessions, or raise max_connections"
	}
	return ""
}

// deepest is the error at the bottom of err: of several, that of the last address that was tried.
func deepest(err error) error {
	for {
		var next error
		switch wrapping := err.(type) { //nolint:errorlint // it unwraps
		case interface{ Unwrap() []error }:
			if all := wrapping.Unwrap(); len(all) > 0 {
				next = all[len(all)-1]
			}
		case interface{ Unwrap() error }:
			next = wrapping.Unwrap()
		}
		if next == nil {
			return err
		}
		err = next
	}
}
