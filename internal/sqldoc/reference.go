package main

import (
	"context"
	_ "embed"
	"fmt"
	"regexp"
	"slices"
	"strings"

	"github.com/jackc/pgx/v5"
)

//go:embed intro.md
var intro string

// function is one that a role may call. Its comment is a summary, then a line for each argument, then its errors.
type function struct {
	Name, Signature, Result, Comment string
	Columns                          []string // of the answer, where it has its own
	Producer, Worker, Viewer, Keeper bool
	Asks                             bool
}

const functionsSQL = `
	SELECT proname, format('lastseat.%s(%s)', proname, replace(pg_get_function_arguments(p.oid),
	  'timestamp with time zone', 'timestamptz')),
	       replace(pg_get_function_result(p.oid), 'timestamp with time zone', 'timestamptz'),
	         obj_description(p.oid, 'pg_proc'),
	       ARRAY(SELECT format('%s %s', name, replace(format_type(type, NULL), 'timestamp with time zone', 'timestamptz'))
	         FROM unnest(proargnames, proallargtypes, proargmodes) AS a(name, type, mode) WHERE mode IN ('t', 'o')),
	       has_function_privilege('lastseat_producer', p.oid, 'EXECUTE'), has_function_privilege('lastseat_worker', p.oid,
	         'EXECUTE'), has_function_privilege('lastseat_viewer', p.oid, 'EXECUTE'),
	         has_function_privilege('lastseat_keeper', p.oid, 'EXECUTE'),
	       coalesce(prorettype = 'lastseat.receipt'::regtype
	         AND (proargnames[1] = 'key' OR proname IN ('enqueue', 'enqueue_many')), false)
	FROM pg_proc p
	WHERE pronamespace = 'lastseat'::regnamespace AND proname !~ '^river_' AND prorettype <> 'trigger'::regtype
	ORDER BY proname COLLATE "C", pronargs DESC`

// The order of the pages' first part is that of use; what is not named here comes after it.
var order = append(verbs(), "enqueue", "enqueue_many", "retry", "outcome", "outcomes", "outcomes_since",
	"outcomes_cursor")

func works(f function) bool { return f.Worker && !f.Producer && !f.Viewer }
func keeps(f function) bool { return f.Keeper && !f.Producer }

func reference(ctx context.Context, conn *pgx.Conn) (string, error) {
	rows, err := conn.Query(ctx, functionsSQL)
	if err != nil {
		return "", err
	}
	functions, err := pgx.CollectRows(rows, pgx.RowToStructByPos[function])
	if err != nil {
		return "", fmt.Errorf("read the functions: %w", err)
	}
	for i := range functions {
		functions[i].Signature = cast.ReplaceAllString(functions[i].Signature, "")
	}
	slices.SortStableFunc(functions, func(a, b function) int { return place(a.Name) - place(b.Name) })
	page := &strings.Builder{}
	page.WriteString(strings.Replace(intro, kindsHere, kindsTable(), 1))
	for _, part := range []struct {
		title, text string
		has         func(f function) bool
	}{
		{"What a service asks for", "Each returns a [receipt](#types): the request's key, kind and status, and whether it " +
			"is a duplicate.", func(f function) bool { return f.Asks }},
		{"What is done at once", "In the caller's transaction, without a worker.",
			func(f function) bool { return f.Producer && !f.Asks && !f.Viewer }},
		{"What a service looks at", "", func(f function) bool { return f.Viewer }},
		{"Of the worker", "Not for services, and free to change with a release.", works},
		{"Of retention", "For `worker retain`, and free to change with a release.", keeps},
	} {
		fmt.Fprintf(page, "## %s\n\n", part.title)
		if part.text != "" {
			fmt.Fprintf(page, "%s\n\n", part.text)
		}
		for i := range functions {
			if part.has(functions[i]) {
				functions[i].write(page)
			}
		}
	}
	if err := writeTypes(ctx, conn, page); err != nil {
		return "", err
	}
	if err := writeTables(ctx, conn, page); err != nil {
		return "", err
	}
	if err := writeRights(ctx, conn, page); err != nil {
		return "", err
	}
	return page.String(), nil
}

func place(name string) int {
	if i := slices.Index(order, name); i >= 0 {
		return i
	}
	return len(order)
}

// cast is what Postgres writes behind a default.
var cast = regexp.MustCompile(`::(text|bigint|jsonb|timestamptz)`)

var argument = regexp.MustCompile(`^([a-z_]+): (.+)$`)

func (f *function) write(page *strings.Builder) {
	fmt.Fprintf(page, "### %s\n\n```sql\n%s\n```\n\n", f.Name, f.Signature)
	var arguments, rest []string
	for line := range strings.SplitSeq(f.Comment, "\n") {
		if parts := argument.FindStringSubmatch(line); parts != nil {
			arguments = append(arguments, fmt.Sprintf("- `%s`: %s", parts[1], parts[2]))
		} else if line != "" {
			rest = append(rest, line)
		}
	}
	fmt.Fprintf(page, "%s\n\n", rest[0])
	if len(arguments) > 0 {
		fmt.Fprintf(page, "%s\n\n", strings.Join(arguments, "\n"))
	}
	switch {
	case len(f.Columns) > 1 && strings.HasPrefix(f.Result, "TABLE"):
		fmt.Fprintf(page, "Returns rows of %s.\n\n", strings.Join(f.Columns, ", "))
	case len(f.Columns) == 0 && !f.Asks:
		fmt.Fprintf(page, "Returns %s.\n\n", strings.ReplaceAll(f.Result, "lastseat.", ""))
	}
	for _, line := range rest[1:] {
		fmt.Fprintf(page, "%s\n\n", line)
	}
}

