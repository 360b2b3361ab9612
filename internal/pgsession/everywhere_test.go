package pgsession_test

import (
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// opens are the functions that open a session, by the packages that have them.
var opens = map[string][]string{
	"github.com/jackc/pgx/v5":         {"Connect", "ConnectConfig", "ConnectWithOptions"},
	"github.com/jackc/pgx/v5/pgxpool": {"New", "NewWithConfig"},
	"github.com/jackc/pgx/v5/pgconn":  {"Connect", "ConnectConfig", "ConnectWithOptions", "Construct"},
	"github.com/jackc/pgx/v5/stdlib":  {"OpenDB", "OpenDBFromPool", "GetConnector", "GetPoolConnector"},
	"database/sql":                    {"Open", "OpenDB"},
}

// unpinned are the files that open sessions of others than our programs, and why they may.
var unpinned = map[string]string{
	"examples/": "services, with the search_path that a service has",

	"internal/testdb/testdb.go":             "the pool of a test plays a service on a database of its own",
	"internal/relay/relaytest/relaytest.go": "a database of its own; the relay's statements name their schemas",

	"internal/bench/server.go":       "rivals of the bench, whose tables are in public, on a database of its own",
	"internal/bench/aged.go":         "as in server.go",
	"internal/bench/waiting.go":      "as in server.go",
	"internal/bench/witness.go":      "as in server.go",
	"internal/contention/server.go":  "the contestants' tables are in public, on a database of its own",
	"internal/contention/measure.go": "as in server.go",

	"internal/chaos/ownworker/main.go":   "the program of a service with kinds of its own",
	"internal/chaos/peers/river/main.go": "a program of somebody else's",
	"internal/chaos/peers.go":            "its table is in public, on a database of its own",
	"internal/chaos/client.go":           "a service that asks",
	"internal/chaos/follow.go":           "a service that follows",
	"internal/chaos/bench.go":            "the bench on a database of its own, which tries no shadows",
	"internal/chaos/sample.go":           "as in bench.go",
	"internal/chaos/server.go":           "as in bench.go: the roles and resources of a run",
	"internal/chaos/faults_database.go":  "strangers' sessions, which are the fault",
	"internal/chaos/faults_postgres.go":  "strangers' sessions, which are the fault",
	"internal/chaos/faults_restore.go":   "as in bench.go: the restored database",
	"internal/chaos/faults_standby.go":   "as in bench.go: whoever runs the servers promotes the standby",
	"internal/pgsession/pgsession.go":    "pins them",
	"internal/pgsession/own.go": "looks at a pooler before there is a session to pin, and names pg_catalog in its " +
		"statements",
}

// Every session of our programs pins its search_path before its first statement, because package pgsession opens it.
// Tests open others as they like: they play services, strangers and superusers on databases of their own.
func TestSessionsAreOpenedHere(t *testing.T) {
	t.Parallel()
	used := make(map[string]bool)
	root := filepath.Join("..", "..")
	err := filepath.WalkDir(root, func(path string, entry fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		name := filepath.ToSlash(strings.TrimPrefix(path, root+string(filepath.Separator)))
		if entry.IsDir() && (strings.HasPrefix(entry.Name(), ".") && entry.Name() != ".." || entry.Name() == "node_modules") {
			return filepath.SkipDir
		}
		if entry.IsDir() || !strings.HasSuffix(name, ".go") || strings.HasSuffix(name, "_test.go") {
			return nil
		}
		calls, err := sessionsOpened(path)
		if err != nil {
			return err
		}
		for _, call := range calls {
			why := ""
			for prefix := range unpinned {
				if strings.HasPrefix(name, prefix) {
					why, used[prefix] = unpinned[prefix], true
				}
			}
			if why == "" {
				t.Errorf("%s opens a session with %s: use package pgsession, which pins its search_path, "+
					"or add the file to unpinned with a reason", name, call)
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	for name := range unpinned {
		if !used[name] {
			t.Errorf("%s opens no session any more: take it out of unpinned", name)
		}
	}
}

// sessionsOpened are the places of a file that use one of opens, called or not.
func sessionsOpened(path string) (calls []string, err error) {
	set := token.NewFileSet()
	file, err := parser.ParseFile(set, path, nil, parser.SkipObjectResolution)
	if err != nil {
		return nil, err
	}
	packages := make(map[string]string) // by the names that the file has for them
	for _, imported := range file.Imports {
		of := strings.Trim(imported.Path.Value, `"`)
		name := strings.TrimSuffix(of, "/v5")
		name = name[strings.LastIndex(name, "/")+1:]
		if imported.Name != nil {
			name = imported.Name.Name
		}
		if name == "." && opens[of] != nil { // its functions have no name to look for
			calls = append(calls, "all of "+of)
		}
		packages[name] = of
	}
	ast.Inspect(file, func(node ast.Node) bool {
		selector, ok := node.(*ast.SelectorExpr)
		if !ok {
			return true
		}
		of, ok := selector.X.(*ast.Ident)
		if ok && slices.Contains(opens[packages[of.Name]], selector.Sel.Name) {
			calls = append(calls, fmt.Sprintf("%s.%s in line %d", of.Name, selector.Sel.Name, set.Position(node.Pos()).Line))
		}
		return true
	})
	return calls, nil
}
