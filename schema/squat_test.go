package schema_test

import (
	"strings"
	"testing"

	"github.com/lastseat/lastseat/internal/testdb"
	"github.com/lastseat/lastseat/schema"
)

// Somebody with CREATE on the database was there first: what they can put into the schema would run with the rights of
// lastseat_owner. Each of these leaves them a way in, so nothing is migrated.
func TestUpRefusesSchemaOfAStranger(t *testing.T) {
	t.Parallel()
	admin, makeDatabase := freshCluster(t)
	exec(t, testdb.Pool(t, admin), `CREATE ROLE mallory LOGIN PASSWORD 'secret'`)
	if _, err := schema.Up(t.Context(), makeDatabase("elsewhere", ""), false); err != nil {
		t.Fatal(err) // so that lastseat_owner is there
	}
	give := `; ALTER SCHEMA lastseat OWNER TO lastseat_owner`
	for name, c := range map[string]struct{ mallory, superuser, want string }{
		"owner": {
			`CREATE SCHEMA lastseat; GRANT ALL ON SCHEMA lastseat TO lastseat_owner`, ``, "it belongs to mallory",
		},
		"everybody": {
			`CREATE SCHEMA lastseat; GRANT ALL ON SCHEMA lastseat TO PUBLIC`, `SELECT 1` + give, "everybody may create in it",
		},
		"grant": {
			``, `CREATE SCHEMA lastseat AUTHORIZATION lastseat_owner; GRANT CREATE ON SCHEMA lastseat TO mallory`,
			"mallory may create in it",
		},
		"function": {
			`CREATE SCHEMA lastseat; CREATE FUNCTION lastseat.jsonb_build_object(text, text) RETURNS jsonb LANGUAGE sql
			AS 'SELECT pg_catalog.jsonb_build_object($1, $2)'`,
			`SELECT 1` + give, "the function lastseat.jsonb_build_object(text,text) belongs to mallory",
		},
		"type": {
			`CREATE SCHEMA lastseat; CREATE DOMAIN lastseat.bigint AS pg_catalog.int8`, `SELECT 1` + give,
			"the type lastseat.",
		},
	} {
		t.Run(name, func(t *testing.T) {
			theirs := makeDatabase("squat_"+name, "mallory")
			ours := strings.Replace(admin, "/postgres?", "/squat_"+name+"?", 1)
			if c.mallory != "" {
				exec(t, testdb.Pool(t, theirs), c.mallory)
			}
			if c.superuser != "" {
				exec(t, testdb.Pool(t, ours), c.superuser)
			}
			_, err := schema.Up(t.Context(), ours, false)
			if err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("migrate: %v, want %q", err, c.want)
			}
		})
	}
}
