package main

import (
	"fmt"
	"slices"
	"strings"

	"github.com/lastseat/lastseat/jobs"
)

// kindsHere is where intro.md has the table of kinds.
const kindsHere = "<!-- kinds -->\n"

// kindsTable writes a line for kinds that have the same arguments.
func kindsTable() string {
	var order []string
	names := make(map[string][]string)
	for _, kind := range jobs.Kinds() {
		args := arguments(kind.Args)
		if !slices.Contains(order, args) {
			order = append(order, args)
		}
		names[args] = append(names[args], "`"+kind.Name+"`")
	}
	table := &strings.Builder{}
	table.WriteString("| kind | args |\n|---|---|\n")
	for _, args := range order {
		fmt.Fprintf(table, "| %s | %s |\n", strings.Join(names[args], ", "), args)
	}
	return table.String()
}

func arguments(args []jobs.Argument) string {
	var all []string
	for _, arg := range args {
		text := arg.Name
		if arg.Optional {
			text += "?"
		}
		if arg.Note != "" {
			text += " (" + arg.Note + ")"
		}
		if len(arg.Of) > 0 {
			text += " [{" + arguments(arg.Of) + "}]"
		}
		all = append(all, text)
	}
	return strings.Join(all, ", ")
}

// verbs are the names of the kinds' own functions.
func verbs() (verbs []string) {
	for _, kind := range jobs.Kinds() {
		verbs = append(verbs, kind.Verb())
	}
	return verbs
}
