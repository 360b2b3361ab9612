package main

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

// Every command's --help has an example, goes to stdout, and needs no database.
func TestHelp(t *testing.T) {
	t.Parallel()
	var look func(path ...string)
	seen := 0
	look = func(path ...string) {
		seen++
		got := runIn(t, "", nil, append(path, "--help")...)
		name := strings.Join(append([]string{"enqueue"}, path...), " ")
		if got.code != 0 || got.err != "" || !strings.Contains(got.out, "Usage:") {
			t.Errorf("%s --help: exit code %d, stderr %q, stdout %q", name, got.code, got.err, got.out)
		}
		if _, examples, _ := strings.Cut(got.out, "Examples:\n"); !strings.Contains(examples, name) {
			t.Errorf("%s --help has no example of it", name)
		}
		for _, sub := range subcommands(got.out) {
			look(append(path, sub)...)
		}
	}
	look()
	if seen < 25 {
		t.Errorf("%d commands seen, want 25 or more", seen)
	}
}

func TestVersion(t *testing.T) {
	t.Parallel()
	if got := runIn(t, "", nil, "--version"); got.code != 0 || !strings.HasPrefix(got.out, "enqueue version ") {
		t.Errorf("exit code %d, stdout %q", got.code, got.out)
	}
}

func TestCompletion(t *testing.T) {
	t.Parallel()
	for shell, mark := range map[string]string{
		"bash": "complete -o default -F __start_enqueue enqueue", "zsh": "#compdef enqueue", "fish": "complete -c enqueue", "powershell": "Register-ArgumentCompleter",
	} {
		got := runIn(t, "", nil, "completion", shell)
		got.succeeds(t)
		if !strings.Contains(got.out, mark) {
			t.Errorf("completion %s: no %q in %d bytes", shell, mark, len(got.out))
		}
	}
	for typed, want := range map[string]string{
		"tr": "transfer", "transfer --from": "--from", "outcome --output ": "json", "import --ch": "--chunk",
		"auth": "authorize", "authorize --exp": "--expires-at", "statement --output ": "csv",
		"hold --wait-": "--wait-in-line", "availability --output ": "csv", "res": "reservation",
	} {
		args := append([]string{"__complete"}, strings.Split(typed, " ")...)
		got := runIn(t, "", nil, args...)
		if got.code != 0 || !strings.Contains(got.out, want) {
			t.Errorf("completing %q: exit code %d, %q; want %q", typed, got.code, got.out, want)
		}
	}
}
