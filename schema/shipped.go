package schema

import (
	_ "embed"
	"strings"
)

// shipped has a line for everything in the schema lastseat of a fresh database that guards the rows.
// TestShipped writes it.
//
//go:embed shipped.txt
var shipped string

// Shipped are the lines that [ShippedSQL] returns in a database that was migrated by this release and not changed
// since.
func Shipped() []string { return strings.Split(strings.TrimSpace(shipped), "\n") }

// ShippedSQL describes the schema lastseat as it is now, one line for each table, column, constraint, index, trigger,
// rule, function, right and currency, and one for the schema itself. The same schema has the same lines on every
// version of Postgres. SELECT is a right that anybody may be given.
const ShippedSQL = `
	WITH objects AS (
		SELECT 'table' AS kind, c.oid, c.relname AS name, c.relowner AS owner, coalesce(c.relacl,
		       acldefault(CASE c.relkind WHEN 'S' THEN 's' ELSE 'r' END::"char", c.relowner)) AS acl, c.relkind,
		       c.relrowsecurity
		FROM pg_catalog.pg_class c
		WHERE c.relnamespace = 'lastseat'::regnamespace AND c.relkind IN ('r', 'v', 'm', 'S', 'p', 'f')
	), functions AS (
		SELECT p.*, p.proname || '(' || pg_catalog.pg_get_function_identity_arguments(p.oid) || ')' AS name
		FROM pg_catalog.pg_proc p WHERE p.pronamespace = 'lastseat'::regnamespace
	)
	SELECT pg_catalog.regexp_replace(line, '\s+', ' ', 'g') AS line FROM (
		SELECT pg_catalog.format('%s %s of %s%s', CASE o.relkind WHEN 'S' THEN 'sequence' WHEN 'r' THEN 'table'
		       ELSE 'relation' END, o.name, o.owner::regrole, CASE WHEN o.relrowsecurity THEN ' with row security' END)
		       AS line
		FROM objects o
		UNION ALL
		SELECT pg_catalog.format('column %s.%s %s%s%s%s', o.name, a.attname,
		       pg_catalog.format_type(a.atttypid, a.atttypmod),
		       CASE WHEN a.attnotnull THEN ' not null' END, ' default ' || pg_catalog.pg_get_expr(d.adbin, d.adrelid),
		       CASE WHEN a.attidentity <> '' THEN ' identity' END)
		FROM objects o JOIN pg_catalog.pg_attribute a ON a.attrelid = o.oid AND a.attnum > 0 AND NOT a.attisdropped
		LEFT JOIN pg_catalog.pg_attrdef d ON d.adrelid = o.oid AND d.adnum = a.attnum
		WHERE o.relkind <> 'S'
		UNION ALL
		SELECT pg_catalog.format('constraint %s of %s: %s%s', k.conname, o.name, pg_catalog.pg_get_constraintdef(k.oid),
		       CASE WHEN NOT k.convalidated THEN ' (not validated)' END)
		FROM objects o JOIN pg_catalog.pg_constraint k ON k.conrelid = o.oid AND k.contype IN ('p', 'u', 'c', 'x', 'f')
		UNION ALL
		SELECT pg_catalog.format('%s %s%s', CASE WHEN i.indisunique THEN 'unique index' ELSE 'index' END,
		       pg_catalog.pg_get_indexdef(i.indexrelid), CASE WHEN NOT i.indisvalid THEN ' (invalid)' END)
		FROM objects o JOIN pg_catalog.pg_index i ON i.indrelid = o.oid
		UNION ALL
		SELECT pg_catalog.format('trigger of %s%s: %s', o.name, CASE t.tgenabled WHEN 'O' THEN '' WHEN 'D'
		       THEN ' (disabled)' ELSE ' (enabled as ' || t.tgenabled::text || ')' END, pg_catalog.pg_get_triggerdef(t.oid))
		FROM objects o JOIN pg_catalog.pg_trigger t ON t.tgrelid = o.oid AND NOT t.tgisinternal
		UNION ALL
		SELECT pg_catalog.format('disabled foreign key of %s', o.name)
		FROM objects o JOIN pg_catalog.pg_trigger t ON t.tgrelid = o.oid AND t.tgisinternal AND t.tgenabled <> 'O'
		UNION ALL
		SELECT pg_catalog.format('rule %s of %s', r.rulename, o.name)
		FROM objects o JOIN pg_catalog.pg_rewrite r ON r.ev_class = o.oid AND o.relkind = 'r'
		UNION ALL
		SELECT pg_catalog.format('function %s of %s: %s', f.name, f.proowner::regrole, pg_catalog.md5(pg_catalog.concat_ws(
		       ' ', f.prosrc, pg_catalog.regexp_replace(pg_catalog.pg_get_function_sqlbody(f.oid), '\s+', ' ', 'g'),
		       pg_catalog.pg_get_function_arguments(f.oid), pg_catalog.pg_get_function_result(f.oid), f.prosecdef,
		       f.provolatile, f.proconfig::text, (SELECT l.lanname FROM pg_catalog.pg_language l WHERE l.oid = f.prolang))))
		FROM functions f
		UNION ALL
		SELECT pg_catalog.format('right of %s: %s on %s%s', CASE a.grantee WHEN 0 THEN 'PUBLIC'
		       ELSE a.grantee::regrole::text END, a.privilege_type, o.name, CASE WHEN a.is_grantable THEN ' with grant' END)
		FROM objects o, LATERAL pg_catalog.aclexplode(o.acl) a
		WHERE a.grantee <> o.owner AND (a.privilege_type <> 'SELECT' OR a.grantee = 0
		      OR a.grantee::regrole::text IN ('lastseat_worker', 'lastseat_producer', 'lastseat_viewer'))
		UNION ALL
		SELECT pg_catalog.format('right of %s: %s on %s.%s', CASE a.grantee WHEN 0 THEN 'PUBLIC'
		       ELSE a.grantee::regrole::text END, a.privilege_type, o.name, c.attname)
		FROM objects o JOIN pg_catalog.pg_attribute c ON c.attrelid = o.oid AND c.attacl IS NOT NULL,
		     LATERAL pg_catalog.aclexplode(c.attacl) a
		WHERE a.grantee <> o.owner AND (a.privilege_type <> 'SELECT' OR a.grantee = 0
		      OR a.grantee::regrole::text IN ('lastseat_worker', 'lastseat_producer', 'lastseat_viewer'))
		UNION ALL
		SELECT pg_catalog.format('right of %s: %s on function %s', CASE a.grantee WHEN 0 THEN 'PUBLIC'
		       ELSE a.grantee::regrole::text END, a.privilege_type, f.name)
		FROM functions f, LATERAL pg_catalog.aclexplode(coalesce(f.proacl, acldefault('f', f.proowner))) a
		WHERE a.grantee <> f.proowner
		UNION ALL
		SELECT pg_catalog.format('schema of %s', n.nspowner::regrole) FROM pg_catalog.pg_namespace n
		WHERE n.nspname = 'lastseat'
		UNION ALL
		SELECT pg_catalog.format('right of %s: %s on the schema', CASE a.grantee WHEN 0 THEN 'PUBLIC'
		       ELSE a.grantee::regrole::text END, a.privilege_type)
		FROM pg_catalog.pg_namespace n, LATERAL pg_catalog.aclexplode(n.nspacl) a
		WHERE n.nspname = 'lastseat' AND a.grantee <> n.nspowner
		UNION ALL
		SELECT pg_catalog.concat_ws(' ', 'currency', c.code, c.minor_units, pg_catalog.to_char(c.withdrawn, 'YYYY-MM-DD'))
		  FROM lastseat.currencies c
	) lines ORDER BY line COLLATE "C"`
