package pgsession_test

import (
	"context"
	"go/ast"
	"go/parser"
	"go/token"
	"maps"
	"os"
	"slices"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/lastseat/lastseat/internal/pgsession"
	"github.com/lastseat/lastseat/internal/testdb"
)

func TestMain(m *testing.M) { os.Exit(testdb.Main(m, nil)) }

// asker is a session or a pool of them.
type asker interface {
	QueryRow(ctx context.Context, sql string, args ...any) pgx.Row
}

// Whatever this package opens is pinned, although the database asks for another search_path.
func TestWhatIsOpenedIsPinned(t *testing.T) {
	t.Parallel()
	url := testdb.Empty(t)
	testdb.Exec(t, testdb.Pool(t, url), `DO $$ BEGIN EXECUTE format('ALTER DATABASE %I SET search_path = public',
		current_database()); END $$`)
	conn, err := pgx.ParseConfig(url)
	if err != nil {
		t.Fatal(err)
	}
	pool, err := pgxpool.ParseConfig(url)
	if err != nil {
		t.Fatal(err)
	}
	ctx := t.Context()
	openers := map[string]func() (asker, error){
		"Connect": func() (asker, error) { return pgsession.Connect(ctx, conn) },
		"Open":    func() (asker, error) { return pgsession.Open(ctx, url) },
		"NewPool": func() (asker, error) { return pgsession.NewPool(ctx, pool) },
		"NewPoolBeside": func() (asker, error) {
			return pgsession.NewPoolBeside(ctx, testdb.Pool(t, url), "beside", 1, 0, nil)
		},
		"NewSharedPool": func() (asker, error) { return pgsession.NewSharedPool(ctx, pool) },
		"OpenPool":      func() (asker, error) { return pgsession.OpenPool(ctx, url) },
	}
	if known := slices.Sorted(maps.Keys(openers)); !slices.Equal(known, returningSessions(t)) {
		t.Fatalf("pgsession.go has %v, the test knows %v", returningSessions(t), known)
	}
	for name, open := range openers {
		opened, err := open()
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		var path string
		if err := opened.QueryRow(ctx, `SELECT pg_catalog.current_setting('search_path')`).Scan(&path); err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		if path != pgsession.Path {
			t.Errorf("%s: the search_path is %s", name, path)
		}
		switch opened := opened.(type) {
		case *pgx.Conn:
			_ = opened.Close(ctx)
		case *pgxpool.Pool:
			opened.Close()
		}
	}
}

// returningSessions are the exported functions of pgsession.go that return a session or a pool.
func returningSessions(t *testing.T) (names []string) {
	t.Helper()
	file, err := parser.ParseFile(token.NewFileSet(), "pgsession.go", nil, parser.SkipObjectResolution)
	if err != nil {
		t.Fatal(err)
	}
	for _, declared := range file.Decls {
		function, ok := declared.(*ast.FuncDecl)
		if !ok || !function.Name.IsExported() || function.Type.Results == nil {
			continue
		}
		if _, pointer := function.Type.Results.List[0].Type.(*ast.StarExpr); pointer {
			names = append(names, function.Name.Name)
		}
	}
	slices.Sort(names)
	return names
}
