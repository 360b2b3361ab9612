package jobs_test

import (
	"go/ast"
	"go/parser"
	"go/token"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/lastseat/lastseat/internal/testdb"
	"github.com/lastseat/lastseat/jobs"
	"github.com/lastseat/lastseat/outbox"
)

// Everything that a kind has to have is there. A failure names the kind and the place that lacks it.
func TestKinds(t *testing.T) {
	t.Parallel()
	pool := newPool(t)
	cli := source(t, "../cmd/enqueue/*.go")
	audit := source(t, "../internal/audit/*.go")
	contract := source(t, "../schema/testdata/contract.golden")
	reference := source(t, "../docs/sql.md")
	for _, kind := range jobs.Kinds() {
		lacks := func(place, what string) {
			t.Helper()
			t.Errorf("%s: %s lacks %s", kind.Name, place, what)
		}
		if !checksInSQL(t, pool, kind) {
			lacks("schema/functions, the file of its family,", checkFunction(kind)+", which checks its arguments")
		}
		for _, problem := range sqlFunction(t, pool, kind) {
			lacks("schema/functions, the file of its family,", problem)
		}
		if !strings.Contains(contract, "\n"+kind.Verb()+"(key ") {
			lacks("schema/testdata/contract.golden", "its SQL function: UPDATE_GOLDEN=1 go test ./schema -run TestContract")
		}
		if !strings.Contains(reference, "`"+kind.Name+"`") || !strings.Contains(reference, "### "+kind.Verb()+"\n") {
			lacks("docs/sql.md", "the kind or its SQL function: make docs")
		}
		for _, problem := range guide(t, kind) {
			lacks("the guide (README.md, docs/*.md)", problem)
		}
		if !strings.Contains(cli, "jobs."+structOf(kind)) {
			lacks("cmd/enqueue", "a command that asks for jobs."+structOf(kind))
		}
		if _, none := unaudited[kind.Name]; !none && !strings.Contains(audit, "'"+kind.Name+"'") {
			lacks("internal/audit", "a check of what it leaves behind, or jobs/kinds_test.go the reason in unaudited")
		}
		for _, problem := range conformanceOf(kind) {
			lacks("jobs/conformance_test.go", problem)
		}
	}
}

// unaudited are the kinds that leave nothing behind to be checked, and why.
var unaudited = map[string]string{
	jobs.KindExtend: "it leaves a time, and the next one replaces it",
}

// checkFunction is the SQL function that checks a kind's arguments.
func checkFunction(kind jobs.Kind) string {
	return "lastseat.check_" + kind.Family() + "_" + kind.Verb() + "(jsonb)"
}

// checksInSQL tells whether lastseat.check_args calls the kind's check.
func checksInSQL(t *testing.T, pool *pgxpool.Pool, kind jobs.Kind) bool {
	t.Helper()
	return testdb.Scalar[bool](t, pool, `
		SELECT to_regprocedure($1) IS NOT NULL AND EXISTS (
			SELECT FROM pg_proc
			WHERE oid = to_regproc('lastseat.check_args') AND position(quote_literal($2::text) IN prosrc) > 0)`,
		checkFunction(kind), kind.Name)
}

// In SQL a few arguments have other names, because these are words of its own or say too little.
var namesInSQL = map[string]string{"from": "from_account", "to": "to_account", "transfer": "transfer_key"}

// onlyByEnqueue are arguments that lastseat.enqueue takes and the kind's own function does not.
var onlyByEnqueue = map[string]string{jobs.KindBook: "expires_at"}

// sqlFunction says what is wrong with the SQL function of the kind's verb.
func sqlFunction(t *testing.T, pool *pgxpool.Pool, kind jobs.Kind) (problems []string) {
	t.Helper()
	const of = ` FROM pg_proc WHERE pronamespace = 'lastseat'::regnamespace AND proname = $1
		AND prorettype = 'lastseat.receipt'::regtype AND proargnames[1] = 'key'`
	name := "lastseat." + kind.Verb()
	if !testdb.Scalar[bool](t, pool, `SELECT EXISTS (SELECT`+of+`)`, kind.Verb()) {
		return []string{name + "(key, ...), which returns a receipt"}
	}
	names := testdb.Scalar[[]string](t, pool, `SELECT proargnames`+of, kind.Verb())
	comment := testdb.Scalar[string](t, pool, `SELECT coalesce(obj_description(oid, 'pg_proc'), '')`+of, kind.Verb())
	for _, arg := range kind.Args {
		inSQL, other := namesInSQL[arg.Name]
		if !other {
			inSQL = arg.Name
		}
		if onlyByEnqueue[kind.Name] != arg.Name && !slices.Contains(names, inSQL) {
			problems = append(problems, "the argument "+inSQL+" of "+name)
		}
	}
	for _, arg := range names {
		if !strings.Contains(comment, "\n"+arg+": ") {
			problems = append(problems, "the argument "+arg+" in the comment on "+name)
		}
	}
	for _, role := range []string{"lastseat_producer", "lastseat_worker"} {
		if !testdb.Scalar[bool](t, pool, `SELECT has_function_privilege($2, oid, 'EXECUTE')`+of, kind.Verb(), role) {
			problems = append(problems, "GRANT EXECUTE ON FUNCTION "+name+" TO "+role)
		}
	}
	return problems
}

