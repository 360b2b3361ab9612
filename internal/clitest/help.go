package clitest

import (
	"regexp"
	"strings"
	"testing"
)

var subcommand = regexp.MustCompile(`(?m)^  ([a-z]+) +[A-Z]`)

// subcommands are those that a help lists, without cobra's own.
func subcommands(help string) []string {
	_, list, _ := strings.Cut(help, "Available Commands:\n")
	list, _, _ = strings.Cut(list, "\n\n")
	var names []string
	for _, match := range subcommand.FindAllStringSubmatch(list, -1) {
		if match[1] != "completion" && match[1] != "help" {
			names = append(names, match[1])
		}
	}
	return names
}

// Help demands of every command that its --help has an example, goes to stdout, and needs no database. least is how
// many commands there are at least.
func (p Program) Help(t *testing.T, least int) {
	t.Helper()
	seen := 0
	var look func(path ...string)
	look = func(path ...string) {
		seen++
		got := p.In(t, nil, nil, append(path, "--help")...)
		name := strings.Join(append([]string{p.Name}, path...), " ")
		if got.Code != 0 || got.Err != "" || !strings.Contains(got.Out, "Usage:") {
			t.Errorf("%s --help: exit code %d, stderr %q, stdout %q", name, got.Code, got.Err, got.Out)
		}
		if _, examples, _ := strings.Cut(got.Out, "Examples:\n"); !strings.Contains(examples, name) {
			t.Errorf("%s --help has no example of it", name)
		}
		for _, sub := range subcommands(got.Out) {
			look(append(path, sub)...)
		}
	}
	look()
	if seen < least {
		t.Errorf("%d commands seen, want %d or more", seen, least)
	}
}
