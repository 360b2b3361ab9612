package main

import (
	"context"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/spf13/cobra"

	"github.com/lastseat/lastseat/jobs"
)

const (
	completions       = 30 // at most so many are offered
	completionTimeout = 2 * time.Second
)

// idsSQL finds the first ids that begin with $1, along the primary key. It takes the role lastseat_viewer.
var idsSQL = map[string]string{
	"accounts":     `SELECT t.id FROM lastseat.accounts t` + beginsWith("id"),
	"payments":     `SELECT t.id FROM lastseat.payments t` + beginsWith("id"),
	"reservations": `SELECT t.id FROM lastseat.reservations t` + beginsWith("id"),
	"groups":       `SELECT t.id FROM lastseat.limit_groups t` + beginsWith("id"),
	"requests":     `SELECT t.key FROM lastseat.requests t` + beginsWith("key"),
}

func beginsWith(column string) string {
	return ` WHERE t.` + column + ` >= $1 AND t.` + column + ` < $1 || chr(1114111) ORDER BY t.` + column + ` LIMIT $2`
}

// completed are the flags and the words of commands that name something, and what that is. A command that makes it
// is left out.
var completed = []struct {
	what         string
	flags, words []string // words as they stand in a command's Use
	not          []string // commands
}{
	{"accounts", []string{"from", "to"}, []string{"ACCOUNT"}, nil},
	{"payments", []string{"payment"}, nil, []string{"authorize"}},
	{"reservations", []string{"reservation"}, nil, []string{"hold", "book"}},
	{"resources", []string{"item"}, []string{"RESOURCE", "PREFIX"}, nil},
	{"groups", []string{"group"}, nil, []string{"limit"}},
	{"requests", []string{"transfer"}, []string{"KEY..."}, nil},
}

// addCompletions has shells complete ids that are in the database.
func (p *program) addCompletions(root *cobra.Command) {
	for _, cmd := range root.Commands() {
		for _, c := range completed {
			for _, flag := range c.flags {
				if cmd.Flags().Lookup(flag) != nil && !strings.Contains(strings.Join(c.not, " "), cmd.Name()) {
					_ = cmd.RegisterFlagCompletionFunc(flag, p.complete(c.what))
				}
			}
			for _, word := range c.words {
				if strings.HasPrefix(cmd.Use, cmd.Name()+" "+word) {
					cmd.ValidArgsFunction = p.complete(c.what)
				}
			}
		}
		switch cmd.Name() {
		case "payment", "reservation":
			cmd.ValidArgsFunction = p.complete(cmd.Name() + "s")
		}
	}
}

// complete offers ids that begin with what is typed. Without a database, or the rights, it offers none.
func (p *program) complete(what string) cobra.CompletionFunc {
	return func(cmd *cobra.Command, _ []string, typed string) ([]string, cobra.ShellCompDirective) {
		ctx, cancel := context.WithTimeout(cmd.Context(), completionTimeout)
		defer cancel()
		p.patience = completionTimeout
		ids, err := p.ids(ctx, what, typed)
		if err != nil {
			return nil, cobra.ShellCompDirectiveNoFileComp
		}
		return ids, cobra.ShellCompDirectiveNoFileComp
	}
}

func (p *program) ids(ctx context.Context, what, prefix string) (ids []string, err error) {
	pool, err := p.connect(ctx)
	if err != nil {
		return nil, err
	}
	defer closePool(pool)
	if what == "resources" { // which a producer may list, too
		found, err := jobs.Availability(ctx, pool, prefix, "", completions)
		for _, resource := range found {
			ids = append(ids, resource.Resource)
		}
		return ids, err
	}
	rows, err := pool.Query(ctx, idsSQL[what], prefix, completions)
	if err != nil {
		return nil, err
	}
	return pgx.CollectRows(rows, pgx.RowTo[string])
}
