package audit_test

import (
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"

	"github.com/lastseat/lastseat/internal/audit"
)

// Whoever may write a time may write infinity. The audit reads on, and finds it where the history has the row.
func TestInfiniteTimes(t *testing.T) {
	t.Parallel()
	pool := filled(t)
	drain(t, pool)
	rows, err := pool.Query(t.Context(), `
		SELECT format('UPDATE lastseat.%s SET %s', c.relname,
		              string_agg(format('%I = CASE WHEN %1$I IS NOT NULL THEN @::timestamptz END', a.attname), ', '))
		FROM pg_class c JOIN pg_attribute a ON a.attrelid = c.oid
		WHERE c.relnamespace = 'lastseat'::regnamespace AND c.relkind = 'r' AND c.relname NOT LIKE 'river_%'
		  AND a.atttypid = 'timestamptz'::regtype GROUP BY c.relname ORDER BY c.relname`)
	if err != nil {
		t.Fatal(err)
	}
	updates, err := pgx.CollectRows(rows, pgx.RowTo[string])
	if err != nil {
		t.Fatal(err)
	}
	proven := map[string]bool{
		"accounts": false, "entries": false, "history": false, "limit_groups": false, "payments": false, "requests": false,
		"reservations": false, "resources": false, "transfers": false,
	}
	for i, update := range updates {
		table := strings.TrimPrefix(strings.Fields(update)[1], "lastseat.")
		sql := strings.ReplaceAll(update, "@", []string{"'infinity'", "'-infinity'"}[i%2])
		if table == "history" { // it refuses such a time, of anybody who leaves the constraint there
			sql = `ALTER TABLE lastseat.history DROP CONSTRAINT history_whole; ` + sql
		}
		ok, err := audit.Run(t.Context(), past{pool, sql}, func(audit.Finding) {})
		if err != nil {
			t.Errorf("%s: %v", sql, err)
		}
		if _, known := proven[table]; known {
			proven[table] = !ok
		}
	}
	for table, found := range proven {
		if !found {
			t.Errorf("times of %s were infinite, and the audit holds", table)
		}
	}
}