// guide says what is wrong with the guide's table of kinds: a line for the kind, with the codes of what it applies, and
// every code that it is rejected with somewhere.
func guide(t *testing.T, kind jobs.Kind) (problems []string) {
	t.Helper()
	row, pages := "", ""
	for _, pattern := range []string{"../README.md", "../docs/*.md"} {
		for _, name := range glob(t, pattern) {
			if filepath.Base(name) == "sql.md" {
				continue // it is generated
			}
			text := source(t, name)
			pages += text
			for line := range strings.SplitSeq(text, "\n") {
				if strings.HasPrefix(line, "| `"+kind.Name+"`") {
					row = line
				}
			}
		}
	}
	if row == "" {
		return []string{"a line that begins with | `" + kind.Name + "`"}
	}
	for _, code := range kind.Applied {
		if !strings.Contains(row, "`"+code+"`") {
			problems = append(problems, "the code "+code+" in its line")
		}
	}
	for _, code := range kind.Rejected {
		if !strings.Contains(pages, "`"+code+"`") {
			problems = append(problems, "the code "+code)
		}
	}
	return problems
}

// conformanceOf says which cases the conformance test lacks, or what it expects that the kind does not have.
func conformanceOf(kind jobs.Kind) (problems []string) {
	accepted, refused := false, false
	for _, c := range conformance {
		if c.kind != kind.Name {
			continue
		}
		accepted = accepted || c.sqlstate == ""
		refused = refused || c.sqlstate == "LS002"
		known := slices.Concat(kind.Applied, kind.Rejected, []string{outbox.CodeInvalidArgs})
		if !slices.Contains(known, c.code) {
			problems = append(problems, "a kind that has the code "+c.code+", which it expects: add it to jobs/kinds.go")
		}
	}
	if !accepted {
		problems = append(problems, "arguments that are accepted")
	}
	if !refused {
		problems = append(problems, "arguments that are refused with LS002")
	}
	return problems
}

// Every code of codes.go is the code of a kind, or the worker's own.
func TestEveryCodeBelongsToAKind(t *testing.T) {
	t.Parallel()
	known := map[string]bool{jobs.CodeExpired: true} // the worker's own record
	for _, kind := range jobs.Kinds() {
		for _, code := range slices.Concat(kind.Applied, kind.Rejected) {
			known[code] = true
		}
	}
	file, err := parser.ParseFile(token.NewFileSet(), "codes.go", nil, 0)
	if err != nil {
		t.Fatal(err)
	}
	declared := make(map[string]bool)
	ast.Inspect(file, func(n ast.Node) bool {
		if literal, isLiteral := n.(*ast.BasicLit); isLiteral {
			code, _ := strconv.Unquote(literal.Value)
			declared[code] = true
		}
		return true
	})
	if !maps.Equal(known, declared) {
		t.Errorf("jobs/codes.go has %v, the kinds of jobs/kinds.go %v",
			slices.Sorted(maps.Keys(declared)), slices.Sorted(maps.Keys(known)))
	}
}

// structOf is the name of the kind's struct: Transfer of payment.transfer.
func structOf(kind jobs.Kind) (name string) {
	for word := range strings.SplitSeq(kind.Verb(), "_") {
		name += strings.ToUpper(word[:1]) + word[1:]
	}
	return name
}

// source is the text of the files that match, without that of tests.
func source(t *testing.T, pattern string) string {
	t.Helper()
	var all strings.Builder
	for _, name := range glob(t, pattern) {
		if !strings.HasSuffix(name, "_test.go") {
			text, err := os.ReadFile(name)
			if err != nil {
				t.Fatal(err)
			}
			all.Write(text)
		}
	}
	return all.String()
}

func glob(t *testing.T, pattern string) []string {
	t.Helper()
	names, err := filepath.Glob(pattern)
	if err != nil || len(names) == 0 {
		t.Fatalf("%s: %v, %v", pattern, names, err)
	}
	return names
}