const columnsSQL = `
	SELECT c.relname, coalesce(obj_description(CASE WHEN relkind = 'c' THEN reltype ELSE c.oid END), ''), attname,
	  replace(format_type(atttypid, atttypmod), 'timestamp with time zone', 'timestamptz'),
	       CASE WHEN attnotnull THEN '' ELSE 'null' END, coalesce(col_description(c.oid, attnum), '')
	FROM pg_class c JOIN pg_attribute a ON attrelid = c.oid AND attnum > 0 AND NOT attisdropped
	WHERE relnamespace = 'lastseat'::regnamespace AND relkind = ANY ($1::text[]) AND relname !~ '^(river_|schema_)'
	  ORDER BY relname COLLATE "C", attnum`

func writeTypes(ctx context.Context, conn *pgx.Conn, page *strings.Builder) error {
	page.WriteString("## Types\n\n")
	return writeColumns(ctx, conn, page, "c", false)
}

func writeTables(ctx context.Context, conn *pgx.Conn, page *strings.Builder) error {
	page.WriteString(
		"## Tables\n\nWhat a viewer reads. Rows are written by the worker and by the functions alone. `null`: it may be.\n\n")
	return writeColumns(ctx, conn, page, "r", true)
}

func writeColumns(ctx context.Context, conn *pgx.Conn, page *strings.Builder, kind string, nulls bool) error {
	rows, err := conn.Query(ctx, columnsSQL, []string{kind})
	if err != nil {
		return err
	}
	var table, about, column, of, null, comment, last string
	_, err = pgx.ForEachRow(rows, []any{&table, &about, &column, &of, &null, &comment}, func() error {
		if table != last {
			fmt.Fprintf(page, "### %s\n\n%s\n\n| column | type | |\n|---|---|---|\n", table, about)
			last = table
		}
		if nulls && null != "" {
			of += ", null"
		}
		fmt.Fprintf(page, "| `%s` | %s | %s |\n", column, of, strings.ReplaceAll(comment, "|", `\|`))
		return nil
	})
	page.WriteString("\n")
	return err
}

const rightsSQL = `
	SELECT c.relname, ARRAY(
		SELECT coalesce((SELECT string_agg(kind || coalesce(columns, ''), ', ' ORDER BY n)
		  FROM unnest('{SELECT,INSERT,UPDATE,DELETE,TRUNCATE,REFERENCES,TRIGGER,USAGE}'::text[]) WITH ORDINALITY AS k(kind,
		    n),
		       LATERAL (SELECT ' (' || string_agg(attname, ', ' ORDER BY attnum) || ')' AS columns FROM pg_attribute
		                WHERE attrelid = c.oid AND attnum > 0 AND NOT attisdropped AND relkind <> 'S'
		                  AND kind IN ('INSERT', 'UPDATE') AND NOT has_table_privilege(role, c.oid, kind)
		                  AND has_column_privilege(role, c.oid, attnum, kind)) AS partly
			WHERE CASE WHEN relkind = 'S' AND kind IN ('SELECT', 'UPDATE', 'USAGE')
			  THEN has_sequence_privilege(role, c.oid, kind)
			           WHEN relkind <> 'S' AND kind <> 'USAGE'
			           THEN columns IS NOT NULL OR has_table_privilege(role, c.oid, kind) END), '-')
		FROM unnest('{lastseat_producer,lastseat_viewer,lastseat_worker,lastseat_keeper}'::text[])
		  WITH ORDINALITY AS r(role, n) ORDER BY n)
	FROM pg_class c WHERE relnamespace = 'lastseat'::regnamespace AND relkind IN ('r', 'v', 'S')
	  ORDER BY relkind DESC, relname COLLATE "C"`

// writeRights writes the table of roles and objects: what is not in it is refused.
func writeRights(ctx context.Context, conn *pgx.Conn, page *strings.Builder) error {
	page.WriteString("## Rights\n\nWhat each role may do, and nothing else; [roles.md](roles.md) says what that means. " +
		"Everything belongs to lastseat_owner, who has no login.\n\n" +
		"| table or sequence | lastseat_producer | lastseat_viewer | lastseat_worker | lastseat_keeper |\n" +
		"|---|---|---|---|---|\n")
	rows, err := conn.Query(ctx, rightsSQL)
	if err != nil {
		return err
	}
	var name string
	var rights []string
	if _, err := pgx.ForEachRow(rows, []any{&name, &rights}, func() error {
		fmt.Fprintf(page, "| `%s` | %s |\n", name, strings.Join(rights, " | "))
		return nil
	}); err != nil {
		return err
	}
	page.WriteString("\n| function | lastseat_producer | lastseat_viewer | lastseat_worker | lastseat_keeper |\n" +
		"|---|---|---|---|---|\n")
	rows, err = conn.Query(ctx, functionsSQL)
	if err != nil {
		return err
	}
	functions, err := pgx.CollectRows(rows, pgx.RowToStructByPos[function])
	if err != nil {
		return err
	}
	yes := map[bool]string{true: "EXECUTE", false: "-"}
	last := ""
	for i := range functions {
		if f := &functions[i]; (f.Producer || f.Viewer || f.Worker || f.Keeper) && f.Name != last {
			fmt.Fprintf(page, "| `%s` | %s | %s | %s | %s |\n", f.Name, yes[f.Producer], yes[f.Viewer], yes[f.Worker],
				yes[f.Keeper])
			last = f.Name
		}
	}
	return nil
}
