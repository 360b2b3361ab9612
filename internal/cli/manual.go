package cli

import (
	"os"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/cobra/doc"
)

// AddManual gives root the command man, which writes a manual page for each command.
func AddManual(root *cobra.Command, streams Streams, output *Output) {
	root.AddCommand(&cobra.Command{
		Use:   "man DIR",
		Short: "Write the manual pages of all commands to a directory",
		Long: "Write the manual pages of all commands to a directory, which is made if there is none: " +
			root.Name() + ".1 and so on.",
		Example: "  " + root.Name() + " man share/man/man1 && man -M share/man " + root.Name(),
		Args:    cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := os.MkdirAll(args[0], 0o755); err != nil { //nolint:gosec // manual pages are for everybody
				return BadData("the directory %q can't be made (%w): give one that you may write to", args[0], deepest(err))
			}
			date := time.Unix(0, 0).UTC() // the same pages each time
			cmd.Root().DisableAutoGenTag = true
			header := &doc.GenManHeader{Section: "1", Source: "Lastseat " + Version(), Manual: "Lastseat", Date: &date}
			if err := doc.GenManTree(cmd.Root(), header, args[0]); err != nil {
				return BadData("the manual pages can't be written to %q (%w): give a directory that you may write to", args[0],
					deepest(err))
			}
			return output.Print(streams.Out, map[string]string{"directory": args[0]}, "manual pages are in "+args[0])
		},
	})
}
