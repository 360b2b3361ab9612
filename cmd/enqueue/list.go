package main

import (
	"encoding/csv"
	"errors"
	"io"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/lastseat/lastseat/internal/cli"
	"github.com/lastseat/lastseat/internal/jsonsafe"
)

// listFormat is the value of --output of the commands that list.
type listFormat string

// String, Set and Type make it a flag.
func (f *listFormat) String() string { return string(*f) }

// Set accepts text, json and csv.
func (f *listFormat) Set(value string) error {
	if value != "text" && value != "json" && value != "csv" {
		return errors.New(`it is "text", "json" or "csv"`)
	}
	*f = listFormat(value)
	return nil
}

// Type is what the help shows.
func (f *listFormat) Type() string { return "text|json|csv" }

// flag adds --output to a command, in place of the program's.
func (f *listFormat) flag(cmd *cobra.Command) {
	*f = "text"
	cmd.Flags().VarP(f, "output", "o", "how to print results")
	_ = cmd.RegisterFlagCompletionFunc("output", cobra.FixedCompletions([]string{"text", "json", "csv"},
		cobra.ShellCompDirectiveNoFileComp))
}

// list writes rows one by one, in one of three formats.
type list struct {
	json  io.Writer // or
	csv   *csvList  // or
	table *table
	// detail is the column of JSON. It is on one line already, and quotes around it would make it something else.
	detail int
}

// newList writes the names of the columns first, except in JSON. right tells which columns are numbers.
func (p *program) newList(format listFormat, out io.Writer, right []bool, columns ...string) (*list, error) {
	switch format {
	case "json":
		return &list{json: out}, nil
	case "csv":
		l := &list{csv: newCSVList(out)}
		return l, l.csv.write(columns)
	default:
		l := &list{table: &table{out: out, right: right, width: cli.Width(p.streams.Out)}}
		l.detail = slices.Index(columns, "detail")
		for i, column := range columns {
			columns[i] = strings.ToUpper(column)
		}
		return l, l.table.add(columns...)
	}
}

// csvList writes a CSV file whose cells a terminal and a spreadsheet only show.
type csvList struct{ out *csv.Writer }

func newCSVList(out io.Writer) *csvList { return &csvList{out: csv.NewWriter(out)} }

// write adds a row. An error stays in the writer, too.
func (c *csvList) write(cells []string) error {
	safe := make([]string, len(cells))
	for i, cell := range cells {
		safe[i] = cli.Cell(cell)
	}
	return c.out.Write(safe)
}

func (c *csvList) end() error {
	c.out.Flush()
	return c.out.Error()
}

// add writes the value as JSON, or its cells.
func (l *list) add(value any, cells ...string) error {
	switch {
	case l.json != nil:
		return jsonsafe.Encode(l.json, value)
	case l.csv != nil:
		return l.csv.write(cells)
	}
	for i, cell := range cells {
		if cells[i] = cli.OneLine(cell); i == l.detail {
			cells[i] = cli.Cell(cell)
		}
	}
	return l.table.add(cells...)
}

// end comes after the last row.
func (l *list) end() error {
	switch {
	case l.csv != nil:
		return l.csv.end()
	case l.table != nil:
		return l.table.flush()
	}
	return nil
}
