package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"regexp"
	"strings"

	"github.com/jackc/pgx/v5/pgconn"
	"github.com/spf13/cobra"

	"github.com/lastseat/lastseat/internal/cli"
	"github.com/lastseat/lastseat/outbox"
)

// reworded is an error with another text.
type reworded struct {
	error
	text string
}

func (r *reworded) Error() string { return r.text }
func (r *reworded) Unwrap() error { return r.error }

// explain says that the database was silent, where the error says no more than that the connection is closed or that
// the time is up; and it names the kind that was meant.
func (p *program) explain(err error) error {
	coded := (*cli.Error)(nil)
	silent := p.silent.Load() || errors.Is(err, context.DeadlineExceeded)
	if err == nil || !silent || errors.Is(err, outbox.ErrCommitUnknown) || errors.As(err, &coded) ||
		errors.As(err, new(*pgconn.ConnectError)) {
		return nearKind(err)
	}
	return &cli.SilenceError{After: p.patience}
}

var noKind = regexp.MustCompile(`there is no kind "([^"]*)"`)

// nearKind adds the kind that was meant to the error of one that there is not.
func nearKind(err error) error {
	if !errors.Is(err, outbox.ErrInvalid) {
		return err
	}
	found := noKind.FindStringSubmatch(err.Error())
	if found == nil {
		return err
	}
	near := cli.Nearest(found[1], builtInKinds())
	if near == "" || near == found[1] {
		return err
	}
	return &reworded{err, strings.Replace(err.Error(), found[0], found[0]+" (did you mean "+near+"?)", 1)}
}

var (
	argument     = regexp.MustCompile(`^(request "(?:[^"\\]|\\.)*": |)"([a-z_]+)"`)
	nextArgument = regexp.MustCompile(` and "([a-z_]+)" are`)
	itemArgument = regexp.MustCompile(`^(request "(?:[^"\\]|\\.)*": |)"(resource|quantity|during) of item (\d+)"`)
)

// inFlags names the flags of a command in the place of the arguments that an error is about.
func inFlags(cmd *cobra.Command, err error) error {
	if !errors.Is(err, outbox.ErrInvalid) {
		return err
	}
	flag := func(name string) string {
		as := strings.ReplaceAll(name, "_", "-")
		if as == "items" {
			as = "item"
		}
		if cmd.Flags().Lookup(as) == nil {
			return `"` + name + `"`
		}
		return "--" + as
	}
	text := itemArgument.ReplaceAllString(err.Error(), "${1}the $2 of --item number $3")
	text = argument.ReplaceAllStringFunc(text, func(found string) string {
		parts := argument.FindStringSubmatch(found)
		return parts[1] + flag(parts[2])
	})
	text = nextArgument.ReplaceAllStringFunc(text, func(found string) string {
		return " and " + flag(nextArgument.FindStringSubmatch(found)[1]) + " are"
	})
	if text == err.Error() {
		return err
	}
	return &reworded{err, text}
}

// fileError says why a file can't be read, and what to do.
func fileError(name string, err error) error {
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return cli.BadData("there is no file %q: check the name, or give - to read the standard input", name)
	case errors.Is(err, fs.ErrPermission):
		return cli.BadData("the file %q can't be read by this user: chmod u+r, or run it as the file's owner", name)
	}
	reason := err
	for next := errors.Unwrap(reason); next != nil; next = errors.Unwrap(next) {
		reason = next
	}
	return cli.BadData("the file %q can't be read: %w", name, fmt.Errorf("%w", reason))
}
