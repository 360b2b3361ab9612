package jobs

import (
	"fmt"
	"slices"
	"strings"
	"testing"
)

// A kind's struct has every argument that its decoder takes, and no other.
func TestStructsHaveTheirDecodersArguments(t *testing.T) {
	t.Parallel()
	names := make(map[string]bool)
	for _, kind := range Kinds() {
		for _, arg := range kind.Args {
			names[arg.Name] = true
		}
	}
	for _, kind := range Kinds() {
		for name := range names {
			_, err := decoders[kind.Name](fmt.Appendf(nil, `{%q:null}`, name))
			takes := err == nil || !strings.HasPrefix(err.Error(), "there is no argument")
			if takes != kind.Has(name) {
				t.Errorf("%s: its decoder takes %q: %t, its struct has it: %t", kind.Name, name, takes, kind.Has(name))
			}
		}
	}
}

// A kind has a row once, orders by an argument that a request has to have, and names its codes once.
func TestTableOfKinds(t *testing.T) {
	t.Parallel()
	seen := make(map[string]bool)
	for i, kind := range Kinds() {
		if seen[kind.Name] || decoders[kind.Name] == nil {
			t.Errorf("%s is there twice, or has no decoder", kind.Name)
		}
		seen[kind.Name] = true
		isKey := func(arg Argument) bool { return arg.Name == kinds[i].orderBy && !arg.Optional }
		if !slices.ContainsFunc(kind.Args, isKey) {
			t.Errorf("%s is ordered by %q, which a request may leave out", kind.Name, kinds[i].orderBy)
		}
		for _, codes := range [][]string{kind.Applied, kind.Rejected} {
			if len(codes) == 0 || slices.Contains(codes, "") || kind.Does == "" {
				t.Errorf("%s: %+v", kind.Name, kind)
			}
		}
	}
}
