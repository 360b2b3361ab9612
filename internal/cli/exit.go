// Package cli holds what the two commands share: exit codes, output, and how a cobra command becomes a program.
package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"slices"
	"strings"
	"syscall"

	"github.com/jackc/pgx/v5/pgconn"

	"github.com/lastseat/lastseat/internal/config"
	"github.com/lastseat/lastseat/internal/importfile"
	"github.com/lastseat/lastseat/internal/localpg"
	"github.com/lastseat/lastseat/outbox"
	"github.com/lastseat/lastseat/schema"
)

// Exit codes; from 64 on they are those of sysexits.h.
const (
	ExitOK          = 0
	ExitViolation   = 1  // worker audit found something, or an error that has no code of its own
	ExitRefused     = 3  // settled, and rejected or failed
	ExitUsage       = 64 // the command line
	ExitData        = 65 // bad data, or a key reused with other arguments
	ExitUnavailable = 69 // the database can't be reached
	ExitUnknown     = 75 // not known yet, or the reply to COMMIT was lost
	ExitNoRight     = 77 // the role may not do that
	ExitConfig      = 78 // configuration or schema version
)

// Error is an error with an exit code. With a nil Err nothing is printed.
type Error struct {
	Code int
	Err  error
}

func (e *Error) Error() string {
	if e.Err == nil {
		return fmt.Sprintf("exit %d", e.Code)
	}
	return e.Err.Error()
}

func (e *Error) Unwrap() error { return e.Err }

// BadData is an error in the data on the command line or in a file.
func BadData(format string, args ...any) error {
	return &Error{Code: ExitData, Err: fmt.Errorf(format, args...)}
}

// ExitCode is the exit code that err asks for.
func ExitCode(err error) int {
	if err == nil {
		return ExitOK
	}
	coded, file := (*Error)(nil), (*importfile.Error)(nil)
	is := func(targets ...error) bool {
		return slices.ContainsFunc(targets, func(target error) bool { return errors.Is(err, target) })
	}
	switch {
	case errors.As(err, &coded):
		return coded.Code
	case errors.As(err, new(*pgconn.ConnectError)) && !is(context.Canceled):
		return databaseExit(err)
	case is(outbox.ErrCommitUnknown, context.DeadlineExceeded, context.Canceled), errors.As(err, new(*SilenceError)):
		return ExitUnknown
	case is(outbox.ErrKeyReused, outbox.ErrInvalid, outbox.ErrUnknown, outbox.ErrTooLarge), errors.As(err, &file):
		return ExitData
	case errors.As(err, new(*config.Error)), errors.As(err, new(*schema.VersionError)), is(localpg.ErrNotInstalled):
		return ExitConfig
	default:
		return databaseExit(err)
	}
}

// connectionLost tells whether a connection broke. pgx exports no error for it.
func connectionLost(err error) bool {
	return errors.Is(err, io.ErrUnexpectedEOF) || errors.Is(err, net.ErrClosed) || errors.Is(err, syscall.ECONNRESET) ||
		errors.Is(err, syscall.EPIPE) || strings.Contains(err.Error(), "conn closed")
}

func databaseExit(err error) int {
	refused := (*pgconn.PgError)(nil)
	if !errors.As(err, &refused) {
		switch {
		case errors.As(err, new(*pgconn.ConnectError)) || connectionLost(err):
			return ExitUnavailable
		case errors.As(err, new(*pgconn.ParseConfigError)):
			return ExitConfig
		}
		return ExitViolation
	}
	starts := func(prefixes ...string) bool {
		return slices.ContainsFunc(prefixes, func(prefix string) bool { return strings.HasPrefix(refused.Code, prefix) })
	}
	switch {
	case starts("42501", "28"):
		return ExitNoRight
	case starts("3D000", "3F000", "42P01", "42883"):
		return ExitConfig // no such database, schema, table or function
	case starts("08", "53", "57P", "58"):
		return ExitUnavailable
	default:
		return ExitViolation
	}
}

// PartialError is the end of a command that has done a part of its work.
type PartialError struct {
	Err  error
	Done string // what is done, for people
}

// Error has both.
func (e *PartialError) Error() string { return e.Err.Error() + " (" + e.Done + ")" }

// Unwrap returns Err.
func (e *PartialError) Unwrap() error { return e.Err }
