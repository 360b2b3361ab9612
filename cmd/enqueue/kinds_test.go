package main

import (
	"strings"
	"testing"

	"github.com/lastseat/lastseat/jobs"
)

// Every kind has a command of its verb's name, with a flag for each argument that a request has to have.
func TestEveryKindHasACommand(t *testing.T) {
	t.Parallel()
	for _, kind := range jobs.Kinds() {
		command := strings.ReplaceAll(kind.Verb(), "_", "-")
		got := runIn(t, "", nil, command, "--help")
		if got.Code != 0 || !strings.Contains(got.Out, "enqueue "+command) {
			t.Errorf("%s: enqueue has no command %s: cmd/enqueue, and AddCommand in its main.go", kind.Name, command)
			continue
		}
		for _, arg := range kind.Args {
			flag := "--" + strings.ReplaceAll(arg.Name, "_", "-") + " "
			if len(arg.Of) > 0 { // given once for each element
				flag = strings.TrimSuffix(flag, "s ") + " "
			}
			if !arg.Optional && !strings.Contains(got.Out, flag) {
				t.Errorf("%s: enqueue %s has no flag %s", kind.Name, command, flag)
			}
		}
	}
}
