package main

import (
	"errors"
	"fmt"
	"math"
	"strings"

	"github.com/spf13/cobra"

	"github.com/lastseat/lastseat/internal/cli"
	"github.com/lastseat/lastseat/internal/inspect"
)

// explainBounds let worker explain look at every job, which the pages don't.
var explainBounds = inspect.Bounds{Ahead: 100_000, Jobs: math.MaxInt32}

func (p *program) explainCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "explain KEY",
		Short: "Say why a request waits, or what became of it",
		Long: `Say why a request waits, or what became of it: for when it is scheduled, which attempts have failed, whether
its queue is paused, who holds its lane, how many requests come first, and who has a row locked that it needs.

The role lastseat_viewer is enough.`,
		Example: "  worker explain order-1042",
		Args:    cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			_, pool, err := p.open(cmd.Context())
			if err != nil {
				return err
			}
			defer pool.Close()
			e, err := inspect.Explain(cmd.Context(), pool, args[0], explainBounds)
			if errors.Is(err, inspect.ErrRemoved) {
				return cli.BadData("the key %q has moved money, and its request is no longer kept: it is not used again", args[0])
			}
			if errors.Is(err, inspect.ErrNoRequest) {
				return cli.BadData("no request has the key %q: check the key, it is compared to the letter", args[0])
			}
			if err != nil {
				return err
			}
			return p.output.Print(p.streams.Out, e, describeExplanation(e))
		},
	}
}

func describeExplanation(e inspect.Explanation) string {
	text := fmt.Sprintf("%s  %s  %s", cli.Word(e.Key), e.Kind, e.Status)
	if e.Code != "" {
		text += "  " + e.Code
	}
	if len(e.Detail) > 0 {
		text += "  " + string(e.Detail)
	}
	lines := []string{text}
	for _, reason := range e.Reasons {
		lines = append(lines, strings.ReplaceAll(reason, "\n", " "))
	}
	return strings.Join(lines, "\n  ")
}
