package schema_test

import (
	"os"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/lastseat/lastseat/schema"
)

// What worker audit compares with is what a migration makes. UPDATE_GOLDEN=1 go test ./schema -run TestShipped writes
// the file anew.
func TestShipped(t *testing.T) {
	t.Parallel()
	got := column[string](t, migrated(t), schema.ShippedSQL)
	if os.Getenv("UPDATE_GOLDEN") != "" {
		if err := os.WriteFile("shipped.txt", []byte(strings.Join(got, "\n")+"\n"), 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	if diff := cmp.Diff(schema.Shipped(), got); diff != "" {
		t.Errorf("the schema has changed (-was +is): UPDATE_GOLDEN=1 go test ./schema -run TestShipped\n%s", diff)
	}
}

// A dump has the definitions that Postgres prints, and a restore makes them anew of that. What is printed then has to
// be the same, or worker audit calls a restored database changed.
func TestShippedOutlivesADump(t *testing.T) {
	t.Parallel()
	db := migrated(t)
	exec(t, db, `
		DO $$
		DECLARE made record;
		BEGIN
			FOR made IN
				SELECT format('DROP TRIGGER %I ON %s', g.tgname, g.tgrelid::regclass) AS gone, pg_get_triggerdef(g.oid) AS back
				FROM pg_trigger g JOIN pg_class c ON c.oid = g.tgrelid
				WHERE c.relnamespace = 'lastseat'::regnamespace AND NOT g.tgisinternal
				UNION ALL
				SELECT format('ALTER TABLE %s DROP CONSTRAINT %I', k.conrelid::regclass, k.conname),
				       format('ALTER TABLE %s ADD CONSTRAINT %I %s', k.conrelid::regclass, k.conname,
				              pg_get_constraintdef(k.oid))
				FROM pg_constraint k
				WHERE k.connamespace = 'lastseat'::regnamespace AND k.contype IN ('c', 'x') AND k.conrelid <> 0
				UNION ALL
				SELECT format('DROP INDEX %s', i.indexrelid::regclass), pg_get_indexdef(i.indexrelid)
				FROM pg_index i JOIN pg_class c ON c.oid = i.indexrelid
				WHERE c.relnamespace = 'lastseat'::regnamespace AND i.indpred IS NOT NULL
				      AND NOT EXISTS (SELECT FROM pg_constraint k WHERE k.conindid = i.indexrelid)
				UNION ALL
				SELECT 'SELECT', format('ALTER TABLE %s ALTER %I SET DEFAULT %s', d.adrelid::regclass, a.attname,
				                        pg_get_expr(d.adbin, d.adrelid))
				FROM pg_attrdef d JOIN pg_attribute a ON a.attrelid = d.adrelid AND a.attnum = d.adnum
				JOIN pg_class c ON c.oid = d.adrelid
				WHERE c.relnamespace = 'lastseat'::regnamespace AND a.attgenerated = ''
			LOOP
				EXECUTE made.gone;
				EXECUTE made.back;
			END LOOP;
		END $$`)
	if diff := cmp.Diff(schema.Shipped(), column[string](t, db, schema.ShippedSQL)); diff != "" {
		t.Errorf("a restored database has other lines (-shipped +restored): write them as Postgres prints them\n%s", diff)
	}
}
